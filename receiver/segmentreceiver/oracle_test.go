// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

// The oracle: what decode.go does, slowly and obviously, on a tree that encoding/json makes. It takes only what is
// JSON; what decode.go does with the rest is in decode_test.go.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// oracleEvent is an event that is left after resolve.
type oracleEvent struct {
	Type       string
	Name       string
	Source     string
	ID         string
	Value      float64
	Time       int64
	Properties map[string]any
}

// oracleResult is what one request says.
type oracleResult struct {
	Key    string
	Events []oracleEvent
	Counts map[string]int64 // "type outcome"
}

// node is a JSON value; members keep their order, repeated keys included.
type node struct {
	kind    byte // '{' '[' '"' '0' 't' 'f' 'n'
	text    string
	keys    []string
	values  []node
	rawSize int
}

func parseNode(dec *json.Decoder) (node, error) {
	token, err := dec.Token()
	if err != nil {
		return node{}, err
	}
	start := int(dec.InputOffset()) - 1
	switch v := token.(type) {
	case json.Delim:
		n := node{kind: byte(v)}
		for dec.More() {
			if n.kind == '{' {
				key, err := dec.Token()
				if err != nil {
					return node{}, err
				}
				n.keys = append(n.keys, key.(string))
			}
			value, err := parseNode(dec)
			if err != nil {
				return node{}, err
			}
			n.values = append(n.values, value)
		}
		if _, err := dec.Token(); err != nil {
			return node{}, err
		}
		n.rawSize = int(dec.InputOffset()) - start
		return n, nil
	case string:
		return node{kind: '"', text: v}, nil
	case json.Number:
		return node{kind: '0', text: string(v)}, nil
	case bool:
		if v {
			return node{kind: 't'}, nil
		}
		return node{kind: 'f'}, nil
	default:
		return node{kind: 'n'}, nil
	}
}

// field returns the last member with the key, or null.
func (n node) field(key string) node {
	found := node{kind: 'n'}
	for i, k := range n.keys {
		if k == key {
			found = n.values[i]
		}
	}
	return found
}

var oracleNoise = regexp.MustCompile(`[^a-zA-Z0-9]+`)

// find returns the member that obj-case finds: the first whose key is the name without what is neither letter nor
// digit, in any case.
func (n node) find(name string) node {
	for _, key := range n.keys {
		if strings.ToLower(oracleNoise.ReplaceAllString(key, "")) == name {
			return n.field(key)
		}
	}
	return node{kind: 'n'}
}

func (n node) has(key string) bool { return slices.Contains(n.keys, key) }

// given is what JavaScript takes for true.
func (n node) given() bool {
	switch n.kind {
	case 'n', 'f':
		return false
	case '"':
		return n.text != ""
	case '0':
		v, _ := strconv.ParseFloat(n.text, 64)
		return v != 0
	default:
		return true
	}
}

func (n node) string() string {
	if n.kind == '"' {
		return n.text
	}
	return ""
}

func (n node) source() string {
	if n.kind == '0' {
		return n.text
	}
	return n.string()
}

// contexts returns what stands for the context of a message, and then of its batch.
func (n node) contexts(batch node) []node {
	if n.field("options").given() || batch.field("options").given() {
		return []node{n.field("options"), batch.field("options")}
	}
	return []node{n.field("context"), batch.field("context")}
}

// sourceOf returns the first source there is.
func (n node) sourceOf(batch node) string {
	integrations := []node{n.field("integrations"), batch.field("integrations")}
	contexts := n.contexts(batch)
	for _, place := range []func(node) node{
		func(n node) node { return n.find("librato").field("source") },
		func(n node) node { return n.find("source") },
	} {
		for _, n := range append(integrations, contexts...) {
			if source := place(n).source(); source != "" {
				return source
			}
		}
		integrations = nil
	}
	return ""
}

func (n node) on(batch node) bool {
	contexts := n.contexts(batch)
	integrations := []node{n.field("integrations"), batch.field("integrations")}
	providers := []node{contexts[0].find("providers"), contexts[1].find("providers")}
	flags := contexts
	for _, places := range [][]node{providers, integrations} {
		if places[0].given() || places[1].given() {
			flags = places
		}
	}
	for _, n := range flags {
		if n.has("Librato") {
			return n.field("Librato").kind != 'f'
		}
	}
	for _, n := range slices.Concat(providers, contexts, integrations) {
		switch n.find("all").kind {
		case 't':
			return true
		case 'f':
			return false
		}
	}
	return true
}

var (
	oracleTimePattern    = regexp.MustCompile(`^(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?(?:[Zz]|([+-])(\d\d)(?::?(\d\d))?)?)?$`)
	oracleUnixPattern    = regexp.MustCompile(`^(\d{10})(\d{3})?$`)
	oracleNumericPattern = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$`)
)

func oracleTime(n node) int64 {
	text := n.source()
	var t time.Time
	if m := oracleUnixPattern.FindStringSubmatch(text); m != nil {
		seconds, _ := strconv.ParseInt(m[1], 10, 64)
		millis, _ := strconv.ParseInt("0"+m[2], 10, 64)
		t = time.Unix(seconds, millis*1e6)
	} else if m := oracleTimePattern.FindStringSubmatch(text); m != nil && n.kind == '"' {
		number := func(i int) int {
			v, _ := strconv.Atoi("0" + m[i])
			return v
		}
		nanoseconds, _ := strconv.Atoi((m[7] + "000000000")[:9])
		year, month, day := number(1), number(2), number(3)
		date := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
		if date.Year() != year || int(date.Month()) != month || date.Day() != day ||
			number(4) > 23 || number(5) > 59 || number(6) > 60 || number(9) > 23 || number(10) > 59 {
			return 0
		}
		offset := time.Duration(number(9))*time.Hour + time.Duration(number(10))*time.Minute
		if m[8] == "-" {
			offset = -offset
		}
		t = time.Date(year, time.Month(month), day, number(4), number(5), number(6), nanoseconds, time.UTC).Add(-offset)
	} else {
		return 0
	}
	if t.Unix() < 0 || t.Year() > 2199 {
		return 0
	}
	return t.UnixNano()
}

func oracleValue(n node) (float64, bool) {
	switch n.kind {
	case 'n':
		return 1, true
	case '0':
		v, err := strconv.ParseFloat(n.text, 64)
		return v, err == nil
	case '"':
		text := strings.TrimSpace(n.text)
		if !oracleNumericPattern.MatchString(text) {
			return 0, false
		}
		v, err := strconv.ParseFloat(text, 64)
		return v, err == nil
	default:
		return 0, false
	}
}

// oracleDecode does what decode, decodeBatch, decodeWebhook and resolve do together.
func oracleDecode(limits rules, s shape, webhook bool, typ callType, body []byte, received time.Time) (*oracleResult, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	root, err := parseNode(dec)
	if err != nil {
		return nil, err
	}
	result := &oracleResult{Counts: map[string]int64{}}
	var messages []node
	batch := node{kind: 'n'}
	switch {
	case s == shapeBatch && root.kind == '{':
		batches := 0
		for i, key := range root.keys {
			if key == "batch" {
				batches++
				messages = root.values[i].values
				if root.values[i].kind != '[' {
					return nil, errors.New("batch is no array")
				}
			}
		}
		if batches != 1 {
			return nil, errors.New("not one batch")
		}
		batch = root
		result.Key = root.field("writeKey").string()
	case s == shapeArray && root.kind == '[':
		messages = root.values
	case s == shapeMessage && root.kind == '{':
		messages = []node{root}
	default:
		return nil, errors.New("another shape")
	}

	for _, m := range messages {
		count := func(typ callType, o outcome) {
			result.Counts[calls[typ].name+" "+outcomeNames[o]]++
		}
		if m.kind != '{' {
			count(callUnknown, outcomeInvalidMessage)
			continue
		}
		if result.Key == "" && s == shapeMessage {
			result.Key = m.field("writeKey").string()
		}
		typ := typ
		if typ == callUnknown {
			typ = callNamed([]byte(m.field("type").string()))
		}
		name := m.field("event").string()
		if what := map[string]string{"page": "Page", "screen": "Screen"}[calls[typ].name]; what != "" {
			category := m.field("category").string()
			if category != "" {
				category += " "
			}
			name = fmt.Sprintf("Viewed %s%s %s", category, m.field("name").string(), what)
			if m.field("name").string() == "" {
				name = "Loaded a " + what
			}
		}
		value, valid := oracleValue(m.field("properties").find("value"))
		switch {
		case typ != callUnknown && !limits.wanted[typ] && m.rawSize <= limits.maxMessageSize:
			count(typ, outcomeIgnored)
			continue
		case !m.on(batch):
			count(typ, outcomeDisabled)
			continue
		case m.rawSize > limits.maxMessageSize:
			count(typ, outcomeTooLarge)
			continue
		case typ == callUnknown:
			count(typ, outcomeUnknownType)
			continue
		case s == shapeBatch && result.Key != "" && m.field("writeKey").string() != "" && m.field("writeKey").string() != result.Key:
			count(typ, outcomeForeignKey)
			continue
		case name == "":
			count(typ, outcomeMissingEvent)
			continue
		case !valid:
			count(typ, outcomeInvalidValue)
			continue
		}
		e := oracleEvent{Type: calls[typ].name, Name: name, ID: m.field("messageId").string(), Value: value, Properties: map[string]any{}}
		e.Source = m.sourceOf(batch)
		e.Time = oracleEventTime(m, batch, webhook, received)
		for _, name := range limits.keep {
			switch p := m.field("properties").field(name); p.kind {
			case '"':
				e.Properties[name] = p.text
			case 't', 'f':
				e.Properties[name] = p.kind == 't'
			case '0':
				if n, err := strconv.ParseInt(p.text, 10, 64); err == nil {
					e.Properties[name] = n
				} else if f, err := strconv.ParseFloat(p.text, 64); err == nil {
					e.Properties[name] = f
				}
			}
		}
		result.Events = append(result.Events, e)
	}
	return result, nil
}

func oracleEventTime(m, batch node, webhook bool, received time.Time) int64 {
	timestamp, original := oracleTime(m.field("timestamp")), oracleTime(m.field("originalTimestamp"))
	if timestamp != 0 && original != 0 {
		return timestamp
	}
	at := max(timestamp, original)
	if at == 0 {
		return received.UnixNano()
	}
	sentAt := oracleTime(batch.field("sentAt"))
	if sentAt == 0 {
		sentAt = oracleTime(m.field("sentAt"))
	}
	if sentAt == 0 || webhook {
		return at
	}
	return max(1, received.UnixNano()-(sentAt-at))
}

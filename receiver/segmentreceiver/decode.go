// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

// This file knows Segment's fields: it reads what messages and batches say. What follows from that is in resolve.go.

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// content is what the body of a request says. Its bytes belong to the body or to the decoder.
type content struct {
	shape      shape
	corrected  bool // Segment has taken the client's clock skew out of the times
	count      int  // of all messages, those included that are not in messages
	messages   []message
	properties []property
	common     destination // what a batch says for all its messages
	sentAt     int64       // of a batch
	key        []byte      // writeKey of the batch, or of the only message
	messageKey []byte      // the first writeKey that a message of a batch carries
	first      []byte      // the first message as it was sent, which the signature of an array covers
}

// shape is what a body is.
type shape uint8

const (
	shapeMessage shape = iota // one message
	shapeBatch                // {"batch":[…]}
	shapeArray                // [message, …], of a webhook
)

// message is what one message says.
type message struct {
	typ   callType
	index int32    // its place in the batch
	wrong *problem // nil: nothing so far
	destination
	event, name, category       []byte
	id, key                     []byte // messageId and writeKey
	timestamp, original, sentAt int64  // Unix nanoseconds; 0: absent, or not a time
	properties                  [2]int32
	value                       float64 // if hasValue
	hasType, hasValue           bool
	valueIsNoNumber             bool
}

// destination is what the fields say that decide where an event goes.
type destination struct {
	context, options addressed
	integrations     addressed
}

// addressed is what one of these fields says.
type addressed struct {
	given         bool
	source        []byte // its own `source`
	libratoSource []byte // the one within its `Librato`
	flags
	providers flags // within its `providers`
}

// flags are what an object says of integrations.
type flags struct {
	given        bool
	all, librato flagValue
}

type flagValue uint8

const (
	flagNone flagValue = iota
	flagFalse
	flagTrue
)

// property is a property that is kept as an attribute.
type property struct {
	name    int32 // index into rules.keep
	kind    byte  // 's' string, 'd' double, 'i' integer, 't' or 'f' boolean
	text    []byte
	double  float64
	integer int64
}

// bodyError says why a body is refused as a whole. Its message names places, never contents.
type bodyError struct {
	code, message string
}

// rules say what is read of messages. They are the same for all requests.
type rules struct {
	maxMessageSize int
	maxMessages    int
	wanted         [len(calls)]bool // whether calls of the type become data points
	keep           []string         // the names of properties that are kept
}

func newRules(config *Config) rules {
	r := rules{maxMessageSize: config.MaxMessageSize, maxMessages: config.MaxMessages, keep: config.Properties}
	for _, name := range config.Events {
		r.wanted[callNamed([]byte(name))] = true
	}
	return r
}

// decoder reads the body of a request into content. It allocates only while it grows.
//
// A key that is given twice in an object counts as the last of them. Where keys of several spellings mean the same,
// see means, the spelling that comes first in the object counts alone.
type decoder struct {
	rules
	content
	scan  scanner
	tally *tally // of the request

	// What the message before had.
	context, options echo
	others           [2]echo // of the fields that do not count
}

// reset makes the decoder free of what it read.
func (d *decoder) reset() {
	*d = decoder{
		rules:   d.rules,
		content: content{messages: d.messages[:0], properties: d.properties[:0]},
		scan:    scanner{texts: d.scan.texts[:0]},
	}
}

func (d *decoder) begin(body []byte, s shape, t *tally) {
	d.scan.reset(body)
	d.shape, d.tally = s, t
}

// decode reads body, one message of the given type; callUnknown takes the message's own. The body is free again when
// the content is no longer used; up to sixteen bytes after its end, within its capacity, are overwritten. t counts the
// messages that are not in content.
func (d *decoder) decode(body []byte, typ callType, t *tally) *bodyError {
	d.begin(body, shapeMessage, t)
	i := d.scan.space(0)
	if d.scan.body[i] != '{' {
		return d.notAnObject(i)
	}
	i = d.scan.end(d.readMessage(i, 0, typ))
	d.key, d.messageKey = d.messageKey, nil
	return d.failure(i, -1)
}

// decodeBatch reads body, {"batch":[message, …]} with what goes for all messages before or after.
func (d *decoder) decodeBatch(body []byte, t *tally) *bodyError {
	d.begin(body, shapeBatch, t)
	i := d.scan.space(0)
	if d.scan.body[i] != '{' {
		return d.notAnObject(i)
	}
	var (
		key  []byte
		more bool
		seen bool
	)
	for key, i, more = d.scan.first(i); more; key, i, more = d.scan.next(i) {
		switch string(key) {
		case "batch":
			if d.scan.body[i] != '[' {
				return &bodyError{"invalid_request", "batch: not an array"}
			}
			if seen {
				return &bodyError{"invalid_request", "batch: given twice"}
			}
			seen = true
			var err *bodyError
			if i, err = d.readArray(i); err != nil {
				return err
			}
		case "context":
			i = d.readContext(i, &d.common.context)
		case "options":
			i = d.readContext(i, &d.common.options)
		case "integrations":
			i = d.readIntegrations(i, &d.common.integrations)
		case "sentAt":
			d.sentAt, i = d.readTime(i)
		case "writeKey":
			d.key, i = d.scan.text(i)
		default: // messageId (Go) and timestamp (Node) of a batch belong to no message
			i = d.scan.skip(i)
		}
	}
	if err := d.failure(d.noFlaw(d.scan.end(i)), -1); err != nil {
		return err
	}
	if !seen {
		return &bodyError{"invalid_request", "batch: missing"}
	}
	return nil
}

// decodeWebhook reads body as Segment's Webhooks destination sends it: a message, or an array of messages.
func (d *decoder) decodeWebhook(body []byte, t *tally) *bodyError {
	d.corrected = true
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '[' {
		return d.decode(body, callUnknown, t)
	}
	d.begin(body, shapeArray, t)
	i, err := d.readArray(d.scan.space(0))
	if err != nil {
		return err
	}
	return d.failure(d.scan.end(i), -1)
}

// failure returns why the body cannot be read if i is negative. element is the place of the message where that is,
// negative outside of messages.
func (d *decoder) failure(i, element int) *bodyError {
	if i >= 0 {
		return nil
	}
	text := "not JSON at byte " + strconv.Itoa(d.scan.failure.at) + ": " + d.scan.failure.what
	if element >= 0 {
		text = d.place(element, "") + ": " + text
	}
	return &bodyError{"invalid_json", text}
}

// noFlaw returns i, or -1 if there was a flaw outside of messages: that spoils the body.
func (d *decoder) noFlaw(i int) int {
	if f := d.scan.flaw; i >= 0 && f.what != "" {
		return d.scan.fail(f.at, f.what)
	}
	return i
}

func (d *decoder) notAnObject(i int) *bodyError {
	if err := d.failure(d.scan.end(d.scan.skip(i)), -1); err != nil {
		return err
	}
	return &bodyError{"invalid_request", "the body is not a JSON object"}
}

// place returns where the message with the given index, or one of its fields, stands in the body: "batch[17].event".
func (c *content) place(index int, field string) string {
	var place string
	switch c.shape {
	case shapeMessage:
		return field
	case shapeBatch:
		place = "batch[" + strconv.Itoa(index) + "]"
	case shapeArray:
		place = "[" + strconv.Itoa(index) + "]"
	}
	if field != "" {
		place += "." + field
	}
	return place
}

// describe returns what is wrong and where: "batch[17].event: missing".
func (c *content) describe(p problem) string {
	if place := c.place(p.message, p.field); place != "" {
		return place + ": " + p.text
	}
	return p.text
}

// readArray reads the messages of the array at i.
func (d *decoder) readArray(i int) (next int, err *bodyError) {
	if err := d.failure(d.noFlaw(i), -1); err != nil {
		return -1, err
	}
	var more bool
	for i, more = d.scan.firstElement(i); more; i, more = d.scan.nextElement(i) {
		element := d.count
		if element == d.maxMessages {
			text := fmt.Sprintf("more than the %d messages that a body may have", d.maxMessages)
			return -1, &bodyError{"too_many_messages", text}
		}
		if d.scan.body[i] == '{' {
			i = d.readMessage(i, element, callUnknown)
		} else if i = d.scan.skip(i); i >= 0 {
			d.count++
			p := d.takeFlaw(element)
			if p == nil {
				p = &problem{element, outcomeInvalidMessage, "", "not an object"}
			}
			d.tally.addWrong(callUnknown, *p)
		}
		if err := d.failure(i, element); err != nil {
			return -1, err
		}
	}
	return i, d.failure(i, d.count-1)
}

// takeFlaw returns the flaw of the message that was just read as a problem, nil if there is none.
func (d *decoder) takeFlaw(element int) *problem {
	f := d.scan.flaw
	if f.what == "" {
		return nil
	}
	d.scan.flaw = scanError{}
	return &problem{element, outcomeInvalidJSON, "", f.what + " (byte " + strconv.Itoa(f.at) + ")"}
}

// readMessage reads the message at i. typ is its type if the route says so, callUnknown if the message does.
func (d *decoder) readMessage(i, element int, typ callType) int {
	start := i
	d.messages = append(d.messages, message{})
	m := &d.messages[len(d.messages)-1]
	m.index = int32(element) //nolint:gosec // a body's size bounds it
	m.properties = [2]int32{d.kept(), d.kept()}
	var (
		key    []byte
		more   bool
		others int
	)
	for key, i, more = d.scan.first(i); more; key, i, more = d.scan.next(i) {
		switch string(key) {
		case "type":
			var text []byte
			text, i = d.scan.text(i)
			m.typ, m.hasType = callNamed(text), text != nil
		case "event":
			m.event, i = d.scan.text(i)
		case "name":
			m.name, i = d.scan.text(i)
		case "category":
			m.category, i = d.scan.text(i)
		case "properties":
			i = d.readProperties(i, m)
		case "context":
			i = d.readEchoed(i, &d.context, &m.context)
		case "options":
			i = d.readEchoed(i, &d.options, &m.options)
		case "integrations":
			i = d.readIntegrations(i, &m.integrations)
		case "timestamp":
			m.timestamp, i = d.readTime(i)
		case "originalTimestamp":
			m.original, i = d.readTime(i)
		case "sentAt":
			m.sentAt, i = d.readTime(i)
		case "messageId":
			m.id, i = d.scan.text(i)
		case "writeKey":
			m.key, i = d.scan.text(i)
		default:
			if d.scan.body[i] == '{' {
				i = d.skipEchoed(i, &d.others[others])
				others = (others + 1) % len(d.others)
			} else {
				i = d.scan.skip(i)
			}
		}
	}
	if i < 0 {
		return i
	}
	if typ != callUnknown {
		m.typ = typ
	}
	if d.count == 0 {
		d.first = d.scan.body[start:i]
	}
	if len(d.messageKey) == 0 {
		d.messageKey = m.key
	}
	d.count++
	d.endMessage(m, i-start)
	return i
}

// endMessage keeps the message, size bytes long, or counts it. What is wrong with it is for resolve to judge, which
// knows whether it is for Librato at all.
func (d *decoder) endMessage(m *message, size int) {
	element := int(m.index)
	wrong := func(o outcome, field, text string) *problem { return &problem{element, o, field, text} }
	m.wrong = d.takeFlaw(element)
	switch {
	case m.wrong != nil:
	case size > d.maxMessageSize:
		text := fmt.Sprintf("%d bytes, more than the %d that a message may have", size, d.maxMessageSize)
		m.wrong = wrong(outcomeTooLarge, "", text)
	case m.typ == callUnknown && !m.hasType:
		m.wrong = wrong(outcomeUnknownType, "type", "missing")
	case m.typ == callUnknown:
		m.wrong = wrong(outcomeUnknownType, "type", "not "+oneOf(callNames()))
	case !d.wanted[m.typ]:
		d.tally.add(m.typ, outcomeIgnored)
		d.properties = d.properties[:m.properties[0]]
		d.messages = d.messages[:len(d.messages)-1]
	}
}

// echo is an object of the message before. The messages of a batch come from one SDK and mostly have the same
// context, and an object that is byte for byte what one was before says the same.
type echo struct {
	object []byte // as sent; nil: none, or it was not JSON
	says   addressed
}

// at returns the position after the object at i if it is e, else 0.
func (e *echo) at(b []byte, i int) int {
	if end := i + len(e.object); end > i && end <= len(b) && bytes.Equal(b[i:end], e.object) {
		return end
	}
	return 0
}

// learn makes the object at i, which ends before next, the echo.
func (d *decoder) learn(e *echo, i, next int) {
	e.object = nil
	if next > 0 && d.scan.flaw.what == "" && d.scan.body[i] == '{' {
		e.object = d.scan.body[i:next]
	}
}

// readEchoed is readContext for a message.
func (d *decoder) readEchoed(i int, e *echo, says *addressed) int {
	next := e.at(d.scan.body, i)
	if next > 0 {
		*says = e.says
		return next
	}
	next = d.readContext(i, says)
	e.says = *says
	d.learn(e, i, next)
	return next
}

// skipEchoed is skip for an object.
func (d *decoder) skipEchoed(i int, e *echo) int {
	next := e.at(d.scan.body, i)
	if next == 0 {
		next = d.scan.skip(i)
		d.learn(e, i, next)
	}
	return next
}

// readProperties reads `properties` of m.
func (d *decoder) readProperties(i int, m *message) int {
	m.hasValue, m.valueIsNoNumber = false, false
	m.properties[1] = m.properties[0]
	d.properties = d.properties[:m.properties[0]]
	if d.scan.body[i] != '{' {
		return d.scan.skip(i)
	}
	var (
		key   []byte
		more  bool
		value spelling
	)
	for key, i, more = d.scan.first(i); more; key, i, more = d.scan.next(i) {
		start := i
		if means(key, "value") && value.counts(key) {
			i = d.readValue(i, m)
		} else {
			i = d.scan.skip(i)
		}
		if len(d.keep) > 0 && i >= 0 {
			d.keepProperty(m, key, start, i)
		}
	}
	m.properties[1] = d.kept()
	return i
}

// readValue reads properties.value: a number, a string that is one, or null for none.
func (d *decoder) readValue(i int, m *message) int {
	m.hasValue, m.valueIsNoNumber = false, false
	start := i
	switch c := d.scan.body[i]; {
	case c == 'n':
		return d.scan.skip(i)
	case c == '"':
		var text []byte
		text, i = d.scan.text(i)
		m.value, m.hasValue = parseNumericString(text)
	case d.scan.isNumber(i):
		if i = d.scan.skip(i); i >= 0 {
			m.value, m.hasValue = parseNumber(d.scan.body[start:i])
		}
	default:
		i = d.scan.skip(i)
	}
	m.valueIsNoNumber = !m.hasValue
	return i
}

// parseNumericString returns the value of a string that is a decimal number, with spaces around it or a plus sign if
// it must be.
func parseNumericString(text []byte) (value float64, ok bool) {
	text = bytes.TrimSpace(text)
	for _, c := range text {
		// ParseFloat takes more: hexadecimal numbers, underscores, infinities.
		if c-'0' > 9 && c != '.' && c != '-' && c != '+' && c|0x20 != 'e' {
			return 0, false
		}
	}
	value, err := strconv.ParseFloat(string(text), 64)
	return value, err == nil
}

// kept is how many properties are kept so far.
func (d *decoder) kept() int32 { return int32(len(d.properties)) } //nolint:gosec // a body's size bounds it

// keepProperty keeps the property at body[start:end], if it is one of those to keep and a string, number or boolean.
func (d *decoder) keepProperty(m *message, key []byte, start, end int) {
	name := int32(-1)
	for i, k := range d.keep {
		if k == string(key) {
			name = int32(i)
			break
		}
	}
	if name < 0 || d.scan.flaw.what != "" {
		return
	}
	own := d.properties[m.properties[0]:]
	for i := range own {
		if own[i].name == name { // given before
			own[i] = own[len(own)-1]
			d.properties = d.properties[:len(d.properties)-1]
			break
		}
	}
	p := property{name: name}
	switch c := d.scan.body[start]; {
	case c == '"':
		p.kind = 's'
		p.text, _ = d.scan.text(start)
	case c == 't' || c == 'f':
		p.kind = c
	case d.scan.isNumber(start):
		raw := d.scan.body[start:end]
		p.kind = 'i'
		var err error
		if bytes.ContainsAny(raw, ".eE") {
			err = strconv.ErrSyntax
		} else {
			p.integer, err = strconv.ParseInt(string(raw), 10, 64)
		}
		if err != nil {
			var ok bool
			p.kind = 'd'
			if p.double, ok = parseNumber(raw); !ok {
				return
			}
		}
	default:
		return
	}
	d.properties = append(d.properties, p)
}

// means says whether key is name, in lower case, if only its letters and digits count, in any case.
func means(key []byte, name string) bool {
	if len(key) < len(name) {
		return false
	}
	return (key[0]|0x20 == name[0] || !counted(key[0])) && meansSpelt(key, name)
}

// counted says whether c is a letter or a digit.
func counted(c byte) bool { return c|0x20-'a' <= 25 || c-'0' <= 9 }

// meansSpelt is means for keys that are not known at once to be something else, as nearly all are.
func meansSpelt(key []byte, name string) bool {
	n := 0
	for _, c := range key {
		if !counted(c) {
			continue
		}
		if n == len(name) || c|0x20 != name[n] { // the bit makes letters lower case
			return false
		}
		n++
	}
	return n == len(name)
}

// spelling is how the first key was spelt that means something; nil: none so far.
type spelling []byte

// counts says whether the member with this key counts, which means what the others do.
func (s *spelling) counts(key []byte) bool {
	if *s == nil {
		*s = key
	}
	return string(*s) == string(key)
}

// readContext reads `context` or `options`, which hold the source at two places, and flags.
func (d *decoder) readContext(i int, says *addressed) int {
	*says = addressed{given: d.isGiven(i)}
	if d.scan.body[i] != '{' {
		return d.scan.skip(i)
	}
	var (
		key                             []byte
		more                            bool
		source, librato, all, providers spelling
	)
	for key, i, more = d.scan.first(i); more; key, i, more = d.scan.next(i) {
		d.readFlag(key, i, &says.flags, &all)
		switch {
		case means(key, "source") && source.counts(key):
			says.source, i = d.readSource(i)
		case means(key, "librato") && librato.counts(key):
			says.libratoSource, i = d.readLibrato(i)
		case means(key, "providers") && providers.counts(key):
			i = d.readProviders(i, &says.providers)
		default:
			i = d.scan.skip(i)
		}
	}
	return i
}

// readIntegrations reads `integrations`, which holds the flags and, where options are given, the source.
func (d *decoder) readIntegrations(i int, says *addressed) int {
	*says = addressed{given: d.isGiven(i)}
	if d.scan.body[i] != '{' {
		return d.scan.skip(i)
	}
	var (
		key          []byte
		more         bool
		librato, all spelling
	)
	for key, i, more = d.scan.first(i); more; key, i, more = d.scan.next(i) {
		d.readFlag(key, i, &says.flags, &all)
		if means(key, "librato") && librato.counts(key) {
			says.libratoSource, i = d.readLibrato(i)
		} else {
			i = d.scan.skip(i)
		}
	}
	return i
}

// readProviders reads `providers` of old SDKs, which hold nothing but flags.
func (d *decoder) readProviders(i int, says *flags) int {
	*says = flags{given: d.isGiven(i)}
	if d.scan.body[i] != '{' {
		return d.scan.skip(i)
	}
	var (
		key  []byte
		more bool
		all  spelling
	)
	for key, i, more = d.scan.first(i); more; key, i, more = d.scan.next(i) {
		d.readFlag(key, i, says, &all)
		i = d.scan.skip(i)
	}
	return i
}

// readFlag notes the value at i if its key is a flag. `Librato` has to be spelt so; a value of it that is no boolean
// turns on, but one of `all` says nothing.
func (d *decoder) readFlag(key []byte, i int, says *flags, all *spelling) {
	c := d.scan.body[i]
	switch {
	case string(key) == "Librato":
		says.librato = flagTrue
		if c == 'f' {
			says.librato = flagFalse
		}
	case means(key, "all") && all.counts(key):
		switch c {
		case 'f':
			says.all = flagFalse
		case 't':
			says.all = flagTrue
		default:
			says.all = flagNone
		}
	}
}

// isGiven says whether the value at i is something to JavaScript: not null, false, 0 or empty.
func (d *decoder) isGiven(i int) bool {
	switch c := d.scan.body[i]; {
	case c == '{':
		return true
	case c == '"':
		return d.scan.body[i+1] != '"'
	case d.scan.isNumber(i):
		value, _ := parseNumber(d.scan.body[i:max(i, d.scan.skip(i))])
		return value != 0
	default:
		return c == '[' || c == 't'
	}
}

// readLibrato reads the options for Librato at i and returns their source.
func (d *decoder) readLibrato(i int) (source []byte, next int) {
	if d.scan.body[i] != '{' {
		return nil, d.scan.skip(i)
	}
	var (
		key  []byte
		more bool
	)
	for key, i, more = d.scan.first(i); more; key, i, more = d.scan.next(i) {
		if string(key) == "source" {
			source, i = d.readSource(i)
		} else {
			i = d.scan.skip(i)
		}
	}
	return source, i
}

// maxSource is how many bytes of a source count. Librato takes 255 characters, so this changes nothing for it.
const maxSource = 1024

// readSource reads a source, which is a string that is not empty, or a number as it stands; nil if it is neither.
func (d *decoder) readSource(i int) (source []byte, next int) {
	source, next = d.readScalar(i)
	if end := maxSource; len(source) > end {
		for !utf8.RuneStart(source[end]) {
			end--
		}
		source = source[:end]
	}
	return source, next
}

// readScalar reads the value at i and returns it if it is a string, or a number as it stands; else nil.
func (d *decoder) readScalar(i int) (text []byte, next int) {
	if !d.scan.isNumber(i) {
		return d.scan.text(i)
	}
	if next = d.scan.skip(i); next < 0 {
		return nil, next
	}
	return d.scan.body[i:next], next
}

// readTime reads the value at i as a time in Unix nanoseconds, 0 if it is none.
func (d *decoder) readTime(i int) (nanoseconds int64, next int) {
	text, next := d.readScalar(i)
	return parseTime(text), next
}

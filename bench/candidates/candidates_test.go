// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Package candidates compares what JSON libraries need to read the fields that make an event out of a recorded batch of 100.
// The receiver's own decoder reads the same body in BenchmarkDecodeRecorded of its package. candidates.sh runs both.
package candidates

import (
	"bytes"
	stdjson "encoding/json"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/buger/jsonparser"
	"github.com/bytedance/sonic"
	"github.com/go-json-experiment/json/jsontext"
	gojson "github.com/goccy/go-json"
	jsoniter "github.com/json-iterator/go"
	"github.com/mailru/easyjson/jlexer"
	"github.com/minio/simdjson-go"
	segjson "github.com/segmentio/encoding/json"
	"github.com/tidwall/gjson"
	"github.com/valyala/fastjson"
)

// fields is what the receiver reads of a message. Strings may share the body's memory.
type fields struct {
	typ, event, source, timestamp, id string
	value                             float64
	hasValue                          bool
	off                               bool // integrations: All or Librato is false
}

func recorded(tb testing.TB) []byte {
	raw, err := os.ReadFile("../testdata/batch.http")
	if err != nil {
		tb.Fatal(err)
	}
	_, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !ok {
		tb.Fatal("no body in the recording")
	}
	return body
}

// batch is what those libraries fill that unmarshal into structs.
type batch struct {
	Batch []struct {
		Type       string `json:"type"`
		Event      string `json:"event"`
		MessageID  string `json:"messageId"`
		Timestamp  string `json:"timestamp"`
		Properties struct {
			Value *float64 `json:"value"`
		} `json:"properties"`
		Context struct {
			Librato struct {
				Source string `json:"source"`
			} `json:"Librato"`
		} `json:"context"`
		Integrations struct {
			All     *bool `json:"All"`
			Librato *bool `json:"Librato"`
		} `json:"integrations"`
	} `json:"batch"`
}

func unmarshal(f func([]byte, any) error) func([]fields, []byte) []fields {
	return func(dst []fields, body []byte) []fields {
		var b batch
		if err := f(body, &b); err != nil {
			panic(err)
		}
		for i := range b.Batch {
			m := &b.Batch[i]
			e := fields{typ: m.Type, event: m.Event, source: m.Context.Librato.Source, timestamp: m.Timestamp, id: m.MessageID}
			if m.Properties.Value != nil {
				e.value, e.hasValue = *m.Properties.Value, true
			}
			all, librato := m.Integrations.All, m.Integrations.Librato
			e.off = all != nil && !*all || librato != nil && !*librato
			dst = append(dst, e)
		}
		return dst
	}
}

var fastParser fastjson.Parser

func fast(dst []fields, body []byte) []fields {
	v, err := fastParser.ParseBytes(body)
	if err != nil {
		panic(err)
	}
	text := func(v *fastjson.Value, keys ...string) string { return string(v.GetStringBytes(keys...)) }
	for _, m := range v.GetArray("batch") {
		e := fields{
			typ: text(m, "type"), event: text(m, "event"), source: text(m, "context", "Librato", "source"),
			timestamp: text(m, "timestamp"), id: text(m, "messageId"),
		}
		if v := m.Get("properties", "value"); v != nil {
			e.value, e.hasValue = v.GetFloat64(), true
		}
		for _, name := range []string{"All", "Librato"} {
			if v := m.Get("integrations", name); v != nil && v.Type() == fastjson.TypeFalse {
				e.off = true
			}
		}
		dst = append(dst, e)
	}
	return dst
}

var simdParsed *simdjson.ParsedJson

func simd(dst []fields, body []byte) []fields {
	var err error
	if simdParsed, err = simdjson.Parse(body, simdParsed); err != nil {
		panic(err)
	}
	var root simdjson.Element
	iter := simdParsed.Iter()
	iter.AdvanceInto()
	if _, err = iter.FindElement(&root, "batch"); err != nil {
		panic(err)
	}
	messages, err := root.Iter.Array(nil)
	if err != nil {
		panic(err)
	}
	var found simdjson.Element
	messages.ForEach(func(i simdjson.Iter) {
		text := func(keys ...string) string {
			if el, err := i.FindElement(&found, keys...); err == nil {
				s, _ := el.Iter.StringCvt()
				return s
			}
			return ""
		}
		e := fields{
			typ: text("type"), event: text("event"), source: text("context", "Librato", "source"),
			timestamp: text("timestamp"), id: text("messageId"),
		}
		if el, err := i.FindElement(&found, "properties", "value"); err == nil {
			e.value, err = el.Iter.Float()
			e.hasValue = err == nil
		}
		for _, name := range []string{"All", "Librato"} {
			if el, err := i.FindElement(&found, "integrations", name); err == nil {
				on, err := el.Iter.Bool()
				e.off = e.off || err == nil && !on
			}
		}
		dst = append(dst, e)
	})
	return dst
}

// lexer walks with easyjson's lexer, as its generated code does.
func lexer(dst []fields, body []byte) []fields {
	l := jlexer.Lexer{Data: body}
	object := func(field func(key string)) {
		if l.IsNull() {
			l.Skip()
			return
		}
		l.Delim('{')
		for !l.IsDelim('}') {
			key := l.UnsafeFieldName(false)
			l.WantColon()
			field(key)
			l.WantComma()
		}
		l.Delim('}')
	}
	object(func(key string) {
		if key != "batch" {
			l.SkipRecursive()
			return
		}
		l.Delim('[')
		for !l.IsDelim(']') {
			var e fields
			object(func(key string) {
				switch key {
				case "type":
					e.typ = l.UnsafeString()
				case "event":
					e.event = l.UnsafeString()
				case "messageId":
					e.id = l.UnsafeString()
				case "timestamp":
					e.timestamp = l.UnsafeString()
				case "properties":
					object(func(key string) {
						if key == "value" {
							e.value, e.hasValue = l.Float64(), true
						} else {
							l.SkipRecursive()
						}
					})
				case "context":
					object(func(key string) {
						if key != "Librato" {
							l.SkipRecursive()
							return
						}
						object(func(key string) {
							if key == "source" {
								e.source = l.UnsafeString()
							} else {
								l.SkipRecursive()
							}
						})
					})
				case "integrations":
					object(func(key string) {
						if key == "All" || key == "Librato" {
							e.off = e.off || !l.Bool()
						} else {
							l.SkipRecursive()
						}
					})
				default:
					l.SkipRecursive()
				}
			})
			dst = append(dst, e)
			l.WantComma()
		}
		l.Delim(']')
	})
	if err := l.Error(); err != nil {
		panic(err)
	}
	return dst
}

// stream walks with jsontext's decoder.
func stream(dst []fields, body []byte) []fields {
	d := jsontext.NewDecoder(bytes.NewReader(body))
	must := func(err error) {
		if err != nil && err != io.EOF { //nolint:errorlint // a benchmark
			panic(err)
		}
	}
	token := func() jsontext.Token {
		t, err := d.ReadToken()
		must(err)
		return t
	}
	object := func(field func(key string)) {
		token()
		for d.PeekKind() != '}' {
			field(token().String())
		}
		token()
	}
	skip := func() { must(d.SkipValue()) }
	object(func(key string) {
		if key != "batch" {
			skip()
			return
		}
		token()
		for d.PeekKind() != ']' {
			var e fields
			object(func(key string) {
				switch key {
				case "type":
					e.typ = token().String()
				case "event":
					e.event = token().String()
				case "messageId":
					e.id = token().String()
				case "timestamp":
					e.timestamp = token().String()
				case "properties":
					object(func(key string) {
						if key == "value" {
							v, err := token().Float()
							must(err)
							e.value, e.hasValue = v, true
						} else {
							skip()
						}
					})
				case "context":
					object(func(key string) {
						if key != "Librato" {
							skip()
							return
						}
						object(func(key string) {
							if key == "source" {
								e.source = token().String()
							} else {
								skip()
							}
						})
					})
				case "integrations":
					object(func(key string) {
						if key == "All" || key == "Librato" {
							e.off = e.off || token().Kind() == 'f'
						} else {
							skip()
						}
					})
				default:
					skip()
				}
			})
			dst = append(dst, e)
		}
		token()
	})
	return dst
}

func withGJSON(dst []fields, body []byte) []fields {
	if !gjson.ValidBytes(body) { // it does not notice what is broken otherwise
		panic("not JSON")
	}
	gjson.GetBytes(body, "batch").ForEach(func(_, m gjson.Result) bool {
		var e fields
		m.ForEach(func(key, v gjson.Result) bool {
			switch key.Str {
			case "type":
				e.typ = v.Str
			case "event":
				e.event = v.Str
			case "messageId":
				e.id = v.Str
			case "timestamp":
				e.timestamp = v.Str
			case "properties":
				if v := v.Get("value"); v.Exists() {
					e.value, e.hasValue = v.Num, true
				}
			case "context":
				e.source = v.Get("Librato.source").Str
			case "integrations":
				e.off = v.Get("All").Type == gjson.False || v.Get("Librato").Type == gjson.False
			}
			return true
		})
		dst = append(dst, e)
		return true
	})
	return dst
}

func parser(dst []fields, body []byte) []fields {
	_, err := jsonparser.ArrayEach(body, func(m []byte, _ jsonparser.ValueType, _ int, _ error) {
		var e fields
		err := jsonparser.ObjectEach(m, func(key, v []byte, _ jsonparser.ValueType, _ int) error {
			switch string(key) {
			case "type":
				e.typ = string(v)
			case "event":
				e.event = string(v)
			case "messageId":
				e.id = string(v)
			case "timestamp":
				e.timestamp = string(v)
			case "properties":
				if f, err := jsonparser.GetFloat(v, "value"); err == nil {
					e.value, e.hasValue = f, true
				}
			case "context":
				e.source, _ = jsonparser.GetUnsafeString(v, "Librato", "source")
			case "integrations":
				for _, name := range []string{"All", "Librato"} {
					if on, err := jsonparser.GetBoolean(v, name); err == nil && !on {
						e.off = true
					}
				}
			}
			return nil
		})
		if err != nil {
			panic(err)
		}
		dst = append(dst, e)
	}, "batch")
	if err != nil {
		panic(err)
	}
	return dst
}

var candidates = []struct {
	name string
	read func(dst []fields, body []byte) []fields
}{
	{"fastjson", fast},
	{"goccy", unmarshal(gojson.Unmarshal)},
	{"segmentio", unmarshal(func(b []byte, v any) error {
		_, err := segjson.Parse(b, v, segjson.ZeroCopy)
		return err
	})},
	{"simdjson-go", simd},
	{"sonic", unmarshal(sonic.ConfigFastest.Unmarshal)},
	{"easyjson-lexer", lexer},
	{"jsontext", stream},
	{"gjson", withGJSON},
	{"jsoniter", unmarshal(jsoniter.ConfigFastest.Unmarshal)},
	{"jsonparser", parser},
	{"encoding-json", unmarshal(stdjson.Unmarshal)},
}

// TestCandidatesAgree holds that each reads the same.
func TestCandidatesAgree(t *testing.T) {
	body := recorded(t)
	want := unmarshal(stdjson.Unmarshal)(nil, bytes.Clone(body))
	if len(want) != 100 || want[0].source == "" || !want[1].hasValue {
		t.Fatalf("the recording holds something else: %d messages, %+v", len(want), want[0])
	}
	for _, c := range candidates {
		got := c.read(nil, bytes.Clone(body))
		if len(got) != len(want) {
			t.Errorf("%s: %d messages", c.name, len(got))
			continue
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: message %d: %+v, want %+v", c.name, i, got[i], want[i])
				break
			}
		}
	}
}

// TestBrokenJSON says which candidates notice that a value they skip is broken.
func TestBrokenJSON(t *testing.T) {
	body := bytes.Replace(recorded(t), []byte(`"price":19,`), []byte(`"price":1x,`), 1)
	for _, c := range candidates {
		func() {
			defer func() { t.Logf("%s: refuses broken JSON in a skipped value: %t", c.name, recover() != nil) }()
			c.read(nil, bytes.Clone(body))
		}()
	}
}

func BenchmarkCandidates(b *testing.B) {
	body := recorded(b)
	for _, c := range candidates {
		b.Run(c.name, func(b *testing.B) {
			dst := make([]fields, 0, 100)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			var before, after syscall.Rusage
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before) // cannot fail
			for b.Loop() {
				dst = c.read(dst[:0], body)
			}
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
			cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(cpu)/float64(b.N)/float64(len(dst)), "cpu-ns/event")
		})
	}
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// decodeTests are bodies and what becomes of them: the events as "name|source|value", and the first problem.
var decodeTests = []struct {
	name    string
	shape   shape
	body    string
	events  []string
	problem string // of a message; the others are taken
	err     string // of the body
}{
	// Values.
	{name: "no properties", body: `{"event":"e"}`, events: []string{"e||1"}},
	{name: "null properties", body: `{"event":"e","properties":null}`, events: []string{"e||1"}},
	{name: "null value", body: `{"event":"e","properties":{"value":null}}`, events: []string{"e||1"}},
	{name: "zero", body: `{"event":"e","properties":{"value":0}}`, events: []string{"e||0"}},
	{name: "negative decimal", body: `{"event":"e","properties":{"value":-2.5}}`, events: []string{"e||-2.5"}},
	{name: "exponent", body: `{"event":"e","properties":{"value":1.5E+3}}`, events: []string{"e||1500"}},
	{name: "numeric string", body: `{"event":"e","properties":{"value":" +4.5e1 "}}`, events: []string{"e||45"}},
	{name: "value in another case", body: `{"event":"e","properties":{"vALUE":3}}`, events: []string{"e||3"}},
	{name: "an integer of 18 digits", body: `{"event":"e","properties":{"value":123456789012345678}}`, events: []string{"e||1.2345678901234568e+17"}},
	{name: "the last properties count", body: `{"event":"e","properties":{"value":3},"properties":{}}`, events: []string{"e||1"}},
	{name: "the last properties count, if wrong as well", body: `{"event":"e","properties":{"value":"x"},"properties":{}}`, events: []string{"e||1"}},
	{name: "the last value counts", body: `{"event":"e","properties":{"value":3,"value":4}}`, events: []string{"e||4"}},
	{name: "the first spelling of value counts", body: `{"event":"e","properties":{"Value":3,"value":4}}`, events: []string{"e||3"}},
	{name: "the first spelling of value, given again", body: `{"event":"e","properties":{"Value":3,"value":4,"Value":5}}`, events: []string{"e||5"}},
	{name: "the first spelling of value is null", body: `{"event":"e","properties":{"_value":null,"value":4}}`, events: []string{"e||1"}},
	{name: "the first spelling of value is wrong", body: `{"event":"e","properties":{"_value":"x","value":4}}`, problem: "properties.value: not a number"},
	{name: "value by its letters", body: `{"event":"e","properties":{"x":1,"$v_a l-U.é\u0000e ":4}}`, events: []string{"e||4"}},
	{name: "value and a digit", body: `{"event":"e","properties":{"value2":4,"2value":4,"valu":4,"valuee":4,"va":4}}`, events: []string{"e||1"}},
	{name: "value of a nested property", body: `{"event":"e","properties":{"x":{"value":3},"y":[{"value":4}]}}`, events: []string{"e||1"}},
	{name: "word as value", body: `{"event":"e","properties":{"value":"many"}}`, problem: "properties.value: not a number"},
	{name: "empty string as value", body: `{"event":"e","properties":{"value":""}}`, problem: "properties.value: not a number"},
	{name: "hexadecimal string", body: `{"event":"e","properties":{"value":"0x10"}}`, problem: "properties.value: not a number"},
	{name: "infinite string", body: `{"event":"e","properties":{"value":"Infinity"}}`, problem: "properties.value: not a number"},
	{name: "boolean as value", body: `{"event":"e","properties":{"value":true}}`, problem: "properties.value: not a number"},
	{name: "object as value", body: `{"event":"e","properties":{"value":{}}}`, problem: "properties.value: not a number"},
	{name: "beyond a double", body: `{"event":"e","properties":{"value":1e999}}`, problem: "properties.value: not a number"},

	// Names.
	{name: "escapes", body: `{"event":"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83d"}`, events: []string{"a\"\\/\b\f\n\r\té😀\uFFFD||1"}},
	{name: "a pair of surrogates at the end", body: `{"event":"\ud83d\uDE00"}`, events: []string{"😀||1"}},
	{name: "escapes in keys", body: `{"\u0065vent":"e","propert\u0069es":{"v\u0061lue":2}}`, events: []string{"e||2"}},
	{name: "no event", body: `{"userId":"u"}`, problem: "event: missing"},
	{name: "empty event", body: `{"event":""}`, problem: "event: missing"},
	{name: "number as event", body: `{"event":4}`, problem: "event: missing"},
	{
		name: "no event in a batch", shape: shapeBatch, body: `{"batch":[{"type":"track","event":"e"},{"type":"track"}]}`,
		events: []string{"e||1"}, problem: "batch[1].event: missing",
	},

	// Sources, in the order in which they count.
	{name: "integrations first", body: `{"event":"e","integrations":{"librato":{"source":"1"}},"context":{"Librato":{"source":"2"},"source":"4"},"options":{"Librato":{"source":"3"},"source":"5"}}`, events: []string{"e|1|1"}},
	{name: "context.Librato second", body: `{"event":"e","integrations":{"Librato":true},"context":{"source":"4","LIBRATO":{"source":"2"}}}`, events: []string{"e|2|1"}},
	{
		name: "contexts as before", shape: shapeBatch,
		body: `{"batch":[{"type":"track","event":"a","context":{"source":"1"},"options":null,"x":{"y":1}},` +
			`{"type":"track","event":"b","context":{"source":"1"},"options":0,"x":{"y":1}},` +
			`{"type":"track","event":"c","options":{"source":"2"}},{"type":"track","event":"d","context":{"source":"3"},"context":{"source":"1"}},` +
			`{"type":"track","event":"e","context":{"source":"1"},"context":{"source":"3"}},{"type":"track","event":"f","context":null},` +
			`{"type":"track","event":"g","context":{"Librato":{"source":"\u0031"},"source":"4"}},{"type":"track","event":"h","context":{"Librato":{"source":"\u0031"},"source":"4"}}]}`,
		events: []string{"a|1|1", "b|1|1", "c|2|1", "d|1|1", "e|3|1", "f||1", "g|1|1", "h|1|1"},
	},
	{
		name: "a context that is not JSON, again", shape: shapeBatch,
		body:    `{"batch":[{"type":"track","event":"a","context":{"x":NaN}},{"type":"track","event":"b","context":{"x":NaN}},{"type":"track","event":"c","context":{"x":1}}]}`,
		events:  []string{"c||1"},
		problem: "batch[0]: NaN is not JSON (byte 53)",
	},
	{name: "context.source last", body: `{"event":"e","context":{"source":"4"}}`, events: []string{"e|4|1"}},
	{name: "options.Librato before options.source", body: `{"event":"e","options":{"source":"5","Librato":{"source":"3"}}}`, events: []string{"e|3|1"}},
	{name: "options in place of the context", body: `{"event":"e","context":{"source":"4","Librato":{"source":"2"}},"options":{"source":"5"}}`, events: []string{"e|5|1"}},
	{name: "options without a source in place of the context", body: `{"event":"e","options":{"x":1},"context":{"source":"4","Librato":{"source":"2"}}}`, events: []string{"e||1"}},
	{name: "empty options in place of the context", body: `{"event":"e","options":{},"context":{"source":"4"}}`, events: []string{"e||1"}},
	{name: "options that are nothing", body: `{"event":"e","options":null,"context":{"source":"4"}}`, events: []string{"e|4|1"}},
	{name: "options that are false", body: `{"event":"e","options":false,"context":{"source":"4"}}`, events: []string{"e|4|1"}},
	{name: "options that are zero", body: `{"event":"e","options":0.0,"context":{"source":"4"}}`, events: []string{"e|4|1"}},
	{name: "options that are an empty string", body: `{"event":"e","options":"","context":{"source":"4"}}`, events: []string{"e|4|1"}},
	{name: "options that are a word", body: `{"event":"e","options":"x","context":{"source":"4"}}`, events: []string{"e||1"}},
	{name: "integrations beside options", body: `{"event":"e","options":{"source":"5"},"integrations":{"librato":{"source":"1"}}}`, events: []string{"e|1|1"}},
	{
		name: "options in place of the batch's context", shape: shapeBatch,
		body:   `{"context":{"source":"all"},"batch":[{"type":"track","event":"e","options":{}},{"type":"track","event":"f"}]}`,
		events: []string{"e||1", "f|all|1"},
	},
	{name: "source by its letters", body: `{"event":"e","context":{"_Sour-ce":"s"}}`, events: []string{"e|s|1"}},
	{name: "the first spelling of source counts", body: `{"event":"e","context":{"Source":null,"source":"s"}}`, events: []string{"e||1"}},
	{name: "Librato by its letters", body: `{"event":"e","context":{"$lib.rato":{"source":"s"}},"integrations":{"LI BRATO":{"source":"t"}}}`, events: []string{"e|t|1"}},
	{name: "the first spelling of Librato counts", body: `{"event":"e","context":{"librato":true,"Librato":{"source":"s"}}}`, events: []string{"e||1"}},
	{name: "source of Librato is spelt so", body: `{"event":"e","context":{"Librato":{"Source":"s","_source":"t"}}}`, events: []string{"e||1"}},
	{name: "a source stays as it is", body: `{"event":"e","context":{"Librato":{"source":"web-1:8080 é"}}}`, events: []string{"e|web-1:8080 é|1"}},
	{name: "empty source is none", body: `{"event":"e","context":{"Librato":{"source":""},"source":"4"}}`, events: []string{"e|4|1"}},
	{name: "number as source", body: `{"event":"e","context":{"Librato":{"source":42}}}`, events: []string{"e|42|1"}},
	{name: "object as source is none", body: `{"event":"e","context":{"source":{"a":1}}}`, events: []string{"e||1"}},

	// Flags.
	{name: "all off", body: `{"event":"e","integrations":{"All":false}}`},
	{name: "all off in another case", body: `{"event":"e","integrations":{"all":false}}`},
	{name: "all off, Librato on", body: `{"event":"e","integrations":{"All":false,"Librato":true}}`, events: []string{"e||1"}},
	{name: "all off, Librato has options", body: `{"event":"e","integrations":{"All":false,"Librato":{"source":"s"}}}`, events: []string{"e|s|1"}},
	{name: "all off, librato is no flag", body: `{"event":"e","integrations":{"All":false,"librato":true}}`},
	{name: "Librato off", body: `{"event":"e","integrations":{"Librato":false}}`},
	{name: "librato is no flag", body: `{"event":"e","integrations":{"librato":false}}`, events: []string{"e||1"}},
	{name: "what browsers send is no list", body: `{"event":"e","integrations":{"Segment.io":true}}`, events: []string{"e||1"}},
	{name: "the last integrations count", body: `{"event":"e","integrations":{"All":false,"Librato":false},"integrations":{}}`, events: []string{"e||1"}},
	{name: "Librato is nothing but a key", body: `{"event":"e","integrations":{"All":false,"Librato":null}}`, events: []string{"e||1"}},
	{name: "all is no boolean", body: `{"event":"e","integrations":{"All":0}}`, events: []string{"e||1"}},
	{name: "the first spelling of all counts", body: `{"event":"e","integrations":{"all":null,"All":false}}`, events: []string{"e||1"}},
	{name: "all by its letters", body: `{"event":"e","integrations":{"a_ll":false}}`},
	{name: "context.all off", body: `{"event":"e","context":{"all":false}}`},
	{name: "context.all off, integrations.all on", body: `{"event":"e","context":{"all":false},"integrations":{"All":true}}`},
	{name: "context.all off, Librato on", body: `{"event":"e","context":{"all":false},"integrations":{"Librato":true}}`, events: []string{"e||1"}},
	{name: "context.all on, integrations.all off", body: `{"event":"e","context":{"all":true},"integrations":{"All":false}}`, events: []string{"e||1"}},
	{name: "context.Librato off", body: `{"event":"e","context":{"Librato":false}}`},
	{name: "context.Librato off, but there are integrations", body: `{"event":"e","context":{"Librato":false},"integrations":{}}`, events: []string{"e||1"}},
	{name: "options.all off", body: `{"event":"e","options":{"all":false},"context":{"all":true}}`},
	{name: "options in place of context.all", body: `{"event":"e","options":{"x":1},"context":{"all":false}}`, events: []string{"e||1"}},
	{name: "providers.all before options.all", body: `{"event":"e","options":{"all":true,"providers":{"all":false}}}`},
	{name: "providers.all on before options.all", body: `{"event":"e","options":{"providers":{"all":true},"all":false}}`, events: []string{"e||1"}},
	{name: "providers.Librato off", body: `{"event":"e","options":{"providers":{"Librato":false}}}`},
	{name: "providers.librato is no flag", body: `{"event":"e","options":{"providers":{"librato":false}}}`, events: []string{"e||1"}},
	{name: "providers before options itself", body: `{"event":"e","options":{"Librato":false,"providers":{"x":1}}}`, events: []string{"e||1"}},
	{name: "providers that are nothing", body: `{"event":"e","options":{"Librato":false,"providers":null}}`},
	{name: "integrations before providers", body: `{"event":"e","options":{"providers":{"Librato":false}},"integrations":{"x":true}}`, events: []string{"e||1"}},
	{
		name: "a batch's flags at second places", shape: shapeBatch,
		body: `{"context":{"all":false},"batch":[{"type":"track","event":"e"},{"type":"track","event":"f","context":{"all":true}},` +
			`{"type":"track","event":"g","options":{}},{"type":"track","event":"h","integrations":{"Librato":{}}}]}`,
		events: []string{"f||1", "g||1", "h||1"},
	},
	{name: "off beats wrong", body: `{"event":"","integrations":{"Librato":false}}`},

	// What a batch says for all.
	{
		name: "batch context after", shape: shapeBatch, body: `{"batch":[{"type":"track","event":"e"},{"type":"track","event":"f","context":{"Librato":{"source":"own"}}},{"type":"track","event":"g","context":{"source":"weak"}}],"context":{"Librato":{"source":"all"}}}`,
		events: []string{"e|all|1", "f|own|1", "g|all|1"},
	},
	{
		name: "batch integrations before", shape: shapeBatch, body: `{"integrations":{"All":false},"batch":[{"type":"track","event":"e"},{"type":"track","event":"f","integrations":{"Librato":true}}]}`,
		events: []string{"f||1"},
	},
	{name: "other calls are ignored", shape: shapeBatch, body: `{"batch":[{"type":"identify"},{"type":"group"},{"type":"alias"},{"type":"track","event":"e"}]}`, events: []string{"e||1"}},
	{name: "a batch's own event is none", shape: shapeBatch, body: `{"event":"x","messageId":"b","batch":[{"type":"track","event":"e"}]}`, events: []string{"e||1"}},
	{name: "empty batch", shape: shapeBatch, body: ` { "batch" : [ ] } `},
	{
		name: "pages", shape: shapeBatch, body: `{"batch":[{"type":"page","name":"Home"},{"type":"page","name":"Home","category":"Docs"},{"type":"page","category":"Docs"},{"type":"screen","name":"Main"},{"type":"screen"}]}`,
		events: []string{"Viewed Home Page||1", "Viewed Docs Home Page||1", "Loaded a Page||1", "Viewed Main Screen||1", "Loaded a Screen||1"},
	},

	{
		name: "a batch's source gives way to the message's at the same place", shape: shapeBatch,
		body:   `{"context":{"source":"all"},"batch":[{"type":"track","event":"e","context":{"source":"own"}}]}`,
		events: []string{"e|own|1"},
	},

	// Bad messages in good batches.
	{name: "as large as a message may be", body: `{"event":"e","x":"` + strings.Repeat("y", 1000-20) + `"}`, events: []string{"e||1"}},
	{
		name: "a digit beyond f", shape: shapeBatch, body: `{"batch":[{"type":"track","event":"\u00g1"},{"type":"track","event":"e"}]}`,
		events: []string{"e||1"}, problem: "batch[0]: an escape that JSON does not know (byte 36)",
	},
	{name: "no object", shape: shapeBatch, body: `{"batch":[1,{"type":"track","event":"e"},"x",null,[{}]]}`, events: []string{"e||1"}, problem: "batch[0]: not an object"},
	{name: "no object and no JSON", shape: shapeBatch, body: `{"batch":[[NaN],{"type":"track","event":"e"}]}`, events: []string{"e||1"}, problem: "batch[0]: NaN is not JSON (byte 11)"},
	{name: "no type", shape: shapeBatch, body: `{"batch":[{"event":"x"},{"type":"track","event":"e"}]}`, events: []string{"e||1"}, problem: "batch[0].type: missing"},
	{name: "unknown type", shape: shapeBatch, body: `{"batch":[{"type":"tracks","event":"x"},{"type":"track","event":"e"}]}`, events: []string{"e||1"}, problem: "batch[0].type: not track, page, screen, identify, group or alias"},
	{
		name: "too large", shape: shapeBatch, body: `{"batch":[{"type":"track","event":"e"},{"type":"track","event":"x","properties":{"x":"` + strings.Repeat("y", 1000) + `"}}]}`,
		events: []string{"e||1"}, problem: "batch[1]: 1050 bytes, more than the 1000 that a message may have",
	},
	{
		name: "NaN", shape: shapeBatch, body: `{"batch":[{"type":"track","event":"x","properties":{"value":NaN}},{"type":"track","event":"e"}]}`,
		events: []string{"e||1"}, problem: "batch[0]: NaN is not JSON (byte 60)",
	},
	{
		name: "infinities", shape: shapeBatch, body: `{"batch":[{"a":[-Infinity]},{"b":{"c":Infinity}},{"type":"track","event":"e"}]}`,
		events: []string{"e||1"}, problem: "batch[0]: -Infinity is not JSON (byte 16)",
	},
	{
		name: "not UTF-8", shape: shapeBatch, body: "{\"batch\":[{\"type\":\"track\",\"event\":\"x\xff\"},{\"type\":\"track\",\"event\":\"e\"}]}",
		events: []string{"e||1"}, problem: "batch[0]: a string that is not UTF-8 (byte 36)",
	},
	{
		name: "control character", shape: shapeBatch, body: "{\"batch\":[{\"type\":\"track\",\"event\":\"x\n\"},{\"type\":\"track\",\"event\":\"e\"}]}",
		events: []string{"e||1"}, problem: "batch[0]: a control character in a string (byte 36)",
	},
	{
		name: "unknown escape", shape: shapeBatch, body: `{"batch":[{"type":"track","event":"\x41"},{"type":"track","event":"\u12"},{"type":"track","event":"e"}]}`,
		events: []string{"e||1"}, problem: "batch[0]: an escape that JSON does not know (byte 36)",
	},
	{
		name: "foreign key", shape: shapeBatch, body: `{"batch":[{"type":"track","event":"x","writeKey":"other"},{"type":"track","event":"e","writeKey":"mine"}],"writeKey":"mine"}`,
		events: []string{"e||1"}, problem: "batch[0].writeKey: not the write key of the request",
	},

	// Bodies that are refused.
	{name: "empty body", body: ``, err: "not JSON at byte 0: unexpected end of the body"},
	{name: "not an object", body: `[]`, err: "the body is not a JSON object"},
	{name: "no batch", shape: shapeBatch, body: `{"event":"e"}`, err: "batch: missing"},
	{name: "batch is an object", shape: shapeBatch, body: `{"batch":{}}`, err: "batch: not an array"},
	{name: "two batches", shape: shapeBatch, body: `{"batch":[],"batch":[]}`, err: "batch: given twice"},
	{name: "cut off", shape: shapeBatch, body: `{"batch":[{"type":"track","event":"e"},{"type":"tr`, err: "batch[1]: not JSON at byte 50: unexpected end of the body"},
	{name: "text after", body: `{"event":"e"} x`, err: "not JSON at byte 14: text after the end of the JSON value"},
	{name: "trailing comma", body: `{"event":"e",}`, err: "not JSON at byte 13: expected a key"},
	{name: "missing comma", body: `{"a":1 "b":2}`, err: "not JSON at byte 7: expected a comma or the end of the object"},
	{name: "missing colon", body: `{"a" 1}`, err: "not JSON at byte 5: expected a colon"},
	{name: "leading zero", body: `{"a":01}`, err: "not JSON at byte 6: expected a comma or the end of the object"},
	{name: "bare decimal point", body: `{"a":1.}`, err: "not JSON at byte 7: expected a digit"},
	{name: "bare exponent", body: `{"a":1e}`, err: "not JSON at byte 7: expected a digit"},
	{name: "bare minus", body: `{"a":-}`, err: "not JSON at byte 6: expected a digit"},
	{name: "misspelt word", body: `{"a":nul}`, err: "not JSON at byte 5: expected a value"},
	{name: "broken inside a skipped value", body: `{"a":{"b":[1,{"c":tru}]}}`, err: "not JSON at byte 18: expected a value"},
	{name: "brackets that do not fit", body: `{"a":[1}}`, err: "not JSON at byte 7: expected a comma or the end of the array"},
	{name: "too deep", body: `{"a":` + strings.Repeat("[", 514) + strings.Repeat("]", 514) + `}`, err: "not JSON at byte 518: nested too deeply"},
	{name: "too deep, in objects", body: `{"a":` + strings.Repeat(`{"a":`, 513) + `1` + strings.Repeat("}", 514), err: "not JSON at byte 2566: nested too deeply"},
	{name: "as deep as may be", shape: shapeBatch, body: `{"batch":[{"type":"track","event":"e"}],"a":` + strings.Repeat(`{"a":`, 512) + `1` + strings.Repeat("}", 513), events: []string{"e||1"}},
	{name: "deep enough", body: `{"event":"e","a":` + strings.Repeat("[", 400) + strings.Repeat("]", 400) + `}`, events: []string{"e||1"}},
	{name: "NaN outside of messages", shape: shapeBatch, body: `{"batch":[],"context":{"a":NaN}}`, err: "not JSON at byte 27: NaN is not JSON"},

	// Webhooks.
	{name: "webhook with one message", shape: shapeArray, body: `{"type":"track","event":"e"}`, events: []string{"e||1"}},
	{name: "webhook with an array", shape: shapeArray, body: ` [{"type":"track","event":"e"},{"type":"track"}]`, events: []string{"e||1"}, problem: "[1].event: missing"},
}

// reading is what the handler does with a body, up to the events.
type reading struct {
	decoder
	resolver
	tally tally
}

func newReading(change ...func(*Config)) *reading {
	cfg := createDefaultConfig().(*Config)
	cfg.MaxMessageSize = 1000
	cfg.Events = []EventType{"track", "page", "screen"}
	cfg.Properties = []string{"plan", "n", "value"}
	for _, c := range change {
		c(cfg)
	}
	return &reading{decoder: decoder{rules: newRules(cfg)}}
}

func keepNothing(c *Config) { c.Properties = nil }

func (r *reading) reset() {
	r.decoder.reset()
	r.resolver = resolver{r.events[:0], r.texts[:0]}
	r.tally = tally{}
}

// read reads body as the shape says, after a reset.
func (r *reading) read(body []byte, s shape, typ callType) *bodyError {
	r.reset()
	switch s {
	case shapeBatch:
		return r.decodeBatch(body, &r.tally)
	case shapeArray:
		return r.decodeWebhook(body, &r.tally)
	default:
		return r.decode(body, typ, &r.tally)
	}
}

// take is read, and then makes events of what it read.
func (r *reading) take(body []byte, s shape, typ callType) *bodyError {
	err := r.read(body, s, typ)
	if err == nil {
		r.resolve(&r.content, r.key, len(r.key) > 0 && s == shapeBatch, testReceived, &r.tally)
	}
	return err
}

var callTrack = callNamed([]byte("track"))

func TestDecode(t *testing.T) {
	r := newReading()
	for _, tt := range decodeTests {
		t.Run(tt.name, func(t *testing.T) {
			err := r.take([]byte(tt.body), tt.shape, callTrack)
			if tt.err != "" {
				require.NotNil(t, err)
				assert.Equal(t, tt.err, err.message)
				return
			}
			require.Nil(t, err)
			var events []string
			for _, e := range r.events {
				events = append(events, string(e.name)+"|"+string(e.source)+"|"+formatFloat(e.value))
			}
			assert.Equal(t, tt.events, events)
			problem := ""
			if r.tally.wrong > 0 {
				problem = r.describe(r.tally.first)
			}
			assert.Equal(t, tt.problem, problem)
		})
	}
}

// TestOracle holds the oracle to the same cases, so that the fuzz test compares two things that were right once.
func TestOracle(t *testing.T) {
	events := 0
	for _, tt := range decodeTests {
		if tt.err != "" || !json.Valid([]byte(tt.body)) || !utf8.ValidString(tt.body) {
			continue
		}
		typ, s := callUnknown, tt.shape
		switch {
		case s == shapeMessage:
			typ = callTrack
		case s == shapeArray && tt.body[0] == '{':
			s = shapeMessage
		}
		result, err := oracleDecode(newReading().rules, s, tt.shape == shapeArray, typ, []byte(tt.body), testReceived)
		require.NoError(t, err, tt.name)
		var got []string
		for _, e := range result.Events {
			got = append(got, e.Name+"|"+e.Source+"|"+formatFloat(e.Value))
		}
		assert.Equal(t, tt.events, got, tt.name)
		events += len(got)
	}
	assert.Greater(t, events, 50)
}

// TestKeptProperties: of a property that is given twice the last counts, also if it is none of those that can be kept.
func TestKeptProperties(t *testing.T) {
	for _, tt := range []struct {
		properties string
		want       map[string]any
	}{
		{`{"plan":"a","n":1,"value":2.5,"other":"x"}`, map[string]any{"plan": "a", "n": int64(1), "value": 2.5}},
		{`{"plan":true,"n":false}`, map[string]any{"plan": true, "n": false}},
		{`{"n":9007199254740993}`, map[string]any{"n": int64(9007199254740993)}},
		{`{"n":1e2}`, map[string]any{"n": 100.0}},
		{`{"n":12345678901234567890}`, map[string]any{"n": 12345678901234567890.0}},
		{`{"n":1e999}`, map[string]any{}},
		{`{"plan":"a","plan":"b"}`, map[string]any{"plan": "b"}},
		{`{"plan":"a","n":1,"plan":null}`, map[string]any{"n": int64(1)}},
		{`{"Plan":"a"}`, map[string]any{}},
		{`{"plan":"a"},"properties":null`, map[string]any{}},
		{`{"plan":"a","n":1},"properties":{"plan":"b"}`, map[string]any{"plan": "b"}},
		{`{"plan":{"plan":"a"},"n":["n"]}`, map[string]any{}},
	} {
		r := newReading()
		require.Nil(t, r.take([]byte(`{"event":"e","properties":`+tt.properties+`}`), shapeMessage, callTrack))
		require.Len(t, r.events, 1)
		builder := newTestBuilder(r)
		metrics := builder.build(r.events, r.properties, nil)
		attributes := metrics.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Gauge().DataPoints().At(0).Attributes()
		tt.want["source"] = "e"
		assert.Equal(t, tt.want, attributes.AsRaw(), tt.properties)
		assert.Equal(t, len(tt.want), attributes.Len(), tt.properties)
	}
}

func TestDecodeTakesTheClientsClockSkewOut(t *testing.T) {
	at := func(text string) string {
		v, err := time.Parse(time.RFC3339Nano, text)
		require.NoError(t, err)
		return v.UTC().Format(time.RFC3339Nano)
	}
	received := testReceived.Format(time.RFC3339Nano)
	for _, tt := range []struct {
		name    string
		batch   bool
		webhook bool
		fields  string
		want    string
	}{
		{name: "no timestamp", fields: ``, want: received},
		{name: "no timestamp, but sentAt", fields: `"sentAt":"2026-05-04T00:00:00Z"`, want: received},
		{name: "timestamp alone", fields: `"timestamp":"2026-05-01T02:03:04.567Z"`, want: "2026-05-01T02:03:04.567Z"},
		{name: "unparsable", fields: `"timestamp":"yesterday","sentAt":"2026-05-04T00:00:00Z"`, want: received},
		{name: "Unix seconds", fields: `"timestamp":1777863721`, want: "2026-05-04T03:02:01Z"},
		{name: "Unix milliseconds", fields: `"timestamp":1777863721500`, want: "2026-05-04T03:02:01.5Z"},
		{name: "a clock that is centuries ahead", fields: `"timestamp":"1970-01-02T00:00:00Z","sentAt":"2199-12-31T00:00:00Z"`, want: "1970-01-01T00:00:00.000000001Z"},
		{name: "Go's zero time", fields: `"timestamp":"0001-01-01T00:00:00Z"`, want: received},
		{name: "the clock is an hour behind", fields: `"timestamp":"2026-05-04T02:02:00Z","sentAt":"2026-05-04T02:02:01.5Z"`, want: "2026-05-04T03:02:00Z"},
		{name: "originalTimestamp as rudder sends it", fields: `"originalTimestamp":"2026-05-04T02:02:00Z","sentAt":"2026-05-04T02:02:01.5Z"`, want: "2026-05-04T03:02:00Z"},
		{name: "corrected already", fields: `"originalTimestamp":"2026-05-04T02:02:00Z","timestamp":"2026-05-04T01:00:00Z","sentAt":"2026-05-04T02:02:01.5Z"`, want: "2026-05-04T01:00:00Z"},
		{name: "a batch's sentAt", batch: true, fields: `"timestamp":"2026-05-04T02:02:00Z"`, want: "2026-05-04T03:02:00Z"},
		{name: "a batch's sentAt beats the message's", batch: true, fields: `"timestamp":"2026-05-04T02:02:00Z","sentAt":"2026-05-04T01:00:00Z"`, want: "2026-05-04T03:02:00Z"},
		{name: "webhooks are corrected", webhook: true, fields: `"timestamp":"2026-05-04T02:02:00Z","sentAt":"2026-05-04T01:00:00Z"`, want: "2026-05-04T02:02:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newReading()
			message := `{"type":"track","event":"e"`
			if tt.fields != "" {
				message += "," + tt.fields
			}
			message += "}"
			switch {
			case tt.batch:
				batch := `{"batch":[` + message + `],"timestamp":"2001-01-01T00:00:00Z","sentAt":"2026-05-04T02:02:01.5Z"}`
				require.Nil(t, r.take([]byte(batch), shapeBatch, callUnknown))
			case tt.webhook:
				require.Nil(t, r.take([]byte(message), shapeArray, callUnknown))
			default:
				require.Nil(t, r.take([]byte(message), shapeMessage, callTrack))
			}
			require.Len(t, r.events, 1)
			assert.Equal(t, at(tt.want), time.Unix(0, r.events[0].time).UTC().Format(time.RFC3339Nano))
		})
	}
}

func TestParseTime(t *testing.T) {
	for text, want := range map[string]string{
		"2026-05-04T03:02:01Z":                "2026-05-04T03:02:01Z",
		"2026-05-04T03:02:01.123456789Z":      "2026-05-04T03:02:01.123456789Z",
		"2026-05-04T03:02:01.1234567899Z":     "2026-05-04T03:02:01.123456789Z",
		"2026-05-04T05:02:01+02:00":           "2026-05-04T03:02:01Z",
		"2026-05-04T05:02:01.5+0200":          "2026-05-04T03:02:01.5Z",
		"2026-05-03T22:32:01-04:30":           "2026-05-04T03:02:01Z",
		"2026-05-04T05:02:01+02":              "2026-05-04T03:02:01Z",
		"2026-05-04 03:02:01":                 "2026-05-04T03:02:01Z",
		"2026-05-04T03:02Z":                   "2026-05-04T03:02:00Z",
		"2026-05-04":                          "2026-05-04T00:00:00Z",
		"2024-02-29":                          "2024-02-29T00:00:00Z",
		"2016-12-31T23:59:60Z":                "2017-01-01T00:00:00Z",
		"1777863721":                          "2026-05-04T03:02:01Z",
		"1777863721500":                       "2026-05-04T03:02:01.5Z",
		"2000-02-29":                          "2000-02-29T00:00:00Z",
		"2026-05-04T03:02:01+23:59":           "2026-05-03T03:03:01Z",
		"2026-05-04T03:59:59Z":                "2026-05-04T03:59:59Z",
		"":                                    "",
		"2023-02-29":                          "",
		"1900-02-29":                          "",
		"2100-02-29":                          "",
		"2026-04-31":                          "",
		"2026-05-32":                          "",
		"2026-05-00":                          "",
		"2026-00-04":                          "",
		"2026-05-04T03:60Z":                   "",
		"2026-05-04T03:02:61Z":                "",
		"2026-05-04T03:02:5":                  "",
		"2026-05-04T03:02:":                   "",
		"2026-05-04T03:02:01+24:00":           "",
		"2026-05-04T03:02:01+02:60":           "",
		"2026-13-01":                          "",
		"2026-05-04T24:00:00Z":                "",
		"2026-05-04T03:02:01.Z":               "",
		"2026-05-04T03:02:01X":                "",
		"2026-05-04T03:02:01+2":               "",
		"2026-05-04T03:02:01+25:00":           "",
		"1969-12-31T23:59:59Z":                "",
		"2200-01-01":                          "",
		"Mon May 04 2026 03:02:01 GMT+0000":   "",
		"177786372x":                          "",
		strings.Repeat("2026-05-04", 1000):    "",
		"2026-05-04T03:02:01.5000000+00:00 x": "",
	} {
		got := ""
		if v := parseTime(slices.Clip([]byte(text))); v != 0 { // no byte beyond its end may be read
			got = time.Unix(0, v).UTC().Format(time.RFC3339Nano)
		}
		assert.Equal(t, want, got, text)
	}
}

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// TestKeysByLettersAndDigits: what else is in a key does not count, control characters included.
func TestKeysByLettersAndDigits(t *testing.T) {
	for _, key := range []string{"value", "VALUE", "$value", "v_alue", " value ", "val\x11ue", "v\x00alue\x19", "valüue"} {
		assert.True(t, means([]byte(key), "value"), "%q", key)
	}
	for _, key := range []string{"", "$", "valu", "values", "value1", "v4lue", "1value", "\x11", "vAlu\x05", "\x10valu"} {
		assert.False(t, means([]byte(key), "value"), "%q", key)
	}
}

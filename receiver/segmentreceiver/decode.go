// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

// This file turns the JSON that Segment's clients send into events. It is organised from the outside in:
//   - what comes out: event, and the outcomes of messages that are no event
//   - decoder: one request; decode, decodeBatch and decodeWebhook are its entries, resolve its end
//   - the fields of a message, of its context, integrations and properties
//   - JSON itself: members of objects, skipped values, strings, numbers, times
//
// The bytes are walked once. Whatever is not needed is skipped, but checked on the way: body is JSON or it is refused.
// Positions are indexes into decoder.body, which ends with zeros, so that reading a byte or eight at a position up to
// its end needs no check; functions take the position of what they read and return the one after it, or -1 when
// the JSON cannot be followed (decoder.err says why). What can be followed yet is not JSON, like the NaN that Python
// writes, costs the message that holds it, not its neighbours.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// messageType is the call that a message is.
type messageType uint8

const (
	typeUnknown messageType = iota
	typeTrack
	typePage
	typeScreen
	typeIdentify
	typeGroup
	typeAlias
	messageTypes
)

// outcome says what became of a message. Those after outcomePipeline are the decoder's reasons to refuse it.
type outcome uint8

const (
	outcomeAccepted outcome = iota
	outcomeIgnored
	outcomeDisabled
	outcomeDuplicate
	outcomePipeline
	outcomeInvalidJSON
	outcomeInvalidMessage
	outcomeTooLarge
	outcomeUnknownType
	outcomeMissingEvent
	outcomeInvalidValue
	outcomeForeignKey
	outcomes
)

// event is a message that becomes a data point. Its bytes belong to the request's body or to the decoder.
type event struct {
	name   []byte  // as sent; a page's or screen's as Segment's Librato destination named it
	source []byte  // empty: the default, which is the cleaned name
	id     []byte  // messageId; empty: none
	value  float64 // properties.value, or 1
	time   int64   // Unix nanoseconds; after resolve
	hash   uint64  // of write key and id, see idset.Hash; 0: none. Set by the deduplicator's caller

	properties [2]int32 // its part of decoder.properties
	index      int32    // its place in the batch
	typ        messageType

	// What resolve needs and consumes.
	key                         []byte // the message's own writeKey
	timestamp, original, sentAt int64  // Unix nanoseconds; 0: absent or not a time
	rank                        sourceRank
	all, librato                flagValue
	wrong                       outcome // outcomeAccepted: nothing
	duplicate                   bool    // the deduplicator's
}

// property is a property that is kept as an attribute.
type property struct {
	name    int32 // index into decoder.keep
	kind    byte  // 's' string, 'd' double, 'i' integer, 't' or 'f' boolean
	text    []byte
	double  float64
	integer int64
}

// sourceRank says where the source of a message stands, the first that is there counts.
// Source: the order in which Segment's Librato destination looked.
type sourceRank uint8

const (
	rankIntegrations   sourceRank = iota // integrations.Librato.source
	rankContextLibrato                   // context.Librato.source
	rankOptionsLibrato                   // options.Librato.source, of older SDKs
	rankContext                          // context.source
	rankOptions                          // options.source
	sourceRanks                          // none of them
)

// flagValue is what `integrations` says of one integration.
type flagValue uint8

const (
	flagNone flagValue = iota
	flagFalse
	flagTrue // or an object
)

// scope is what a message, or the batch for all its messages, says about where events go.
type scope struct {
	sources      [sourceRanks][]byte
	all, librato flagValue
}

// best returns the first source there is, and where it stands.
func (s *scope) best() (sourceRank, []byte) {
	for rank, source := range s.sources {
		if len(source) > 0 {
			return sourceRank(rank), source //nolint:gosec // less than sourceRanks
		}
	}
	return sourceRanks, nil
}

// message is one message while it is walked.
type message struct {
	scope
	typ                         messageType
	hasType                     bool
	valueIsNoNumber             bool
	hasValue                    bool
	value                       float64
	event, name, category       []byte
	id, key                     []byte
	timestamp, original, sentAt int64
	properties                  int // where its part of decoder.properties begins
}

// offender is the first message of a request that was refused.
type offender struct {
	index          int
	outcome        outcome
	field, problem string
}

// bodyError says why a body is refused as a whole. Its message names places, never contents.
type bodyError struct {
	code, message string
}

// shape is what a body is.
type shape uint8

const (
	shapeMessage shape = iota // one message
	shapeBatch                // {"batch":[…]}
	shapeArray                // [message, …], of a webhook
)

// decoder holds what one request says. The zero value with limits set is ready; reset makes it so again. It allocates
// only while it grows.
type decoder struct {
	// Limits and wishes, the same for all requests.
	maxMessageSize int
	wanted         [messageTypes]bool
	keep           []string

	shape    shape
	webhook  bool // times are Segment's own, corrected already
	body     []byte
	size     int // of the body without its padding
	err      *bodyError
	softAt   int // where the message at hand stops being JSON, if soft is set
	soft     string
	element  int // number of the message at hand; -1 outside of one
	message  message
	first    []byte // the raw bytes of the first message, which a webhook's signature covers
	arena    []byte // strings that had escapes in them
	offender offender

	events     []event
	properties []property
	messages   int
	refused    int
	counts     [messageTypes][outcomes]int64

	// What the batch says for all its messages; of a single message, what it says itself.
	batch       scope
	batchSentAt int64
	key         []byte // writeKey
	messageKey  []byte // the first writeKey that a message of a batch carries
}

// padding follows the body: eight zeros, so that eight bytes can be read at its last.
var padding [8]byte

// maxDepth is how deep a value may be nested below the fields that are read.
const maxDepth = 512

func (d *decoder) reset() {
	limits := decoder{maxMessageSize: d.maxMessageSize, wanted: d.wanted, keep: d.keep}
	limits.events, limits.properties, limits.arena = d.events[:0], d.properties[:0], d.arena[:0]
	*d = limits
}

func (d *decoder) begin(body []byte, s shape, element int) {
	d.body = append(body, padding[:]...) //nolint:gocritic // the padding belongs to the decoder
	d.size = len(body)
	d.shape = s
	d.element = element
	d.offender.index = math.MaxInt
}

// decode reads body, one message of the given type; typeUnknown takes the message's own. The body is free again
// when the events and d are no longer used; up to eight bytes after its end, within its capacity, are overwritten.
func (d *decoder) decode(body []byte, typ messageType) *bodyError {
	d.begin(body, shapeMessage, 0)
	i := d.space(0)
	if d.body[i] != '{' {
		return d.notAnObject(i)
	}
	i = d.readMessage(i, typ)
	d.key, d.messageKey = d.messageKey, nil
	return d.end(i)
}

// decodeBatch reads body, {"batch":[message, …]} with what goes for all messages before or after.
func (d *decoder) decodeBatch(body []byte) *bodyError {
	d.begin(body, shapeBatch, -1)
	i := d.space(0)
	if d.body[i] != '{' {
		return d.notAnObject(i)
	}
	seen := false
	i, more := d.enter(i)
	for more {
		var key []byte
		key, i = d.member(i)
		if i < 0 {
			break
		}
		switch string(key) {
		case "batch":
			if d.body[i] != '[' {
				return &bodyError{"invalid_request", "batch: not an array"}
			}
			if seen {
				return &bodyError{"invalid_request", "batch: given twice"}
			}
			seen = true
			i = d.readArray(i)
		case "context":
			i = d.readContext(i, &d.batch, rankContextLibrato, rankContext)
		case "options":
			i = d.readContext(i, &d.batch, rankOptionsLibrato, rankOptions)
		case "integrations":
			i = d.readIntegrations(i, &d.batch)
		case "sentAt":
			d.batchSentAt, i = d.readTime(i)
		case "writeKey":
			d.key, i = d.readText(i)
		default: // messageId (Go) and timestamp (Node) of a batch belong to no message
			i = d.skip(i)
		}
		i, more = d.leave(i)
	}
	if err := d.end(i); err != nil {
		return err
	}
	if !seen {
		return &bodyError{"invalid_request", "batch: missing"}
	}
	return nil
}

// decodeWebhook reads body as Segment's Webhooks destination sends it: a message, or an array of messages.
func (d *decoder) decodeWebhook(body []byte) *bodyError {
	d.webhook = true
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '[' {
		return d.decode(body, typeUnknown)
	}
	d.begin(body, shapeArray, -1)
	return d.end(d.readArray(d.space(0)))
}

// end checks that nothing but space follows.
func (d *decoder) end(i int) *bodyError {
	if i >= 0 {
		if i = d.space(i); i < d.size {
			i = d.fail(i, "text after the end of the JSON value")
		} else if d.soft != "" && d.shape != shapeMessage {
			i = d.fail(d.softAt, d.soft)
		}
	}
	if i < 0 {
		return d.err
	}
	return nil
}

func (d *decoder) notAnObject(i int) *bodyError {
	if i = d.skip(i); i < 0 || d.end(i) != nil {
		return d.err
	}
	return &bodyError{"invalid_request", "the body is not a JSON object"}
}

// resolve applies what goes for the whole request, in whatever order it stood in the body: events that are off or
// wrong are taken out of d.events and counted, those left get their source and time. key is the request's write key;
// if strict, a message that carries another is refused.
func (d *decoder) resolve(key []byte, strict bool, received time.Time) {
	rank, source := d.batch.best()
	now := received.UnixNano()
	kept := 0
	for i := range d.events {
		e := &d.events[i]
		if e.all == flagNone {
			e.all = d.batch.all
		}
		if e.librato == flagNone {
			e.librato = d.batch.librato
		}
		switch {
		case strict && len(e.key) > 0 && !bytes.Equal(e.key, key):
			d.refuse(e.typ, outcomeForeignKey, int(e.index), "writeKey", "not the write key of the request")
		case e.librato == flagFalse || (e.all == flagFalse && e.librato == flagNone):
			d.counts[e.typ][outcomeDisabled]++
		case e.wrong != outcomeAccepted:
			field, problem := "event", "missing"
			if e.wrong == outcomeInvalidValue {
				field, problem = "properties.value", "not a number"
			}
			d.refuse(e.typ, e.wrong, int(e.index), field, problem)
		default:
			if rank < e.rank {
				e.source = source
			}
			e.time = d.timeOf(e, now)
			if kept != i {
				d.events[kept] = *e
			}
			kept++
		}
	}
	d.events = d.events[:kept]
}

// dropDuplicates takes the events out that the deduplicator marked as copies, and counts them.
func (d *decoder) dropDuplicates() {
	kept := 0
	for i := range d.events {
		e := &d.events[i]
		if e.duplicate {
			d.counts[e.typ][outcomeDuplicate]++
			continue
		}
		if kept != i {
			d.events[kept] = *e
		}
		kept++
	}
	d.events = d.events[:kept]
}

// timeOf returns when e happened. A client's clock may be wrong, so its timestamp is moved by the difference between
// when it says that it sent and when that was received.
func (d *decoder) timeOf(e *event, received int64) int64 {
	t := e.timestamp
	if t == 0 {
		t = e.original
	} else if e.original != 0 {
		return t // Segment has corrected it
	}
	if t == 0 {
		return received
	}
	sentAt := d.batchSentAt // the request's own, set as it is sent
	if sentAt == 0 {
		sentAt = e.sentAt
	}
	if sentAt == 0 || d.webhook {
		return t
	}
	return max(1, received-(sentAt-t))
}

// refuse counts a message as refused.
func (d *decoder) refuse(typ messageType, why outcome, index int, field, problem string) {
	d.counts[typ][why]++
	d.refused++
	if index < d.offender.index {
		d.offender = offender{index, why, field, problem}
	}
}

// path returns where the message with the given index, or one of its fields, stands in the body.
func (d *decoder) path(index int, field string) string {
	var path string
	switch d.shape {
	case shapeMessage:
		return field
	case shapeBatch:
		path = "batch[" + strconv.Itoa(index) + "]"
	case shapeArray:
		path = "[" + strconv.Itoa(index) + "]"
	}
	if field != "" {
		path += "." + field
	}
	return path
}

// describe returns what is wrong and where, "batch[17].event: missing".
func (o *offender) describe(d *decoder) string {
	if path := d.path(o.index, o.field); path != "" {
		return path + ": " + o.problem
	}
	return o.problem
}

// readArray reads the messages of the array at i.
func (d *decoder) readArray(i int) int {
	i = d.space(i + 1)
	if d.body[i] == ']' {
		return i + 1
	}
	if d.soft != "" { // so far none of a message's
		return d.fail(d.softAt, d.soft)
	}
	for n := 0; ; n++ {
		d.element = n
		if d.body[i] == '{' {
			i = d.readMessage(i, typeUnknown)
		} else {
			if i = d.skip(i); i < 0 {
				return i
			}
			d.messages++
			d.soft = ""
			d.refuse(typeUnknown, outcomeInvalidMessage, n, "", "not an object")
		}
		if i < 0 {
			return i
		}
		i = d.space(i)
		switch d.body[i] {
		case ',':
			i = d.space(i + 1)
		case ']':
			d.element = -1
			return i + 1
		default:
			return d.fail(i, "expected a comma or the end of the array")
		}
	}
}

// readMessage reads the message at i. typ is its type if the route says so, typeUnknown if the message does.
func (d *decoder) readMessage(i int, typ messageType) int {
	start := i
	m := &d.message
	*m = message{properties: len(d.properties)}
	i, more := d.enter(i)
	for more {
		var key []byte
		key, i = d.member(i)
		if i < 0 {
			return i
		}
		switch string(key) {
		case "type":
			var text []byte
			text, i = d.readText(i)
			m.typ, m.hasType = typeOf(text), text != nil
		case "event":
			m.event, i = d.readText(i)
		case "name":
			m.name, i = d.readText(i)
		case "category":
			m.category, i = d.readText(i)
		case "properties":
			i = d.readProperties(i)
		case "context":
			i = d.readContext(i, &m.scope, rankContextLibrato, rankContext)
		case "options":
			i = d.readContext(i, &m.scope, rankOptionsLibrato, rankOptions)
		case "integrations":
			i = d.readIntegrations(i, &m.scope)
		case "timestamp":
			m.timestamp, i = d.readTime(i)
		case "originalTimestamp":
			m.original, i = d.readTime(i)
		case "sentAt":
			m.sentAt, i = d.readTime(i)
		case "messageId":
			m.id, i = d.readText(i)
		case "writeKey":
			m.key, i = d.readText(i)
		default:
			i = d.skip(i)
		}
		i, more = d.leave(i)
	}
	if i < 0 {
		return i
	}
	if d.messages == 0 {
		d.first = d.body[start:i]
	}
	if len(d.messageKey) == 0 {
		d.messageKey = m.key
	}
	if typ == typeUnknown {
		typ = m.typ
	}
	d.messages++
	d.endMessage(i-start, typ)
	return i
}

// endMessage makes the message at hand, size bytes long, an event or counts it.
func (d *decoder) endMessage(size int, typ messageType) {
	m := &d.message
	switch {
	case d.soft != "":
		d.refuse(typ, outcomeInvalidJSON, d.element, "", d.soft+" (byte "+strconv.Itoa(d.softAt)+")")
		d.soft = ""
	case size > d.maxMessageSize:
		d.refuse(typ, outcomeTooLarge, d.element, "", fmt.Sprintf("%d bytes, more than the %d that a message may have", size, d.maxMessageSize))
	case typ == typeUnknown && !m.hasType:
		d.refuse(typ, outcomeUnknownType, d.element, "type", "missing")
	case typ == typeUnknown:
		d.refuse(typ, outcomeUnknownType, d.element, "type", "not track, page, screen, identify, group or alias")
	case !d.wanted[typ]:
		d.counts[typ][outcomeIgnored]++
	default:
		d.addEvent(typ)
		return
	}
	d.properties = d.properties[:m.properties]
}

func (d *decoder) addEvent(typ messageType) {
	m := &d.message
	if len(d.events) < cap(d.events) {
		d.events = d.events[:len(d.events)+1]
	} else {
		d.events = append(d.events, event{})
	}
	e := &d.events[len(d.events)-1]
	*e = event{
		id: m.id, value: 1, key: m.key, typ: typ,
		index:     int32(d.element), //nolint:gosec // a body's size bounds it
		timestamp: m.timestamp, original: m.original, sentAt: m.sentAt,
		all: m.all, librato: m.librato,
		properties: [2]int32{int32(m.properties), int32(len(d.properties))}, //nolint:gosec // as index
	}
	e.rank, e.source = m.best()
	if m.hasValue {
		e.value = m.value
	}
	switch typ {
	case typePage:
		e.name = d.viewed(m.category, m.name, "Page")
	case typeScreen:
		e.name = d.viewed(m.category, m.name, "Screen")
	default:
		e.name = m.event
	}
	switch {
	case len(e.name) == 0:
		e.wrong = outcomeMissingEvent
	case m.valueIsNoNumber:
		e.wrong = outcomeInvalidValue
	}
}

// viewed returns the name that Segment's Librato destination gave a page or screen.
func (d *decoder) viewed(category, name []byte, what string) []byte {
	start := len(d.arena)
	if len(name) == 0 {
		d.arena = append(append(d.arena, "Loaded a "...), what...)
	} else {
		d.arena = append(d.arena, "Viewed "...)
		if len(category) > 0 {
			d.arena = append(append(d.arena, category...), ' ')
		}
		d.arena = append(append(append(d.arena, name...), ' '), what...)
	}
	return d.arena[start:len(d.arena):len(d.arena)]
}

func typeOf(text []byte) messageType {
	switch string(text) {
	case "track":
		return typeTrack
	case "page":
		return typePage
	case "screen":
		return typeScreen
	case "identify":
		return typeIdentify
	case "group":
		return typeGroup
	case "alias":
		return typeAlias
	default:
		return typeUnknown
	}
}

// readProperties reads `properties` of the message at hand. Of keys that are the same, or differ only in case where
// that does not matter, the last counts, here as everywhere.
func (d *decoder) readProperties(i int) int {
	m := &d.message
	m.hasValue, m.valueIsNoNumber = false, false
	d.properties = d.properties[:m.properties]
	if d.body[i] != '{' {
		return d.skip(i)
	}
	i, more := d.enter(i)
	for more {
		var key []byte
		key, i = d.member(i)
		if i < 0 {
			return i
		}
		start := i
		if len(key) == len("value") && key[0]|0x20 == 'v' && bytes.EqualFold(key, []byte("value")) {
			i = d.readValue(i)
		} else {
			i = d.skip(i)
		}
		if len(d.keep) > 0 && i >= 0 {
			d.keepProperty(key, start, i)
		}
		i, more = d.leave(i)
	}
	return i
}

// readValue reads properties.value: a number, a string that is one, or null for none.
func (d *decoder) readValue(i int) int {
	m := &d.message
	m.hasValue, m.valueIsNoNumber = false, false
	start := i
	switch c := d.body[i]; {
	case c == 'n':
		return d.skip(i)
	case c == '"':
		var text []byte
		text, i = d.readText(i)
		m.value, m.hasValue = parseNumericString(text)
	case c == '-' || c-'0' <= 9:
		if i = d.skip(i); i >= 0 {
			m.value, m.hasValue = parseNumber(d.body[start:i])
		}
	default:
		i = d.skip(i)
	}
	m.valueIsNoNumber = !m.hasValue
	return i
}

// keepProperty keeps the property at body[start:end], if it is one of those to keep and a string, number or boolean.
func (d *decoder) keepProperty(key []byte, start, end int) {
	name := int32(-1)
	for i, k := range d.keep {
		if k == string(key) {
			name = int32(i) //nolint:gosec // a setting's length
			break
		}
	}
	if name < 0 || d.soft != "" {
		return
	}
	own := d.properties[d.message.properties:]
	for i := range own {
		if own[i].name == name { // given before
			own[i] = own[len(own)-1]
			d.properties = d.properties[:len(d.properties)-1]
			break
		}
	}
	a := property{name: name}
	switch c := d.body[start]; {
	case c == '"':
		a.kind = 's'
		a.text, _ = d.readText(start)
	case c == 't' || c == 'f':
		a.kind = c
	case c == '-' || c-'0' <= 9:
		raw := d.body[start:end]
		a.kind = 'i'
		var err error
		if bytes.ContainsAny(raw, ".eE") {
			err = strconv.ErrSyntax
		} else {
			a.integer, err = strconv.ParseInt(string(raw), 10, 64)
		}
		if err != nil {
			var ok bool
			a.kind = 'd'
			if a.double, ok = parseNumber(raw); !ok {
				return
			}
		}
	default:
		return
	}
	d.properties = append(d.properties, a)
}

// readContext reads `context` or `options`, which hold the source at two places.
func (d *decoder) readContext(i int, s *scope, librato, plain sourceRank) int {
	s.sources[librato], s.sources[plain] = nil, nil
	if d.body[i] != '{' {
		return d.skip(i)
	}
	i, more := d.enter(i)
	for more {
		var key []byte
		key, i = d.member(i)
		if i < 0 {
			return i
		}
		switch {
		case string(key) == "source":
			s.sources[plain], i = d.readSource(i)
		case isLibrato(key):
			s.sources[librato], i = d.readLibrato(i)
		default:
			i = d.skip(i)
		}
		i, more = d.leave(i)
	}
	return i
}

// readIntegrations reads `integrations`, which holds the flags and, where options are given, the source.
func (d *decoder) readIntegrations(i int, s *scope) int {
	s.sources[rankIntegrations], s.all, s.librato = nil, flagNone, flagNone
	if d.body[i] != '{' {
		return d.skip(i)
	}
	i, more := d.enter(i)
	for more {
		var key []byte
		key, i = d.member(i)
		if i < 0 {
			return i
		}
		switch {
		case isLibrato(key):
			if key[0] == 'L' && string(key) == "Librato" { // as a flag the name is case sensitive
				s.librato = d.flag(i)
			}
			s.sources[rankIntegrations], i = d.readLibrato(i)
		case len(key) == len("all") && bytes.EqualFold(key, []byte("all")):
			s.all = d.flag(i)
			i = d.skip(i)
		default:
			i = d.skip(i)
		}
		i, more = d.leave(i)
	}
	return i
}

func isLibrato(key []byte) bool {
	return len(key) == len("librato") && key[0]|0x20 == 'l' && bytes.EqualFold(key, []byte("librato"))
}

// flag returns what the value at i says as a flag.
func (d *decoder) flag(i int) flagValue {
	switch d.body[i] {
	case 'f':
		return flagFalse
	case 't', '{':
		return flagTrue
	default:
		return flagNone
	}
}

// readLibrato reads the options for Librato at i and returns their source.
func (d *decoder) readLibrato(i int) (source []byte, next int) {
	if d.body[i] != '{' {
		return nil, d.skip(i)
	}
	i, more := d.enter(i)
	for more {
		var key []byte
		key, i = d.member(i)
		if i < 0 {
			return nil, i
		}
		if string(key) == "source" {
			source, i = d.readSource(i)
		} else {
			i = d.skip(i)
		}
		i, more = d.leave(i)
	}
	return source, i
}

// readSource reads a source, which is a string that is not empty, or a number as it stands; nil if it is neither.
func (d *decoder) readSource(i int) (source []byte, next int) {
	if c := d.body[i]; c == '-' || c-'0' <= 9 {
		next = d.skip(i)
		if next < 0 {
			return nil, next
		}
		return d.body[i:next], next
	}
	return d.readText(i)
}

// readText reads the value at i and returns it if it is a string, else nil.
func (d *decoder) readText(i int) (text []byte, next int) {
	if d.body[i] != '"' {
		return nil, d.skip(i)
	}
	next, escaped := d.str(i + 1)
	if next < 0 {
		return nil, next
	}
	text = d.body[i+1 : next-1 : next-1]
	if escaped {
		text = d.unescape(text)
	}
	return text, next
}

// readTime reads the value at i as a time in Unix nanoseconds, 0 if it is none.
func (d *decoder) readTime(i int) (nanoseconds int64, next int) {
	start := i
	if c := d.body[i]; c-'0' <= 9 {
		next = d.skip(i)
		if next < 0 {
			return 0, next
		}
		return parseTime(d.body[start:next]), next
	}
	text, next := d.readText(i)
	return parseTime(text), next
}

// From here on: JSON.

// fail notes that the JSON cannot be followed at i, and returns -1.
func (d *decoder) fail(i int, what string) int {
	if i >= d.size {
		i, what = d.size, "unexpected end of the body"
	}
	message := "not JSON at byte " + strconv.Itoa(i) + ": " + what
	if d.element >= 0 && d.shape != shapeMessage {
		message = d.path(d.element, "") + ": " + message
	}
	d.err = &bodyError{"invalid_json", message}
	return -1
}

// notJSON notes that what stands at i is not JSON, though it can be followed.
func (d *decoder) notJSON(i int, what string) {
	if d.soft == "" {
		d.soft, d.softAt = what, i
	}
}

func (d *decoder) space(i int) int {
	b := d.body
	for b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// enter goes into the object at i. more says whether it has a member, whose key is then at next.
func (d *decoder) enter(i int) (next int, more bool) {
	i = d.space(i + 1)
	switch d.body[i] {
	case '"':
		return i, true
	case '}':
		return i + 1, false
	default:
		return d.fail(i, "expected a key or the end of the object"), false
	}
}

// member reads the key at i and returns it with the position of its value.
func (d *decoder) member(i int) (key []byte, value int) {
	b := d.body
	next, escaped := d.str(i + 1)
	if next < 0 {
		return nil, next
	}
	key = b[i+1 : next-1]
	if escaped {
		key = d.unescape(key)
	}
	if b[next] != ':' {
		if next = d.space(next); b[next] != ':' {
			return nil, d.fail(next, "expected a colon")
		}
	}
	if next++; b[next] <= ' ' {
		next = d.space(next)
	}
	return key, next
}

// leave goes on after a member that ended at i. more says whether there is another, whose key is then at next. A
// negative i is returned as it is.
func (d *decoder) leave(i int) (next int, more bool) {
	if i < 0 {
		return i, false
	}
	b := d.body
	if b[i] <= ' ' {
		i = d.space(i)
	}
	switch b[i] {
	case ',':
		if i++; b[i] != '"' {
			if i = d.space(i); b[i] != '"' {
				return d.fail(i, "expected a key"), false
			}
		}
		return i, true
	case '}':
		return i + 1, false
	default:
		return d.fail(i, "expected a comma or the end of the object"), false
	}
}

// skip reads the value at i, whatever it is, and returns the position after it.
func (d *decoder) skip(i int) int {
	b := d.body
	var (
		objects [maxDepth / 64]uint64 // a bit for each level: whether it is an object
		depth   int
	)
value:
	switch c := b[i]; c {
	case '"':
		if i, _ = d.str(i + 1); i < 0 {
			return i
		}
	case '{':
		if i++; b[i] <= ' ' {
			i = d.space(i)
		}
		if b[i] == '}' {
			i++
			break
		}
		if depth == maxDepth {
			return d.fail(i, "nested too deeply")
		}
		objects[depth/64] |= 1 << (depth % 64)
		depth++
		goto key
	case '[':
		if i++; b[i] <= ' ' {
			i = d.space(i)
		}
		if b[i] == ']' {
			i++
			break
		}
		if depth == maxDepth {
			return d.fail(i, "nested too deeply")
		}
		objects[depth/64] &^= 1 << (depth % 64)
		depth++
		goto value
	default:
		if i = d.skipWord(i); i < 0 {
			return i
		}
	}

	for depth > 0 {
		if b[i] <= ' ' {
			i = d.space(i)
		}
		object := objects[(depth-1)/64]>>((depth-1)%64)&1 != 0
		switch c := b[i]; {
		case c == ',':
			if i++; b[i] <= ' ' {
				i = d.space(i)
			}
			if object {
				goto key
			}
			goto value
		case c == '}' && object, c == ']' && !object:
			i++
			depth--
		case object:
			return d.fail(i, "expected a comma or the end of the object")
		default:
			return d.fail(i, "expected a comma or the end of the array")
		}
	}
	return i

key:
	if b[i] != '"' {
		return d.fail(i, "expected a key")
	}
	if i, _ = d.str(i + 1); i < 0 {
		return i
	}
	if b[i] != ':' {
		if i = d.space(i); b[i] != ':' {
			return d.fail(i, "expected a colon")
		}
	}
	if i++; b[i] <= ' ' {
		i = d.space(i)
	}
	goto value
}

// skipWord reads a number or one of the words that JSON knows, and those that some clients write although it does not.
func (d *decoder) skipWord(i int) int {
	b := d.body
	switch c := b[i]; {
	case c == 't' && string(b[i:i+4]) == "true", c == 'n' && string(b[i:i+4]) == "null":
		return i + 4
	case c == 'f' && string(b[i:i+5]) == "false":
		return i + 5
	case c == 'N' && string(b[i:i+3]) == "NaN":
		d.notJSON(i, "NaN is not JSON")
		return i + 3
	case c == 'I' && string(b[i:i+8]) == "Infinity":
		d.notJSON(i, "Infinity is not JSON")
		return i + 8
	case c == '-' && b[i+1] == 'I' && string(b[i+1:i+9]) == "Infinity":
		d.notJSON(i, "-Infinity is not JSON")
		return i + 9
	case c == '-' || c-'0' <= 9:
		return d.skipNumber(i)
	default:
		return d.fail(i, "expected a value")
	}
}

// skipNumber reads the number at i: -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
func (d *decoder) skipNumber(i int) int {
	b := d.body
	if b[i] == '-' {
		i++
	}
	switch {
	case b[i] == '0':
		i++
	case b[i]-'1' <= 8:
		for i++; b[i]-'0' <= 9; i++ {
		}
	default:
		return d.fail(i, "expected a digit")
	}
	if b[i] == '.' {
		if i++; b[i]-'0' > 9 {
			return d.fail(i, "expected a digit")
		}
		for i++; b[i]-'0' <= 9; i++ {
		}
	}
	if b[i]|0x20 == 'e' {
		if i++; b[i] == '+' || b[i] == '-' {
			i++
		}
		if b[i]-'0' > 9 {
			return d.fail(i, "expected a digit")
		}
		for i++; b[i]-'0' <= 9; i++ {
		}
	}
	return i
}

// str reads the rest of the string whose opening quote is before i, and says whether there are escapes in it.
func (d *decoder) str(i int) (next int, escaped bool) {
	const (
		ones   = 0x0101010101010101
		highs  = 0x8080808080808080
		quotes = ones * '"'
		slash  = ones * '\\'
		spaces = ones * ' '
	)
	b := d.body
	for {
		// Eight bytes at a time: the lowest high bit set is at the first byte that is a quote, a backslash, a control
		// character or not ASCII. It halves the time of a whole batch.
		for {
			x := binary.LittleEndian.Uint64(b[i:])
			if m := (((x ^ quotes) - ones) | ((x ^ slash) - ones) | (x - spaces) | x) & highs; m != 0 {
				i += bits.TrailingZeros64(m) / 8
				break
			}
			i += 8
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1, escaped
		case c == '\\':
			escaped = true
			i = d.escape(i + 1)
		case c < ' ':
			if i >= d.size {
				return d.fail(i, ""), false
			}
			d.notJSON(i, "a control character in a string")
			i++
		default:
			for b[i] >= utf8.RuneSelf {
				r, size := utf8.DecodeRune(b[i:])
				if r == utf8.RuneError && size == 1 {
					d.notJSON(i, "a string that is not UTF-8")
				}
				i += size
			}
		}
	}
}

// escape reads what follows a backslash.
func (d *decoder) escape(i int) int {
	switch d.body[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		if _, ok := hex4(d.body[i+1:]); ok {
			return i + 5
		}
	}
	d.notJSON(i, "an escape that JSON does not know")
	return i // what follows is read as part of the string
}

// hex4 returns the number that the first four bytes are.
func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c-'0' <= 9:
			r = r<<4 | rune(c-'0')
		case c|0x20-'a' <= 5:
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// unescape returns the string whose raw bytes are given. A surrogate without its other half becomes U+FFFD.
func (d *decoder) unescape(raw []byte) []byte {
	start := len(d.arena)
	for len(raw) > 0 {
		run := bytes.IndexByte(raw, '\\')
		if run < 0 || run+1 == len(raw) {
			run = len(raw)
		}
		d.arena = append(d.arena, raw[:run]...)
		if raw = raw[run:]; len(raw) == 0 {
			break
		}
		c := raw[1]
		raw = raw[2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, ok := hex4(raw)
			if !ok {
				continue
			}
			raw = raw[4:]
			if utf16.IsSurrogate(r) {
				low, ok := rune(0), false
				if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
					low, ok = hex4(raw[2:])
				}
				if r = utf16.DecodeRune(r, low); ok && r != utf8.RuneError {
					raw = raw[6:]
				}
			}
			d.arena = utf8.AppendRune(d.arena, r)
			continue
		}
		d.arena = append(d.arena, c)
	}
	return d.arena[start:len(d.arena):len(d.arena)]
}

// parseNumber returns the value of a JSON number; ok is false if a double cannot hold it.
func parseNumber(raw []byte) (value float64, ok bool) {
	if len(raw) <= 15 { // digits alone are the common case, and exact
		n := int64(0)
		for i, c := range raw {
			if c-'0' > 9 {
				break
			}
			n = n*10 + int64(c-'0')
			if i == len(raw)-1 {
				return float64(n), true
			}
		}
	}
	value, err := strconv.ParseFloat(string(raw), 64)
	return value, err == nil
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

// Times that can be told from nonsense: from 1970 to 2199, so that differences of two fit into nanoseconds.
const maxUnixSeconds = 7258118400

// parseTime returns the Unix nanoseconds of an ISO 8601 time, as the SDKs write it: a date, or a date and a time of day
// with any number of decimals, with Z, +hh:mm, +hhmm, +hh or no zone (UTC). Ten digits alone are Unix seconds,
// thirteen are milliseconds. 0 if text is no time between 1970 and 2199.
func parseTime(text []byte) int64 {
	if n := len(text); (n == 10 || n == 13) && text[4]-'0' <= 9 {
		v, ok := digits(text)
		switch {
		case !ok:
			return 0
		case n == 10:
			return inRange(v, 0)
		default:
			return inRange(v/1000, v%1000*1e6)
		}
	}
	if len(text) < 10 || text[4] != '-' || text[7] != '-' {
		return 0
	}
	year, ok1 := digits(text[:4])
	month, ok2 := digits(text[5:7])
	day, ok3 := digits(text[8:10])
	if !ok1 || !ok2 || !ok3 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0
	}
	seconds := daysSinceEpoch(year, month, day) * 86400
	text = text[10:]
	if len(text) == 0 {
		return inRange(seconds, 0)
	}
	if len(text) < 6 || (text[0]|0x20 != 't' && text[0] != ' ') || text[3] != ':' {
		return 0
	}
	hour, ok1 := digits(text[1:3])
	minute, ok2 := digits(text[4:6])
	if !ok1 || !ok2 || hour > 23 || minute > 59 {
		return 0
	}
	seconds += hour*3600 + minute*60
	text = text[6:]
	nanoseconds := int64(0)
	if len(text) > 0 && text[0] == ':' {
		if len(text) < 3 {
			return 0
		}
		second, ok := digits(text[1:3])
		if !ok || second > 60 { // a leap second is the next minute's first
			return 0
		}
		seconds += second
		text = text[3:]
		if len(text) > 0 && (text[0] == '.' || text[0] == ',') {
			n := 1
			for scale := int64(1e8); n < len(text) && text[n]-'0' <= 9; n++ {
				nanoseconds += int64(text[n]-'0') * scale
				scale /= 10
			}
			if n == 1 {
				return 0
			}
			text = text[n:]
		}
	}
	offset, ok := parseZone(text)
	if !ok {
		return 0
	}
	return inRange(seconds-offset, nanoseconds)
}

// parseZone returns the seconds that a zone, as parseTime takes it, is ahead of UTC.
func parseZone(text []byte) (seconds int64, ok bool) {
	if len(text) == 0 || (len(text) == 1 && text[0]|0x20 == 'z') {
		return 0, true
	}
	sign := int64(1)
	switch text[0] {
	case '+':
	case '-':
		sign = -1
	default:
		return 0, false
	}
	var hours, minutes int64
	okHours, okMinutes := false, true
	switch {
	case len(text) == 3: // +hh
		hours, okHours = digits(text[1:3])
	case len(text) == 5: // +hhmm
		hours, okHours = digits(text[1:3])
		minutes, okMinutes = digits(text[3:5])
	case len(text) == 6 && text[3] == ':': // +hh:mm
		hours, okHours = digits(text[1:3])
		minutes, okMinutes = digits(text[4:6])
	}
	if !okHours || !okMinutes || hours > 23 || minutes > 59 {
		return 0, false
	}
	return sign * (hours*3600 + minutes*60), true
}

func inRange(seconds, nanoseconds int64) int64 {
	if seconds < 0 || seconds >= maxUnixSeconds {
		return 0
	}
	return seconds*1e9 + nanoseconds
}

func digits(text []byte) (n int64, ok bool) {
	for _, c := range text {
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

func daysIn(year, month int64) int64 {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	default:
		return 31
	}
}

// daysSinceEpoch returns the days between 1970-01-01 and a date of the Gregorian calendar, years counted from March so
// that a leap day is the last of its year.
func daysSinceEpoch(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	return 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719468
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

// This file turns the JSON that Segment's clients send into events. It is organised from the outside in:
//   - what comes out: event, and the outcomes of messages that are no event
//   - decoder: one request; decode, decodeBatch and decodeWebhook are its entries, resolve its end
//   - the fields of a message, of its context, integrations and properties
//
// json.go has what it needs of JSON, time.go of times.
//
// The bytes are walked once. Whatever is not needed is skipped, but checked on the way: body is JSON or it is refused.
// Positions are indexes into decoder.body, which ends with zeros, so that reading a byte or sixteen at a position up to
// its end needs no check; functions take the position of what they read and return the one after it, or -1 when
// the JSON cannot be followed (decoder.err says why). What can be followed yet is not JSON, like the NaN that Python
// writes, costs the message that holds it, not its neighbours.

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"
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
	hash   uint64  // of write key and id, see idset.Hasher; 0: none. Set by the deduplicator's caller

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
			return sourceRank(rank), source
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

	// What the message before had.
	context, options echo
	others           [2]echo // of the fields that do not count

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
// when the events and d are no longer used; up to sixteen bytes after its end, within its capacity, are overwritten.
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
			if d.soft != "" {
				d.refuseSoft(typeUnknown)
			} else {
				d.refuse(typeUnknown, outcomeInvalidMessage, n, "", "not an object")
			}
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
	others := 0
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
			i = d.readEchoed(i, &d.context, rankContextLibrato, rankContext)
		case "options":
			i = d.readEchoed(i, &d.options, rankOptionsLibrato, rankOptions)
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
			if d.body[i] == '{' {
				i = d.skipEchoed(i, &d.others[others])
				others = (others + 1) % len(d.others)
			} else {
				i = d.skip(i)
			}
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

// echo is an object of the message before. The messages of a batch come from one SDK and mostly have the same context, and an
// object that is byte for byte what one was before says the same: it takes a fifth off the time of a batch to read it once.
type echo struct {
	object         []byte // as sent; nil: none, or it was not JSON
	librato, plain []byte // the sources in it
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
	if next > 0 && d.soft == "" && d.body[i] == '{' {
		e.object = d.body[i:next]
	}
}

// readEchoed is readContext for the message at hand.
func (d *decoder) readEchoed(i int, e *echo, librato, plain sourceRank) int {
	m := &d.message
	next := e.at(d.body, i)
	if next > 0 {
		m.sources[librato], m.sources[plain] = e.librato, e.plain
		return next
	}
	next = d.readContext(i, &m.scope, librato, plain)
	e.librato, e.plain = m.sources[librato], m.sources[plain]
	d.learn(e, i, next)
	return next
}

// skipEchoed is skip for an object.
func (d *decoder) skipEchoed(i int, e *echo) int {
	next := e.at(d.body, i)
	if next == 0 {
		next = d.skip(i)
		d.learn(e, i, next)
	}
	return next
}

// endMessage makes the message at hand, size bytes long, an event or counts it.
func (d *decoder) endMessage(size int, typ messageType) {
	m := &d.message
	switch {
	case d.soft != "":
		d.refuseSoft(typ)
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

// refuseSoft counts the message at hand as one that is not JSON.
func (d *decoder) refuseSoft(typ messageType) {
	d.refuse(typ, outcomeInvalidJSON, d.element, "", d.soft+" (byte "+strconv.Itoa(d.softAt)+")")
	d.soft = ""
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
			name = int32(i)
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

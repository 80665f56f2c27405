// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

// This file says what follows from what messages and their batch say: which become events, and their names, sources
// and times.

import (
	"bytes"
	"cmp"
	"time"
)

// event is a message that becomes a data point. Its bytes belong to the request's body, to the decoder or to the
// resolver.
type event struct {
	name       []byte  // as sent; a page's or screen's as Segment's Librato destination named it
	source     []byte  // empty: the default, which is the cleaned name
	id         []byte  // messageId; empty: none
	value      float64 // properties.value, or 1
	time       int64   // Unix nanoseconds
	hash       uint64  // idset.Hasher.Secret, by which the deduplicator knows it; 0: no id, or nobody asks
	forwarded  uint64  // idset.Hasher.Hash, by which exporters know it; 0: no id, or it is not forwarded
	properties [2]int32
	typ        callType
	duplicate  bool // the deduplicator's
}

// resolver makes events of messages. It allocates only while it grows.
type resolver struct {
	events []event
	texts  []byte // names that were put together
}

// resolve appends what becomes an event to r.events, and counts the other messages in t. key is the request's write
// key; if strict, a message that carries another is refused.
func (r *resolver) resolve(c *content, key []byte, strict bool, received time.Time, t *tally) {
	now := received.UnixNano()
	for i := range c.messages {
		m := &c.messages[i]
		wrong := func(o outcome, field, text string) { t.addWrong(m.typ, problem{int(m.index), o, field, text}) }
		if !forLibrato(m, &c.common) { // whatever else is wrong with it
			t.add(m.typ, outcomeDisabled)
			continue
		}
		if m.wrong != nil {
			t.addWrong(m.typ, *m.wrong)
			continue
		}
		if strict && len(m.key) > 0 && !bytes.Equal(m.key, key) {
			wrong(outcomeForeignKey, "writeKey", "not the write key of the request")
			continue
		}
		name := calls[m.typ].title(m, &r.texts)
		switch {
		case len(name) == 0:
			wrong(outcomeMissingEvent, "event", "missing")
		case m.valueIsNoNumber:
			wrong(outcomeInvalidValue, "properties.value", "not a number")
		default:
			value := 1.0
			if m.hasValue {
				value = m.value
			}
			r.events = append(r.events, event{
				name: name, source: sourceOf(m, &c.common), id: m.id, value: value, time: timeOf(m, c, now),
				properties: m.properties, typ: m.typ,
			})
		}
	}
}

// contextOf returns what the context of a message says, and that of its batch, which goes below it. Where there are
// `options`, which old SDKs sent, they stand in place of the whole context.
func contextOf(m *message, batch *destination) (own, below *addressed) {
	if m.options.given || batch.options.given {
		return &m.options, &batch.options
	}
	return &m.context, &batch.context
}

// forLibrato says whether a message is for Librato. What it says itself comes before what its batch says.
// Source: how Segment's destinations read flags.
func forLibrato(m *message, batch *destination) bool {
	own, below := contextOf(m, batch)
	var librato flagValue
	switch {
	case m.integrations.given || batch.integrations.given:
		librato = cmp.Or(m.integrations.librato, batch.integrations.librato)
	case own.providers.given || below.providers.given:
		librato = cmp.Or(own.providers.librato, below.providers.librato)
	default:
		librato = cmp.Or(own.librato, below.librato)
	}
	if librato != flagNone {
		return librato == flagTrue
	}
	all := cmp.Or(own.providers.all, below.providers.all, own.all, below.all, m.integrations.all, batch.integrations.all)
	return all != flagFalse
}

// sourceOf returns the source of a message, nil if there is none. Its place decides which of several counts; at each
// place that of the message comes before that of the batch.
// Source: where Segment's Librato destination looked.
func sourceOf(m *message, batch *destination) []byte {
	own, below := contextOf(m, batch)
	switch {
	case len(m.integrations.libratoSource) > 0:
		return m.integrations.libratoSource
	case len(batch.integrations.libratoSource) > 0:
		return batch.integrations.libratoSource
	case len(own.libratoSource) > 0:
		return own.libratoSource
	case len(below.libratoSource) > 0:
		return below.libratoSource
	case len(own.source) > 0:
		return own.source
	default:
		return below.source
	}
}

// timeOf returns when a message's event happened. A client's clock may be wrong, so its timestamp is moved by the
// difference between when it says that it sent and when that was received.
func timeOf(m *message, c *content, received int64) int64 {
	if m.timestamp != 0 && m.original != 0 {
		return m.timestamp // Segment has corrected it
	}
	at := cmp.Or(m.timestamp, m.original)
	if at == 0 {
		return received
	}
	sentAt := cmp.Or(c.sentAt, m.sentAt) // the batch's was set as it was sent
	if sentAt == 0 || c.corrected {
		return at
	}
	return max(1, received-(sentAt-at))
}

// dropDuplicates takes the events out that the deduplicator marked as copies, and counts them.
func (r *resolver) dropDuplicates(t *tally) {
	kept := r.events[:0]
	for i := range r.events {
		e := &r.events[i]
		if e.duplicate {
			t.add(e.typ, outcomeDuplicate)
			continue
		}
		kept = append(kept, *e)
	}
	r.events = kept
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"math/bits"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// stream is one name and source (or tag set) in Librato, in the spelling that was seen first.
type stream struct {
	key    string // as streamKey has it
	name   string
	source string        // if the API has sources
	tags   []librato.Tag // if it has tags
	kind   kind
	id     uint64 // hash of the metric's name, mixed into message ids: they are known per metric

	open        []*increment // at most one a period, the newest last
	closed      int          // how many of these are open no more, until state.dropClosed has gone through them
	unconfirmed int          // increments that are sealed and not yet confirmed or refused
	used        int64        // nanoseconds: when it last opened an increment
	taken       *secondSet   // kindAveraging, kindCounter: seconds that were sealed
	forgotten   bool         // no longer in streams.byKey
}

// sourceText is the source, or the tags, for a log line.
func (st *stream) sourceText() string {
	if st.tags != nil {
		return joinTags(st.tags)
	}
	return st.source
}

// alias is a stream's name and source as data points bring them.
type alias struct {
	name, source string
	event        bool
}

func aliasOf(p *sample) alias { return alias{p.name, p.source, p.event} }

// streams finds the stream of a data point. To clean a name costs more than the rest of folding, so each spelling is
// cleaned once and remembered.
type streams struct {
	aliases    map[alias]*stream // at most four times maxStreams
	byKey      map[string]*stream
	maxStreams int
	prefix     string
	api        *librato.API
}

func newStreams(cfg *Config) streams {
	return streams{
		aliases:    map[alias]*stream{},
		byKey:      map[string]*stream{},
		maxStreams: cfg.MaxStreams,
		prefix:     cfg.MetricPrefix,
		api:        cfg.api(),
	}
}

func (t *streams) count() int { return len(t.byKey) }

// known returns the stream of a sample in a spelling that was seen before, else nil.
func (t *streams) known(p *sample) *stream { return t.aliases[aliasOf(p)] }

// of returns the sample's stream, a new one if need be; or why there is none. The kind is the caller's to compare.
func (t *streams) of(p *sample) (*stream, reason) {
	if st := t.known(p); st != nil {
		return st, ""
	}
	clean := librato.CleanMetricName
	if p.event {
		clean = librato.CleanEventName
	}
	fresh := stream{name: cut(t.prefix + clean(p.name)), kind: p.kind}
	if fresh.name == "" {
		return nil, reasonEmptyName
	}
	if t.api.Tagged {
		fresh.tags = decodeTagSet(p.source)
	} else if p.source != "" {
		fresh.source = librato.CleanSource(p.source)
	}
	st := t.byKey[streamKey(&fresh)]
	switch {
	case st != nil:
	case len(t.byKey) >= t.maxStreams:
		return nil, reasonTooManyStreams
	default:
		st = t.add(&fresh)
	}
	if len(t.aliases) >= 4*t.maxStreams {
		clear(t.aliases) // whoever comes again is cleaned again
	}
	t.aliases[alias{strings.Clone(p.name), strings.Clone(p.source), p.event}] = st
	return st, ""
}

// add returns the stream with fresh's name and source if there is one, else a new one, whatever maxStreams is.
func (t *streams) add(fresh *stream) *stream {
	key := streamKey(fresh)
	if st := t.byKey[key]; st != nil {
		return st
	}
	st := &stream{
		key:    key,
		name:   strings.Clone(fresh.name), // what is cleaned may share the memory of pdata
		source: strings.Clone(fresh.source),
		tags:   fresh.tags,
		kind:   fresh.kind,
		id:     bits.RotateLeft64(xxhash.Sum64String(strings.ToLower(fresh.name)), 32),
	}
	t.byKey[key] = st
	return st
}

// forget drops the streams that opened no increment since then and have none.
func (t *streams) forget(since int64) {
	known := len(t.byKey)
	for key, st := range t.byKey {
		if st.used < since && len(st.open) == 0 && st.unconfirmed == 0 {
			delete(t.byKey, key)
			st.forgotten = true
		}
	}
	if len(t.byKey) == known {
		return
	}
	for a, st := range t.aliases {
		if st.forgotten {
			delete(t.aliases, a)
		}
	}
}

// cut shortens a cleaned (so, ASCII) name to what Librato takes.
func cut(name string) string { return name[:min(len(name), librato.MaxNameLength)] }

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
	key    string // lower-case name, "/", lower-case source or tag set: names hold no "/"
	name   string
	source string        // metrics API
	tags   []librato.Tag // measurements API
	kind   kind
	id     uint64 // hash of the metric's name, mixed into message ids: they are known per metric

	open        []*increment // at most one a period, the newest last
	unconfirmed int          // increments that are sealed and not yet confirmed or refused
	used        int64        // nanoseconds: when it last opened an increment
	taken       *secondSet   // kindAveraging, kindCounter: seconds that were sealed
	aliases     []alias      // its entries in streams.aliases
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

// streams finds the stream of a data point. Cleaning a name costs more than the rest of folding, so each spelling
// is cleaned once and remembered.
type streams struct {
	aliases map[alias]*stream
	byKey   map[string]*stream
	most    int // streams; aliases are bounded by four times as many
	prefix  string
	api     API
}

func newStreams(cfg *Config) streams {
	return streams{
		aliases: map[alias]*stream{},
		byKey:   map[string]*stream{},
		most:    cfg.MaxStreams,
		prefix:  cfg.MetricPrefix,
		api:     cfg.API,
	}
}

// of returns the sample's stream, a new one if need be; or why there is none. The kind is the caller's to compare.
func (t *streams) of(s *sample) (*stream, reason) {
	if st := t.aliases[alias{s.name, s.source, s.event}]; st != nil {
		return st, ""
	}
	name := librato.CleanMetricName
	if s.event {
		name = librato.CleanEventName
	}
	fresh := stream{name: cut(t.prefix + name(s.name)), kind: s.kind}
	if fresh.name == "" {
		return nil, reasonEmptyName
	}
	if t.api == APIMeasurements {
		fresh.tags = decodeTagSet(s.source)
	} else if s.source != "" {
		fresh.source = librato.CleanSource(s.source)
	}
	st, why := t.add(&fresh)
	if st == nil {
		return nil, why
	}
	if len(t.aliases) >= 4*t.most {
		clear(t.aliases) // a cache: whoever comes again is cleaned again
		for _, known := range t.byKey {
			known.aliases = nil
		}
	}
	a := alias{strings.Clone(s.name), strings.Clone(s.source), s.event}
	t.aliases[a] = st
	st.aliases = append(st.aliases, a)
	return st, ""
}

// add returns the stream with fresh's name and source if there is one, else fresh itself, complete.
func (t *streams) add(fresh *stream) (*stream, reason) {
	source := fresh.source
	if t.api == APIMeasurements {
		source = joinTags(fresh.tags)
	}
	key := strings.ToLower(fresh.name) + "/" + strings.ToLower(source)
	if st := t.byKey[key]; st != nil {
		return st, ""
	}
	if len(t.byKey) >= t.most {
		return nil, reasonTooManyStreams
	}
	st := &stream{key: key, name: strings.Clone(fresh.name), source: strings.Clone(fresh.source), tags: fresh.tags, kind: fresh.kind}
	st.id = bits.RotateLeft64(xxhash.Sum64String(strings.ToLower(fresh.name)), 32)
	t.byKey[key] = st
	return st, ""
}

// forget drops the streams that opened no increment since then and have none.
func (t *streams) forget(since int64) {
	for key, st := range t.byKey {
		if st.used >= since || len(st.open) > 0 || st.unconfirmed > 0 {
			continue
		}
		delete(t.byKey, key)
		for _, a := range st.aliases {
			delete(t.aliases, a)
		}
	}
}

// cut shortens a cleaned (so, ASCII) name to what Librato takes.
func cut(name string) string { return name[:min(len(name), librato.MaxNameLength)] }

// joinTags writes tags as "name=value,name=value": neither character may be in a tag's name or value.
func joinTags(tags []librato.Tag) string {
	var b strings.Builder
	for i, tag := range tags {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(tag.Name)
		b.WriteByte('=')
		b.WriteString(tag.Value)
	}
	return b.String()
}

// splitTags reads what joinTags wrote.
func splitTags(joined string) []librato.Tag {
	var tags []librato.Tag
	for pair := range strings.SplitSeq(joined, ",") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			tags = append(tags, librato.Tag{Name: name, Value: value})
		}
	}
	return tags
}

// secondSet remembers seconds within a window of the newest one, a bit each (some 900 bytes for the largest
// max_age); those before the window count as in it.
type secondSet struct {
	words []uint64
	head  int64 // the newest second / 64
}

func newSecondSet(window int64) *secondSet {
	return &secondSet{words: make([]uint64, window/64+2)}
}

func (s *secondSet) contains(second int64) bool {
	n := int64(len(s.words))
	w := second / 64
	switch {
	case w > s.head:
		return false
	case w <= s.head-n:
		return true
	}
	return s.words[w%n]&(1<<(second%64)) != 0
}

func (s *secondSet) add(second int64) {
	n := int64(len(s.words))
	w := second / 64
	if w <= s.head-n {
		return
	}
	for i := max(s.head+1, w-n+1); i <= w; i++ {
		s.words[i%n] = 0
	}
	s.head = max(s.head, w)
	s.words[w%n] |= 1 << (second % 64)
}

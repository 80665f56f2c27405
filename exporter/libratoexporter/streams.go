// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// originSilence is how long the origin of a stream has to be silent before another one takes its place. Until then two that
// send every minute are told apart.
const originSilence = 2 * time.Minute

const (
	// maxSpellings bounds the bytes of the spellings that are remembered.
	maxSpellings = 16 << 20
	// maxSpelling is the longest that is remembered: what is longer is cleaned each time, and pushes out no others.
	maxSpelling = 1 << 10
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
	ahead       int          // how many of these wait for their second to pass
	taken       *secondSet   // seconds that were sent; nil if it always added up
	used        int64        // nanoseconds: when it last opened an increment

	origin    origin // of its readings; zero: not known
	seen      int64  // nanoseconds: when something of that origin last came
	collision bool   // another origin was told

	idle      idleLinks // in streams.idle, while nothing waits
	forgotten bool      // no longer in streams.byKey
}

// waits says whether anything of the stream is not confirmed.
func (st *stream) waits() bool { return len(st.open) > 0 || st.unconfirmed > 0 }

// awaitsAnswer says whether anything of the stream is being posted.
func (st *stream) awaitsAnswer() bool { return st.unconfirmed > st.ahead }

// comesFrom says whether the stream's readings have that origin. If it had none for long, it has that one from now on.
func (st *stream) comesFrom(o origin, now int64) bool {
	if st.origin != o {
		silence := now - st.seen
		if st.origin != (origin{}) && silence < int64(originSilence) && silence > -int64(originSilence) {
			return false
		}
		st.origin, st.collision = o, false
	}
	st.seen = now
	return true
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
	aliases    map[alias]*stream // at most four times maxStreams, and of bounded size; some are of forgotten streams
	aliasBytes int               // of the names and sources in these
	byKey      map[string]*stream
	idle       idleList // streams of which nothing waits
	maxStreams int
	prefix     string
	api        *librato.API
	dropped    bool // a stream, since aliases were last gone through
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
func (t *streams) known(p *sample) *stream {
	if st := t.aliases[aliasOf(p)]; st != nil && !st.forgotten {
		return st
	}
	return nil
}

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
	case len(t.byKey) >= t.maxStreams && !t.makeRoom():
		return nil, reasonTooManyStreams
	default:
		st = t.add(&fresh)
	}
	t.remember(p, st)
	return st, ""
}

// remember notes that the spelling of a sample is one of the stream's.
func (t *streams) remember(p *sample, st *stream) {
	size := len(p.name) + len(p.source)
	if size > maxSpelling {
		return
	}
	if len(t.aliases) >= 4*t.maxStreams || t.aliasBytes+size > maxSpellings {
		clear(t.aliases) // whoever comes again is cleaned again
		t.aliasBytes = 0
	}
	known := len(t.aliases)
	if t.aliases[alias{strings.Clone(p.name), strings.Clone(p.source), p.event}] = st; len(t.aliases) > known {
		t.aliasBytes += size
	}
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
		tags:   slices.Clone(fresh.tags),
		kind:   fresh.kind,
		id:     bits.RotateLeft64(xxhash.Sum64String(strings.ToLower(fresh.name)), 32),
	}
	for i, tag := range st.tags {
		st.tags[i] = librato.Tag{Name: strings.Clone(tag.Name), Value: strings.Clone(tag.Value)}
	}
	t.byKey[key] = st
	t.idle.append(st)
	return st
}

// busy notes that something of the stream waits.
func (t *streams) busy(st *stream) { t.idle.remove(st) }

// idleIfDone notes that nothing of the stream waits, if that is so.
func (t *streams) idleIfDone(st *stream) {
	if !st.waits() {
		t.idle.append(st)
	}
}

// makeRoom forgets the stream that was idle for longest, if one is.
func (t *streams) makeRoom() bool {
	if t.idle.first == nil {
		return false
	}
	t.drop(t.idle.first)
	return true
}

func (t *streams) drop(st *stream) {
	t.busy(st)
	delete(t.byKey, st.key)
	st.forgotten = true
	t.dropped = true
}

// forget drops idle streams that opened no increment since then, and the spellings of dropped ones.
func (t *streams) forget(since int64) {
	for st := t.idle.first; st != nil && st.used < since; st = t.idle.first {
		t.drop(st)
	}
	if !t.dropped {
		return
	}
	t.dropped = false
	for a, st := range t.aliases {
		if st.forgotten {
			delete(t.aliases, a)
			t.aliasBytes -= len(a.name) + len(a.source)
		}
	}
}

// cut shortens a cleaned (so, ASCII) name to what Librato takes.
func cut(name string) string { return name[:min(len(name), librato.MaxNameLength)] }

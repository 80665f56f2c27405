// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func streamOf(t *testing.T, s *streams, p sample) *stream {
	t.Helper()
	st, why := s.of(&p)
	require.NotNil(t, st, why)
	return st
}

// Each spelling is found again, through growth, forgetting and the bound.
func TestAliases(t *testing.T) {
	cfg := validConfig()
	cfg.MaxStreams = 1000
	s := newStreams(cfg)
	const n = 1000
	names := func(i int) []sample {
		return []sample{
			{name: fmt.Sprintf("a:%d", i), source: "s", event: true},
			{name: fmt.Sprintf("A:%d", i), source: "s", event: true}, // another spelling
		}
	}
	for i := range n / 2 {
		st := streamOf(t, &s, names(i)[0])
		assert.Same(t, st, streamOf(t, &s, names(i)[1]))
		st.used = int64(i)
	}
	require.Len(t, s.aliases, n)
	for i := range n / 2 {
		for _, p := range names(i) {
			require.Equal(t, fmt.Sprintf("a-%d", i), s.known(&p).name)
			p.event = false // keeps the colon: another stream
			require.Nil(t, s.known(&p))
		}
	}

	// The spellings of what is forgotten go, all others are found.
	s.forget(n / 4)
	assert.Len(t, s.byKey, n/4)
	assert.Len(t, s.aliases, n/2)
	for i := range n / 2 {
		for _, p := range names(i) {
			require.Equal(t, i >= n/4, s.known(&p) != nil, p.name)
		}
	}
	first := streamOf(t, &s, names(0)[0])
	assert.False(t, first.forgotten)
	assert.Same(t, first, s.byKey[first.key])

	// The name and the source are told apart.
	for _, p := range []sample{{name: "ab", source: "c"}, {name: "a", source: "bc"}, {name: "abc"}} {
		require.Nil(t, s.known(&p))
		streamOf(t, &s, p)
	}
	assert.Len(t, s.byKey, n/4+4)
}

// An alias keeps nothing of the data point alive.
func TestAliasesAreCopies(t *testing.T) {
	s := newStreams(validConfig())
	name, source := strings.Clone("name"), strings.Clone("source")
	for _, p := range []sample{{name: name}, {name: name, source: source}} {
		streamOf(t, &s, p)
	}
	for a := range s.aliases {
		assert.NotSame(t, unsafe.StringData(name), unsafe.StringData(a.name))
		if a.source != "" {
			assert.NotSame(t, unsafe.StringData(source), unsafe.StringData(a.source))
		}
	}
}

// Streams leave the list of idle ones wherever they stand in it, and the longest idle comes first.
func TestIdleList(t *testing.T) {
	order := func(l *idleList) string {
		var names, backwards []string
		for st := l.first; st != nil; st = st.idle.behind {
			names = append(names, st.name)
		}
		for st := l.last; st != nil; st = st.idle.before {
			backwards = append(backwards, st.name)
		}
		slices.Reverse(backwards)
		assert.Equal(t, names, backwards)
		return strings.Join(names, "")
	}
	a, b, c := &stream{name: "a"}, &stream{name: "b"}, &stream{name: "c"}
	for _, tt := range []struct {
		remove *stream
		want   string
	}{{a, "bc"}, {b, "ac"}, {c, "ab"}} {
		var l idleList
		for _, st := range []*stream{a, b, c, a} {
			l.append(st)
		}
		require.Equal(t, "abc", order(&l))
		l.remove(tt.remove)
		l.remove(tt.remove)
		assert.Equal(t, tt.want, order(&l))
		for _, st := range []*stream{a, b, c} {
			l.remove(st)
		}
		assert.Empty(t, order(&l))
	}
}

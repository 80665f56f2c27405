// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoserver

import (
	"cmp"
	"slices"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// What tests ask a server in their own process.

// Sum returns everything that is stored for a stream in one summary: what the graph adds up to. source is as it was
// sent, "" if there was none; of tagged measurements, the sorted tags as "az=b,region=us".
func (s *Server) Sum(name, source string) librato.Summary {
	return s.fold(name, source, func(st *stream) map[int64]librato.Summary { return st.points })
}

// Received returns everything that was ever applied for a stream, repetitions included.
func (s *Server) Received(name, source string) librato.Summary {
	return s.fold(name, source, func(st *stream) map[int64]librato.Summary { return st.received })
}

func (s *Server) fold(name, source string, of func(*stream) map[int64]librato.Summary) (sum librato.Summary) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, st := s.store.find(name, source); st != nil {
		for _, v := range of(st) {
			sum.Add(v)
		}
	}
	return sum
}

// Series returns what is stored for a stream, rolled up to the metric's period, in order of time.
func (s *Server) Series(name, source string) []Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, st := s.store.find(name, source)
	if st == nil {
		return nil
	}
	return rollup(st.points, m.seconds(), m.counter)
}

// Seconds returns what is stored for a stream second by second (period by period with service-side aggregation).
func (s *Server) Seconds(name, source string) []Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, st := s.store.find(name, source); st != nil {
		return rollup(st.points, 1, m.counter)
	}
	return nil
}

// Total is everything that is stored for one stream.
type Total struct {
	Name     string  `json:"name"`
	Type     string  `json:"type"`
	Source   string  `json:"source"` // or the tags, as "az=b,region=us"
	Stored   Values  `json:"stored"`
	Received Values  `json:"received"` // repetitions included
	Periods  []Point `json:"periods"`
}

// Totals returns every stream, sorted by name and source.
func (s *Server) Totals() []Total {
	s.mu.Lock()
	defer s.mu.Unlock()
	totals := []Total{}
	for _, m := range s.store.metrics {
		for _, st := range m.streams {
			t := Total{Name: m.name, Type: m.kind(), Source: st.name, Periods: rollup(st.points, m.seconds(), m.counter)}
			for _, p := range t.Periods {
				t.Stored.add(librato.Summary(p.Values))
			}
			for _, v := range st.received {
				t.Received.add(v)
			}
			totals = append(totals, t)
		}
	}
	slices.SortFunc(totals, func(a, b Total) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Source, b.Source)) })
	return totals
}

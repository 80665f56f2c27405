// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoserver

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// defaultPeriod is that of a gauge without one, in seconds.
const defaultPeriod = 60

// store is what the service keeps. It knows of no requests and answers; whoever uses it holds the server's lock.
type store struct {
	metrics   map[string]*metric // by lower-cased name
	retention time.Duration      // 0: for ever
	pruned    time.Time

	measurements       int64 // that were stored
	repeated, replaced int   // see Stats
}

// metric is a gauge or a counter with its streams.
type metric struct {
	name        string // in the spelling seen first
	counter     bool
	period      int64 // seconds; 0: not set
	displayName string
	description string
	attributes  map[string]any
	streams     map[string]*stream // by lower-cased source or tags
}

// stream is what is stored for one source or tag set.
type stream struct {
	name     string // in the spelling seen first
	points   map[int64]librato.Summary
	received map[int64]librato.Summary // everything that was applied, repetitions included
}

func (m *metric) kind() string { return kind(m.counter) }

func kind(counter bool) string {
	if counter {
		return "counter"
	}
	return "gauge"
}

// aggregates reports whether the service folds what is sent within one period.
func (m *metric) aggregates() bool {
	on, _ := m.attributes["aggregate"].(bool)
	return on && !m.counter
}

func (m *metric) seconds() int64 { return cmp.Or(m.period, defaultPeriod) }

func (m *metric) function() string {
	f, _ := m.attributes["summarize_function"].(string)
	return cmp.Or(f, "average")
}

// set takes the properties that w has, as PUT does and as the POST that creates a metric.
func (m *metric) set(w *wireProperties) {
	if w.Period != nil {
		m.period, _ = w.Period.integer()
	}
	if w.DisplayName != nil {
		m.displayName = *w.DisplayName
	}
	if w.Description != nil {
		m.description = *w.Description
	}
	maps.Copy(m.attributes, w.Attributes)
}

// describe returns m as the API shows it.
func (m *metric) describe() map[string]any {
	d := map[string]any{
		"name": m.name, "type": m.kind(), "period": nil, "attributes": maps.Clone(m.attributes),
		"display_name": nil, "description": nil,
	}
	if m.period != 0 {
		d["period"] = m.period
	}
	if m.displayName != "" {
		d["display_name"] = m.displayName
	}
	if m.description != "" {
		d["description"] = m.description
	}
	return d
}

// conflict says what is wrong if ms have a metric as another type than it is, or as both; else it returns "".
func (s *store) conflict(ms []measurement) string {
	types := map[string]bool{}
	for i := range ms {
		m := &ms[i]
		key := strings.ToLower(m.name)
		counter, known := types[key]
		if existing, ok := s.metrics[key]; ok {
			counter, known = existing.counter, true
		}
		if known && counter != m.counter {
			return "'" + m.name + "' is a " + kind(counter) + ", but was submitted as different type"
		}
		types[key] = m.counter
	}
	return ""
}

// apply stores ms, and creates the metrics that are new.
func (s *store) apply(ms []measurement, userAgent string, now time.Time) {
	s.measurements += int64(len(ms))
	for i := range ms {
		m := &ms[i]
		into := s.metrics[strings.ToLower(m.name)]
		if into == nil {
			into = s.create(m.name, m.counter, userAgent, &m.wire.wireProperties)
		}
		s.add(into, m)
	}
	s.prune(now)
}

// create makes a metric that is not there yet.
func (s *store) create(name string, counter bool, userAgent string, properties *wireProperties) *metric {
	m := &metric{
		name: name, counter: counter, streams: map[string]*stream{},
		attributes: map[string]any{"created_by_ua": userAgent},
	}
	m.set(properties)
	s.metrics[strings.ToLower(name)] = m
	return m
}

// add keeps the newest measurement of a second; with service-side aggregation, everything of a period in one.
func (s *store) add(into *metric, m *measurement) {
	key := strings.ToLower(m.stream)
	st := into.streams[key]
	if st == nil {
		st = &stream{name: m.stream, points: map[int64]librato.Summary{}, received: map[int64]librato.Summary{}}
		into.streams[key] = st
	}
	all := st.received[m.time]
	all.Add(m.value)
	st.received[m.time] = all

	if into.aggregates() {
		start := floor(m.time, into.seconds())
		period := st.points[start]
		period.Add(m.value)
		st.points[start] = period
		return
	}
	if before, ok := st.points[m.time]; ok {
		if before == m.value {
			s.repeated++
		} else {
			s.replaced++
		}
	}
	st.points[m.time] = m.value
}

// prune forgets what is older than the retention, once a minute.
func (s *store) prune(now time.Time) {
	if s.retention <= 0 || now.Sub(s.pruned) < time.Minute {
		return
	}
	s.pruned = now
	oldest := now.Add(-s.retention).Unix()
	old := func(at int64, _ librato.Summary) bool { return at < oldest }
	for _, m := range s.metrics {
		for key, st := range m.streams {
			maps.DeleteFunc(st.points, old)
			maps.DeleteFunc(st.received, old)
			if len(st.points) == 0 {
				delete(m.streams, key)
			}
		}
	}
}

// floor returns the largest multiple of step that is not above t.
func floor(t, step int64) int64 {
	f := t / step * step
	if f > t {
		f -= step
	}
	return f
}

// Values is a librato.Summary in JSON.
type Values struct {
	Count uint64  `json:"count"`
	Sum   float64 `json:"sum"`
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
}

func (v *Values) add(o librato.Summary) {
	sum := librato.Summary(*v)
	sum.Add(o)
	*v = Values(sum)
}

// Point is what is stored for one second or period.
type Point struct {
	Time int64 `json:"time"` // Unix seconds
	Values
}

// rollup merges points to multiples of resolution, in order of time. Of a counter, the last value stands.
func rollup(points map[int64]librato.Summary, resolution int64, counter bool) []Point {
	var out []Point
	for _, at := range slices.Sorted(maps.Keys(points)) {
		start := floor(at, resolution)
		if len(out) == 0 || out[len(out)-1].Time != start {
			out = append(out, Point{Time: start})
		}
		last := &out[len(out)-1]
		if counter {
			last.Values = Values(points[at])
		} else {
			last.add(points[at])
		}
	}
	return out
}

// summarize returns what the graph shows for v.
func summarize(function string, v Values) float64 {
	switch function {
	case "sum":
		return v.Sum
	case "count":
		return float64(v.Count)
	case "min":
		return v.Min
	case "max":
		return v.Max
	default:
		return v.Sum / float64(v.Count)
	}
}

// find returns the stream of a metric; source is as sent, "" for none, or tags as "az=b,region=us".
func (s *store) find(name, source string) (*metric, *stream) {
	m := s.metrics[strings.ToLower(name)]
	if m == nil {
		return nil, nil
	}
	return m, m.streams[strings.ToLower(cmp.Or(source, unassigned))]
}

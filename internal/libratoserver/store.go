// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoserver

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// defaultPeriod is that of a gauge without one, in seconds.
const defaultPeriod = 60

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

func (m *metric) kind() string {
	if m.counter {
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

// conflict refuses a post that sends a metric as another type than it has, or as both. The caller holds mu.
func (s *Server) conflict(p *post) *answer {
	types := map[string]bool{}
	for i := range p.measurements {
		m := &p.measurements[i]
		key := strings.ToLower(m.name)
		counter, known := types[key]
		if existing, ok := s.metrics[key]; ok {
			counter, known = existing.counter, true
		}
		if known && counter != m.counter {
			kind := "gauge"
			if counter {
				kind = "counter"
			}
			return s.paramError("type", "'"+m.name+"' is a "+kind+", but was submitted as different type")
		}
		types[key] = m.counter
	}
	return nil
}

// apply stores ms, which are p's or a part of them, and creates the metrics that are new. The caller holds mu.
func (s *Server) apply(ms []measurement, p *post) {
	s.stats.Measurements += int64(len(ms))
	for i := range ms {
		m := &ms[i]
		key := strings.ToLower(m.name)
		into := s.metrics[key]
		if into == nil {
			into = &metric{
				name: m.name, counter: m.counter, streams: map[string]*stream{},
				attributes: map[string]any{"created_by_ua": p.userAgent},
			}
			into.set(&m.wire.wireProperties)
			s.metrics[key] = into
		}
		s.store(into, m)
	}
	s.prune()
}

// store keeps the newest measurement of a second; with service-side aggregation, everything of a period in one.
func (s *Server) store(into *metric, m *measurement) {
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
			s.stats.Repeated++
		} else {
			s.stats.Replaced++
		}
	}
	st.points[m.time] = m.value
}

// prune forgets what is older than the retention, once a minute. The caller holds mu.
func (s *Server) prune() {
	now := s.clock()
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

// find returns the stream of a metric; source is as sent, "" for none, or tags as "az=b,region=us". The caller
// holds mu.
func (s *Server) find(name, source string) (*metric, *stream) {
	m := s.metrics[strings.ToLower(name)]
	if m == nil {
		return nil, nil
	}
	return m, m.streams[strings.ToLower(cmp.Or(source, unassigned))]
}

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
	if _, st := s.find(name, source); st != nil {
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
	m, st := s.find(name, source)
	if st == nil {
		return nil
	}
	return rollup(st.points, m.seconds(), m.counter)
}

// Seconds returns what is stored for a stream second by second (period by period with service-side aggregation).
func (s *Server) Seconds(name, source string) []Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, st := s.find(name, source); st != nil {
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
	for _, m := range s.metrics {
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

// The rest is GET, PUT and DELETE of /v1/metrics.

// list answers GET /v1/metrics, with name (a part of it), offset and length.
func (s *Server) list(query url.Values) answer {
	offset, _ := strconv.Atoi(query.Get("offset"))
	length, err := strconv.Atoi(query.Get("length"))
	if err != nil || length <= 0 || length > 100 {
		length = 100
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := []map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(s.metrics)) {
		if strings.Contains(key, strings.ToLower(query.Get("name"))) {
			found = append(found, s.metrics[key].describe())
		}
	}
	offset = min(max(offset, 0), len(found))
	page := found[offset:min(offset+length, len(found))]
	return answer{status: http.StatusOK, body: toJSON(map[string]any{
		"query":   map[string]int{"found": len(found), "length": len(page), "offset": offset, "total": len(s.metrics)},
		"metrics": page,
	})}
}

// get answers GET /v1/metrics/:name; with start_time or count, the measurements as well: those from start_time to
// end_time (now), of these the last count, rolled up to resolution (the metric's period), of the sources that
// match source or sources[] (globs).
func (s *Server) get(name string, query url.Values) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.metrics[strings.ToLower(name)]
	if m == nil {
		return notFound
	}
	body := m.describe()
	if !query.Has("start_time") && !query.Has("count") {
		return answer{status: http.StatusOK, body: toJSON(body)}
	}
	params := map[string]int64{"start_time": 0, "end_time": s.clock().Unix(), "count": 0, "resolution": m.seconds()}
	for field := range params {
		if !query.Has(field) {
			continue
		}
		v, err := strconv.ParseInt(query.Get(field), 10, 64)
		if err != nil || v < 0 || field == "resolution" && v == 0 {
			return *s.paramError(field, "is not valid")
		}
		params[field] = v
	}
	start, end := params["start_time"], params["end_time"]
	wanted := slices.Concat(query["sources[]"], query["source"])
	measurements := map[string]any{}
	for key, st := range m.streams {
		if len(wanted) > 0 && !slices.ContainsFunc(wanted, func(glob string) bool {
			ok, err := path.Match(strings.ToLower(glob), key)
			return ok && err == nil
		}) {
			continue
		}
		inTime := maps.Clone(st.points)
		maps.DeleteFunc(inTime, func(at int64, _ librato.Summary) bool { return at < start || at > end })
		points := rollup(inTime, params["resolution"], m.counter)
		if n := int(params["count"]); n > 0 && len(points) > n {
			points = points[len(points)-n:]
		}
		list := make([]map[string]any, len(points))
		for i, p := range points {
			list[i] = map[string]any{
				"measure_time": p.Time, "value": summarize(m.function(), p.Values), "count": p.Count,
				"sum": p.Sum, "min": p.Min, "max": p.Max,
			}
			if m.counter {
				list[i] = map[string]any{"measure_time": p.Time, "value": p.Sum}
			}
		}
		if len(list) > 0 {
			measurements[st.name] = list
		}
	}
	body["resolution"], body["measurements"] = params["resolution"], measurements
	return answer{status: http.StatusOK, body: toJSON(body)}
}

// put creates a metric or changes its properties.
func (s *Server) put(name string, req *Request) answer {
	var w wireProperties
	if !isJSON(req.Header) {
		return requestError(http.StatusUnsupportedMediaType, "Content-Type must be application/json")
	}
	if err := json.Unmarshal(req.Body, &w); err != nil {
		return requestError(http.StatusBadRequest, "could not be parsed: "+err.Error())
	}
	if !validName.MatchString(name) {
		return *s.paramError("name", name+" is not a valid metric name")
	}
	if refusal := s.checkProperties(&w); refusal != nil {
		return *refusal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(name)
	m, exists := s.metrics[key]
	switch {
	case exists && w.Type != "" && w.Type != m.kind():
		return *s.paramError("type", "'"+m.name+"' is a "+m.kind()+", but was submitted as different type")
	case exists:
		m.set(&w)
		return answer{status: http.StatusNoContent}
	case w.Type != "gauge" && w.Type != "counter":
		return *s.paramError("type", "is missing or not valid")
	}
	m = &metric{
		name: name, counter: w.Type == "counter", streams: map[string]*stream{},
		attributes: map[string]any{"created_by_ua": req.Header.Get("User-Agent")},
	}
	m.set(&w)
	s.metrics[key] = m
	return answer{status: http.StatusCreated, body: toJSON(m.describe()), location: "/v1/metrics/" + name}
}

func (s *Server) remove(name string) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(name)
	if _, ok := s.metrics[key]; !ok {
		return notFound
	}
	delete(s.metrics, key)
	return answer{status: http.StatusNoContent}
}

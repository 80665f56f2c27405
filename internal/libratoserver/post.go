// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoserver

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// The rules for names, as the API reference has them.
var (
	validName     = regexp.MustCompile(`\A[A-Za-z0-9.:\-_]{1,255}\z`)
	validTagName  = regexp.MustCompile(`\A[-.:\w]{1,64}\z`)
	validTagValue = regexp.MustCompile(`\A[-.:?\\/\w ]{1,255}\z`)
)

const (
	maxMeasurements = 1000
	maxTags         = 50
	largest         = 1e126  // above it, the whole request is refused
	smallest        = 1e-130 // below it, 0 is stored
	unassigned      = "unassigned"
)

// measurement is one that passed every rule but those that depend on what is stored.
type measurement struct {
	name    string
	stream  string // the source as sent, or the tags as "az=b,region=us"
	time    int64
	counter bool
	value   librato.Summary
	wire    *wireMeasurement // for the properties
}

// post is a request's worth of good measurements.
type post struct {
	measurements []measurement
	userAgent    string
}

// wirePost is the body of both APIs; top-level values apply to the measurements that have none.
type wirePost struct {
	Gauges       []wireMeasurement `json:"gauges"`
	Counters     []wireMeasurement `json:"counters"`
	Measurements []wireMeasurement `json:"measurements"`
	Source       *string           `json:"source"`
	MeasureTime  *number           `json:"measure_time"`
	Time         *number           `json:"time"`
	Period       *number           `json:"period"`
	Tags         map[string]string `json:"tags"`
}

type wireMeasurement struct {
	Name        *string           `json:"name"`
	Source      *string           `json:"source"`
	Tags        map[string]string `json:"tags"`
	MeasureTime *number           `json:"measure_time"`
	Time        *number           `json:"time"`
	Value       *number           `json:"value"`
	Count       *number           `json:"count"`
	Sum         *number           `json:"sum"`
	Min         *number           `json:"min"`
	Max         *number           `json:"max"`
	SumSquares  *number           `json:"sum_squares"`
	Last        *number           `json:"last"`
	Stddev      *number           `json:"stddev"`
	wireProperties
}

type wireProperties struct {
	Type        string         `json:"type"` // PUT only
	Period      *number        `json:"period"`
	Attributes  map[string]any `json:"attributes"`
	DisplayName *string        `json:"display_name"`
	Description *string        `json:"description"`
}

// number keeps a JSON number as it was written, so that 2.0 and 1e400 can be told from 2 and infinity.
type number string

func (n *number) UnmarshalJSON(b []byte) error {
	if b[0] != '-' && (b[0] < '0' || b[0] > '9') {
		return fmt.Errorf("%.20q is not a number", b)
	}
	*n = number(b)
	return nil
}

// float applies the service's bounds; ok is false for what is too large.
func (n number) float() (f float64, ok bool) {
	f, err := strconv.ParseFloat(string(n), 64)
	switch {
	case math.Abs(f) > largest, err != nil:
		return 0, false
	case math.Abs(f) < smallest:
		return 0, true
	}
	return f, true
}

func (n number) integer() (i int64, ok bool) {
	i, err := strconv.ParseInt(string(n), 10, 64)
	return i, err == nil
}

// parsePost reads and checks a post. The first thing that is wrong refuses all of it.
func (s *Server) parsePost(req *Request) (*post, *answer) {
	tagged := req.Path == "/v1/measurements"
	if !isJSON(req.Header) {
		if tagged {
			a := requestError(http.StatusUnsupportedMediaType, "Content-Type must be application/json")
			return nil, &a
		}
		a := requestError(http.StatusBadRequest, "no measurements: forms are not read here, Content-Type must be application/json")
		return nil, &a
	}
	var body wirePost
	if err := json.Unmarshal(req.Body, &body); err != nil {
		status := http.StatusBadRequest
		if tagged {
			status = http.StatusTooManyRequests // "when it can not parse the basic format of the payload"
		}
		a := requestError(status, "could not be parsed: "+err.Error())
		return nil, &a
	}
	p := &post{userAgent: req.Header.Get("User-Agent")}
	if tagged {
		switch n := len(body.Measurements); {
		case n == 0:
			return nil, s.paramError("measurements", "is missing")
		case n > maxMeasurements:
			return nil, s.paramError("measurements", fmt.Sprintf("has %d elements, at most %d are taken", n, maxMeasurements))
		}
		for i := range body.Measurements {
			if refusal := s.addTagged(p, &body, &body.Measurements[i]); refusal != nil {
				return nil, refusal
			}
		}
		return p, nil
	}
	if len(body.Gauges)+len(body.Counters) == 0 {
		a := requestError(http.StatusBadRequest, "must include at least one gauge or counter")
		return nil, &a
	}
	for _, list := range []struct {
		counter bool
		ms      []wireMeasurement
	}{{false, body.Gauges}, {true, body.Counters}} {
		for i := range list.ms {
			if refusal := s.addMetric(p, &body, &list.ms[i], list.counter); refusal != nil {
				return nil, refusal
			}
		}
	}
	return p, nil
}

func (s *Server) addMetric(p *post, body *wirePost, w *wireMeasurement, counter bool) *answer {
	m := measurement{counter: counter, wire: w, stream: unassigned}
	source := body.Source
	if w.Source != nil {
		source = w.Source
	}
	if source != nil {
		if m.stream = *source; !validName.MatchString(m.stream) || strings.EqualFold(m.stream, "all") {
			return s.paramError("source", m.stream+" is not a valid source name")
		}
	}
	at := body.MeasureTime
	if w.MeasureTime != nil {
		at = w.MeasureTime
	}
	if w.Tags != nil || body.Tags != nil {
		return s.paramError("tags", "cannot be combined with source-based measurements")
	}
	return s.add(p, w, m, "measure_time", at)
}

func (s *Server) addTagged(p *post, body *wirePost, w *wireMeasurement) *answer {
	m := measurement{wire: w, stream: unassigned}
	if w.Period == nil {
		w.Period = body.Period
	}
	tags := body.Tags
	if w.Tags != nil {
		tags = w.Tags
	}
	if len(tags) > maxTags {
		return s.paramError("tags", fmt.Sprintf("has %d names, at most %d are taken", len(tags), maxTags))
	}
	if len(tags) > 0 {
		var pairs []string
		for _, name := range slices.Sorted(maps.Keys(tags)) {
			switch {
			case !validTagName.MatchString(name):
				return s.paramError("tags", "'"+name+"' is not a valid tag name")
			case !validTagValue.MatchString(tags[name]):
				return s.paramError("tags", "'"+tags[name]+"' is not a valid tag value")
			}
			pairs = append(pairs, strings.ToLower(name)+"="+strings.ToLower(tags[name]))
		}
		slices.Sort(pairs)
		m.stream = strings.Join(pairs, ",")
	}
	at := body.Time
	if w.Time != nil {
		at = w.Time
	}
	return s.add(p, w, m, "time", at)
}

// add checks what both APIs share and appends m to p.
func (s *Server) add(p *post, w *wireMeasurement, m measurement, timeField string, at *number) *answer {
	switch {
	case w.Name == nil:
		return s.paramError("name", "is missing")
	case !validName.MatchString(*w.Name):
		return s.paramError("name", *w.Name+" is not a valid metric name")
	}
	m.name = *w.Name

	now := s.clock()
	m.time = now.Unix()
	if at != nil {
		var ok bool
		if m.time, ok = at.integer(); !ok {
			return s.paramError(timeField, "must be an integer")
		}
		switch ahead := m.time - now.Unix(); {
		case ahead < -int64(MaxAge.Seconds()):
			return s.paramError(timeField, "is too far in the past")
		case s.maxFuture > 0 && ahead > int64(s.maxFuture.Seconds()):
			return s.paramError(timeField, "is too far in the future")
		}
	}
	if refusal := s.readValue(w, &m); refusal != nil {
		return refusal
	}
	if refusal := s.checkProperties(&w.wireProperties); refusal != nil {
		return refusal
	}
	p.measurements = append(p.measurements, m)
	return nil
}

// readValue takes a single value, or count and sum with what else belongs to a complex gauge; never both.
func (s *Server) readValue(w *wireMeasurement, m *measurement) *answer {
	values := map[string]float64{}
	for _, field := range []struct {
		name string
		n    *number
	}{
		{"value", w.Value},
		{"sum", w.Sum},
		{"min", w.Min},
		{"max", w.Max},
		{"sum_squares", w.SumSquares},
		{"last", w.Last},
		{"stddev", w.Stddev},
	} {
		if field.n == nil {
			continue
		}
		f, ok := field.n.float()
		if !ok {
			return s.paramError(field.name, "is out of range")
		}
		values[field.name] = f
	}
	value, single := values["value"]
	sum, hasSum := values["sum"]
	switch {
	case w.Count == nil && !single:
		return s.paramError("value", "is missing")
	case m.counter && (w.Count != nil || len(values) > 1):
		return s.paramError("count", "is for gauges only")
	case m.counter && value < 0:
		return s.paramError("value", "must be positive")
	case w.Count == nil && len(values) > 1:
		return s.paramError("count", "is missing")
	case w.Count == nil:
		m.value = librato.SummaryOf(value)
		return nil
	case single:
		return s.paramError("value", "must not be set together with count")
	case !hasSum:
		return s.paramError("sum", "is missing")
	}
	count, ok := w.Count.integer()
	if !ok {
		return s.paramError("count", "must be an integer")
	}
	if count <= 0 {
		return s.paramError("count", "must be positive")
	}
	m.value = librato.Summary{Count: uint64(count), Sum: sum, Min: sum / float64(count), Max: sum / float64(count)}
	if low, ok := values["min"]; ok {
		m.value.Min = low
	}
	if high, ok := values["max"]; ok {
		m.value.Max = high
	}
	return nil
}

var summarizeFunctions = []string{"average", "sum", "count", "min", "max"}

func (s *Server) checkProperties(p *wireProperties) *answer {
	if p.Period != nil {
		// The reference gives the bounds for service-side aggregation; a period beyond them is of no use without it.
		if period, ok := p.Period.integer(); !ok || period < 10 || period > 600 {
			return s.paramError("period", "must be an integer from 10 to 600")
		}
	}
	for name, kind := range map[string]string{"aggregate": "bool", "display_stacked": "bool", "summarize_function": "string"} {
		if v, ok := p.Attributes[name]; ok && v != nil && fmt.Sprintf("%T", v) != kind {
			return s.paramError("attributes", "'"+name+"' is not a "+kind)
		}
	}
	if f, ok := p.Attributes["summarize_function"].(string); ok && !slices.Contains(summarizeFunctions, f) {
		return s.paramError("attributes", "'"+f+"' is not a valid summarize_function")
	}
	return nil
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoserver

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// GET, PUT and DELETE of /v1/metrics.

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
	for _, key := range slices.Sorted(maps.Keys(s.store.metrics)) {
		if strings.Contains(key, strings.ToLower(query.Get("name"))) {
			found = append(found, s.store.metrics[key].describe())
		}
	}
	offset = min(max(offset, 0), len(found))
	page := found[offset:min(offset+length, len(found))]
	return answer{status: http.StatusOK, body: toJSON(map[string]any{
		"query":   map[string]int{"found": len(found), "length": len(page), "offset": offset, "total": len(s.store.metrics)},
		"metrics": page,
	})}
}

// get answers GET /v1/metrics/:name; with start_time or count, the measurements as well: those from start_time to
// end_time (now), of these the last count, rolled up to resolution (the metric's period), of the sources that
// match source or sources[] (globs).
func (s *Server) get(name string, query url.Values) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.store.metrics[strings.ToLower(name)]
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
	m, exists := s.store.metrics[key]
	switch {
	case exists && w.Type != "" && w.Type != m.kind():
		return *s.paramError("type", "'"+m.name+"' is a "+m.kind()+", but was submitted as different type")
	case exists:
		m.set(&w)
		return answer{status: http.StatusNoContent}
	case w.Type != "gauge" && w.Type != "counter":
		return *s.paramError("type", "is missing or not valid")
	}
	m = s.store.create(name, w.Type == "counter", req.Header.Get("User-Agent"), &w)
	return answer{status: http.StatusCreated, body: toJSON(m.describe()), location: "/v1/metrics/" + name}
}

func (s *Server) remove(name string) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(name)
	if _, ok := s.store.metrics[key]; !ok {
		return notFound
	}
	delete(s.store.metrics, key)
	return answer{status: http.StatusNoContent}
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoserver

import (
	"cmp"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// routeLocal adds what tests need that drive a server in another process, and what the page reads. None of it is
// Librato's, and none of it asks for credentials; what changes something takes no form from a foreign web page.
//
//	GET  /_local/totals    every stream: [{"name","type","source","stored","received","periods"}, …]
//	GET  /_local/stats     the counts of Stats
//	GET  /_local/requests  the recorded requests without bodies; ?bodies=true with them, as "body";
//	                       ?last=N; ?posts=true those alone that posted measurements
//	GET  /_local/metrics   [{"name","type","period","function","sources","count","sum","latest"}, …]
//	GET  /_local/graph     ?name=NAME&minutes=N: the sources of a metric, rolled up to its period;
//	                       ?source=TEXT: those alone whose names contain it
//	POST /_local/fail      a Failure, or a list of them, as JSON
//	POST /_local/apply     applies what was to be applied later: {"applied":N}
//	POST /_local/reset     forgets everything; ?failures=only keeps all but the failures
func (s *Server) routeLocal(mux *http.ServeMux) {
	local := http.NewServeMux()
	local.HandleFunc("GET /_local/totals", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Totals()) })
	local.HandleFunc("GET /_local/stats", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Stats()) })
	local.HandleFunc("GET /_local/requests", s.handleRequests)
	local.HandleFunc("GET /_local/metrics", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.metricList()) })
	local.HandleFunc("GET /_local/graph", s.handleGraph)
	local.HandleFunc("POST /_local/fail", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			requestError(http.StatusBadRequest, "could not be read").write(w)
			return
		}
		failures, err := decodeFailures(body)
		if err != nil {
			requestError(http.StatusBadRequest, err.Error()).write(w)
			return
		}
		s.Fail(failures...)
		writeJSON(w, map[string]int{"failures": s.Failures()})
	})
	local.HandleFunc("POST /_local/apply", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]int{"applied": s.ApplyPending()})
	})
	local.HandleFunc("POST /_local/reset", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("failures") == "only" {
			s.ClearFailures()
		} else {
			s.Reset()
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.Handle("/_local/", http.NewCrossOriginProtection().Handler(local))
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Cache-Control", "no-store")
	answer{status: http.StatusOK, body: toJSON(v)}.write(w)
}

func (s *Server) handleRequests(w http.ResponseWriter, r *http.Request) {
	type withBody struct {
		Request
		Body string `json:"body,omitempty"`
	}
	requests := s.Requests()
	if r.URL.Query().Get("posts") == "true" {
		requests = s.Posts()
	}
	if last, err := strconv.Atoi(r.URL.Query().Get("last")); err == nil && last >= 0 && last < len(requests) {
		requests = requests[len(requests)-last:]
	}
	out := make([]withBody, len(requests))
	for i, req := range requests {
		out[i].Request = req
		if r.URL.Query().Get("bodies") == "true" {
			out[i].Body = string(req.Body)
		}
	}
	writeJSON(w, out)
}

// metricLine is one line of the page's list.
type metricLine struct {
	Name     string  `json:"name"`
	Type     string  `json:"type"`
	Period   int64   `json:"period"`
	Function string  `json:"function"`
	Sources  int     `json:"sources"`
	Count    uint64  `json:"count"`
	Sum      float64 `json:"sum"`
	Latest   int64   `json:"latest"` // Unix seconds of the newest measurement
}

func (s *Server) metricList() []metricLine {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := []metricLine{}
	for _, m := range s.store.metrics {
		line := metricLine{Name: m.name, Type: m.kind(), Period: m.seconds(), Function: m.function(), Sources: len(m.streams)}
		for _, st := range m.streams {
			for at, v := range st.points {
				line.Count += v.Count
				line.Sum += v.Sum
				line.Latest = max(line.Latest, at)
			}
		}
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b metricLine) int { return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	return lines
}

// graph is one metric as the page draws it: a column for each period, a row for each source.
type graph struct {
	Name     string      `json:"name"`
	Type     string      `json:"type"`
	Period   int64       `json:"period"`
	Function string      `json:"function"`
	Stacked  bool        `json:"stacked"`
	Times    []int64     `json:"times"`
	Sources  []graphLine `json:"sources"`
	Omitted  int         `json:"omitted"`          // sources that are not drawn, the smallest ones
	Others   []*float64  `json:"others,omitempty"` // their sum, where values add up
}

type graphLine struct {
	Source string     `json:"source"`
	Values []*float64 `json:"values"` // null: nothing was sent
}

// maxGraphLines is how many sources the page draws: as many as it has colours that are told apart.
const maxGraphLines = 8

func (s *Server) handleGraph(w http.ResponseWriter, r *http.Request) {
	minutes, err := strconv.ParseInt(r.URL.Query().Get("minutes"), 10, 64)
	if err != nil || minutes <= 0 || minutes > 24*60 {
		minutes = 30
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.store.metrics[strings.ToLower(r.URL.Query().Get("name"))]
	if m == nil {
		notFound.write(w)
		return
	}
	g := graph{Name: m.name, Type: m.kind(), Period: m.seconds(), Function: m.function(), Sources: []graphLine{}}
	g.Stacked, _ = m.attributes["display_stacked"].(bool)
	end := floor(s.clock().Unix(), g.Period)
	column := map[int64]int{}
	for at := floor(end-minutes*60, g.Period); at <= end; at += g.Period {
		column[at] = len(g.Times)
		g.Times = append(g.Times, at)
	}
	size := map[string]float64{}
	wanted := strings.ToLower(r.URL.Query().Get("source"))
	for _, key := range slices.Sorted(maps.Keys(m.streams)) {
		st := m.streams[key]
		if !strings.Contains(strings.ToLower(st.name), wanted) {
			continue
		}
		line := graphLine{Source: st.name, Values: make([]*float64, len(g.Times))}
		seen := false
		for _, p := range rollup(st.points, g.Period, m.counter) {
			if i, ok := column[p.Time]; ok {
				v := summarize(g.Function, p.Values)
				line.Values[i] = &v
				size[st.name] += v
				seen = true
			}
		}
		if seen {
			g.Sources = append(g.Sources, line)
		}
	}
	if len(g.Sources) > maxGraphLines {
		g.Omitted = len(g.Sources) - maxGraphLines
		slices.SortStableFunc(g.Sources, func(a, b graphLine) int { return cmp.Compare(size[b.Source], size[a.Source]) })
		if !m.counter && (g.Function == "sum" || g.Function == "count") {
			g.Others = total(g.Sources[maxGraphLines:])
		}
		g.Sources = g.Sources[:maxGraphLines]
		slices.SortFunc(g.Sources, func(a, b graphLine) int { return cmp.Compare(a.Source, b.Source) })
	}
	writeJSON(w, g)
}

// total adds up the values of each period; a period without any stays without.
func total(lines []graphLine) []*float64 {
	sums := make([]*float64, len(lines[0].Values))
	for _, line := range lines {
		for i, v := range line.Values {
			if v == nil {
				continue
			}
			if sums[i] == nil {
				sums[i] = new(float64)
			}
			*sums[i] += *v
		}
	}
	return sums
}

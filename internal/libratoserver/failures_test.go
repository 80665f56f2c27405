// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoserver

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

func TestFailuresInOrder(t *testing.T) {
	h := newHarness(t)
	h.Fail(
		Failure{Status: 503, RetryAfter: "7", Times: 2},
		Failure{Status: 429, Body: `{"errors":{"request":["You have hit the API limit"]}}`},
		Failure{},
	)
	assert.Equal(t, 3, h.Failures())
	body := gauge("a", "s", 0, 1, "")
	for i, want := range []int{503, 503, 429, 0, 200} {
		status, answer, header := h.do(http.MethodPost, "/v1/metrics", body)
		assert.Equal(t, want, status, i)
		switch want {
		case 503:
			assert.Equal(t, "7", header.Get("Retry-After"))
		case 429:
			assert.Contains(t, answer, "hit the API limit")
		}
	}
	assert.Zero(t, h.Failures())
	assert.Equal(t, uint64(1), h.Received("a", "s").Count)
	assert.Equal(t, map[int]int{0: 1, 200: 1, 429: 1, 503: 2}, h.Stats().Statuses)
}

func TestFailuresByPredicate(t *testing.T) {
	h := newHarness(t)
	h.Fail(
		Failure{Status: 500, Contains: `"poison"`, Times: -1},
		Failure{Status: 501, Path: "/v1/measurements"},
		Failure{Status: 502, Skip: 1, Match: func(r *Request) bool { return strings.Contains(string(r.Body), "skipped") }},
	)
	for range 3 {
		status, _ := h.post(gauge("poison", "s", 0, 1, ""))
		assert.Equal(t, 500, status)
	}
	h.mustPost(gauge("good", "s", 0, 1, ""))
	status, _ := h.tagged(`{}`)
	assert.Equal(t, 501, status)
	h.mustPost(gauge("skipped", "s", 0, 1, ""))
	status, _ = h.post(gauge("skipped", "s", 0, 1, ""))
	assert.Equal(t, 502, status)
	assert.Equal(t, 1, h.Failures())
	h.ClearFailures()
	h.mustPost(gauge("poison", "s", 0, 1, ""))
}

func TestFailuresByChance(t *testing.T) {
	run := func(seed uint64) (statuses []int) {
		h := newHarness(t, WithSeed(seed))
		h.Fail(Failure{Status: 503, Probability: 0.5, Times: -1})
		for range 40 {
			status, _ := h.post(gauge("a", "s", 0, 1, ""))
			statuses = append(statuses, status)
		}
		return statuses
	}
	one := run(1)
	assert.Equal(t, one, run(1))
	assert.Contains(t, one, 200)
	assert.Contains(t, one, 503)
}

func TestTakenWithoutAnAnswer(t *testing.T) {
	h := newHarness(t)
	h.Fail(Failure{Apply: ApplyNow})
	status, _ := h.post(gauge("a", "s", 0, 1, ""))
	assert.Zero(t, status)
	assert.Equal(t, librato.SummaryOf(1), h.Sum("a", "s"))
	h.mustPost(gauge("a", "s", 0, 1, ""))
	assert.Equal(t, librato.SummaryOf(1), h.Sum("a", "s"))
	assert.Equal(t, 1, h.Stats().Repeated)
	assert.Zero(t, h.Posts()[0].Status)
	assert.Equal(t, 1, h.Posts()[0].Applied)
}

func TestAppliedLater(t *testing.T) {
	h := newHarness(t)
	h.Fail(Failure{Status: 504, Apply: ApplyLater, After: 2}, Failure{Status: 504, Apply: ApplyLater, After: 100})
	status, _ := h.post(gauge("a", "s", 0, 1, ""))
	assert.Equal(t, 504, status)
	assert.Equal(t, 1, h.Stats().Pending)
	status, _ = h.post(gauge("a", "s", 1, 100, ""))
	assert.Equal(t, 504, status)
	assert.Zero(t, h.Sum("a", "s").Count)
	h.mustPost(gauge("a", "s", 0, 10, ""))
	assert.InDelta(t, 1, h.Sum("a", "s").Sum, 0, "the older post arrives after the newer one and takes its place")
	assert.Equal(t, 1, h.ApplyPending())
	assert.InDelta(t, 101, h.Sum("a", "s").Sum, 0)
	assert.Zero(t, h.Stats().Pending)
}

func TestBadPostsAreNeverApplied(t *testing.T) {
	for _, apply := range []Apply{ApplyNow, ApplyLater, ApplyPart} {
		h := newHarness(t)
		h.Fail(Failure{Status: 504, Apply: apply, Take: 2})
		status, _ := h.post(`{"gauges":[{"name":"a","value":1},{"name":"b d","value":1}]}`)
		assert.Equal(t, 504, status)
		assert.Zero(t, h.ApplyPending())
		assert.Empty(t, h.Totals())
	}
}

func TestTakenInPart(t *testing.T) {
	h := newHarness(t)
	body := `{"measurements":[{"name":"a","value":1},{"name":"b","value":1},{"name":"c","value":1}]}`
	h.Fail(
		Failure{Status: 202, Apply: ApplyPart, TakeIf: func(name, _ string) bool { return name != "b" }},
		Failure{Status: 429, Apply: ApplyPart, Take: 1},
		Failure{Status: 202, Apply: ApplyPart, Body: "{}"},
	)
	status, answer := h.tagged(body)
	assert.Equal(t, 202, status)
	assert.JSONEq(t, `{"measurements":{"summary":{"total":3,"accepted":2,"failed":1,"filtered":0}},
		"errors":[{"param":"name","value":"b","reason":"is not valid"}]}`, answer)
	assert.Len(t, h.Totals(), 2)

	status, answer = h.tagged(body)
	assert.Equal(t, 429, status)
	response := librato.ParseResponse(status, http.Header{}, []byte(answer), time.Unix(start, 0))
	assert.Equal(t, librato.VerdictAgain, response.Verdict)
	assert.Equal(t, 1, response.Accepted)
	offenders := response.Judge(librato.Measurements, []librato.Measurement{{Name: "a"}, {Name: "b"}, {Name: "c"}}).Named
	assert.Equal(t, []int{1, 2}, offenders)

	status, answer = h.tagged(body)
	assert.Equal(t, 202, status)
	assert.Equal(t, "{}", answer)
	assert.Equal(t, []int{2, 1, 0}, []int{h.Posts()[0].Applied, h.Posts()[1].Applied, h.Posts()[2].Applied})
}

func TestSlowAnswers(t *testing.T) {
	h := newHarness(t)
	h.Fail(Failure{Status: 200, Apply: ApplyNow, Delay: Duration(time.Hour)}, Failure{Status: 503, Delay: Duration(time.Millisecond)})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+"/v1/metrics", strings.NewReader(gauge("a", "s", 0, 1, "")))
	require.NoError(t, err)
	req.SetBasicAuth("a", "b")
	req.Header.Set("Content-Type", "application/json")
	done := make(chan error)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		done <- err
	}()
	assert.Eventually(t, func() bool { return h.Sum("a", "s").Count == 1 }, 5*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	assert.Eventually(t, func() bool { return len(h.Posts()) == 1 }, 5*time.Second, time.Millisecond)
	assert.Zero(t, h.Posts()[0].Status)
	status, _ := h.post(gauge("a", "s", 0, 1, ""))
	assert.Equal(t, 503, status)
}

// TestDocumentedAnswers holds this server's words and package librato's reading of them together.
func TestDocumentedAnswers(t *testing.T) {
	h := newHarness(t, WithMaxFuture(10*time.Minute))
	h.mustPost(`{"counters":[{"name":"rack.request.total","value":1}]}`)
	good := librato.Measurement{Name: "good", Source: "s", Time: start, Summary: librato.SummaryOf(1)}
	for _, tt := range []struct {
		bad    librato.Measurement
		reason librato.Reason
		named  bool
	}{
		{librato.Measurement{Name: "a b", Time: start, Summary: librato.SummaryOf(1)}, librato.ReasonInvalidName, true},
		{librato.Measurement{Name: "a", Source: "b c", Time: start, Summary: librato.SummaryOf(1)}, librato.ReasonInvalidSource, true},
		{librato.Measurement{Name: "a", Source: "all", Time: start, Summary: librato.SummaryOf(1)}, librato.ReasonInvalidSource, true},
		{librato.Measurement{Name: "Rack.Request.Total", Time: start, Summary: librato.SummaryOf(1)}, librato.ReasonTypeConflict, true},
		{librato.Measurement{Name: "a", Time: start - 7201, Summary: librato.SummaryOf(1)}, librato.ReasonTooOld, true},
		{librato.Measurement{Name: "a", Time: start + 601, Summary: librato.SummaryOf(1)}, librato.ReasonInTheFuture, true},
		{librato.Measurement{Name: "a", Time: start, Summary: librato.SummaryOf(1e127)}, librato.ReasonInvalidValue, false},
		{librato.Measurement{Name: "a", Time: start, Summary: librato.Summary{}}, librato.ReasonInvalidValue, false},
	} {
		ms := []librato.Measurement{good, tt.bad, good}
		status, answer := h.post(string(librato.AppendMetrics(nil, ms)))
		response := librato.ParseResponse(status, http.Header{}, []byte(answer), time.Unix(start, 0))
		assert.Equal(t, librato.VerdictRefused, response.Verdict, answer)
		verdict := response.Judge(librato.Metrics, ms)
		assert.Equal(t, tt.reason, verdict.Reason, answer)
		if tt.named {
			assert.Equal(t, []int{1}, verdict.Named, answer)
		} else {
			assert.Nil(t, verdict.Named, answer)
		}
	}
	status, _ := h.tagged(string(librato.AppendMeasurements(nil, []librato.Measurement{{
		Name: "a", Time: start, Summary: librato.Summary{Count: 2, Sum: 3, Min: 1, Max: 2}, Tags: []librato.Tag{{Name: "az", Value: "b"}},
		Properties: &librato.Properties{Period: 60, Aggregate: true, SummarizeFunction: "sum", DisplayStacked: true},
	}})))
	assert.Equal(t, 202, status)
	assert.Equal(t, librato.Summary{Count: 2, Sum: 3, Min: 1, Max: 2}, h.Sum("a", "az=b"))
	status, _ = h.tagged(`{`)
	assert.Equal(t, 429, status)
}

func TestLocalEndpoints(t *testing.T) {
	h := newHarness(t)
	status, answer, _ := h.do(http.MethodPost, "/_local/fail", `{"status":504,"apply":"later","after":3,"delay":"1ms"}`)
	assert.Equal(t, 200, status)
	assert.JSONEq(t, `{"failures":1}`, answer)
	status, _, _ = h.do(http.MethodPost, "/_local/fail", ` [{"status":503,"retry_after":"1","times":-1,"contains":"x"}, {}]`)
	assert.Equal(t, 200, status)
	for _, bad := range []string{`{"apply":"sometimes"}`, `{"delay":"1"}`, `{"statuses":503}`, `{`} {
		status, answer, _ = h.do(http.MethodPost, "/_local/fail", bad)
		assert.Equal(t, 400, status, "%s: %s", bad, answer)
	}
	assert.Equal(t, 3, h.Failures())

	status, _ = h.post(gauge("a", "s", 0, 2.5, ssa))
	assert.Equal(t, 504, status)
	_, answer, _ = h.do(http.MethodGet, "/_local/totals", "")
	assert.JSONEq(t, `[]`, answer)
	_, answer, _ = h.do(http.MethodPost, "/_local/apply", "")
	assert.JSONEq(t, `{"applied":1}`, answer)
	_, answer, _ = h.do(http.MethodGet, "/_local/totals", "")
	values := `{"count":1,"sum":2.5,"min":2.5,"max":2.5}`
	assert.JSONEq(t, fmt.Sprintf(`[{"name":"a","type":"gauge","source":"s","stored":%s,"received":%s,
		"periods":[{"time":%d,"count":1,"sum":2.5,"min":2.5,"max":2.5}]}]`, values, values, start), answer)
	_, answer, _ = h.do(http.MethodGet, "/_local/metrics", "")
	assert.JSONEq(t, fmt.Sprintf(`[{"name":"a","type":"gauge","period":60,"function":"sum","sources":1,"count":1,"sum":2.5,"latest":%d}]`, start), answer)
	_, answer, _ = h.do(http.MethodGet, "/_local/graph?name=A&minutes=2", "")
	assert.JSONEq(t, fmt.Sprintf(`{"name":"a","type":"gauge","period":60,"function":"sum","stacked":true,"omitted":0,
		"times":[%d,%d,%d],"sources":[{"source":"s","values":[null,null,2.5]}]}`, start-120, start-60, start), answer)
	status, _, _ = h.do(http.MethodGet, "/_local/graph?name=none", "")
	assert.Equal(t, 404, status)
	_, answer, _ = h.do(http.MethodGet, "/_local/requests?last=1&bodies=true", "")
	assert.Contains(t, answer, `"body":"{\"gauges\"`)
	_, answer, _ = h.do(http.MethodGet, "/_local/requests", "")
	assert.NotContains(t, answer, `"body"`)
	_, answer, _ = h.do(http.MethodGet, "/_local/stats", "")
	assert.Contains(t, answer, `"statuses":{"504":1}`)

	status, _, _ = h.do(http.MethodPost, "/_local/reset", "", "Sec-Fetch-Site", "cross-site")
	assert.Equal(t, 403, status, "a web page elsewhere cannot reset it")
	status, _, _ = h.do(http.MethodPost, "/_local/reset?failures=only", "")
	assert.Equal(t, 204, status)
	assert.Zero(t, h.Failures())
	assert.NotEmpty(t, h.Totals())
	status, _, _ = h.do(http.MethodPost, "/_local/reset", "")
	assert.Equal(t, 204, status)
	assert.Empty(t, h.Totals())
}

func TestGraphDrawsTheLargestSources(t *testing.T) {
	h := newHarness(t)
	const average = `,"attributes":{"summarize_function":"average"}`
	for i := range maxGraphLines + 3 {
		h.mustPost(gauge("a", fmt.Sprintf("s-%02d", i), 0, float64(i), ssa))
		h.mustPost(gauge("b", fmt.Sprintf("s-%02d", i), 0, float64(i), average))
	}
	_, answer, _ := h.do(http.MethodGet, "/_local/graph?name=a&minutes=1", "")
	assert.Contains(t, answer, `"omitted":3`)
	assert.NotContains(t, answer, `"s-02"`)
	assert.Contains(t, answer, `"s-03"`)
	assert.Contains(t, answer, `"others":[null,3]`, "those that are left out add up")
	_, answer, _ = h.do(http.MethodGet, "/_local/graph?name=b&minutes=1", "")
	assert.Contains(t, answer, `"omitted":3`)
	assert.NotContains(t, answer, `"others"`, "averages do not add up")
	_, answer, _ = h.do(http.MethodGet, "/_local/graph?name=a&minutes=1&source=S-01", "")
	assert.Contains(t, answer, `"omitted":0`)
	assert.Contains(t, answer, `"sources":[{"source":"s-01","values":[null,1]}]`)
}

func TestPage(t *testing.T) {
	h := newHarness(t)
	for path, contentType := range map[string]string{
		"/": "text/html; charset=utf-8", "/page.js": "text/javascript; charset=utf-8", "/uPlot.iife.min.js": "text/javascript; charset=utf-8",
		"/page.css": "text/css; charset=utf-8", "/uPlot.LICENSE": "text/plain; charset=utf-8",
	} {
		status, answer, header := h.do(http.MethodGet, path, "")
		assert.Equal(t, 200, status, path)
		assert.Equal(t, contentType, header.Get("Content-Type"), path)
		assert.Contains(t, header.Get("Content-Security-Policy"), "script-src 'self'")
		assert.NotContains(t, answer, "innerHTML =", "names come from outside and are written as text")
		if path == "/" {
			assert.NotRegexp(t, `(src|href)="[^"]*//`, answer, "the page needs no network")
		}
	}
}

func BenchmarkSink(b *testing.B) {
	ms := make([]librato.Measurement, librato.Metrics.MaxMeasurements)
	for i := range ms {
		ms[i] = librato.Measurement{Name: "Order-Completed", Source: fmt.Sprintf("web-%d", i), Time: start, Summary: librato.SummaryOf(1)}
	}
	body := string(librato.AppendMetrics(nil, ms))
	for name, s := range map[string]*Server{
		"sink":  New(WithSink()),
		"store": New(WithClock(func() time.Time { return time.Unix(start, 0) })),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, "/v1/metrics", strings.NewReader(body))
				r.SetBasicAuth("a", "b")
				r.Header.Set("Content-Type", "application/json")
				s.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}

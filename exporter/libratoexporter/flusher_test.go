// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadatatest"
	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

// TestAnswers walks the answers that LIBRATO.md's tables list, and those that users of other shippers saw: each is given
// to the posts that hold the stream "bad", by name or by source. The measurements of ten others arrive whatever is said.
func TestAnswers(t *testing.T) {
	param := func(field, text string) string {
		return fmt.Sprintf(`{"errors":{"params":{%q:[%q]}},"request_time":1623713765}`, field, text)
	}
	request := func(text string) string { return fmt.Sprintf(`{"errors":{"request":[%q]}}`, text) }
	for _, tt := range []struct {
		name   string
		status int
		body   string
		once   bool   // the service answers so once; else as long as the bad stream is in the request
		why    reason // bad is refused for; empty: it arrives, later
		posts  int    // until then; 0: as many as halving takes
		kept   bool   // it is kept, as the answer need not be about it
	}{
		// A request that is refused: the good measurements go again at once.
		{name: "400 names the metric", status: 400, body: param("name", "bad is not a valid metric name"), why: "invalid_name", posts: 2},
		{name: "400 names the source", status: 400, body: param("source", "bad-source is not a valid source name"), why: "invalid_source", posts: 2},
		{name: "400 for another type", status: 400, body: param("type", "'bad' is a counter, but was submitted as different type"), why: "type_conflict", posts: 2},
		{
			name: "400 with two errors", status: 400, why: "invalid_name", posts: 2,
			body: `{"errors":{"params":{"value":["must be positive"],"name":["bad is not a valid metric name"]}}}`,
		},
		{name: "400 for a value", status: 400, body: `{"errors":{"params":{"value":["must be positive"]}}}`, why: "invalid_value"},
		{name: "400 for NaN or a fractional count", status: 400, body: param("count", "must be an integer"), why: "invalid_value"},
		{name: "400 that names nothing", status: 400, body: request("is invalid"), why: "rejected"},
		{name: "400 without a body", status: 400, why: "rejected"},
		{name: "413", status: 413, body: request("is too large"), why: "rejected"},
		{name: "422", status: 422, body: param("name", "'bad' already exists"), why: "invalid_name", posts: 2},
		{name: "429 that names the metric", status: 429, body: param("name", "bad is not valid"), why: "invalid_name", posts: 2},

		// A request that is to come again, but holds up nobody for what is in it.
		{name: "400 of HTML", status: 400, body: "<html>no</html>", kept: true},
		{name: "429 that could not be parsed", status: 429, body: request("could not be parsed"), kept: true},
		{name: "403 of a firewall", status: 403, body: "<html>blocked</html>", kept: true},
		{name: "404 of a proxy", status: 404, body: "<html>not found</html>", kept: true},
		{name: "200 of a proxy", status: 200, body: "<html>log in</html>", kept: true},

		// A request that is to come again.
		{name: "401", status: 401, body: request("Authorization Required"), once: true, posts: 2},
		{name: "403 not over TLS", status: 403, once: true, posts: 2},
		{name: "403 rate limited", status: 403, body: request("You have hit the API limit for measurements [measure:raw_rate]"), once: true, posts: 2},
		{name: "429", status: 429, body: request("You have hit the API limit for measurements [measure:raw_rate]"), once: true, posts: 2},
		{name: "429 without a body", status: 429, once: true, posts: 2},
		{name: "500", status: 500, once: true, posts: 2},
		{name: "503", status: 503, body: `{"errors":{"system":["The API is currently down for maintenance. It'll be back shortly."]}}`, once: true, posts: 2},
		{name: "408", status: 408, once: true, posts: 2},
		{name: "404", status: 404, body: request("Not Found"), once: true, posts: 2},
		{name: "405", status: 405, once: true, posts: 2},
		{name: "415", status: 415, once: true, posts: 2},
		{name: "301", status: 301, once: true, posts: 2},
		{name: "no answer", status: 0, once: true, posts: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, nil)
			failure := libratoserver.Failure{Status: tt.status, Body: tt.body, Contains: `"bad`, Times: -1}
			if tt.once {
				failure.Times = 1
			}
			h.service.Fail(failure)
			h.send(track("bad", "bad-source", 1))
			h.sendStreams(10)
			h.pass(30 * time.Second)
			if tt.kept {
				h.pass(time.Minute)
			}

			for i := range 10 {
				h.stored(fmt.Sprintf("stream-%d", i), "s", 1, 1)
			}
			switch {
			case tt.kept:
				assert.LessOrEqual(t, h.service.Stats().Posts, 30)
			case tt.posts > 0:
				assert.Equal(t, tt.posts, h.service.Stats().Posts)
			default:
				assert.LessOrEqual(t, float64(h.service.Stats().Posts), 2*math.Log2(11)+3)
			}
			sent, unsent := int64(11), 0
			switch {
			case tt.kept:
				sent, unsent = 10, 1
				assert.Zero(t, h.refused("rejected"))
			case tt.why == "":
				h.stored("bad", "bad-source", 1, 1)
			default:
				sent = 10
				assert.Equal(t, int64(1), h.counter("measurements_refused", string(tt.why)), "measurements refused")
				assert.Equal(t, int64(1), h.refused(tt.why))
				lines := h.logs.FilterMessage("refused a measurement: " + string(tt.why)).All()
				require.Len(t, lines, 1)
				fields := lines[0].ContextMap()
				assert.Equal(t, "bad", fields["metric"])
				assert.Equal(t, "bad-source", fields["source"])
			}
			assert.Equal(t, sent, h.counter("measurements_sent", "gauge"))
			assert.Equal(t, unsent, h.exporter.journal.count())
			status := strconv.Itoa(tt.status)
			if tt.status == 0 {
				status = "error"
			}
			assert.NotZero(t, h.counter("requests", status))
			assert.NotZero(t, h.counter("requests", "200"))

			h.send(track("stream-0", "s", 1)) // and nothing is stuck
			h.pass(time.Minute)
			h.stored("stream-0", "s", 2, 2)
			if tt.kept {
				h.service.ClearFailures()
				h.pass(time.Minute)
				h.stored("bad", "bad-source", 1, 1)
			}
		})
	}
}

// What other shippers sent wrong, this exporter cannot send: three events of 5 are {count 3, sum 15}, and a repeat holds
// what the first try held, not what came since.
func TestRepeatsAreUnchanged(t *testing.T) {
	for _, failure := range []libratoserver.Failure{
		{Status: 503},
		{Status: 0}, // the connection breaks
		{Status: 0, Apply: libratoserver.ApplyNow}, // the service took it, the answer got lost
		{Status: 504, Apply: libratoserver.ApplyNow},
		{Status: 503, Apply: libratoserver.ApplyLater, After: 2}, // it takes it after all
	} {
		t.Run(fmt.Sprint(failure.Status, failure.Apply), func(t *testing.T) {
			h := newHarness(t, func(cfg *Config) { cfg.Gauges.ServiceSideAggregation = false })
			h.send(track("Order", "s", 5), track("Order", "s", 5), track("Order", "s", 5))
			h.service.Fail(failure)
			h.pass(9500 * time.Millisecond)
			h.send(track("Order", "s", 7)) // while the first is unconfirmed
			h.pass(time.Minute)

			posts := h.service.Posts()
			require.Len(t, posts, 3)
			first := measurementsOfBody(t, posts[0].Body)
			require.Len(t, first, 1)
			assert.Contains(t, first[0], `"count":3,"sum":15,"min":5,"max":5`)
			assert.Equal(t, first, measurementsOfBody(t, posts[1].Body))
			assert.Contains(t, string(posts[2].Body), `"value":7`)
			h.stored("Order", "s", 4, 22)
			assert.Zero(t, h.service.Stats().Replaced)
		})
	}
}

// A request that times out is posted again unchanged, and its body is not written over while the transport may read it.
func TestTimeout(t *testing.T) {
	h := newHarness(t, func(cfg *Config) {
		cfg.Timeout = 250 * time.Millisecond
		cfg.Gauges.ServiceSideAggregation = false
	})
	h.service.Fail(libratoserver.Failure{Delay: libratoserver.Duration(time.Hour), Apply: libratoserver.ApplyNow, Times: 3})
	h.sendStreams(300)
	h.pass(3 * time.Minute)
	assert.GreaterOrEqual(t, h.counter("requests", "error"), int64(3))
	for i := range 300 {
		h.stored(fmt.Sprintf("stream-%d", i), "s", 1, 1)
	}
	assert.Zero(t, h.service.Stats().Replaced)
}

// A 202 or 429 that took a part: only what was not taken is sent again, or refused where the body says so.
func TestPartialSuccess(t *testing.T) {
	tags := func(cfg *Config) { cfg.API = APIMeasurements }
	notBad := func(name, _ string) bool { return name != "bad" }
	for _, tt := range []struct {
		name    string
		failure libratoserver.Failure
		why     reason
	}{
		{"202 names what it refused", libratoserver.Failure{Status: 202, Reason: "is not a valid name"}, "invalid_name"},
		{"429 for a limit", libratoserver.Failure{Status: 429, Reason: "rate limit reached"}, ""},
		{"202 for a limit", libratoserver.Failure{Status: 202, Reason: "rate limit reached"}, ""},
		{"429 that is no limit", libratoserver.Failure{Status: 429, Reason: "is not a valid name"}, "invalid_name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, tags)
			tt.failure.Apply, tt.failure.TakeIf = libratoserver.ApplyPart, notBad
			h.service.Fail(tt.failure)
			h.send(track("bad", "s", 1))
			h.sendStreams(3)
			h.pass(30 * time.Second)
			for i := range 3 {
				h.stored(fmt.Sprintf("stream-%d", i), "source=s", 1, 1)
			}
			posts := h.service.Posts()
			if tt.why != "" {
				assert.Len(t, posts, 1)
				assert.Equal(t, int64(1), h.refused(tt.why))
				return
			}
			require.Len(t, posts, 2)
			assert.Len(t, measurementsOfBody(t, posts[1].Body), 1, "the rest alone")
			h.stored("bad", "source=s", 1, 1)
			assert.Zero(t, h.counter("measurements_refused", "rejected"))
		})
	}
	t.Run("429 that does not tell", func(t *testing.T) {
		h := newHarness(t, tags)
		h.service.Fail(libratoserver.Failure{Status: 429, Apply: libratoserver.ApplyPart, Take: 2, Body: `{"errors":{"request":["rate limit"]}}`})
		h.sendStreams(4)
		h.pass(30 * time.Second)
		require.Len(t, h.service.Posts(), 2)
		assert.Len(t, measurementsOfBody(t, h.service.Posts()[1].Body), 4)
	})
	t.Run("202 that counts more than it names", func(t *testing.T) {
		h := newHarness(t, tags)
		h.service.Fail(libratoserver.Failure{
			Status: 202, Apply: libratoserver.ApplyPart, Take: 2,
			Body: `{"measurements":{"summary":{"total":4,"accepted":2,"failed":2}},"errors":[{"param":"name","value":"stream-3","reason":"is bad"}]}`,
		})
		h.sendStreams(4)
		h.pass(30 * time.Second)
		assert.Equal(t, int64(1), h.counter("measurements_refused", "invalid_name"))
		assert.Equal(t, int64(1), h.counter("measurements_refused", "rejected"))
		assert.Equal(t, int64(2), h.counter("measurements_sent", "gauge"))
	})
	t.Run("202 that counts and does not name", func(t *testing.T) {
		h := newHarness(t, tags)
		h.service.Fail(libratoserver.Failure{
			Status: 202, Apply: libratoserver.ApplyPart, Take: 3,
			Body: `{"measurements":{"summary":{"total":4,"accepted":3,"failed":1,"filtered":0}}}`,
		})
		h.sendStreams(4)
		h.pass(30 * time.Second)
		assert.Len(t, h.service.Posts(), 1)
		assert.Equal(t, int64(1), h.counter("measurements_refused", "rejected"))
		assert.Equal(t, int64(3), h.counter("measurements_sent", "gauge"))
	})
}

// A measure_time that is refused never halves a request: its oldest second goes, for the future its newest.
func TestMeasureTime(t *testing.T) {
	for _, tt := range []struct {
		text  string
		gone  string
		taken []string
		why   reason
	}{
		{"is too far in the past", "oldest", []string{"middle", "newest"}, reasonTooOld},
		{"is too far in the future", "newest", []string{"oldest", "middle"}, reasonInTheFuture},
	} {
		t.Run(string(tt.why), func(t *testing.T) {
			h := newHarness(t, nil)
			h.pass(20 * time.Minute)
			h.send(reading{name: "oldest", source: "a", value: 1, late: 20 * time.Minute}, reading{name: "oldest", source: "b", value: 1, late: 20 * time.Minute},
				reading{name: "middle", source: "a", value: 1, late: 10 * time.Minute},
				track("newest", "a", 1), track("newest", "b", 1))
			h.service.Fail(libratoserver.Failure{
				Status: 400, Contains: tt.gone, Times: -1,
				Body: `{"errors":{"params":{"measure_time":["` + tt.text + `"]}},"request_time":1488585496}`,
			})
			h.pass(5 * time.Minute)
			for _, name := range tt.taken {
				assert.NotZero(t, h.service.Sum(name, "a").Count, name)
			}
			assert.Equal(t, int64(2), h.refused(tt.why))
			assert.Equal(t, 1, h.service.Stats().Statuses[400])
		})
	}
}

// The service's clock, not ours, decides what is too old for it: each of its refusals costs one request.
func TestServiceClockIsAhead(t *testing.T) {
	h := newHarness(t, nil, libratoserver.WithClock(func() time.Time { return noon.Add(110 * time.Minute) }))
	h.send(reading{name: "a", source: "s", value: 1, late: 70 * time.Minute}, reading{name: "b", source: "s", value: 1, late: 30 * time.Minute}, track("c", "s", 1))
	h.pass(20 * time.Minute)
	h.stored("c", "s", 1, 1)
	assert.Equal(t, int64(2), h.refused(reasonTooOld))
	assert.Equal(t, 2, h.service.Stats().Statuses[400])
}

// A metric of another type costs one request; then it is held back for ten minutes, refused and counted.
func TestTypeConflict(t *testing.T) {
	h := newHarness(t, nil)
	body := fmt.Sprintf(`{"counters":[{"name":"bad","source":"s","measure_time":%d,"value":1}]}`, noon.Unix())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.cfg.Endpoint+"/v1/metrics", strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth(testEmail, testToken)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	http.DefaultClient.CloseIdleConnections()
	require.Equal(t, 200, resp.StatusCode)

	for range 30 { // 9 minutes and 50 seconds
		h.send(track("bad", "s", 1), track("BAD", "t", 1), track("good", "s", 1))
		h.pass(19 * time.Second)
	}
	assert.Equal(t, 1, h.service.Stats().Statuses[400])
	assert.Equal(t, int64(60), h.refused(reasonTypeConflict))
	h.stored("good", "s", 30, 30)

	h.pass(time.Minute)
	h.send(track("bad", "s", 1), track("good", "s", 1))
	h.pass(20 * time.Second)
	assert.Equal(t, 2, h.service.Stats().Statuses[400], "after ten minutes it is tried again")
	assert.Equal(t, int64(61), h.refused(reasonTypeConflict))
	h.stored("good", "s", 31, 31)
}

// poison is a transport that refuses requests which hold a poisonous name, without naming it, and counts.
type poison struct {
	names    []string
	requests int
	taken    int // measurements
}

var nameOfMeasurement = regexp.MustCompile(`"name":"([^"]*)"`)

func (p *poison) RoundTrip(req *http.Request) (*http.Response, error) {
	p.requests++
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}
	for _, name := range p.names {
		if bytes.Contains(body, []byte(`"`+name+`"`)) {
			resp.StatusCode = http.StatusBadRequest
			resp.Body = io.NopCloser(strings.NewReader(`{"errors":{"request":["is invalid"]}}`))
			return resp, nil
		}
	}
	p.taken += bytes.Count(body, []byte(`"name":`))
	return resp, nil
}

// An offender that the service does not name is found by halving, with at most 2·log2(n)+3 requests, wherever it is. If nothing is
// left then that the service could take, it is asked for once more after the next that is.
func TestUnnamedPoison(t *testing.T) {
	const n = 300
	limit := 2*math.Log2(n) + 3
	isolate := func(t *testing.T, names ...string) int {
		t.Helper()
		h := newHarness(t, nil)
		p := &poison{names: names}
		h.exporter.flusher.courier.client.Transport = p
		h.sendStreams(n)
		h.pass(10 * time.Second)
		assert.Equal(t, n-len(names), p.taken)
		requests := p.requests
		h.send(track("another", "s", 1))
		h.pass(10 * time.Second)
		assert.Equal(t, int64(len(names)), h.refused("rejected"))
		assert.LessOrEqual(t, p.requests, requests+2)
		return requests
	}
	worst := 0
	for i := range n {
		if i%3 != 0 && i < n-10 { // some branches of the tree are left out, none of its levels
			continue
		}
		worst = max(worst, isolate(t, fmt.Sprintf("stream-%d", i)))
	}
	t.Logf("one offender of %d: at most %d requests, the limit is %.1f", n, worst, limit)
	assert.LessOrEqual(t, float64(worst), limit)

	for _, names := range [][]string{
		{"stream-0", "stream-1"},
		{"stream-0", "stream-299"},
		{"stream-149", "stream-150"},
		{"stream-10", "stream-20", "stream-30", "stream-40"},
		{"stream-1", "stream-75", "stream-76", "stream-150", "stream-298"},
	} {
		requests := isolate(t, names...)
		t.Logf("%v: %d requests", names, requests)
		assert.LessOrEqual(t, float64(requests), float64(len(names))*limit)
	}
}

// One offender in each of several requests under way, over HTTP.
func TestUnnamedPoisonInEachRequest(t *testing.T) {
	h := newHarness(t, nil)
	h.service.Fail(libratoserver.Failure{
		Status: 400, Body: `{"errors":{"request":["is invalid"]}}`, Times: -1,
		Match: func(req *libratoserver.Request) bool {
			return regexp.MustCompile(`"stream-(17|417|899)"`).Match(req.Body)
		},
	})
	h.sendStreams(900)
	h.pass(10 * time.Second)
	assert.Equal(t, int64(897), h.counter("measurements_sent", "gauge"))
	assert.LessOrEqual(t, float64(h.service.Stats().Posts), 3*(2*math.Log2(300)+3))
	h.send(track("another", "s", 1))
	h.pass(10 * time.Second)
	assert.Equal(t, int64(3), h.refused("rejected"))
}

// A request that is too large for the service is halved, and nothing is lost.
func TestTooLarge(t *testing.T) {
	h := newHarness(t, nil)
	h.service.Fail(libratoserver.Failure{
		Status: 413, Body: `{"errors":{"request":["is too large"]}}`, Times: -1,
		Match: func(req *libratoserver.Request) bool { return len(req.Body) > 15_000 },
	})
	h.sendStreams(300)
	h.pass(10 * time.Second)
	assert.Equal(t, int64(300), h.counter("measurements_sent", "gauge"))
	assert.LessOrEqual(t, h.service.Stats().Posts, 9)
}

// The service says when it wants to be asked again, in either form; until then it is left in peace.
func TestRetryAfter(t *testing.T) {
	for name, value := range map[string]string{
		"seconds":  "120",
		"date":     noon.Add(9500*time.Millisecond + 2*time.Minute).Format(http.TimeFormat),
		"negative": "-5",
		"past":     "Fri, 31 Dec 1999 23:59:59 GMT",
		"neither":  "soon",
	} {
		for _, status := range []int{429, 503, 403} {
			t.Run(fmt.Sprint(name, status), func(t *testing.T) {
				h := newHarness(t, nil)
				h.service.Fail(libratoserver.Failure{Status: status, RetryAfter: value, Body: `{"errors":{"request":["rate limit reached"]}}`})
				h.sendStreams(3)
				h.pass(9500 * time.Millisecond)
				require.Equal(t, 1, h.service.Stats().Posts)
				if name == "seconds" || name == "date" {
					h.pass(2*time.Minute - time.Second)
					assert.Equal(t, 1, h.service.Stats().Posts, "left in peace")
					h.pass(9 * time.Second)
				} else {
					h.pass(8 * time.Second) // 5s, give or take a half
				}
				assert.Equal(t, 2, h.service.Stats().Posts)
				h.stored("stream-2", "s", 1, 1)
			})
		}
	}
}

// Of two answers that come at once, the one that asks for the longer wait is heeded.
func TestLongestRetryAfter(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.NumConsumers = 3 })
	var posts atomic.Int64
	h.exporter.flusher.courier.client.Transport = newTogether(0, 3, transport(func(*http.Request) (*http.Response, error) {
		after := "60"
		if posts.Add(1) == 2 {
			after = "600"
		}
		return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {after}}, Body: http.NoBody}, nil
	}))
	h.sendStreams(900)
	h.clock.set(noon.Add(10 * time.Second))
	h.exporter.flusher.step(t.Context(), h.clock.now())
	require.Equal(t, int64(3), posts.Load())
	assert.Equal(t, 10*time.Minute, h.exporter.flusher.pace.resume.Sub(h.clock.now()))
}

// A body that breaks off tells nothing of single measurements: what it would have said of those is not known.
func TestBrokenAnswer(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.API = APIMeasurements })
	answers := []*http.Response{
		{StatusCode: http.StatusAccepted, Body: io.NopCloser(io.MultiReader(strings.NewReader(`{"measurements":`), iotest.ErrReader(io.ErrUnexpectedEOF)))},
		{StatusCode: http.StatusAccepted, Body: http.NoBody},
	}
	posts := 0
	h.exporter.flusher.courier.client.Transport = transport(func(*http.Request) (*http.Response, error) {
		posts++
		return answers[posts-1], nil
	})
	h.send(track("Signup", "s", 1))
	h.pass(10 * time.Second)
	assert.Equal(t, 1, posts)
	assert.Zero(t, h.counter("measurements_sent", "gauge"))
	assert.Equal(t, int64(1), h.counter("requests", "error"))
	h.pass(time.Minute)
	assert.Equal(t, 2, posts)
	assert.Equal(t, int64(1), h.counter("measurements_sent", "gauge"))
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// An answer is read to its end, however many measurements it names: 1,000 of them are 110 KB.
func TestLongAnswer(t *testing.T) {
	const n = 1000
	for _, failed := range []int{n, n - 1} {
		t.Run(strconv.Itoa(failed), func(t *testing.T) {
			names := make([]string, failed)
			for i := range names {
				names[i] = fmt.Sprintf(`{"param":"name","value":"stream-%d","reason":"is not a valid metric name, see the documentation"}`, i)
			}
			body := fmt.Sprintf(`{"measurements":{"summary":{"total":%d,"accepted":%d,"failed":%d}},"errors":[%s]}`,
				n, n-failed, failed, strings.Join(names, ", "+strings.Repeat(" ", 20)))
			require.Greater(t, len(body), 110<<10)
			h := newHarness(t, func(cfg *Config) { cfg.API = APIMeasurements })
			h.service.Fail(libratoserver.Failure{Status: 202, Body: body})
			h.sendStreams(n)
			h.pass(10 * time.Second)
			assert.Equal(t, int64(failed), h.refused("invalid_name"))
			assert.Equal(t, int64(n-failed), h.counter("measurements_sent", "gauge"))
			assert.Zero(t, h.refused("rejected"))
			assert.Equal(t, 1, h.service.Stats().Posts)
		})
	}
}

// Credentials that are refused are an outage, said once, and once more when they work again.
func TestRotatedCredentials(t *testing.T) {
	for _, failure := range []libratoserver.Failure{
		{Status: 401, Body: `{"errors":{"request":["Authorization Required"]}}`, Times: -1},
		{Status: 403, Times: -1}, // not over TLS, or the token may not post
	} {
		t.Run(strconv.Itoa(failure.Status), func(t *testing.T) {
			h := newHarness(t, nil)
			h.service.Fail(failure)
			for range 5 {
				h.send(track("Signup", "s", 1))
				h.pass(time.Minute)
			}
			assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError}, h.host.statuses())
			assert.Len(t, h.logs.FilterMessageSnippet("measurements are kept and retried").All(), 1)
			h.service.ClearFailures()
			for range 5 {
				h.send(track("Signup", "s", 1))
				h.pass(time.Minute)
			}
			assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError, componentstatus.StatusOK}, h.host.statuses())
			assert.Len(t, h.logs.FilterMessage("Librato takes measurements again").All(), 1)
			h.pass(time.Minute)
			h.stored("Signup", "s", 10, 10)
		})
	}
	t.Run("an outage is no matter of credentials", func(t *testing.T) {
		h := newHarness(t, nil)
		h.service.Fail(libratoserver.Failure{Status: 503, Times: 5}, libratoserver.Failure{Status: 403, Times: 2, Body: `{"errors":{"request":["rate limit"]}}`})
		h.send(track("Signup", "s", 1))
		h.pass(5 * time.Minute)
		assert.Empty(t, h.host.statuses())
		h.stored("Signup", "s", 1, 1)
	})
}

// A redirect is not followed: as a GET, it would be answered 200 by any page.
func TestRedirect(t *testing.T) {
	var moved atomic.Bool
	moved.Store(true)
	var inFront *httptest.Server // a proxy that wants a login
	h := newHarness(t, func(cfg *Config) {
		service, err := url.Parse(cfg.Endpoint)
		require.NoError(t, err)
		proxy := httputil.NewSingleHostReverseProxy(service)
		inFront = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/login":
				t.Error("followed")
			case moved.Load():
				http.Redirect(w, r, "/login", http.StatusFound)
			default:
				proxy.ServeHTTP(w, r)
			}
		}))
		cfg.Endpoint = inFront.URL
	})
	t.Cleanup(inFront.Close)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections) // the proxy's
	h.send(track("Signup", "s", 1))
	h.pass(time.Minute)
	assert.NotZero(t, h.counter("requests", "302"))
	moved.Store(false)
	h.pass(time.Minute)
	h.stored("Signup", "s", 1, 1)
}

// During an outage one request is tried at a time, each time another; then at most num_consumers are under way, and all
// that was kept arrives.
func TestOutage(t *testing.T) {
	h := newHarness(t, func(cfg *Config) {
		cfg.Gauges.ServiceSideAggregation = false
		cfg.RetryConfig.RandomizationFactor = 0
	})
	const streams = 2100 // seven requests
	h.sendStreams(streams)
	h.service.Fail(libratoserver.Failure{Status: 503, Times: -1})
	h.pass(10 * time.Second)
	first := h.service.Stats().Posts
	assert.LessOrEqual(t, first, h.cfg.NumConsumers, "the flush that found the service away")

	tried := map[string]bool{}
	for h.service.Stats().Posts < first+7 {
		before := h.service.Stats().Posts
		require.LessOrEqual(t, h.clock.now().Sub(noon), 30*time.Minute)
		h.pass(time.Second)
		posts := h.service.Posts()
		require.LessOrEqual(t, len(posts)-before, 1, "one probe at a time")
		if len(posts) > before {
			tried[nameOfMeasurement.FindString(string(posts[before].Body))] = true
		}
	}
	assert.Len(t, tried, 7, "a different request each time")

	// What comes meanwhile folds, and is not sealed: the state grows by periods, not by events or ticks.
	for range 5 {
		h.sendStreams(streams)
	}
	assert.LessOrEqual(t, h.exporter.journal.count(), 2*streams+streams)
	age, err := h.telemetry.GetMetric("otelcol_exporter_librato_oldest_unsent_age")
	require.NoError(t, err)
	assert.InDelta(t, h.clock.now().Sub(noon).Seconds(), age.Data.(metricdata.Gauge[float64]).DataPoints[0].Value, 0.001)

	// Once the service is back, as many posts as may be under way are answered together.
	before := h.service.Stats()
	h.service.ClearFailures()
	gate := newTogether(1, h.cfg.NumConsumers, h.exporter.flusher.courier.client.Transport)
	h.exporter.flusher.courier.client.Transport = gate
	h.pass(40 * time.Second)
	after := h.service.Stats()
	assert.Equal(t, h.cfg.NumConsumers, gate.most, "posts under way at a time")
	assert.LessOrEqual(t, after.Posts-before.Posts, 7+7*4, "at most one flush's worth a tick")
	h.pass(10 * time.Minute)
	for i := range streams {
		if !assert.Equal(t, uint64(6), h.service.Sum(fmt.Sprintf("stream-%d", i), "s").Count) {
			break
		}
	}
	assert.Zero(t, h.service.Stats().Replaced)
	assert.Zero(t, h.service.Stats().Repeated, "only what was not taken is sent again")
}

// together is a transport that lets so many posts pass, and holds those that follow until so many are under way at a
// time. Then it holds none.
type together struct {
	skip, of int
	inner    http.RoundTripper

	mu    sync.Mutex
	posts int
	now   int // under way
	most  int
	full  chan struct{}
}

func newTogether(skip, of int, inner http.RoundTripper) *together {
	return &together{skip: skip, of: of, inner: inner, full: make(chan struct{})}
}

func (h *together) RoundTrip(req *http.Request) (*http.Response, error) {
	h.mu.Lock()
	h.posts++
	h.now++
	if h.now == h.of && h.most < h.of {
		close(h.full)
	}
	h.most = max(h.most, h.now)
	passes := h.posts <= h.skip
	h.mu.Unlock()
	if !passes {
		<-h.full
	}
	resp, err := h.inner.RoundTrip(req)
	h.mu.Lock()
	h.now--
	h.mu.Unlock()
	return resp, err
}

// Requests grow with streams, not with events: one for each 300 (metrics) or 1,000 (measurements) of them a flush.
func TestRequestsAFlush(t *testing.T) {
	for api, size := range map[API]int{APIMetrics: 300, APIMeasurements: 1000} {
		t.Run(string(api), func(t *testing.T) {
			h := newHarness(t, func(cfg *Config) { cfg.API = api })
			for _, streams := range []int{1, 299, 300, 301, 1000, 1001, 2400} {
				for range 3 {
					h.sendStreams(streams)
				}
				before := h.service.Stats().Posts
				h.pass(10 * time.Second)
				assert.Equal(t, (streams+size-1)/size, h.service.Stats().Posts-before, "%d streams", streams)
			}
			before := h.service.Stats().Posts
			h.pass(time.Minute)
			assert.Equal(t, before, h.service.Stats().Posts, "nothing to send, no request")
			assert.LessOrEqual(t, h.service.Stats().LargestPost, size)
		})
	}
}

// A stream with unconfirmed increments goes on folding and is not sealed again: one increment a stream and period.
func TestUnconfirmedStreamsFold(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.Gauges.ServiceSideAggregation = false })
	h.service.Fail(libratoserver.Failure{Status: 503, Times: -1})
	for range 60 { // ten minutes
		h.send(track("Signup", "s", 1), track("Signup", "t", 1))
		h.pass(10 * time.Second)
	}
	assert.LessOrEqual(t, h.exporter.journal.count(), 2*(10+2))
	assert.Len(t, h.exporter.journal.unconfirmed(h.clock.now().UnixNano()), 2)
	h.service.ClearFailures()
	h.pass(10 * time.Minute)
	h.stored("Signup", "s", 60, 60)
	h.stored("Signup", "t", 60, 60)
	series := h.service.Series("Signup", "s")
	for _, p := range series {
		assert.InDelta(t, 6, p.Sum, 1, "each in its period")
	}
	assert.Zero(t, h.service.Stats().Replaced)
}

// What grows older than max_age during an outage is counted and logged by stream; what is younger arrives.
func TestOutageBeyondMaxAge(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.MaxAge = 10 * time.Minute })
	h.service.Fail(libratoserver.Failure{Status: 503, Times: -1})
	h.send(track("Signup", "a", 1), track("Signup", "a", 1), track("Signup", "b", 1))
	h.pass(5 * time.Minute)
	h.send(track("Signup", "a", 1))
	h.pass(6 * time.Minute)
	assert.Equal(t, int64(3), h.refused(reasonTooOld))
	metadatatest.AssertEqualExporterLibratoMeasurementsRefused(t, h.telemetry, []metricdata.DataPoint[int64]{
		{Attributes: attribute.NewSet(attribute.String("reason", string(reasonTooOld))), Value: 2},
	}, metricdatatest.IgnoreTimestamp())
	lines := h.logs.FilterMessage("measurements became too old to be sent").All()
	require.Len(t, lines, 2)
	points := map[any]any{}
	for _, line := range lines {
		assert.Equal(t, "Signup", line.ContextMap()["metric"])
		points[line.ContextMap()["source"]] = line.ContextMap()["points"]
	}
	assert.Equal(t, map[any]any{"a": uint64(2), "b": uint64(1)}, points)
	h.service.ClearFailures()
	h.pass(2 * time.Minute)
	h.stored("Signup", "a", 1, 1)
	assert.Zero(t, h.service.Sum("Signup", "b").Count)
}

// Of many streams that grew too old some are named, and all are counted.
func TestOutageOfManyStreams(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.MaxAge = 2 * time.Minute })
	h.service.Fail(libratoserver.Failure{Status: 503, Times: -1})
	h.sendStreams(100)
	h.pass(5 * time.Minute)
	assert.Equal(t, int64(100), h.refused(reasonTooOld))
	assert.Len(t, h.logs.FilterMessage("measurements became too old to be sent").All(), expiryLogs)
	more := h.logs.FilterMessage("measurements became too old to be sent, in more streams").All()
	require.Len(t, more, 1)
	assert.EqualValues(t, 100-expiryLogs, more[0].ContextMap()["streams"])
}

// Requests are counted by status, with their bytes and durations.
func TestRequestTelemetry(t *testing.T) {
	h := newHarness(t, nil)
	h.service.Fail(libratoserver.Failure{Status: 503}, libratoserver.Failure{Status: 0})
	h.sendStreams(3)
	h.pass(time.Minute)
	status := func(status string, n int64) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{Attributes: attribute.NewSet(attribute.String("status", status)), Value: n}
	}
	metadatatest.AssertEqualExporterLibratoRequests(t, h.telemetry, []metricdata.DataPoint[int64]{
		status("503", 1), status("error", 1), status("200", 1),
	}, metricdatatest.IgnoreTimestamp())
	assert.Equal(t, h.service.Stats().Bytes, h.counter("request_bytes", ""))
	duration, err := h.telemetry.GetMetric("otelcol_exporter_librato_request_duration")
	require.NoError(t, err)
	assert.Equal(t, uint64(3), duration.Data.(metricdata.Histogram[float64]).DataPoints[0].Count)
}

// The service is left alone for longer and longer, never longer than max_interval.
func TestBackOff(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.RetryConfig.RandomizationFactor = 0 })
	h.service.Fail(libratoserver.Failure{Status: 503, Times: -1})
	h.send(track("Signup", "s", 1))
	h.pass(5 * time.Minute)
	var waits []float64
	posts := h.service.Posts()
	for i := range len(posts) - 1 {
		waits = append(waits, posts[i+1].Time.Sub(posts[i].Time).Seconds())
	}
	require.GreaterOrEqual(t, len(waits), 7)
	for i, want := range []float64{5, 7.5, 11.25, 16.875, 25.3125, 30, 30} {
		assert.InDelta(t, want, waits[i], 0.01)
	}
}

// A post that fails while shutdown cuts it off says nothing of the service.
func TestPostCutOff(t *testing.T) {
	h := newHarness(t, nil)
	h.send(track("Signup", "s", 1))
	h.clock.set(noon.Add(10 * time.Second))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.exporter.flusher.step(ctx, h.clock.now())
	assert.False(t, h.exporter.flusher.pace.away)
	assert.Empty(t, h.logs.FilterMessageSnippet("measurements are kept and retried").All())
	h.pass(10 * time.Second)
	h.stored("Signup", "s", 1, 1)
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoserver

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is a time at the beginning of a period; the clock of most tests stands there.
const start = int64(1479236400)

// harness is a server, its clock, and a client.
type harness struct {
	*Server
	t   testing.TB
	url string
	mu  sync.Mutex
	now time.Time
}

func newHarness(tb testing.TB, opts ...Option) *harness {
	tb.Helper()
	h := &harness{t: tb, now: time.Unix(start, 0)}
	h.Server = New(append([]Option{WithClock(func() time.Time {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.now
	})}, opts...)...)
	ts := httptest.NewServer(h.Server)
	tb.Cleanup(ts.Close)
	tb.Cleanup(http.DefaultClient.CloseIdleConnections)
	h.url = ts.URL
	return h
}

func (h *harness) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// do sends a request; the status is 0 if there was no answer.
func (h *harness) do(method, path, body string, header ...string) (status int, answer string, headers http.Header) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.url+path, strings.NewReader(body))
	require.NoError(h.t, err)
	req.SetBasicAuth("someone@example.com", "token")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "test/1")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(h.t, err)
	return resp.StatusCode, string(b), resp.Header
}

func (h *harness) post(body string) (int, string) {
	h.t.Helper()
	status, answer, _ := h.do(http.MethodPost, "/v1/metrics", body)
	return status, answer
}

func (h *harness) tagged(body string) (int, string) {
	h.t.Helper()
	status, answer, _ := h.do(http.MethodPost, "/v1/measurements", body)
	return status, answer
}

func (h *harness) mustPost(body string) {
	h.t.Helper()
	status, answer := h.post(body)
	require.Equal(h.t, 200, status, answer)
}

// gauge is the body of one value for a second after start.
func gauge(name, source string, second int64, value float64, properties string) string {
	return fmt.Sprintf(`{"gauges":[{"name":%q,"source":%q,"measure_time":%d,"value":%v%s}]}`, name, source, start+second, value, properties)
}

const ssa = `,"period":60,"attributes":{"aggregate":true,"summarize_function":"sum","display_stacked":true}`

const summing = `,"period":60,"attributes":{"aggregate":false,"summarize_function":"sum"}`

func TestMetricsRules(t *testing.T) {
	params := func(field, text string) string {
		return fmt.Sprintf(`{"errors":{"params":{%q:[%q]}},"request_time":%d}`, field, text, start)
	}
	long := strings.Repeat("x", 256)
	tests := []struct {
		name, body string
		status     int
		answer     string // all of it, or a part if it ends in "…"
	}{
		{"a value", `{"gauges":[{"name":"A.b:c-d_1","value":1}]}`, 200, ""},
		{"a complex gauge", `{"gauges":[{"name":"a","count":2,"sum":5,"min":2,"max":3,"sum_squares":13}]}`, 200, ""},
		{"count and sum alone", `{"gauges":[{"name":"a","count":2,"sum":5}]}`, 200, ""},
		{"source and time for all", `{"source":"s","measure_time":1479236399,"gauges":[{"name":"a","value":1}]}`, 200, ""},
		{"a counter", `{"counters":[{"name":"c","value":1}]}`, 200, ""},
		{"the largest", `{"gauges":[{"name":"a","value":-1e126}]}`, 200, ""},
		{"just in time", `{"gauges":[{"name":"a","value":1,"measure_time":1479229200}]}`, 200, ""},
		{"the far future", `{"gauges":[{"name":"a","value":1,"measure_time":1999999999}]}`, 200, ""},

		{"not JSON", `{"gauges":[{"name":"a","value":NaN}]}`, 400, `{"errors":{"request":["could not be parsed…`},
		{"infinity", `{"gauges":[{"name":"a","value":Infinity}]}`, 400, `{"errors":{"request":["could not be parsed…`},
		{"a quoted number", `{"gauges":[{"name":"a","value":"1"}]}`, 400, `{"errors":{"request":["could not be parsed…`},
		{"nothing", `{}`, 400, `{"errors":{"request":["must include at least one gauge or counter"]}}`},
		{"no name", `{"gauges":[{"value":1}]}`, 400, params("name", "is missing")},
		{"an empty name", `{"gauges":[{"name":"","value":1}]}`, 400, params("name", " is not a valid metric name")},
		{"a name with a space", `{"gauges":[{"name":"a b","value":1}]}`, 400, params("name", "a b is not a valid metric name")},
		{"a name with a line feed", `{"gauges":[{"name":"a\n","value":1}]}`, 400, params("name", "a\n is not a valid metric name")},
		{"a long name", `{"gauges":[{"name":"` + long + `","value":1}]}`, 400, params("name", long+" is not a valid metric name")},
		{"a source with a space", `{"gauges":[{"name":"a","source":"b c","value":1}]}`, 400, params("source", "b c is not a valid source name")},
		{"an empty source", `{"gauges":[{"name":"a","source":"","value":1}]}`, 400, params("source", " is not a valid source name")},
		{"a long source", `{"gauges":[{"name":"a","source":"` + long + `","value":1}]}`, 400, params("source", long+" is not a valid source name")},
		{"the reserved source", `{"gauges":[{"name":"a","source":"All","value":1}]}`, 400, params("source", "All is not a valid source name")},
		{"tags", `{"gauges":[{"name":"a","tags":{"b":"c"},"value":1}]}`, 400, params("tags", "cannot be combined with source-based measurements")},
		{"no value", `{"gauges":[{"name":"a"}]}`, 400, params("value", "is missing")},
		{"too large", `{"gauges":[{"name":"a","value":1.1e126}]}`, 400, params("value", "is out of range")},
		{"far too large", `{"gauges":[{"name":"a","count":1,"sum":1e999}]}`, 400, params("sum", "is out of range")},
		{"value and count", `{"gauges":[{"name":"a","value":1,"count":1,"sum":1}]}`, 400, params("value", "must not be set together with count")},
		{"value and sum", `{"gauges":[{"name":"a","value":1,"sum":1}]}`, 400, params("count", "is missing")},
		{"no sum", `{"gauges":[{"name":"a","count":1}]}`, 400, params("sum", "is missing")},
		{"librato-java#2: a fractional count", `{"gauges":[{"name":"a","count":1.0,"sum":1}]}`, 400, params("count", "must be an integer")},
		{"a count of none", `{"gauges":[{"name":"a","count":0,"sum":0}]}`, 400, params("count", "must be positive")},
		{"a fractional time", `{"gauges":[{"name":"a","value":1,"measure_time":1479236400.0}]}`, 400, params("measure_time", "must be an integer")},
		{"too old", `{"gauges":[{"name":"a","value":1,"measure_time":1479229199}]}`, 400, params("measure_time", "is too far in the past")},
		{"a negative counter", `{"counters":[{"name":"c","value":-1}]}`, 400, params("value", "must be positive")},
		{"a complex counter", `{"counters":[{"name":"c","count":1,"sum":1}]}`, 400, params("count", "is for gauges only")},
		{"both types at once", `{"gauges":[{"name":"a","value":1}],"counters":[{"name":"A","value":1}]}`, 400, params("type", "'A' is a gauge, but was submitted as different type")},
		{"a short period", `{"gauges":[{"name":"a","value":1,"period":9}]}`, 400, params("period", "must be an integer from 10 to 600")},
		{"an unknown function", `{"gauges":[{"name":"a","value":1,"attributes":{"summarize_function":"total"}}]}`, 400, params("attributes", "'total' is not a valid summarize_function")},
		{"a flag that is none", `{"gauges":[{"name":"a","value":1,"attributes":{"aggregate":"yes"}}]}`, 400, params("attributes", "'aggregate' is not a bool")},
		{"one bad of two", `{"gauges":[{"name":"good","value":1},{"name":"b d","value":1}]}`, 400, params("name", "b d is not a valid metric name")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			status, answer := h.post(tt.body)
			assert.Equal(t, tt.status, status, answer)
			if part, ok := strings.CutSuffix(tt.answer, "…"); ok {
				assert.True(t, strings.HasPrefix(answer, part), answer)
			} else {
				assert.Equal(t, tt.answer, answer)
			}
			if tt.status != 200 {
				assert.Empty(t, h.Totals(), "the good measurements of the request are refused as well")
			}
		})
	}
}

func TestMeasurementsRules(t *testing.T) {
	many := func(n int) string {
		return `{"measurements":[` + strings.TrimSuffix(strings.Repeat(`{"name":"a","value":1},`, n), ",") + `]}`
	}
	tags := func(n int) string {
		var pairs []string
		for i := range n {
			pairs = append(pairs, fmt.Sprintf(`"t%d":"v"`, i))
		}
		return `{"measurements":[{"name":"a","value":1,"tags":{` + strings.Join(pairs, ",") + `}}]}`
	}
	tests := []struct {
		name, body string
		status     int
		field      string // that the answer complains of
	}{
		{"a value", `{"measurements":[{"name":"a","value":1,"tags":{"Region":"US East"}}]}`, 202, ""},
		{"every character", `{"measurements":[{"name":"a","value":1,"tags":{"-.:_a1":"-.:_?\\/ a1"}}]}`, 202, ""},
		{"at the limit", many(1000), 202, ""},
		{"50 tags", tags(50), 202, ""},
		{"over the limit", many(1001), 400, "measurements"},
		{"51 tags", tags(51), 400, "tags"},
		{"none", `{"measurements":[]}`, 400, "measurements"},
		{"a bad tag name", `{"measurements":[{"name":"a","value":1,"tags":{"a b":"c"}}]}`, 400, "tags"},
		{"a long tag name", `{"measurements":[{"name":"a","value":1,"tags":{"` + strings.Repeat("x", 65) + `":"c"}}]}`, 400, "tags"},
		{"a bad tag value", `{"measurements":[{"name":"a","value":1,"tags":{"a":"é"}}]}`, 400, "tags"},
		{"an empty tag value", `{"measurements":[{"name":"a","value":1,"tags":{"a":""}}]}`, 400, "tags"},
		{"a bad top-level tag", `{"tags":{"a":"é"},"measurements":[{"name":"a","value":1}]}`, 400, "tags"},
		{"a bad name", `{"measurements":[{"name":"a b","value":1}]}`, 400, "name"},
		{"too old", `{"time":1,"measurements":[{"name":"a","value":1}]}`, 400, "time"},
		{"value and count", `{"measurements":[{"name":"a","value":1,"count":1,"sum":1}]}`, 400, "value"},
		{"not JSON", `{"measurements":[{"name":"a","value":NaN}]}`, 429, "request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			status, answer := h.tagged(tt.body)
			assert.Equal(t, tt.status, status, answer)
			if tt.field == "" {
				assert.Contains(t, answer, `"failed":0`)
			} else {
				assert.Contains(t, answer, `"`+tt.field+`":["`)
			}
		})
	}
}

func TestTagsMakeTheStream(t *testing.T) {
	h := newHarness(t)
	status, answer := h.tagged(`{"tags":{"top":"1"},"period":60,"measurements":[
		{"name":"cpu","value":1},
		{"name":"cpu","value":2,"tags":{"Region":"US East","az":"B"}},
		{"name":"CPU","value":4,"tags":{"az":"b","region":"us east"},"time":1479236399},
		{"name":"cpu","value":8,"tags":{}}]}`)
	require.Equal(t, 202, status)
	assert.JSONEq(t, `{"measurements":{"summary":{"total":4,"accepted":4,"failed":0,"filtered":0}}}`, answer)
	assert.Equal(t, librato.SummaryOf(1), h.Sum("cpu", "top=1"))
	assert.Equal(t, librato.Summary{Count: 2, Sum: 6, Min: 2, Max: 4}, h.Sum("cpu", "az=b,region=us east"))
	assert.Equal(t, librato.SummaryOf(8), h.Sum("cpu", ""))
}

func TestContentTypeAndCredentials(t *testing.T) {
	h := newHarness(t)
	body := gauge("a", "s", 0, 1, "")
	for _, tt := range []struct {
		path, contentType string
		want              int
	}{
		{"/v1/metrics", "application/json; charset=utf-8", 200},
		{"/v1/metrics", "application/x-www-form-urlencoded", 400},
		{"/v1/measurements", "text/plain", 415},
	} {
		status, _, _ := h.do(http.MethodPost, tt.path, body, "Content-Type", tt.contentType)
		assert.Equal(t, tt.want, status, tt)
	}

	for auth, want := range map[string]int{
		"Basic c29tZW9uZUBleGFtcGxlLmNvbTo=": 401, // someone@example.com, no token
		"Basic Og==":                         401,
		"Basic dG9rZW46":                     200, // token: (AppOptics)
		"Bearer x":                           401,
		"Basic c29tZW9uZUBleGFtcGxlLmNvbTp0b2tlbg==": 200,
	} {
		status, answer, _ := h.do(http.MethodPost, "/v1/metrics", body, "Authorization", auth)
		assert.Equal(t, want, status, auth)
		if want == 401 {
			assert.JSONEq(t, `{"errors":{"request":["Authorization Required"]}}`, answer)
		}
	}

	h = newHarness(t, WithCredentials("me@example.com", "secret"))
	status, _ := h.post(body)
	assert.Equal(t, 401, status)
	h.user, h.password = "someone@example.com", "token"
	h.mustPost(body)
}

func TestFutureLimit(t *testing.T) {
	h := newHarness(t, WithMaxFuture(10*time.Minute))
	h.mustPost(gauge("a", "s", 600, 1, ""))
	status, answer := h.post(gauge("a", "s", 601, 1, ""))
	assert.Equal(t, 400, status)
	assert.Contains(t, answer, `{"params":{"measure_time":["is too far in the future"]}}`)
}

func TestOneMeasurementASecond(t *testing.T) {
	h := newHarness(t)
	h.mustPost(gauge("Signup", "Web-1", 0, 1, summing))
	h.mustPost(gauge("signup", "web-1", 0, 1, "")) // the same again
	h.mustPost(gauge("signup", "web-1", 5, 2, ""))
	h.mustPost(gauge("signup", "web-1", 60, 4, ""))
	assert.Equal(t, librato.Summary{Count: 3, Sum: 7, Min: 1, Max: 4}, h.Sum("SIGNUP", "WEB-1"))
	assert.Equal(t, []Point{{start, Values{2, 3, 1, 2}}, {start + 60, Values{1, 4, 4, 4}}}, h.Series("signup", "web-1"))
	assert.Equal(t, uint64(4), h.Received("signup", "web-1").Count)
	assert.Equal(t, 1, h.Stats().Repeated)
	assert.Zero(t, h.Stats().Replaced)

	h.mustPost(gauge("signup", "web-1", 0, 16, ""))
	assert.Equal(t, librato.Summary{Count: 3, Sum: 22, Min: 2, Max: 16}, h.Sum("signup", "web-1"))
	assert.Equal(t, 1, h.Stats().Replaced)
	assert.Zero(t, h.Sum("signup", "web-2").Count)
	assert.Zero(t, h.Sum("login", "web-1").Count)
	assert.Len(t, h.Seconds("signup", "web-1"), 3)
}

func TestServiceSideAggregation(t *testing.T) {
	h := newHarness(t)
	h.mustPost(gauge("signup", "web-1", 0, 1, ssa))
	h.mustPost(gauge("signup", "web-1", 0, 2, ""))
	h.mustPost(`{"gauges":[{"name":"signup","source":"web-1","measure_time":1479236430,"count":3,"sum":9,"min":1,"max":6}]}`)
	h.mustPost(gauge("signup", "web-1", 60, 4, ""))
	assert.Equal(t, []Point{{start, Values{5, 12, 1, 6}}, {start + 60, Values{1, 4, 4, 4}}}, h.Series("signup", "web-1"))
	assert.Equal(t, h.Received("signup", "web-1"), h.Sum("signup", "web-1"))
}

func TestTinyValuesBecomeZero(t *testing.T) {
	h := newHarness(t)
	h.mustPost(`{"gauges":[{"name":"a","value":-9e-131}]}`)
	assert.Equal(t, librato.SummaryOf(0), h.Sum("a", ""))
	h.mustPost(`{"gauges":[{"name":"b","value":1e-130}]}`)
	assert.Equal(t, librato.SummaryOf(1e-130), h.Sum("b", ""))
}

func TestTypeConflict(t *testing.T) {
	h := newHarness(t)
	h.mustPost(`{"counters":[{"name":"rack.request.total","value":1}]}`)
	status, answer := h.post(`{"gauges":[{"name":"good","value":1},{"name":"Rack.Request.Total","value":1}]}`)
	assert.Equal(t, 400, status)
	assert.Contains(t, answer, `{"params":{"type":["'Rack.Request.Total' is a counter, but was submitted as different type"]}}`)
	assert.Len(t, h.Totals(), 1)

	status, _ = h.tagged(`{"measurements":[{"name":"rack.request.total","value":1}]}`)
	assert.Equal(t, 400, status)
}

func TestMetricsCanBeReadAndChanged(t *testing.T) {
	h := newHarness(t)
	get := func(path string) map[string]any {
		t.Helper()
		status, answer, _ := h.do(http.MethodGet, path, "")
		require.Equal(t, 200, status, answer)
		var v map[string]any
		require.NoError(t, json.Unmarshal([]byte(answer), &v))
		return v
	}
	status, answer, _ := h.do(http.MethodGet, "/v1/metrics/signup", "")
	assert.Equal(t, 404, status)
	assert.JSONEq(t, `{"errors":{"request":["Not Found"]}}`, answer)

	h.mustPost(gauge("Signup", "web-1", 0, 1, ssa))
	h.mustPost(gauge("signup", "web-1", 0, 2, `,"period":10,"attributes":{"aggregate":false}`)) // exists: ignored
	m := get("/v1/metrics/signup")
	assert.Equal(t, "Signup", m["name"])
	assert.Equal(t, "gauge", m["type"])
	assert.EqualValues(t, 60, m["period"])
	assert.Equal(t, map[string]any{
		"aggregate": true, "summarize_function": "sum", "display_stacked": true, "created_by_ua": "test/1",
	}, m["attributes"])
	assert.NotContains(t, m, "measurements")

	status, _, _ = h.do(http.MethodPut, "/v1/metrics/signup", `{"period":10,"display_name":"Sign-ups","attributes":{"aggregate":false}}`)
	assert.Equal(t, 204, status)
	m = get("/v1/metrics/signup")
	assert.EqualValues(t, 10, m["period"])
	assert.Equal(t, "Sign-ups", m["display_name"])
	assert.Equal(t, false, m["attributes"].(map[string]any)["aggregate"])

	for body, want := range map[string]int{
		`{"type":"gauge","period":30}`: 201, `{"type":"counter"}`: 201, `{"period":30}`: 400, `{`: 400, `{"type":"gauge","period":1}`: 400,
	} {
		status, answer, header := h.do(http.MethodPut, "/v1/metrics/new", body)
		assert.Equal(t, want, status, answer)
		if want == 201 {
			assert.Equal(t, "/v1/metrics/new", header.Get("Location"))
			status, _, _ = h.do(http.MethodDelete, "/v1/metrics/new", "")
			assert.Equal(t, 204, status)
		}
	}
	status, _, _ = h.do(http.MethodPut, "/v1/metrics/signup", `{"type":"counter"}`)
	assert.Equal(t, 400, status)
	status, _, _ = h.do(http.MethodDelete, "/v1/metrics/none", "")
	assert.Equal(t, 404, status)

	h.mustPost(gauge("Login", "web-1", 0, 1, ""))
	list := get("/v1/metrics?name=log")
	assert.Equal(t, map[string]any{"found": 1., "length": 1., "offset": 0., "total": 2.}, list["query"])
	assert.Len(t, get("/v1/metrics?offset=1")["metrics"], 1)
	assert.Len(t, get("/v1/metrics?length=1")["metrics"], 1)
	assert.Empty(t, get("/v1/metrics?offset=9")["metrics"])
}

func TestMeasurementsRollUp(t *testing.T) {
	h := newHarness(t)
	for second, value := range map[int64]float64{0: 1, 30: 2, 59: 3, 60: 10, 150: 20} {
		for _, function := range summarizeFunctions {
			h.mustPost(gauge(function, "web-1", second, value, `,"attributes":{"summarize_function":"`+function+`"}`))
		}
	}
	h.mustPost(gauge("sum", "db-1", 0, 7, ""))
	h.mustPost(fmt.Sprintf(`{"counters":[{"name":"c","value":5,"measure_time":%d},{"name":"c","value":9,"measure_time":%d}]}`, start, start+1))
	h.pass(5 * time.Minute)
	values := func(path string) (out map[string][]float64) {
		t.Helper()
		status, answer, _ := h.do(http.MethodGet, "/v1/metrics/"+path, "")
		require.Equal(t, 200, status, answer)
		var v struct {
			Measurements map[string][]struct{ Value float64 }
		}
		require.NoError(t, json.Unmarshal([]byte(answer), &v))
		out = map[string][]float64{}
		for source, points := range v.Measurements {
			for _, p := range points {
				out[source] = append(out[source], p.Value)
			}
		}
		return out
	}
	for function, want := range map[string][]float64{
		"average": {2, 10, 20}, "count": {3, 1, 1}, "min": {1, 10, 20}, "max": {3, 10, 20}, "sum": {6, 10, 20},
	} {
		assert.Equal(t, want, values(function + "?count=100&source=web-1")["web-1"], function)
	}
	assert.Equal(t, map[string][]float64{"web-1": {6, 10, 20}, "db-1": {7}}, values("sum?start_time=0"))
	assert.Equal(t, map[string][]float64{"web-1": {16, 20}, "db-1": {7}}, values("SUM?start_time=0&resolution=120"))
	assert.Equal(t, map[string][]float64{"web-1": {20}, "db-1": {7}}, values("sum?count=1"))
	assert.Equal(t, map[string][]float64{"web-1": {3, 10}}, values(fmt.Sprintf("sum?start_time=%d&end_time=%d", start+59, start+60)))
	assert.Equal(t, map[string][]float64{"db-1": {7}}, values("sum?start_time=0&source=DB*"))
	assert.Equal(t, map[string][]float64{"db-1": {7}}, values("sum?start_time=0&sources[]=db-1&sources[]=x"))
	assert.Equal(t, map[string][]float64{"unassigned": {9}}, values("c?start_time=0"))
	status, _, _ := h.do(http.MethodGet, "/v1/metrics/sum?start_time=0&resolution=0", "")
	assert.Equal(t, 400, status)
}

func TestRecordOnlyToken(t *testing.T) {
	h := newHarness(t, WithRecordOnly())
	h.mustPost(gauge("a", "s", 0, 1, ""))
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		status, _, _ := h.do(method, "/v1/metrics/a", "{}")
		assert.Equal(t, 404, status)
	}
}

func TestRequestsAreRecorded(t *testing.T) {
	var seen []Request
	h := newHarness(t, WithObserver(func(r Request) { seen = append(seen, r) }))
	body := gauge("a", "s", 0, 1, "")
	h.mustPost(body)
	h.post(`{`)
	h.do(http.MethodGet, "/v1/metrics?name=a", "")
	requests := h.Requests()
	require.Len(t, requests, 3)
	assert.Equal(t, seen, requests)
	assert.Len(t, h.Posts(), 2)
	first := requests[0]
	assert.Equal(t, body, string(first.Body))
	assert.Equal(t, "someone@example.com", first.User)
	assert.Equal(t, "test/1", first.Header.Get("User-Agent"))
	assert.Empty(t, first.Header.Get("Authorization"))
	assert.Equal(t, 1, first.Measurements)
	assert.Equal(t, 1, first.Applied)
	assert.Equal(t, time.Unix(start, 0), first.Time)
	assert.Equal(t, "name=a", requests[2].Query)
	assert.Equal(t, map[int]int{200: 1, 400: 1}, h.Stats().Statuses)
	assert.EqualValues(t, len(body)+1, h.Stats().Bytes)

	h.Reset()
	assert.Empty(t, h.Requests())
	assert.Empty(t, h.Totals())
	assert.Zero(t, h.Stats().Posts)
}

func TestTheRecordIsBounded(t *testing.T) {
	s := New()
	for i := range maxRequestLog + 5 {
		s.record(Request{Size: i, Body: make([]byte, 8<<10)})
	}
	requests := s.Requests()
	assert.Len(t, requests, maxRequestLog)
	assert.Equal(t, 5, requests[0].Size)
	assert.Nil(t, requests[0].Body)
	assert.NotNil(t, requests[len(requests)-1].Body)
	assert.LessOrEqual(t, s.logBytes, maxBodies)
}

func TestRetention(t *testing.T) {
	h := newHarness(t, WithRetention(time.Hour))
	h.mustPost(gauge("a", "old", 0, 1, ""))
	h.pass(2 * time.Hour)
	h.mustPost(gauge("a", "new", 7200, 1, ""))
	assert.Zero(t, h.Sum("a", "old").Count)
	assert.Equal(t, uint64(1), h.Sum("a", "new").Count)
}

func TestSink(t *testing.T) {
	h := newHarness(t, WithSink())
	h.mustPost(`{"gauges":[{"name":"a b","value":1},{"name":"c","value":1}]}`)
	status, answer := h.tagged(`{"measurements":[{"name":"a","value":1}]}`)
	assert.Equal(t, 202, status)
	assert.Contains(t, answer, `"accepted":1`)
	assert.EqualValues(t, 3, h.Stats().Measurements)
	assert.Equal(t, 2, h.Stats().Posts)
	assert.Empty(t, h.Requests())
	h.Fail(Failure{Status: 503})
	status, _ = h.post(`{`)
	assert.Equal(t, 503, status)
}

func TestConcurrentPostsAddUp(t *testing.T) {
	h := newHarness(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 25 {
				status, _ := h.post(gauge("a", "s", int64(j), 1, ssa))
				assert.Equal(t, 200, status)
				_, _, _ = h.Requests(), h.Totals(), h.Stats()
			}
			h.Fail(Failure{Status: 503, Path: strconv.Itoa(i)})
		})
	}
	wg.Wait()
	assert.Equal(t, librato.Summary{Count: 200, Sum: 200, Min: 1, Max: 1}, h.Sum("a", "s"))
	assert.LessOrEqual(t, h.Stats().MaxInFlight, 8)
}

func TestOtherPaths(t *testing.T) {
	h := newHarness(t)
	for _, tt := range []struct{ method, path string }{
		{http.MethodGet, "/v1/none"},
		{http.MethodGet, "/v1/measurements"},
		{http.MethodPost, "/v1/metrics/a"},
		{http.MethodPost, "/"},
		{http.MethodGet, "/none"},
		{http.MethodGet, "/_local/none"},
	} {
		status, _, _ := h.do(tt.method, tt.path, "")
		assert.Equal(t, 404, status, tt)
	}
	status, answer, _ := h.do(http.MethodPost, "/v1/metrics", strings.Repeat(" ", maxBody+1))
	assert.Equal(t, 413, status, answer)
}

func FuzzPost(f *testing.F) {
	f.Add(true, `{"gauges":[{"name":"a","source":"s","count":2,"sum":5}],"counters":[{"name":"c","value":1e5}]}`)
	f.Add(false, `{"measurements":[{"name":"a","value":1,"tags":{"a":"b"},"period":60,"attributes":{"aggregate":true}}]}`)
	f.Fuzz(func(t *testing.T, metrics bool, body string) {
		s := New(WithClock(func() time.Time { return time.Unix(start, 0) }))
		path := "/v1/measurements"
		if metrics {
			path = "/v1/metrics"
		}
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.SetBasicAuth("a", "b")
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= 300 {
			assert.True(t, json.Valid(w.Body.Bytes()))
			assert.Empty(t, s.Totals())
		}
		for _, total := range s.Totals() {
			assert.False(t, math.IsNaN(total.Stored.Sum) || math.IsInf(total.Stored.Sum, 0))
		}
		for _, path := range []string{"/v1/metrics", "/v1/metrics/a?count=5", "/_local/totals", "/_local/graph?name=a"} {
			w = httptest.NewRecorder()
			r = httptest.NewRequest(http.MethodGet, path, http.NoBody)
			r.SetBasicAuth("a", "b")
			s.ServeHTTP(w, r)
			assert.True(t, json.Valid(w.Body.Bytes()), path)
		}
	})
}

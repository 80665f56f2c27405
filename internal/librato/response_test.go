// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package librato

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
)

var now = time.Date(2026, 11, 15, 11, 0, 0, 0, time.UTC)

func parse(status int, body string) Response {
	return ParseResponse(status, http.Header{}, []byte(body), now)
}

func TestParseResponse(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   Response // Status is filled in; Accepted and Failed 0 mean not said
	}{
		{"metrics taken", 200, "", Response{Verdict: VerdictTaken}},
		{"a created metric", 201, "", Response{Verdict: VerdictTaken}},
		{"no content", 204, "", Response{Verdict: VerdictTaken}},
		{
			"measurements taken", 202, `{"measurements":{"summary":{"total":3,"accepted":3,"failed":0,"filtered":0}}}`,
			Response{Verdict: VerdictTaken, Accepted: 3, Failed: -2},
		},
		{
			"measurements taken in part", 202,
			`{"measurements":{"summary":{"total":3,"accepted":2,"failed":1,"filtered":0}},"errors":[{"param":"name","value":"bad name","reason":"is invalid"}]}`,
			Response{Verdict: VerdictTaken, Accepted: 2, Failed: 1, Errors: []Error{{"name", "bad name", "is invalid"}}},
		},
		{
			"errors inside of measurements", 202, `{"measurements":{"summary":{"accepted":2,"failed":1},"errors":["'x' is bad"]}}`,
			Response{Verdict: VerdictTaken, Accepted: 2, Failed: 1, Errors: []Error{{Text: "'x' is bad"}}},
		},
		{
			"a part is over the limit", 202, `{"measurements":{"summary":{"accepted":2,"failed":1}},"errors":{"request":["rate limit reached"]}}`,
			Response{Verdict: VerdictAgain, Cause: CauseRateLimit, Accepted: 2, Failed: 1, Errors: []Error{{Text: "rate limit reached"}}},
		},
		{
			"a parameter", 400, `{"errors":{"params":{"source":["a b is not a valid source name"]}},"request_time":1623713765}`,
			Response{Verdict: VerdictRefused, Errors: []Error{{"source", "", "a b is not a valid source name"}}},
		},
		{
			"several parameters, sorted", 400, `{"errors":{"params":{"value":["must be positive"],"name":["is missing","is blank"]}}}`,
			Response{Verdict: VerdictRefused, Errors: []Error{{"name", "", "is missing"}, {"name", "", "is blank"}, {"value", "", "must be positive"}}},
		},
		{
			"a parameter inside of another", 400, `{"errors":{"params":{"gauges":[{"name":"is missing"}]}}}`,
			Response{Verdict: VerdictRefused, Errors: []Error{{"name", "", "is missing"}}},
		},
		{
			"one text in place of a list", 400, `{"errors":{"params":{"name":"is missing"}}}`,
			Response{Verdict: VerdictRefused, Errors: []Error{{"name", "", "is missing"}}},
		},
		{
			"errors as a text", 400, `{"errors":"no"}`,
			Response{Verdict: VerdictRefused, Errors: []Error{{Text: "no"}}},
		},
		{"not JSON", 400, `<html>nope`, Response{Verdict: VerdictRefused}},
		{"broken JSON", 400, `{"errors":`, Response{Verdict: VerdictRefused}},
		{"too large", 413, ``, Response{Verdict: VerdictRefused}},
		{
			"already there", 422, `{"errors":{"request":["already exists"]}}`,
			Response{Verdict: VerdictRefused, Errors: []Error{{Text: "already exists"}}},
		},
		{
			"credentials", 401, `{"errors":{"request":["Authorization Required"]}}`,
			Response{Verdict: VerdictAgain, Cause: CauseCredentials, Errors: []Error{{Text: "Authorization Required"}}},
		},
		{
			"not over TLS", 403, `{"errors":{"request":["Please use secured connection through https!"]}}`,
			Response{Verdict: VerdictAgain, Cause: CauseCredentials, Errors: []Error{{Text: "Please use secured connection through https!"}}},
		},
		{"403 without a word", 403, ``, Response{Verdict: VerdictAgain, Cause: CauseCredentials}},
		{
			"403, rate limited", 403, `{"errors":{"request":["You have hit the API limit for measurements [measure:raw_rate]"]}}`,
			Response{Verdict: VerdictAgain, Cause: CauseRateLimit, Errors: []Error{{Text: "You have hit the API limit for measurements [measure:raw_rate]"}}},
		},
		{
			"403, rate limited, as text", 403, "You have hit the API limit\n",
			Response{Verdict: VerdictAgain, Cause: CauseRateLimit, Errors: []Error{{Text: "You have hit the API limit"}}},
		},
		{"429", 429, ``, Response{Verdict: VerdictAgain, Cause: CauseRateLimit}},
		{
			"429, partly taken", 429, `{"measurements":{"summary":{"accepted":2,"failed":1}},"errors":{"request":["Rate limited"]}}`,
			Response{Verdict: VerdictAgain, Cause: CauseRateLimit, Accepted: 2, Failed: 1, Errors: []Error{{Text: "Rate limited"}}},
		},
		{
			"429 that is a 400: params", 429, `{"errors":{"params":{"measurements":["is missing"]}}}`,
			Response{Verdict: VerdictRefused, Errors: []Error{{"measurements", "", "is missing"}}},
		},
		{
			"429 that is a 400: request", 429, `{"errors":{"request":["could not be parsed"]}}`,
			Response{Verdict: VerdictRefused, Errors: []Error{{Text: "could not be parsed"}}},
		},
		{
			"429 that is a 400: list", 429, `{"errors":[{"param":"name","value":7,"reason":"exceeds the limit of 255 characters"}]}`,
			Response{Verdict: VerdictRefused, Errors: []Error{{"name", "7", "exceeds the limit of 255 characters"}}},
		},
		{
			"429 of the system", 429, `{"errors":{"system":["busy"]}}`,
			Response{Verdict: VerdictAgain, Cause: CauseRateLimit, Errors: []Error{{Text: "busy"}}},
		},
		{
			"429 that complains, and took none", 429,
			`{"measurements":{"summary":{"accepted":0,"failed":1}},"errors":[{"param":"name","value":"x","reason":"bad"}]}`,
			Response{Verdict: VerdictRefused, Accepted: -2, Failed: 1, Errors: []Error{{"name", "x", "bad"}}},
		},
		{
			"429 that complains, but took a part", 429, `{"measurements":{"summary":{"accepted":2,"failed":1}},"errors":[{"param":"name","value":"x","reason":"bad"}]}`,
			Response{Verdict: VerdictTaken, Accepted: 2, Failed: 1, Errors: []Error{{"name", "x", "bad"}}},
		},
		{
			"a gateway's 429", 429, `{"message":"slow down"}`,
			Response{Verdict: VerdictAgain, Cause: CauseRateLimit, Errors: []Error{{Text: "slow down"}}},
		},
		{"408", 408, ``, Response{Verdict: VerdictAgain, Cause: CauseUnavailable}},
		{"500", 500, ``, Response{Verdict: VerdictAgain, Cause: CauseUnavailable}},
		{
			"maintenance", 503, `{"errors":{"system":["The API is currently down for maintenance. It'll be back shortly."]}}`,
			Response{Verdict: VerdictAgain, Cause: CauseUnavailable, Errors: []Error{{Text: "The API is currently down for maintenance. It'll be back shortly."}}},
		},
		{"a gateway's page", 502, `<html><h1>Bad Gateway</h1>`, Response{Verdict: VerdictAgain, Cause: CauseUnavailable}},
		{"several choices", 300, ``, Response{Verdict: VerdictAgain, Cause: CauseEndpoint}},
		{"moved", 301, ``, Response{Verdict: VerdictAgain, Cause: CauseEndpoint}},
		{"no such thing", 404, `404 page not found`, Response{Verdict: VerdictAgain, Cause: CauseEndpoint, Errors: []Error{{Text: "404 page not found"}}}},
		{"405", 405, ``, Response{Verdict: VerdictAgain, Cause: CauseEndpoint}},
		{"wrong content type", 415, ``, Response{Verdict: VerdictAgain, Cause: CauseEndpoint}},
		{"what nobody sends", 418, ``, Response{Verdict: VerdictAgain, Cause: CauseEndpoint}},
		{"absurd counts", 202, `{"measurements":{"summary":{"accepted":-1,"failed":1e300}}}`, Response{Verdict: VerdictTaken}},
		{"measurements echoed", 202, `{"measurements":[{"name":"x"}],"errors":["y"]}`, Response{Verdict: VerdictTaken, Errors: []Error{{Text: "y"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want
			want.Status = tt.status
			for _, n := range []*int{&want.Accepted, &want.Failed} {
				switch *n {
				case 0:
					*n = -1
				case -2:
					*n = 0
				}
			}
			assert.Empty(t, cmp.Diff(want, parse(tt.status, tt.body)))
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"":                               0,
		"0":                              0,
		"1":                              time.Second,
		" 120 ":                          2 * time.Minute,
		"-5":                             0,
		"3601":                           time.Hour,
		"99999999999999999999":           time.Hour,
		"-99999999999999999999":          0,
		"9223372036854775807":            time.Hour,
		"1.5":                            0,
		"soon":                           0,
		"Sun, 15 Nov 2026 11:00:30 GMT":  30 * time.Second,
		"Sun, 15 Nov 2026 10:59:59 GMT":  0,
		"Sun, 15 Nov 2099 11:00:30 GMT":  time.Hour,
		"Sunday, 15-Nov-26 11:00:07 GMT": 7 * time.Second,
		"Sun Nov 15 11:00:08 2026":       8 * time.Second,
	} {
		r := ParseResponse(503, http.Header{"Retry-After": {value}}, nil, now)
		assert.Equal(t, want, r.RetryAfter, value)
	}
}

func TestWords(t *testing.T) {
	r := parse(400, `{"errors":{"params":{"name":["is\nmissing\u0007"]},"request":["and\tmore"]}}`)
	assert.Equal(t, "name: is missing; and more", r.Words())

	r = parse(202, `{"errors":[{"param":"name","value":"a b","reason":"is invalid"}]}`)
	assert.Equal(t, "name: 'a b' is invalid", r.Words())

	r = parse(400, `{"errors":["`+strings.Repeat("ü", 5000)+`","x"]}`)
	assert.LessOrEqual(t, len(r.Words()), 200)
	assert.True(t, utf8.ValidString(r.Words()))
	assert.True(t, strings.HasSuffix(r.Words(), "…"))

	r = parse(500, strings.Repeat("x", 1<<20))
	assert.LessOrEqual(t, len(r.Words()), 200)
	r = parse(500, "")
	assert.Empty(t, r.Words())
}

func TestBlame(t *testing.T) {
	ms := []Measurement{
		{Name: "Rack.Request.Total", Source: "web-1", Time: 30},
		{Name: "signup", Source: "web 2", Time: 20, Tags: []Tag{{"region", "Us East"}}},
		{Name: "login", Source: "WEB-1", Time: 20},
		{Name: "a", Source: "a", Time: 40},
		{Name: "a is b", Source: "a is b", Time: 40},
	}
	params := func(field, text string) string { return `{"errors":{"params":{"` + field + `":["` + text + `"]}}}` }
	tests := []struct {
		name   string
		status int
		body   string
		want   []int
		reason Reason
	}{
		{
			"librato-rails#10: a type conflict", 400,
			params("type", "'rack.request.total' is a counter, but was submitted as different type"),
			[]int{0},
			ReasonTypeConflict,
		},
		{"a type, in other words", 400, `{"errors":{"request":["'login' is a gauge"]}}`, []int{2}, ReasonTypeConflict},
		{"metrics-librato#84: a source", 400, params("source", "web 2 is not a valid source name"), []int{1}, ReasonInvalidSource},
		{"a source of several, in another case", 400, params("source", "Web-1 is not a valid source name"), []int{0, 2}, ReasonInvalidSource},
		{"the longest name that fits", 400, params("source", "a is b is not a valid source name"), []int{4}, ReasonInvalidSource},
		{"no name at the beginning", 400, params("source", "a measurement is not valid"), nil, ReasonInvalidSource},
		{"statsd-librato-backend#67: too old", 400, params("measure_time", "is too far in the past"), []int{1, 2}, ReasonTooOld},
		{"in the future", 400, params("measure_time", "is too far in the future"), []int{3, 4}, ReasonInTheFuture},
		{"in the future, of the measurements API", 400, params("time", "too far in the future"), []int{3, 4}, ReasonInTheFuture},
		{"a time in a list", 400, `{"errors":[{"param":"measure_time","value":30,"reason":"is too far in the past"}]}`, []int{0}, ReasonTooOld},
		{"a time that is not ours", 400, `{"errors":[{"param":"measure_time","value":31,"reason":"is too far in the past"}]}`, []int{1, 2}, ReasonTooOld},
		{
			"statsd-librato-backend#52: a value, and a name that says which", 400,
			`{"errors":{"params":{"value":["must be positive"],"name":["'login' is the name"]}}}`,
			[]int{2},
			ReasonInvalidName,
		},
		{"a value", 400, params("value", "must be positive"), nil, ReasonInvalidValue},
		{"a value of a metric", 400, params("sum", "'login': must be positive"), []int{2}, ReasonInvalidValue},
		{"a value is no name", 400, `{"errors":[{"param":"value","value":"a","reason":"no"}]}`, nil, ReasonInvalidValue},
		{"a count", 400, params("gauges[3][count]", "must be an integer"), nil, ReasonInvalidValue},
		{"a name in a list", 400, `{"errors":[{"param":"name","value":"SIGNUP","reason":"is invalid"}]}`, []int{1}, ReasonInvalidName},
		{"one reason at a time", 400, `{"errors":[{"param":"name","value":"signup","reason":"is invalid"},{"param":"source","value":"a","reason":"is invalid"}]}`, []int{1}, ReasonInvalidName},
		{"a name before a time", 400, `{"errors":{"params":{"measure_time":["is too far in the past"],"name":["login is bad"]}}}`, []int{2}, ReasonInvalidName},
		{"a tag where there are none", 400, params("tags", "'Region' can't be one"), nil, ReasonInvalidTag},
		{"a source named by an error of the request", 400, `{"errors":{"request":["web 2 is not a valid source name"]}}`, []int{1}, ReasonInvalidSource},
		{"anything that quotes a name", 400, `{"errors":{"request":["too many streams for \"login\""]}}`, []int{2}, ReasonRejected},
		{"a name that is not ours", 400, params("name", "other is not valid"), nil, ReasonInvalidName},
		{"nothing said", 400, ``, nil, ReasonRejected},
		{"429 that is a 400", 429, params("name", "'login' is not valid"), []int{2}, ReasonInvalidName},
		{"all taken", 202, `{"measurements":{"summary":{"accepted":5,"failed":0}}}`, nil, ReasonRejected},
		{"taken, nothing said", 200, ``, nil, ReasonRejected},
		{
			"taken in part: all that are named", 202,
			`{"measurements":{"summary":{"accepted":3,"failed":2}},"errors":[{"param":"name","value":"login","reason":"is bad"},{"param":"name","value":"signup","reason":"is bad"}]}`,
			[]int{1, 2},
			ReasonInvalidName,
		},
		{"taken in part, not said which", 202, `{"measurements":{"summary":{"accepted":3,"failed":2}}}`, nil, ReasonRejected},
		{"none taken", 202, `{"measurements":{"summary":{"accepted":0,"failed":5}}}`, []int{0, 1, 2, 3, 4}, ReasonRejected},
		{
			"a limit, part taken", 429,
			`{"measurements":{"summary":{"accepted":4,"failed":1}},"errors":[{"param":"name","value":"login","reason":"rate limited"}]}`,
			[]int{2},
			ReasonInvalidName,
		},
		{
			"a limit, not all named", 429,
			`{"measurements":{"summary":{"accepted":3,"failed":2}},"errors":[{"param":"name","value":"login","reason":"rate limited"}]}`,
			nil, ReasonInvalidName,
		},
		{
			"a limit, none taken", 429,
			`{"measurements":{"summary":{"accepted":0,"failed":1}},"errors":[{"param":"name","value":"login","reason":"rate limited"}]}`,
			nil, ReasonInvalidName,
		},
		{"a limit, names, but nothing counted", 429, `{"errors":{"request":["rate limited: 'login'"]}}`, nil, ReasonRejected},
		{"an outage that happens to name one", 503, `{"errors":{"system":["login is down"]}}`, nil, ReasonRejected},
		{"errors, but none failed", 202, `{"measurements":{"summary":{"accepted":5,"failed":0}},"errors":["'login' is new"]}`, nil, ReasonRejected},
		{"taken, errors without counts", 200, `{"errors":{"params":{"name":["'login' is bad"]}}}`, []int{2}, ReasonInvalidName},
		{"a limit, nothing said", 429, ``, nil, ReasonRejected},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := parse(tt.status, tt.body)
			got, reason := r.Blame(Metrics, ms)
			assert.Equal(t, tt.want, got)
			assert.Equal(t, tt.reason, reason)
		})
	}

	t.Run("one alone", func(t *testing.T) {
		r := parse(400, params("value", "must be positive"))
		got, reason := r.Blame(Metrics, ms[:1])
		assert.Equal(t, []int{0}, got)
		assert.Equal(t, ReasonInvalidValue, reason)
	})
	t.Run("none", func(t *testing.T) {
		r := parse(400, params("measure_time", "is too far in the past"))
		got, _ := r.Blame(Metrics, nil)
		assert.Nil(t, got)
	})
}

// Where streams are told apart by tags, a refusal names them by these, the source among them.
func TestBlameByTags(t *testing.T) {
	ms := []Measurement{
		{Name: "signup", Tags: []Tag{{"region", "Us East"}}},
		{Name: "signup", Tags: []Tag{{"source", "web-1"}}},
		{Name: "login", Tags: []Tag{{"source", "web-1"}, {"Zone", "b"}}},
	}
	for name, tt := range map[string]struct {
		body   string
		want   []int
		reason Reason
	}{
		"a value": {`{"errors":[{"param":"tags","value":"us east","reason":"is invalid"}]}`, []int{0}, ReasonInvalidTag},
		"a name, quoted among apostrophes": {
			`{"errors":{"params":{"tags":["'Region' can't be one, it's 'too' short"]}}}`, []int{0}, ReasonInvalidTag,
		},
		"a source":           {`{"errors":{"params":{"source":["web-1 is not a valid source name"]}}}`, []int{1, 2}, ReasonInvalidSource},
		"anything it quotes": {`{"errors":{"request":["too many streams for 'zone'"]}}`, []int{2}, ReasonRejected},
		"a name before tags": {`{"errors":{"request":["too many streams for 'signup' of 'b'"]}}`, []int{0, 1}, ReasonRejected},
	} {
		t.Run(name, func(t *testing.T) {
			r := parse(400, tt.body)
			got, reason := r.Blame(Measurements, ms)
			assert.Equal(t, tt.want, got)
			assert.Equal(t, tt.reason, reason)
		})
	}
}

func FuzzParseResponse(f *testing.F) {
	f.Add(400, "5", `{"errors":{"params":{"type":["'a' is a counter, but was submitted as different type"]}}}`)
	f.Add(202, "", `{"measurements":{"summary":{"total":3,"accepted":2,"failed":1}},"errors":[{"param":"name","value":"b","reason":"x"}]}`)
	f.Add(429, "Sun, 15 Nov 2026 11:00:30 GMT", `{"errors":{"request":["limit"],"system":[{"a":[[]]}]}}`)
	ms := []Measurement{{Name: "a", Source: "s", Time: 1}, {Name: "b", Time: 2, Tags: []Tag{{"t", "v"}}}, {Time: 3}}
	f.Fuzz(func(t *testing.T, status int, after, body string) {
		r := ParseResponse(status, http.Header{"Retry-After": {after}}, []byte(body), now)
		assert.GreaterOrEqual(t, r.RetryAfter, time.Duration(0))
		assert.LessOrEqual(t, r.RetryAfter, time.Hour)
		assert.LessOrEqual(t, len(r.Words()), 200)
		assert.True(t, utf8.ValidString(r.Words()))
		assert.Equal(t, r.Verdict == VerdictAgain, r.Cause != CauseNone)
		offenders, reason := r.Blame(Metrics, ms)
		assert.NotEmpty(t, reason)
		for i, o := range offenders {
			assert.True(t, o >= 0 && o < len(ms))
			assert.True(t, i == 0 || offenders[i-1] < o)
		}
		if r.Verdict == VerdictRefused {
			one, _ := r.Blame(Metrics, ms[:1])
			assert.Equal(t, []int{0}, one)
		}
	})
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package librato

import (
	"fmt"
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
		{"a page", 400, `<html>nope`, Response{Verdict: VerdictAgain, Cause: CauseEndpoint}},
		{"broken JSON", 400, `{"errors":`, Response{Verdict: VerdictAgain, Cause: CauseEndpoint}},
		{"a gateway's JSON", 400, `{"message":"no"}`, Response{Verdict: VerdictRefused, Errors: []Error{{Text: "no"}}}},
		{"no body", 400, " \n", Response{Verdict: VerdictRefused}},
		{"too large", 413, ``, Response{Verdict: VerdictRefused}},
		{"too large for a proxy", 413, `<html>`, Response{Verdict: VerdictRefused}},
		{"taken, an object without a member", 200, `{}`, Response{Verdict: VerdictTaken}},
		{"taken, and how long it took", 200, `{"request_time":1488585496}`, Response{Verdict: VerdictTaken}},
		{"a page in place of an answer", 200, `<html>Log in`, Response{Verdict: VerdictAgain, Cause: CauseEndpoint}},
		{"a text in place of an answer", 200, `ok`, Response{Verdict: VerdictAgain, Cause: CauseEndpoint, Errors: []Error{{Text: "ok"}}}},
		{"null in place of an answer", 200, `null`, Response{Verdict: VerdictAgain, Cause: CauseEndpoint, Errors: []Error{{Text: "null"}}}},
		{"a list in place of an answer", 200, `[]`, Response{Verdict: VerdictAgain, Cause: CauseEndpoint}},
		{
			"another's object in place of an answer", 202, `{"message":"hello"}`,
			Response{Verdict: VerdictAgain, Cause: CauseEndpoint, Errors: []Error{{Text: "hello"}}},
		},
		{"an answer that is cut", 202, `{"measurements":{"summary"`, Response{Verdict: VerdictAgain, Cause: CauseEndpoint}},
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
			"429 that complains of parameters", 429, `{"errors":{"params":{"measurements":["is missing"]}}}`,
			Response{Verdict: VerdictAgain, Cause: CauseRateLimit, Errors: []Error{{"measurements", "", "is missing"}}},
		},
		{
			"429 that complains of the request", 429, `{"errors":{"request":["could not be parsed"]}}`,
			Response{Verdict: VerdictAgain, Cause: CauseRateLimit, Errors: []Error{{Text: "could not be parsed"}}},
		},
		{
			"429 that complains in a list", 429, `{"errors":[{"param":"name","value":7,"reason":"exceeds the limit of 255 characters"}]}`,
			Response{Verdict: VerdictAgain, Cause: CauseRateLimit, Errors: []Error{{"name", "7", "exceeds the limit of 255 characters"}}},
		},
		{
			"429 of the system", 429, `{"errors":{"system":["busy"]}}`,
			Response{Verdict: VerdictAgain, Cause: CauseRateLimit, Errors: []Error{{Text: "busy"}}},
		},
		{
			"429 that complains, and took none", 429,
			`{"measurements":{"summary":{"accepted":0,"failed":1}},"errors":[{"param":"name","value":"x","reason":"bad"}]}`,
			Response{Verdict: VerdictAgain, Cause: CauseRateLimit, Accepted: -2, Failed: 1, Errors: []Error{{"name", "x", "bad"}}},
		},
		{
			"429 that complains, but took a part", 429, `{"measurements":{"summary":{"accepted":2,"failed":1}},"errors":[{"param":"name","value":"x","reason":"bad"}]}`,
			Response{Verdict: VerdictAgain, Cause: CauseRateLimit, Accepted: 2, Failed: 1, Errors: []Error{{"name", "x", "bad"}}},
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

// What an answer means for those that it does not name, and how many of these were given up.
func TestJudgeTheOthers(t *testing.T) {
	ms := []Measurement{{Name: "login", Source: "a"}, {Name: "login", Source: "b"}, {Name: "signup", Source: "a"}}
	summary := func(accepted, failed int, errors string) string {
		return fmt.Sprintf(`{"measurements":{"summary":{"accepted":%d,"failed":%d}},"errors":%s}`, accepted, failed, errors)
	}
	const signup, login, limit = `[{"param":"name","value":"signup","reason":"is bad"}]`, `[{"param":"name","value":"login","reason":"is bad"}]`,
		`[{"param":"name","value":"signup","reason":"rate limited"}]`
	tests := []struct {
		name   string
		status int
		body   string
		want   Judgement
	}{
		{"all taken", 202, summary(3, 0, `[]`), Judgement{VerdictTaken, nil, ReasonRejected, 0}},
		{"one failed, and is named", 202, summary(2, 1, signup), Judgement{VerdictTaken, []int{2}, ReasonInvalidName, 0}},
		{"two failed, one is named", 202, summary(1, 2, signup), Judgement{VerdictTaken, []int{2}, ReasonInvalidName, 1}},
		{"one failed, two have the name that is named", 202, summary(2, 1, login), Judgement{VerdictTaken, nil, ReasonInvalidName, 1}},
		{"none taken, and none named", 202, summary(0, 3, `[]`), Judgement{VerdictRefused, nil, ReasonRejected, 0}},
		{"none taken, one named", 202, summary(0, 3, signup), Judgement{VerdictRefused, []int{2}, ReasonInvalidName, 0}},
		{
			"none taken, each named", 202,
			summary(0, 3, `[{"param":"name","value":"signup","reason":"is bad"},{"param":"name","value":"login","reason":"is bad"}]`),
			Judgement{VerdictRefused, []int{0, 1, 2}, ReasonInvalidName, 0},
		},
		{"none taken, for a limit", 202, summary(0, 3, limit), Judgement{VerdictAgain, nil, ReasonInvalidName, 0}},
		{"one over a limit, and named", 202, summary(2, 1, limit), Judgement{VerdictAgain, []int{2}, ReasonInvalidName, 0}},
		{"two over a limit, one named", 429, summary(1, 2, limit), Judgement{VerdictAgain, nil, ReasonInvalidName, 0}},
		{
			"two over a limit, one name for two of them", 429, summary(1, 2, `{"request":["rate limited: 'login'"]}`),
			Judgement{VerdictAgain, nil, ReasonRejected, 0},
		},
		{
			"one over a limit, two have the name that is named", 429, summary(2, 1, `{"request":["rate limited: 'login'"]}`),
			Judgement{VerdictAgain, nil, ReasonRejected, 0},
		},
		{"429 that names one and counts the others as taken", 429, summary(2, 1, signup), Judgement{VerdictTaken, []int{2}, ReasonInvalidName, 0}},
		{"429 that names less than it counts", 429, summary(1, 2, signup), Judgement{VerdictAgain, nil, ReasonInvalidName, 0}},
		{"429 that names one", 429, `{"errors":` + signup + `}`, Judgement{VerdictRefused, []int{2}, ReasonInvalidName, 0}},
		{"429 that names none", 429, `{"errors":{"request":["Rate exceeded"]}}`, Judgement{VerdictAgain, nil, ReasonRejected, 0}},
		{"429 that names one of another request", 429, `{"errors":{"params":{"name":["'x' is bad"]}}}`, Judgement{VerdictAgain, nil, ReasonInvalidName, 0}},
		{"400 that names two", 400, `{"errors":` + login + `}`, Judgement{VerdictRefused, []int{0, 1}, ReasonInvalidName, 0}},
		{"503 that happens to name one", 503, `{"errors":{"system":["'login' is down"]}}`, Judgement{VerdictAgain, nil, ReasonRejected, 0}},
		{"404 that happens to name one", 404, `{"errors":{"request":["'login' is unknown"]}}`, Judgement{VerdictAgain, nil, ReasonRejected, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := parse(tt.status, tt.body)
			assert.Equal(t, tt.want, r.Judge(Metrics, ms))
		})
	}
}

// What an account, or all requests, are told is not what a measurement of that name is told.
func TestJudgeNamesNoSubject(t *testing.T) {
	ms := []Measurement{{Name: "account"}, {Name: "rate"}, {Name: "slow"}, {Name: "b"}}
	for _, text := range []string{"account is suspended", "Account may not post", "rate exceeded", "Rate is too high", "slow down"} {
		for _, status := range []int{400, 422, 429, 403} {
			r := parse(status, `{"errors":{"request":["`+text+`"]}}`)
			assert.Empty(t, r.Judge(Metrics, ms).Named, "%d %s", status, text)
		}
	}
}

func TestDivisible(t *testing.T) {
	for _, tt := range []struct {
		status int
		body   string
		want   bool
	}{
		{403, `<html>blocked</html>`, true},
		{403, `{"errors":{"request":["rate limit reached"]}}`, false},
		{401, ``, false},
		{404, ``, true},
		{200, `<html>`, true},
		{400, `<html>`, true},
		{429, `{"errors":{"request":["could not be parsed"]}}`, true},
		{429, `{"errors":{"request":["Rate exceeded"]}}`, false},
		{429, ``, false},
		{503, `<html>`, false},
		{200, ``, false},
	} {
		r := parse(tt.status, tt.body)
		assert.Equal(t, tt.want, r.Divisible(), "%d %s", tt.status, tt.body)
	}
	r := ParseResponse(429, http.Header{"Retry-After": {"5"}}, []byte(`{"errors":{"request":["could not be parsed"]}}`), now)
	assert.False(t, r.Divisible(), "it says when to come again")
}

func TestJudge(t *testing.T) {
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
		want   []int // named
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
			got := r.Judge(Metrics, ms)
			assert.Equal(t, tt.want, got.Named)
			assert.Equal(t, tt.reason, got.Reason)
		})
	}
}

// Where streams are told apart by tags, a refusal names them by these, the source among them.
func TestJudgeByTags(t *testing.T) {
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
			got := r.Judge(Measurements, ms)
			assert.Equal(t, tt.want, got.Named)
			assert.Equal(t, tt.reason, got.Reason)
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
		for _, api := range []*API{Metrics, Measurements} {
			j := r.Judge(api, ms)
			assert.NotEmpty(t, j.Reason)
			for i, o := range j.Named {
				assert.True(t, o >= 0 && o < len(ms))
				assert.True(t, i == 0 || j.Named[i-1] < o)
			}
			assert.GreaterOrEqual(t, j.Unnamed, 0)
			if j.Verdict == VerdictTaken {
				assert.Less(t, j.Unnamed+len(j.Named), len(ms)+1)
			}
		}
	})
}

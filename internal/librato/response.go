// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package librato

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The order of this file: what an answer means for all that was sent (ParseResponse), how its body is read (errorList),
// what it means for each measurement (Judge), and the matching of its words.

// Verdict says what becomes of the measurements of a request.
type Verdict uint8

const (
	// VerdictTaken means that the service has them.
	VerdictTaken Verdict = iota
	// VerdictAgain means that they have to be sent again later.
	VerdictAgain
	// VerdictRefused means that none was taken, good ones included, as some are not to the service's liking.
	VerdictRefused
)

// String returns taken, again or refused.
func (v Verdict) String() string {
	switch v {
	case VerdictTaken:
		return "taken"
	case VerdictAgain:
		return "again"
	default:
		return "refused"
	}
}

// Cause says why a request has to be sent again.
type Cause uint8

// The causes of VerdictAgain.
const (
	CauseNone        Cause = iota // the verdict is not VerdictAgain
	CauseRateLimit                // 429, or a 403 that speaks of a limit
	CauseCredentials              // 401, or any other 403: not over TLS, or the token may not post
	CauseUnavailable              // 5xx, 408, or no answer
	CauseEndpoint                 // 3xx, 404, 405, 415 and the like, or a body that is not Librato's: not its API
	CauseEverything               // whatever is sent is refused, and nothing named: found out by asking for parts
)

// String returns the cause in words that fit into a log line.
func (c Cause) String() string {
	switch c {
	case CauseNone:
		return "none"
	case CauseRateLimit:
		return "rate limited"
	case CauseCredentials:
		return "credentials refused"
	case CauseUnavailable:
		return "service unavailable"
	case CauseEverything:
		return "everything refused"
	default:
		return "not Librato's API"
	}
}

// Reason says for what a measurement was refused; it is the value of the attribute "reason" in telemetry.
type Reason string

// The reasons that ParseResponse tells apart.
const (
	ReasonInvalidName   Reason = "invalid_name"
	ReasonInvalidSource Reason = "invalid_source"
	ReasonInvalidTag    Reason = "invalid_tag"
	ReasonInvalidValue  Reason = "invalid_value"
	ReasonTypeConflict  Reason = "type_conflict" // a gauge where the service has a counter, or the reverse
	ReasonTooOld        Reason = "too_old"
	ReasonInTheFuture   Reason = "in_the_future"
	ReasonRejected      Reason = "rejected" // anything else that the service says
)

// Error is one thing that the service complains of.
type Error struct {
	Field string // the parameter ("source", "measure_time"); empty for errors of the request or the system
	Value string // what was wrong, where the service repeats it apart from the text
	Text  string
}

// maxRetryAfter bounds what a service, or a proxy in front of it, can make us wait.
const maxRetryAfter = time.Hour

// Response is what an answer means for the request as a whole. What it means for single measurements, Judge says.
type Response struct {
	Status     int
	Verdict    Verdict
	Cause      Cause
	RetryAfter time.Duration // 0 if the service does not say; never negative, at most an hour
	Errors     []Error

	// What the measurements API counts in its answer; -1 where it does not say.
	Accepted, Failed int
}

// NoResponse is what a request that got no answer amounts to.
func NoResponse(err error) Response {
	return Response{
		Verdict: VerdictAgain, Cause: CauseUnavailable, Errors: []Error{{Text: err.Error()}}, Accepted: -1, Failed: -1,
	}
}

// ParseResponse sorts an answer to POST /v1/metrics or /v1/measurements. now is what a date in Retry-After is
// relative to. body may be anything.
//
//   - 2xx: taken, if the body is empty or of the API's forms; if it counts failures and speaks of a limit, again. Any
//     other body is not Librato's, so nothing says that the service has what was sent: again.
//   - 400, 422: refused, the good measurements of the request included; again if the body is neither empty nor JSON,
//     as it is a proxy's then.
//   - 413: refused; a proxy may say so as well.
//   - 429: again.
//   - 403: again. It says "not over TLS" or "rate limited"; it is taken for the latter only if it says so.
//   - 401: again, since credentials get rotated. 5xx, 408: again. All else: again, as it is not Librato's API.
//
// Source: Librato API reference, "HTTP Status Codes" and "Error Messages".
func ParseResponse(status int, header http.Header, body []byte, now time.Time) Response {
	r := Response{Status: status, RetryAfter: retryAfter(header.Get("Retry-After"), now), Accepted: -1, Failed: -1}
	form := r.readBody(body)
	switch {
	case status >= 200 && status < 300 && (form == formEmpty || form == formAPI):
		r.Verdict = VerdictTaken
		if r.Failed > 0 && r.speaksOfLimit() {
			r.Verdict, r.Cause = VerdictAgain, CauseRateLimit
		}
	case (status == http.StatusBadRequest || status == http.StatusUnprocessableEntity) && form != formOther,
		status == http.StatusRequestEntityTooLarge:
		r.Verdict = VerdictRefused
	case status == http.StatusTooManyRequests, status == http.StatusForbidden && r.speaksOfLimit():
		r.Verdict, r.Cause = VerdictAgain, CauseRateLimit
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		r.Verdict, r.Cause = VerdictAgain, CauseCredentials
	case status >= 500, status == http.StatusRequestTimeout:
		r.Verdict, r.Cause = VerdictAgain, CauseUnavailable
	default:
		r.Verdict, r.Cause = VerdictAgain, CauseEndpoint
	}
	return r
}

// Divisible reports whether the answer, though it refuses nothing for good, may be about something that the request
// holds, so that its halves may be answered otherwise: a firewall's 403, a proxy's page, a 429 that complains and
// speaks of no limit.
func (r *Response) Divisible() bool {
	switch r.Cause {
	case CauseEndpoint:
		return true
	case CauseCredentials:
		return r.Status == http.StatusForbidden
	case CauseRateLimit:
		return len(r.Errors) > 0 && !r.speaksOfLimit() && r.RetryAfter == 0
	default:
		return false
	}
}

// retryAfter reads both forms, "120" and "Fri, 31 Dec 1999 23:59:59 GMT". What is past, negative or neither is 0.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	var wait time.Duration
	seconds, err := strconv.ParseInt(value, 10, 64)
	switch {
	case err == nil:
		wait = time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
	case errors.Is(err, strconv.ErrRange) && !strings.HasPrefix(value, "-"):
		wait = maxRetryAfter
	default:
		date, err := http.ParseTime(value)
		if err != nil {
			return 0
		}
		wait = date.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// form is what a body looks like.
type form uint8

const (
	formEmpty form = iota
	formAPI        // of the API's forms
	formJSON       // JSON of another form, as gateways write it
	formOther
)

// readBody fills in Errors, Accepted and Failed, and reports the body's form. Those of the API, all of which have been
// seen:
//
//	{"errors":{"params":{"source":["x y is not a valid source name"]},"request":["…"],"system":["…"]}}
//	{"errors":[{"param":"name","value":"x y","reason":"…"}]}
//	{"measurements":{"summary":{"total":3,"accepted":2,"failed":1},"errors":["…"]}}
//
// An object without a member is one of them, too. A body that is text, as proxies write it, is one error of no field;
// HTML is dropped.
func (r *Response) readBody(body []byte) form {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return formEmpty
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		text := strings.TrimSpace(string(body[:min(len(body), 4*maxWords)]))
		if text[0] != '<' && text[0] != '{' && text[0] != '[' {
			r.Errors = []Error{{Text: text}}
		}
		return formOther
	}
	var b struct {
		Errors       any
		Error        any
		Message      any
		Measurements json.RawMessage // a measurements API that echoes the list must not spoil the rest
		RequestTime  any             `json:"request_time"`
	}
	_ = json.Unmarshal(body, &b) // it is an object, and its members may be anything
	var list errorList
	list.add("", b.Errors)
	var m struct {
		Summary struct{ Accepted, Failed *float64 }
		Errors  any
	}
	if json.Unmarshal(b.Measurements, &m) == nil {
		r.Accepted, r.Failed = number(m.Summary.Accepted), number(m.Summary.Failed)
		list.add("", m.Errors)
	}
	r.Errors = list.errors
	if b.Errors != nil || b.Measurements != nil || b.RequestTime != nil || len(members) == 0 {
		return formAPI
	}
	list.add("", b.Error) // not Librato's, but what gateways in front of it write
	list.add("", b.Message)
	r.Errors = list.errors
	return formJSON
}

func number(f *float64) int {
	if f == nil || !(*f >= 0 && *f < math.MaxInt32) {
		return -1
	}
	return int(*f)
}

// errorList flattens the value of "errors", whatever its form.
type errorList struct {
	errors []Error
}

func (l *errorList) add(field string, v any) {
	switch v := v.(type) {
	case string:
		if v != "" {
			l.errors = append(l.errors, Error{Field: field, Text: v})
		}
	case []any:
		for _, e := range v {
			l.add(field, e)
		}
	case map[string]any:
		reason, _ := v["reason"].(string)
		if param, ok := v["param"].(string); ok {
			l.errors = append(l.errors, Error{Field: param, Value: text(v["value"]), Text: reason})
			return
		}
		for _, name := range slices.Sorted(maps.Keys(v)) { // sorted: the same answer means the same each time
			before := len(l.errors)
			l.add(name, v[name])
			if field == "" && (name == "request" || name == "system") {
				for i := before; i < len(l.errors); i++ {
					l.errors[i].Field = ""
				}
			}
		}
	}
}

// text returns v as a string if it is one, or a number.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return ""
	}
}

// speaksOfLimit reports whether the body says that we send too much. A name that is longer than "the limit of
// 255 characters" is another matter.
func (r *Response) speaksOfLimit() bool {
	return slices.ContainsFunc(r.Errors, func(e Error) bool {
		t := strings.ToLower(e.Text)
		return strings.Contains(t, "limit") && !strings.Contains(t, "character") || strings.Contains(t, "throttl") ||
			strings.Contains(t, "too many requests") || strings.Contains(t, "rate exceeded") || strings.Contains(t, "slow down")
	})
}

// maxWords bounds Words, in bytes.
const maxWords = 200

// Words returns the service's own words in one line of at most 200 bytes, for a log; empty if it said nothing.
func (r *Response) Words() string {
	var b strings.Builder
	for i, e := range r.Errors {
		if b.Len() > maxWords {
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		if e.Field != "" {
			b.WriteString(e.Field + ": ")
		}
		if e.Value != "" {
			b.WriteString("'" + e.Value + "' ")
		}
		b.WriteString(e.Text)
	}
	s := strings.ToValidUTF8(strings.Join(strings.Fields(b.String()), " "), "\ufffd")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return -1
		}
		return r
	}, s)
	if len(s) <= maxWords {
		return s
	}
	const ellipsis = "…"
	cut := maxWords - len(ellipsis)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + ellipsis
}

// Judgement is what an answer means for each measurement of its request.
type Judgement struct {
	// Verdict is for those that are not in Named.
	Verdict Verdict
	// Named are ascending indexes: of those that are refused for good, whatever becomes of the others; but with
	// VerdictAgain of those that have to be sent again, while the service has all others.
	Named []int
	// Reason is why: of Named, or of the whole request if that is empty.
	Reason Reason
	// Unnamed is how many of the others the service gave up as well, though it took the rest, without saying which they
	// are.
	Unnamed int
}

// Judge says what the answer means for ms, which is what the request to api held. Those that it names are refused,
// others as bad may be named by the next answer. A time that is too old names the oldest second of ms, one in the
// future the newest.
//
//   - 2xx: those that the body names are refused. If it counts more failures than it names, the others of these are
//     Unnamed; if fewer, it does not tell which it means, so none is named, and all failures are Unnamed. If none was
//     taken, the request is refused.
//   - 400 and the like: refused are those that it names for the first of its reasons.
//   - 429: again, unless it names some and speaks of no limit: those are refused. If it counts some as taken, so are
//     the rest.
//   - Again in part: if it counts some as taken, and names each that was not and no other, only those have to be sent
//     again.
func (r *Response) Judge(api *API, ms []Measurement) Judgement {
	j := Judgement{Verdict: r.Verdict, Reason: ReasonRejected}
	if len(r.Errors) > 0 {
		j.Reason = r.Errors[0].reason()
	}
	if len(ms) == 0 {
		return j
	}
	partly := r.Status >= 200 && r.Status < 300 || r.Status == http.StatusTooManyRequests
	switch {
	case r.Verdict == VerdictTaken && r.Failed == 0:
		return j
	case r.Verdict == VerdictTaken && r.Failed >= len(ms) && r.Accepted <= 0:
		j.Verdict = VerdictRefused
	case r.Verdict == VerdictAgain && !partly:
		return j
	}
	names := r.names(api, ms, j.Verdict == VerdictRefused && r.Failed < 0)
	switch j.Verdict {
	case VerdictRefused:
		j.Named = names.of
	case VerdictTaken:
		failed := min(max(0, r.Failed), len(ms))
		if r.Failed < 0 || len(names.of) <= failed {
			j.Named = names.of
		}
		j.Unnamed = max(0, failed-len(j.Named))
	case VerdictAgain:
		limit := r.speaksOfLimit()
		switch {
		case len(names.of) == 0:
		case r.Accepted > 0 && r.Failed == len(names.of) && names.errors >= r.Failed:
			j.Named = names.of
			if !limit {
				j.Verdict = VerdictTaken
			}
		case !limit && r.Accepted <= 0:
			names = r.names(api, ms, r.Failed < 0)
			j.Verdict, j.Named = VerdictRefused, names.of
		}
	}
	if len(j.Named) > 0 {
		j.Reason = names.reason
	}
	return j
}

// names are the measurements that an answer names.
type names struct {
	of     []int  // ascending
	errors int    // that name one
	reason Reason // of the first error that names one
}

// names returns what the answer names; if it is for one, what the first error does that names something. An answer that
// counts failures lists them; one that does not complains of the request, and of what comes next at the next one.
func (r *Response) names(api *API, ms []Measurement, one bool) names {
	var n names
	index := newNameIndex(api, ms)
	for i := range r.Errors {
		e := &r.Errors[i]
		named := index.named(e)
		if len(named) == 0 {
			continue
		}
		n.add(named, e)
		if one {
			break
		}
	}
	for i := 0; i < len(r.Errors) && len(n.of) == 0; i++ { // a time comes last, since it names nothing
		if found := outermost(&r.Errors[i], ms); len(found) > 0 {
			n.add(found, &r.Errors[i])
		}
	}
	slices.Sort(n.of)
	n.of = slices.Compact(n.of)
	return n
}

func (n *names) add(named []int, e *Error) {
	if n.errors == 0 {
		n.reason = e.reason()
	}
	n.errors++
	n.of = append(n.of, named...)
}

// reason sorts e by its field, and by its words where there is none.
func (e *Error) reason() Reason {
	t := strings.ToLower(e.Text)
	if strings.Contains(t, "different type") || strings.Contains(t, "is a counter") || strings.Contains(t, "is a gauge") {
		return ReasonTypeConflict
	}
	switch e.parameter() {
	case "type":
		return ReasonTypeConflict
	case "name":
		return ReasonInvalidName
	case "source":
		return ReasonInvalidSource
	case "tag", "tags":
		return ReasonInvalidTag
	case "value", "count", "sum", "min", "max", "sum_squares", "last", "stddev", "stddev_m":
		return ReasonInvalidValue
	case "measure_time", "time", "":
		switch {
		case strings.Contains(t, "in the past"), strings.Contains(t, "too old"):
			return ReasonTooOld
		case strings.Contains(t, "in the future"):
			return ReasonInTheFuture
		case strings.Contains(t, "source name"), strings.Contains(t, "valid source"):
			return ReasonInvalidSource
		case strings.Contains(t, "metric name"), strings.Contains(t, "valid name"):
			return ReasonInvalidName
		case strings.Contains(t, "tag name"), strings.Contains(t, "tag value"), strings.Contains(t, "valid tag"):
			return ReasonInvalidTag
		}
	}
	return ReasonRejected
}

// parameter returns the innermost name of Field in lower case: "source" of "gauges[3][source]".
func (e *Error) parameter() string {
	words := strings.FieldsFunc(strings.ToLower(e.Field), func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' })
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

// outermost returns the measurements of the oldest or the newest second of ms, whichever e complains of; those of
// the second that e repeats, if it does.
func outermost(e *Error, ms []Measurement) (found []int) {
	compare := func(a, b int64) bool { return a < b }
	switch e.reason() {
	case ReasonTooOld:
	case ReasonInTheFuture:
		compare = func(a, b int64) bool { return a > b }
	default:
		return nil
	}
	second := ms[0].Time
	for i := range ms {
		if compare(ms[i].Time, second) {
			second = ms[i].Time
		}
	}
	if said, err := strconv.ParseInt(e.Value, 10, 64); err == nil &&
		slices.ContainsFunc(ms, func(m Measurement) bool { return m.Time == said }) {
		second = said
	}
	for i := range ms {
		if ms[i].Time == second {
			found = append(found, i)
		}
	}
	return found
}

// nameIndex finds measurements by the lower-cased words that an answer may name them by.
type nameIndex struct {
	names      map[string][]int
	identities map[string][]int // sources, or names and values of tags
}

func newNameIndex(api *API, ms []Measurement) *nameIndex {
	x := &nameIndex{names: map[string][]int{}, identities: map[string][]int{}}
	var words []string
	for i := range ms {
		name := strings.ToLower(ms[i].Name)
		x.names[name] = append(x.names[name], i)
		words = api.identity(words[:0], &ms[i])
		for _, word := range words {
			word = strings.ToLower(word)
			x.identities[word] = append(x.identities[word], i)
		}
	}
	return x
}

// named returns the measurements that e names. Names are looked up first, unless e is about a source or tag.
func (x *nameIndex) named(e *Error) []int {
	order := []map[string][]int{x.names}
	switch e.reason() {
	case ReasonInvalidSource, ReasonInvalidTag:
		order = []map[string][]int{x.identities, x.names}
	case ReasonRejected:
		order = []map[string][]int{x.names, x.identities}
	case ReasonTooOld, ReasonInTheFuture, ReasonInvalidName, ReasonInvalidValue, ReasonTypeConflict:
	}
	said, leading := e.words()
	for _, index := range order {
		var found []int
		for _, w := range said {
			found = append(found, index[w]...)
		}
		for i := len(leading) - 1; i >= 0 && len(found) == 0; i-- {
			found = index[leading[i]]
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// verbs follow a name that a text begins with: "web 1 is not a valid source name".
var verbs = []string{" is ", " must ", " has ", " was ", " are ", " contains ", " exceeds ", " cannot ", " may ", " should "}

// words returns what e may name something by, in lower case: its value and what its text puts in quotes; and, the
// longest last, what the text begins with up to a verb, of which one at most can be the name. An error of the request
// as a whole begins with what it is about, which is no name: "account is suspended".
func (e *Error) words() (said, leading []string) {
	switch e.reason() {
	case ReasonInvalidValue, ReasonTooOld, ReasonInTheFuture: // the value is a number
	default:
		if e.Value != "" {
			said = append(said, strings.ToLower(e.Value))
		}
	}
	t := strings.ToLower(e.Text)
	for _, quote := range []string{"'", `"`, "`"} {
		parts := strings.Split(t, quote)
		for i := 1; i < len(parts)-1; i++ { // every part, since an apostrophe may stand before the quotes
			said = append(said, parts[i])
		}
	}
	if e.Field == "" && e.reason() == ReasonRejected {
		return said, nil
	}
	for i := range len(t) {
		if t[i] == ' ' && slices.ContainsFunc(verbs, func(verb string) bool { return strings.HasPrefix(t[i:], verb) }) {
			leading = append(leading, t[:i])
		}
	}
	return said, leading
}

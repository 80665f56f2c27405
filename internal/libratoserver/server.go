// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Package libratoserver is a Librato in memory, as strict as its documentation: what it takes, the service
// should take, and one bad measurement costs the whole request, with the service's words for it. Tests script
// its failures and compare exact totals; librato-local runs it as a program and its page draws the graphs.
//
//	srv := libratoserver.New()
//	ts := httptest.NewServer(srv)
//	defer ts.Close()
//	srv.Fail(libratoserver.Failure{Status: 503, RetryAfter: "1"})
//	… post to ts.URL …
//	srv.Sum("Event-Triggered", "web-1") // {Count, Sum, Min, Max}
//
// It knows Librato's rules by itself and shares no code for them with package librato, so each checks the other.
package libratoserver

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// MaxAge is how old a measurement may be: two hours, as a user of the service found (it is not documented).
const MaxAge = 120 * time.Minute

// Bounds of what the server keeps or reads.
const (
	maxBody       = 16 << 20 // bytes of one request
	maxBodies     = 32 << 20 // bytes of all recorded bodies
	maxRequestLog = 10_000   // recorded requests
)

// Server is a Librato. It is an http.Handler and safe for concurrent use.
type Server struct {
	clock      func() time.Time
	maxFuture  time.Duration
	user       string // empty: any
	password   string
	recordOnly bool
	sink       bool
	observe    func(Request)
	mux        *http.ServeMux

	mu       sync.Mutex
	store    store
	failures []*Failure
	pending  []pendingPost
	rand     *rand.Rand
	log      []Request
	logBytes int // bytes of the bodies in log
	stats    Stats
	inFlight int
}

// Request is one request to the API, as it was recorded.
type Request struct {
	Time         time.Time   `json:"time"`
	Method       string      `json:"method"`
	Path         string      `json:"path"`
	Query        string      `json:"query,omitempty"`
	User         string      `json:"user"`
	Header       http.Header `json:"header"` // without Authorization
	Body         []byte      `json:"-"`      // nil if the log's bound was reached since
	Size         int         `json:"size"`
	Measurements int         `json:"measurements"` // how many the body held; 0 if it did not parse
	Applied      int         `json:"applied"`      // how many of them were stored by the time of the answer
	Status       int         `json:"status"`       // 0: no answer was given
	Answer       string      `json:"answer,omitempty"`
}

// Stats counts what came in since the start or the last Reset.
type Stats struct {
	Posts        int         `json:"posts"`
	Bytes        int64       `json:"bytes"`        // of the bodies of posts
	Measurements int64       `json:"measurements"` // that were stored; in sink mode, that were received
	Statuses     map[int]int `json:"statuses"`     // answers to posts; 0 is no answer
	LargestPost  int         `json:"largest_post"` // in measurements
	MaxInFlight  int         `json:"max_in_flight"`
	Repeated     int         `json:"repeated"` // measurements that were there already, with the same value
	Replaced     int         `json:"replaced"` // measurements that took the place of another value
	Pending      int         `json:"pending"`  // posts that will be applied later
}

// Option changes a Server as New makes it.
type Option func(*Server)

// WithClock makes now the server's clock. Its default is time.Now.
func WithClock(now func() time.Time) Option { return func(s *Server) { s.clock = now } }

// WithMaxFuture refuses measurements that are further ahead than d. The service's limit is not known; by default
// there is none.
func WithMaxFuture(d time.Duration) Option { return func(s *Server) { s.maxFuture = d } }

// WithRetention forgets measurements that are older than d, so that a server can run for long. By default
// everything is kept.
func WithRetention(d time.Duration) Option { return func(s *Server) { s.store.retention = d } }

// WithCredentials takes only this user and password. By default any user is taken, and only one that looks like an
// e-mail address needs a password: the users of AppOptics are tokens.
func WithCredentials(user, password string) Option {
	return func(s *Server) { s.user, s.password = user, password }
}

// WithRecordOnly treats every token as one that may post measurements and nothing else: the rest is 404.
func WithRecordOnly() Option { return func(s *Server) { s.recordOnly = true } }

// WithSink makes posts cost as little as possible: they are read, counted and answered, but neither checked nor
// stored nor recorded. Failures still apply.
func WithSink() Option { return func(s *Server) { s.sink = true } }

// WithSeed seeds what Failure.Probability decides.
func WithSeed(seed uint64) Option {
	return func(s *Server) { s.rand = rand.New(rand.NewPCG(seed, 0)) }
}

// WithObserver calls f after each request to the API, in no particular goroutine.
func WithObserver(f func(Request)) Option { return func(s *Server) { s.observe = f } }

// New returns a server without any metrics.
func New(opts ...Option) *Server {
	s := &Server{clock: time.Now, store: store{metrics: map[string]*metric{}}, stats: Stats{Statuses: map[int]int{}}}
	WithSeed(1)(s)
	for _, opt := range opts {
		opt(s)
	}
	s.mux = http.NewServeMux()
	s.mux.HandleFunc("/v1/", s.handleAPI)
	s.routeLocal(s.mux)
	s.routePage(s.mux)
	return s
}

// ServeHTTP answers the API under /v1/, what is for tests under /_local/, and the page.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Requests returns the recorded requests to the API, the oldest first: the last 10,000, with bodies while those are
// below 32 MiB in total.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// Posts returns those of Requests that posted measurements.
func (s *Server) Posts() []Request {
	return slices.DeleteFunc(s.Requests(), func(r Request) bool { return r.Method != http.MethodPost })
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Statuses = maps.Clone(stats.Statuses)
	stats.Pending = len(s.pending)
	stats.Measurements, stats.Repeated, stats.Replaced = s.store.measurements, s.store.repeated, s.store.replaced
	return stats
}

// Reset forgets metrics, requests, counts, failures and posts that were to be applied later.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store = store{metrics: map[string]*metric{}, retention: s.store.retention}
	s.failures, s.pending = nil, nil
	s.log, s.logBytes = nil, 0
	s.stats = Stats{Statuses: map[int]int{}}
}

// answer is what a request gets.
type answer struct {
	status     int
	body       string
	html       bool
	retryAfter string
	location   string
}

func (a answer) write(w http.ResponseWriter) {
	switch {
	case a.html:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
	case a.body != "":
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	if a.retryAfter != "" {
		w.Header().Set("Retry-After", a.retryAfter)
	}
	if a.location != "" {
		w.Header().Set("Location", a.location)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// handleAPI answers one request below /v1/ and records it.
func (s *Server) handleAPI(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	req := Request{
		Time: s.clock(), Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery,
		User: user, Header: r.Header.Clone(),
	}
	req.Header.Del("Authorization")
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	req.Body, req.Size = body, len(body)
	if err != nil {
		a := requestError(http.StatusBadRequest, "could not be read")
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			a = requestError(http.StatusRequestEntityTooLarge, "is too large")
		}
		s.finish(w, &req, a)
		return
	}
	name, isMetric := strings.CutPrefix(r.URL.Path, "/v1/metrics/")
	switch {
	case !s.authorized(user, password):
		a := requestError(http.StatusUnauthorized, "Authorization Required")
		w.Header().Set("WWW-Authenticate", `Basic realm="Librato API"`)
		s.finish(w, &req, a)
	case r.Method == http.MethodPost && (r.URL.Path == "/v1/metrics" || r.URL.Path == "/v1/measurements"):
		s.handlePost(w, r, &req)
	case s.recordOnly:
		s.finish(w, &req, notFound)
	case r.Method == http.MethodGet && r.URL.Path == "/v1/metrics":
		s.finish(w, &req, s.list(r.URL.Query()))
	case r.Method == http.MethodGet && isMetric:
		s.finish(w, &req, s.get(name, r.URL.Query()))
	case r.Method == http.MethodPut && isMetric:
		s.finish(w, &req, s.put(name, &req))
	case r.Method == http.MethodDelete && isMetric:
		s.finish(w, &req, s.remove(name))
	default:
		s.finish(w, &req, notFound)
	}
}

var notFound = requestError(http.StatusNotFound, "Not Found")

func (s *Server) authorized(user, password string) bool {
	if s.user != "" {
		return user == s.user && password == s.password
	}
	return user != "" && (password != "" || !strings.Contains(user, "@"))
}

// finish records req with its answer, then sends it. A status of 0 closes the connection instead.
func (s *Server) finish(w http.ResponseWriter, req *Request, a answer) {
	req.Status, req.Answer = a.status, a.body
	s.record(*req)
	if a.status == 0 {
		panic(http.ErrAbortHandler) // net/http's way to close a connection without an answer
	}
	a.write(w)
}

func (s *Server) record(req Request) {
	s.mu.Lock()
	if req.Method == http.MethodPost {
		s.stats.Posts++
		s.stats.Bytes += int64(req.Size)
		s.stats.Statuses[req.Status]++
		s.stats.LargestPost = max(s.stats.LargestPost, req.Measurements)
	}
	if !s.sink {
		s.log = append(s.log, req)
		s.logBytes += len(req.Body)
		if len(s.log) > maxRequestLog {
			s.logBytes -= len(s.log[0].Body)
			s.log[0] = Request{}
			s.log = s.log[1:]
		}
		for i := 0; s.logBytes > maxBodies; i++ {
			s.logBytes -= len(s.log[i].Body)
			s.log[i].Body = nil
		}
	}
	s.mu.Unlock()
	if s.observe != nil {
		s.observe(req)
	}
}

// handlePost takes measurements, or fails as scripted.
func (s *Server) handlePost(w http.ResponseWriter, r *http.Request, req *Request) {
	s.mu.Lock()
	s.inFlight++
	s.stats.MaxInFlight = max(s.stats.MaxInFlight, s.inFlight)
	failure := s.nextFailure(req)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.inFlight--
		s.mu.Unlock()
	}()

	if s.sink && failure == nil {
		s.finish(w, req, s.count(req))
		return
	}
	p, refusal := s.parsePost(req)
	if p != nil {
		req.Measurements = len(p.measurements)
	}
	var a answer
	s.mu.Lock()
	switch {
	case failure != nil:
		a = s.applyFailure(failure, req, p)
	case refusal != nil:
		a = *refusal
	default:
		if text := s.store.conflict(p.measurements); text != "" {
			a = *s.paramError("type", text)
		} else {
			s.apply(p.measurements, p)
			req.Applied = len(p.measurements)
			a = taken(req.Path, len(p.measurements))
		}
	}
	s.applyDue()
	s.mu.Unlock()

	if failure != nil && failure.Delay > 0 {
		timer := time.NewTimer(time.Duration(failure.Delay))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			a.status = 0
		}
	}
	s.finish(w, req, a)
}

// apply stores ms, which are p's or a part of them. The caller holds mu.
func (s *Server) apply(ms []measurement, p *post) { s.store.apply(ms, p.userAgent, s.clock()) }

// count is all that a sink does: it counts the names in the body.
func (s *Server) count(req *Request) answer {
	n := strings.Count(string(req.Body), `"name":`)
	req.Measurements, req.Applied = n, n
	s.mu.Lock()
	s.store.measurements += int64(n)
	s.mu.Unlock()
	return taken(req.Path, n)
}

// taken is the answer to a post of n good measurements.
func taken(path string, n int) answer {
	if path == "/v1/metrics" {
		return answer{status: http.StatusOK}
	}
	return answer{status: http.StatusAccepted, body: summaryBody(n, 0, nil)}
}

// summaryBody is what the measurements API says of a post.
func summaryBody(accepted, failed int, errs []map[string]any) string {
	body := map[string]any{"measurements": map[string]any{"summary": map[string]any{
		"total": accepted + failed, "accepted": accepted, "failed": failed, "filtered": 0,
	}}}
	if len(errs) > 0 {
		body["errors"] = errs
	}
	return toJSON(body)
}

// requestError is the documented body for what concerns the request as a whole.
func requestError(status int, text string) answer {
	return answer{status: status, body: toJSON(map[string]any{"errors": map[string]any{"request": []string{text}}})}
}

// paramError is the documented body for what concerns one parameter; it refuses the whole request.
func (s *Server) paramError(field, text string) *answer {
	return &answer{status: http.StatusBadRequest, body: toJSON(map[string]any{
		"errors":       map[string]any{"params": map[string]any{field: []string{text}}},
		"request_time": s.clock().Unix(),
	})}
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // NaN and infinities were refused, so nothing is left that could fail
		return strconv.Quote(err.Error())
	}
	return string(b)
}

func isJSON(h http.Header) bool {
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && mediaType == "application/json"
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Failure is what happens to a post instead of being answered as it should. Its zero value closes the connection
// without an answer, and nothing is stored. Failures are used up in the order in which they were given: each post
// gets the first that matches it. The JSON form is what POST /_local/fail takes.
type Failure struct {
	// Which posts. All that is set must match.
	Path        string              `json:"path,omitempty"`        // "/v1/metrics" or "/v1/measurements"
	Contains    string              `json:"contains,omitempty"`    // somewhere in the body
	Skip        int                 `json:"skip,omitempty"`        // let so many matching posts pass first
	Probability float64             `json:"probability,omitempty"` // of each matching post; 0: always
	Match       func(*Request) bool `json:"-"`                     // must not call the server
	Times       int                 `json:"times,omitempty"`       // how many posts; 0: one, below 0: until ClearFailures

	// What the client sees.
	Status     int      `json:"status,omitempty"` // 0: the connection is closed without an answer
	RetryAfter string   `json:"retry_after,omitempty"`
	Body       string   `json:"body,omitempty"`
	HTML       bool     `json:"html,omitempty"`  // the body is a web page, as a proxy's or a login's
	Delay      Duration `json:"delay,omitempty"` // before the answer; a client that gives up earlier gets none

	// What becomes of the measurements, if they are good ones.
	Apply  Apply                          `json:"apply,omitempty"`
	After  int                            `json:"after,omitempty"`  // ApplyLater: after so many further posts (0: one)
	Take   int                            `json:"take,omitempty"`   // ApplyPart: the first so many are stored
	TakeIf func(name, source string) bool `json:"-"`                // ApplyPart: these are stored
	Reason string                         `json:"reason,omitempty"` // ApplyPart: what is said of the others
}

// Apply says what becomes of the measurements of a post that fails.
type Apply string

// What may become of the measurements of a failed post.
const (
	ApplyNever Apply = ""      // nothing is stored
	ApplyNow   Apply = "now"   // everything is stored at once: the answer alone is lost or wrong
	ApplyLater Apply = "later" // everything is stored after further posts: a request that timed out on its way
	ApplyPart  Apply = "part"  // some are stored; without a Body, the answer counts and names the others
)

// UnmarshalText refuses words that are none of the constants.
func (a *Apply) UnmarshalText(text []byte) error {
	switch v := Apply(text); v {
	case ApplyNever, ApplyNow, ApplyLater, ApplyPart:
		*a = v
		return nil
	case "never":
		*a = ApplyNever
		return nil
	default:
		return fmt.Errorf("apply: %q is none of never, now, later, part", text)
	}
}

// Duration is a time.Duration that JSON writes as "1.5s".
type Duration time.Duration

// MarshalText returns d as time.Duration prints it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// pendingPost is a post that is applied after `after` further ones.
type pendingPost struct {
	after int
	post  *post
}

// Fail scripts failures, after those that are already there.
func (s *Server) Fail(failures ...Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range failures {
		if f.Times == 0 {
			f.Times = 1
		}
		s.failures = append(s.failures, &f)
	}
}

// ClearFailures drops the failures that are not used up.
func (s *Server) ClearFailures() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = nil
}

// Failures returns how many scripted failures are not used up.
func (s *Server) Failures() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.failures)
}

// ApplyPending applies at once the posts that were to be applied later, and returns how many those were.
func (s *Server) ApplyPending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.pending)
	for _, p := range s.pending {
		s.applyLate(p.post)
	}
	s.pending = nil
	return n
}

// nextFailure returns the failure that this post gets, or nil. The caller holds mu.
func (s *Server) nextFailure(req *Request) *Failure {
	for i, f := range s.failures {
		if f.Path != "" && f.Path != req.Path || !bytes.Contains(req.Body, []byte(f.Contains)) || f.Match != nil && !f.Match(req) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Probability > 0 && s.rand.Float64() >= f.Probability {
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		if f.Times == 0 {
			s.failures = slices.Delete(s.failures, i, i+1)
		}
		return f
	}
	return nil
}

// applyFailure does what f says and returns the answer. p is nil if the post was no good one. The caller holds mu.
func (s *Server) applyFailure(f *Failure, req *Request, p *post) answer {
	a := answer{status: f.Status, body: f.Body, html: f.HTML, retryAfter: f.RetryAfter}
	if p == nil || s.sink || s.store.conflict(p.measurements) != "" {
		return a
	}
	switch f.Apply {
	case ApplyNow:
		s.apply(p.measurements, p)
		req.Applied = len(p.measurements)
	case ApplyLater:
		s.pending = append(s.pending, pendingPost{after: max(f.After, 1) + 1, post: p}) // this post counts as well
	case ApplyPart:
		var kept []measurement
		var errs []map[string]any
		reason := f.Reason
		if reason == "" {
			reason = "is not valid"
			if f.Status == http.StatusTooManyRequests {
				reason = "rate limit reached"
			}
		}
		for i, m := range p.measurements {
			if i < f.Take || f.TakeIf != nil && f.TakeIf(m.name, m.stream) {
				kept = append(kept, m)
				continue
			}
			errs = append(errs, map[string]any{"param": "name", "value": m.name, "reason": reason})
		}
		s.apply(kept, p)
		req.Applied = len(kept)
		if f.Body == "" {
			a.body = summaryBody(len(kept), len(p.measurements)-len(kept), errs)
		}
	case ApplyNever:
	}
	return a
}

// applyDue counts a post and applies those that waited for it. The caller holds mu.
func (s *Server) applyDue() {
	var waiting []pendingPost
	for _, p := range s.pending {
		p.after--
		if p.after > 0 {
			waiting = append(waiting, p)
			continue
		}
		s.applyLate(p.post)
	}
	s.pending = waiting
}

func (s *Server) applyLate(p *post) {
	if s.store.conflict(p.measurements) == "" {
		s.apply(p.measurements, p)
	}
}

// decodeFailures reads what POST /_local/fail takes: one failure or a list of them.
func decodeFailures(body []byte) ([]Failure, error) {
	body = bytes.TrimSpace(body)
	if len(body) > 0 && body[0] != '[' {
		body = slices.Concat([]byte{'['}, body, []byte{']'})
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	var failures []Failure
	if err := dec.Decode(&failures); err != nil {
		return nil, fmt.Errorf("failures: %w", err)
	}
	return failures, nil
}

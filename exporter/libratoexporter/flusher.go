// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v7"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

const (
	holdBack   = 10 * time.Minute // a metric that the service knows as another type
	maxAnswer  = 64 << 10         // bytes read of an answer
	expiryLogs = 20               // streams named when measurements become too old

	bytesAMeasurement = 256 // of JSON, about: names, properties and four numbers
)

// flusher posts what is due at each tick, and acts on what the answers mean:
//
//	taken     the increments are confirmed and leave the state
//	refused   those that the answer blames are dropped and counted, the rest goes again at once
//	again     they stay as they are, and so does everything else until the service is back
//
// Ticks are multiples of the flush interval on the wall clock. While the service is away one request is tried at a
// time, each time another one, when the back-off or the service's Retry-After allows.
type flusher struct {
	journal  *journal
	refused  *refusals
	logger   *zap.Logger
	counters *metadata.TelemetryBuilder
	status   func(error) // nil: well

	client    *http.Client
	request   func(ctx context.Context, body []byte) (*http.Request, error)
	api       *librato.API
	adding    *librato.Properties // what created metrics get
	averaging *librato.Properties
	consumers int // requests at a time
	interval  time.Duration
	retry     *backoff.ExponentialBackOff // nil: at every tick
	now       func() time.Time

	away   bool      // the last post was to be tried again
	resume time.Time // not before
	probe  int       // rotates through the requests
	broken bool      // the status says that credentials are refused
	ticked time.Time // the last tick that was seen
	tidied time.Time

	holdMu sync.Mutex
	held   map[string]time.Time // lower-case names of metrics held back, until when
}

// run flushes at every tick until stop is closed. ctx is that of the posts: they may outlast stop.
func (f *flusher) run(ctx context.Context, stop <-chan struct{}) {
	f.ticked = f.now().Truncate(f.interval)
	for {
		now := f.now()
		// The wall clock decides: after a step, the monotonic wait ends somewhere else, and is taken up again.
		wait := now.Truncate(f.interval).Add(f.interval).Sub(now)
		if f.away {
			if untilResume := f.resume.Sub(now); untilResume > 0 {
				wait = min(wait, untilResume)
			}
		}
		timer := time.NewTimer(max(wait, time.Millisecond))
		select {
		case <-stop:
			timer.Stop()
			return
		case <-timer.C:
		}
		f.step(ctx, f.now())
	}
}

// step does what is to be done at now: nothing unless a tick has passed, or the time to try again has come.
func (f *flusher) step(ctx context.Context, now time.Time) {
	tick := now.Truncate(f.interval)
	switch {
	case f.away && now.Before(f.resume):
		if !tick.Equal(f.ticked) {
			f.expire(now)
		}
	case f.away:
		f.flushProbe(ctx, now)
	case !tick.Equal(f.ticked):
		f.flush(ctx, now)
	}
	f.ticked = tick
	if now.Sub(f.tidied).Abs() >= f.interval {
		f.journal.tidy(now.UnixNano())
		f.tidied = now
	}
}

// flush seals what is due and posts it with what is unconfirmed. A flush that fails leaves the service away.
func (f *flusher) flush(ctx context.Context, now time.Time) {
	f.expire(now)
	f.post(ctx, f.batches(now, f.journal.sealFlush(now.UnixNano())))
}

// expire drops what became too old.
func (f *flusher) expire(now time.Time) { f.tooOld(f.journal.expire(now.UnixNano())) }

// flushProbe tries one request, another one each time, and on success posts the rest.
func (f *flusher) flushProbe(ctx context.Context, now time.Time) {
	f.expire(now)
	due := f.journal.unconfirmed(now.UnixNano())
	if len(due) == 0 { // nothing is sealed: seal one request's worth
		due = f.journal.sealAtMost(now.UnixNano(), f.api.MaxMeasurements)
	}
	batches := f.batches(now, due)
	if len(batches) == 0 {
		f.away = false // nothing to ask the service with; the next flush will see
		return
	}
	f.probe++
	i := f.probe % len(batches)
	f.post(ctx, batches[i:i+1])
	if !f.away {
		f.post(ctx, slices.Delete(batches, i, i+1))
	}
}

// batches divides increments into requests, and refuses those whose metric is held back.
func (f *flusher) batches(now time.Time, incs []*increment) [][]*increment {
	f.holdMu.Lock()
	for name, until := range f.held {
		if now.After(until) {
			delete(f.held, name)
		}
	}
	var conflicting []*increment
	if len(f.held) > 0 {
		incs = slices.DeleteFunc(incs, func(inc *increment) bool {
			_, held := f.held[strings.ToLower(inc.stream.name)]
			if held {
				conflicting = append(conflicting, inc)
			}
			return held
		})
	}
	f.holdMu.Unlock()
	f.refuse(reasonTypeConflict, conflicting, "")
	return slices.Collect(slices.Chunk(incs, f.api.MaxMeasurements))
}

// post sends the batches, so many at a time, until all are through or the service is away.
func (f *flusher) post(ctx context.Context, batches [][]*increment) {
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		again  *librato.Response // the answer that asks for the longest wait
		places = make(chan struct{}, f.consumers)
	)
	stopped := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return again != nil
	}
	for _, batch := range batches {
		places <- struct{}{}
		if stopped() || ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-places }()
			if resp := f.deliver(ctx, batch, stopped); resp != nil {
				mu.Lock()
				if again == nil || resp.RetryAfter > again.RetryAfter {
					again = resp
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	switch {
	case ctx.Err() != nil: // shutdown cut the posts short, which says nothing of the service
	case again != nil:
		f.leave(again)
	case len(batches) > 0:
		f.back()
	}
}

// deliver posts one batch until each of it is taken or refused, and returns nil; or, if the service says so, leaves
// the rest for later and returns what it said.
//
// One bad measurement refuses its whole request. Where the answer does not name it, the request is halved until it is
// alone: at most 2·log2(n)+1 requests for each. When the first half is taken, the offender is in the second, which is
// halved unasked; without that, and with the smaller half first, a request of 300 could need 19 instead of 17.
func (f *flusher) deliver(ctx context.Context, batch []*increment, stopped func() bool) *librato.Response {
	ms := make([]librato.Measurement, 0, len(batch))
	parts := []part{{incs: batch}} // the next one last
	for asked := false; len(parts) > 0; asked = true {
		if asked && stopped() {
			return nil
		}
		p := parts[len(parts)-1]
		parts = parts[:len(parts)-1]
		if p.suspect && len(p.incs) > 1 {
			parts = append(parts, p.halves()...)
			continue
		}
		ms = ms[:0]
		for _, inc := range p.incs {
			ms = append(ms, f.measurement(inc))
		}
		resp := f.send(ctx, ms)

		var blamed []*increment
		var why reason
		if resp.Verdict == librato.VerdictRefused || len(resp.Errors) > 0 {
			var offenders []int
			offenders, why = resp.Blame(f.api, ms)
			for _, i := range offenders {
				blamed = append(blamed, p.incs[i])
			}
		}
		rest := p.incs
		if len(blamed) > 0 {
			rest = without(p.incs, blamed)
		}
		switch resp.Verdict {
		case librato.VerdictTaken:
			f.refuse(why, blamed, resp.Words())
			unnamed := max(0, resp.Failed-len(blamed))
			f.refused.unnamed(unnamed, resp.Words())
			f.confirm(rest, unnamed)
			if p.first && len(blamed) == 0 && resp.Failed <= 0 {
				parts[len(parts)-1].suspect = true
			}
		case librato.VerdictAgain:
			if len(blamed) > 0 { // it took a part, and says which it did not
				f.confirm(rest, 0)
			}
			return &resp
		case librato.VerdictRefused:
			if len(blamed) == 0 {
				halves := p.halves()
				if resp.Status == http.StatusRequestEntityTooLarge {
					halves[1].first = false // it is the size: both halves may be good
				}
				parts = append(parts, halves...)
				continue
			}
			f.refuse(why, blamed, resp.Words())
			if why == reasonTypeConflict {
				f.hold(blamed)
			}
			if len(rest) > 0 {
				parts = append(parts, part{incs: rest})
			}
		}
	}
	return nil
}

// part is a piece of a request on the search for what the service does not take.
type part struct {
	incs    []*increment
	first   bool // of two halves: the other is the next part
	suspect bool // an offender is among them
}

// halves returns the two in the order of a stack: the first, which is not the larger one, last.
func (p *part) halves() []part {
	middle := len(p.incs) / 2
	return []part{{incs: p.incs[middle:]}, {incs: p.incs[:middle], first: true}}
}

func without(all, some []*increment) []*increment {
	return slices.DeleteFunc(slices.Clone(all), func(inc *increment) bool { return slices.Contains(some, inc) })
}

// measurement is what an increment is posted as: the same each time.
func (f *flusher) measurement(inc *increment) librato.Measurement {
	m := librato.Measurement{
		Name:       inc.stream.name,
		Source:     inc.stream.source,
		Tags:       inc.stream.tags,
		Time:       inc.second,
		Summary:    inc.value,
		Properties: f.averaging,
	}
	switch inc.stream.kind {
	case kindAdding:
		m.Properties = f.adding
	case kindCounter:
		m.Counter, m.Properties = true, nil
	}
	return m
}

// send makes one request. What never got an answer is an outage.
func (f *flusher) send(ctx context.Context, ms []librato.Measurement) librato.Response {
	// Not from a pool: the transport may still read a body when its request has been answered, or has timed out.
	body := f.api.Append(make([]byte, 0, bytesAMeasurement*len(ms)), ms)

	began := time.Now()
	resp, err := f.roundTrip(ctx, body)
	status := "error"
	if err != nil {
		resp = librato.Response{Verdict: librato.VerdictAgain, Cause: librato.CauseUnavailable, Errors: []librato.Error{{Text: err.Error()}}}
	} else {
		status = strconv.Itoa(resp.Status)
	}
	f.counters.ExporterLibratoRequests.Add(context.Background(), 1, metric.WithAttributeSet(attribute.NewSet(attribute.String("status", status))))
	f.counters.ExporterLibratoRequestDuration.Record(context.Background(), time.Since(began).Seconds())
	f.counters.ExporterLibratoRequestBytes.Add(context.Background(), int64(len(body)))
	return resp
}

func (f *flusher) roundTrip(ctx context.Context, body []byte) (librato.Response, error) {
	req, err := f.request(ctx, body)
	if err != nil {
		return librato.Response{}, err
	}
	answer, err := f.client.Do(req)
	if err != nil {
		return librato.Response{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil && answer.StatusCode < 300 {
		// What the body would have said of single measurements is not known.
		return librato.Response{}, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer)) // so that the connection can be used again
	return librato.ParseResponse(answer.StatusCode, answer.Header, text, f.now()), nil
}

// confirm takes what the service answered for out of the state. So many of them it did not take, without saying which:
// they are not counted as sent, and gone all the same, since to send all of them again would count the others twice.
func (f *flusher) confirm(incs []*increment, unnamed int) {
	if len(incs) == 0 {
		return
	}
	f.journal.finish(incs)
	counters := 0
	for _, inc := range incs {
		if inc.stream.kind == kindCounter {
			counters++
		}
	}
	f.sent("gauge", len(incs)-counters-unnamed) // the API that counts has no counters
	f.sent("counter", counters)
}

func (f *flusher) sent(as string, n int) {
	if n > 0 {
		f.counters.ExporterLibratoMeasurementsSent.Add(context.Background(), int64(n),
			metric.WithAttributeSet(attribute.NewSet(attribute.String("measurement", as))))
	}
}

func (f *flusher) refuse(why reason, incs []*increment, words string) {
	if len(incs) > 0 {
		f.journal.finish(incs)
		for _, inc := range incs {
			f.refused.measurement(why, inc, words)
		}
	}
}

// hold keeps a metric back that the service knows as another type: it would refuse every request it rides in.
func (f *flusher) hold(incs []*increment) {
	f.holdMu.Lock()
	defer f.holdMu.Unlock()
	for _, inc := range incs {
		f.held[strings.ToLower(inc.stream.name)] = f.now().Add(holdBack)
	}
}

// tooOld reports what Librato would no longer take, stream by stream.
func (f *flusher) tooOld(gone []*increment) {
	if len(gone) == 0 {
		return
	}
	f.dropped(reasonTooOld, "measurements became too old to be sent", gone)
}

// dropped counts increments that were not sent, and logs them by stream.
func (f *flusher) dropped(why reason, message string, gone []*increment) {
	points := map[*stream]uint64{}
	for _, inc := range gone {
		f.refused.lost(why, inc.value.Count)
		points[inc.stream] += inc.value.Count
	}
	logged := 0
	for st, n := range points {
		if logged++; logged > expiryLogs {
			break
		}
		f.logger.Error(message, zap.String("metric", st.name), zap.String("source", st.sourceText()), zap.Uint64("points", n))
	}
	if more := len(points) - expiryLogs; more > 0 {
		f.logger.Error(message+", in more streams", zap.Int("streams", more), zap.Int("measurements", len(gone)))
	}
}

// leave notes that the service is away, and until when to leave it in peace.
func (f *flusher) leave(resp *librato.Response) {
	wait := resp.RetryAfter
	if f.retry != nil {
		wait = max(wait, f.retry.NextBackOff())
	}
	f.resume = f.now().Add(wait)
	first := !f.away
	f.away = true
	credentials := resp.Cause == librato.CauseCredentials
	if first || credentials && !f.broken {
		f.logger.Warn("Librato does not take measurements, they are kept and tried again",
			zap.Stringer("cause", resp.Cause), zap.Int("status", resp.Status), zap.Duration("wait", wait), optional("answer", resp.Words()))
	}
	if credentials && !f.broken {
		f.broken = true
		f.status(errors.New("Librato refuses the credentials, or the connection is not over TLS: " + cmp.Or(resp.Words(), strconv.Itoa(resp.Status))))
	}
}

// back notes that the service takes measurements.
func (f *flusher) back() {
	if f.away {
		f.logger.Info("Librato takes measurements again")
	}
	f.away = false
	if f.retry != nil {
		f.retry.Reset()
	}
	if f.broken {
		f.broken = false
		f.status(nil)
	}
}

// finish is the last flush: it posts what there is, due or not, as far as ctx allows, and reports what is left.
func (f *flusher) finish(ctx context.Context) {
	now := f.now()
	f.post(ctx, f.batches(now, f.journal.sealAll()))
	f.dropped(reasonShutdown, "measurements were not sent before shutdown, and no storage keeps them", f.journal.sealAll())
}

// newRequest returns what makes the request of each post: basic authentication, unless user is empty, and JSON.
func newRequest(url, user, password, agent string) func(ctx context.Context, body []byte) (*http.Request, error) {
	return func(ctx context.Context, body []byte) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("User-Agent", agent)
		if user != "" {
			req.SetBasicAuth(user, password)
		}
		return req, nil
	}
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// expiryLogs is how many streams are named when measurements become too old.
const expiryLogs = 20

// flusher posts what is due at each tick (see pace.go), request by request (deliver.go). While the service is away one
// request is tried at a time, each time another one.
type flusher struct {
	journal  *journal
	refusals *refusals
	logger   *zap.Logger
	status   func(error) // of the component; nil: well
	now      func() time.Time

	pace    pace
	probes  int  // rotates through the requests
	broken  bool // the status says that the service refuses everything
	courier *courier
}

// run flushes at every tick until stop is closed. ctx is that of the posts: they may outlast stop.
func (f *flusher) run(ctx context.Context, stop <-chan struct{}) {
	for {
		timer := time.NewTimer(f.pace.wait(f.now()))
		select {
		case <-stop:
			timer.Stop()
			return
		case <-timer.C:
		}
		f.step(ctx, f.now())
	}
}

// step does what is to be done at now.
func (f *flusher) step(ctx context.Context, now time.Time) {
	do, tidy := f.pace.step(now)
	switch do {
	case taskExpire:
		f.expire(now)
	case taskFlush:
		f.flush(ctx, now)
	case taskProbe:
		f.probe(ctx, now)
	case taskNothing:
	}
	if tidy {
		f.journal.tidy(now.UnixNano())
	}
}

// flush seals what is due and posts it with what is unconfirmed.
func (f *flusher) flush(ctx context.Context, now time.Time) {
	f.expire(now)
	began := f.courier.doubts.now()
	fresh, doubtful := f.requests(now, f.journal.sealFlush(now.UnixNano()))
	f.post(ctx, fresh, began)
	if !f.pace.away {
		f.post(ctx, doubtful, began)
	}
}

// expire drops what became too old.
func (f *flusher) expire(now time.Time) {
	gone := f.journal.expire(now.UnixNano())
	if len(gone) > 0 {
		f.courier.doubts.settle(gone)
		f.dropped(reasonTooOld, "measurements became too old to be sent", gone)
	}
}

// probe tries one request, another one each time, and on success posts the rest. Where all that is sealed was refused
// before, others are sealed, and every second probe tries those: else the former would hold them up.
func (f *flusher) probe(ctx context.Context, now time.Time) {
	f.expire(now)
	unconfirmed := f.journal.unconfirmed(now.UnixNano())
	fresh, doubtful := f.requests(now, unconfirmed)
	if len(fresh) == 0 {
		fresh, doubtful = f.requests(now, f.journal.sealAtMost(now.UnixNano(), len(unconfirmed)+f.courier.api.MaxMeasurements))
	}
	f.probes++
	tried, rest := fresh, doubtful
	if len(fresh) == 0 || f.probes%2 == 0 {
		tried, rest = slices.Concat(fresh, doubtful), nil
	}
	if len(tried) == 0 {
		f.pace.away = false // nothing to ask the service with; the next flush will see
		return
	}
	began := f.courier.doubts.now()
	i := f.probes % len(tried)
	f.post(ctx, tried[i:i+1], began)
	if !f.pace.away {
		f.post(ctx, slices.Delete(tried, i, i+1), began)
	}
	if !f.pace.away {
		f.post(ctx, rest, began)
	}
}

// requests divides increments into requests, those apart that hold what the service refused before, and refuses those
// whose metric is held back.
func (f *flusher) requests(now time.Time, incs []*increment) (fresh, doubtful [][]*increment) {
	incs, held := f.courier.conflicts.divide(incs, now)
	f.courier.refuse(reasonTypeConflict, held, "")
	return f.courier.doubts.divide(incs, f.courier.api.MaxMeasurements)
}

// post sends the requests, and notes whether the service is away. began is the time of doubts at which the flush began.
func (f *flusher) post(ctx context.Context, requests [][]*increment, began uint64) {
	if len(requests) == 0 {
		return
	}
	resp := f.courier.deliverAll(ctx, requests)
	switch {
	case ctx.Err() != nil, f.courier.stopped(): // shutdown cut the posts short, which says nothing of the service
	case resp == nil:
		f.back()
	case resp.Cause == librato.CauseEverything && f.courier.doubts.tookSince(began):
		// It took others in this flush. What it refused is posted after the others from now on.
	default:
		f.leave(resp)
	}
}

// leave notes that the service is away, and for how long it is left alone.
func (f *flusher) leave(resp *librato.Response) {
	first := !f.pace.away
	wait := f.pace.leave(f.now(), resp.RetryAfter)
	fields := []zap.Field{
		zap.Stringer("cause", resp.Cause), zap.Int("status", resp.Status), zap.Duration("wait", wait), optional("answer", resp.Words()),
	}
	var refused string
	switch resp.Cause {
	case librato.CauseCredentials:
		refused = "Librato refuses the credentials, or the connection is not over TLS"
	case librato.CauseEverything:
		refused = "Librato refuses everything and names no measurement"
	default:
		if first {
			f.logger.Warn("Librato is unreachable or refuses; measurements are kept and retried", fields...)
		}
		return
	}
	if f.broken {
		return
	}
	f.broken = true
	f.logger.Error(refused+"; measurements are kept and retried", fields...)
	f.status(errors.New(refused + ": " + cmp.Or(resp.Words(), strconv.Itoa(resp.Status))))
}

// back notes that the service takes measurements.
func (f *flusher) back() {
	if f.pace.away {
		f.logger.Info("Librato takes measurements again")
	}
	f.pace.back()
	if f.broken {
		f.broken = false
		f.status(nil)
	}
}

// flushLast posts what there is, due or not, as far as ctx allows, and reports what is left.
func (f *flusher) flushLast(ctx context.Context) {
	fresh, doubtful := f.requests(f.now(), f.journal.sealAll())
	f.post(ctx, slices.Concat(fresh, doubtful), f.courier.doubts.now())
	f.dropped(reasonShutdown, "measurements were not sent before shutdown, and no storage keeps them", f.journal.sealAll())
}

// dropped counts increments that were not sent, and logs them by stream.
func (f *flusher) dropped(why reason, message string, gone []*increment) {
	points := map[*stream]uint64{}
	for _, inc := range gone {
		f.refusals.lost(why, inc.value.Count)
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

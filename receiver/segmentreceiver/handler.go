// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.uber.org/zap"

	"github.com/otelcol-segment/otelcol-segment/internal/idset"
	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

// request is what one request needs. It is pooled; nothing of it outlives the answer, except that a webhook's belongs
// to its delivery.
type request struct {
	route    route
	received time.Time
	sender   []byte // the write key
	resource []resourceAttribute
	held     held

	buf      []byte // the body, and room for the scanner's padding
	unpacked []byte // to decompress buf into
	decoder  decoder
	resolver resolver
	tally    tally
	hasher   idset.Hasher
	claim    claim
	builder  metricsBuilder
}

func (r *segmentReceiver) newRequest() *request {
	return &request{
		decoder: decoder{rules: newRules(r.config)},
		builder: newMetricsBuilder(r.config, r.settings.BuildInfo.Version),
	}
}

// recycle gives q back, unless it has grown far beyond what this request needed.
func (r *segmentReceiver) recycle(q *request) {
	r.memory.release(&q.held)
	oversized := func(capacity, used, limit int) bool { return capacity > limit && used < capacity/4 }
	if oversized(cap(q.buf)+cap(q.unpacked)+cap(q.decoder.scan.texts)+cap(q.resolver.texts), len(q.buf), 1<<20) ||
		oversized(cap(q.decoder.messages)+cap(q.decoder.properties), q.decoder.count, 8192) {
		return
	}
	q.decoder.reset()
	q.resolver = resolver{q.resolver.events[:0], q.resolver.texts[:0]}
	q.tally = tally{}
	q.sender, q.resource = nil, nil
	r.requests.Put(q)
}

// handle serves every request, in this order: route, write key, body, decoding, write key in the body, duplicates,
// pipeline, answer.
func (r *segmentReceiver) handle(w http.ResponseWriter, req *http.Request) {
	route, ok := r.routes[req.URL.Path]
	if !ok {
		r.handleSettings(w, req)
		return
	}
	if req.Method != route.method {
		r.refuseMethod(w, req, route.method)
		return
	}
	var err error
	if route.kind == routeDiscard {
		if _, failed := io.Copy(io.Discard, req.Body); failed != nil {
			err = bodyRefusal(failed)
		}
	} else {
		err = r.take(traceContext(req.Context(), req.Header), req, route)
	}
	if err != nil {
		r.refuse(w, req, err)
		return
	}
	r.succeed(w, req, route.kind)
}

// take reads the request's events and hands them to the pipeline. An error is a *refusal.
func (r *segmentReceiver) take(ctx context.Context, req *http.Request, route route) error {
	q := r.requests.Get().(*request)
	q.received, q.route = r.now(), route
	if err := r.read(q, req); err != nil {
		r.recycle(q)
		return err
	}
	if route.kind == routeWebhook {
		return r.deliverWithin(ctx, q)
	}
	defer r.recycle(q)
	return r.deliver(ctx, q)
}

// read fills q with the events of the request, if the sender may send them.
func (r *segmentReceiver) read(q *request, req *http.Request) error {
	if err := r.checkHeader(q, req); err != nil {
		discard(req)
		return err
	}
	if err := r.readBody(q, req); err != nil {
		r.memory.release(&q.held)
		discard(req)
		return err
	}
	r.telemetry.builder.ReceiverSegmentRequestBytes.Add(req.Context(), int64(len(q.buf)))
	if err := q.decode(); err != nil {
		r.warn(troubleBody, q, "refused a request body", zap.String("path", req.URL.Path), zap.Error(err))
		return err
	}
	if err := r.checkSender(q, req); err != nil {
		return err
	}
	// Of a single message basic auth beats the body.
	strict := q.route.kind != routeWebhook && !r.keys.acceptsAll() && q.decoder.shape != shapeMessage
	if !r.memory.take(req.Context(), &q.held, messageHold*int64(q.decoder.count)) {
		return r.overloaded(q)
	}
	q.resolver.resolve(&q.decoder.content, q.sender, strict, q.received, &q.tally)
	if err := r.checkMessages(q, req); err != nil {
		return err
	}
	q.hashIDs(r.dedup != nil, r.config.Deduplication.ForwardIDs)
	return nil
}

// readBody reads the body, or what stands for it in a pixel's query, into q.buf. Memory follows what was received,
// not what was announced.
func (r *segmentReceiver) readBody(q *request, req *http.Request) error {
	q.buf = q.buf[:0]
	limit := r.config.MaxRequestBodySize
	if req.ContentLength > limit {
		return bodyRefusal(&http.MaxBytesError{Limit: limit})
	}
	if !r.memory.take(req.Context(), &q.held, firstHold) {
		return r.overloaded(q)
	}
	if q.route.kind == routePixel {
		return q.readPixel(req)
	}
	for {
		// Room for what may be held, for the scanner's padding, and for a last read that finds the end.
		if len(q.buf)+len(padding)+bytes.MinRead > cap(q.buf) {
			q.buf = slices.Grow(q.buf, max(firstHold, cap(q.buf)))
		}
		n, err := req.Body.Read(q.buf[len(q.buf) : cap(q.buf)-len(padding)])
		q.buf = q.buf[:len(q.buf)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return bodyRefusal(err)
		}
		size, sum := int64(len(q.buf)), q.held.sum()
		if size >= sum && !r.memory.take(req.Context(), &q.held, max(sum, size-sum)) {
			return r.overloaded(q)
		}
	}
	return r.unpack(q, req)
}

// readPixel reads the message in the query: base64 in either alphabet, with or without padding.
func (q *request) readPixel(req *http.Request) error {
	data := req.URL.Query().Get("data")
	if data == "" {
		return &refusal{http.StatusBadRequest, "invalid_request", "data: missing in the query"}
	}
	// A plus sign that was not escaped arrives as a space.
	data = strings.NewReplacer(" ", "-", "+", "-", "/", "_").Replace(strings.TrimRight(data, "="))
	buf, err := base64.RawURLEncoding.AppendDecode(q.buf, []byte(data))
	if err != nil {
		return &refusal{http.StatusBadRequest, "invalid_request", "data: not base64"}
	}
	q.buf = buf
	return nil
}

// discard reads a body that nobody wants, as far as confighttp's limit lets it: a client that still sends when the
// connection is closed sees a reset instead of the answer, and sends everything again.
func discard(req *http.Request) {
	_, _ = io.Copy(io.Discard, req.Body)
}

// decode reads what the body says.
func (q *request) decode() error {
	var err *bodyError
	switch q.route.kind {
	case routeBatch:
		err = q.decoder.decodeBatch(q.buf, &q.tally)
	case routeWebhook:
		err = q.decoder.decodeWebhook(q.buf, &q.tally)
	default:
		err = q.decoder.decode(q.buf, q.route.call, &q.tally)
	}
	if err != nil {
		return &refusal{http.StatusBadRequest, err.code, err.message}
	}
	return nil
}

// checkMessages refuses a request with nothing good in it. What is wrong with a message costs its neighbours nothing.
func (r *segmentReceiver) checkMessages(q *request, req *http.Request) error {
	if q.tally.wrong == 0 {
		return nil
	}
	first := q.tally.first
	text, code := q.decoder.describe(first), outcomeNames[first.outcome]
	r.warn(troubleMessage, q, "refused a message; all are counted by otelcol_receiver_segment_messages",
		zap.String("path", req.URL.Path), zap.String("outcome", code), zap.String("problem", text))
	if q.tally.wrong < q.decoder.count {
		return nil
	}
	r.telemetry.countMessages(req.Context(), &q.tally)
	return &refusal{http.StatusBadRequest, code, text}
}

// hashIDs gives events the hashes by which repeats are known: here, and to the exporters.
func (q *request) hashIDs(here, forwarded bool) {
	q.hasher.SetKey(q.sender)
	for i := range q.resolver.events {
		e := &q.resolver.events[i]
		if here && len(e.id) > 0 {
			e.hash = q.hasher.Secret(e.id)
		}
		if forwarded && len(e.id) > 0 {
			e.forwarded = q.hasher.Hash(e.id)
		}
	}
}

// deliver hands the events of q that are no copies to the pipeline. ctx bounds how long it waits for the fate of
// requests with the same messages, not how long the pipeline takes.
func (r *segmentReceiver) deliver(ctx context.Context, q *request) error {
	if r.dedup != nil {
		defer r.dedup.release(&q.claim, q.received) // whatever happens; nothing after commit
		if err := r.claim(ctx, q); err != nil {
			return err
		}
		q.resolver.dropDuplicates(&q.tally)
	}
	if len(q.resolver.events) > 0 {
		if err := r.consume(ctx, q); err != nil {
			return err
		}
	}
	r.telemetry.countMessages(ctx, &q.tally)
	return nil
}

// claim marks the events of q that are copies, and claims the ids of the others.
func (r *segmentReceiver) claim(ctx context.Context, q *request) error {
	for {
		wait := r.dedup.claim(&q.claim, q.resolver.events, q.received)
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			const message = "another request with the same message is not decided yet"
			return &refusal{http.StatusServiceUnavailable, "undecided", message}
		}
	}
}

// consume hands the events of q to the pipeline, and waits until it took them. The client's leaving does not cancel
// that: it will not know whether to repeat them.
func (r *segmentReceiver) consume(ctx context.Context, q *request) error {
	events := q.resolver.events
	ctx = r.obsreport.StartMetricsOp(context.WithoutCancel(ctx))
	err := r.next.ConsumeMetrics(ctx, q.builder.build(events, q.decoder.properties, q.resource))
	r.obsreport.EndMetricsOp(ctx, metadata.Type.String(), len(events), err)
	if err != nil {
		if !consumererror.IsPermanent(err) {
			q.tally = tally{} // the client repeats the others as well
		}
		for i := range events {
			q.tally.add(events[i].typ, outcomePipeline)
		}
		r.telemetry.countMessages(ctx, &q.tally)
		r.warn(troublePipeline, q,
			"the pipeline refused events; clients are told to repeat them unless the error is permanent", zap.Error(err))
		return pipelineRefusal(err)
	}
	for i := range events {
		q.tally.add(events[i].typ, outcomeAccepted)
	}
	if r.dedup != nil {
		if evicted := r.dedup.commit(&q.claim, q.received); evicted > 0 {
			r.telemetry.builder.ReceiverSegmentIdsEvicted.Add(ctx, int64(evicted))
		}
	}
	return nil
}

// deliverWithin is deliver, but gives up waiting after webhookLimit. Then the pipeline goes on, and q with it: the
// claim stays until it decides, so that the sender's repeat counts only if it refuses.
func (r *segmentReceiver) deliverWithin(ctx context.Context, q *request) error {
	if r.deliveries.Add(1) > maxDeliveries {
		r.deliveries.Add(-1)
		r.recycle(q)
		return &refusal{http.StatusServiceUnavailable, "overloaded", "too many deliveries wait for the pipeline"}
	}
	done := make(chan error, 1)
	r.delivering.Go(func() {
		err := r.deliverSafely(ctx, q)
		r.recycle(q)
		r.deliveries.Add(-1)
		done <- err
	})
	timer := time.NewTimer(r.webhookLimit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return &refusal{http.StatusServiceUnavailable, "timeout", "the pipeline has not decided in time"}
	}
}

// deliverSafely is deliver, but survives a panic in the pipeline, as net/http does around other requests.
func (r *segmentReceiver) deliverSafely(ctx context.Context, q *request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.settings.Logger.Error("panic in the pipeline", zap.Any("panic", p), zap.Stack("stack"))
			err = &refusal{http.StatusServiceUnavailable, "unavailable", "the pipeline failed"}
		}
	}()
	return r.deliver(ctx, q)
}

// overloaded is the refusal of a request that would hold more than there is.
func (r *segmentReceiver) overloaded(q *request) error {
	r.warn(troubleMemory, q, "refused a request: requests hold as much as max_in_flight_bytes allows")
	return &refusal{http.StatusServiceUnavailable, "overloaded", "the receiver is busy with other requests"}
}

// warn logs what happened to q, unless its like was logged a moment ago.
func (r *segmentReceiver) warn(what trouble, q *request, message string, fields ...zap.Field) {
	if r.troubles[what].due(q.received) {
		r.settings.Logger.Warn(message, fields...)
	}
}

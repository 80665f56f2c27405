// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.uber.org/zap"

	"github.com/otelcol-segment/otelcol-segment/internal/idset"
	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

// retryAfter is what clients are told to wait when the pipeline refuses, in seconds.
const retryAfter = "5"

// request is what one request needs. It is pooled; nothing of it outlives the answer, except that a webhook's belongs
// to its delivery.
type request struct {
	buf      []byte // the body, and room for the padding of the decoder
	decoder  decoder
	builder  metricsBuilder
	hasher   idset.Hasher
	claim    claim
	resource []resourceAttribute
	received time.Time
}

func (r *segmentReceiver) newRequest() *request {
	q := &request{
		decoder: decoder{maxMessageSize: r.config.MaxMessageSize, keep: r.config.Properties},
		builder: metricsBuilder{
			sourceAttribute: r.config.SourceAttribute,
			keep:            r.config.Properties,
			metricType:      r.config.MetricType,
			forwardIDs:      r.config.Deduplication.ForwardIDs,
			version:         r.settings.BuildInfo.Version,
		},
	}
	for _, t := range r.config.Events {
		q.decoder.wanted[typeOf([]byte(t))] = true
	}
	return q
}

// recycle gives q back, unless it has grown far beyond what this request needed.
func (r *segmentReceiver) recycle(q *request) {
	oversized := func(capacity, used, limit int) bool { return capacity > limit && used < capacity/4 }
	if oversized(cap(q.buf), len(q.buf), 1<<20) || oversized(cap(q.decoder.events), q.decoder.messages, 8192) {
		return
	}
	q.decoder.reset()
	q.resource = nil
	r.requests.Put(q)
}

// refusal is an answer that is not 200. Its message names places, never contents.
type refusal struct {
	status        int
	code, message string
}

func (e *refusal) Error() string { return e.message }

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
	if route.kind == routeDiscard {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			r.refuse(w, req, bodyRefusal(err))
			return
		}
		r.succeed(w, req, route)
		return
	}

	q := r.requests.Get().(*request)
	q.received = r.now()
	err := r.read(q, req, route)
	switch {
	case err != nil:
		r.recycle(q)
	case route.kind == routeWebhook:
		err = r.deliverWithin(req.Context(), r.webhookLimit, q)
	default:
		err = r.deliver(req.Context(), q)
		r.recycle(q)
	}
	if err != nil {
		r.refuse(w, req, err)
		return
	}
	r.succeed(w, req, route)
}

// read fills q with the events of the request, if the request may send.
func (r *segmentReceiver) read(q *request, req *http.Request, route route) error {
	user, _, _ := req.BasicAuth()
	sender := []byte(user)
	if len(sender) > 0 && route.kind != routeWebhook {
		if _, ok := r.keys.find(sender); !ok {
			discard(req)
			return r.unauthorized(q, "the write key is unknown")
		}
	}
	if err := q.readBody(req, route, r.config.MaxRequestBodySize); err != nil {
		return err
	}
	r.telemetry.builder.ReceiverSegmentRequestBytes.Add(req.Context(), int64(len(q.buf)))
	if err := q.decode(route); err != nil {
		if r.problems[problemBody].due(q.received) {
			r.settings.Logger.Warn("refused a request body", zap.String("path", req.URL.Path), zap.Error(err))
		}
		return err
	}

	d := &q.decoder
	strict := false
	if route.kind == routeWebhook {
		// Segment's webhooks carry no write key, the signature is what counts. Of an array it covers the first message.
		secret, signed := string(r.config.Webhook.Get().SharedSecret), q.buf
		if d.shape == shapeArray {
			signed = d.first
		}
		if secret != "" && !validSignature(secret, req.Header.Get("X-Signature"), signed) {
			return r.unauthorized(q, "X-Signature does not fit the body and the shared secret")
		}
		sender = nil
	} else {
		if len(sender) == 0 {
			sender = d.key
		}
		if len(sender) == 0 {
			sender = d.messageKey
		}
		if len(sender) == 0 && route.kind == routePixel {
			sender = []byte(req.URL.Query().Get("writeKey"))
		}
		resource, ok := r.keys.find(sender)
		switch {
		case !ok && len(sender) == 0:
			return r.unauthorized(q, "the write key is missing: send it as basic auth user name or as writeKey in the body")
		case !ok:
			return r.unauthorized(q, "the write key is unknown")
		}
		q.resource = resource
		strict = !r.keys.any() && d.shape != shapeMessage // of a single message basic auth beats the body
	}
	d.resolve(sender, strict, q.received)

	if d.refused > 0 {
		o := &d.offender
		problem := o.describe(d)
		if r.problems[problemMessage].due(q.received) {
			r.settings.Logger.Warn("refused a message; all are counted by otelcol_receiver_segment_messages",
				zap.String("path", req.URL.Path), zap.String("outcome", outcomeNames[o.outcome]), zap.String("problem", problem))
		}
		if d.refused == d.messages { // nothing good in it
			r.telemetry.countMessages(req.Context(), &d.counts)
			return &refusal{http.StatusBadRequest, outcomeNames[o.outcome], problem}
		}
	}
	if r.dedup != nil || r.config.Deduplication.ForwardIDs {
		q.hasher.SetKey(sender)
		for i := range d.events {
			if e := &d.events[i]; len(e.id) > 0 {
				e.hash = q.hasher.Hash(e.id)
			}
		}
	}
	return nil
}

// readBody reads the body, or what stands for it in a pixel's query, into q.buf.
func (q *request) readBody(req *http.Request, route route, limit int64) error {
	q.buf = q.buf[:0]
	if route.kind == routePixel {
		return q.readPixel(req)
	}
	if req.ContentLength > limit {
		discard(req)
		return bodyRefusal(&http.MaxBytesError{Limit: limit})
	}
	// Room for the body, for the decoder's padding, and for a last read that finds the end.
	if room := int(max(req.ContentLength, 0)) + len(padding) + bytes.MinRead; cap(q.buf) < room {
		q.buf = make([]byte, 0, room)
	}
	for {
		if len(q.buf)+len(padding) >= cap(q.buf) {
			q.buf = slices.Grow(q.buf, cap(q.buf))
		}
		n, err := req.Body.Read(q.buf[len(q.buf) : cap(q.buf)-len(padding)])
		q.buf = q.buf[:len(q.buf)+n]
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return bodyRefusal(err)
		}
	}
}

// discard reads a body that nobody wants, as far as confighttp's limit lets it: a client that still sends when the
// connection is closed sees a reset instead of the answer, and sends everything again.
func discard(req *http.Request) {
	_, _ = io.Copy(io.Discard, req.Body)
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

func bodyRefusal(err error) *refusal {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		message := "the body is larger than max_request_body_size, " + strconv.FormatInt(tooLarge.Limit, 10) + " bytes"
		return &refusal{http.StatusBadRequest, "body_too_large", message}
	}
	return &refusal{http.StatusBadRequest, "invalid_body", "the body ended early, came too slowly or could not be decompressed"}
}

// decode walks the body.
func (q *request) decode(route route) error {
	var err *bodyError
	switch route.kind {
	case routeBatch:
		err = q.decoder.decodeBatch(q.buf)
	case routeWebhook:
		err = q.decoder.decodeWebhook(q.buf)
	default:
		err = q.decoder.decode(q.buf, route.typ)
	}
	if err != nil {
		return &refusal{http.StatusBadRequest, err.code, err.message}
	}
	return nil
}

func (r *segmentReceiver) unauthorized(q *request, message string) error {
	if r.problems[problemKey].due(q.received) {
		r.settings.Logger.Warn("refused a request: " + message)
	}
	return &refusal{http.StatusUnauthorized, "unauthorized", message}
}

// deliver hands the events of q that are no copies to the pipeline. ctx bounds how long it waits for the fate of
// requests with the same messages, not how long the pipeline takes.
func (r *segmentReceiver) deliver(ctx context.Context, q *request) error {
	d := &q.decoder
	if r.dedup != nil {
		defer r.dedup.release(&q.claim, q.received) // whatever happens; nothing after commit
		for {
			wait, evicted := r.dedup.claim(&q.claim, d.events, q.received)
			if evicted > 0 {
				r.telemetry.builder.ReceiverSegmentIdsEvicted.Add(ctx, int64(evicted))
			}
			if wait == nil {
				break
			}
			select {
			case <-wait:
			case <-ctx.Done():
				return &refusal{http.StatusServiceUnavailable, "undecided", "another request with the same message is not decided yet"}
			}
		}
		d.dropDuplicates()
	}
	if len(d.events) > 0 {
		if err := r.consume(ctx, q); err != nil {
			return err
		}
	}
	r.telemetry.countMessages(ctx, &d.counts)
	return nil
}

// consume hands the events of q to the pipeline, and waits until it took them. The client's leaving does not cancel
// that: it will not know whether to repeat them.
func (r *segmentReceiver) consume(ctx context.Context, q *request) error {
	d := &q.decoder
	ctx = r.obsreport.StartMetricsOp(context.WithoutCancel(ctx))
	err := r.next.ConsumeMetrics(ctx, q.builder.build(d.events, d.properties, q.resource))
	r.obsreport.EndMetricsOp(ctx, metadata.Type.String(), len(d.events), err)
	if err != nil {
		d.counts = [messageTypes][outcomes]int64{} // the client repeats the others as well
	}
	o := outcomeAccepted
	if err != nil {
		o = outcomePipeline
	}
	for i := range d.events {
		d.counts[d.events[i].typ][o]++
	}
	if err != nil {
		r.telemetry.countMessages(ctx, &d.counts)
		if r.problems[problemPipeline].due(q.received) {
			r.settings.Logger.Warn("the pipeline refused events; clients are told to repeat them unless the error is permanent", zap.Error(err))
		}
		return pipelineRefusal(err)
	}
	if r.dedup != nil {
		r.dedup.commit(&q.claim, q.received)
	}
	return nil
}

// deliverWithin is deliver, but gives up waiting after limit. Then the pipeline goes on, and q with it: the claim stays
// until it decides, so that the sender's repeat counts only if it refuses.
func (r *segmentReceiver) deliverWithin(ctx context.Context, limit time.Duration, q *request) error {
	done := make(chan error, 1)
	r.delivering.Go(func() {
		defer func() { // as net/http does around other requests
			if p := recover(); p != nil {
				r.settings.Logger.Error("panic in the pipeline", zap.Any("panic", p), zap.Stack("stack"))
				done <- &refusal{http.StatusServiceUnavailable, "unavailable", "the pipeline failed"}
			}
		}()
		err := r.deliver(ctx, q)
		r.recycle(q)
		done <- err
	})
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return &refusal{http.StatusServiceUnavailable, "timeout", "the pipeline has not decided in time"}
	}
}

// pipelineRefusal says what the client is told when the pipeline returned err:
//
//	permanent    400, since most SDKs repeat a 5xx and it would never succeed
//	429          429 with Retry-After
//	any other    503 with Retry-After (that of the memory limiter is plain)
func pipelineRefusal(err error) *refusal {
	switch {
	case consumererror.IsPermanent(err):
		return &refusal{http.StatusBadRequest, "refused_by_pipeline", "the pipeline refuses these events for good"}
	case consumererror.ToHTTPStatus(err) == http.StatusTooManyRequests:
		return &refusal{http.StatusTooManyRequests, "rate_limited", "the pipeline takes no more for now"}
	default:
		return &refusal{http.StatusServiceUnavailable, "unavailable", "the pipeline does not take events for now"}
	}
}

// Answers. Success is exactly status 200 with a JSON object, and errors have code and message: other answers make
// one SDK or another send everything again.

var (
	jsonType = []string{"application/json"}
	gifType  = []string{"image/gif"}
	success  = []byte(`{"success":true}`)
	// pixel is one transparent pixel.
	pixel = []byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00," +
		"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;")
)

func (r *segmentReceiver) succeed(w http.ResponseWriter, req *http.Request, route route) {
	r.telemetry.countRequest(req.Context(), http.StatusOK)
	if route.kind == routePixel {
		w.Header()["Cache-Control"] = []string{"no-store"}
		if strings.HasPrefix(req.Header.Get("Accept"), "image/") { // an img element
			w.Header()["Content-Type"] = gifType
			_, _ = w.Write(pixel)
			return
		}
	}
	w.Header()["Content-Type"] = jsonType
	_, _ = w.Write(success)
}

// refuse answers with err, which is a *refusal.
func (r *segmentReceiver) refuse(w http.ResponseWriter, req *http.Request, err error) {
	var e *refusal
	if !errors.As(err, &e) {
		e = &refusal{http.StatusServiceUnavailable, "unavailable", "try again"}
	}
	r.telemetry.countRequest(req.Context(), e.status)
	if e.status == http.StatusTooManyRequests || e.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	writeJSON(w, e.status, struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{e.code, e.message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header()["Content-Type"] = jsonType
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}

func (r *segmentReceiver) refuseMethod(w http.ResponseWriter, req *http.Request, allowed string) {
	w.Header().Set("Allow", allowed)
	r.refuse(w, req, &refusal{http.StatusMethodNotAllowed, "method_not_allowed", "use " + allowed})
}

// refuseEarly answers what confighttp refuses before handle is called: credentials that the authenticator does not
// take, and bodies that it cannot decompress.
func (r *segmentReceiver) refuseEarly(w http.ResponseWriter, req *http.Request, message string, status int) {
	code := "invalid_body"
	if status == http.StatusUnauthorized {
		code = "unauthorized"
	}
	r.refuse(w, req, &refusal{status, code, message})
}

// handleSettings answers GET /v1/projects/{writeKey}/settings, which analytics.js asks its CDN for, and 404 to all else.
// Source: analytics-next's browser/settings and plugins/segmentio.
func (r *segmentReceiver) handleSettings(w http.ResponseWriter, req *http.Request) {
	key, ok := strings.CutPrefix(req.URL.Path, "/v1/projects/")
	if ok {
		key, ok = strings.CutSuffix(key, "/settings")
	}
	if !ok || key == "" || strings.Contains(key, "/") {
		r.refuse(w, req, &refusal{http.StatusNotFound, "not_found", "no such path; events go to /v1/track, /v1/batch and their like"})
		return
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		r.refuseMethod(w, req, http.MethodGet)
		return
	}
	if _, ok := r.keys.find([]byte(key)); !ok {
		r.refuse(w, req, &refusal{http.StatusNotFound, "not_found", "the write key is unknown"})
		return
	}
	r.telemetry.countRequest(req.Context(), http.StatusOK)
	protocol, host := r.publicAddress(req)
	writeJSON(w, http.StatusOK, map[string]any{
		"integrations": map[string]any{
			"Segment.io": map[string]any{"apiKey": key, "apiHost": host + "/v1", "protocol": protocol},
		},
	})
}

// publicAddress returns where the browser reaches the receiver.
func (r *segmentReceiver) publicAddress(req *http.Request) (protocol, host string) {
	if u := r.publicURL; u != nil {
		return u.Scheme, u.Host + strings.TrimSuffix(u.Path, "/")
	}
	protocol, host = "http", req.Host
	if req.TLS != nil {
		protocol = "https"
	}
	if r.config.TrustProxy {
		// Each proxy appends; the first is the browser's.
		if first, _, _ := strings.Cut(req.Header.Get("X-Forwarded-Proto"), ","); first != "" {
			protocol = strings.ToLower(strings.TrimSpace(first))
		}
		if first, _, _ := strings.Cut(req.Header.Get("X-Forwarded-Host"), ","); first != "" {
			host = strings.TrimSpace(first)
		}
	}
	return protocol, host
}

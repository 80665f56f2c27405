// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/confighttp/xconfighttp"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

// segmentReceiver serves Segment's Tracking API.
type segmentReceiver struct {
	config    *Config
	settings  receiver.Settings
	next      consumer.Metrics
	routes    map[string]route
	keys      writeKeys
	dedup     *deduplicator // nil: off
	publicURL *url.URL      // nil: the request's
	now       func() time.Time

	// webhookLimit is how long a webhook may take: Segment waits five seconds and then sends it again.
	webhookLimit time.Duration

	requests  sync.Pool // of *request
	obsreport *receiverhelper.ObsReport
	telemetry *telemetry
	problems  [problems]occasionally

	server     *http.Server
	listener   net.Listener
	serving    sync.WaitGroup
	delivering sync.WaitGroup // webhooks that were answered before the pipeline decided
}

// route says what a path takes.
type route struct {
	method string // POST, or GET with its HEAD
	kind   routeKind
	typ    messageType // of the message, if the path says it
}

type routeKind uint8

const (
	routeMessage routeKind = iota
	routeBatch
	routePixel   // one message in the query
	routeWebhook // one message or an array of them
	routeDiscard // analytics.js's metrics of itself
)

// newRoutes returns the paths and what they take. The one-letter forms are analytics.js's.
// Source: Segment's HTTP Tracking API; analytics-next's plugins/segmentio.
func newRoutes(config *Config) map[string]route {
	routes := map[string]route{
		"/v1/batch":  {http.MethodPost, routeBatch, typeUnknown},
		"/v1/b":      {http.MethodPost, routeBatch, typeUnknown},
		"/v1/import": {http.MethodPost, routeBatch, typeUnknown},
		"/v1/m":      {http.MethodPost, routeDiscard, typeUnknown},
	}
	for name, typ := range map[string]messageType{
		"track": typeTrack, "page": typePage, "screen": typeScreen,
		"identify": typeIdentify, "group": typeGroup, "alias": typeAlias,
	} {
		routes["/v1/"+name] = route{http.MethodPost, routeMessage, typ}
		routes["/v1/"+name[:1]] = route{http.MethodPost, routeMessage, typ}
		routes["/v1/pixel/"+name] = route{http.MethodGet, routePixel, typ}
	}
	if config.Webhook.HasValue() {
		routes[config.Webhook.Get().Path] = route{http.MethodPost, routeWebhook, typeUnknown}
	}
	return routes
}

func newReceiver(config *Config, set receiver.Settings, next consumer.Metrics) (*segmentReceiver, error) {
	obsreport, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID:             set.ID,
		Transport:              "http",
		ReceiverCreateSettings: set,
	})
	if err != nil {
		return nil, err
	}
	telemetry, err := newTelemetry(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	r := &segmentReceiver{
		config:       config,
		settings:     set,
		next:         next,
		routes:       newRoutes(config),
		keys:         newWriteKeys(config.WriteKeys),
		now:          time.Now,
		webhookLimit: 4 * time.Second,
		obsreport:    obsreport,
		telemetry:    telemetry,
	}
	if config.Deduplication.Enabled {
		r.dedup = newDeduplicator(config.Deduplication.Window, config.Deduplication.MaxEntries)
	}
	if config.PublicURL != "" {
		if r.publicURL, err = url.Parse(config.PublicURL); err != nil {
			return nil, err
		}
	}
	r.requests.New = func() any { return r.newRequest() }
	return r, nil
}

// Start opens the listener, so that an address that is taken fails the start, and serves in the background.
func (r *segmentReceiver) Start(ctx context.Context, host component.Host) error {
	if r.keys.any() {
		r.settings.Logger.Warn("write_keys is empty: whoever reaches the endpoint may send, with any write key or none",
			zap.String("endpoint", r.config.NetAddr.Endpoint))
	}
	options := []confighttp.ToServerOption{confighttp.WithErrorHandler(r.refuseEarly)}
	if r.config.CompressionAlgorithms == nil || slices.Contains(r.config.CompressionAlgorithms, "gzip") {
		options = append(options, confighttp.WithDecoder("gzip", newGzipReader))
	}
	if !watched(ctx, r.settings.TelemetrySettings) {
		options = append(options, xconfighttp.WithOtelHTTPOptions(otelhttp.WithFilter(func(*http.Request) bool { return false })))
	}
	server, err := r.config.ToServer(ctx, host.GetExtensions(), r.settings.TelemetrySettings, http.HandlerFunc(r.handle), options...)
	if err != nil {
		return err
	}
	listener, err := r.config.ToListener(ctx)
	if err != nil {
		return err
	}
	listener = parkIdle(server, listener, lendAlways, parkAfter)
	r.server, r.listener = server, listener
	r.settings.Logger.Info("taking events", zap.Stringer("address", listener.Addr()))
	r.serving.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			componentstatus.ReportStatus(host, componentstatus.NewFatalErrorEvent(err))
		}
	})
	return nil
}

// watched says whether anybody sees the spans and metrics that otelhttp makes of each request. With the collector's default
// telemetry nobody does: there is no tracer, and its metrics are dropped below level detailed. To make them for nobody
// is a third of the memory that a request of one event allocates.
func watched(ctx context.Context, set component.TelemetrySettings) bool {
	_, span := set.TracerProvider.Tracer(otelhttp.ScopeName).Start(ctx, "start")
	defer span.End()
	if span.SpanContext().IsValid() { // also if this one is not sampled
		return true
	}
	probe, err := set.MeterProvider.Meter(otelhttp.ScopeName).Int64Counter("segment.start")
	return err != nil || probe.Enabled(ctx)
}

// gzipReader decompresses a body. It is pooled: confighttp's own makes 40 kB of tables for each request, and its library
// takes more than twice as long (BenchmarkGzip).
type gzipReader struct{ gzip.Reader }

var gzipReaders = sync.Pool{New: func() any { return new(gzipReader) }}

// newGzipReader returns what reads body decompressed, and is free for others once it is closed.
func newGzipReader(body io.ReadCloser) (io.ReadCloser, error) {
	r := gzipReaders.Get().(*gzipReader)
	if err := r.Reset(body); err != nil {
		gzipReaders.Put(r)
		return nil, err
	}
	return r, nil
}

// Close gives r back. It is called once, by confighttp, after the answer.
func (r *gzipReader) Close() error {
	err := r.Reader.Close()
	gzipReaders.Put(r)
	return err
}

// Shutdown takes no more requests, and waits for those under way until ctx ends.
func (r *segmentReceiver) Shutdown(ctx context.Context) error {
	defer r.telemetry.builder.Shutdown()
	if r.server == nil {
		return nil
	}
	err := r.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, r.server.Close())
	}
	r.serving.Wait()

	delivered := make(chan struct{})
	go func() {
		r.delivering.Wait()
		close(delivered)
	}()
	select {
	case <-delivered:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	return err
}

// telemetry counts what metadata.yaml describes. Each option is made once, so that counting allocates nothing.
type telemetry struct {
	builder  *metadata.TelemetryBuilder
	messages [messageTypes][outcomes][]metric.AddOption
	statuses map[int][]metric.AddOption
}

var (
	typeNames    = [messageTypes]string{"unknown", "track", "page", "screen", "identify", "group", "alias"}
	outcomeNames = [outcomes]string{
		"accepted", "ignored", "disabled", "duplicate", "refused_by_pipeline", "invalid_json", "invalid_message",
		"too_large", "unknown_type", "missing_event", "invalid_value", "foreign_write_key",
	}
)

func newTelemetry(set component.TelemetrySettings) (*telemetry, error) {
	builder, err := metadata.NewTelemetryBuilder(set)
	if err != nil {
		return nil, err
	}
	t := &telemetry{builder: builder, statuses: make(map[int][]metric.AddOption)}
	for typ, typeName := range typeNames {
		for o, outcomeName := range outcomeNames {
			t.messages[typ][o] = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(
				attribute.String("type", typeName), attribute.String("outcome", outcomeName)))}
		}
	}
	for _, status := range []int{
		http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusTooManyRequests, http.StatusServiceUnavailable,
	} {
		t.statuses[status] = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attribute.Int("status", status)))}
	}
	return t, nil
}

// countMessages adds counts to the message counters and clears them.
func (t *telemetry) countMessages(ctx context.Context, counts *[messageTypes][outcomes]int64) {
	for typ := range counts {
		for o, n := range counts[typ] {
			if n > 0 {
				t.builder.ReceiverSegmentMessages.Add(ctx, n, t.messages[typ][o]...)
			}
		}
	}
	*counts = [messageTypes][outcomes]int64{}
}

func (t *telemetry) countRequest(ctx context.Context, status int) {
	option, ok := t.statuses[status]
	if !ok {
		option = []metric.AddOption{metric.WithAttributes(attribute.Int("status", status))}
	}
	t.builder.ReceiverSegmentRequests.Add(ctx, 1, option...)
}

// problem is a kind of trouble that is logged once a while.
type problem uint8

const (
	problemMessage problem = iota
	problemBody
	problemKey
	problemPipeline
	problems
)

// occasionally is true once every ten seconds at most.
type occasionally struct {
	last atomic.Int64
}

func (o *occasionally) due(now time.Time) bool {
	last := o.last.Load()
	return now.UnixNano()-last >= int64(10*time.Second) && o.last.CompareAndSwap(last, now.UnixNano())
}

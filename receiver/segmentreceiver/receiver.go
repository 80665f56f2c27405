// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.uber.org/zap"
)

// segmentReceiver serves Segment's Tracking API.
type segmentReceiver struct {
	config    *Config
	settings  receiver.Settings
	next      consumer.Metrics
	routes    map[string]route
	keys      writeKeys
	dedup     *deduplicator // nil: off
	memory    *memory
	zstd      *zstd.Decoder
	publicURL *url.URL // nil: the request's
	now       func() time.Time

	// webhookLimit is how long a webhook may take: Segment waits five seconds and then sends it again.
	webhookLimit time.Duration
	deliveries   atomic.Int64 // of webhooks that are not decided

	requests  sync.Pool // of *request
	obsreport *receiverhelper.ObsReport
	telemetry *telemetry
	troubles  [troubles]occasionally

	server     *http.Server
	listener   net.Listener
	serving    sync.WaitGroup
	delivering sync.WaitGroup // webhooks that were answered before the pipeline decided
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
		memory:       newMemory(config.MaxInFlightBytes),
		obsreport:    obsreport,
		telemetry:    telemetry,
	}
	if r.zstd, err = newZstdDecoder(config); err != nil {
		return nil, err
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

// maxDeliveries is how many webhooks may wait for the pipeline at once, those included that were answered already.
const maxDeliveries = 1000

// Start opens the listener, so that an address that is taken fails the start, and serves in the background.
func (r *segmentReceiver) Start(ctx context.Context, host component.Host) error {
	if r.keys.acceptsAll() {
		r.settings.Logger.Warn("write_keys is empty: whoever reaches the endpoint may send, with any write key or none",
			zap.String("endpoint", r.config.NetAddr.Endpoint))
	}
	server, err := r.newServer(ctx, host)
	if err != nil {
		return err
	}
	listener, err := r.config.ToListener(ctx)
	if err != nil {
		return err
	}
	r.server, r.listener = server, listener
	r.settings.Logger.Info("taking events", zap.Stringer("address", listener.Addr()))
	r.serving.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			componentstatus.ReportStatus(host, componentstatus.NewFatalErrorEvent(err))
		}
	})
	return nil
}

// maxHeader is the size of a request's header, the pixel's query included. It is held as long as the request is.
const maxHeader = 64 << 10

// newServer returns confighttp's server around handle.
func (r *segmentReceiver) newServer(ctx context.Context, host component.Host) (*http.Server, error) {
	options := append(decoders(r.config), confighttp.WithErrorHandler(r.refuseEarly))
	handler := http.HandlerFunc(r.handle)
	server, err := r.config.ToServer(ctx, host.GetExtensions(), r.settings.TelemetrySettings, handler, options...)
	if err != nil {
		return nil, err
	}
	server.MaxHeaderBytes = maxHeader
	return server, nil
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

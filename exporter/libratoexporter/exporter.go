// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v7"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/metric"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// maxPooledSamples bounds the scratch that is kept between calls; a sample has some 90 bytes.
const maxPooledSamples = 4096

// libratoExporter folds what it consumes into increments, and posts them from a goroutine of its own.
type libratoExporter struct {
	cfg       *Config
	set       exporter.Settings
	telemetry *metadata.TelemetryBuilder
	refusals  *refusals
	convert   *converter
	journal   *journal
	samples   sync.Pool // of *[]sample
	now       func() time.Time

	flusher *flusher
	stop    chan struct{} // closed by shutdown: no further flush
	cancel  func()        // cuts posts off
	stopped chan struct{} // closed when the flusher has returned
}

func newExporter(cfg *Config, set exporter.Settings) (*libratoExporter, error) {
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	refusals := newRefusals(set.Logger, telemetry)
	convert := newConverter(cfg, telemetry, set.Logger)
	return &libratoExporter{
		cfg:       cfg,
		set:       set,
		telemetry: telemetry,
		refusals:  refusals,
		convert:   convert,
		journal:   newJournal(cfg, set.Logger, telemetry, refusals, convert.origins),
		now:       time.Now,
	}, nil
}

func (e *libratoExporter) start(ctx context.Context, host component.Host) error {
	if err := e.prepare(ctx, host); err != nil {
		return err
	}
	var posts context.Context
	posts, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	e.stopped = make(chan struct{})
	go func() {
		defer close(e.stopped)
		e.flusher.run(posts, e.stop)
	}()
	return nil
}

// prepare recovers the state and makes the flusher.
func (e *libratoExporter) prepare(ctx context.Context, host component.Host) error {
	for _, warning := range e.cfg.warnings() {
		e.set.Logger.Warn(warning)
	}
	client, err := e.cfg.ToClient(ctx, host.GetExtensions(), e.set.TelemetrySettings)
	if err != nil {
		return err
	}
	// A redirect is no answer of Librato's. Followed, a POST becomes a GET, and any page would pass for success.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if e.cfg.StorageID != nil {
		state, err := storageClient(ctx, host, *e.cfg.StorageID, e.set.ID)
		if err != nil {
			return err
		}
		if err := e.journal.open(ctx, state, e.now().UnixNano()); err != nil {
			return errors.Join(err, state.Close(ctx))
		}
	}
	if err := e.observe(); err != nil {
		return err
	}

	user, password := e.cfg.Email, string(e.cfg.Token)
	if user == "" { // AppOptics
		user, password = password, ""
	}
	api := e.cfg.api()
	e.stop = make(chan struct{})
	e.flusher = &flusher{
		journal:  e.journal,
		refusals: e.refusals,
		logger:   e.set.Logger,
		status:   reportStatus(host),
		now:      e.now,
		pace: newPace(e.cfg.FlushInterval, &backoff.ExponentialBackOff{
			InitialInterval:     e.cfg.RetryConfig.InitialInterval,
			RandomizationFactor: e.cfg.RetryConfig.RandomizationFactor,
			Multiplier:          e.cfg.RetryConfig.Multiplier,
			MaxInterval:         e.cfg.RetryConfig.MaxInterval,
		}, e.now()),
		courier: &courier{
			poster: poster{
				api:       api,
				client:    client,
				url:       strings.TrimSuffix(e.cfg.Endpoint, "/") + api.Path,
				user:      user,
				password:  password,
				agent:     userAgent(e.set.BuildInfo),
				telemetry: e.telemetry,
				now:       e.now,
			},
			journal:   e.journal,
			refusals:  e.refusals,
			adding:    addingProperties(&e.cfg.Gauges),
			consumers: e.cfg.NumConsumers,
			doubts:    newDoubts(),
			conflicts: newConflicts(),
			stop:      e.stop,
		},
	}
	return nil
}

// shutdown lets the posts under way end. With storage the rest waits there for the next start; without, one last
// flush is tried, and what is left is counted and logged. It ends with ctx, or after shutdown_timeout.
func (e *libratoExporter) shutdown(ctx context.Context) error {
	if e.stop == nil { // was not started
		e.telemetry.Shutdown()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.ShutdownTimeout)
	defer cancel()
	close(e.stop)
	select {
	case <-e.stopped:
	case <-ctx.Done():
		e.cancel()
		<-e.stopped
	}
	e.cancel()
	var err error
	if e.journal.stored() {
		err = e.journal.close(context.WithoutCancel(ctx))
	} else {
		e.flusher.courier.stop = nil
		e.flusher.flushLast(ctx)
	}
	e.flusher.courier.client.CloseIdleConnections()
	e.telemetry.Shutdown()
	return err
}

// consume folds every point of md into the state. It fails only when a bound is reached or storage does not take
// it, never because the service is away.
func (e *libratoExporter) consume(_ context.Context, md pmetric.Metrics) error {
	buf, _ := e.samples.Get().(*[]sample)
	if buf == nil {
		buf = new([]sample)
	}
	now := e.now()
	samples, refused := e.convert.appendSamples((*buf)[:0], md, now)
	err := e.journal.take(samples, now.UnixNano())
	if err == nil {
		for i := range refused {
			e.refusals.point(&refused[i])
		}
	}
	if cap(samples) <= maxPooledSamples {
		clear(samples) // its strings share pdata's memory
		*buf = samples
		e.samples.Put(buf)
	}
	return err
}

// observe registers what is read when telemetry is collected.
func (e *libratoExporter) observe() error {
	gauge := func(read func() int) metric.Int64Callback {
		return func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(read()))
			return nil
		}
	}
	return errors.Join(
		e.telemetry.RegisterExporterLibratoStreamsCallback(gauge(e.journal.streams)),
		e.telemetry.RegisterExporterLibratoIncrementsCallback(gauge(e.journal.count)),
		e.telemetry.RegisterExporterLibratoMessageIdsCallback(gauge(e.journal.messageIDs)),
		e.telemetry.RegisterExporterLibratoOldestUnsentAgeCallback(func(_ context.Context, o metric.Float64Observer) error {
			age := 0.0
			if oldest := e.journal.oldestUnconfirmed(); oldest != 0 {
				age = max(0, e.now().Sub(time.Unix(0, oldest)).Seconds())
			}
			o.Observe(age)
			return nil
		}),
	)
}

// storageClient returns the exporter's own storage: one for each component id, so that no two share it.
func storageClient(ctx context.Context, host component.Host, storageID, id component.ID) (storage.Client, error) {
	extension, ok := host.GetExtensions()[storageID]
	if !ok {
		return nil, fmt.Errorf("storage: extension %q is not there; add it to extensions and to service::extensions", storageID)
	}
	provider, ok := extension.(storage.Extension)
	if !ok {
		return nil, fmt.Errorf("storage: extension %q is no storage; use one such as file_storage", storageID)
	}
	client, err := provider.GetClient(ctx, component.KindExporter, id, "")
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	return client, nil
}

// addingProperties is what Segment's page asks its users to set by hand for each gauge.
func addingProperties(cfg *GaugesConfig) *librato.Properties {
	return &librato.Properties{
		Period:            int64(cfg.Period / time.Second),
		Aggregate:         cfg.ServiceSideAggregation,
		SummarizeFunction: "sum",
		DisplayStacked:    cfg.DisplayStacked,
	}
}

// reportStatus returns what tells the collector that the exporter is unwell, with an error, or well again.
func reportStatus(host component.Host) func(error) {
	return func(err error) {
		if err == nil {
			componentstatus.ReportStatus(host, componentstatus.NewEvent(componentstatus.StatusOK))
			return
		}
		componentstatus.ReportStatus(host, componentstatus.NewRecoverableErrorEvent(err))
	}
}

// userAgent is kept by the service as created_by_ua of the metrics that a request creates.
func userAgent(info component.BuildInfo) string { return "otelcol-segment/" + info.Version }

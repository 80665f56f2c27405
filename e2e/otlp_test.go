// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

// TestHostMetricsBesideEvents sends the shapes of the hostmetrics receiver with OpenTelemetry's SDK, next to Segment
// events, through one librato exporter with default settings (but for the flush interval).
func TestHostMetricsBesideEvents(t *testing.T) {
	service := startLibrato(t)
	c := startCollector(t, aggregator, service.env()...)
	ctx := t.Context()

	exporter, err := otlpmetrichttp.New(ctx,
		otlpmetrichttp.WithEndpointURL(c.otlp+"/v1/metrics"),
		// Librato has no cumulative histograms; everything else is sent as SDKs do by default.
		otlpmetrichttp.WithTemporalitySelector(func(kind sdkmetric.InstrumentKind) metricdata.Temporality {
			if kind == sdkmetric.InstrumentKindHistogram {
				return metricdata.DeltaTemporality
			}
			return metricdata.CumulativeTemporality
		}),
	)
	require.NoError(t, err)
	provider := sdkmetric.NewMeterProvider(
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithInterval(time.Hour))),
		sdkmetric.WithResource(resource.NewSchemaless(attribute.String("host.name", "db-1"))),
	)
	t.Cleanup(func() { _ = provider.Shutdown(t.Context()) })
	meter := provider.Meter("hostmetrics")

	memory, err := meter.Int64UpDownCounter("system.memory.usage", metric.WithUnit("By"))
	require.NoError(t, err)
	io, err := meter.Int64Counter("system.network.io", metric.WithUnit("By"))
	require.NoError(t, err)
	load, err := meter.Float64Gauge("system.cpu.load_average.1m")
	require.NoError(t, err)
	duration, err := meter.Float64Histogram("http.server.request.duration", metric.WithUnit("s"))
	require.NoError(t, err)
	with := func(pairs ...string) metric.MeasurementOption {
		var attributes []attribute.KeyValue
		for i := 0; i < len(pairs); i += 2 {
			attributes = append(attributes, attribute.String(pairs[i], pairs[i+1]))
		}
		return metric.WithAttributes(attributes...)
	}

	memory.Add(ctx, 700, with("state", "used"))
	memory.Add(ctx, 300, with("state", "free"))
	io.Add(ctx, 1000, with("device", "eth0", "direction", "receive"))
	io.Add(ctx, 50, with("device", "eth0", "direction", "transmit"))
	load.Record(ctx, 0.25)
	for _, seconds := range []float64{0.5, 0.25, 2} {
		duration.Record(ctx, seconds, with("http.route", "/orders"))
	}
	events := totals{}
	for n := range 4 {
		status, answer, err := post(ctx, c.segment+"/v1/track", "key",
			fmt.Sprintf(`{"event":"Signed Up","properties":{"value":%d},"context":{"Librato":{"source":"db-1"}}}`, n))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status, answer)
		events.add("Signed-Up", "db-1", float64(n))
	}
	require.NoError(t, provider.ForceFlush(ctx))

	want := totals{
		{"system.memory.usage.used", "db-1"}:             {1, 700},
		{"system.memory.usage.free", "db-1"}:             {1, 300},
		{"system.network.io.eth0.receive", "db-1"}:       {1, 1000},
		{"system.network.io.eth0.transmit", "db-1"}:      {1, 50},
		{"system.cpu.load_average.1m", "db-1"}:           {1, 0.25},
		{"http.server.request.duration.-orders", "db-1"}: {3, 2.75},
		{"Signed-Up", "db-1"}:                            events[stream{"Signed-Up", "db-1"}],
	}
	service.eventually(t, want)
	if t.Failed() {
		return
	}

	types := map[string]string{}
	for _, line := range service.Totals() {
		types[line.Name] = line.Type
	}
	assert.Equal(t, "counter", types["system.network.io.eth0.receive"])
	assert.Equal(t, "gauge", types["system.memory.usage.used"])

	// A second collection: gauges average, event gauges add up.
	memory.Add(ctx, 100, with("state", "used"))
	io.Add(ctx, 500, with("device", "eth0", "direction", "receive"))
	require.NoError(t, provider.ForceFlush(ctx))
	assert.EventuallyWithT(t, func(collect *assert.CollectT) {
		received := map[string]libratoserver.Total{}
		for _, line := range service.Totals() {
			received[line.Name] = line
		}
		assert.InDelta(collect, 750, received["system.memory.usage.used"].Received.Sum/2, 0, "the average of 700 and 800")
		assert.InDelta(collect, 2500, received["system.network.io.eth0.receive"].Received.Sum, 0, "a counter's readings, 1000 and 1500")
	}, arriveTimeout, 50*time.Millisecond)
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
)

// NewFactory creates the factory of the librato exporter.
func NewFactory() exporter.Factory {
	return exporter.NewFactory(
		metadata.Type,
		createDefaultConfig,
		exporter.WithMetrics(createMetrics, metadata.MetricsStability),
	)
}

func createDefaultConfig() component.Config {
	clientConfig := confighttp.NewDefaultClientConfig()
	clientConfig.Endpoint = "https://metrics-api.librato.com"
	clientConfig.Timeout = 30 * time.Second

	retryConfig := configretry.NewDefaultBackOffConfig()
	retryConfig.MaxElapsedTime = 0 // max_age bounds how long a measurement is tried, not this

	return &Config{
		ClientConfig:    clientConfig,
		API:             APIMetrics,
		SourceAttribute: "source",
		SourceFallbacks: []string{"host.name", "service.instance.id", "service.name"},
		FlushInterval:   10 * time.Second,
		Gauges: GaugesConfig{
			Period:                 60 * time.Second,
			ServiceSideAggregation: true,
			DisplayStacked:         true,
		},
		MaxAge:        110 * time.Minute,
		MaxFuture:     10 * time.Minute,
		MaxStreams:    40_000,
		MaxIncrements: 1_000_000,
		NumConsumers:  4,
		RetryConfig:   retryConfig,

		ShutdownTimeout: 5 * time.Second,

		Instance: InstanceConfig{Index: 0, Count: 1},
		Deduplication: DeduplicationConfig{
			Window:     4 * time.Hour,
			MaxEntries: 1_000_000,
		},
	}
}

func createMetrics(ctx context.Context, set exporter.Settings, cfg component.Config) (exporter.Metrics, error) {
	exp, err := newExporter(cfg.(*Config), set)
	if err != nil {
		return nil, err
	}
	return exporterhelper.NewMetrics(ctx, set, cfg, exp.consume,
		exporterhelper.WithStart(exp.start),
		exporterhelper.WithShutdown(exp.shutdown),
		exporterhelper.WithCapabilities(consumer.Capabilities{MutatesData: false}),
		// The HTTP client's own timeout applies to each post. Neither queue nor retry is set: what the exporter
		// took is its queue, see increments.go.
		exporterhelper.WithTimeout(exporterhelper.TimeoutConfig{Timeout: 0}),
	)
}

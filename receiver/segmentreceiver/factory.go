// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"

	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

// NewFactory creates the factory of the segment receiver.
func NewFactory() receiver.Factory {
	return receiver.NewFactory(
		metadata.Type,
		createDefaultConfig,
		receiver.WithMetrics(createMetrics, metadata.MetricsStability),
	)
}

func createDefaultConfig() component.Config {
	server := confighttp.NewDefaultServerConfig()
	server.NetAddr.Endpoint = "localhost:8080"
	server.MaxRequestBodySize = 4 << 20
	// Without those that take megabytes for a body of a few bytes: snappy, lz4.
	server.CompressionAlgorithms = []string{"", "gzip", "zlib", "deflate", "zstd"}
	server.ReadHeaderTimeout = 10 * time.Second
	server.ReadTimeout = 30 * time.Second
	// It begins with the header's end, so it has to outlast the read timeout, or a slow client gets no answer.
	server.WriteTimeout = 60 * time.Second
	server.IdleTimeout = 2 * time.Minute
	// What analytics.js sends and reads across origins, so that the origins are all that a user has to set.
	server.CORS = configoptional.Default(confighttp.CORSConfig{
		AllowedHeaders: []string{"Authorization", "Content-Type", "X-Retry-Count"},
		ExposedHeaders: []string{"Retry-After"},
		MaxAge:         7200, // the longest that Chromium keeps a preflight's answer
	})
	return &Config{
		ServerConfig:     server,
		MaxMessageSize:   32 << 10,
		MaxMessages:      10_000,
		MaxInFlightBytes: 128 << 20,
		Events:           []EventType{"track"},
		MetricType:       MetricTypeGauge,
		SourceAttribute:  "source",
		Deduplication: DeduplicationConfig{
			Enabled:    true,
			Window:     4 * time.Hour,
			MaxEntries: 1_000_000,
		},
		Webhook: configoptional.Default(WebhookConfig{Path: "/webhook"}),
	}
}

func createMetrics(
	_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Metrics,
) (receiver.Metrics, error) {
	return newReceiver(cfg.(*Config), set, next)
}

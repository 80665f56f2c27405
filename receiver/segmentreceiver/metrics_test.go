// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// TestSourcesAreNotMixedUp: the builder copies a source once for all messages in a row that have it.
func TestSourcesAreNotMixedUp(t *testing.T) {
	r := newReading()
	require.Nil(t, r.take([]byte(`{"batch":[{"type":"track","event":"e","context":{"source":"aa"}},{"type":"track","event":"f","context":{"source":"bb"}},`+
		`{"type":"track","event":"e","context":{"source":"bb"}},{"type":"track","event":"e"},{"type":"track","event":"e","context":{"source":"aa"}}]}`), shapeBatch, callUnknown))
	builder := newTestBuilder(r)
	for range 2 { // it is used again
		metrics := builder.build(r.events, r.properties, nil).ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics()
		require.Equal(t, 2, metrics.Len())
		assert.Equal(t, []string{"aa", "bb", "e", "aa"}, sourcesOf(metrics.At(0)))
		assert.Equal(t, []string{"bb"}, sourcesOf(metrics.At(1)))
	}
}

func sourcesOf(metric pmetric.Metric) []string {
	var sources []string
	for _, point := range metric.Gauge().DataPoints().All() {
		source, _ := point.Attributes().Get("source")
		sources = append(sources, source.Str())
	}
	return sources
}

func newTestBuilder(r *reading) metricsBuilder {
	cfg := createDefaultConfig().(*Config)
	cfg.Properties = r.keep
	return newMetricsBuilder(cfg, "test")
}

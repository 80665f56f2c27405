// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"bufio"
	"bytes"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/golden"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/pmetrictest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

var update = flag.Bool("update", false, "write the golden files")

// goldenConfig is the configuration of all golden cases. TestGolden runs them as gauges and as sums.
func goldenConfig() *Config {
	cfg := createDefaultConfig().(*Config)
	cfg.WriteKeys = []WriteKeyConfig{{Key: "key", ResourceAttributes: map[string]string{"service.name": "shop"}}}
	cfg.Events = []EventType{"track", "page", "screen"}
	cfg.Properties = []string{"plan", "seats", "trial", "discount", "nested"}
	cfg.Deduplication.ForwardIDs = true
	cfg.Webhook = configoptional.Some(WebhookConfig{Path: "/webhook", SharedSecret: "secret"})
	return cfg
}

// TestGolden sends each testdata/golden/NAME.http, received at testReceived, and compares what reaches the pipeline
// with NAME.yaml. To add a case, write the request and run the test with -update; then read what it wrote.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*.http"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		for _, metricType := range []MetricType{MetricTypeGauge, MetricTypeSum, MetricTypeHistogram} {
			name := strings.TrimSuffix(file, ".http")
			if metricType != MetricTypeGauge {
				if !strings.Contains(name, "example-track") { // one is enough
					continue
				}
				name += "-as-" + string(metricType)
			}
			t.Run(filepath.Base(name), func(t *testing.T) {
				cfg := goldenConfig()
				cfg.MetricType = metricType
				sink := new(consumertest.MetricsSink)
				r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), sink)
				require.NoError(t, err)
				r.now = func() time.Time { return testReceived }

				w := httptest.NewRecorder()
				r.handle(w, readRequest(t, file))
				require.Equal(t, http.StatusOK, w.Code, w.Body)
				require.Len(t, sink.AllMetrics(), 1)
				got := sink.AllMetrics()[0]
				if *update {
					require.NoError(t, golden.WriteMetricsToFile(name+".yaml", got, golden.SkipMetricTimestampNormalization()))
				}
				want, err := golden.ReadMetrics(name + ".yaml")
				require.NoError(t, err)
				assert.NoError(t, pmetrictest.CompareMetrics(want, got, pmetrictest.IgnoreMetricsOrder()))
				text, err := os.ReadFile(name + ".yaml")
				require.NoError(t, err)
				for _, personal := range []string{"someone@example.com", "507f191e81", "203.0.113.7"} {
					assert.NotContains(t, string(text), personal)
				}
			})
		}
	}
}

// readRequest reads a request as it came over the wire; lines may end without a carriage return.
func readRequest(tb testing.TB, file string) *http.Request {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Clean(file))
	require.NoError(tb, err)
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	require.NoError(tb, err)
	body, err := io.ReadAll(req.Body)
	require.NoError(tb, err)
	req.Body = io.NopCloser(bytes.NewReader(body))
	return req
}

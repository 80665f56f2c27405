// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

// nested turns "gauges.period" into {"gauges": {"period": value}}.
func nested(key string, value any) map[string]any {
	parts := strings.Split(key, ".")
	for _, part := range slices.Backward(parts) {
		value = map[string]any{part: value}
	}
	return value.(map[string]any)
}

// TestSettings holds each setting that the README documents to what it does: with the value of a row, and nothing else
// changed but what the row needs besides, the exporter does what it would not do with the default.
func TestSettings(t *testing.T) {
	// one is a gauge of a host with attributes of every kind.
	one := func(h *harness, scope string) pmetric.Metrics {
		md := gauges(scope, "cpu", point{1, h.clock.now().Unix(), map[string]any{"state": "idle", "core": "0"}})
		for key, value := range map[string]string{"host.name": "web", "service.name": "shop", "rack": "7"} {
			md.ResourceMetrics().At(0).Resource().Attributes().PutStr(key, value)
		}
		return md
	}
	body := func(h *harness) string {
		h.t.Helper()
		require.NoError(h.t, h.exporter.consume(h.t.Context(), one(h, "host")))
		h.pass(time.Minute)
		require.Len(h.t, h.service.Posts(), 1)
		return string(h.service.Posts()[0].Body)
	}
	event := func(h *harness) string {
		h.t.Helper()
		h.send(track("Signup", "s", 1))
		h.pass(time.Minute)
		require.NotEmpty(h.t, h.service.Posts())
		return string(h.service.Posts()[0].Body)
	}
	away := libratoserver.Failure{Status: 503, Times: -1}
	waits := func(h *harness, n int) []float64 {
		h.service.Fail(away)
		h.send(track("Signup", "s", 1))
		h.pass(5 * time.Minute)
		var seconds []float64
		posts := h.service.Posts()
		for i := range n {
			seconds = append(seconds, posts[i+1].Time.Sub(posts[i].Time).Seconds())
		}
		return seconds
	}
	tagged := map[string]any{"api": "measurements"}
	steady := map[string]any{"retry_on_failure": map[string]any{"randomization_factor": 0}}

	tests := map[string]struct {
		value   any
		besides map[string]any
		options []libratoserver.Option
		check   func(h *harness)
	}{
		"endpoint": {check: func(h *harness) { // see below: with a slash at its end
			event(h)
			assert.Equal(h.t, "/v1/metrics", h.service.Posts()[0].Path)
		}},
		"timeout": {value: "100ms", check: func(h *harness) {
			h.service.Fail(libratoserver.Failure{Delay: libratoserver.Duration(time.Hour)})
			event(h)
			assert.Positive(h.t, h.counter("requests", "error"))
		}},
		"email": {
			value: "you@example.com", options: []libratoserver.Option{libratoserver.WithCredentials("you@example.com", testToken)},
			check: func(h *harness) {
				event(h)
				h.stored("Signup", "s", 1, 1)
			},
		},
		"token": {
			value: "another", options: []libratoserver.Option{libratoserver.WithCredentials(testEmail, "another")},
			check: func(h *harness) {
				event(h)
				h.stored("Signup", "s", 1, 1)
			},
		},
		"api": {value: "measurements", check: func(h *harness) {
			event(h)
			assert.Equal(h.t, "/v1/measurements", h.service.Posts()[0].Path)
		}},
		"source_attribute": {value: "rack", check: func(h *harness) { assert.Contains(h.t, body(h), `"source":"7"`) }},
		"source_fallbacks": {value: []string{"nothing", "service.name"}, check: func(h *harness) { assert.Contains(h.t, body(h), `"source":"shop"`) }},
		"default_source": {value: "fleet", besides: map[string]any{"source_fallbacks": []string{}}, check: func(h *harness) {
			assert.Contains(h.t, body(h), `"source":"fleet"`)
		}},
		"name_attributes":          {value: []string{"state"}, check: func(h *harness) { assert.Contains(h.t, body(h), `"name":"cpu.idle"`) }},
		"metric_prefix":            {value: "shop.", check: func(h *harness) { assert.Contains(h.t, body(h), `"name":"shop.cpu.0.idle"`) }},
		"sum_metrics":              {value: []string{"c?*"}, check: func(h *harness) { assert.Contains(h.t, body(h), `"summarize_function":"sum"`) }},
		"tags.attributes":          {value: []string{"core"}, besides: tagged, check: func(h *harness) { assert.Contains(h.t, body(h), `"tags":{"core":"0","source":"web"}`) }},
		"tags.resource_attributes": {value: []string{"rack"}, besides: tagged, check: func(h *harness) { assert.Contains(h.t, body(h), `"rack":"7"`) }},
		"tags.fixed":               {value: map[string]any{"env": "prod"}, besides: tagged, check: func(h *harness) { assert.Contains(h.t, body(h), `"env":"prod"`) }},
		"flush_interval": {value: "5s", check: func(h *harness) {
			h.send(track("Signup", "s", 1))
			h.pass(5 * time.Second)
			h.stored("Signup", "s", 1, 1)
		}},
		"gauges.period":                   {value: "120s", check: func(h *harness) { assert.Contains(h.t, event(h), `"period":120`) }},
		"gauges.service_side_aggregation": {value: false, check: func(h *harness) { assert.Contains(h.t, event(h), `"aggregate":false`) }},
		"gauges.display_stacked":          {value: false, check: func(h *harness) { assert.Contains(h.t, event(h), `"display_stacked":false`) }},
		"max_age": {value: "20m", check: func(h *harness) {
			h.send(reading{name: "Signup", source: "s", value: 1, late: 21 * time.Minute})
			assert.Equal(h.t, int64(1), h.refused(reasonTooOld))
		}},
		"max_future": {value: "1m", check: func(h *harness) {
			h.send(reading{name: "Signup", source: "s", value: 1, late: -2 * time.Minute})
			assert.Equal(h.t, int64(1), h.refused(reasonInTheFuture))
		}},
		"max_streams": {value: 1, check: func(h *harness) {
			h.send(track("a", "s", 1), track("b", "s", 1))
			assert.Equal(h.t, int64(1), h.refused(reasonTooManyStreams))
		}},
		"max_increments": {value: 2, besides: map[string]any{"max_streams": 2}, check: func(h *harness) {
			h.send(track("a", "s", 1), track("b", "s", 1))
			require.ErrorIs(h.t, h.consume(reading{name: "a", source: "s", value: 1, late: 5 * time.Minute}), errFull)
		}},
		"num_consumers": {value: 1, check: func(h *harness) {
			h.service.Fail(libratoserver.Failure{Status: 200, Apply: libratoserver.ApplyNow, Delay: libratoserver.Duration(20 * time.Millisecond), Times: -1})
			h.sendStreams(900)
			h.pass(10 * time.Second)
			assert.Equal(h.t, 3, h.service.Stats().Posts)
			assert.Equal(h.t, 1, h.service.Stats().MaxInFlight)
		}},
		"retry_on_failure.enabled": {value: false}, // see below: refused
		"retry_on_failure.initial_interval": {value: "8s", besides: steady, check: func(h *harness) {
			assert.InDelta(h.t, 8, waits(h, 1)[0], 0.01)
		}},
		"retry_on_failure.randomization_factor": {value: 0, check: func(h *harness) {
			assert.InDelta(h.t, 5, waits(h, 1)[0], 0.01)
		}},
		"retry_on_failure.multiplier": {value: 3, besides: steady, check: func(h *harness) {
			assert.InDelta(h.t, 15, waits(h, 2)[1], 0.01)
		}},
		"retry_on_failure.max_interval": {value: "6s", besides: steady, check: func(h *harness) {
			assert.InDelta(h.t, 6, waits(h, 4)[3], 0.01)
		}},
		"retry_on_failure.max_elapsed_time": {value: "1h"}, // see below: refused
		"shutdown_timeout": {value: "100ms", check: func(h *harness) {
			h.service.Fail(libratoserver.Failure{Delay: libratoserver.Duration(time.Hour), Times: -1})
			h.send(track("Signup", "s", 1))
			began := time.Now()
			h.shutdown(h.t.Context())
			assert.Less(h.t, time.Since(began), 3*time.Second)
		}},
		"instance.index": {value: 1, besides: map[string]any{"instance": map[string]any{"count": 2}}, check: func(h *harness) {
			assert.Contains(h.t, event(h), fmt.Sprintf(`"measure_time":%d`, noon.Unix()+1))
		}},
		"instance.count": {value: 3, check: func(h *harness) {
			h.pass(10 * time.Second)
			assert.Contains(h.t, event(h), fmt.Sprintf(`"measure_time":%d`, noon.Unix()+3), "the second tick of three instances")
		}},
		"storage": {value: "file_storage", check: func(h *harness) {
			h.send(track("Signup", "s", 1))
			assert.Equal(h.t, int64(1), h.counter("commits", ""))
		}},
		"deduplication.window": {value: "10m", check: func(h *harness) {
			h.send(reading{name: "Signup", source: "s", value: 1, id: 7})
			h.pass(11 * time.Minute)
			h.send(reading{name: "Signup", source: "s", value: 1, id: 7})
			assert.Zero(h.t, h.counter("points_duplicate", ""))
		}},
		"deduplication.max_entries": {value: 1, check: func(h *harness) {
			h.send(reading{name: "Signup", source: "s", value: 1, id: 7}, reading{name: "Signup", source: "s", value: 1, id: 8})
			assert.Equal(h.t, int64(1), h.counter("ids_evicted", ""))
		}},
	}

	assert.Equal(t, slices.Sorted(maps.Keys(readTable(t, "Setting"))), slices.Sorted(maps.Keys(tests)), "a row for each setting")
	for key, tt := range tests {
		t.Run(key, func(t *testing.T) {
			settings := confmap.NewFromStringMap(tt.besides)
			if tt.value != nil {
				require.NoError(t, settings.Merge(confmap.NewFromStringMap(nested(key, tt.value))))
			}
			if tt.check == nil { // a value that cannot work
				cfg := validConfig()
				require.NoError(t, settings.Unmarshal(cfg))
				require.ErrorContains(t, cfg.Validate(), key)
				return
			}
			h := newHarness(t, func(cfg *Config) {
				if key == "endpoint" {
					cfg.Endpoint += "/"
				}
				require.NoError(t, settings.Unmarshal(cfg))
			}, tt.options...)
			tt.check(h)
		})
	}
}

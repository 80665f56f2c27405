// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

var faninDuration = flag.Duration("fanin.duration", 8*time.Second, "how long host metrics flow beside events")

// TestFanIn runs contrib's host metrics receiver beside events, through one exporter. What stands in Librato is what the
// file exporter saw of them, each point once, with the host as its source; and the events are what was sent.
func TestFanIn(t *testing.T) {
	service := startLibrato(t)
	// Two seconds apart, so that each reading has a second of its own.
	config := example(t, "host-metrics.yaml", "collection_interval: 60s", "collection_interval: 2s",
		"      network:\n", "      network:\n      disk:\n      paging:\n      processes:\n",
		"transform/host]\n      exporters: [librato]\n", "transform/host]\n      exporters: [librato, file]\n",
		"exporters:\n  librato:\n", "exporters:\n  file: {path: \"${env:STATE_DIRECTORY}.jsonl\"}\n  librato:\n")
	c := startCollector(t, config, append(service.env(), "HOSTNAME=db-1")...)
	events := totals{}
	until := time.Now().Add(*faninDuration)
	for n := 0; time.Now().Before(until); n++ {
		body, s, value := fanOutEvent(n)
		require.Zero(t, untilTaken(t, c, body))
		events.add(s.name, s.source, value)
		time.Sleep(20 * time.Millisecond) // a load, not a benchmark
	}
	c.stop(t)

	text, err := os.ReadFile(filepath.Clean(c.stateDirectory() + ".jsonl"))
	require.NoError(t, err)
	want := totals{}
	origin := map[stream]string{}
	for line := range bytes.Lines(text) {
		md, err := (&pmetric.JSONUnmarshaler{}).UnmarshalMetrics(line)
		require.NoError(t, err)
		for _, resource := range md.ResourceMetrics().All() {
			host, _ := resource.Resource().Attributes().Get("host.name")
			for _, scope := range resource.ScopeMetrics().All() {
				for _, metric := range scope.Metrics().All() {
					points := pmetric.NewNumberDataPointSlice()
					switch metric.Type() {
					case pmetric.MetricTypeGauge:
						points = metric.Gauge().DataPoints()
					case pmetric.MetricTypeSum:
						points = metric.Sum().DataPoints()
					default:
						assert.Fail(t, "no test for it", "%s is a %s", metric.Name(), metric.Type())
					}
					for _, point := range points.All() {
						name := nameWithAttributes(metric.Name(), point.Attributes())
						value := point.DoubleValue()
						if point.ValueType() == pmetric.NumberDataPointValueTypeInt {
							value = float64(point.IntValue())
						}
						s := stream{librato.CleanMetricName(name), host.Str()}
						assert.Contains(t, []string{"", name}, origin[s], "two streams would be one")
						origin[s] = name
						want.add(s.name, s.source, value)
					}
				}
			}
		}
	}
	require.Greater(t, len(want), 20, "streams of the host")
	maps.Copy(want, events)

	got := map[stream]total{}
	for _, line := range service.Totals() {
		got[stream{line.Name, line.Source}] = total{line.Received.Count, line.Received.Sum}
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(got)))
	for s, has := range want {
		assert.Equal(t, has.count, got[s].count, "%v", s)
		assert.InEpsilon(t, 1+has.sum, 1+got[s].sum, 1e-12, "%v", s) // 1, as 0 has no epsilon
	}
	assert.NotContains(t, c.logs.String(), "attribute_collision")
}

// nameWithAttributes is how the exporter tells apart streams without tags.
func nameWithAttributes(name string, attributes pcommon.Map) string {
	parts := []string{name}
	for _, key := range slices.Sorted(maps.Keys(attributes.AsRaw())) {
		value, _ := attributes.Get(key)
		parts = append(parts, value.AsString())
	}
	return strings.Join(parts, ".")
}

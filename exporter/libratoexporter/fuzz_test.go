// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/golden"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// Whatever comes over OTLP, every sample is one that the service takes, and the requests are JSON.
func FuzzConvert(f *testing.F) {
	inputs, err := filepath.Glob("testdata/convert/*.yaml")
	require.NoError(f, err)
	for _, input := range inputs {
		md, err := golden.ReadMetrics(input)
		require.NoError(f, err)
		seed, err := (&pmetric.ProtoMarshaler{}).MarshalMetrics(md)
		require.NoError(f, err)
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		md, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(data)
		if err != nil {
			return
		}
		for _, api := range []API{APIMetrics, APIMeasurements} {
			cfg := validConfig()
			cfg.API = api
			c, _ := testConverter(t, cfg)
			samples := c.appendSamples(nil, md, receipt)
			ms := measurementsOf(api, samples)
			for i, s := range samples {
				why, _ := check(&s.value)
				assert.Empty(t, why)
				assert.Positive(t, s.value.Count)
				assert.GreaterOrEqual(t, s.time, int64(0))
				assert.Contains(t, []kind{kindAdding, kindAveraging, kindCounter}, s.kind)
				assert.NotEmpty(t, ms[i].Name)
				if api == APIMeasurements {
					assert.NotEmpty(t, ms[i].Tags)
					assert.LessOrEqual(t, len(ms[i].Tags), librato.MaxTags)
				}
			}
			assert.True(t, json.Valid(librato.AppendMetrics(nil, ms)))
			assert.True(t, json.Valid(librato.AppendMeasurements(nil, ms)))
		}
	})
}

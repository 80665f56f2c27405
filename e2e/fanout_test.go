// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// example returns one of the examples with the addresses of a test, a tick each second, and further replacements.
func example(t *testing.T, name string, replacements ...string) string {
	t.Helper()
	replacements = append(replacements,
		"endpoint: 0.0.0.0:8080", "endpoint: ${env:SEGMENT_ADDR}",
		"    email: ${env:LIBRATO_EMAIL}\n    token: ${env:LIBRATO_TOKEN}\n",
		"    email: e2e@example.com\n    token: e2e\n    endpoint: ${env:LIBRATO_ENDPOINT}\n    flush_interval: 1s\n")
	config, err := os.ReadFile(filepath.Join("../examples", name))
	require.NoError(t, err)
	for i := 0; i < len(replacements); i += 2 {
		require.Contains(t, string(config), replacements[i])
	}
	return strings.NewReplacer(replacements...).Replace(string(config))
}

// totals returns what Librato has for the same events.
func (cs counters) totals() totals {
	ts := totals{}
	for c, t := range cs {
		if c.negative {
			t.sum = -t.sum
		}
		s := stream{librato.CleanEventName(c.event), c.source}
		ts[s] = total{ts[s].count + t.count, ts[s].sum + t.sum}
	}
	return ts
}

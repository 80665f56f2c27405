// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

func TestServesOverHTTP(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	cfg.NetAddr.Endpoint = "localhost:0"
	sink := new(consumertest.MetricsSink)
	r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), sink)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	resp, err := http.Post("http://"+r.listener.Addr().String()+"/v1/batch", "application/json", strings.NewReader(
		`{"batch":[{"type":"track","event":"Event Triggered","properties":{"value":2},"messageId":"a"},{"type":"track"}, {"type":"track","event":"Event Triggered","messageId":"a"}]}`))
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	http.DefaultClient.CloseIdleConnections()
	assert.Equal(t, `{"success":true}`, string(body))
	require.NoError(t, r.Shutdown(t.Context()))
	require.Len(t, sink.AllMetrics(), 1)
	assert.Equal(t, 1, sink.DataPointCount())
	assert.Equal(t, "Event Triggered", sink.AllMetrics()[0].ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Name())
}

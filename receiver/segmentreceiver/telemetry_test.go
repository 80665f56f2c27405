// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadatatest"
)

func TestTelemetry(t *testing.T) {
	tel := componenttest.NewTelemetry()
	t.Cleanup(func() { assert.NoError(t, tel.Shutdown(context.WithoutCancel(t.Context()))) })
	refuse := error(nil)
	next, err := consumer.NewMetrics(func(context.Context, pmetric.Metrics) error {
		return refuse
	})
	require.NoError(t, err)
	cfg := createDefaultConfig().(*Config)
	withKeys("key")(cfg)
	cfg.Deduplication.MaxEntries = 1
	r, err := newReceiver(cfg, metadatatest.NewSettings(tel), next)
	require.NoError(t, err)
	bytes := 0
	post := func(path, body string) int {
		req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		req.SetBasicAuth("key", "")
		w := httptest.NewRecorder()
		r.handle(w, req)
		bytes += len(body)
		return w.Code
	}
	assert.Equal(t, 200, post("/v1/batch", `{"batch":[{"type":"track","event":"e","messageId":"1"},{"type":"track","event":"e","messageId":"1"},`+
		`{"type":"track","event":"e","integrations":{"All":false}},{"type":"track","event":"e","writeKey":"other"},{"type":"identify"},{"type":"page"},`+
		`7,{"type":"x"},{"type":"track"},{"type":"track","event":"e","properties":{"value":"x"}},{"type":"track","x":NaN},`+
		`{"type":"track","event":"e","x":"`+strings.Repeat("x", 33<<10)+`"},{"type":"track","event":"e","messageId":"2"}]}`))
	refuse = errors.New("no")
	assert.Equal(t, 503, post("/v1/batch", `{"batch":[{"type":"track","event":"e","messageId":"3"},{"type":"identify"}]}`))
	// What is refused for good is not repeated, so the others of the request count now.
	refuse = consumererror.NewPermanent(errors.New("no"))
	assert.Equal(t, 400, post("/v1/batch", `{"batch":[{"type":"track","event":"e","messageId":"4"},{"type":"alias"},{"type":"track"}]}`))
	refuse = nil
	assert.Equal(t, 400, post("/v1/track", `{}`))
	assert.Equal(t, 400, post("/v1/track", `{`))
	w := httptest.NewRecorder()
	r.handle(w, httptest.NewRequest(http.MethodGet, "/v1/track", http.NoBody))
	w = httptest.NewRecorder()
	r.handle(w, httptest.NewRequest(http.MethodGet, "/nothing", http.NoBody))

	messages := func(typ, outcome string, n int64) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{
			Attributes: attribute.NewSet(attribute.String("type", typ), attribute.String("outcome", outcome)), Value: n,
		}
	}
	metadatatest.AssertEqualReceiverSegmentMessages(t, tel, []metricdata.DataPoint[int64]{
		messages("track", "accepted", 2),
		messages("track", "duplicate", 1),
		messages("track", "disabled", 1),
		messages("track", "foreign_write_key", 1),
		messages("identify", "ignored", 1),
		messages("page", "ignored", 1),
		messages("unknown", "invalid_message", 1),
		messages("unknown", "unknown_type", 1),
		messages("track", "missing_event", 3),
		messages("alias", "ignored", 1),
		messages("track", "invalid_value", 1),
		messages("track", "invalid_json", 1),
		messages("track", "too_large", 1),
		messages("track", "refused_by_pipeline", 2),
	}, metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
	requests := func(status int, n int64) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{Attributes: attribute.NewSet(attribute.Int("status", status)), Value: n}
	}
	metadatatest.AssertEqualReceiverSegmentRequests(t, tel, []metricdata.DataPoint[int64]{
		requests(200, 1), requests(400, 3), requests(503, 1), requests(405, 1), requests(404, 1),
	}, metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
	metadatatest.AssertEqualReceiverSegmentRequestBytes(t, tel, []metricdata.DataPoint[int64]{{Value: int64(bytes)}}, metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
	metadatatest.AssertEqualReceiverSegmentIdsEvicted(t, tel, []metricdata.DataPoint[int64]{{Value: 1}}, metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())

	accepted, err := tel.GetMetric("otelcol_receiver_accepted_metric_points")
	require.NoError(t, err)
	assert.Equal(t, int64(2), accepted.Data.(metricdata.Sum[int64]).DataPoints[0].Value)
}

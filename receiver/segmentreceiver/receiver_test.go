// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

func TestABusyAddressFailsTheStart(t *testing.T) {
	tr := startReceiver(t)
	cfg := createDefaultConfig().(*Config)
	cfg.NetAddr.Endpoint = tr.listener.Addr().String()
	r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), consumertest.NewNop())
	require.NoError(t, err)
	require.ErrorContains(t, r.Start(t.Context(), componenttest.NewNopHost()), "address already in use")
	assert.NoError(t, r.Shutdown(t.Context()))
}

// statusHost collects component status events.
type statusHost struct {
	component.Host
	events chan *componentstatus.Event
}

func (h statusHost) Report(event *componentstatus.Event) { h.events <- event }

func TestAFailedListenerIsAFatalEvent(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	cfg.NetAddr.Endpoint = "localhost:0"
	r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), consumertest.NewNop())
	require.NoError(t, err)
	host := statusHost{componenttest.NewNopHost(), make(chan *componentstatus.Event, 1)}
	require.NoError(t, r.Start(t.Context(), host))
	require.NoError(t, r.listener.Close())
	assert.Equal(t, componentstatus.StatusFatalError, (<-host.events).Status())
	assert.NoError(t, r.Shutdown(t.Context()))
}

func TestShutdownWaitsForWhatIsUnderWay(t *testing.T) {
	for _, path := range []string{"/v1/track", "/webhook"} {
		cfg := createDefaultConfig().(*Config)
		cfg.NetAddr.Endpoint = "localhost:0"
		cfg.Webhook.GetOrInsertDefault()
		sink := new(consumertest.MetricsSink)
		entered, leave := make(chan struct{}), make(chan struct{})
		tr := &testReceiver{t: t, sink: sink}
		r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), consumerFunc(func(ctx context.Context, md pmetric.Metrics) error {
			close(entered)
			<-leave
			return sink.ConsumeMetrics(ctx, md)
		}))
		require.NoError(t, err)
		r.webhookLimit = 10 * time.Millisecond // so that a webhook is answered while its delivery goes on
		require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
		tr.segmentReceiver, tr.url = r, "http://"+r.listener.Addr().String()

		answered := make(chan answer, 1)
		go func() { answered <- tr.post(path, `{"type":"track","event":"e"}`) }()
		<-entered
		if path == "/webhook" {
			assert.Equal(t, http.StatusServiceUnavailable, (<-answered).status)
		}
		down := make(chan error, 1)
		go func() { down <- r.Shutdown(context.WithoutCancel(t.Context())) }()
		require.Never(t, func() bool { return len(down) > 0 }, 50*time.Millisecond, 10*time.Millisecond)
		close(leave)
		require.NoError(t, <-down)
		assert.Equal(t, []string{"e"}, tr.names())
		if path == "/v1/track" {
			(<-answered).assertSuccess(t)
		}
	}
}

func TestShutdownGivesUpWithItsContext(t *testing.T) {
	tr := startReceiver(t)
	entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	tr.consume(func(context.Context, pmetric.Metrics) error {
		close(entered)
		<-leave
		return nil
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tr.url+"/v1/track", strings.NewReader(`{"event":"e"}`))
	require.NoError(t, err)
	go func() {
		defer close(left)
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, tr.Shutdown(ctx), context.Canceled)
	<-left
	close(leave)
	assert.Eventually(t, func() bool { return len(tr.names()) == 1 }, 5*time.Second, 10*time.Millisecond)
}

// TestBuffersThatGrewAreGivenUp: one large request must not cost its memory for ever.
func TestBuffersThatGrewAreGivenUp(t *testing.T) {
	r := newTestReceiver(t, consumertest.NewNop())
	large := r.newRequest()
	large.buf = make([]byte, 1000, 2<<20)
	many := r.newRequest()
	many.decoder.messages = make([]message, 0, 10_000)
	for _, q := range []*request{large, many} {
		r.recycle(q)
		for range 10 {
			assert.NotSame(t, q, r.requests.Get())
		}
	}
}

// TestTheTraceOfTheClientGoesOn sends the header of a trace to a receiver that makes no traces itself, which is the
// collector's default, and to one that does.
func TestTheTraceOfTheClientGoesOn(t *testing.T) {
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	tracing := componenttest.NewTelemetry()
	defer func() { require.NoError(t, tracing.Shutdown(context.WithoutCancel(t.Context()))) }()
	for name, set := range map[string]component.TelemetrySettings{
		"default": componenttest.NewNopTelemetrySettings(),
		"traces":  tracing.NewTelemetrySettings(),
	} {
		t.Run(name, func(t *testing.T) {
			if name == "traces" {
				defer otel.SetTextMapPropagator(otel.GetTextMapPropagator())
				otel.SetTextMapPropagator(propagation.TraceContext{}) // as the collector does
			}
			seen := make(chan trace.SpanContext, 1)
			cfg := createDefaultConfig().(*Config)
			cfg.NetAddr.Endpoint = "localhost:0"
			settings := receivertest.NewNopSettings(metadata.Type)
			settings.TelemetrySettings = set
			r, err := newReceiver(cfg, settings, consumerFunc(func(ctx context.Context, _ pmetric.Metrics) error {
				seen <- trace.SpanContextFromContext(ctx)
				return nil
			}))
			require.NoError(t, err)
			require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
			defer func() { require.NoError(t, r.Shutdown(context.WithoutCancel(t.Context()))) }()
			tr := &testReceiver{segmentReceiver: r, t: t, url: "http://" + r.listener.Addr().String()}
			tr.post("/v1/track", `{"event":"e"}`, "Traceparent", "00-"+traceID+"-00f067aa0ba902b7-01").assertSuccess(t)
			assert.Equal(t, traceID, (<-seen).TraceID().String())
			tr.post("/v1/track", `{"event":"e"}`).assertSuccess(t)
			assert.NotEqual(t, traceID, (<-seen).TraceID().String())
		})
	}
}

func TestOccasionally(t *testing.T) {
	var o occasionally
	assert.True(t, o.due(testReceived))
	assert.False(t, o.due(testReceived))
	assert.False(t, o.due(testReceived.Add(9*time.Second)))
	assert.True(t, o.due(testReceived.Add(10*time.Second)))
	assert.False(t, o.due(testReceived.Add(10*time.Second)))
}

// consumerFunc is a consumer.Metrics.
type consumerFunc func(ctx context.Context, md pmetric.Metrics) error

func (consumerFunc) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (f consumerFunc) ConsumeMetrics(ctx context.Context, md pmetric.Metrics) error {
	return f(ctx, md)
}

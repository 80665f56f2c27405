// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
)

// TestConsumeContract holds the exporter to the collector's contract: what the service refuses for good is not sent
// again, and everything else is until it is taken.
//
// The check sends an unnamed, empty histogram a call, and wants a post for each. So this test's factory names the
// histogram and gives it a value, and lets time pass after each call until nothing is left to post.
func TestConsumeContract(t *testing.T) {
	service := &contractService{}
	server := httptest.NewServer(service)
	defer server.Close()
	clock := &testClock{}
	clock.set(noon)

	factory := exporter.NewFactory(metadata.Type, createDefaultConfig, exporter.WithMetrics(
		func(ctx context.Context, set exporter.Settings, cfg component.Config) (exporter.Metrics, error) {
			exp, err := newExporter(cfg.(*Config), set)
			if err != nil {
				return nil, err
			}
			exp.now = clock.now
			consume := func(ctx context.Context, md pmetric.Metrics) error {
				metric := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
				metric.SetName("contract")
				metric.Histogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
				metric.Histogram().DataPoints().At(0).SetCount(1)
				metric.Histogram().DataPoints().At(0).SetSum(1)
				if err := exp.consume(ctx, md); err != nil {
					return err
				}
				for exp.journal.count() > 0 {
					clock.set(clock.now().Add(time.Second))
					exp.flusher.step(ctx, clock.now())
				}
				return nil
			}
			return exporterhelper.NewMetrics(ctx, set, cfg, consume, exporterhelper.WithStart(exp.prepare), exporterhelper.WithShutdown(
				func(context.Context) error {
					exp.flusher.courier.client.CloseIdleConnections()
					exp.telemetry.Shutdown()
					return nil
				}))
		}, metadata.MetricsStability))

	cfg := createDefaultConfig().(*Config)
	cfg.Endpoint, cfg.Email, cfg.Token = server.URL, testEmail, testToken
	cfg.SourceAttribute = "test_id"
	require.NoError(t, cfg.Validate())
	exportertest.CheckConsumeContract(exportertest.CheckConsumeContractParams{
		T:                    t,
		NumberOfTestElements: 50,
		Signal:               pipeline.SignalMetrics,
		ExporterFactory:      factory,
		ExporterConfig:       cfg,
		ReceiverFactory:      service.factory(),
	})
}

// contractService is a service that asks the contract's consumer for the answer to each post.
type contractService struct {
	nopComponent
	next consumer.Metrics
}

func (s *contractService) factory() receiver.Factory {
	return receiver.NewFactory(component.MustNewType("contract"), func() component.Config { return nil }, receiver.WithMetrics(
		func(_ context.Context, _ receiver.Settings, _ component.Config, next consumer.Metrics) (receiver.Metrics, error) {
			s.next = next
			return s, nil
		}, component.StabilityLevelAlpha))
}

var sourceOfMeasurement = regexp.MustCompile(`"source":"([^"]*)"`)

func (s *contractService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	md := pmetric.NewMetrics()
	metrics := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
	for _, match := range sourceOfMeasurement.FindAllSubmatch(body, -1) {
		metrics.AppendEmpty().SetEmptyHistogram().DataPoints().AppendEmpty().Attributes().PutStr("test_id", string(match[1]))
	}
	switch err := s.next.ConsumeMetrics(r.Context(), md); {
	case err == nil:
		w.WriteHeader(http.StatusOK)
	case consumererror.IsPermanent(err):
		w.WriteHeader(http.StatusBadRequest)
		source := sourceOfMeasurement.FindSubmatch(body)[1]
		_, _ = fmt.Fprintf(w, `{"errors":{"params":{"source":["'%s' is not a valid source name"]}}}`, source)
	default:
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// The factory's exporter starts and stops more than once in a process, as collectors do when they reload.
func TestFactoryTwice(t *testing.T) {
	cfg := validConfig()
	for range 2 {
		exp, err := NewFactory().CreateMetrics(t.Context(), exportertest.NewNopSettings(metadata.Type), cfg)
		require.NoError(t, err)
		require.NoError(t, exp.Start(t.Context(), componenttest.NewNopHost()))
		require.NoError(t, exp.Shutdown(t.Context()))
	}
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

// outcome says what became of a message.
type outcome uint8

const (
	outcomeAccepted outcome = iota
	outcomeIgnored
	outcomeDisabled
	outcomeDuplicate
	outcomePipeline
	// From here on it is what is wrong with the message.
	outcomeInvalidJSON
	outcomeInvalidMessage
	outcomeTooLarge
	outcomeUnknownType
	outcomeMissingEvent
	outcomeInvalidValue
	outcomeForeignKey
	outcomes
)

var outcomeNames = [outcomes]string{
	"accepted", "ignored", "disabled", "duplicate", "refused_by_pipeline", "invalid_json", "invalid_message",
	"too_large", "unknown_type", "missing_event", "invalid_value", "foreign_write_key",
}

// tally counts what became of the messages of one request.
type tally struct {
	counts [len(calls)][outcomes]int64
	wrong  int // how many of them were not taken for something that is wrong with them
	first  problem
}

// problem is what is wrong with a message.
type problem struct {
	message     int // its place in the body
	outcome     outcome
	field, text string
}

// add counts a message.
func (t *tally) add(typ callType, o outcome) { t.counts[typ][o]++ }

// addWrong counts a message that something is wrong with.
func (t *tally) addWrong(typ callType, p problem) {
	t.add(typ, p.outcome)
	if t.wrong++; t.wrong == 1 || p.message < t.first.message {
		t.first = p
	}
}

// telemetry counts what metadata.yaml describes. Each option is made once, so that counting allocates nothing.
type telemetry struct {
	builder  *metadata.TelemetryBuilder
	messages [len(calls)][outcomes][]metric.AddOption
	statuses map[int][]metric.AddOption
}

func newTelemetry(set component.TelemetrySettings) (*telemetry, error) {
	builder, err := metadata.NewTelemetryBuilder(set)
	if err != nil {
		return nil, err
	}
	t := &telemetry{builder: builder, statuses: make(map[int][]metric.AddOption)}
	for typ, c := range calls {
		for o, outcomeName := range outcomeNames {
			t.messages[typ][o] = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(
				attribute.String("type", c.name), attribute.String("outcome", outcomeName)))}
		}
	}
	for _, status := range []int{
		http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusTooManyRequests, http.StatusServiceUnavailable,
	} {
		t.statuses[status] = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attribute.Int("status", status)))}
	}
	return t, nil
}

// countMessages adds what became of the messages of a request to the counter.
func (t *telemetry) countMessages(ctx context.Context, messages *tally) {
	for typ := range messages.counts {
		for o, n := range messages.counts[typ] {
			if n > 0 {
				t.builder.ReceiverSegmentMessages.Add(ctx, n, t.messages[typ][o]...)
			}
		}
	}
}

func (t *telemetry) countRequest(ctx context.Context, status int) {
	option, ok := t.statuses[status]
	if !ok {
		option = []metric.AddOption{metric.WithAttributes(attribute.Int("status", status))}
	}
	t.builder.ReceiverSegmentRequests.Add(ctx, 1, option...)
}

// traceContext adds the trace that a client's header names to ctx, so that the pipeline goes on with it. confighttp
// does that only where the collector makes traces of its own.
func traceContext(ctx context.Context, header http.Header) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(header))
}

// trouble is something that is logged now and then only, however often it happens.
type trouble uint8

const (
	troubleMessage trouble = iota
	troubleBody
	troubleKey
	troublePipeline
	troubleMemory
	troubles
)

// occasionally is true once every ten seconds at most.
type occasionally struct {
	last atomic.Int64
}

func (o *occasionally) due(now time.Time) bool {
	last := o.last.Load()
	return now.UnixNano()-last >= int64(10*time.Second) && o.last.CompareAndSwap(last, now.UnixNano())
}

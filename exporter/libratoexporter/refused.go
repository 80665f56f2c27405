// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// reason says why a point or a measurement was refused; it is the value of the metrics' attribute "reason".
type reason = librato.Reason

// The reasons for which the exporter itself refuses; those of the service are librato's.
const (
	reasonInvalidValue              = librato.ReasonInvalidValue // NaN, infinite, a count that is none
	reasonTooOld                    = librato.ReasonTooOld       // older than max_age, or no second of its period is left
	reasonInTheFuture               = librato.ReasonInTheFuture  // further ahead than max_future
	reasonTypeConflict              = librato.ReasonTypeConflict // the service knows the metric as another type
	reasonOutOfRange         reason = "out_of_range"             // past 1e126, or the sum would be
	reasonUnsupportedType    reason = "unsupported_type"         // the service has no fit for it
	reasonAttributeCollision reason = "attribute_collision"      // readings of several origins would become one stream
	reasonEmptyName          reason = "empty_name"
	reasonTooManyStreams     reason = "too_many_streams" // a new stream beyond max_streams
	reasonSecondTaken        reason = "second_taken"     // its second was sent already, and does not add up
	reasonKindConflict       reason = "kind_conflict"    // a stream that adds up got a point that does not, or the reverse
	reasonUndecodable        reason = "undecodable"      // an entry in storage
	reasonShutdown           reason = "shutdown"         // not sent in the last flush, and no storage to keep it
)

// sampleEvery is how often one reason is logged.
const sampleEvery = time.Minute

// refusedPoint is a data point that is refused on arrival. It is reported when its call is taken: a call that fails
// comes again.
type refusedPoint struct {
	why          reason
	name, source string
	detail       string // what to do about it; may be empty
	values       uint64 // that it stands for: 1, but for histograms and summaries
}

// refusals counts what is dropped, by reason, and logs the first of each reason once a minute.
type refusals struct {
	logger    *zap.Logger
	telemetry *metadata.TelemetryBuilder
}

func newRefusals(logger *zap.Logger, telemetry *metadata.TelemetryBuilder) *refusals {
	return &refusals{
		logger: logger.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
			return zapcore.NewSamplerWithOptions(core, sampleEvery, 1, 0)
		})),
		telemetry: telemetry,
	}
}

// point reports a data point that is refused.
func (r *refusals) point(p *refusedPoint) {
	r.points(p.why, p.values)
	// The reason is part of the message, since that is what is sampled by.
	r.logger.Warn("refused a data point: "+string(p.why),
		zap.String("metric", p.name), zap.String("source", p.source), optional("detail", p.detail))
}

// points counts what was refused by the values that it stands for. A count that Librato could not take counts as one.
func (r *refusals) points(why reason, values uint64) {
	if values > librato.MaxCount {
		values = 1
	}
	r.telemetry.ExporterLibratoPointsRefused.Add(context.Background(), int64(values), withReason(why))
}

// collision says that readings of another origin are refused, and what tells the two apart.
func (r *refusals) collision(st *stream, apart string) {
	// The stream is part of the message, since that is what is sampled by.
	r.logger.Warn("two origins would become one stream, the second is refused: "+st.key,
		zap.String("metric", st.name), zap.String("source", st.sourceText()), zap.String("told_apart_by", apart),
		zap.String("detail", "make what tells them apart part of the source (source_fallbacks), of the tags, or of the name"))
}

// measurement reports a measurement that will not be sent, or not again, with the points that it holds. words are
// the service's own, and may be empty.
func (r *refusals) measurement(why reason, inc *increment, words string) {
	r.lost(why, inc.value.Count)
	r.logger.Warn("refused a measurement: "+string(why),
		zap.String("metric", inc.stream.name), zap.String("source", inc.stream.sourceText()), zap.Int64("time", inc.second),
		zap.Uint64("points", inc.value.Count), optional("answer", words))
}

// unnamed reports measurements that the service counts as failed without saying which they are.
func (r *refusals) unnamed(n int, words string) {
	if n > 0 {
		r.telemetry.ExporterLibratoMeasurementsRefused.Add(context.Background(), int64(n), withReason(librato.ReasonRejected))
		r.logger.Warn("Librato refused measurements without naming them", zap.Int("measurements", n), optional("answer", words))
	}
}

// lost counts a measurement with its points.
func (r *refusals) lost(why reason, points uint64) {
	r.telemetry.ExporterLibratoMeasurementsRefused.Add(context.Background(), 1, withReason(why))
	r.points(why, points)
}

// duplicates counts points whose message id was known.
func (r *refusals) duplicates(n int) {
	if n > 0 {
		r.telemetry.ExporterLibratoPointsDuplicate.Add(context.Background(), int64(n))
	}
}

// evicted counts message ids that were evicted before the window ended.
func (r *refusals) evicted(n int) {
	if n > 0 {
		r.telemetry.ExporterLibratoIdsEvicted.Add(context.Background(), int64(n))
		r.logger.Warn("message ids were evicted before the window ended: raise deduplication.max_entries, or shorten deduplication.window")
	}
}

func withReason(why reason) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String("reason", string(why))))
}

func optional(key, value string) zap.Field {
	if value == "" {
		return zap.Skip()
	}
	return zap.String(key, value)
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"math"
	"regexp"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/zap"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// What the segment receiver and this exporter agree on, besides the attribute that source_attribute names.
const (
	// segmentScope is the scope of the receiver's data points: gauges that add up.
	segmentScope = "github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver"
	// messageIDAttribute is the exemplar attribute that holds the hash of write key and message id, an int.
	messageIDAttribute = "segment.message_id_hash"
)

// converter turns data points into samples. It is safe for concurrent use.
type converter struct {
	api             *librato.API
	sourceAttribute string
	sourceFallbacks []string
	defaultSource   string
	chosen          *[]string // data point attributes that become part of the name, or tags; nil: all
	resourceTags    []string
	fixedTags       []pair
	sums            *regexp.Regexp // names of metrics that add up; nil: none

	telemetry   *metadata.TelemetryBuilder
	logger      *zap.Logger
	tagsDropped sync.Once // the log line
	scratches   sync.Pool
	origins     *origins
}

// newConverter returns a converter for cfg, which is valid.
func newConverter(cfg *Config, telemetry *metadata.TelemetryBuilder, logger *zap.Logger) *converter {
	c := &converter{
		api:             cfg.api(),
		sourceAttribute: cfg.SourceAttribute,
		sourceFallbacks: cfg.SourceFallbacks,
		defaultSource:   cfg.DefaultSource,
		chosen:          cfg.NameAttributes,
		resourceTags:    cfg.Tags.ResourceAttributes,
		sums:            compileGlobs(cfg.SumMetrics),
		telemetry:       telemetry,
		logger:          logger,
		origins:         newOrigins(),
	}
	if c.api.Tagged {
		c.chosen = cfg.Tags.Attributes
		for name, value := range cfg.Tags.Fixed {
			c.fixedTags = append(c.fixedTags, pair{name, value})
		}
	}
	c.scratches.New = func() any {
		return &scratch{texts: map[string]string{}, slots: map[slot]attributeSet{}}
	}
	return c
}

// metricContext is what the data points of one metric share.
type metricContext struct {
	now      int64 // Unix seconds: the time of points without one
	resource pcommon.Map
	source   string // of the resource, for points without one
	hash     uint64 // of the resource, see origins; 0: not asked for yet
	event    bool   // from the segment receiver
	name     string
	kind     kind
	apart    bool     // points of different attributes must not meet in one stream
	scratch  *scratch // nil where none is needed
	refused  []refusedPoint
}

// refuse notes what no measurement can stand for.
func (m *metricContext) refuse(why reason, name, source, detail string, values uint64) {
	m.refused = append(m.refused, refusedPoint{why, name, source, detail, values})
}

// appendSamples appends the data points of md to dst and returns it, and what no measurement can stand for. Both share
// md's memory. Points without a recorded value are left out.
func (c *converter) appendSamples(dst []sample, md pmetric.Metrics, now time.Time) ([]sample, []refusedPoint) {
	m := metricContext{now: now.Unix()}
	resources := md.ResourceMetrics()
	for i := range resources.Len() {
		resource := resources.At(i)
		m.resource = resource.Resource().Attributes()
		m.source, m.hash = c.resourceSource(m.resource), 0
		scopes := resource.ScopeMetrics()
		for j := range scopes.Len() {
			scope := scopes.At(j)
			m.event = scope.Scope().Name() == segmentScope
			metrics := scope.Metrics()
			for k := range metrics.Len() {
				dst = c.appendMetric(dst, &m, metrics.At(k))
			}
		}
	}
	if m.scratch != nil {
		c.release(m.scratch)
	}
	return dst, m.refused
}

func (c *converter) appendMetric(dst []sample, m *metricContext, metric pmetric.Metric) []sample {
	m.name = metric.Name()
	kind, points, why, detail := c.classify(m, metric)
	if points == 0 {
		return dst
	}
	if m.name == "" {
		why, detail = reasonEmptyName, "give the metric a name"
	}
	if why != "" {
		m.refuse(why, m.name, m.source, detail, values(metric))
		return dst
	}
	m.kind = kind
	m.apart = kind != kindAdding && points > 1
	if m.scratch == nil && (c.api.Tagged || kind != kindAdding) {
		m.scratch = c.scratches.Get().(*scratch)
	}
	first := len(dst)
	switch metric.Type() {
	case pmetric.MetricTypeGauge:
		dst = c.appendNumbers(dst, m, metric.Gauge().DataPoints())
	case pmetric.MetricTypeSum:
		dst = c.appendNumbers(dst, m, metric.Sum().DataPoints())
	case pmetric.MetricTypeHistogram:
		dst = appendHistograms(dst, c, m, metric.Histogram().DataPoints())
	case pmetric.MetricTypeExponentialHistogram:
		dst = appendHistograms(dst, c, m, metric.ExponentialHistogram().DataPoints())
	case pmetric.MetricTypeSummary:
		dst = c.appendSummaries(dst, m, metric.Summary().DataPoints())
	case pmetric.MetricTypeEmpty:
	}
	if m.apart {
		dst = c.dropCollisions(dst, first, m)
	}
	return dst
}

// compileGlobs returns what matches the whole of a name that one of the globs describes; nil for no globs.
func compileGlobs(globs []string) *regexp.Regexp {
	if len(globs) == 0 {
		return nil
	}
	alternatives := make([]string, len(globs))
	for i, glob := range globs {
		alternatives[i] = strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(glob))
	}
	return regexp.MustCompile("(?s)^(?:" + strings.Join(alternatives, "|") + ")$")
}

const (
	sendDeltas = "put the cumulativetodelta processor before this exporter"
	noTemporal = "its aggregation temporality is not specified; the sender must say delta or cumulative"
)

// classify says what the points of a metric are to Librato and how many there are, or why they have no place in it:
//
//	gauge                          averages; from the segment receiver, or in sum_metrics: adds up
//	sum, delta                     adds up
//	sum, cumulative, monotonic     counter; in sum_metrics or the measurements API: refused
//	sum, cumulative                a level that goes up and down: as a gauge
//	(exponential) histogram, delta averages; in sum_metrics: adds up
//	(exponential) histogram, cumulative: refused, as a counter holds no more than one number
//	summary                        averages; in sum_metrics: adds up
func (c *converter) classify(m *metricContext, metric pmetric.Metric) (_ kind, points int, why reason, detail string) {
	as := kindAveraging
	sums := c.sums != nil && c.sums.MatchString(m.name)
	if m.event || sums {
		as = kindAdding
	}
	var temporality pmetric.AggregationTemporality
	switch metric.Type() {
	case pmetric.MetricTypeGauge:
		return as, metric.Gauge().DataPoints().Len(), "", ""
	case pmetric.MetricTypeSummary:
		return as, metric.Summary().DataPoints().Len(), "", ""
	case pmetric.MetricTypeSum:
		sum := metric.Sum()
		points = sum.DataPoints().Len()
		temporality = sum.AggregationTemporality()
		switch {
		case temporality == pmetric.AggregationTemporalityDelta:
			return kindAdding, points, "", ""
		case temporality == pmetric.AggregationTemporalityUnspecified:
			return 0, points, reasonUnsupportedType, noTemporal
		case !sum.IsMonotonic():
			return as, points, "", ""
		case !c.api.Counters:
			return 0, points, reasonUnsupportedType, "the measurements API has no counters for cumulative sums: " + sendDeltas
		case as == kindAdding:
			return 0, points, reasonUnsupportedType, "a cumulative sum does not add up: " + sendDeltas
		default:
			return kindCounter, points, "", ""
		}
	case pmetric.MetricTypeHistogram:
		points = metric.Histogram().DataPoints().Len()
		temporality = metric.Histogram().AggregationTemporality()
	case pmetric.MetricTypeExponentialHistogram:
		points = metric.ExponentialHistogram().DataPoints().Len()
		temporality = metric.ExponentialHistogram().AggregationTemporality()
	case pmetric.MetricTypeEmpty:
		return 0, 0, "", ""
	}
	switch temporality {
	case pmetric.AggregationTemporalityDelta:
		return as, points, "", ""
	case pmetric.AggregationTemporalityCumulative:
		return 0, points, reasonUnsupportedType, "Librato has no cumulative histograms: " + sendDeltas
	default:
		return 0, points, reasonUnsupportedType, noTemporal
	}
}

// values returns how many values the points of a metric stand for.
func values(metric pmetric.Metric) (n uint64) {
	switch metric.Type() {
	case pmetric.MetricTypeGauge:
		n = uint64(metric.Gauge().DataPoints().Len()) //nolint:gosec // a length
	case pmetric.MetricTypeSum:
		n = uint64(metric.Sum().DataPoints().Len()) //nolint:gosec // a length
	case pmetric.MetricTypeHistogram:
		for _, p := range metric.Histogram().DataPoints().All() {
			n += p.Count()
		}
	case pmetric.MetricTypeExponentialHistogram:
		for _, p := range metric.ExponentialHistogram().DataPoints().All() {
			n += p.Count()
		}
	case pmetric.MetricTypeSummary:
		for _, p := range metric.Summary().DataPoints().All() {
			n += p.Count()
		}
	case pmetric.MetricTypeEmpty:
	}
	return n
}

func (c *converter) appendNumbers(dst []sample, m *metricContext, points pmetric.NumberDataPointSlice) []sample {
	for i := range points.Len() {
		p := points.At(i)
		if p.Flags().NoRecordedValue() {
			continue
		}
		var value float64
		switch p.ValueType() {
		case pmetric.NumberDataPointValueTypeInt:
			value = float64(p.IntValue())
		case pmetric.NumberDataPointValueTypeDouble:
			value = p.DoubleValue()
		case pmetric.NumberDataPointValueTypeEmpty:
			value = math.NaN()
		}
		var id uint64
		if m.event {
			id = messageID(p.Exemplars())
		}
		dst = c.appendSample(dst, m, p.Attributes(), p.Timestamp(), librato.SummaryOf(value), id)
	}
	return dst
}

// messageID returns the hash that the receiver left with a data point, 0 if there is none.
func messageID(exemplars pmetric.ExemplarSlice) uint64 {
	for i := range exemplars.Len() {
		if id, ok := exemplars.At(i).FilteredAttributes().Get(messageIDAttribute); ok && id.Type() == pcommon.ValueTypeInt {
			return uint64(id.Int()) //nolint:gosec // the same 64 bits
		}
	}
	return 0
}

// histogramPoint is what the two kinds of histograms have in common; Librato takes no buckets.
type histogramPoint interface {
	Attributes() pcommon.Map
	Timestamp() pcommon.Timestamp
	Flags() pmetric.DataPointFlags
	Count() uint64
	HasSum() bool
	Sum() float64
	HasMin() bool
	Min() float64
	HasMax() bool
	Max() float64
	Exemplars() pmetric.ExemplarSlice
}

func appendHistograms[P histogramPoint](dst []sample, c *converter, m *metricContext, points interface {
	Len() int
	At(i int) P
},
) []sample {
	for i := range points.Len() {
		p := points.At(i)
		if p.Flags().NoRecordedValue() || p.Count() == 0 {
			continue
		}
		if !p.HasSum() {
			m.refuse(reasonUnsupportedType, m.name, c.source(m, p.Attributes()),
				"a histogram without a sum has no form in Librato: let the sender record it", p.Count())
			continue
		}
		value := librato.Summary{Count: p.Count(), Sum: p.Sum(), Min: math.NaN(), Max: math.NaN()}
		if p.HasMin() {
			value.Min = p.Min()
		}
		if p.HasMax() {
			value.Max = p.Max()
		}
		var id uint64
		if m.event {
			id = messageID(p.Exemplars())
		}
		dst = c.appendSample(dst, m, p.Attributes(), p.Timestamp(), value, id)
	}
	return dst
}

func (c *converter) appendSummaries(dst []sample, m *metricContext, points pmetric.SummaryDataPointSlice) []sample {
	for i := range points.Len() {
		p := points.At(i)
		if p.Flags().NoRecordedValue() || p.Count() == 0 {
			continue
		}
		value := librato.Summary{Count: p.Count(), Sum: p.Sum(), Min: math.NaN(), Max: math.NaN()}
		quantiles := p.QuantileValues()
		for j := range quantiles.Len() {
			switch q := quantiles.At(j); q.Quantile() {
			case 0:
				value.Min = q.Value()
			case 1:
				value.Max = q.Value()
			}
		}
		dst = c.appendSample(dst, m, p.Attributes(), p.Timestamp(), value, 0)
	}
	return dst
}

// appendSample is where all data points come together: it checks the numbers, finds out which stream the point
// belongs to and appends it.
func (c *converter) appendSample(
	dst []sample, m *metricContext, attributes pcommon.Map, timestamp pcommon.Timestamp, value librato.Summary, id uint64,
) []sample {
	source := c.source(m, attributes)
	if why, detail := check(&value); why != "" {
		m.refuse(why, m.name, source, detail, value.Count)
		return dst
	}
	s := sample{name: m.name, source: source, kind: m.kind, event: m.event, time: m.now, value: value, id: id}
	if timestamp != 0 {
		s.time = int64(timestamp / pcommon.Timestamp(time.Second)) //nolint:gosec // below 2^35
	}
	if c.api.Tagged {
		s.source = c.tagSet(m, attributes, source)
	} else if m.kind != kindAdding {
		s.name = c.longName(m, attributes)
	}
	if m.kind != kindAdding {
		s.origin = c.originOf(m, &s, attributes)
	}
	if m.apart {
		m.scratch.sets = append(m.scratch.sets, s.origin.attributes)
	}
	return append(dst, s)
}

// check says why the service would refuse a value, and with it all that is in the same request. A minimum or
// maximum that is NaN is not known and not sent.
func check(v *librato.Summary) (why reason, detail string) {
	switch {
	case math.Abs(v.Sum) <= librato.MaxValue && !(math.Abs(v.Min) > librato.MaxValue) &&
		!(math.Abs(v.Max) > librato.MaxValue) && v.Count <= librato.MaxCount:
		return "", ""
	case math.IsNaN(v.Sum) || math.IsInf(v.Sum, 0) || math.IsInf(v.Min, 0) || math.IsInf(v.Max, 0):
		return reasonInvalidValue, "Librato takes finite numbers only"
	default:
		return reasonOutOfRange, "Librato takes values up to 1e126 and counts up to 2^53"
	}
}

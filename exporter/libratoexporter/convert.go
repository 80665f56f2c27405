// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
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

const (
	// maxTexts bounds the names and tag sets that a scratch remembers.
	maxTexts = 4096
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

	refuse      func(why reason, name, source, detail string)
	telemetry   *metadata.TelemetryBuilder
	logger      *zap.Logger
	tagsDropped sync.Once // the log line
	scratches   sync.Pool
}

// scratch is what one call works with, so that names and tag sets seen before cost no allocation.
// Between calls it holds on to no pdata.
type scratch struct {
	pairs []pair
	text  []byte
	texts map[string]string // copies of what text held before
	sets  []uint64          // attributes of the samples of one metric, hashed
	slots map[slot]attributeSet
}

// slot is a stream's second: where values of different attributes must not meet.
type slot struct {
	name, source string
	time         int64
}

// attributeSet is what the first sample of a slot has for attributes, hashed, and whether another has others.
type attributeSet struct {
	hash     uint64
	collides bool
}

// newConverter returns a converter for cfg, which is valid. It reports each point that it refuses to refuse, with what to
// do about it.
func newConverter(
	cfg *Config, refuse func(why reason, name, source, detail string), telemetry *metadata.TelemetryBuilder, logger *zap.Logger,
) *converter {
	c := &converter{
		api:             cfg.api(),
		sourceAttribute: cfg.SourceAttribute,
		sourceFallbacks: cfg.SourceFallbacks,
		defaultSource:   cfg.DefaultSource,
		chosen:          cfg.NameAttributes,
		resourceTags:    cfg.Tags.ResourceAttributes,
		sums:            compileGlobs(cfg.SumMetrics),
		refuse:          refuse,
		telemetry:       telemetry,
		logger:          logger,
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

// metricContext is what the data points of one metric share.
type metricContext struct {
	now      int64 // Unix seconds: the time of points without one
	resource pcommon.Map
	source   string // of the resource, for points without one
	event    bool   // from the segment receiver
	name     string
	kind     kind
	apart    bool     // points of different attributes must not meet in one stream
	scratch  *scratch // nil where none is needed
}

// appendSamples appends the data points of md to dst and returns it. Samples share md's memory. Points that no
// measurement can stand for are reported as refused; those without a recorded value are left out.
func (c *converter) appendSamples(dst []sample, md pmetric.Metrics, now time.Time) []sample {
	m := metricContext{now: now.Unix()}
	resources := md.ResourceMetrics()
	for i := range resources.Len() {
		resource := resources.At(i)
		m.resource = resource.Resource().Attributes()
		m.source = c.resourceSource(m.resource)
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
	return dst
}

func (c *converter) appendMetric(dst []sample, m *metricContext, metric pmetric.Metric) []sample {
	m.name = metric.Name()
	kind, points, why, detail := c.classify(m, metric)
	if m.name == "" {
		why, detail = reasonEmptyName, "give the metric a name"
	}
	if why != "" {
		for range points {
			c.refuse(why, m.name, m.source, detail)
		}
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
			c.refuse(reasonUnsupportedType, m.name, c.source(m, p.Attributes()),
				"a histogram without a sum has no form in Librato: let the sender record it")
			continue
		}
		value := librato.Summary{Count: p.Count(), Sum: p.Sum(), Min: math.NaN(), Max: math.NaN()}
		if p.HasMin() {
			value.Min = p.Min()
		}
		if p.HasMax() {
			value.Max = p.Max()
		}
		dst = c.appendSample(dst, m, p.Attributes(), p.Timestamp(), value, 0)
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
		c.refuse(why, m.name, source, detail)
		return dst
	}
	dst = append(dst, sample{})
	s := &dst[len(dst)-1] // field by field: 2 of 26 ns go to a composite literal's copy
	s.name, s.source, s.kind, s.event, s.time, s.id = m.name, source, m.kind, m.event, m.now, id
	s.value = value
	if timestamp != 0 {
		s.time = int64(timestamp / pcommon.Timestamp(time.Second)) //nolint:gosec // below 2^35
	}
	if c.api.Tagged {
		s.source = c.tagSet(m, attributes, source)
	} else if m.kind != kindAdding {
		s.name = c.longName(m, attributes)
	}
	if m.apart {
		m.scratch.sets = append(m.scratch.sets, c.hash(attributes))
	}
	return dst
}

// check says why the service would refuse a value, and with it all that is in the same request. A minimum or
// maximum that is NaN is not known and not sent.
func check(v *librato.Summary) (why reason, detail string) {
	switch {
	case math.Abs(v.Sum) <= librato.MaxValue && !(math.Abs(v.Min) > librato.MaxValue) && !(math.Abs(v.Max) > librato.MaxValue) && v.Count <= librato.MaxCount:
		return "", ""
	case math.IsNaN(v.Sum) || math.IsInf(v.Sum, 0) || math.IsInf(v.Min, 0) || math.IsInf(v.Max, 0):
		return reasonInvalidValue, "Librato takes finite numbers only"
	default:
		return reasonOutOfRange, "Librato takes values up to 1e126 and counts up to 2^53"
	}
}

// source returns the source of a data point: its own, or else the one that it has from its resource.
func (c *converter) source(m *metricContext, attributes pcommon.Map) string {
	if source := get(attributes, c.sourceAttribute); source != "" {
		return source
	}
	return m.source
}

// resourceSource returns the source of a resource's points that have none themselves; empty if there is none.
func (c *converter) resourceSource(resource pcommon.Map) string {
	if source := get(resource, c.sourceAttribute); source != "" {
		return source
	}
	for _, key := range c.sourceFallbacks {
		if source := get(resource, key); source != "" {
			return source
		}
	}
	return c.defaultSource
}

// get returns an attribute as text; empty if there is none, or an empty one.
func get(attributes pcommon.Map, key string) string {
	value, ok := attributes.Get(key)
	if !ok {
		return ""
	}
	return text(value)
}

// text spares strings the copy that AsString makes of other types.
func text(value pcommon.Value) string {
	if value.Type() == pcommon.ValueTypeStr {
		return value.Str()
	}
	return value.AsString()
}

// appendChosen appends to pairs the chosen attributes of a data point, other than the source and empty ones.
func (c *converter) appendChosen(pairs []pair, attributes pcommon.Map) []pair {
	for key, value := range attributes.All() {
		if key == c.sourceAttribute || c.chosen != nil && !slices.Contains(*c.chosen, key) {
			continue
		}
		if v := text(value); v != "" {
			pairs = append(pairs, pair{key, v})
		}
	}
	return pairs
}

// longName returns the metric's name followed by the values of the chosen attributes, sorted by key:
// "system.memory.usage" and state=used give "system.memory.usage.used".
func (c *converter) longName(m *metricContext, attributes pcommon.Map) string {
	t := m.scratch
	t.pairs = c.appendChosen(t.pairs[:0], attributes)
	if len(t.pairs) == 0 {
		return m.name
	}
	slices.SortFunc(t.pairs, func(a, b pair) int { return strings.Compare(a.key, b.key) })
	t.text = append(t.text[:0], m.name...)
	for _, p := range t.pairs {
		t.text = append(t.text, '.')
		t.text = append(t.text, p.value...)
	}
	s, _ := t.intern()
	return s
}

// tagSet returns the tags of a data point as appendTagSet writes them. Where a tag has several values, the source
// comes first, then the data point, the resource and the fixed tags.
func (c *converter) tagSet(m *metricContext, attributes pcommon.Map, source string) string {
	t := m.scratch
	t.pairs = t.pairs[:0]
	if source != "" {
		t.pairs = append(t.pairs, pair{librato.SourceTag, source})
	}
	t.pairs = c.appendChosen(t.pairs, attributes)
	for _, key := range c.resourceTags {
		if value := get(m.resource, key); value != "" {
			t.pairs = append(t.pairs, pair{key, value})
		}
	}
	t.pairs = append(t.pairs, c.fixedTags...)
	if len(t.pairs) == 0 {
		t.pairs = append(t.pairs, pair{librato.SourceTag, librato.Unassigned})
	}
	pairs, dropped := settleTags(t.pairs)
	t.text = appendTagSet(t.text[:0], pairs)
	set, seen := t.intern()
	if dropped > 0 && !seen {
		c.telemetry.ExporterLibratoTagsDropped.Add(context.Background(), int64(dropped))
		c.tagsDropped.Do(func() {
			c.logger.Warn("A measurement may carry 50 tags; the last by name are left out. Choose fewer in tags.attributes. This is said once.",
				zap.String("metric", m.name), zap.Int("left_out", dropped))
		})
	}
	return set
}

// intern returns a copy of t.text, and whether it is one made before.
func (t *scratch) intern() (s string, seen bool) {
	if s, ok := t.texts[string(t.text)]; ok {
		return s, true
	}
	if len(t.texts) >= maxTexts {
		clear(t.texts)
	}
	s = string(t.text)
	t.texts[s] = s
	return s, false
}

// hash returns the same for the same attributes in any order; the source is told apart by itself.
func (c *converter) hash(attributes pcommon.Map) uint64 {
	var sum uint64
	for key, value := range attributes.All() {
		if key != c.sourceAttribute {
			// The multiplier (of splitmix64) keeps a=b, b=a and the like apart.
			sum += (xxhash.Sum64String(key)*0x9e3779b97f4a7c15 ^ xxhash.Sum64String(text(value))) * 0xbf58476d1ce4e5b9
		}
	}
	return sum
}

// dropCollisions refuses those samples of one metric, dst[first:], that have a stream and second in common and
// differ in attributes that are not part of the name, or tags. All of them, as nothing says which one is meant.
func (c *converter) dropCollisions(dst []sample, first int, m *metricContext) []sample {
	t := m.scratch
	found := false
	for i, s := range dst[first:] {
		at := slot{s.name, s.source, s.time}
		set, taken := t.slots[at]
		switch {
		case !taken:
			t.slots[at] = attributeSet{hash: t.sets[i]}
		case set.hash != t.sets[i]:
			t.slots[at] = attributeSet{collides: true}
			found = true
		}
	}
	if found {
		kept := dst[:first]
		for _, s := range dst[first:] {
			if !t.slots[slot{s.name, s.source, s.time}].collides {
				kept = append(kept, s)
				continue
			}
			source := s.source
			if c.api.Tagged {
				source = "" // a tag set is not for people
			}
			c.refuse(reasonAttributeCollision, s.name, source,
				"points that differ in other attributes only would become one: choose more in "+c.choice())
		}
		clear(dst[len(kept):])
		dst = kept
	}
	clear(t.slots)
	t.sets = t.sets[:0]
	return dst
}

// choice names the setting that chooses attributes.
func (c *converter) choice() string {
	if c.api.Tagged {
		return "tags.attributes"
	}
	return "name_attributes"
}

// release gives t back for other calls, without what it holds of pdata.
func (c *converter) release(t *scratch) {
	clear(t.pairs[:cap(t.pairs)])
	c.scratches.Put(t)
}

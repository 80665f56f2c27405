// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

// messageIDAttribute is the attribute of the exemplar that carries the hash of a message's id. Exporters know it.
const messageIDAttribute = "segment.message_id_hash"

// metricsBuilder makes data points of events: one metric for each name, one data point for each event, in their order.
type metricsBuilder struct {
	// Settings, the same for all requests.
	sourceAttribute string
	keep            []string
	metricType      MetricType
	version         string

	groups  []metricGroup
	groupOf []int32           // for each event
	named   map[string]int32  // groups by name
	strings map[string]string // what was copied out of the body, each string once
}

// metricGroup is the events of one name.
type metricGroup struct {
	name          string
	defaultSource string // empty until an event needs it: most bring their own
	count         int
	points        pmetric.NumberDataPointSlice
	histograms    pmetric.HistogramDataPointSlice // in their place with MetricTypeHistogram
}

func newMetricsBuilder(config *Config, version string) metricsBuilder {
	return metricsBuilder{
		sourceAttribute: config.SourceAttribute,
		keep:            config.Properties,
		metricType:      config.MetricType,
		version:         version,
		named:           make(map[string]int32),
		strings:         make(map[string]string),
	}
}

// build returns the events as metrics of one resource. Nothing of what it returns belongs to the builder, to the
// events or to the request's body.
func (b *metricsBuilder) build(events []event, properties []property, resource []resourceAttribute) pmetric.Metrics {
	for i := range events {
		n := b.groupNamed(events[i].name)
		b.groups[n].count++
		b.groupOf = append(b.groupOf, n)
	}

	metrics := pmetric.NewMetrics()
	rm := metrics.ResourceMetrics().AppendEmpty()
	if len(resource) > 0 {
		m := rm.Resource().Attributes()
		m.EnsureCapacity(len(resource))
		for _, a := range resource {
			m.PutStr(a.name, a.value)
		}
	}
	sm := rm.ScopeMetrics().AppendEmpty()
	sm.Scope().SetName(metadata.ScopeName)
	sm.Scope().SetVersion(b.version)
	sm.Metrics().EnsureCapacity(len(b.groups))
	for i := range b.groups {
		g := &b.groups[i]
		m := sm.Metrics().AppendEmpty()
		m.SetName(g.name)
		switch b.metricType {
		case MetricTypeHistogram:
			histogram := m.SetEmptyHistogram()
			histogram.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
			g.histograms = histogram.DataPoints()
			g.histograms.EnsureCapacity(g.count)
			continue
		case MetricTypeSum:
			sum := m.SetEmptySum()
			sum.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
			g.points = sum.DataPoints()
		case MetricTypeGauge:
			g.points = m.SetEmptyGauge().DataPoints()
		}
		g.points.EnsureCapacity(g.count)
	}
	for i := range events {
		b.add(&events[i], properties, &b.groups[b.groupOf[i]])
	}
	b.reset()
	return metrics
}

// reset forgets all but the settings: what is kept would keep the metrics alive.
func (b *metricsBuilder) reset() {
	clear(b.groups)
	b.groups, b.groupOf = b.groups[:0], b.groupOf[:0]
	if len(b.named)+len(b.strings) > 1000 { // to clear a map costs what its largest content did
		b.named, b.strings = make(map[string]int32), make(map[string]string)
	}
	clear(b.named)
	clear(b.strings)
}

// groupNamed returns the index of the group of that name, a new one if need be.
func (b *metricsBuilder) groupNamed(name []byte) int32 {
	n, ok := b.named[string(name)]
	if !ok {
		n = int32(len(b.groups)) //nolint:gosec // fewer than the bytes of a request
		b.groups = append(b.groups, metricGroup{name: string(name)})
		b.named[b.groups[n].name] = n
	}
	return n
}

// copy returns text as a string.
func (b *metricsBuilder) copy(text []byte) string {
	s, ok := b.strings[string(text)]
	if !ok {
		s = string(text)
		b.strings[s] = s
	}
	return s
}

// add appends the data point of e to the points of its name.
func (b *metricsBuilder) add(e *event, properties []property, g *metricGroup) {
	attrs, exemplars := b.appendPoint(e, g)
	own := properties[e.properties[0]:e.properties[1]]
	attrs.EnsureCapacity(1 + len(own))
	attrs.PutStr(b.sourceAttribute, b.sourceOf(e, g))
	for i := range own {
		p := &own[i]
		switch name := b.keep[p.name]; p.kind {
		case 's':
			attrs.PutStr(name, b.copy(p.text))
		case 'd':
			attrs.PutDouble(name, p.double)
		case 'i':
			attrs.PutInt(name, p.integer)
		default:
			attrs.PutBool(name, p.kind == 't')
		}
	}
	if e.forwarded != 0 {
		exemplar := exemplars.AppendEmpty()
		exemplar.SetTimestamp(pcommon.Timestamp(e.time))                             //nolint:gosec // positive, see parseTime
		exemplar.FilteredAttributes().PutInt(messageIDAttribute, int64(e.forwarded)) //nolint:gosec // the same bits
	}
}

// sourceOf returns the source of e, which is by default its name as Librato takes it.
func (b *metricsBuilder) sourceOf(e *event, g *metricGroup) string {
	if len(e.source) > 0 {
		return b.copy(e.source)
	}
	if g.defaultSource == "" {
		g.defaultSource = librato.CleanEventName(g.name)
	}
	return g.defaultSource
}

// appendPoint appends the number and time of e to the points of its name. It returns where attributes and exemplars go.
func (b *metricsBuilder) appendPoint(e *event, g *metricGroup) (pcommon.Map, pmetric.ExemplarSlice) {
	time := pcommon.Timestamp(e.time) //nolint:gosec // positive, see parseTime
	if b.metricType == MetricTypeHistogram {
		// Without buckets: what is counted, its sum and its bounds is all that Librato has.
		point := g.histograms.AppendEmpty()
		point.SetStartTimestamp(time)
		point.SetTimestamp(time)
		point.SetCount(1)
		point.SetSum(e.value)
		point.SetMin(e.value)
		point.SetMax(e.value)
		return point.Attributes(), point.Exemplars()
	}
	point := g.points.AppendEmpty()
	if b.metricType == MetricTypeSum {
		point.SetStartTimestamp(time)
	}
	point.SetTimestamp(time)
	point.SetDoubleValue(e.value)
	return point.Attributes(), point.Exemplars()
}

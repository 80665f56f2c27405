// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"strings"

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
	forwardIDs      bool
	version         string

	groups  []metricGroup
	byName  map[string]int
	groupOf []int // for each event
	text    strings.Builder
}

// metricGroup is the events of one name.
type metricGroup struct {
	name, defaultSource string
	count               int
	points              pmetric.NumberDataPointSlice
}

// build returns the events as metrics of one resource. All strings share one allocation, which lives as long as the
// metrics; nothing of what it returns belongs to the builder, to the events or to the request's body.
func (b *metricsBuilder) build(events []event, properties []property, resource []resourceAttribute) pmetric.Metrics {
	b.group(events, properties)

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
		if b.metricType == MetricTypeSum {
			sum := m.SetEmptySum()
			sum.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
			g.points = sum.DataPoints()
		} else {
			g.points = m.SetEmptyGauge().DataPoints()
		}
		g.points.EnsureCapacity(g.count)
	}
	for i := range events {
		b.add(&events[i], properties, &b.groups[b.groupOf[i]])
	}

	clear(b.groups) // they keep the metrics alive
	clear(b.byName)
	b.groups, b.groupOf, b.text = b.groups[:0], b.groupOf[:0], strings.Builder{}
	return metrics
}

// group sorts the events by name, and makes room for their strings.
func (b *metricsBuilder) group(events []event, properties []property) {
	room := 0
	for i := range events {
		e := &events[i]
		room += len(e.name) + len(e.source)
		for _, a := range properties[e.properties[0]:e.properties[1]] {
			room += len(a.text)
		}
	}
	b.text.Grow(room)
	if b.byName == nil {
		b.byName = make(map[string]int)
	}
	for i := range events {
		name := events[i].name
		n, ok := b.byName[string(name)]
		if !ok {
			n = len(b.groups)
			g := metricGroup{name: b.copy(name)}
			g.defaultSource = librato.CleanEventName(g.name)
			b.groups = append(b.groups, g)
			b.byName[g.name] = n
		}
		b.groups[n].count++
		b.groupOf = append(b.groupOf, n)
	}
}

// copy returns text as a string within b.text, where room was made for it.
func (b *metricsBuilder) copy(text []byte) string {
	start := b.text.Len()
	b.text.Write(text)
	return b.text.String()[start:]
}

// add appends the data point of e to the points of its name.
func (b *metricsBuilder) add(e *event, properties []property, g *metricGroup) {
	point := g.points.AppendEmpty()
	time := pcommon.Timestamp(e.time) //nolint:gosec // positive, see parseTime
	point.SetTimestamp(time)
	if b.metricType == MetricTypeSum {
		point.SetStartTimestamp(time)
	}
	point.SetDoubleValue(e.value)

	attrs := point.Attributes()
	own := properties[e.properties[0]:e.properties[1]]
	attrs.EnsureCapacity(1 + len(own))
	source := g.defaultSource
	if len(e.source) > 0 {
		source = b.copy(e.source)
	}
	attrs.PutStr(b.sourceAttribute, source)
	for i := range own {
		a := &own[i]
		switch name := b.keep[a.name]; a.kind {
		case 's':
			attrs.PutStr(name, b.copy(a.text))
		case 'd':
			attrs.PutDouble(name, a.double)
		case 'i':
			attrs.PutInt(name, a.integer)
		default:
			attrs.PutBool(name, a.kind == 't')
		}
	}
	if b.forwardIDs && e.hash != 0 {
		exemplar := point.Exemplars().AppendEmpty()
		exemplar.SetTimestamp(time)
		exemplar.FilteredAttributes().PutInt(messageIDAttribute, int64(e.hash)) //nolint:gosec // the same bits
	}
}

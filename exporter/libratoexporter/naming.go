// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// What tells the streams of data points apart in the metrics API: the source, and the other attributes as part of the
// name. As tags they stand in tags.go.

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

// choice names the setting that chooses attributes.
func (c *converter) choice() string {
	if c.api.Tagged {
		return "tags.attributes"
	}
	return "name_attributes"
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

// maxTexts bounds the names and tag sets that a scratch remembers.
const maxTexts = 4096

// maxTextBytes bounds them in bytes.
const maxTextBytes = 4 << 20

// scratch is what one call works with, so that names and tag sets seen before cost no allocation.
// Between calls it holds on to no pdata.
type scratch struct {
	pairs []pair
	text  []byte
	texts map[string]string // copies of what text held before
	size  int               // bytes of these
	sets  []uint64          // attributes of the samples of one metric, hashed
	slots map[slot]attributeSet
}

// intern returns a copy of t.text, and whether it is one made before.
func (t *scratch) intern() (s string, seen bool) {
	if s, ok := t.texts[string(t.text)]; ok {
		return s, true
	}
	if len(t.texts) >= maxTexts || t.size+len(t.text) > maxTextBytes {
		clear(t.texts)
		t.size = 0
	}
	s = string(t.text)
	t.size += len(s)
	t.texts[s] = s
	return s, false
}

// release gives t back for other calls, without what it holds of pdata.
func (c *converter) release(t *scratch) {
	clear(t.pairs[:cap(t.pairs)])
	c.scratches.Put(t)
}

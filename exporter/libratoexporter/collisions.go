// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

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
			m.refuse(reasonAttributeCollision, s.name, source,
				"points that differ in other attributes only would become one: choose more in "+c.choice(), s.value.Count)
		}
		clear(dst[len(kept):])
		dst = kept
	}
	clear(t.slots)
	t.sets = t.sets[:0]
	return dst
}

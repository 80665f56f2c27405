// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"math/bits"
	"slices"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

// origin is where a reading comes from: what tells it from others besides the stream, hashed. Readings of several origins
// in one stream would be mixed. Points that add up have none: they may come from anywhere.
type origin struct {
	resource   uint64 // its attributes
	attributes uint64 // of the data point
	spelling   uint64 // of name and source, or tags, before they are cleaned and cut
}

const (
	maxOrigins     = 4096 // resources that are remembered
	maxOriginBytes = 2048 // of one
)

// origins remembers the attributes of resources, to say what tells two of them apart. It is safe for concurrent use.
type origins struct {
	mu        sync.Mutex // guards resources
	resources map[uint64][]pair
}

func newOrigins() *origins { return &origins{resources: map[uint64][]pair{}} }

// hashOf returns the hash of a resource, and remembers its attributes.
func (o *origins) hashOf(resource pcommon.Map) uint64 {
	hash := hashAttributes(resource, "") | 1 // 0 is none
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.resources[hash]; known {
		return hash
	}
	if len(o.resources) >= maxOrigins {
		clear(o.resources)
	}
	var pairs []pair
	room := maxOriginBytes
	for key, value := range resource.All() {
		v := text(value)
		if room -= len(key) + len(v); room < 0 {
			break
		}
		pairs = append(pairs, pair{strings.Clone(key), strings.Clone(v)})
	}
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.key, b.key) })
	o.resources[hash] = pairs
	return hash
}

// originOf returns the origin of a reading that is complete but for it.
func (c *converter) originOf(m *metricContext, s *sample, attributes pcommon.Map) origin {
	if m.hash == 0 {
		m.hash = c.origins.hashOf(m.resource)
	}
	return origin{
		resource:   m.hash,
		attributes: hashAttributes(attributes, c.sourceAttribute),
		spelling:   xxhash.Sum64String(s.name) ^ bits.RotateLeft64(xxhash.Sum64String(s.source), 1),
	}
}

// apart returns what would tell a from b.
func (o *origins) apart(a, b origin) string {
	switch {
	case a.spelling != b.spelling:
		return "the name as it is sent"
	case a.attributes != b.attributes:
		return "attributes of the data point"
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var keys []string
	first, second := o.resources[a.resource], o.resources[b.resource]
	for _, p := range slices.Concat(first, second) {
		if (!slices.Contains(first, p) || !slices.Contains(second, p)) && !slices.Contains(keys, p.key) {
			keys = append(keys, p.key)
		}
	}
	if len(keys) == 0 {
		return "attributes of the resource"
	}
	slices.Sort(keys)
	return strings.Join(keys, ", ")
}

// hashAttributes returns the same for the same attributes in any order, without the one called but.
func hashAttributes(attributes pcommon.Map, but string) uint64 {
	var sum uint64
	for key, value := range attributes.All() {
		if key != but {
			// The multiplier (of splitmix64) keeps a=b, b=a and the like apart.
			sum += (xxhash.Sum64String(key)*0x9e3779b97f4a7c15 ^ xxhash.Sum64String(text(value))) * 0xbf58476d1ce4e5b9
		}
	}
	return sum
}

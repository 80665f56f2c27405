// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.uber.org/zap"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// pair is an attribute as text. Its strings may share pdata's memory.
type pair struct {
	key, value string
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
	if source != "" { // "Source" is the same tag to the service
		others := slices.DeleteFunc(t.pairs[1:], func(p pair) bool { return strings.EqualFold(p.key, librato.SourceTag) })
		t.pairs = t.pairs[:1+len(others)]
	}
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

// settleTags sorts pairs by key and keeps, of each key, the one that came first, and of all at most librato.MaxTags:
// the source and the first by key. It works in place and returns how many tags are over the limit.
func settleTags(pairs []pair) (settled []pair, dropped int) {
	slices.SortStableFunc(pairs, func(a, b pair) int { return strings.Compare(a.key, b.key) })
	pairs = slices.CompactFunc(pairs, func(a, b pair) bool { return a.key == b.key })
	dropped = len(pairs) - librato.MaxTags
	if dropped <= 0 {
		return pairs, 0
	}
	if i := slices.IndexFunc(pairs, func(p pair) bool { return p.key == librato.SourceTag }); i >= librato.MaxTags {
		pairs[librato.MaxTags-1] = pairs[i]
	}
	return pairs[:librato.MaxTags], dropped
}

// appendTagSet appends pairs to dst, each text behind its length: the tags as they came, which streams.go cleans
// once for each stream. Equal pairs in equal order give equal bytes.
func appendTagSet(dst []byte, pairs []pair) []byte {
	for _, p := range pairs {
		dst = binary.AppendUvarint(dst, uint64(len(p.key)))
		dst = append(dst, p.key...)
		dst = binary.AppendUvarint(dst, uint64(len(p.value)))
		dst = append(dst, p.value...)
	}
	return dst
}

// decodeTagSet returns the tags of a set that appendTagSet wrote as the service stores them: cleaned and sorted by
// name. Of names that are equal after cleaning the first stays. What is not such a set ends where it makes no sense.
func decodeTagSet(set string) []librato.Tag {
	var tags []librato.Tag
	for set != "" {
		name, rest, ok := cutText(set)
		if !ok {
			break
		}
		value, rest, ok := cutText(rest)
		if !ok {
			break
		}
		set = rest
		tags = append(tags, librato.Tag{Name: librato.CleanTagName(name), Value: librato.CleanTagValue(value)})
	}
	slices.SortStableFunc(tags, func(a, b librato.Tag) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(tags, func(a, b librato.Tag) bool { return a.Name == b.Name })
}

// cutText cuts the first text off a set.
func cutText(set string) (text, rest string, ok bool) {
	// A length of ten bytes holds every uint64, so the conversion copies no more.
	n, size := binary.Uvarint([]byte(set[:min(len(set), binary.MaxVarintLen64)]))
	if size <= 0 || n > uint64(len(set)-size) { //nolint:gosec // size is at most len(set)
		return "", "", false
	}
	end := size + int(n) //nolint:gosec // n is at most len(set)
	return set[size:end], set[end:], true
}

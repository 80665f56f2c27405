// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

// secondSet remembers seconds within a window of the newest one, a bit each. Those before the window count as in it.
type secondSet struct {
	words []uint64
	head  int64 // the newest second / 64
}

func newSecondSet(window int64) *secondSet {
	return &secondSet{words: make([]uint64, window/64+2)}
}

func (s *secondSet) contains(second int64) bool {
	n := int64(len(s.words))
	w := second / 64
	switch {
	case w > s.head:
		return false
	case w <= s.head-n:
		return true
	}
	return s.words[w%n]&(1<<(second%64)) != 0
}

func (s *secondSet) add(second int64) {
	n := int64(len(s.words))
	w := second / 64
	if w <= s.head-n {
		return
	}
	for i := max(s.head+1, w-n+1); i <= w; i++ {
		s.words[i%n] = 0
	}
	s.head = max(s.head, w)
	s.words[w%n] |= 1 << (second % 64)
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import "slices"

// maxWindows is how many windows a secondSet keeps: one for the time of now, and two for those of a clock that was set
// hours ahead or back.
const maxWindows = 3

// secondSet remembers seconds within a window of the newest one. What is far from all windows it knows, as after a step
// of the clock, gets a window of its own; then the one that was used longest ago goes.
type secondSet struct {
	words   int64           // that a window has
	windows []*secondWindow // the one that was used last comes first
}

// secondWindow has a bit for each second of the words (64 seconds each) from head-len(bits)+1 to head.
type secondWindow struct {
	bits []uint64 // word w is at w % len(bits)
	head int64    // the newest second / 64
}

func newSecondSet(window int64) *secondSet { return &secondSet{words: window/64 + 2} }

func (s *secondSet) contains(second int64) bool {
	for _, w := range s.windows {
		if word := second / 64; w.covers(word) && w.bits[word%s.words]&(1<<(second%64)) != 0 {
			return true
		}
	}
	return false
}

func (s *secondSet) add(second int64) {
	word := second / 64
	i := slices.IndexFunc(s.windows, func(w *secondWindow) bool { return w.covers(word) })
	if i < 0 {
		i = slices.IndexFunc(s.windows, func(w *secondWindow) bool { return word > w.head && word-w.head < s.words })
	}
	var w *secondWindow
	if i < 0 {
		i = min(len(s.windows), maxWindows-1)
		w = &secondWindow{bits: make([]uint64, s.words), head: word}
		s.windows = append(s.windows[:i], w)
	} else {
		w = s.windows[i]
	}
	copy(s.windows[1:i+1], s.windows[:i])
	s.windows[0] = w
	for ; w.head < word; w.head++ {
		w.bits[(w.head+1)%s.words] = 0
	}
	w.bits[word%s.words] |= 1 << (second % 64)
}

func (w *secondWindow) covers(word int64) bool {
	return word <= w.head && word > w.head-int64(len(w.bits))
}

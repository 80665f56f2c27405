// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Package idset remembers the hashes of message ids for a while, in bounded memory. The receiver uses it to
// recognise a client's repeats, the exporter to recognise them after a restart.
package idset

import (
	"math/bits"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Hash returns the hash under which a message id is remembered: xxHash64 of the write key, a zero byte and the
// id. It is stable across versions, since exporters store it, and never 0, so that 0 can mean "no id".
func Hash(writeKey, messageID string) uint64 { return hash(writeKey, messageID) }

// HashBytes is Hash for bytes.
func HashBytes(writeKey, messageID []byte) uint64 { return hash(writeKey, messageID) }

func hash[T string | []byte](writeKey, messageID T) uint64 {
	// On the stack for all that Segment allows; one call is twice as fast as three to a digest.
	var room [192]byte
	b := append(append(append(room[:0], writeKey...), 0), messageID...)
	return max(1, xxhash.Sum64(b))
}

// Set is a set of 64-bit hashes that forgets each after a window, and the oldest early when it is full. All
// operations are O(1), amortised over its growth; ids are forgotten in the order in which they were added. An entry
// costs 12 bytes in the ring and 11 to 21 in the table. Times count whole seconds, so that an id is remembered
// for at least the window and up to two seconds longer. What is removed other than newest first takes up room until
// it would have been the oldest. Not safe for concurrent use.
type Set struct {
	window     uint32 // seconds, rounded up
	maxEntries int
	start      time.Time // what the ring's seconds count from

	// The ring, oldest first, beginning at head. Position p is slot p&(len-1). A hash of 0 marks one that was
	// removed; the hash 0 itself is kept as zeroID.
	hashes  []uint64
	seconds []uint32
	head    uint64 // position of the oldest
	tail    uint64 // position after the newest
	removed int    // how many between head and tail were removed

	// The table: open addressing with linear probing, at most three quarters full. A cell holds the upper half of
	// the hash and one more than the ring's slot; 0 is free. The home cell comes from the hash's upper bits, so that
	// cells can be moved without a look at the ring.
	cells []uint64
	shift uint
}

const (
	zeroID  = 0xD1B54A32D192ED03 // stands in for the hash 0
	minRing = 64
)

// New returns an empty set that remembers each id for window, and at most maxEntries ids (at least one).
func New(window time.Duration, maxEntries int) *Set {
	return &Set{
		window:     uint32(min((window+time.Second-1)/time.Second, 1<<31)), //nolint:gosec // fits
		maxEntries: max(1, maxEntries),
	}
}

// Len returns how many ids the set holds, those included whose window ended since the last Add.
func (s *Set) Len() int { return int(s.tail-s.head) - s.removed } //nolint:gosec // the difference fits the ring

// Contains says whether id was added within the window before now.
func (s *Set) Contains(id uint64, now time.Time) bool {
	id = spread(id)
	cell, ok := s.find(id)
	return ok && !s.expired(s.slotOf(cell), s.secondsAt(now))
}

// Add remembers id as of now, and forgets what is older than the window. It returns how many ids it had to forget
// before the end of their window, because the set was full. An id that is in the set already counts from now.
func (s *Set) Add(id uint64, now time.Time) (evictedEarly int) {
	id = spread(id)
	if s.start.IsZero() {
		s.start = now.Add(-time.Hour) // room for a clock that steps backwards
	}
	if cell, ok := s.find(id); ok {
		s.removeCell(cell)
	}
	seconds := s.secondsAt(now)
	for s.head < s.tail {
		slot := s.head & s.mask()
		early := false
		if s.hashes[slot] != 0 && !s.expired(slot, seconds) {
			if s.Len() < s.maxEntries && int(s.tail-s.head) < s.ringLimit() { //nolint:gosec // as in Len
				break
			}
			early = true
		}
		if s.hashes[slot] == 0 {
			s.removed--
		} else if cell, ok := s.find(s.hashes[slot]); ok {
			s.freeCell(cell)
		}
		s.head++
		if early {
			evictedEarly++
		}
	}
	s.grow()
	slot := s.tail & s.mask()
	s.tail++
	s.hashes[slot] = id
	s.seconds[slot] = seconds
	s.insertCell(id, slot)
	return evictedEarly
}

// Touch reads what Contains(id) or Add(id) will read first, and returns something of no meaning. The table of a large
// set is in no cache; a loop that touches many ids has their cache lines fetched at the same time instead of one after
// the other, which makes a batch of a hundred cost half.
func (s *Set) Touch(id uint64) uint64 {
	if len(s.cells) == 0 {
		return 0
	}
	return s.cells[spread(id)>>s.shift]
}

// TouchOldest does the same for the oldest n, which adding n evicts if the set is full.
func (s *Set) TouchOldest(n int) (nothing uint64) {
	for p := s.head; p < min(s.tail, s.head+uint64(n)); p++ { //nolint:gosec // a length
		nothing ^= s.Touch(s.hashes[p&s.mask()])
	}
	return nothing
}

// Remove forgets id, if the set holds it.
func (s *Set) Remove(id uint64) {
	if cell, ok := s.find(spread(id)); ok {
		s.removeCell(cell)
	}
}

// spread makes of an id what the set keeps of it. Ids that come from elsewhere may be anything, such as consecutive
// numbers, whose upper bits would all choose the same cell; an odd factor loses nothing.
func spread(id uint64) uint64 {
	if id == 0 {
		return zeroID
	}
	return id * 0x9E3779B97F4A7C15
}

func (s *Set) mask() uint64 { return uint64(len(s.hashes)) - 1 }

// ringLimit is how many slots the ring may use: what was removed out of order takes up room until it is the oldest,
// so the ring is the next power of two above maxEntries.
func (s *Set) ringLimit() int { return max(minRing, 1<<bits.Len(uint(s.maxEntries-1))) }

func (s *Set) secondsAt(now time.Time) uint32 {
	return uint32(max(0, now.Sub(s.start)/time.Second)) //nolint:gosec // 136 years
}

// expired says whether what is in slot was added longer ago than the window. A clock that steps backwards makes
// ids last longer, never shorter.
func (s *Set) expired(slot uint64, now uint32) bool {
	at := s.seconds[slot]
	return now > at && now-at > s.window
}

// grow makes room for one more in the ring and in the table.
func (s *Set) grow() {
	if used := int(s.tail - s.head); used == len(s.hashes) { //nolint:gosec // as in Len
		size := max(minRing, 2*used)
		hashes, seconds := make([]uint64, size), make([]uint32, size)
		for p := s.head; p < s.tail; p++ {
			hashes[p-s.head], seconds[p-s.head] = s.hashes[p&s.mask()], s.seconds[p&s.mask()]
		}
		s.hashes, s.seconds = hashes, seconds
		s.head, s.tail = 0, uint64(used) //nolint:gosec // a length
		s.rehash(len(s.cells))
	}
	if (s.Len()+1)*4 > len(s.cells)*3 {
		s.rehash(max(2*minRing, 2*len(s.cells)))
	}
}

func (s *Set) rehash(size int) {
	s.cells = make([]uint64, size)
	s.shift = uint(64 - bits.Len(uint(max(1, size)-1)))
	for p := s.head; p < s.tail && size > 0; p++ {
		if slot := p & s.mask(); s.hashes[slot] != 0 {
			s.insertCell(s.hashes[slot], slot)
		}
	}
}

func (s *Set) slotOf(cell int) uint64 { return s.cells[cell]&0xFFFFFFFF - 1 }

// find returns the cell of id.
func (s *Set) find(id uint64) (cell int, ok bool) {
	if len(s.cells) == 0 {
		return 0, false
	}
	mask := len(s.cells) - 1
	for c := int(id >> s.shift); ; c = (c + 1) & mask { //nolint:gosec // less than len(cells)
		switch v := s.cells[c]; {
		case v == 0:
			return 0, false
		case v>>32 == id>>32 && s.hashes[v&0xFFFFFFFF-1] == id:
			return c, true
		}
	}
}

func (s *Set) insertCell(id, slot uint64) {
	mask := len(s.cells) - 1
	c := int(id >> s.shift) //nolint:gosec // less than len(cells)
	for s.cells[c] != 0 {
		c = (c + 1) & mask
	}
	s.cells[c] = id>>32<<32 | (slot + 1)
}

// removeCell frees the cell and its slot in the ring.
func (s *Set) removeCell(cell int) {
	slot := s.slotOf(cell)
	s.freeCell(cell)
	s.hashes[slot] = 0
	s.removed++
	// The newest are given back at once: calls that are refused again and again leave nothing behind.
	for s.tail > s.head && s.hashes[(s.tail-1)&s.mask()] == 0 {
		s.tail--
		s.removed--
	}
}

// freeCell empties the cell and closes the gap that it leaves in its run of neighbours.
func (s *Set) freeCell(cell int) {
	mask := len(s.cells) - 1
	for next := (cell + 1) & mask; s.cells[next] != 0; next = (next + 1) & mask {
		home := int(s.cells[next] >> s.shift) //nolint:gosec // less than len(cells)
		// The neighbour may move back only if its home is not between the gap and itself.
		if (next-home)&mask >= (next-cell)&mask {
			s.cells[cell] = s.cells[next]
			cell = next
		}
	}
	s.cells[cell] = 0
}

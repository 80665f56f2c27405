// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Package idset remembers the hashes of message ids for a while, in bounded memory. The receiver uses it to
// recognise a client's repeats, the exporter to recognise them after a restart.
package idset

import (
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Hasher hashes message ids of one write key: the key, a zero byte and the id. No hash is 0, so that 0 can mean "no id".
type Hasher struct {
	joined []byte // used again: one call on what is joined is twice as fast as three to a digest
	prefix int
}

// SetKey begins the ids of a write key.
func (h *Hasher) SetKey(writeKey []byte) {
	h.joined = append(append(h.joined[:0], writeKey...), 0)
	h.prefix = len(h.joined)
}

// Hash returns the hash under which exporters know a message id: xxHash64, stable across versions, since they store it.
// Whoever knows the write key can find two ids with the same one.
func (h *Hasher) Hash(messageID []byte) uint64 {
	h.joined = append(h.joined[:h.prefix], messageID...)
	return max(1, xxhash.Sum64(h.joined))
}

// seed makes Secret another hash in each process.
var seed = maphash.MakeSeed()

// Secret returns a hash that only this process can compute, so that clients cannot find two ids with the same one.
func (h *Hasher) Secret(messageID []byte) uint64 {
	h.joined = append(h.joined[:h.prefix], messageID...)
	return max(1, maphash.Bytes(seed, h.joined))
}

// Set is a set of 64-bit hashes that forgets each after a window, and the oldest early when it is full. All
// operations are O(1), amortised over its growth; ids are forgotten in the order in which they were added. An entry
// costs 12 bytes in the ring and 13 to 26 in the table. Times count whole seconds, so that an id is remembered
// for at least the window and up to two seconds longer. Not safe for concurrent use.
//
// An id is added either at once, by Add, or in two steps: Claim says that somebody is about to, and Decide whether they
// did. What is undecided is in the set itself, not beside it, since Claim has read the id's cache line anyway and Decide
// reads none. It pushes nothing out: only what was added counts towards the set's size.
type Set struct {
	window     uint32 // seconds, rounded up
	maxEntries int
	start      time.Time // what the ring's seconds count from

	secret [3]uint64 // see mix

	// The ring, oldest first, beginning at head. Position p is slot p&(len-1). A hash of 0 marks one that was
	// removed; the hash 0 itself is kept as zeroID. Instead of the second when an id was added its slot may hold
	// undecided plus the number of who claimed it.
	hashes  []uint64
	seconds []uint32
	head    uint64 // position of the oldest
	tail    uint64 // position after the newest
	removed int    // how many between head and tail were removed
	claimed int    // how many are undecided

	moved map[uint64]uint64 // where those are now that were undecided and in the way

	// The table, indexed by the hash's upper bits, with at most five entries for each bucket. An entry that finds no
	// room in its home bucket is in one nearby: in the first of home^1, home^2 and so on that had room.
	buckets []bucket
	shift   uint
}

// bucket is a cache line of the table. A cell holds the lower 16 bits of the hash above 48 bits of the position, enough
// for eight years of a million Adds a second. What is evicted stays in its cell, stale by its position, until another
// entry takes that: to find and free it would be one more cache miss for each Add, and make that cost twice as much.
type bucket struct {
	cells [7]uint64
	full  uint64 // the position of the last entry that found no room: until that is evicted, look further
}

const (
	zeroID       = 0xD1B54A32D192ED03 // stands in for the hash 0
	minRing      = 64
	minBuckets   = 16
	positionBits = 48
	undecided    = 1 << 31 // 68 years
)

// New returns an empty set that remembers each id for window, and at most maxEntries ids (at least one).
func New(window time.Duration, maxEntries int) *Set {
	return &Set{
		window:     uint32(min((window+time.Second-1)/time.Second, 1<<31)), //nolint:gosec // fits
		maxEntries: max(1, maxEntries),
		secret:     [3]uint64{rand.Uint64(), rand.Uint64() | 1, rand.Uint64() | 1},
		head:       1, // so that 0 is the position of none
		tail:       1,
	}
}

// Len returns how many ids the set holds, those included whose window ended since the last Add.
func (s *Set) Len() int { return int(s.tail-s.head) - s.removed } //nolint:gosec // the difference fits the ring

// Contains says whether id was added within the window before now, or is claimed.
func (s *Set) Contains(id uint64, now time.Time) bool {
	cell := s.find(s.mix(id))
	return cell != nil && s.valid(s.slotOf(cell), s.secondsAt(now))
}

// Add remembers id, which nobody may have claimed, as of now, and forgets what is older than the window. It returns how
// many ids it had to forget before the end of their window, because the set was full. An id that is in the set already
// counts from now.
func (s *Set) Add(id uint64, now time.Time) (evictedEarly int) {
	id = s.mix(id)
	seconds := s.secondsAt(now)
	if cell := s.find(id); cell != nil {
		s.remove(cell)
	}
	evictedEarly = s.forget(seconds, s.maxEntries-1)
	s.append(id, seconds)
	return evictedEarly
}

// Claim notes that owner, a number from 1 to 2^31-1, is about to decide on id, and returns its position for Decide. If id
// was added within the window before now, or somebody has claimed it, nothing is noted and the position is 0; holder
// is who has claimed it, or 0.
func (s *Set) Claim(id uint64, owner uint32, now time.Time) (position uint64, holder uint32) {
	id = s.mix(id)
	seconds := s.secondsAt(now)
	if cell := s.find(id); cell != nil {
		slot := s.slotOf(cell)
		switch at := s.seconds[slot]; {
		case at >= undecided:
			return 0, at &^ undecided
		case s.valid(slot, seconds):
			return 0, 0
		}
		s.remove(cell)
	}
	s.forget(seconds, s.maxEntries)
	s.claimed++
	return s.append(id, undecided|owner), 0
}

// Decide says of the ids at positions, which Claim returned, that they are added as of now, or that they are not.
// evictedEarly is as Add's.
func (s *Set) Decide(positions []uint64, added bool, now time.Time) (evictedEarly int) {
	seconds := s.secondsAt(now)
	for _, p := range positions {
		for p < s.head {
			at := s.moved[p]
			delete(s.moved, p)
			p = at
		}
		s.seconds[p&s.mask()] = seconds
		if !added {
			s.remove(s.find(s.hashes[p&s.mask()]))
		}
	}
	s.claimed -= len(positions)
	return s.forget(seconds, s.maxEntries)
}

// Touch reads what Contains, Add or Claim of id will read first, and returns something of no meaning. The table of a large
// set is in no cache; a loop that touches many ids has their cache lines fetched at the same time instead of one after
// the other, which saves a third of what a batch of a hundred costs.
func (s *Set) Touch(id uint64) uint64 {
	if len(s.buckets) == 0 {
		return 0
	}
	return s.buckets[s.mix(id)>>s.shift].full
}

// mix makes of an id what the set keeps of it, one to one. Its upper bits choose the bucket, and depend on a secret: clients
// choose their ids, but cannot force them into the same few buckets.
func (s *Set) mix(id uint64) uint64 {
	id = (id ^ s.secret[0]) * s.secret[1]
	id = (id ^ id>>32) * s.secret[2]
	if id == 0 {
		return zeroID
	}
	return id
}

func (s *Set) mask() uint64 { return uint64(len(s.hashes)) - 1 }

// secondsAt returns now as the ring has it. The first call sets what it counts from.
func (s *Set) secondsAt(now time.Time) uint32 {
	if s.start.IsZero() {
		s.start = now.Add(-time.Hour) // room for a clock that steps backwards
	}
	return uint32(min(max(0, now.Sub(s.start)/time.Second), undecided-1))
}

// valid says whether what is in slot is undecided, or was added not longer ago than the window. A clock that steps
// backwards makes ids last longer, never shorter.
func (s *Set) valid(slot uint64, now uint32) bool {
	at := s.seconds[slot]
	return now <= at || now-at <= s.window
}

// forget forgets the oldest ids that are not valid any more, and as many others as were added beyond most. What is
// undecided is never forgotten: the set may hold more than maxEntries for that.
func (s *Set) forget(now uint32, most int) (evictedEarly int) {
	for s.head < s.tail {
		slot := s.head & s.mask()
		full := s.Len()-s.claimed > most
		switch {
		case s.hashes[slot] == 0:
			s.removed--
		case s.valid(slot, now) && !full:
			return evictedEarly
		case s.seconds[slot] >= undecided:
			s.moveOldest()
			continue
		case s.valid(slot, now):
			evictedEarly++
		}
		s.head++
	}
	return evictedEarly
}

// moveOldest makes the oldest id the newest. Its cell becomes stale as if it were evicted.
func (s *Set) moveOldest() {
	from, id, state := s.head, s.hashes[s.head&s.mask()], s.seconds[s.head&s.mask()]
	s.head++
	to := s.append(id, state)
	if state < undecided {
		return
	}
	if s.moved == nil {
		s.moved = make(map[uint64]uint64)
	}
	s.moved[from] = to
}

// append notes id as the newest, and returns its position.
func (s *Set) append(id uint64, state uint32) (position uint64) {
	s.grow()
	position = s.tail
	slot := position & s.mask()
	s.hashes[slot], s.seconds[slot] = id, state
	s.insert(id, position)
	s.tail++
	return position
}

// grow makes room for one more in the ring and in the table.
func (s *Set) grow() {
	used := int(s.tail - s.head) //nolint:gosec // as in Len
	switch {
	case used < len(s.hashes):
	case s.removed > used/2:
		s.compact()
	default:
		size := max(minRing, 2*used)
		hashes, seconds := make([]uint64, size), make([]uint32, size)
		for p := s.head; p < s.tail; { // in runs that end where either ring does
			from, to := p&s.mask(), p&uint64(size-1)
			n := min(s.tail-p, uint64(len(s.hashes))-from, uint64(size)-to)
			copy(hashes[to:to+n], s.hashes[from:])
			copy(seconds[to:to+n], s.seconds[from:])
			p += n
		}
		s.hashes, s.seconds = hashes, seconds
	}
	if s.Len() >= 5*len(s.buckets) {
		s.rehash(max(minBuckets, 2*len(s.buckets)))
	}
}

// compact takes what was removed out of the ring. Seen from its end the ring is the same afterwards.
func (s *Set) compact() {
	for range s.tail - s.head {
		if s.hashes[s.head&s.mask()] != 0 {
			s.moveOldest()
			continue
		}
		s.head++
		s.removed--
	}
}

// rehash makes a table of size buckets. It goes through the old one in its order, which is that of the new one as well:
// whoever waits for the set meanwhile waits a third less than with the ring's order.
func (s *Set) rehash(size int) {
	old := s.buckets
	s.buckets = make([]bucket, size)
	s.shift = uint(64 - bits.Len(uint(size-1)))
	for i := range old {
		for _, cell := range old[i].cells {
			if p := cell & (1<<positionBits - 1); p >= s.head {
				s.insert(s.hashes[p&s.mask()], p)
			}
		}
	}
}

func (s *Set) slotOf(cell *uint64) uint64 { return *cell & s.mask() }

// find returns the cell of id, nil if there is none.
func (s *Set) find(id uint64) *uint64 {
	if len(s.buckets) == 0 {
		return nil
	}
	home, tag, n := id>>s.shift, id<<positionBits, s.tail-s.head
	for i := range uint64(len(s.buckets)) {
		b := &s.buckets[home^i]
		for c := range b.cells {
			// One comparison for the hash's bits and for what is stale: both make the difference too large.
			if p := b.cells[c] ^ tag; p-s.head < n && s.hashes[p&s.mask()] == id {
				return &b.cells[c]
			}
		}
		if b.full < s.head {
			break
		}
	}
	return nil
}

// insert notes that id is at the position. There is room for it, see grow.
func (s *Set) insert(id, position uint64) {
	for home, i := id>>s.shift, uint64(0); ; i++ {
		b := &s.buckets[home^i]
		for c, v := range b.cells {
			if v&(1<<positionBits-1) < s.head { // free, or stale
				b.cells[c] = id<<positionBits | position
				return
			}
		}
		b.full = max(b.full, position)
	}
}

// remove frees the cell and its slot in the ring.
func (s *Set) remove(cell *uint64) {
	s.hashes[s.slotOf(cell)] = 0
	*cell = 0
	s.removed++
	// The newest are given back at once: calls that are refused again and again leave nothing behind.
	for s.tail > s.head && s.hashes[(s.tail-1)&s.mask()] == 0 {
		s.tail--
		s.removed--
	}
}

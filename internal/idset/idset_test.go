// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package idset

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestHashIsStable(t *testing.T) {
	var h Hasher
	hash := func(key, id string) uint64 {
		h.SetKey([]byte(key))
		return h.Hash([]byte(id))
	}
	// Exporters store these: a change would count repeats twice after an upgrade.
	assert.Equal(t, uint64(0xe934a84adb052768), hash("", ""))
	assert.Equal(t, uint64(0xd2bc927f7fef29cb), hash("key", "message"))
	assert.NotEqual(t, hash("a", "bc"), hash("ab", "c"))
	h.SetKey([]byte("key"))
	h.Hash([]byte("a longer one before"))
	assert.Equal(t, hash("key", "message"), h.Hash([]byte("message")))
	id := []byte("message")
	assert.Zero(t, testing.AllocsPerRun(100, func() { h.Hash(id) }))
}

func TestSetForgetsAfterTheWindow(t *testing.T) {
	s := New(time.Minute, 100)
	s.Add(0, epoch)
	s.Add(7, epoch.Add(30*time.Second))
	assert.True(t, s.Contains(0, epoch.Add(time.Minute)))
	assert.False(t, s.Contains(0, epoch.Add(62*time.Second)))
	assert.True(t, s.Contains(7, epoch.Add(62*time.Second)))
	assert.Equal(t, 2, s.Len())
	assert.Zero(t, s.Add(8, epoch.Add(62*time.Second)), "what is past its window is not evicted early")
	assert.Equal(t, 2, s.Len())
	assert.True(t, s.Contains(7, epoch.Add(-time.Minute)), "a clock that steps back makes ids last longer")
}

func TestSetEvictsTheOldestWhenFull(t *testing.T) {
	s := New(time.Hour, 3)
	for id := uint64(1); id <= 3; id++ {
		require.Zero(t, s.Add(id, epoch))
	}
	assert.Zero(t, s.Add(1, epoch), "one that is known takes no more room")
	assert.Equal(t, 1, s.Add(4, epoch))
	assert.True(t, s.Contains(1, epoch), "it counts from its last Add")
	assert.False(t, s.Contains(2, epoch))
	assert.Equal(t, 3, s.Len())
}

func TestSetReturnsTheRoomOfWhatIsRemoved(t *testing.T) {
	s := New(time.Hour, 1000)
	s.Add(1, epoch)
	for range 100_000 {
		for id := uint64(10); id < 20; id++ {
			require.Zero(t, s.Add(id, epoch))
		}
		for id := uint64(10); id < 20; id++ {
			s.Remove(id)
		}
	}
	assert.True(t, s.Contains(1, epoch))
	assert.Equal(t, 1, s.Len())
	assert.LessOrEqual(t, len(s.hashes), minRing)
}

// TestSetAgainstModel compares the set with a list under random operations: ids that spread well and ids that crowd
// in a few buckets with the same bits in their cells, from the first position on and far beyond it.
func TestSetAgainstModel(t *testing.T) {
	inverse := uint64(1) // of spread's factor
	for range 6 {
		inverse *= 2 - spread(inverse)
	}
	require.Equal(t, uint64(1), spread(inverse))
	for name, hash := range map[string]func(k uint64) uint64{
		"spread":  func(k uint64) uint64 { return k * 0xD6E8FEB86659FD93 },
		"crowded": func(k uint64) uint64 { return k<<61 | k<<20 },
	} {
		for _, maxEntries := range []int{1, 5, 64, 90, 700} {
			for _, start := range []uint64{1, 1<<32 - 100, 1<<positionBits - 1<<20} {
				t.Run(fmt.Sprint(name, maxEntries, "/", start), func(t *testing.T) {
					s := New(time.Minute, maxEntries)
					s.head, s.tail = start, start
					compareWithModel(t, s, func(k uint64) uint64 { return inverse * hash(k) })
				})
			}
		}
	}
}

func compareWithModel(t *testing.T, s *Set, idOf func(k uint64) uint64) {
	type entry struct {
		id               uint64
		at               time.Time
		removed, refused bool
		owner            uint32 // not 0: undecided
	}
	var model []entry // as the ring
	now := epoch
	valid := func(e entry) bool { return e.owner == 0 && !e.refused && now.Sub(e.at) <= time.Minute }
	index := func(id uint64) int {
		return slices.IndexFunc(model, func(e entry) bool { return e.id == id && !e.removed })
	}
	contains := func(id uint64) bool { i := index(id); return i >= 0 && valid(model[i]) }
	count := func(f func(e entry) bool) (n int) {
		for _, e := range model {
			if !e.removed && f(e) {
				n++
			}
		}
		return n
	}
	length := func() int { return count(func(entry) bool { return true }) }
	remove := func(id uint64) {
		if i := index(id); i >= 0 {
			model[i].removed = true
		}
		for len(model) > 0 && model[len(model)-1].removed {
			model = model[:len(model)-1]
		}
	}
	add := func(e entry) (early int) {
		remove(e.id)
		for len(model) > 0 {
			oldest := model[0]
			full := length() >= s.maxEntries || len(model) >= s.ringLimit()
			claimed := count(func(e entry) bool { return e.owner != 0 })
			if oldest.owner != 0 && full && length() > claimed {
				model = append(model[1:], oldest)
				continue
			}
			good := !oldest.removed && valid(oldest)
			if oldest.owner != 0 || good && !full {
				break
			}
			if good {
				early++
			}
			model = model[1:]
		}
		model = append(model, e)
		return early
	}

	random := rand.New(rand.NewPCG(1, uint64(s.maxEntries)))
	universe := uint64(2*s.maxEntries + 1)
	type claim struct{ ids, positions []uint64 }
	claims := map[uint32]*claim{}
	undecided := func(id uint64) bool { i := index(id); return i >= 0 && model[i].owner != 0 }
	for step := range 5000 {
		id := idOf(random.Uint64N(universe))
		switch random.IntN(20) {
		case 0:
			now = now.Add(time.Duration(random.IntN(4)-1) * time.Second)
		case 1:
			if random.IntN(30) == 0 {
				now = now.Add(2 * time.Minute)
			}
		case 2, 3:
			if !undecided(id) {
				remove(id)
				s.Remove(id)
			}
		case 4: // a call that is refused
			var ids []uint64
			for k := range random.Uint64N(10) {
				if id := idOf(k); !undecided(id) {
					require.Equal(t, add(entry{id: id, at: now}), s.Add(id, now))
					ids = append(ids, id)
				}
			}
			for _, id := range ids {
				remove(id)
				s.Remove(id)
			}
		case 5, 6, 7, 8, 9, 10, 11:
			owner := 1 + random.Uint32N(3)
			var holder uint32
			var early int
			claimed := true
			if i := index(id); i >= 0 && model[i].refused {
				model[i].refused, model[i].owner = false, owner
			} else if i >= 0 && (model[i].owner != 0 || valid(model[i])) {
				holder, claimed = model[i].owner, false
			} else {
				early = add(entry{id: id, owner: owner})
			}
			position, gotHolder, gotEarly := s.Claim(id, owner, now)
			require.Equal(t, claimed, position != 0)
			require.Equal(t, holder, gotHolder)
			require.Equal(t, early, gotEarly)
			if claimed {
				if claims[owner] == nil {
					claims[owner] = new(claim)
				}
				claims[owner].ids = append(claims[owner].ids, id)
				claims[owner].positions = append(claims[owner].positions, position)
			}
		case 12:
			owner := 1 + random.Uint32N(3)
			if c := claims[owner]; c != nil {
				added := random.IntN(2) == 0
				for _, id := range c.ids {
					e := &model[index(id)]
					e.owner, e.refused, e.at = 0, !added, now
				}
				s.Decide(c.positions, added, now)
				delete(claims, owner)
			}
		default:
			if !undecided(id) {
				require.Equal(t, add(entry{id: id, at: now}), s.Add(id, now))
			}
		}
		require.Equal(t, length(), s.Len())
		require.Equal(t, contains(id), s.Contains(id, now))
		if step%500 == 0 {
			for k := range universe {
				require.Equal(t, contains(idOf(k)), s.Contains(idOf(k), now))
			}
			live := 0
			for _, b := range s.buckets {
				for _, v := range b.cells {
					if v&(1<<positionBits-1) >= s.head {
						live++
					}
				}
			}
			require.Equal(t, s.Len(), live)
		}
	}
	for _, c := range claims {
		s.Decide(c.positions, true, now)
	}
	require.Empty(t, s.moved)
	require.Zero(t, s.claimed)
}

func TestSetMemory(t *testing.T) {
	const n = 1_000_000
	s := New(time.Hour, n)
	for i := range uint64(n + 10) {
		s.Add(i, epoch)
	}
	size := len(s.hashes)*int(unsafe.Sizeof(uint64(0))) + len(s.seconds)*4 + len(s.buckets)*int(unsafe.Sizeof(bucket{}))
	assert.LessOrEqual(t, size, 32*n)
	assert.Equal(t, n, s.Len())
	assert.Zero(t, testing.AllocsPerRun(1000, func() { s.Add(rand.Uint64(), epoch) }))
}

func BenchmarkSet(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		b.Run("", func(b *testing.B) {
			s := New(4*time.Hour, n)
			for i := range uint64(n) {
				s.Add(i, epoch)
			}
			i := uint64(n)
			b.ReportAllocs()
			for b.Loop() {
				i++
				id := i
				if !s.Contains(id, epoch) {
					s.Add(id, epoch)
				}
			}
		})
	}
}

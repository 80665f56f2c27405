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

	"github.com/otelcol-segment/otelcol-segment/internal/idset/idsettest"
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

func TestSetRemembersForAllOfTheWindow(t *testing.T) {
	s := New(1500*time.Millisecond, 100)
	s.Add(1, epoch) // seconds count from here
	s.Add(2, epoch.Add(900*time.Millisecond))
	assert.True(t, s.Contains(2, epoch.Add(2300*time.Millisecond)))
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

func TestSetReturnsTheRoomOfWhatIsRefused(t *testing.T) {
	s := New(time.Hour, 1000)
	s.Add(1, epoch)
	for range 100_000 {
		var positions []uint64
		for id := uint64(10); id < 20; id++ {
			position, _ := s.Claim(id, 1, epoch)
			positions = append(positions, position)
		}
		require.Zero(t, s.Decide(positions, false, epoch))
	}
	assert.True(t, s.Contains(1, epoch))
	assert.Equal(t, 1, s.Len())
	assert.LessOrEqual(t, len(s.hashes), minRing)
}

// TestSetAgainstModel compares the set with a list under random operations: ids that spread well and ids that crowd
// in a few buckets with the same bits in their cells, from the first position on and far beyond it.
func TestSetAgainstModel(t *testing.T) {
	for name, hash := range map[string]func(k uint64) uint64{
		"spread":  func(k uint64) uint64 { return k * 0xD6E8FEB86659FD93 },
		"crowded": func(k uint64) uint64 { return k<<61 | k<<20 },
	} {
		for _, maxEntries := range []int{1, 5, 64, 90, 700} {
			for _, start := range []uint64{1, 1<<32 - 100, 1<<positionBits - 1<<20} {
				t.Run(fmt.Sprint(name, maxEntries, "/", start), func(t *testing.T) {
					s := New(time.Minute, maxEntries)
					s.head, s.tail = start, start
					s.secret = [3]uint64{0, 1, 1}
					compareWithModel(t, s, func(k uint64) uint64 {
						id := hash(k) ^ hash(k)>>32
						require.True(t, s.mix(id) == hash(k) || hash(k) == 0)
						return id
					})
				})
			}
		}
	}
}

func compareWithModel(t *testing.T, s *Set, idOf func(k uint64) uint64) {
	type entry struct {
		id    uint64
		at    time.Time
		owner uint32 // not 0: undecided
	}
	var model []entry // oldest first
	now := epoch
	valid := func(e entry) bool { return e.owner != 0 || now.Sub(e.at) <= time.Minute }
	index := func(id uint64) int {
		return slices.IndexFunc(model, func(e entry) bool { return e.id == id })
	}
	contains := func(id uint64) bool { i := index(id); return i >= 0 && valid(model[i]) }
	undecided := func(id uint64) bool { i := index(id); return i >= 0 && model[i].owner != 0 }
	added := func() (n int) {
		for _, e := range model {
			if e.owner == 0 {
				n++
			}
		}
		return n
	}
	remove := func(id uint64) {
		model = slices.DeleteFunc(model, func(e entry) bool { return e.id == id })
	}
	forget := func(most int) (early int) {
		for len(model) > 0 {
			oldest, full := model[0], added() > most
			if valid(oldest) && !full {
				break
			}
			model = model[1:]
			if oldest.owner != 0 {
				model = append(model, oldest)
			} else if valid(oldest) {
				early++
			}
		}
		return early
	}
	add := func(e entry) (early int) {
		remove(e.id)
		most := s.maxEntries
		if e.owner == 0 {
			most--
		}
		early = forget(most)
		model = append(model, e)
		return early
	}

	random := rand.New(rand.NewPCG(1, uint64(s.maxEntries)))
	universe := uint64(2*s.maxEntries + 1)
	type claim struct{ ids, positions []uint64 }
	claims := map[uint32]*claim{}
	for step := range 5000 {
		id := idOf(random.Uint64N(universe))
		switch random.IntN(20) {
		case 0:
			now = now.Add(time.Duration(random.IntN(4)-1) * time.Second)
		case 1:
			if random.IntN(30) == 0 {
				now = now.Add(2 * time.Minute)
			}
		case 2, 3, 4, 5, 6, 7, 8, 9, 10, 11:
			owner := 1 + random.Uint32N(3)
			var holder uint32
			claimed := true
			if i := index(id); i >= 0 && valid(model[i]) {
				holder, claimed = model[i].owner, false
			} else {
				require.Zero(t, add(entry{id: id, owner: owner}))
			}
			position, gotHolder := s.Claim(id, owner, now)
			require.Equal(t, claimed, position != 0)
			require.Equal(t, holder, gotHolder)
			if claimed {
				if claims[owner] == nil {
					claims[owner] = new(claim)
				}
				claims[owner].ids = append(claims[owner].ids, id)
				claims[owner].positions = append(claims[owner].positions, position)
			}
		case 12, 13:
			owner := 1 + random.Uint32N(3)
			if c := claims[owner]; c != nil {
				taken := random.IntN(2) == 0
				for _, id := range c.ids {
					if taken {
						e := &model[index(id)]
						e.owner, e.at = 0, now
					} else {
						remove(id)
					}
				}
				require.Equal(t, forget(s.maxEntries), s.Decide(c.positions, taken, now))
				delete(claims, owner)
			}
		default:
			if !undecided(id) {
				require.Equal(t, add(entry{id: id, at: now}), s.Add(id, now))
			}
		}
		require.Equal(t, len(model), s.Len())
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
	require.LessOrEqual(t, len(s.hashes), max(minRing, 8*s.maxEntries))
}

// TestRefusedIDsPushNothingOut: during an outage clients send more ids, and repeat them, while what was taken before
// has to be known for when they repeat that.
func TestRefusedIDsPushNothingOut(t *testing.T) {
	for name, overlapping := range map[string]bool{"one call at a time": false, "one call is always undecided": true} {
		t.Run(name, func(t *testing.T) {
			const n = 1000
			s := New(time.Hour, n)
			for id := uint64(1); id <= n; id++ {
				require.Zero(t, s.Add(id, epoch))
			}
			var before []uint64
			for call := range uint64(1000) {
				var positions []uint64
				for i := range uint64(10) {
					position, _ := s.Claim(n+1+10*call+i, 1, epoch)
					require.NotZero(t, position)
					positions = append(positions, position)
				}
				if !overlapping {
					before, positions = positions, nil
				}
				s.Decide(before, false, epoch)
				before = positions
			}
			s.Decide(before, false, epoch)
			for id := uint64(1); id <= n; id++ {
				require.True(t, s.Contains(id, epoch), id)
			}
			assert.Equal(t, n, s.Len())
			assert.LessOrEqual(t, len(s.hashes), 4*n)
		})
	}
}

// TestCraftedIDsCostNoMore counts the buckets that are read, for ids that would all have had the same first bucket with
// any mix that is known, and for random ones.
func TestCraftedIDsCostNoMore(t *testing.T) {
	const n = 20_000
	inverse := uint64(1) // of the factor that the set once had
	const factor = 0x9E3779B97F4A7C15
	for range 6 {
		inverse *= 2 - factor*inverse
	}
	require.Equal(t, uint64(1), inverse*factor)
	for name, id := range map[string]func(i uint64) uint64{
		"random":                  func(uint64) uint64 { return rand.Uint64() },
		"consecutive":             func(i uint64) uint64 { return i },
		"the same lower bits":     func(i uint64) uint64 { return i << 48 },
		"the same upper bits":     func(i uint64) uint64 { return 1<<63 | i },
		"multiplicative inverses": func(i uint64) uint64 { return i * inverse },
	} {
		t.Run(name, func(t *testing.T) {
			s := New(time.Hour, 1_000_000)
			reads := 0
			for i := range uint64(n) {
				id := id(i)
				reads += bucketsRead(s, id)
				s.Add(id, epoch)
				reads += bucketsRead(s, id)
			}
			assert.LessOrEqual(t, reads, 4*n)
		})
	}
}

// bucketsRead returns how many buckets find reads.
func bucketsRead(s *Set, id uint64) (n int) {
	id = s.mix(id)
	for i := range uint64(len(s.buckets)) {
		n++
		b := &s.buckets[id>>s.shift^i]
		for _, v := range b.cells {
			if p := v & (1<<positionBits - 1); p >= s.head && s.hashes[p&s.mask()] == id {
				return n
			}
		}
		if b.full < s.head {
			break
		}
	}
	return n
}

// TestSecretHash: what collides under the stable hash, see idsettest, does not under the secret one.
func TestSecretHash(t *testing.T) {
	var h Hasher
	h.SetKey([]byte(idsettest.WriteKey))
	stable, secret := map[uint64]bool{}, map[uint64]bool{}
	ids := idsettest.Colliding(1000)
	for _, id := range ids {
		stable[h.Hash([]byte(id))], secret[h.Secret([]byte(id))] = true, true
	}
	assert.Len(t, stable, 1)
	assert.Len(t, secret, len(ids))
	other := h.Secret([]byte("a"))
	assert.Equal(t, other, h.Secret([]byte("a")))
	h.SetKey([]byte("another key"))
	assert.NotEqual(t, other, h.Secret([]byte("a")))
	id := []byte("message")
	assert.Zero(t, testing.AllocsPerRun(100, func() { h.Secret(id) }))
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
	hash := func(i uint64) uint64 { // as even as hashes are, not more
		i = (i ^ i>>31) * 0xBF58476D1CE4E5B9
		return i ^ i>>29
	}
	for _, n := range []int{10_000, 1_000_000} {
		b.Run("", func(b *testing.B) {
			s := New(4*time.Hour, n)
			i := uint64(1 << 40)
			for range n {
				i++
				s.Add(hash(i), epoch)
			}
			b.ReportAllocs()
			for b.Loop() {
				i++
				if id := hash(i); !s.Contains(id, epoch) {
					s.Add(id, epoch)
				}
			}
		})
	}
}

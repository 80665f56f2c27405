// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package idset

import (
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestHashIsStable(t *testing.T) {
	// Exporters store these: a change would count repeats twice after an upgrade.
	assert.Equal(t, uint64(0xe934a84adb052768), Hash("", ""))
	assert.Equal(t, uint64(0xd2bc927f7fef29cb), Hash("key", "message"))
	assert.NotEqual(t, Hash("a", "bc"), Hash("ab", "c"))
	assert.Equal(t, HashBytes([]byte("key"), []byte("message")), Hash("key", "message"))
	assert.Zero(t, testing.AllocsPerRun(100, func() { Hash("key", "message") }))
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

// TestSetAgainstModel compares the set with a map and a list under random operations.
func TestSetAgainstModel(t *testing.T) {
	type entry struct {
		id uint64
		at time.Time
	}
	for _, maxEntries := range []int{1, 5, 64, 300} {
		rnd := rand.New(rand.NewPCG(1, uint64(maxEntries)))
		s := New(time.Minute, maxEntries)
		var model []entry
		now := epoch
		index := func(id uint64) int {
			for i, e := range model {
				if e.id == id && now.Sub(e.at) <= time.Minute {
					return i
				}
			}
			return -1
		}
		for range 20_000 {
			id := rnd.Uint64N(uint64(2*maxEntries)) << 60 / 7 // crowded home cells
			switch rnd.IntN(10) {
			case 0, 1, 2, 3, 4:
				if index(id) >= 0 {
					require.True(t, s.Contains(id, now))
					continue
				}
				for len(model) > 0 && now.Sub(model[0].at) > time.Minute {
					model = model[1:]
				}
				if len(model) == maxEntries {
					model = model[1:]
				}
				model = append(model, entry{id, now})
				s.Add(id, now)
			case 5, 6:
				if i := index(id); i >= 0 && i == len(model)-1 {
					model = model[:i]
					s.Remove(id)
				}
			case 7:
				now = now.Add(time.Duration(rnd.IntN(5)) * time.Second)
			default:
				require.Equal(t, index(id) >= 0, s.Contains(id, now))
			}
			require.LessOrEqual(t, s.Len(), maxEntries)
		}
	}
}

func TestSetMemory(t *testing.T) {
	const n = 1_000_000
	s := New(time.Hour, n)
	for i := range uint64(n + 10) {
		s.Add(i, epoch)
	}
	size := len(s.hashes)*int(unsafe.Sizeof(uint64(0))) + len(s.seconds)*4 + len(s.cells)*8
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

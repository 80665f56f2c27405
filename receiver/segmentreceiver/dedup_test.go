// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

func eventsOf(hashes ...uint64) []event {
	events := make([]event, len(hashes))
	for i, h := range hashes {
		events[i].hash = h
	}
	return events
}

func duplicates(events []event) []bool {
	var marks []bool
	for _, e := range events {
		marks = append(marks, e.duplicate)
	}
	return marks
}

func TestDeduplicator(t *testing.T) {
	d := newDeduplicator(time.Hour, 100)
	now := testReceived
	var first, second, third claim

	events := eventsOf(1, 0, 2, 1, 0)
	require.Nil(t, d.claim(&first, events, now))
	assert.Equal(t, []bool{false, false, false, true, false}, duplicates(events), "0 is no id")

	// A copy of what is undecided: nothing is claimed, not even what nobody else claims.
	wait := d.claim(&second, eventsOf(3, 2), now)
	require.NotNil(t, wait)
	require.Nil(t, d.claim(&third, eventsOf(3), now))
	d.release(&third)

	d.release(&first)
	<-wait
	events = eventsOf(3, 2)
	require.Nil(t, d.claim(&second, events, now))
	assert.Equal(t, []bool{false, false}, duplicates(events), "it takes the place of what was refused")
	d.commit(&second, now)
	d.release(&second) // nothing to release

	events = eventsOf(1, 2, 3)
	require.Nil(t, d.claim(&first, events, now))
	assert.Equal(t, []bool{false, true, true}, duplicates(events))
	d.commit(&first, now)
	assert.Zero(t, d.undecided.count)

	events = eventsOf(2)
	require.Nil(t, d.claim(&third, events, now.Add(2*time.Hour)))
	assert.Equal(t, []bool{false}, duplicates(events), "the window is over")
	d.release(&third)
}

func TestDeduplicatorCountsEarlyEvictions(t *testing.T) {
	d := newDeduplicator(time.Hour, 2)
	var c claim
	require.Nil(t, d.claim(&c, eventsOf(1, 2, 3), testReceived))
	assert.Equal(t, 1, d.commit(&c, testReceived))
}

// TestDeduplicatorUnderRandomFates has many requests with overlapping ids claim at once, and the pipeline refuse half
// of them. Each id is taken once, and nobody waits for ever.
func TestDeduplicatorUnderRandomFates(t *testing.T) {
	d := newDeduplicator(time.Hour, 10_000)
	var mu sync.Mutex
	taken := map[uint64]int{}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(worker), 1))
			var c claim
			for range 300 {
				var ids []uint64
				for range 1 + rnd.IntN(5) {
					ids = append(ids, 1+rnd.Uint64N(200))
				}
				for done := false; !done; {
					events := eventsOf(ids...)
					if wait := d.claim(&c, events, testReceived); wait != nil {
						<-wait
						continue
					}
					if rnd.IntN(2) == 0 {
						d.release(&c)
						continue
					}
					mu.Lock()
					for _, e := range events {
						if !e.duplicate {
							taken[e.hash]++
						}
					}
					mu.Unlock()
					d.commit(&c, testReceived)
					done = true
				}
			}
		})
	}
	wg.Wait()
	assert.Len(t, taken, 200)
	for id, n := range taken {
		assert.Equal(t, 1, n, id)
	}
	assert.Zero(t, d.undecided.count)
}

// TestACopyWaitsForTheFirst sends a message, and its copy while the pipeline is at it.
func TestACopyWaitsForTheFirst(t *testing.T) {
	for _, firstTaken := range []bool{true, false} {
		tr := startReceiver(t)
		entered, leave := make(chan struct{}), make(chan error)
		var once sync.Once
		tr.consume(func(context.Context, pmetric.Metrics) error {
			err := error(nil)
			once.Do(func() {
				close(entered)
				err = <-leave
			})
			return err
		})
		body := `{"event":"e","messageId":"1"}`
		first, second := make(chan answer, 1), make(chan answer, 1)
		go func() { first <- tr.post("/v1/track", body) }()
		<-entered
		go func() { second <- tr.post("/v1/track", body) }()
		// The copy is known to wait once it made the channel that the first's claim is to close.
		require.Eventually(t, func() bool {
			tr.dedup.mu.Lock()
			defer tr.dedup.mu.Unlock()
			for _, cell := range tr.dedup.undecided.cells {
				if cell.claim != nil {
					return cell.claim.decided != nil
				}
			}
			return false
		}, 5*time.Second, time.Millisecond)
		assert.Empty(t, second)

		if firstTaken {
			leave <- nil
			(<-first).assertSuccess(t)
		} else {
			leave <- errors.New("no")
			assert.Equal(t, http.StatusServiceUnavailable, (<-first).status)
		}
		(<-second).assertSuccess(t)
		assert.Equal(t, []string{"e"}, tr.names())
	}
}

// TestAPanicReleasesTheClaim: net/http recovers from a panic in the pipeline, and the client repeats.
func TestAPanicReleasesTheClaim(t *testing.T) {
	d := newTestDecoder()
	tr := startReceiver(t)
	tr.consume(func(context.Context, pmetric.Metrics) error { panic("broken component") })
	q := tr.newRequest()
	require.Nil(t, d.decode([]byte(`{"event":"e"}`), typeTrack))
	d.resolve(nil, false, testReceived)
	d.events[0].hash = 7
	q.decoder = *d
	assert.Panics(t, func() { _ = tr.deliver(t.Context(), q) })
	assert.Zero(t, tr.dedup.undecided.count)
}

// TestPending compares the table with a map while it grows and shrinks.
func TestPending(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var p pending
	want := map[uint64]*claim{}
	for range 20_000 {
		id := random.Uint64N(1000) * 0x100000001 // many with the same home
		if id%3 == 0 {
			id &^= 0xff
		}
		switch c := want[id]; {
		case c == nil && len(want) < 700:
			want[id] = &claim{}
			p.grow(1)
			p.fill(p.at(id), id, want[id])
		case c != nil && random.IntN(2) == 0:
			p.remove([]uint64{id})
			delete(want, id)
		default:
			require.Same(t, c, p.cells[p.at(id)].claim)
		}
		require.Equal(t, len(want), p.count)
		if len(want) > 500 && random.IntN(100) == 0 { // a claim that holds all, or all but one
			ids := slices.Collect(maps.Keys(want))[random.IntN(2):]
			p.remove(ids)
			for _, id := range ids {
				delete(want, id)
			}
		}
	}
	for id := range uint64(1000) {
		require.Same(t, want[id*0x100000001], p.cells[p.at(id*0x100000001)].claim)
	}
}

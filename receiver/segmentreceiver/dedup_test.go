// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcol-segment/otelcol-segment/internal/idset/idsettest"
)

func eventsOf(hashes ...uint64) []event {
	events := make([]event, len(hashes))
	for i, h := range hashes {
		events[i].hash = h
	}
	return events
}

// undecided returns how many claims there are.
func (d *deduplicator) undecided() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, c := range d.claims {
		if c != nil {
			n++
		}
	}
	return n
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
	d.release(&third, now)

	d.release(&first, now)
	<-wait
	events = eventsOf(3, 2)
	require.Nil(t, d.claim(&second, events, now))
	assert.Equal(t, []bool{false, false}, duplicates(events), "it takes the place of what was refused")
	d.commit(&second, now)
	d.release(&second, now) // nothing to release

	events = eventsOf(1, 2, 3)
	require.Nil(t, d.claim(&first, events, now))
	assert.Equal(t, []bool{false, true, true}, duplicates(events))
	d.commit(&first, now)
	assert.Zero(t, d.undecided())

	events = eventsOf(2)
	require.Nil(t, d.claim(&third, events, now.Add(2*time.Hour)))
	assert.Equal(t, []bool{false}, duplicates(events), "the window is over")
	d.release(&third, now)
}

func TestDeduplicatorCountsEarlyEvictions(t *testing.T) {
	d := newDeduplicator(time.Hour, 2)
	var c claim
	claim := func(ids ...uint64) (evicted int) {
		require.Nil(t, d.claim(&c, eventsOf(ids...), testReceived))
		return d.commit(&c, testReceived)
	}
	assert.Zero(t, claim(1, 2))
	assert.Equal(t, 2, claim(3, 4))
	assert.Zero(t, claim(3, 4))
}

// TestWhatIsRefusedTakesNoRoom: clients repeat what is refused, for as long as an outage lasts.
func TestWhatIsRefusedTakesNoRoom(t *testing.T) {
	d := newDeduplicator(time.Hour, 100)
	var taken, first, second claim
	require.Nil(t, d.claim(&taken, eventsOf(1000, 1001), testReceived))
	d.commit(&taken, testReceived)
	for range 1000 {
		for _, c := range []*claim{&first, &second} { // so that there is always one undecided
			d.release(c, testReceived)
			ids := []uint64{1, 2, 3}
			if c == &second {
				ids = []uint64{4, 5, 6}
			}
			require.Nil(t, d.claim(c, eventsOf(ids...), testReceived))
		}
	}
	assert.Equal(t, 8, d.ids.Len())
	events := eventsOf(1000, 1001)
	require.Nil(t, d.claim(&taken, events, testReceived))
	assert.Equal(t, []bool{true, true}, duplicates(events))
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
						d.release(&c, testReceived)
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
	assert.Zero(t, d.undecided())
}

// TestCraftedIDsAreNoCopies: under the hash that exporters store, all of these ids are one.
func TestCraftedIDsAreNoCopies(t *testing.T) {
	tr := startReceiver(t)
	for _, id := range idsettest.Colliding(3) {
		tr.post("/v1/track", `{"event":"e","writeKey":"`+idsettest.WriteKey+`","messageId":"`+id+`"}`).assertSuccess(t)
	}
	assert.Equal(t, []string{"e", "e", "e"}, tr.names())
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
			return slices.ContainsFunc(tr.dedup.claims, func(c *claim) bool { return c != nil && c.decided != nil })
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
	tr := startReceiver(t)
	tr.consume(func(context.Context, pmetric.Metrics) error { panic("broken component") })
	q := tr.newRequest()
	q.resolver.events = []event{{name: []byte("e"), hash: 7}}
	assert.Panics(t, func() { _ = tr.deliver(t.Context(), q) })
	assert.Zero(t, tr.dedup.undecided())
}

// TestACopyDoesNotWaitForEver: its client has gone, or the webhook's time is over.
func TestACopyDoesNotWaitForEver(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	r := newTestReceiver(t, consumerFunc(func(context.Context, pmetric.Metrics) error {
		close(entered)
		<-leave
		return nil
	}))
	send := func(ctx context.Context) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r.handle(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/track", strings.NewReader(`{"event":"e","messageId":"1"}`)))
		return w
	}
	first := make(chan *httptest.ResponseRecorder)
	go func() { first <- send(t.Context()) }()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	second := send(ctx)
	assert.Equal(t, http.StatusServiceUnavailable, second.Code)
	assert.NotEmpty(t, second.Header().Get("Retry-After"))
	assert.Contains(t, second.Body.String(), `"undecided"`)
	close(leave)
	assert.Equal(t, http.StatusOK, (<-first).Code)
}

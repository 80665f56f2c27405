// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"sync"
	"time"

	"github.com/otelcol-segment/otelcol-segment/internal/idset"
)

// deduplicator knows which messages the pipeline took within the window, and which it is about to decide on.
//
// A request claims the ids of all its messages at once, or none of them: if one is claimed by another request that is
// not decided yet, it claims nothing, waits for that request's fate and tries again. So no request that holds a claim
// ever waits for another, and a copy whose first was refused takes its place.
type deduplicator struct {
	mu     sync.Mutex
	ids    *idset.Set
	claims []*claim // by their numbers; nil: free. 0 is nobody's
	free   []uint32
}

// claim is the ids of one request between claim and commit or release.
type claim struct {
	number    uint32 // 0: nothing is claimed
	positions []uint64
	decided   chan struct{} // made by the first that waits
}

func newDeduplicator(window time.Duration, maxEntries int) *deduplicator {
	return &deduplicator{ids: idset.New(window, maxEntries), claims: []*claim{nil}}
}

// claim marks the events that are copies, and claims the ids of the others for c. Events without a hash are never
// copies. If it returns a channel, nothing is claimed, and it is to be called again after the channel was closed.
func (d *deduplicator) claim(c *claim, events []event, now time.Time) (wait <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.touch(events)
	d.number(c)
	for i := range events {
		e := &events[i]
		e.duplicate = false
		if e.hash == 0 {
			continue
		}
		position, holder := d.ids.Claim(e.hash, c.number, now)
		switch {
		case position != 0:
			c.positions = append(c.positions, position)
		case holder == 0 || holder == c.number: // those that are twice in one request share their fate
			e.duplicate = true
		default:
			d.decide(c, false, now)
			other := d.claims[holder]
			if other.decided == nil {
				other.decided = make(chan struct{})
			}
			return other.decided
		}
	}
	return nil
}

// touch reads what claim will read, so that the processor fetches the memory of many ids at once: claim alone would wait
// for one after the other. What touch returns means nothing. It is not inlined, or the compiler would see that nobody
// uses it, and leave the reads out.
//
//go:noinline
func (d *deduplicator) touch(events []event) (touched uint64) {
	for i := range events {
		touched ^= d.ids.Touch(events[i].hash)
	}
	return touched
}

// commit says that the pipeline took the events of c. evicted is how many ids it had to forget early.
func (d *deduplicator) commit(c *claim, now time.Time) (evicted int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.decide(c, true, now)
}

// release says that the pipeline did not take the events of c. It does nothing after commit.
func (d *deduplicator) release(c *claim, now time.Time) {
	if c.number == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.decide(c, false, now)
}

// number gives c a number that no other claim has.
func (d *deduplicator) number(c *claim) {
	if n := len(d.free); n > 0 {
		c.number = d.free[n-1]
		d.free = d.free[:n-1]
		d.claims[c.number] = c
		return
	}
	c.number = uint32(len(d.claims)) //nolint:gosec // a request each
	d.claims = append(d.claims, c)
}

// decide ends c, and wakes those that wait for it.
func (d *deduplicator) decide(c *claim, taken bool, now time.Time) (evicted int) {
	evicted = d.ids.Decide(c.positions, taken, now)
	d.claims[c.number] = nil
	d.free = append(d.free, c.number)
	c.number, c.positions = 0, c.positions[:0]
	if c.decided != nil {
		close(c.decided)
		c.decided = nil
	}
	return evicted
}

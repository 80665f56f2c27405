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
	mu        sync.Mutex
	seen      *idset.Set
	undecided map[uint64]*claim
	touched   uint64 // of no meaning, see idset.Set.Touch
}

// claim is the ids of one request between claim and commit or release.
type claim struct {
	ids     []uint64
	decided chan struct{} // made by the first that waits
}

func newDeduplicator(window time.Duration, maxEntries int) *deduplicator {
	return &deduplicator{seen: idset.New(window, maxEntries), undecided: make(map[uint64]*claim)}
}

// claim marks the events that are copies, and claims the ids of the others for c. Events without a hash are never
// copies. If it returns a channel, nothing is claimed, and it is to be called again after the channel was closed.
func (d *deduplicator) claim(c *claim, events []event, now time.Time) (wait <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range events {
		d.touched ^= d.seen.Touch(events[i].hash)
	}
	for i := range events {
		e := &events[i]
		e.duplicate = false
		if e.hash == 0 {
			continue
		}
		switch other := d.undecided[e.hash]; {
		case other == c: // twice in one request: they share their fate
			e.duplicate = true
		case other != nil:
			d.forget(c)
			if other.decided == nil {
				other.decided = make(chan struct{})
			}
			return other.decided
		case d.seen.Contains(e.hash, now):
			e.duplicate = true
		default:
			d.undecided[e.hash] = c
			c.ids = append(c.ids, e.hash)
		}
	}
	return nil
}

// commit says that the pipeline took the events of c. It returns how many ids it had to forget early for them.
func (d *deduplicator) commit(c *claim, now time.Time) (evicted int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.touched ^= d.seen.TouchOldest(len(c.ids))
	for _, id := range c.ids {
		evicted += d.seen.Add(id, now)
	}
	d.decide(c)
	return evicted
}

// release says that the pipeline did not take the events of c. It does nothing after commit.
func (d *deduplicator) release(c *claim) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.decide(c)
}

func (d *deduplicator) decide(c *claim) {
	d.forget(c)
	if c.decided != nil {
		close(c.decided)
		c.decided = nil
	}
}

func (d *deduplicator) forget(c *claim) {
	for _, id := range c.ids {
		delete(d.undecided, id)
	}
	c.ids = c.ids[:0]
}

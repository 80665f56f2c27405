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
	undecided pending
	touched   uint64 // of no meaning, see idset.Set.Touch
}

// claim is the ids of one request between claim and commit or release.
type claim struct {
	ids     []uint64
	decided chan struct{} // made by the first that waits
}

func newDeduplicator(window time.Duration, maxEntries int) *deduplicator {
	return &deduplicator{seen: idset.New(window, maxEntries)}
}

// claim marks the events that are copies, and claims the ids of the others for c. Events without a hash are never
// copies. If it returns a channel, nothing is claimed, and it is to be called again after the channel was closed.
func (d *deduplicator) claim(c *claim, events []event, now time.Time) (wait <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range events {
		d.touched ^= d.seen.Touch(events[i].hash)
	}
	d.undecided.grow(len(events))
	for i := range events {
		e := &events[i]
		e.duplicate = false
		if e.hash == 0 {
			continue
		}
		cell := d.undecided.at(e.hash)
		switch other := d.undecided.cells[cell].claim; {
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
			d.undecided.fill(cell, e.hash, c)
			c.ids = append(c.ids, e.hash)
		}
	}
	return nil
}

// commit says that the pipeline took the events of c. It returns how many ids it had to forget early for them.
func (d *deduplicator) commit(c *claim, now time.Time) (evicted int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	// The pipeline had the caches since: touching again saves a tenth.
	for _, id := range c.ids {
		d.touched ^= d.seen.Touch(id)
	}
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
	d.undecided.remove(c.ids)
	c.ids = c.ids[:0]
}

// pending finds the claim that holds an id. It is an open addressing table since each message comes into it and leaves it
// again: a Go map costs three times as much, a tenth of all that an event of a large batch costs.
type pending struct {
	cells []pendingCell // a power of two, at most half full; the free ones have no claim
	count int
}

type pendingCell struct {
	id    uint64
	claim *claim
}

// grow makes room for n more.
func (p *pending) grow(n int) {
	size := max(256, len(p.cells))
	for (p.count+n)*2 > size {
		size *= 2
	}
	if size == len(p.cells) {
		return
	}
	old := p.cells
	p.cells = make([]pendingCell, size)
	for _, cell := range old {
		if cell.claim != nil {
			p.cells[p.at(cell.id)] = cell
		}
	}
}

// at returns the cell of id, or the free one where it belongs. Ids are hashes, so their low bits spread well.
func (p *pending) at(id uint64) int {
	mask := len(p.cells) - 1
	c := int(id) & mask //nolint:gosec // the low bits
	for p.cells[c].claim != nil && p.cells[c].id != id {
		c = (c + 1) & mask
	}
	return c
}

// fill notes in the free cell where id belongs that c holds it.
func (p *pending) fill(cell int, id uint64, c *claim) {
	p.cells[cell] = pendingCell{id, c}
	p.count++
}

// remove forgets the ids of a claim.
func (p *pending) remove(ids []uint64) {
	// If no other claim is undecided, clearing all saves a sixth of what deduplication costs a large batch.
	if p.count == len(ids) && len(p.cells) <= 8*len(ids) {
		clear(p.cells)
		p.count = 0
		return
	}
	for _, id := range ids {
		p.free(p.at(id))
	}
}

// free empties a cell, and closes the gap that it leaves in its run of neighbours.
func (p *pending) free(gap int) {
	mask := len(p.cells) - 1
	for next := (gap + 1) & mask; p.cells[next].claim != nil; next = (next + 1) & mask {
		home := int(p.cells[next].id) & mask //nolint:gosec // the low bits
		// The neighbour may move back only if its home is not between the gap and itself.
		if (next-home)&mask >= (next-gap)&mask {
			p.cells[gap] = p.cells[next]
			gap = next
		}
	}
	p.cells[gap] = pendingCell{}
	p.count--
}

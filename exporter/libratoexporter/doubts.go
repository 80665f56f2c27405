// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
)

// doubts holds which increments the service refused without a word on what is wrong with them. They are kept, and
// posted after all others, so that they hold nothing up; those that were refused alone are posted alone.
type doubts struct {
	mu    sync.Mutex
	posts uint64 // begun so far: the number of the last
	taken uint64 // the number of the last that the service took
	of    map[*increment]doubt
}

type doubt struct {
	posts uint64 // that had begun when it was refused last
	alone bool
}

func newDoubts() *doubts { return &doubts{of: map[*increment]doubt{}} }

// begin returns the number of a post that begins.
func (d *doubts) begin() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.posts++
	return d.posts
}

// take notes that the service took a post.
func (d *doubts) take(post uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taken = max(d.taken, post)
}

// now returns what tookSince takes.
func (d *doubts) now() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.posts
}

// tookSince says whether the service took a post that began after then. One that began before proves nothing: posts
// overlap.
func (d *doubts) tookSince(then uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.taken > then
}

// add notes that the service refused incs, each of them alone or all at once.
func (d *doubts) add(incs []*increment, alone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, inc := range incs {
		d.of[inc] = doubt{d.posts, alone}
	}
}

// settle forgets increments that left the state.
func (d *doubts) settle(incs []*increment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, inc := range incs {
		delete(d.of, inc)
	}
}

// known says whether each of incs was refused before; whether the service took others since; and whether each was
// alone.
func (d *doubts) known(incs []*increment) (refused, othersTaken, alone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	othersTaken, alone = true, true
	for _, inc := range incs {
		before, ok := d.of[inc]
		if !ok {
			return false, false, false
		}
		othersTaken = othersTaken && before.posts < d.taken
		alone = alone && before.alone
	}
	return true, othersTaken, alone
}

// divide divides increments into requests of at most so many: those without a doubt; and those with one. Of what was
// refused alone as many as may be refused in a row are alone, first what was posted longest ago.
func (d *doubts) divide(incs []*increment, most int) (fresh, doubtful [][]*increment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var good, alone, others []*increment
	for _, inc := range incs {
		switch known, ok := d.of[inc]; {
		case !ok:
			good = append(good, inc)
		case known.alone:
			alone = append(alone, inc)
		default:
			others = append(others, inc)
		}
	}
	slices.SortStableFunc(alone, func(a, b *increment) int { return cmp.Compare(d.of[a].posts, d.of[b].posts) })
	fresh = slices.Collect(slices.Chunk(good, most))
	few := min(len(alone), aloneInARow)
	doubtful = slices.Collect(slices.Chunk(alone[:few], 1))
	return fresh, slices.AppendSeq(doubtful, slices.Chunk(append(others, alone[few:]...), most))
}

// holdBack is how long a metric is held back that the service knows as another type.
const holdBack = 10 * time.Minute

// conflicts holds the metrics that the service knows as another type: each would refuse every request it is in.
type conflicts struct {
	mu    sync.Mutex
	until map[string]time.Time // by lower-case name
}

func newConflicts() *conflicts { return &conflicts{until: map[string]time.Time{}} }

// add holds the metrics of incs back.
func (c *conflicts) add(incs []*increment, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, inc := range incs {
		c.until[strings.ToLower(inc.stream.name)] = now.Add(holdBack)
	}
}

// divide takes out of incs those whose metric is held back.
func (c *conflicts) divide(incs []*increment, now time.Time) (rest, held []*increment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, until := range c.until {
		if now.After(until) {
			delete(c.until, name)
		}
	}
	if len(c.until) == 0 {
		return incs, nil
	}
	rest = slices.DeleteFunc(incs, func(inc *increment) bool {
		_, isHeld := c.until[strings.ToLower(inc.stream.name)]
		if isHeld {
			held = append(held, inc)
		}
		return isHeld
	})
	return rest, held
}

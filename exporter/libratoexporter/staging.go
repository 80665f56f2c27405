// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// errFull makes the receiver answer 503, so that SDKs hold on to what they have.
var errFull = errors.New("max_increments reached: Librato takes less than comes in, or has been away for long")

// staging is what one commit makes of the state: begin, stage for each call, then keep or undo. In between, with storage,
// comes the transaction on disk. It is used again for the next commit, so that folding allocates nothing.
type staging struct {
	state   *state
	origins *origins

	number  uint64       // of the commit
	before  int          // len(state.open) before it
	touched []*increment // those that fold something; staged is what they will be
	floors  []int64      // starts of periods whose last second is to be saved
	newIDs  []uint64     // of messages
	claimed []uint64     // their positions in the set of ids
	at      time.Time    // when they came
	refused []refusedPoint
	copies  int // points whose message id is known

	collisions []collision
}

// collision is a reading that is refused because its stream has another origin.
type collision struct {
	stream *stream
	origin origin // of the reading
	values uint64 // that it stands for
}

// begin starts a commit.
func (c *staging) begin() {
	c.number++
	c.before = len(c.state.open)
	c.touched, c.floors, c.newIDs, c.refused = c.touched[:0], c.floors[:0], c.newIDs[:0], c.refused[:0]
	c.claimed, c.collisions = c.claimed[:0], c.collisions[:0]
	c.copies = 0
}

// stage folds the samples of one call into what the commit will make of their increments. It takes the call whole
// or, when a bound is reached, not at all, with errFull. Points that can never be taken are left out and noted.
func (c *staging) stage(samples []sample, now int64) error {
	s := c.state
	if s.count()+len(samples) > s.maxIncrements && s.count()+s.wouldOpen(samples) > s.maxIncrements {
		return errFull
	}
	at := time.Unix(0, now)
	for i := range samples {
		p := &samples[i]
		if why := c.add(p, now, at); why != "" {
			c.refused = append(c.refused, refusedPoint{why, p.name, p.source, "", p.value.Count})
		}
	}
	return nil
}

// add folds one sample, or returns why it can never be taken.
func (c *staging) add(p *sample, now int64, at time.Time) reason {
	s := c.state
	st, why := s.streams.of(p)
	if st == nil {
		return why
	}
	if st.kind != p.kind && !s.changeKind(st, p.kind) {
		return reasonKindConflict
	}
	if p.origin != (origin{}) && !st.comesFrom(p.origin, now) {
		c.collisions = append(c.collisions, collision{st, p.origin, p.value.Count})
		return ""
	}
	var id uint64
	if p.id != 0 {
		if id = p.id ^ st.id; s.ids.Contains(id, at) {
			c.copies++
			return ""
		}
	}
	known := len(s.open)
	inc, why := s.incrementOf(st, p.time, now)
	if inc == nil {
		return why
	}
	if len(s.open) > known && st.kind == kindAdding && s.used.unsaved(inc.start, inc.period) &&
		!slices.Contains(c.floors, inc.start) {
		c.floors = append(c.floors, inc.start)
	}
	as := staged{inc.value, inc.second}
	if inc.commit == c.number {
		as = inc.staged
	}
	switch {
	case st.kind != kindCounter:
		as.value.Add(p.value)
		if math.Abs(as.value.Sum) > librato.MaxValue {
			return reasonOutOfRange
		}
	case p.time >= as.second: // the last reading counts
		as = staged{p.value, p.time}
	}
	if inc.commit != c.number {
		inc.commit = c.number
		c.touched = append(c.touched, inc)
	}
	inc.staged = as
	if id != 0 {
		position, _ := s.ids.Claim(id, 1, at) // there is one commit at a time
		c.newIDs, c.claimed, c.at = append(c.newIDs, id), append(c.claimed, position), at
	}
	return ""
}

// keep makes what was staged the state, and reports what was refused.
func (c *staging) keep(to *refusals) {
	for _, inc := range c.touched {
		if inc.value = inc.staged.value; inc.staged.second > inc.second {
			inc.second = inc.staged.second
			inc.due = max(inc.due, inc.second*int64(time.Second)+c.state.flush)
		}
	}
	for _, start := range c.floors {
		c.state.used.save(start, c.state.schedule.period)
	}
	for i := range c.refused {
		to.point(&c.refused[i])
	}
	clear(c.refused) // its strings belong to the calls
	for _, r := range c.collisions {
		to.points(reasonAttributeCollision, r.values)
		if !r.stream.collision {
			r.stream.collision = true
			to.collision(r.stream, c.origins.apart(r.stream.origin, r.origin))
		}
	}
	clear(c.collisions)
	to.duplicates(c.copies)
	to.evicted(c.state.ids.Decide(c.claimed, true, c.at))
}

// undo forgets what was staged. Streams that it made stay, empty, until they are forgotten.
func (c *staging) undo() {
	s := c.state
	for _, inc := range slices.Backward(s.open[c.before:]) {
		inc.stream.open = inc.stream.open[:len(inc.stream.open)-1]
		s.streams.idleIfDone(inc.stream)
	}
	clear(s.open[c.before:])
	s.open = s.open[:c.before]
	s.ids.Decide(c.claimed, false, c.at)
	clear(c.refused)
}

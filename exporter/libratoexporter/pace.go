// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"time"

	"github.com/cenkalti/backoff/v7"
)

// pace says when something is to be done, and what. It makes no request and reads no clock.
//
// Ticks are multiples of the flush interval on the wall clock. While the service is away they send nothing: then the
// back-off says when to try again, or the service itself, with Retry-After, if it wants to be left alone for longer.
type pace struct {
	interval time.Duration
	backOff  *backoff.ExponentialBackOff

	away   bool      // what was sent last has to be sent again
	resume time.Time // while away: not before
	ticked time.Time // the last tick that was seen
	tidied time.Time
}

// task is what is to be done at a step.
type task uint8

const (
	taskNothing task = iota
	taskExpire       // a tick passed while the service is left alone: drop what became too old
	taskFlush        // a tick passed: send what is due
	taskProbe        // the back-off is over: see whether the service is back
)

func newPace(interval time.Duration, backOff *backoff.ExponentialBackOff, now time.Time) pace {
	return pace{interval: interval, backOff: backOff, ticked: now.Truncate(interval)}
}

// wait returns how long after now the next step is due. The wall clock decides: where it steps, a monotonic wait ends
// at another moment, finds nothing to do, and is taken up again.
func (p *pace) wait(now time.Time) time.Duration {
	wait := now.Truncate(p.interval).Add(p.interval).Sub(now)
	if p.away && p.resume.After(now) {
		wait = min(wait, p.resume.Sub(now))
	}
	return max(wait, time.Millisecond)
}

// step returns what is to be done at now, and whether the state is to be tidied as well, which once an interval is
// enough for.
func (p *pace) step(now time.Time) (do task, tidy bool) {
	tick := now.Truncate(p.interval)
	passed := !tick.Equal(p.ticked) // backwards, too, if the clock does
	p.ticked = tick
	switch {
	case p.away && !now.Before(p.resume):
		do = taskProbe
	case p.away && passed:
		do = taskExpire
	case passed:
		do = taskFlush
	}
	if tidy = now.Sub(p.tidied).Abs() >= p.interval; tidy {
		p.tidied = now
	}
	return do, tidy
}

// leave notes that the service is away, and returns for how long it is left alone: at least as long as it asks for.
func (p *pace) leave(now time.Time, asked time.Duration) time.Duration {
	wait := max(asked, p.backOff.NextBackOff())
	p.away, p.resume = true, now.Add(wait)
	return wait
}

// back notes that the service takes measurements.
func (p *pace) back() {
	p.away = false
	p.backOff.Reset()
}

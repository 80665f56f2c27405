// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"slices"
	"time"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// Which second of its period an increment gets.
//
// Librato keeps one measurement a second for a stream, so an increment needs a second of its period that no
// other increment of its stream ever had or will have: then seconds add up, and posting one again changes
// nothing. The argument, from DESIGN.md, "Adding up so that it stays right":
//
//   - A period has a list of ticks that may seal its increments. The k-th of them has the k-th second (of those
//     that belong to this instance). What is opened between two ticks of the list takes the second of the next.
//   - A stream opens its next increment of a period only when the one before is sealed, and then takes a second
//     above every second of the period that was sealed: whatever the clock did meanwhile, no second comes twice.
//   - The last second handed out of each period is on disk before the increment that has it is acknowledged.
//     After a start it counts as sealed, so a restart, too, only ever goes up.
//   - An increment is sealed only when its second has passed, so no measurement is ahead of the clock.
//
// Every instant here is in nanoseconds since the epoch, every second in seconds since the epoch.

// longestPeriod is the longest that Librato aggregates over, in seconds.
const longestPeriod = int64(librato.MaxPeriod / time.Second)

// schedule is the list of ticks, the same for every period. It is immutable.
type schedule struct {
	period  int64   // seconds
	count   int64   // instances that share the seconds of a period
	index   int64   // this one
	offsets []int64 // nanoseconds from the start of a period to the ticks of the list, ascending
}

// newSchedule lays the ticks out: first those within the period, at flushes and at most as many as half of its
// seconds, then late ones, ever further apart, up to maxAge. One second in ten stays free for restarts. With the
// defaults (60s, 10s, 110m) that is 6 in time and 48 late.
func newSchedule(period, flush, maxAge time.Duration, index, count int) schedule {
	s := schedule{period: int64(period / time.Second), count: int64(count), index: int64(index)}
	seconds := s.period / s.count
	inTime := max(1, min(int64(period/flush), seconds/2))
	for k := int64(1); k <= inTime; k++ {
		// Half of the seconds at most: so the k-th tick is never before the k-th second.
		s.offsets = append(s.offsets, roundUp(k*int64(period)/inTime, int64(flush)))
	}
	late := int(max(1, seconds-seconds/10-inTime))
	last := s.offsets[len(s.offsets)-1]

	// The smallest growth whose ticks reach maxAge is searched for by halving: there is no closed form, since
	// ticks are rounded up to flushes.
	low, high := 0.0, float64(maxAge)/float64(last)
	for range 40 {
		middle := (low + high) / 2
		if len(lateTicks(last, middle, int64(flush), int64(maxAge), late+1)) <= late {
			high = middle
		} else {
			low = middle
		}
	}
	s.offsets = append(s.offsets, lateTicks(last, high, int64(flush), int64(maxAge), late)...)
	return s
}

// lateTicks returns ticks after last, each later than the one before by growth times its own lateness, rounded
// up to a flush; the last of them at maxAge. There are at most maxTicks.
func lateTicks(last int64, growth float64, flush, maxAge int64, maxTicks int) []int64 {
	var ticks []int64
	for end := maxAge / flush * flush; last < end && len(ticks) < maxTicks; {
		last = min(end, max(last+flush, roundUp(last+int64(growth*float64(last)), flush)))
		ticks = append(ticks, last)
	}
	return ticks
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// start returns the start of the period that a second belongs to.
func (s *schedule) start(second int64) int64 {
	start := second - second%s.period
	if start > second { // before 1970
		start -= s.period
	}
	return start
}

// place returns the second and the instant of sealing for an increment of the period at start that is opened now, or
// false when the period has no tick, or no second, left.
//
// taken has seconds that the stream sent for something else; it may be nil.
func (s *schedule) place(start, now int64, used *usedSeconds, taken *secondSet) (second, due int64, ok bool) {
	k, _ := slices.BinarySearch(s.offsets, now-start*int64(time.Second)+1)
	if k == len(s.offsets) {
		return 0, 0, false
	}
	second = used.free(start, s.period, start+s.index+int64(k)*s.count, s.count)
	for taken != nil && second < start+s.period && taken.contains(second) {
		second = used.free(start, s.period, second+s.count, s.count)
	}
	if second >= start+s.period {
		return 0, 0, false
	}
	return second, max(start*int64(time.Second)+s.offsets[k], second*int64(time.Second)), true
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"cmp"
	"slices"
)

// usedRange is what is known of the seconds of one period.
type usedRange struct {
	start, period int64 // seconds
	last          int64 // the last second handed out
	sealed        int64 // the last second that may not be handed out again; start-1: none
	saved         int64 // what the disk holds as last; start-1: nothing
}

// usedSeconds holds the ranges of recent periods, ascending by start. It is the floor under new increments.
type usedSeconds struct {
	ranges    []usedRange
	maxRanges int
}

func (u *usedSeconds) find(start, period int64) (int, bool) {
	return slices.BinarySearchFunc(u.ranges, usedRange{start: start, period: period}, func(a, b usedRange) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.period, b.period))
	})
}

// free returns the first second from wanted on, in steps of step, that lies above what is sealed of its own
// period, and outside the used ranges of periods of another length that overlap it.
func (u *usedSeconds) free(start, period, wanted, step int64) int64 {
	// No range that starts earlier than the longest period before reaches into this one.
	from, _ := u.find(start-longestPeriod, 0)
	for again := true; again; {
		again = false
		for i := from; i < len(u.ranges) && u.ranges[i].start <= wanted; i++ {
			r := &u.ranges[i]
			taken := r.last
			if r.start == start && r.period == period {
				taken = r.sealed
			}
			if wanted <= taken && wanted < r.start+r.period {
				wanted += roundUp(taken+1-wanted, step)
				again = true
			}
		}
	}
	return wanted
}

// handOut notes that second of the period is in use.
func (u *usedSeconds) handOut(start, period, second int64) *usedRange {
	i, found := u.find(start, period)
	if !found {
		fresh := usedRange{start: start, period: period, last: second, sealed: start - 1, saved: start - 1}
		u.ranges = slices.Insert(u.ranges, i, fresh)
	}
	r := &u.ranges[i]
	r.last = max(r.last, second)
	return r
}

// unsaved says whether the disk does not hold the last second handed out of the period.
func (u *usedSeconds) unsaved(start, period int64) bool {
	i, found := u.find(start, period)
	return found && u.ranges[i].saved < u.ranges[i].last
}

// save notes that the disk holds the last second handed out of the period.
func (u *usedSeconds) save(start, period int64) {
	if i, found := u.find(start, period); found {
		u.ranges[i].saved = u.ranges[i].last
	}
}

// recovered notes that the disk holds last as the last second handed out of the period. It may have been posted.
func (u *usedSeconds) recovered(start, period, last int64) {
	r := u.handOut(start, period, last)
	r.sealed, r.saved = r.last, r.last
}

// of returns what is known of the period.
func (u *usedSeconds) of(start, period int64) usedRange {
	if i, found := u.find(start, period); found {
		return u.ranges[i]
	}
	return usedRange{start: start, period: period, last: start - 1, sealed: start - 1, saved: start - 1}
}

// seal notes that second of the period is not to be handed out again.
func (u *usedSeconds) seal(start, period, second int64) {
	if i, found := u.find(start, period); found {
		u.ranges[i].sealed = max(u.ranges[i].sealed, second)
	}
}

// forget drops ranges beyond what is kept, those furthest from now first, and returns them. A clock that is hours ahead
// for days must not have those forgotten that are used when it is set back, so what is kept is counted, not dated.
func (u *usedSeconds) forget(now int64) (gone []usedRange) {
	for len(u.ranges) > u.maxRanges {
		i := 0
		if last := len(u.ranges) - 1; u.ranges[last].start-now > now-u.ranges[0].start {
			i = last
		}
		gone = append(gone, u.ranges[i])
		u.ranges = slices.Delete(u.ranges, i, i+1)
	}
	return gone
}

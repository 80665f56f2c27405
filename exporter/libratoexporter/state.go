// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"cmp"
	"slices"
	"time"

	"github.com/otelcol-segment/otelcol-segment/internal/idset"
)

// state is the exporter's state and its queue: every increment that is not yet confirmed by Librato, with what it takes
// to open the next one. It changes by commits (see staging.go), by sealing, and by what the service answers.
//
// It has no lock of its own: see journal.
type state struct {
	streams  streams
	schedule schedule
	used     usedSeconds
	ids      *idset.Set // of messages; each is mixed with its stream's

	maxAge, maxFuture int64 // seconds
	flush             int64 // nanoseconds
	maxIncrements     int
	batch             int  // measurements a request
	keyed             bool // with storage: increments have keys

	open        []*increment // in the order of opening
	ahead       []*increment // recovered ones whose second has not passed: the clock was set back since
	sealed      []*increment // in the order of sealing; what is done goes with the next seal
	unconfirmed int          // how many of sealed are not done
	fast        int          // increments of streams that do not add up opened since the last flush
}

func newState(cfg *Config) state {
	period := cfg.Gauges.Period
	return state{
		streams:       newStreams(cfg),
		schedule:      newSchedule(period, cfg.FlushInterval, cfg.MaxAge, cfg.Instance.Index, cfg.Instance.Count),
		used:          usedSeconds{maxRanges: 64 + 2*int((cfg.MaxAge+cfg.MaxFuture)/period)},
		ids:           idset.New(cfg.Deduplication.Window, cfg.Deduplication.MaxEntries),
		maxAge:        int64(cfg.MaxAge / time.Second),
		maxFuture:     int64(cfg.MaxFuture / time.Second),
		flush:         int64(cfg.FlushInterval),
		maxIncrements: cfg.MaxIncrements,
		batch:         cfg.api().MaxMeasurements,
		keyed:         cfg.StorageID != nil,
	}
}

// count is how many increments are not confirmed.
func (s *state) count() int { return len(s.open) + s.unconfirmed }

// incrementOf returns the open increment that a point of the stream belongs to, a new one if need be; or why there is
// none.
func (s *state) incrementOf(st *stream, second, now int64) (*increment, reason) {
	switch age := now/int64(time.Second) - second; {
	case age > s.maxAge:
		return nil, reasonTooOld
	case -age > s.maxFuture:
		return nil, reasonInTheFuture
	}
	if inc := s.openOf(st, second); inc != nil {
		return inc, ""
	}
	if st.taken != nil && st.kind != kindAdding && st.taken.contains(second) {
		return nil, reasonSecondTaken
	}
	if inc := s.foldsInto(st, second); inc != nil {
		return inc, ""
	}
	inc := &increment{
		stream: st, start: second, period: s.schedule.period,
		second: second, due: second*int64(time.Second) + s.flush, opened: now,
	}
	if st.kind == kindAdding {
		inc.start = s.schedule.start(second)
		var ok bool
		if inc.second, inc.due, ok = s.schedule.place(inc.start, now, &s.used, st.taken); !ok {
			return nil, reasonTooOld
		}
		s.used.handOut(inc.start, inc.period, inc.second)
	} else {
		s.fast++
	}
	if s.keyed {
		inc.key = incrementKey(inc)
	}
	st.used = now
	s.streams.busy(st)
	st.open = append(st.open, inc)
	s.open = append(s.open, inc)
	return inc, ""
}

// openOf returns the open increment that a point of the stream belongs to, nil if there is none.
func (s *state) openOf(st *stream, second int64) *increment {
	if st.kind == kindAdding {
		second = s.schedule.start(second)
	}
	for _, inc := range slices.Backward(st.open) { // nearly always the newest
		if inc.start == second || inc.holds(second) {
			return inc
		}
	}
	return nil
}

// foldsInto returns the open increment of another second of the period that a reading joins while the service is away,
// nil if it gets one of its own. So an outage costs a stream of readings no more than it costs one of events.
func (s *state) foldsInto(st *stream, second int64) *increment {
	if st.kind == kindAdding || !st.awaitsAnswer() {
		return nil
	}
	start := s.schedule.start(second)
	for _, inc := range slices.Backward(st.open) {
		if s.schedule.start(inc.start) == start {
			return inc
		}
	}
	return nil
}

// changeKind makes the stream one of another kind, if nothing of it waits.
func (s *state) changeKind(st *stream, to kind) bool {
	if st.waits() {
		return false
	}
	if st.kind == kindAdding && st.taken == nil {
		// Which seconds were sent for it is not known, but they are among those that are used of each period.
		st.taken = newSecondSet(s.maxAge + s.maxFuture)
		for _, r := range s.used.ranges {
			for second := r.start; second <= r.sealed; second++ {
				st.taken.add(second)
			}
		}
	}
	st.kind = to
	return true
}

// wouldOpen returns how many increments the samples need that are not open yet, at most. It is only asked near the bound,
// and may be slow.
func (s *state) wouldOpen(samples []sample) int {
	type place struct {
		alias
		start int64
	}
	fresh := map[place]struct{}{}
	for i := range samples {
		p := &samples[i]
		start := p.time
		if p.kind == kindAdding {
			start = s.schedule.start(p.time)
		}
		if st := s.streams.known(p); st == nil || s.openOf(st, p.time) == nil && s.foldsInto(st, p.time) == nil {
			fresh[place{aliasOf(p), start}] = struct{}{}
		}
	}
	return len(fresh)
}

// flushSize is how many increments one flush posts at most: one for each stream, rounded up to full requests. So an
// outage ends without a storm. Twice as many where each flush may bring one of every stream, else a backlog would
// never shrink.
func (s *state) flushSize() int {
	n := s.streams.count()
	if 2*s.flush > s.schedule.period*int64(time.Second) {
		n *= 2
	}
	n += 2 * s.fast
	return max(s.batch, (n+s.batch-1)/s.batch*s.batch)
}

// waiting returns at most so many of the increments that are sealed and not confirmed.
func (s *state) waiting(now int64, most int) []*increment {
	s.sealed = slices.DeleteFunc(s.sealed, func(inc *increment) bool { return inc.state == stateDone })
	incs := make([]*increment, 0, min(most, len(s.sealed)))
	for _, inc := range s.sealed {
		if inc.due <= now && len(incs) < most {
			incs = append(incs, inc)
		}
	}
	return incs
}

// seal seals what is due until so many increments are sealed, the oldest seconds first if there is no room for all. What
// mayPost says no to is left out. A stream that has unconfirmed ones goes on folding instead, so that an absent service
// costs one increment a stream and period, and no more.
func (s *state) seal(now int64, most int, mayPost func(*increment) bool) {
	s.sealed = slices.DeleteFunc(s.sealed, func(inc *increment) bool { return inc.state == stateDone })
	s.passAhead(now)
	room := most - (len(s.sealed) - len(s.ahead))
	if room <= 0 {
		return
	}
	var due []*increment
	for _, inc := range s.open {
		if inc.due <= now && !inc.stream.awaitsAnswer() && mayPost(inc) {
			due = append(due, inc)
		}
	}
	if len(due) > room {
		slices.SortStableFunc(due, func(a, b *increment) int { return cmp.Compare(a.second, b.second) })
		due = due[:room]
	}
	s.sealThese(due)
}

// passAhead takes note of increments whose second has passed by now. Until then they wait, but for no answer.
func (s *state) passAhead(now int64) {
	if len(s.ahead) == 0 {
		return
	}
	s.ahead = slices.DeleteFunc(s.ahead, func(inc *increment) bool {
		passed := inc.due <= now || inc.state == stateDone
		if passed {
			inc.stream.ahead--
		}
		return passed
	})
}

// sealAll seals every increment, due or not.
func (s *state) sealAll() { s.sealThese(slices.Clone(s.open)) }

func (s *state) sealThese(incs []*increment) {
	for _, inc := range incs {
		inc.due = 0 // from here on it is posted until it is confirmed, whatever the clock does
		inc.stream.closed++
		s.addSealed(inc)
	}
	s.dropClosed(incs)
}

// addSealed puts an increment that folds no more among those to be posted. Its second is not handed out again.
func (s *state) addSealed(inc *increment) {
	st := inc.stream
	inc.state = stateSealed
	st.unconfirmed++
	s.streams.busy(st)
	if st.kind == kindAdding {
		s.used.seal(inc.start, inc.period, inc.second)
	} else if st.taken == nil {
		st.taken = newSecondSet(s.maxAge + s.maxFuture)
	}
	if st.taken != nil {
		st.taken.add(inc.second)
		if st.kind != kindAdding {
			st.taken.add(inc.start) // which is in its key on disk
		}
	}
	s.sealed = append(s.sealed, inc)
	s.unconfirmed++
}

// dropClosed takes increments that are no longer open out of what is open of their streams, each of which is gone
// through once, and out of the list of all.
func (s *state) dropClosed(incs []*increment) {
	closed := func(inc *increment) bool { return inc.state != stateOpen }
	for _, inc := range incs {
		if st := inc.stream; st.closed > 0 {
			st.open = slices.DeleteFunc(st.open, closed)
			st.closed = 0
			s.streams.idleIfDone(st)
		}
	}
	if len(incs) > 0 {
		s.open = slices.DeleteFunc(s.open, closed)
	}
}

// settle takes sealed increments that were confirmed, refused or became too old out of the state.
func (s *state) settle(incs []*increment) {
	for _, inc := range incs {
		inc.state = stateDone
		inc.stream.unconfirmed--
		s.unconfirmed--
		s.streams.idleIfDone(inc.stream)
	}
}

// expire takes out, and returns, what became too old to be sent: Librato would refuse it.
func (s *state) expire(now int64) []*increment {
	oldest := now/int64(time.Second) - s.maxAge
	var sealed, open []*increment
	for _, inc := range s.sealed {
		if inc.state == stateSealed && inc.second < oldest {
			sealed = append(sealed, inc)
		}
	}
	s.settle(sealed)
	for _, inc := range s.open {
		if inc.second < oldest {
			inc.state = stateDone
			inc.stream.closed++
			open = append(open, inc)
		}
	}
	s.dropClosed(open)
	return append(sealed, open...)
}

// oldestUnconfirmed returns when the oldest increment that waits for an answer was opened, in nanoseconds; 0 without any.
func (s *state) oldestUnconfirmed() int64 {
	var oldest int64
	for _, inc := range s.sealed {
		if inc.state == stateSealed && (oldest == 0 || inc.opened < oldest) {
			oldest = inc.opened
		}
	}
	return oldest
}

// forget lets go of streams that were idle for long, and of what is known of periods long gone; these it returns.
func (s *state) forget(now int64) []usedRange {
	s.streams.forget(now - int64(idleStream))
	return s.used.forget(now / int64(time.Second))
}

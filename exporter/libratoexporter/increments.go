// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/otelcol-segment/otelcol-segment/internal/idset"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// errFull makes the receiver answer 503, so that SDKs hold on to what they have.
var errFull = errors.New("max_increments reached: Librato takes less than comes in, or has been away for long")

// increment is what one stream got within one period since the last seal: one measurement to be.
//
// It folds while it is open and never changes once it is sealed, which is when its first post begins.
type increment struct {
	stream *stream
	start  int64 // of its period, Unix seconds; for a stream that does not add up, its second
	period int64 // seconds: its length
	second int64 // Unix seconds: its own, see seconds.go
	due    int64 // nanoseconds: the tick that seals it; of one found on disk, when its second has passed
	opened int64 // nanoseconds
	value  librato.Summary

	state  incrementState
	staged librato.Summary // value and what the commit under way adds
	commit uint64          // the commit that last touched it
	key    string          // on disk; empty without storage
}

// incrementState only ever goes forward.
type incrementState uint8

const (
	stateOpen   incrementState = iota // folds
	stateSealed                       // is being posted
	stateDone                         // confirmed, refused or too old
)

// increments is the exporter's state and its queue: every increment that is not yet confirmed by Librato.
//
// A call is staged, then kept or undone as a whole: in between, with storage, comes the commit to disk. One writer
// at a time holds the lock for all three, and for sealing and confirming.
type increments struct {
	mu sync.Mutex

	streams  streams
	schedule schedule
	used     usedSeconds
	ids      *idset.Set
	refused  *refusals

	idsTouched uint64 // of no meaning, see idset.Set.Touch

	maxAge, maxFuture int64 // seconds
	flush             int64 // nanoseconds
	most              int   // max_increments
	batch             int   // measurements a request
	keyed             bool  // with storage: increments have keys

	unsure map[string]struct{} // keys of which a failed transaction left unknown what the disk holds

	open        []*increment // in the order of opening
	sealed      []*increment // in the order of sealing; what is done goes with the next seal
	unconfirmed int          // how many of sealed are not done
	fast        int          // increments of streams that do not add up opened since the last flush

	// What is being staged.
	commit   uint64 // its number
	mark     int    // len(open) before it
	touched  []*increment
	floors   []int64 // starts of periods whose last second is to be saved
	newIDs   []uint64
	refusals []pointRefusal
	copies   int // points whose message id is known
	evicted  int // ids that had to go early
}

// pointRefusal is reported when the call that it belongs to is kept: a call that is undone comes again.
type pointRefusal struct {
	why          reason
	name, source string
}

func newIncrements(cfg *Config, refused *refusals) *increments {
	period := cfg.Gauges.Period
	return &increments{
		streams:   newStreams(cfg),
		schedule:  newSchedule(period, cfg.FlushInterval, cfg.MaxAge, cfg.Instance.Index, cfg.Instance.Count),
		used:      usedSeconds{most: 64 + 2*int((cfg.MaxAge+cfg.MaxFuture)/period)},
		ids:       idset.New(cfg.Deduplication.Window, cfg.Deduplication.MaxEntries),
		refused:   refused,
		maxAge:    int64(cfg.MaxAge / time.Second),
		maxFuture: int64(cfg.MaxFuture / time.Second),
		flush:     int64(cfg.FlushInterval),
		most:      cfg.MaxIncrements,
		batch:     cfg.api().MaxMeasurements,
		keyed:     cfg.StorageID != nil,
		unsure:    map[string]struct{}{},
	}
}

func (s *increments) count() int { return len(s.open) + s.unconfirmed }

// begin starts the staging of one commit.
func (s *increments) begin() {
	s.commit++
	s.mark = len(s.open)
	s.touched, s.floors, s.newIDs, s.refusals = s.touched[:0], s.floors[:0], s.newIDs[:0], s.refusals[:0]
	s.copies, s.evicted = 0, 0
}

// stage folds the samples of one call into what the commit will make of their increments. It takes the call whole
// or, when a bound is reached, not at all, with errFull. Points that can never be taken are left out and noted.
func (s *increments) stage(samples []sample, now int64) error {
	s.streams.lookUp(samples)
	if s.count()+len(samples) > s.most && s.count()+s.wouldOpen(samples) > s.most {
		return errFull
	}
	at := time.Unix(0, now)
	for i, st := range s.streams.found {
		if id := samples[i].id; id != 0 && st != nil {
			s.idsTouched ^= s.ids.Touch(id ^ st.id)
		}
	}
	for i := range samples {
		p := &samples[i]
		st, why := s.streams.found[i], reason("")
		if st == nil {
			st, why = s.streams.of(p)
		}
		if st == nil {
			s.refuse(why, p)
			continue
		}
		if st.kind != p.kind {
			s.refuse(reasonKindConflict, p)
			continue
		}
		var id uint64
		if p.id != 0 {
			if id = p.id ^ st.id; s.ids.Contains(id, at) {
				s.copies++
				continue
			}
		}
		inc, why := s.find(st, p.time, now)
		if inc == nil {
			s.refuse(why, p)
			continue
		}
		value := p.value
		if st.kind != kindCounter { // of a counter the last reading counts
			value = inc.value
			if inc.commit == s.commit {
				value = inc.staged
			}
			value.Add(p.value)
			if math.Abs(value.Sum) > librato.MaxValue {
				s.refuse(reasonOutOfRange, p)
				continue
			}
		}
		if inc.commit != s.commit {
			inc.commit = s.commit
			s.touched = append(s.touched, inc)
		}
		inc.staged = value
		if id != 0 {
			s.evicted += s.ids.Add(id, at)
			s.newIDs = append(s.newIDs, id)
		}
	}
	return nil
}

func (s *increments) refuse(why reason, p *sample) {
	s.refusals = append(s.refusals, pointRefusal{why, p.name, p.source})
}

// find returns the open increment that a point of the stream belongs to, a new one if need be; or why there is none.
func (s *increments) find(st *stream, second, now int64) (*increment, reason) {
	switch age := now/int64(time.Second) - second; {
	case age > s.maxAge:
		return nil, reasonTooOld
	case -age > s.maxFuture:
		return nil, reasonInTheFuture
	}
	start := second
	if st.kind == kindAdding {
		start = s.schedule.start(second)
	}
	for _, inc := range slices.Backward(st.open) { // nearly always the newest
		if inc.start == start {
			return inc, ""
		}
	}

	inc := &increment{stream: st, start: start, period: s.schedule.period, second: second, due: second*int64(time.Second) + s.flush, opened: now}
	if st.kind == kindAdding {
		var ok bool
		if inc.second, inc.due, ok = s.schedule.next(start, now, &s.used); !ok {
			return nil, reasonTooOld
		}
		r := s.used.handOut(start, s.schedule.period, inc.second)
		if r.saved < r.last && !slices.Contains(s.floors, start) {
			s.floors = append(s.floors, start)
		}
	} else {
		if st.taken != nil && st.taken.contains(second) {
			return nil, reasonSecondTaken
		}
		s.fast++
	}
	if s.keyed {
		inc.key = incrementKey(inc)
	}
	st.used = now
	st.open = append(st.open, inc)
	s.open = append(s.open, inc)
	return inc, ""
}

// wouldOpen returns how many increments the samples need that are not open yet, at most. They are looked up. It is only
// asked near the bound, and may be slow.
func (s *increments) wouldOpen(samples []sample) int {
	type place struct {
		name, source string
		event        bool
		start        int64
	}
	fresh := map[place]struct{}{}
	for i := range samples {
		p := &samples[i]
		start := p.time
		if p.kind == kindAdding {
			start = s.schedule.start(p.time)
		}
		st := s.streams.found[i]
		if st == nil || !slices.ContainsFunc(st.open, func(inc *increment) bool { return inc.start == start }) {
			fresh[place{p.name, p.source, p.event, start}] = struct{}{}
		}
	}
	return len(fresh)
}

// keep makes what was staged the state.
func (s *increments) keep() {
	for _, inc := range s.touched {
		inc.value = inc.staged
	}
	for _, start := range s.floors {
		if i, found := s.used.find(start, s.schedule.period); found {
			s.used.ranges[i].saved = s.used.ranges[i].last
		}
	}
	for i := range s.refusals {
		s.refused.point(s.refusals[i].why, s.refusals[i].name, s.refusals[i].source, "")
	}
	clear(s.refusals) // its strings belong to the calls
	s.refused.duplicates(s.copies)
	s.refused.evicted(s.evicted)
}

// undo forgets what was staged. Streams that it made stay, empty, until they are forgotten.
func (s *increments) undo() {
	for _, inc := range slices.Backward(s.open[s.mark:]) {
		inc.stream.open = inc.stream.open[:len(inc.stream.open)-1]
	}
	clear(s.open[s.mark:])
	s.open = s.open[:s.mark]
	for _, id := range s.newIDs {
		s.ids.Remove(id)
	}
	clear(s.refusals)
}

// flushSize is how many increments one flush posts at most: one for each stream, rounded up to full requests. So an
// outage ends without a storm. Twice as many where each flush may bring one of every stream, else a backlog would
// never shrink.
func (s *increments) flushSize() int {
	n := len(s.streams.byKey)
	if 2*s.flush > s.schedule.period*int64(time.Second) {
		n *= 2
	}
	n += 2 * s.fast
	return max(s.batch, (n+s.batch-1)/s.batch*s.batch)
}

// seal returns what is to be posted now: the increments that are sealed already, then, as far as most allows, those
// that are due, oldest first; these it seals. A stream that has unconfirmed ones goes on folding instead, so that
// an absent service costs one increment a stream and period, and no more.
func (s *increments) seal(now int64, most int) []*increment {
	s.sealed = slices.DeleteFunc(s.sealed, func(inc *increment) bool { return inc.state == stateDone })
	if most >= 0 && len(s.sealed) < most {
		s.sealDue(now, most-len(s.sealed))
	}
	post := make([]*increment, 0, len(s.sealed))
	for _, inc := range s.sealed {
		if inc.due <= now && (most < 0 || len(post) < most) {
			post = append(post, inc)
		}
	}
	return post
}

// sealDue seals the increments that are due, the oldest first if there is no room for all.
func (s *increments) sealDue(now int64, room int) {
	var due []*increment
	for _, inc := range s.open {
		if _, unsure := s.unsure[inc.key]; inc.due <= now && inc.stream.unconfirmed == 0 && !unsure {
			due = append(due, inc)
		}
	}
	if len(due) > room {
		slices.SortStableFunc(due, func(a, b *increment) int { return cmp.Compare(a.second, b.second) })
		due = due[:room]
	}
	for _, inc := range due {
		s.sealOne(inc)
	}
	s.compactOpen()
}

// sealAll seals every increment, due or not, and returns all that are unconfirmed.
func (s *increments) sealAll() []*increment {
	for _, inc := range s.open {
		s.sealOne(inc)
	}
	s.compactOpen()
	return s.seal(math.MaxInt64, -1)
}

func (s *increments) sealOne(inc *increment) {
	inc.due = 0 // from here on it is posted until it is confirmed, whatever the clock does
	inc.stream.open = slices.DeleteFunc(inc.stream.open, func(o *increment) bool { return o == inc })
	s.addSealed(inc)
}

// addSealed puts an increment that folds no more among those to be posted. Its second is not handed out again.
func (s *increments) addSealed(inc *increment) {
	st := inc.stream
	inc.state = stateSealed
	st.unconfirmed++
	if st.kind == kindAdding {
		s.used.seal(inc.start, inc.period, inc.second)
	} else {
		if st.taken == nil {
			st.taken = newSecondSet(s.maxAge + s.maxFuture)
		}
		st.taken.add(inc.second)
	}
	s.sealed = append(s.sealed, inc)
	s.unconfirmed++
}

// compactOpen takes what is no longer open out of the list.
func (s *increments) compactOpen() {
	s.open = slices.DeleteFunc(s.open, func(inc *increment) bool { return inc.state != stateOpen })
}

// settle takes increments that were confirmed or refused out of the state.
func (s *increments) settle(incs []*increment) {
	for _, inc := range incs {
		inc.state = stateDone
		inc.stream.unconfirmed--
		s.unconfirmed--
	}
}

// expire takes out, and returns, what became too old to be sent: Librato would refuse it.
func (s *increments) expire(now int64) []*increment {
	oldest := now/int64(time.Second) - s.maxAge
	var gone []*increment
	for _, inc := range s.sealed {
		if inc.state == stateSealed && inc.second < oldest {
			gone = append(gone, inc)
		}
	}
	s.settle(gone)
	sealed := len(gone)
	for _, inc := range s.open {
		if inc.second < oldest {
			gone = append(gone, inc)
		}
	}
	for _, inc := range gone[sealed:] {
		inc.state = stateDone
		inc.stream.open = slices.DeleteFunc(inc.stream.open, func(o *increment) bool { return o == inc })
	}
	if len(gone) > sealed {
		s.compactOpen()
	}
	return gone
}

// oldest returns when the oldest increment that is sealed and not confirmed was opened, in nanoseconds; 0 without any.
func (s *increments) oldest() int64 {
	var oldest int64
	for _, inc := range s.sealed {
		if inc.state == stateSealed && (oldest == 0 || inc.opened < oldest) {
			oldest = inc.opened
		}
	}
	return oldest
}

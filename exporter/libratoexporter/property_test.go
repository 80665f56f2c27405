// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// This file drives the exporter's state with random interleavings of everything that can happen to it, against a
// model that knows the truth: each event that was acknowledged, or known on disk at a crash, counts once.

var propertyDuration = flag.Duration("property.duration", 0, "goes on with other seeds for so long")

// errCrash is what a storage operation panics with when the process dies in it.
var errCrash = errors.New("crash")

// memoryDisk is a storage client in memory that outlives the processes that use it, and fails as told.
type memoryDisk struct {
	entries map[string][]byte
	fail    string                      // of the next Batch: "", "error", "error after", "crash", "crash after"
	key     func(string) (string, bool) // the mutant's: renames a key, or drops what is written there
}

func (d *memoryDisk) Get(_ context.Context, key string) ([]byte, error) { return d.entries[key], nil }

func (d *memoryDisk) Set(ctx context.Context, key string, value []byte) error {
	return d.Batch(ctx, storage.SetOperation(key, value))
}

func (d *memoryDisk) Delete(ctx context.Context, key string) error {
	return d.Batch(ctx, storage.DeleteOperation(key))
}

func (d *memoryDisk) Batch(_ context.Context, ops ...*storage.Operation) error {
	fail := d.fail
	d.fail = ""
	switch fail {
	case "error":
		return errors.New("disk full")
	case "crash":
		panic(errCrash)
	}
	for _, op := range ops {
		key := op.Key
		if d.key != nil {
			renamed, ok := d.key(key)
			if !ok {
				continue
			}
			key = renamed
		}
		switch op.Type {
		case storage.Set:
			d.entries[key] = slices.Clone(op.Value)
		case storage.Delete:
			delete(d.entries, key)
		case storage.Get:
			op.Value = d.entries[key]
		}
	}
	switch fail {
	case "error after":
		return errors.New("no answer from the disk")
	case "crash after":
		panic(errCrash)
	}
	return nil
}

func (d *memoryDisk) Walk(ctx context.Context, fn storage.WalkFunc) error {
	var all []*storage.Operation
	for _, key := range slices.Sorted(maps.Keys(d.entries)) {
		ops, err := fn(key, d.entries[key])
		if err != nil {
			return err
		}
		all = append(all, ops...)
	}
	return d.Batch(ctx, all...)
}

func (*memoryDisk) Close(context.Context) error { return nil }

// mutant breaks one rule of the state, to show that the property notices.
type mutant struct {
	key      func(string) (string, bool)
	revive   bool            // what is found on disk is opened again
	schedule func(*schedule) // changes it
}

// post is one measurement on its way to the service.
type post struct {
	stream string
	second int64
	value  librato.Summary
}

// event is one data point of a client: it is repeated until it is acknowledged, and sometimes afterwards.
type event struct {
	sample
	settled bool // taken, or refused for good: the client does not repeat it
	taken   bool
	unsure  bool // a call with it failed: it may be on disk
	second  bool // another reading for its second came before
	age     int  // the generation in which it first came
}

// periodOf is a period of a certain length.
type periodOf struct{ start, length int64 }

// usedOf bounds from above which seconds of a period are used: all up to these.
type usedOf struct{ sealed, handedOut int64 }

// secondOf is a second of a stream that does not add up.
type secondOf struct {
	stream string
	second int64
}

// world is the exporter's state, the service, the clients, and the truth.
type world struct {
	t       *testing.T
	rnd     *rand.Rand
	mutant  mutant
	cfg     *Config
	disk    *memoryDisk
	logs    *observer.ObservedLogs
	journal *journal
	now     int64
	stepped int64 // nanoseconds: what all steps of the clock make in sum

	periods  map[time.Duration]bool // that were set at any time
	events   []*event
	inFlight []*increment // sealed, posted, and not yet answered
	late     []post       // will be applied at some time, answered or not
	service  map[string]map[int64]librato.Summary
	truth    map[string]map[int64]librato.Summary // by the second of the event
	lost     map[secondOf]librato.Summary         // given up, as max_age was over
	used     map[periodOf]*usedOf
	readings map[secondOf]*event // the first for each
	posted   map[secondOf]bool
	refusals map[reason]int
	age      int // generation
	healed   bool
	clash    error // two increments shared a second
	wrong    error // a point was refused, or taken, against the rules
}

func newWorld(t *testing.T, seed uint64, m mutant) *world {
	w := &world{
		t:        t,
		rnd:      rand.New(rand.NewPCG(seed, 0)),
		mutant:   m,
		disk:     &memoryDisk{entries: map[string][]byte{}, key: m.key},
		now:      1_700_000_000_000_000_000,
		periods:  map[time.Duration]bool{},
		service:  map[string]map[int64]librato.Summary{},
		truth:    map[string]map[int64]librato.Summary{},
		lost:     map[secondOf]librato.Summary{},
		used:     map[periodOf]*usedOf{},
		readings: map[secondOf]*event{},
		posted:   map[secondOf]bool{},
		refusals: map[reason]int{},
	}
	w.cfg = createDefaultConfig().(*Config)
	id := component.MustNewID("file_storage")
	w.cfg.StorageID = &id
	w.cfg.Email, w.cfg.Token = "me@example.com", "token"
	w.cfg.API = pick(w, APIMetrics, APIMetrics, APIMeasurements)
	w.cfg.Deduplication.Window = 24 * time.Hour // longer than all steps of the clock
	w.settings()
	w.start()
	return w
}

func pick[T any](w *world, of ...T) T { return of[w.rnd.IntN(len(of))] }

// settings draws those that may change between two starts.
func (w *world) settings() {
	w.cfg.Gauges.Period = time.Duration(pick(w, 60, 60, 60, 20, 30, 120, 600)) * time.Second
	w.cfg.FlushInterval = time.Duration(pick(w, 1, 5, 7, 10)) * time.Second
	w.cfg.MaxAge = time.Duration(pick(w, 100, 110, 115)) * time.Minute
	w.cfg.Instance.Count = 1 + w.rnd.IntN(min(3, int(w.cfg.Gauges.Period/(10*time.Second))))
	w.cfg.Instance.Index = w.rnd.IntN(w.cfg.Instance.Count)
	w.periods[w.cfg.Gauges.Period] = true
	require.NoError(w.t, w.cfg.Validate())
}

// start is a process that finds the disk as the one before left it.
func (w *world) start() {
	core, logs := observer.New(zap.WarnLevel)
	telemetry, err := metadata.NewTelemetryBuilder(componenttest.NewNopTelemetrySettings())
	require.NoError(w.t, err)
	w.logs = logs
	w.journal = newJournal(w.cfg, zap.New(core), telemetry, &refusals{logger: zap.New(core), telemetry: telemetry}, newOrigins())
	w.journal.state.batch = pick(w, 1, 3, 300)
	w.disk.fail = ""
	require.NoError(w.t, w.journal.open(context.Background(), w.disk, w.now))
	w.inFlight = nil
	w.age++
	for _, u := range w.used { // what was handed out before counts as sealed
		u.sealed = u.handedOut
	}
	for s := range w.readings { // so do readings
		w.posted[s] = true
	}
	if w.mutant.schedule != nil {
		w.mutant.schedule(&w.journal.state.schedule)
	}
	if w.mutant.revive {
		s := &w.journal.state
		for _, inc := range s.sealed {
			inc.state = stateOpen
			inc.stream.unconfirmed--
			inc.stream.open = append(inc.stream.open, inc)
		}
		s.open, s.sealed, s.unconfirmed = s.sealed, nil, 0
	}
}

// survives runs f, which may end in a crash; then the next process starts.
func (w *world) survives(f func()) (survived bool) {
	defer func() {
		if r := recover(); r != nil {
			if err, ok := r.(error); !ok || !errors.Is(err, errCrash) {
				panic(r)
			}
			w.crash()
		}
	}()
	f()
	return true
}

func (w *world) crash() {
	for _, inc := range w.inFlight { // what was sent may arrive
		if w.rnd.IntN(2) == 0 {
			w.late = append(w.late, postOf(inc))
		}
	}
	if w.rnd.IntN(4) == 0 {
		w.settings()
	}
	w.now += w.rnd.Int64N(int64(5 * time.Second))
	w.start()
}

// step changes the clock, and never takes it further than three hours from the true time.
func (w *world) step(d time.Duration) {
	if sum := w.stepped + int64(d); sum > -int64(3*time.Hour) && sum < int64(3*time.Hour) {
		w.stepped = sum
		w.now += int64(d)
		if d.Abs() > 10*time.Minute {
			w.age++
		}
	}
}

func postOf(inc *increment) post { return post{inc.stream.key, inc.second, inc.value} }

func (w *world) apply(p post) {
	seconds := w.service[p.stream]
	if seconds == nil {
		seconds = map[int64]librato.Summary{}
		w.service[p.stream] = seconds
	}
	if before, ok := seconds[p.second]; ok && before != p.value && w.clash == nil {
		w.clash = fmt.Errorf("%s at %d: %+v is replaced by %+v", p.stream, p.second, before, p.value)
	}
	seconds[p.second] = p.value // without service-side aggregation the second replaces the first
}

// send is a client's call with a few events, at most one a stream, new and repeated ones.
func (w *world) send() {
	var batch []*event
	used := map[string]bool{}
	for range 1 + w.rnd.IntN(4) {
		var e *event
		fresh := len(w.events) == 0 || w.rnd.IntN(3) > 0
		if !fresh {
			e = w.events[max(0, len(w.events)-1-w.rnd.IntN(30))]
		} else {
			e = w.newEvent()
		}
		if e == nil || e.settled && !e.taken {
			continue
		}
		if key := e.name + "/" + e.source; !used[key] && !slices.Contains(batch, e) {
			used[key] = true
			batch = append(batch, e)
			if fresh {
				w.events = append(w.events, e)
				if s := (secondOf{w.keyOf(e), e.time}); w.readings[s] == nil && e.kind != kindAdding {
					w.readings[s] = e
				}
			}
		}
	}
	if len(batch) > 0 {
		w.call(batch)
	}
}

// call is one request with the batch's events; the client takes note of the answer.
func (w *world) call(batch []*event) {
	samples := make([]sample, len(batch))
	mayRefuse := make([]map[reason]bool, len(batch))
	mustRefuse := make([]reason, len(batch))
	for i, e := range batch {
		samples[i] = e.sample
		if e.taken {
			if e.kind == kindAdding && w.rnd.IntN(4) == 0 { // a copy that computes to another stream and time
				samples[i].source = w.source("elsewhere")
				samples[i].time -= 90
			}
			continue
		}
		mayRefuse[i], mustRefuse[i] = w.rules(e)
		if e.unsure && mustRefuse[i] != "" {
			mayRefuse[i], mustRefuse[i] = map[reason]bool{mustRefuse[i]: true}, ""
		}
	}
	w.disk.fail = pick(w, "", "", "", "", "", "", "", "", "error", "error after", "crash", "crash after")
	if w.healed || slices.ContainsFunc(batch, func(e *event) bool { return e.second && !e.settled }) {
		w.disk.fail = "" // a repeat of it might come when its second is forgotten
	}
	w.logs.TakeAll()
	var err error
	survived := w.survives(func() { err = w.journal.take(samples, w.now) })
	w.disk.fail = ""
	if !survived || err != nil {
		for _, e := range batch {
			e.unsure = true
		}
		return // the client repeats it; only then it is known whether the disk had it
	}
	refused := map[string]reason{}
	for _, line := range w.logs.FilterMessageSnippet("refused a data point").All() {
		fields := line.ContextMap()
		_, why, _ := strings.Cut(line.Message, ": ")
		refused[fmt.Sprint(fields["metric"], "/", fields["source"])] = reason(why)
	}
	for i, e := range batch {
		if e.settled {
			continue
		}
		why := refused[samples[i].name+"/"+samples[i].source]
		switch {
		case why != "" && !mayRefuse[i][why] && mustRefuse[i] != why:
			w.wrong = cmp.Or(w.wrong, fmt.Errorf("%s at %d is refused as %s at %d", w.keyOf(e), e.time, why, w.now/int64(time.Second)))
		case mustRefuse[i] != "" && why != mustRefuse[i]:
			w.wrong = cmp.Or(w.wrong, fmt.Errorf("%s at %d is taken at %d", w.keyOf(e), e.time, w.now/int64(time.Second)))
		}
		e.settled = true
		if why != "" {
			w.refusals[why]++
			continue
		}
		e.taken = true
		key := w.keyOf(e)
		seconds := w.truth[key]
		if seconds == nil {
			seconds = map[int64]librato.Summary{}
			w.truth[key] = seconds
		}
		s := seconds[e.time]
		s.Add(e.value)
		seconds[e.time] = s
	}
}

// rules are those of the documents: for which reasons the exporter may refuse an event now, and for which it must. They
// bound from above what is used of a period's seconds: for what is further back than its list has ticks in time, they
// know neither which ticks the list has, nor which of what failed was handed out.
func (w *world) rules(e *event) (may map[reason]bool, must reason) {
	now := w.now / int64(time.Second)
	switch {
	case now-e.time > int64(w.cfg.MaxAge/time.Second):
		return nil, reasonTooOld
	case e.time-now > int64(w.cfg.MaxFuture/time.Second):
		return nil, reasonInTheFuture
	}
	if e.kind != kindAdding {
		return map[reason]bool{reasonSecondTaken: w.posted[secondOf{w.keyOf(e), e.time}]}, ""
	}
	p := periodOf{e.time - e.time%int64(w.cfg.Gauges.Period/time.Second), int64(w.cfg.Gauges.Period / time.Second)}
	flush, count := int64(w.cfg.FlushInterval/time.Second), int64(w.cfg.Instance.Count)
	if now-p.start >= int64(w.cfg.MaxAge/time.Second)/flush*flush {
		return map[reason]bool{reasonTooOld: true}, "" // its last tick has passed
	}
	seconds := p.length / count
	tick := max(0, min((now-p.start)/flush, seconds-seconds/10-1))
	second := p.start + int64(w.cfg.Instance.Index) + tick*count
	for again := true; again; {
		again = false
		for other, u := range w.used {
			last := u.handedOut
			if other == p {
				last = u.sealed
			}
			if second >= other.start && second <= last {
				second += (last-second)/count*count + count
				again = true
			}
		}
	}
	u := w.used[p]
	if u == nil {
		u = &usedOf{p.start - 1, p.start - 1}
		w.used[p] = u
	}
	u.handedOut = max(u.handedOut, min(second, p.start+p.length-1))
	return map[reason]bool{reasonTooOld: second >= p.start+p.length}, "" // then no second may be left
}

// source is what a sample has for the source s.
func (w *world) source(s string) string {
	if w.cfg.API == APIMeasurements {
		return string(appendTagSet(nil, []pair{{librato.SourceTag, s}}))
	}
	return s
}

// keyOf is the key of the event's stream.
func (w *world) keyOf(e *event) string {
	source := e.source
	if w.cfg.API == APIMeasurements {
		source = joinTags(decodeTagSet(source))
	}
	return strings.ToLower(e.name + "/" + source)
}

// newEvent returns nil where the rules do not say what would be right: a reading for a second that a process before
// this one, or before a step of the clock, may have sent.
func (w *world) newEvent() *event {
	lateness := pick(w, 0, 0, 0, 0, 3, 20, 70, 200, 900, 3000, 7200, -700)
	if lateness > 0 {
		lateness = w.rnd.IntN(lateness + 1)
	} else if lateness < 0 {
		lateness = -w.rnd.IntN(-lateness)
	}
	e := &event{sample: sample{
		name:   pick(w, "Signup", "signup", "Order-Paid", "temperature", "load", "bytes"),
		source: w.source(pick(w, "a", "b", "c")),
		time:   w.now/int64(time.Second) - int64(lateness),
		value:  librato.SummaryOf(float64(w.rnd.IntN(100))),
		id:     w.rnd.Uint64() | 1,
	}, age: w.age}
	switch e.name {
	case "temperature", "load":
		e.kind = kindAveraging
	case "bytes":
		e.kind = kindCounter
		if w.cfg.API == APIMeasurements { // has none
			e.kind = kindAveraging
		}
	default:
		e.event = true
	}
	if e.kind != kindAdding {
		first, known := w.readings[secondOf{w.keyOf(e), e.time}]
		if known && (first.age < w.age || !first.settled || e.kind == kindCounter) {
			return nil
		}
		e.second = known
		if e.kind == kindCounter {
			e.value = librato.SummaryOf(float64(e.time)) // it only grows, once a second
		}
	}
	return e
}

// flush is a tick: what is due is sealed, and on its way.
func (w *world) flush() {
	w.survives(func() {
		if !w.healed && w.rnd.IntN(20) == 0 {
			w.disk.fail = pick(w, "error", "error after", "crash", "crash after")
		}
		w.expire()
		for _, inc := range w.journal.sealFlush(w.now) {
			if !slices.Contains(w.inFlight, inc) {
				assert.LessOrEqual(w.t, inc.second*int64(time.Second), w.now, "no measurement is ahead of the clock")
				w.inFlight = append(w.inFlight, inc)
				w.sealed(inc)
			}
		}
	})
	w.disk.fail = ""
}

func (w *world) sealed(inc *increment) {
	if inc.stream.kind != kindAdding {
		w.posted[secondOf{inc.stream.key, inc.second}] = true
		return
	}
	if u := w.used[periodOf{inc.start, inc.period}]; u != nil {
		u.sealed = max(u.sealed, inc.second)
		u.handedOut = max(u.handedOut, inc.second)
	}
}

// expire is what a tick begins with. What it takes out of the state may still arrive, if it was posted.
func (w *world) expire() {
	oldest := w.now/int64(time.Second) - int64(w.cfg.MaxAge/time.Second)
	n := 0
	for _, list := range [][]*increment{w.journal.state.open, w.journal.state.sealed} {
		for _, inc := range list {
			if inc.state != stateDone && inc.second < oldest {
				w.lost[secondOf{inc.stream.key, inc.second}] = inc.value // the disk may fail below
				n++
			}
		}
	}
	gone := w.journal.expire(w.now)
	require.Len(w.t, gone, n)
	w.inFlight = slices.DeleteFunc(w.inFlight, func(inc *increment) bool {
		if !slices.Contains(gone, inc) {
			return false
		}
		if w.rnd.IntN(2) == 0 {
			w.late = append(w.late, postOf(inc))
		}
		return true
	})
}

// answer decides what becomes of some posts under way.
func (w *world) answer() {
	if len(w.inFlight) == 0 {
		return
	}
	n := 1 + w.rnd.IntN(len(w.inFlight))
	part := slices.Clone(w.inFlight[:n])
	switch pick(w, "taken", "taken", "taken", "no answer", "late", "lost") {
	case "taken":
		for _, inc := range part {
			w.apply(postOf(inc))
		}
		w.survives(func() {
			w.disk.fail = pick(w, "", "", "", "", "error", "error after", "crash", "crash after")
			w.journal.settle(part)
			w.inFlight = w.inFlight[n:]
		})
		w.disk.fail = ""
	case "no answer": // they stay, and are posted again
		for _, inc := range part {
			w.apply(postOf(inc))
		}
	case "late":
		for _, inc := range part {
			w.late = append(w.late, postOf(inc))
		}
	case "lost":
	}
}

func (w *world) applyLate() {
	for _, p := range w.late {
		w.apply(p)
	}
	w.late = nil
}

// check compares what the service shows with the truth, by the largest period: a second never leaves its own.
func (w *world) check() error {
	width := int64(600)
	if len(w.periods) == 1 {
		width = int64(w.cfg.Gauges.Period / time.Second)
	}
	bucket := func(of map[string]map[int64]librato.Summary) map[secondOf]librato.Summary {
		sums := map[secondOf]librato.Summary{}
		for stream, seconds := range of {
			for second, value := range seconds {
				key := secondOf{stream, second - second%width}
				s := sums[key]
				if w.isCounter(stream) { // the last reading counts
					s.Sum = max(s.Sum, value.Sum)
				} else {
					s.Add(value)
				}
				sums[key] = s
			}
		}
		return sums
	}
	want, got := bucket(w.truth), bucket(w.service)
	for at, value := range w.lost {
		if _, arrived := w.service[at.stream][at.second]; arrived {
			continue
		}
		key := secondOf{at.stream, at.second - at.second%width}
		if w.isCounter(at.stream) {
			delete(want, key)
			delete(got, key)
			continue
		}
		// What the minimum and maximum are without it is not known.
		s, g := want[key], got[key]
		s.Count, s.Sum, s.Min, s.Max = s.Count-value.Count, s.Sum-value.Sum, g.Min, g.Max
		if want[key] = s; s.Count == 0 {
			delete(want, key)
		}
	}
	for key := range want {
		if want[key] != got[key] {
			return fmt.Errorf("%v: want %+v, got %+v", key, want[key], got[key])
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			return fmt.Errorf("%v: nothing happened there, got %+v", key, got[key])
		}
	}
	return nil
}

// isCounter tells by a stream's key whether it is a counter.
func (w *world) isCounter(stream string) bool {
	return w.cfg.API == APIMetrics && strings.HasPrefix(stream, "bytes/")
}

// live lets so many things happen, then heals everything, sends what was not acknowledged, and checks.
func (w *world) live(steps int) error {
	lastTick := int64(0)
	for range steps {
		switch w.rnd.IntN(20) {
		case 0:
			w.survives(func() { panic(errCrash) })
		case 1:
			w.step(-time.Duration(w.rnd.Int64N(int64(40 * time.Second))))
		case 2:
			w.now += w.rnd.Int64N(int64(90 * time.Second)) // a pause
		case 3:
			w.applyLate()
			if w.rnd.IntN(8) == 0 { // somebody sets the clock
				w.step(time.Duration(w.rnd.Int64N(int64(6*time.Hour))) - 3*time.Hour)
			}
		case 4:
			w.survives(func() {
				w.disk.fail = pick(w, "", "", "error", "error after", "crash", "crash after")
				w.journal.tidy(w.now)
			})
			w.disk.fail = ""
		case 5, 6, 7, 8:
			w.answer()
		default:
			w.send()
		}
		w.now += w.rnd.Int64N(int64(4 * time.Second))
		if tick := w.now / int64(w.cfg.FlushInterval); tick != lastTick {
			lastTick = tick
			w.flush()
		}
	}

	w.healed = true
	for _, e := range w.events {
		for !e.settled {
			w.call([]*event{e})
		}
	}
	for range 6 * 720 { // the last tick of a list is max_age late, and the clock may have been hours ahead
		if w.journal.count() == 0 {
			break
		}
		w.now += int64(5 * time.Second)
		w.flush()
		for _, inc := range w.inFlight {
			w.apply(postOf(inc))
		}
		w.journal.settle(w.inFlight)
		w.inFlight = nil
	}
	w.applyLate()
	if n := w.journal.count(); n != 0 {
		return fmt.Errorf("%d increments stay behind", n)
	}
	w.journal.tidy(w.now)
	for key := range w.disk.entries {
		if strings.HasPrefix(key, prefixInc) {
			return fmt.Errorf("%s stays on disk", key)
		}
	}
	return cmp.Or(w.wrong, w.clash, w.check())
}

// TestEachEventCountsOnce is the property: whatever happens, only what the rules let the exporter refuse is refused, and
// the service's sums are those of all other events.
func TestEachEventCountsOnce(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 50
	}
	events, lost := 0, 0
	refused := map[reason]int{}
	began, seed := time.Now(), uint64(0)
	for ; seed < seeds || time.Since(began) < *propertyDuration; seed++ {
		w := newWorld(t, seed, mutant{})
		require.NoError(t, w.live(400), "seed %d", seed)
		events += len(w.events)
		lost += len(w.lost)
		for why, n := range w.refusals {
			refused[why] += n
		}
	}
	require.NotZero(t, events)
	t.Logf("%d seeds, %d events; refused by the rules: %v; %d increments given up", seed, events, refused, lost)
}

// TestMutantsAreNoticed shows that the property holds for a reason: without any one of these rules it fails.
func TestMutantsAreNoticed(t *testing.T) {
	for name, m := range map[string]mutant{
		"what is found on disk is opened again": {revive: true},
		"the second is not part of the key": {key: func(key string) (string, bool) {
			if parts := strings.SplitN(key, "/", 5); parts[0]+"/" == prefixInc && len(parts) == 5 {
				parts[3] = "0"
				return strings.Join(parts, "/"), true
			}
			return key, true
		}},
		"there is no floor": {key: func(key string) (string, bool) {
			return key, !strings.HasPrefix(key, prefixFloor)
		}},
		"half of the ticks are missing": {schedule: func(s *schedule) {
			s.offsets = s.offsets[:len(s.offsets)/2]
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(300) {
				if err := newWorld(t, seed, m).live(400); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("the property does not notice")
		})
	}
}

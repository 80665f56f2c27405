// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"cmp"
	"context"
	"errors"
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

// errCrash is what a storage operation panics with when the process dies in it.
var errCrash = errors.New("crash")

// disk is a storage client in memory that outlives the processes that use it, and fails as told.
type disk struct {
	entries map[string][]byte
	fail    string                      // of the next Batch: "", "error", "error after", "crash", "crash after"
	key     func(string) (string, bool) // the mutant's: renames a key, or drops what is written there
}

func (d *disk) Get(_ context.Context, key string) ([]byte, error) { return d.entries[key], nil }

func (d *disk) Set(ctx context.Context, key string, value []byte) error {
	return d.Batch(ctx, storage.SetOperation(key, value))
}

func (d *disk) Delete(ctx context.Context, key string) error {
	return d.Batch(ctx, storage.DeleteOperation(key))
}

func (d *disk) Batch(_ context.Context, ops ...*storage.Operation) error {
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

func (d *disk) Walk(ctx context.Context, fn storage.WalkFunc) error {
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

func (*disk) Close(context.Context) error { return nil }

// mutant breaks one rule of the state, to show that the property notices.
type mutant struct {
	key    func(string) (string, bool)
	revive bool // what is found on disk is opened again
}

// post is one measurement on its way to the service.
type post struct {
	stream string
	second int64
	value  librato.Summary
}

// event is one message of a client: it is repeated until it is acknowledged, and sometimes afterwards.
type event struct {
	sample
	settled bool // taken, or refused for good: the client does not repeat it
	taken   bool
}

// world is the exporter's state, the service, the clients, and the truth.
type world struct {
	t       *testing.T
	rnd     *rand.Rand
	mutant  mutant
	cfg     *Config
	disk    *disk
	logs    *observer.ObservedLogs
	journal *journal
	now     int64

	periods  map[time.Duration]bool // that were set at any time
	events   []*event
	inFlight []*increment // sealed, posted, and not yet answered
	late     []post       // will be applied at some time, answered or not
	service  map[string]map[int64]librato.Summary
	truth    map[string]map[int64]librato.Summary // by the second of the event
	refusals int
	healed   bool
	clash    error // two increments shared a second
}

func newWorld(t *testing.T, seed uint64, m mutant) *world {
	w := &world{
		t:       t,
		rnd:     rand.New(rand.NewPCG(seed, 0)),
		mutant:  m,
		disk:    &disk{entries: map[string][]byte{}, key: m.key},
		now:     1_700_000_000_000_000_000,
		periods: map[time.Duration]bool{},
		service: map[string]map[int64]librato.Summary{},
		truth:   map[string]map[int64]librato.Summary{},
	}
	w.cfg = createDefaultConfig().(*Config)
	id := component.MustNewID("file_storage")
	w.cfg.StorageID = &id
	w.cfg.Email, w.cfg.Token = "me@example.com", "token"
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
	w.journal = newJournal(w.cfg, zap.New(core), telemetry, &refusals{logger: zap.New(core), telemetry: telemetry})
	w.journal.client = w.disk
	w.journal.batch = pick(w, 1, 3, 300)
	w.disk.fail = ""
	require.NoError(w.t, w.journal.recover(context.Background(), w.now))
	w.inFlight = nil
	if w.mutant.revive {
		for _, inc := range w.journal.sealed {
			inc.state = stateOpen
			inc.stream.unconfirmed--
			inc.stream.open = append(inc.stream.open, inc)
		}
		w.journal.open, w.journal.sealed, w.journal.increments.unconfirmed = w.journal.sealed, nil, 0
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
		if len(w.events) > 0 && w.rnd.IntN(3) == 0 {
			e = w.events[max(0, len(w.events)-1-w.rnd.IntN(30))]
		} else {
			e = w.newEvent()
		}
		if e.settled && !e.taken {
			continue
		}
		if key := e.name + "/" + e.source; !used[key] && !slices.Contains(batch, e) {
			used[key] = true
			batch = append(batch, e)
		}
	}
	if len(batch) > 0 {
		w.call(batch)
	}
}

// call is one request with the batch's events; the client takes note of the answer.
func (w *world) call(batch []*event) {
	samples := make([]sample, len(batch))
	for i, e := range batch {
		samples[i] = e.sample
		if e.taken && w.rnd.IntN(4) == 0 { // a copy that computes to another stream and time
			samples[i].source = "elsewhere" + e.source
			samples[i].time -= 90
		}
	}
	w.disk.fail = pick(w, "", "", "", "", "", "", "", "", "error", "error after", "crash", "crash after")
	w.logs.TakeAll()
	var err error
	survived := w.survives(func() { err = w.journal.take(samples, w.now) })
	w.disk.fail = ""
	if !survived || err != nil {
		return // the client repeats it; only then it is known whether the disk had it
	}
	refused := map[string]bool{}
	for _, line := range w.logs.FilterMessageSnippet("refused a data point").All() {
		fields := line.ContextMap()
		refused[fmt.Sprint(fields["metric"], "/", fields["source"])] = true
	}
	for i, e := range batch {
		if e.settled {
			continue
		}
		if refused[samples[i].name+"/"+samples[i].source] {
			e.settled = true
			w.refusals++
			continue
		}
		e.settled, e.taken = true, true
		key := strings.ToLower(e.name + "/" + e.source)
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

func (w *world) newEvent() *event {
	lateness := pick(w, 0, 0, 0, 0, 3, 20, 70, 200, 900, 3000)
	lateness = w.rnd.IntN(lateness + 1)
	e := &event{sample: sample{
		name:   pick(w, "Signup", "signup", "Order-Paid"),
		source: pick(w, "a", "b", "c"),
		event:  true,
		time:   w.now/int64(time.Second) - int64(lateness),
		value:  librato.SummaryOf(float64(w.rnd.IntN(100))),
		id:     w.rnd.Uint64() | 1,
	}}
	w.events = append(w.events, e)
	return e
}

// flush is a tick: what is due is sealed, and on its way.
func (w *world) flush() {
	w.survives(func() {
		if !w.healed && w.rnd.IntN(20) == 0 {
			w.disk.fail = pick(w, "error", "error after", "crash", "crash after")
		}
		require.Empty(w.t, w.journal.expire(w.now), "nothing here gets too old")
		for _, inc := range w.journal.sealFlush(w.now) {
			if !slices.Contains(w.inFlight, inc) {
				assert.LessOrEqual(w.t, inc.second*int64(time.Second), w.now, "no measurement is ahead of the clock")
				w.inFlight = append(w.inFlight, inc)
			}
		}
	})
	w.disk.fail = ""
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
			w.journal.finish(part)
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
	bucket := func(of map[string]map[int64]librato.Summary) map[string]librato.Summary {
		sums := map[string]librato.Summary{}
		for stream, seconds := range of {
			for second, value := range seconds {
				key := fmt.Sprint(stream, "@", second-second%width)
				s := sums[key]
				s.Add(value)
				sums[key] = s
			}
		}
		return sums
	}
	want, got := bucket(w.truth), bucket(w.service)
	for key := range want {
		if want[key] != got[key] {
			return fmt.Errorf("%s: want %+v, got %+v", key, want[key], got[key])
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			return fmt.Errorf("%s: nothing happened there, got %+v", key, got[key])
		}
	}
	return nil
}

// live lets so many things happen, then heals everything, sends what was not acknowledged, and checks.
func (w *world) live(steps int) error {
	lastTick := int64(0)
	for range steps {
		switch w.rnd.IntN(20) {
		case 0:
			w.survives(func() { panic(errCrash) })
		case 1:
			w.now -= w.rnd.Int64N(int64(40 * time.Second)) // the clock steps back
		case 2:
			w.now += w.rnd.Int64N(int64(90 * time.Second)) // a pause, or a step
		case 3:
			w.applyLate()
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

	for _, e := range w.events {
		if !e.settled {
			for !e.settled {
				w.call([]*event{e})
			}
		}
	}
	w.healed = true
	for range 1500 { // the last tick of a list is max_age late
		if w.journal.count() == 0 {
			break
		}
		w.now += int64(5 * time.Second)
		w.flush()
		for _, inc := range w.inFlight {
			w.apply(postOf(inc))
		}
		w.journal.finish(w.inFlight)
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
	return cmp.Or(w.clash, w.check())
}

// TestEachEventCountsOnce is the property: whatever happens, the service's sums are those of the events.
func TestEachEventCountsOnce(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 50
	}
	events, refused := 0, 0
	for seed := range seeds {
		w := newWorld(t, seed, mutant{})
		require.NoError(t, w.live(400), "seed %d", seed)
		events += len(w.truth)
		refused += w.refusals
	}
	require.NotZero(t, events)
	t.Logf("%d seeds; %d events refused, their periods had no second left", seeds, refused)
}

// TestMutantsAreNoticed shows that the property holds for a reason: without any one of three rules it fails.
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

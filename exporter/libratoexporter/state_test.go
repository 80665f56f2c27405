// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadatatest"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

// eventAt is one event of the stream name/s.
func eventAt(name string, at time.Time) sample {
	return sample{name: name, source: "s", event: true, time: at.Unix(), value: librato.SummaryOf(1)}
}

// readingAt is one data point of a gauge that averages, or of a counter.
func readingAt(k kind, name string, at time.Time, value float64) sample {
	return sample{name: name, source: "s", kind: k, time: at.Unix(), value: librato.SummaryOf(value)}
}

// storedJournal is a journal that keeps its state in client, as a start at now finds it.
func storedJournal(tb testing.TB, cfg *Config, client storage.Client, now time.Time) *journal {
	tb.Helper()
	j := memoryJournal(tb, cfg)
	require.NoError(tb, j.open(context.Background(), client, now.UnixNano()))
	return j
}

func takeAll(tb testing.TB, j *journal, now time.Time, samples ...sample) {
	tb.Helper()
	require.NoError(tb, j.take(samples, now.UnixNano()))
}

// flushAll is what one tick does when the service takes everything.
func flushAll(j *journal, now time.Time) []*increment {
	j.expire(now.UnixNano())
	incs := j.sealFlush(now.UnixNano())
	j.settle(incs)
	j.tidy(now.UnixNano())
	return incs
}

func secondsOf(incs []*increment) []int64 {
	var seconds []int64
	for _, inc := range incs {
		seconds = append(seconds, inc.second-noon.Unix())
	}
	return seconds
}

func namesOf(incs []*increment) []string {
	var names []string
	for _, inc := range incs {
		names = append(names, inc.stream.name)
	}
	return names
}

// A point as old as max_age is taken, and one that is a second older is not; the same for max_future.
func TestAgeOfPoints(t *testing.T) {
	h := newHarness(t, nil)
	age, future := h.cfg.MaxAge, h.cfg.MaxFuture
	for _, k := range []kind{kindAveraging, kindCounter} {
		name := fmt.Sprint("kind ", k)
		takeAll(t, h.exporter.journal, noon, readingAt(k, name, noon.Add(-age), 1), readingAt(k, name, noon.Add(future), 1))
	}
	assert.Zero(t, h.refused(reasonTooOld)+h.refused(reasonInTheFuture))
	assert.Equal(t, 4, h.exporter.journal.count())
	takeAll(t, h.exporter.journal, noon, readingAt(kindAveraging, "a", noon.Add(-age-time.Second), 1),
		readingAt(kindAveraging, "a", noon.Add(future+time.Second), 1))
	assert.Equal(t, int64(1), h.refused(reasonTooOld))
	assert.Equal(t, int64(1), h.refused(reasonInTheFuture))
}

// Of a counter's readings for one second the last counts, in one call and in several.
func TestLastReadingOfACounter(t *testing.T) {
	h := newHarness(t, nil)
	takeAll(t, h.exporter.journal, noon, readingAt(kindCounter, "bytes", noon, 100), readingAt(kindCounter, "bytes", noon, 120))
	takeAll(t, h.exporter.journal, noon, readingAt(kindCounter, "bytes", noon, 130))
	h.pass(20 * time.Second)
	h.stored("bytes", "s", 1, 130)
}

// A reading of the oldest second that is not too old is sent; a second later it is given up, sealed or not.
func TestExpiry(t *testing.T) {
	cfg := validConfig()
	cfg.MaxAge = 10 * time.Minute
	j := memoryJournal(t, cfg)
	takeAll(t, j, noon, readingAt(kindAveraging, "sealed", noon, 1), eventAt("event", noon))
	sealed := j.sealFlush(noon.Add(20 * time.Second).UnixNano())
	require.Len(t, sealed, 2)
	// Both streams have something unconfirmed, so these stay open.
	takeAll(t, j, noon.Add(time.Minute), readingAt(kindAveraging, "sealed", noon.Add(time.Minute), 2), eventAt("event", noon.Add(time.Minute)))
	require.ElementsMatch(t, sealed, j.sealFlush(noon.Add(9*time.Minute).UnixNano()))

	assert.Empty(t, j.expire(noon.Add(10*time.Minute).UnixNano()))
	assert.ElementsMatch(t, sealed, j.expire(noon.Add(10*time.Minute+time.Second).UnixNano()))
	assert.Empty(t, j.expire(noon.Add(11*time.Minute).UnixNano()))
	open := j.expire(noon.Add(11*time.Minute + time.Second).UnixNano())
	assert.ElementsMatch(t, []string{"sealed", "event"}, namesOf(open))
	assert.Zero(t, j.count())

	takeAll(t, j, noon.Add(12*time.Minute), eventAt("event", noon.Add(12*time.Minute)))
	assert.Equal(t, []string{"event"}, namesOf(flushAll(j, noon.Add(13*time.Minute))), "and the stream goes on")
}

// Where not all that is due may be sealed, the oldest seconds go first.
func TestOldestIsSealedFirst(t *testing.T) {
	j := memoryJournal(t, validConfig())
	for i, name := range []string{"third", "first", "fourth", "second"} {
		at := noon.Add(-time.Duration([]int{2, 4, 1, 3}[i]) * time.Minute)
		takeAll(t, j, noon, eventAt(name, at))
	}
	now := noon.Add(5 * time.Minute).UnixNano()
	assert.Equal(t, []string{"first", "second"}, namesOf(j.sealAtMost(now, 2)))
	assert.Equal(t, []string{"first", "second", "third"}, namesOf(j.sealAtMost(now, 3)))
}

// A flush seals as many increments as there are streams, rounded up to full requests; twice as many where each flush may
// bring one of each stream, and two for each reading that does not add up. So a backlog shrinks, but not in one storm.
func TestFlushIsBounded(t *testing.T) {
	const streams = 301
	backlog := func(t *testing.T, flush time.Duration, k kind) (j *journal, now time.Time) {
		t.Helper()
		cfg := validConfig()
		cfg.FlushInterval = flush
		j = memoryJournal(t, cfg)
		for back := range 5 { // five increments a stream
			samples := make([]sample, streams)
			for i := range samples {
				samples[i] = readingAt(k, fmt.Sprintf("e%d", i), noon.Add(-time.Duration(back)*time.Minute), 1)
			}
			takeAll(t, j, noon, samples...)
		}
		require.Equal(t, 5*streams, j.count())
		return j, noon.Add(time.Hour)
	}
	sizes := func(j *journal, now time.Time) []int {
		var n []int
		for j.count() > 0 {
			n = append(n, len(flushAll(j, now)))
		}
		return n
	}
	j, now := backlog(t, 10*time.Second, kindAdding)
	assert.Equal(t, []int{600, 600, 5*streams - 1200}, sizes(j, now))
	j, now = backlog(t, time.Minute, kindAdding)
	assert.Equal(t, []int{900, 5*streams - 900}, sizes(j, now))

	// Readings: all that came since the last flush, at once; those that had to stay behind are a backlog.
	j, now = backlog(t, 10*time.Second, kindAveraging)
	assert.Equal(t, []int{5 * streams}, sizes(j, now))
	j, now = backlog(t, 10*time.Second, kindAveraging)
	require.Empty(t, namesOf(j.sealFlush(noon.Add(-time.Hour).UnixNano())))
	assert.Equal(t, []int{600, 600, 5*streams - 1200}, sizes(j, now))
}

// What is kept of the seconds of each period goes from disk when the period is long over.
func TestOldFloorsLeaveTheDisk(t *testing.T) {
	cfg := validConfig()
	withStorage(cfg)
	cfg.MaxAge = 5 * time.Minute
	d := &memoryDisk{entries: map[string][]byte{}}
	j := storedJournal(t, cfg, d, noon)
	const periods = 500
	for i := range periods {
		now := noon.Add(time.Duration(i) * time.Minute)
		takeAll(t, j, now, eventAt("e", now))
		flushAll(j, now.Add(10*time.Second))
	}
	floors := keysWith(d.entries, prefixFloor)
	assert.Less(t, len(floors), periods/4)
	last := noon.Add((periods - 1) * time.Minute).Unix()
	assert.Contains(t, floors, fmt.Sprint(prefixFloor, last-last%60, "/60"), "the newest stay")
}

// Of the periods that are kept the oldest go, whatever order they came in.
func TestOldestPeriodsAreForgotten(t *testing.T) {
	u := usedSeconds{maxRanges: 3}
	for _, start := range []int64{300, 60, 240, 120, 180} {
		u.handOut(start, 60, start+1)
	}
	var gone []int64
	for _, r := range u.forget(300) {
		gone = append(gone, r.start)
	}
	assert.Equal(t, []int64{60, 120}, gone)
	for _, start := range []int64{180, 240, 300} {
		_, found := u.find(start, 60)
		assert.True(t, found, start)
	}
	assert.Empty(t, u.forget(300))
}

// What is opened exactly at a tick is sealed by the next one: that tick may be under way.
func TestOpenedAtATick(t *testing.T) {
	s := newSchedule(time.Minute, 10*time.Second, 110*time.Minute, 0, 1)
	for _, tt := range []struct {
		now    time.Duration
		second int64
		due    time.Duration
	}{
		{10*time.Second - 1, 0, 10 * time.Second},
		{10 * time.Second, 1, 20 * time.Second},
		{time.Minute, 6, 70 * time.Second},
	} {
		second, due, ok := s.place(0, int64(tt.now), &usedSeconds{maxRanges: 1}, nil)
		require.True(t, ok)
		assert.Equal(t, tt.second, second, tt.now)
		assert.Equal(t, int64(tt.due), due, tt.now)
	}
	_, _, ok := s.place(0, int64(110*time.Minute), &usedSeconds{maxRanges: 1}, nil)
	assert.False(t, ok, "the last tick has passed")
}

// A stream of which something waits is not forgotten, however long ago it last opened an increment: another stream of
// the same name would use the same seconds.
func TestStreamsWithIncrementsAreNotForgotten(t *testing.T) {
	for name, seal := range map[string]bool{"open": false, "unconfirmed": true} {
		t.Run(name, func(t *testing.T) {
			j := memoryJournal(t, validConfig())
			takeAll(t, j, noon, eventAt("e", noon))
			if seal {
				require.Len(t, j.sealFlush(noon.Add(time.Minute).UnixNano()), 1)
			}
			later := noon.Add(idleStream + time.Minute)
			j.tidy(later.UnixNano())
			takeAll(t, j, later, eventAt("e", noon))
			incs := j.sealAll()
			assert.Len(t, incs, map[bool]int{false: 1, true: 2}[seal])
			assert.Same(t, incs[0].stream, incs[len(incs)-1].stream)
		})
	}
}

// A stream that came back from disk is remembered like any other, and with it the seconds that it sent.
func TestRecoveredStreamsAreRemembered(t *testing.T) {
	h := newHarness(t, withStorage)
	h.send(reading{name: "temperature", source: "a", value: 20, gauge: true})
	h.shutdown(t.Context())
	h.start()
	h.pass(time.Minute)
	h.stored("temperature", "a", 1, 20)
	h.send(reading{name: "temperature", source: "a", value: 30, gauge: true, late: time.Minute})
	assert.Equal(t, int64(1), h.refused(reasonSecondTaken))
	h.pass(time.Minute)
	h.stored("temperature", "a", 1, 20)
}

// The age that is told is that of the oldest increment which waits for an answer.
func TestOldestUnsentAge(t *testing.T) {
	h := newHarness(t, nil)
	h.send(track("a", "s", 1))
	h.pass(5 * time.Second)
	h.send(track("b", "s", 1))
	h.service.Fail(libratoserver.Failure{Status: 503, Times: -1})
	h.pass(5 * time.Second)
	metadatatest.AssertEqualExporterLibratoOldestUnsentAge(t, h.telemetry,
		[]metricdata.DataPoint[float64]{{Value: 10}}, metricdatatest.IgnoreTimestamp())
}

// The bytes of a transaction are those of its keys and values.
func TestCommitBytes(t *testing.T) {
	h := newHarness(t, withStorage)
	h.send(reading{name: "Signup", source: "a", value: 1, id: 7})
	want := 0
	told := h.counter("commit_bytes", "")
	h.shutdown(t.Context())
	for key, value := range h.onDisk() {
		if key != keyVersion {
			want += len(key) + len(value)
		}
	}
	assert.Equal(t, int64(want), told)
}

// Ids keys are numbered on over a restart: none is written over.
func TestIDsOfEarlierRunsStay(t *testing.T) {
	cfg := validConfig()
	withStorage(cfg)
	d := &memoryDisk{entries: map[string][]byte{}}
	id := uint64(0)
	for run := range 3 {
		j := storedJournal(t, cfg, d, noon)
		assert.Equal(t, 2*run, j.messageIDs())
		for range 2 {
			id++
			s := eventAt("e", noon)
			s.id = id
			takeAll(t, j, noon, s)
		}
	}
}

// failing is a storage client whose transactions fail, before they are written or after.
type failing struct {
	storage.Client
	storage.Walker
	before, after bool
}

func (f *failing) Batch(ctx context.Context, ops ...*storage.Operation) error {
	if f.before {
		return errors.New("disk full")
	}
	if err := f.Client.Batch(ctx, ops...); err != nil || !f.after {
		return err
	}
	return errors.New("no answer from the disk")
}

// A failed transaction, of which nobody knows whether it was written, changes nothing in the end.
func TestFailedTransactions(t *testing.T) {
	newDisk := func() (*memoryDisk, *failing) {
		d := &memoryDisk{entries: map[string][]byte{}}
		return d, &failing{Client: d, Walker: d}
	}
	cfg := validConfig()
	withStorage(cfg)
	withID := func(name string, id uint64) sample {
		s := eventAt(name, noon)
		s.id = id
		return s
	}
	for _, after := range []bool{false, true} {
		fail := func(f *failing) { f.before, f.after = !after, after }
		heal := func(f *failing) { f.before, f.after = false, false }

		t.Run(fmt.Sprint("a call; written: ", after), func(t *testing.T) {
			_, f := newDisk()
			j := storedJournal(t, cfg, f, noon)
			fail(f)
			require.Error(t, j.take([]sample{withID("e", 7)}, noon.UnixNano()))
			heal(f)
			takeAll(t, j, noon, withID("e", 7))
			assert.Equal(t, uint64(1), j.sealAll()[0].value.Count, "its repeat counts")
			assert.Equal(t, 1, storedJournal(t, cfg, f, noon).messageIDs())
		})
		t.Run(fmt.Sprint("merging ids; written: ", after), func(t *testing.T) {
			_, f := newDisk()
			j := storedJournal(t, cfg, f, noon)
			takeAll(t, j, noon, withID("e", 7))
			takeAll(t, j, noon, withID("e", 8))
			fail(f)
			j.tidy(noon.UnixNano())
			heal(f)
			takeAll(t, j, noon, withID("e", 9))
			assert.Equal(t, 3, storedJournal(t, cfg, f, noon).messageIDs())
		})
		t.Run(fmt.Sprint("deleting what is confirmed; written: ", after), func(t *testing.T) {
			d, f := newDisk()
			j := storedJournal(t, cfg, f, noon)
			takeAll(t, j, noon, eventAt("e", noon))
			fail(f)
			j.settle(j.sealFlush(noon.Add(10 * time.Second).UnixNano()))
			heal(f)
			takeAll(t, j, noon.Add(11*time.Second), eventAt("other", noon))
			assert.Len(t, keysWith(d.entries, prefixInc), 1, "the other's alone")
		})
		t.Run(fmt.Sprint("a second of the period; written: ", after), func(t *testing.T) {
			_, f := newDisk()
			j := storedJournal(t, cfg, f, noon)
			takeAll(t, j, noon, eventAt("e", noon))
			first := flushAll(j, noon.Add(10*time.Second))
			require.Equal(t, []int64{0}, secondsOf(first))
			fail(f)
			require.Error(t, j.take([]sample{eventAt("e", noon)}, noon.Add(10*time.Second).UnixNano()))
			heal(f)
			takeAll(t, j, noon.Add(2*time.Minute), eventAt("other", noon.Add(2*time.Minute)))
			j.settle(j.sealAll())

			// The clock steps back with the restart, into the time of the first tick.
			j = storedJournal(t, cfg, f, noon)
			takeAll(t, j, noon, eventAt("e", noon))
			assert.NotContains(t, secondsOf(j.sealAll()), int64(0), "nor is a second sent again")
		})
	}
}

// Names with the prefix are cut to what Librato takes.
func TestPrefixAndLengthOfNames(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.MetricPrefix = "prod." })
	long := strings.Repeat("x", 300)
	h.send(track("Signup", "s", 1), track(long, "s", 1), reading{name: "cpu", source: "s", value: 1, gauge: true})
	h.pass(30 * time.Second)
	h.stored("prod.Signup", "s", 1, 1)
	h.stored("prod.cpu", "s", 1, 1)
	h.stored("prod."+long[:librato.MaxNameLength-len("prod.")], "s", 1, 1)
}

// After a change of API that made one stream of two, the stream goes on.
func TestJoinedStreamsGoOn(t *testing.T) {
	h := newHarness(t, func(cfg *Config) {
		withStorage(cfg)
		cfg.API = APIMeasurements
	})
	md := h.metricsOf([]reading{track("Signup", "web", 1), track("Signup", "web", 5)})
	for i, env := range []string{"prod", "test"} {
		md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(i).Gauge().DataPoints().At(0).Attributes().PutStr("env", env)
	}
	require.NoError(t, h.exporter.consume(t.Context(), md))
	h.shutdown(t.Context())
	h.cfg.API = APIMetrics
	h.start()
	h.pass(time.Minute)
	h.send(track("Signup", "web", 10))
	h.pass(time.Minute)
	h.stored("Signup", "web", 3, 16)
}

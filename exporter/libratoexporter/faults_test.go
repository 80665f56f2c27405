// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

// This file holds the state to what clocks, outages and clients do to it in the long run.

// A clock that was hours ahead leaves increments of the future on disk. After it went back they wait for their time, and
// hold nothing up.
func TestClockAheadThenBackOverARestart(t *testing.T) {
	h := newHarness(t, withStorage)
	h.clock.set(noon.Add(3 * time.Hour))
	h.send(track("Signup", "s", 100), reading{name: "load", source: "s", value: 7, gauge: true})
	h.shutdown(t.Context())
	h.clock.set(noon)
	h.start()
	for i := range 70 {
		h.send(track("Signup", "s", 1), reading{name: "load", source: "s", value: float64(i), gauge: true})
		h.pass(time.Minute)
	}
	h.pass(time.Minute)
	h.stored("Signup", "s", 70, 70)
	assert.Equal(t, uint64(70), h.service.Sum("load", "s").Count)
	assert.Zero(t, h.refused(reasonTooOld)+h.refused(reasonSecondTaken))
	h.pass(3 * time.Hour)
	h.stored("Signup", "s", 71, 170)
	assert.Equal(t, uint64(71), h.service.Sum("load", "s").Count)
	assert.Zero(t, h.exporter.journal.count())
}

// Readings that were sent while the clock was hours ahead, or behind, say nothing of the seconds of now.
func TestReadingsAfterAStepOfTheClock(t *testing.T) {
	for _, step := range []time.Duration{3 * time.Hour, -3 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			cfg := validConfig()
			j := memoryJournal(t, cfg)
			send := func(from time.Time, want int) {
				sent := 0
				for i := range 180 {
					now := from.Add(time.Duration(i) * 10 * time.Second)
					takeAll(t, j, now, readingAt(kindAveraging, "load", now, 1), readingAt(kindCounter, "bytes", now, 1))
					sent += len(flushAll(j, now))
				}
				sent += len(flushAll(j, from.Add(time.Hour)))
				assert.Equal(t, want, sent)
			}
			send(noon.Add(step), 360)
			send(noon, 360)
		})
	}
}

// However long the clock was ahead, the seconds that are used of the present periods are remembered when it is set back.
func TestUsedSecondsAfterAClockAhead(t *testing.T) {
	j := memoryJournal(t, validConfig())
	const minutes = 1000 // more periods than are kept
	for i := range minutes {
		now := noon.Add(10*time.Hour + time.Duration(i)*time.Minute)
		takeAll(t, j, now, eventAt("e", now))
		flushAll(j, now.Add(10*time.Second))
	}
	now := noon.Add(minutes * time.Minute)
	for i := range int64(10) {
		takeAll(t, j, now, eventAt("e", now))
		incs := j.sealAll()
		assert.Equal(t, []int64{minutes*60 + i}, secondsOf(incs))
		j.settle(incs)
		j.tidy(now.UnixNano())
	}
}

// A stream of which nothing waits may change its kind at once; no second is sent twice for it.
func TestKindChanges(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.Gauges.ServiceSideAggregation = false })
	gauge := reading{name: "flux", source: "s", value: 1, gauge: true}
	h.send(gauge)
	require.NoError(t, h.consume(track("flux", "s", 1)))
	assert.Equal(t, int64(1), h.refused(reasonKindConflict), "while the reading waits")
	h.pass(20 * time.Second)
	for range 20 {
		h.send(track("flux", "s", 1))
		h.pass(10 * time.Second)
		h.pass(10 * time.Second)
		h.send(gauge)
		h.pass(20 * time.Second)
	}
	h.pass(time.Hour)
	assert.Equal(t, int64(1), h.refused(reasonKindConflict))
	taken := h.refused(reasonSecondTaken)
	assert.LessOrEqual(t, taken, int64(3), "readings in the seconds of events of the same period")
	h.stored("flux", "s", uint64(41-taken), float64(41-taken))
	assert.Zero(t, h.service.Stats().Replaced)
}

// When max_streams is reached, the stream that was idle longest gives way to a new one; one of which something waits never.
func TestIdleStreamsGiveWay(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.MaxStreams = 100 })
	h.sendStreams(100)
	h.send(track("new", "s", 1))
	assert.Equal(t, int64(1), h.refused(reasonTooManyStreams), "something waits of all of them")
	h.pass(10 * time.Second)
	h.send(track("stream-0", "s", 1)) // is used again
	for i := range 99 {
		h.send(track(fmt.Sprintf("new-%d", i), "s", 1))
	}
	assert.Equal(t, int64(1), h.refused(reasonTooManyStreams))
	h.send(track("stream-0", "s", 1), track("one more", "s", 1))
	assert.Equal(t, int64(2), h.refused(reasonTooManyStreams))
	assert.Equal(t, 100, h.exporter.journal.streams())
	h.pass(10 * time.Second)
	h.stored("stream-0", "s", 3, 3)
	h.stored("new-98", "s", 1, 1)
}

// During an outage the readings of a stream within a period become one measurement: its average, minimum, maximum and
// count are right, and of a counter the last reading is sent, at its own second.
func TestOutageOfReadings(t *testing.T) {
	const gauges, scrapes = 100, 100 // every ten seconds: 17 periods
	h := newHarness(t, func(cfg *Config) {
		cfg.MaxStreams, cfg.MaxIncrements = 1000, 10_000
		cfg.Gauges.ServiceSideAggregation = false
	})
	h.service.Fail(libratoserver.Failure{Status: 503, Times: -1})
	j := h.exporter.journal
	for i := range scrapes {
		now := h.clock.now()
		samples := make([]sample, 0, 2*gauges)
		for g := range gauges {
			value := float64(i%6 + g)
			samples = append(samples, readingAt(kindAveraging, fmt.Sprint("gauge", g), now, value),
				readingAt(kindCounter, fmt.Sprint("counter", g), now, float64(1000*i)))
		}
		takeAll(t, j, now, samples...)
		h.pass(10 * time.Second)
	}
	h.send(track("Signup", "s", 1))
	assert.LessOrEqual(t, j.count(), 2*gauges*(17+4)+1)
	h.service.ClearFailures()
	h.pass(20 * time.Minute)
	assert.Zero(t, h.refused(reasonSecondTaken)+h.refused(reasonTooOld))
	for g := range gauges {
		sum := h.service.Sum(fmt.Sprint("gauge", g), "s")
		want := librato.Summary{}
		for i := range scrapes {
			want.Add(librato.SummaryOf(float64(i%6 + g)))
		}
		require.Equal(t, want, librato.Summary{Count: sum.Count, Sum: sum.Sum, Min: sum.Min, Max: sum.Max})
		last := int64(0)
		for _, s := range h.service.Seconds(fmt.Sprint("counter", g), "s") {
			at := s.Time - noon.Unix()
			require.Greater(t, at, last-1)
			require.InDelta(t, float64(100*at), s.Sum, 0, "each with the second of its reading")
			last = at
		}
		require.Equal(t, int64(10*(scrapes-1)), last)
	}
	assert.Zero(t, h.service.Stats().Replaced)
}

// Of a counter's readings that fold, one that comes late changes nothing, and none is sent for a second that was sent.
func TestLateReadingsOfACounter(t *testing.T) {
	j := memoryJournal(t, validConfig())
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	takeAll(t, j, at(0), readingAt(kindCounter, "bytes", at(0), 1))
	first := j.sealAll()
	takeAll(t, j, at(40), readingAt(kindCounter, "bytes", at(10), 10), readingAt(kindCounter, "bytes", at(30), 30),
		readingAt(kindCounter, "bytes", at(20), 20))
	takeAll(t, j, at(41), readingAt(kindCounter, "bytes", at(25), 25), readingAt(kindCounter, "bytes", at(0), 0))
	incs := j.sealAll()
	require.Len(t, incs, 2)
	require.Same(t, first[0], incs[0])
	assert.Equal(t, []int64{0, 30}, secondsOf(incs))
	assert.Equal(t, librato.SummaryOf(30), incs[1].value)
	takeAll(t, j, at(42), readingAt(kindCounter, "bytes", at(30), 31), readingAt(kindCounter, "bytes", at(10), 11))
	assert.Len(t, j.sealAll(), 2, "both seconds are taken")
}

// What a failed transaction would have folded into an increment, its second included, is forgotten.
func TestUndoneReadingsOfACounter(t *testing.T) {
	cfg := validConfig()
	withStorage(cfg)
	d := &memoryDisk{entries: map[string][]byte{}}
	f := &failing{Client: d, Walker: d}
	j := storedJournal(t, cfg, f, noon)
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	takeAll(t, j, at(0), readingAt(kindCounter, "bytes", at(0), 1))
	j.sealAll()
	takeAll(t, j, at(10), readingAt(kindCounter, "bytes", at(10), 10))
	f.after = true
	require.Error(t, j.take([]sample{readingAt(kindCounter, "bytes", at(20), 20)}, at(20).UnixNano()))
	f.after = false
	j.expire(at(20).UnixNano()) // puts it right
	assert.Equal(t, []int64{0, 10}, secondsOf(storedJournal(t, cfg, f, noon).sealAll()))
	takeAll(t, j, at(30), readingAt(kindCounter, "bytes", at(30), 30))
	recovered := storedJournal(t, cfg, f, noon).sealAll()
	assert.Equal(t, []int64{0, 30}, secondsOf(recovered))
	assert.Equal(t, librato.SummaryOf(30), recovered[1].value)
}

// What is remembered of spellings is bounded in bytes, and long ones do not push out those of others.
func TestSpellingsAreBoundedInBytes(t *testing.T) {
	cfg := validConfig()
	s := newStreams(cfg)
	short := sample{name: "Order Paid", source: "s", event: true}
	streamOf(t, &s, short)
	size := func() (bytes int) {
		for a := range s.aliases {
			bytes += len(a.name) + len(a.source)
		}
		return bytes
	}
	for i := range 1000 {
		streamOf(t, &s, sample{name: fmt.Sprint(strings.Repeat("x", 32<<10), i), source: "s", event: true})
		streamOf(t, &s, sample{name: "short", source: fmt.Sprint(strings.Repeat("y", 32<<10), i), event: true})
	}
	assert.NotNil(t, s.known(&short))
	assert.LessOrEqual(t, size(), 1<<10)
	for i := range 100_000 {
		streamOf(t, &s, sample{name: fmt.Sprint(strings.Repeat("x", 800), i), source: "s", event: true})
		if i%1000 == 0 {
			require.LessOrEqual(t, size(), maxSpellings)
		}
	}
	assert.Equal(t, size(), s.aliasBytes)
}

// A stream keeps nothing of a data point alive: its tags are copies.
func TestTagsAreCopies(t *testing.T) {
	cfg := validConfig()
	cfg.API = APIMeasurements
	s := newStreams(cfg)
	value := strings.Repeat("v", 100)
	set := string(appendTagSet(nil, []pair{{"name", value}}))
	st := streamOf(t, &s, sample{name: "n", source: set})
	assert.Equal(t, value, st.tags[0].Value)
	assert.NotSame(t, unsafe.StringData(set[len(set)-len(value):]), unsafe.StringData(st.tags[0].Value))
}

// sender is where a metric of a test comes from.
type sender struct{ host, service string }

func (h *harness) metricOf(from sender, name string, value float64, counter bool, attributes ...string) pmetric.Metrics {
	md := pmetric.NewMetrics()
	resource := md.ResourceMetrics().AppendEmpty()
	resource.Resource().Attributes().PutStr("host.name", from.host)
	resource.Resource().Attributes().PutStr("service.name", from.service)
	m := resource.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName(name)
	var p pmetric.NumberDataPoint
	if counter {
		m.SetEmptySum().SetIsMonotonic(true)
		m.Sum().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p = m.Sum().DataPoints().AppendEmpty()
	} else {
		p = m.SetEmptyGauge().DataPoints().AppendEmpty()
	}
	p.SetTimestamp(pcommon.NewTimestampFromTime(h.clock.now()))
	p.SetDoubleValue(value)
	for i := 0; i < len(attributes); i += 2 {
		p.Attributes().PutStr(attributes[i], attributes[i+1])
	}
	return md
}

// Two origins that fall on one stream are not mixed: the points of the second are refused, counted, and it is said
// what tells them apart, in one call as in several.
func TestTwoOriginsOfOneStream(t *testing.T) {
	a, b := sender{"web-1", "api"}, sender{"web-1", "worker"}
	for _, counter := range []bool{false, true} {
		for _, oneCall := range []bool{false, true} {
			t.Run(fmt.Sprint("counter ", counter, ", one call ", oneCall), func(t *testing.T) {
				h := newHarness(t, nil)
				for range 3 {
					first, second := h.metricOf(a, "requests", 1000, counter), h.metricOf(b, "requests", 1_000_000, counter)
					if oneCall {
						second.ResourceMetrics().MoveAndAppendTo(first.ResourceMetrics())
						require.NoError(t, h.exporter.consume(t.Context(), first))
					} else {
						require.NoError(t, h.exporter.consume(t.Context(), first))
						h.pass(5 * time.Second)
						require.NoError(t, h.exporter.consume(t.Context(), second))
					}
					h.pass(10 * time.Second)
				}
				assert.Equal(t, int64(3), h.refused(reasonAttributeCollision))
				h.pass(20 * time.Second)
				h.stored("requests", "web-1", 3, 3000)
				lines := h.logs.FilterMessageSnippet("two origins").All()
				require.Len(t, lines, 1, "said once")
				assert.Equal(t, "service.name", lines[0].ContextMap()["told_apart_by"])
				assert.Equal(t, "requests", lines[0].ContextMap()["metric"])
			})
		}
	}
}

// What cleaning, cutting or a choice of attributes makes one stream is seen in the same way.
func TestOriginsThatBecomeOneName(t *testing.T) {
	from := sender{"web-1", "api"}
	long := strings.Repeat("n", 300)
	for name, tt := range map[string]struct {
		first, second string
		attributes    []string // of the second
		apart         string
	}{
		"cleaning":   {"cpu load", "cpu-load", nil, "the name as it is sent"},
		"cutting":    {long + "a", long + "b", nil, "the name as it is sent"},
		"attributes": {"cpu", "cpu", []string{"core", "1"}, "attributes of the data point"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, func(cfg *Config) { cfg.NameAttributes = &[]string{} })
			require.NoError(t, h.exporter.consume(t.Context(), h.metricOf(from, tt.first, 1, false)))
			h.pass(time.Second)
			require.NoError(t, h.exporter.consume(t.Context(), h.metricOf(from, tt.second, 2, false, tt.attributes...)))
			assert.Equal(t, int64(1), h.refused(reasonAttributeCollision))
			lines := h.logs.FilterMessageSnippet("two origins").All()
			require.Len(t, lines, 1)
			assert.Equal(t, tt.apart, lines[0].ContextMap()["told_apart_by"])
		})
	}
}

// When the first origin has fallen silent, as after a restart of what sends it, the second one takes its place.
func TestOriginsTakeOver(t *testing.T) {
	h := newHarness(t, nil)
	require.NoError(t, h.exporter.consume(t.Context(), h.metricOf(sender{"web-1", "old"}, "load", 1, false)))
	h.pass(originSilence + time.Second)
	require.NoError(t, h.exporter.consume(t.Context(), h.metricOf(sender{"web-1", "new"}, "load", 2, false)))
	h.pass(20 * time.Second)
	h.stored("load", "web-1", 2, 3)
	assert.Zero(t, h.refused(reasonAttributeCollision))
}

// Whatever adds up may come from anywhere.
func TestOriginsOfWhatAddsUp(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.SumMetrics = []string{"requests"} })
	for _, service := range []string{"api", "worker"} {
		require.NoError(t, h.exporter.consume(t.Context(), h.metricOf(sender{"web-1", service}, "requests", 2, false)))
	}
	h.pass(20 * time.Second)
	h.stored("requests", "web-1", 2, 4)
	assert.Zero(t, h.refused(reasonAttributeCollision))
}

// An attribute whose name the service does not tell from "source" does not replace the source.
func TestSourceInAnotherCase(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.API = APIMeasurements })
	require.NoError(t, h.exporter.consume(t.Context(), h.metricOf(sender{"web-1", "api"}, "load", 1, false, "Source", "elsewhere")))
	h.pass(20 * time.Second)
	h.stored("load", "source=web-1", 1, 1)
}

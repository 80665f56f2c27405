// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.uber.org/zap"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

func memoryJournal(tb testing.TB, cfg *Config) *journal {
	tb.Helper()
	telemetry, err := metadata.NewTelemetryBuilder(componenttest.NewNopTelemetrySettings())
	require.NoError(tb, err)
	return newJournal(cfg, zap.NewNop(), telemetry, newRefusals(zap.NewNop(), telemetry), newOrigins())
}

// The default schedule is the one that DESIGN.md describes: 6 ticks in time and 48 late ones up to max_age.
func TestDefaultSchedule(t *testing.T) {
	s := newSchedule(time.Minute, 10*time.Second, 110*time.Minute, 0, 1)
	require.Len(t, s.offsets, 54)
	for i := range 6 {
		assert.Equal(t, int64(i+1)*int64(10*time.Second), s.offsets[i])
	}
	assert.Equal(t, int64(110*time.Minute), s.offsets[53])

	// An event of any second of the period that arrives right after a late tick waits until the next one.
	worst, at := 0.0, time.Duration(0)
	for i := 5; i < 53; i++ {
		wait := float64(s.offsets[i+1] - s.offsets[i])
		if ratio := wait / float64(s.offsets[i]); ratio > worst && wait > float64(10*time.Second) {
			worst, at = ratio, time.Duration(s.offsets[i])
		}
		assert.LessOrEqual(t, wait, max(float64(10*time.Second), 0.18*float64(s.offsets[i])), "after %v", time.Duration(s.offsets[i]))
	}
	t.Logf("longest wait: %.1f %% of the lateness, at %v; ticks: %v", 100*worst, at, durations(s.offsets))
}

func durations(offsets []int64) []time.Duration {
	var ds []time.Duration
	for _, o := range offsets {
		ds = append(ds, time.Duration(o))
	}
	return ds
}

// What every schedule keeps: ticks ascend, are a whole number of flushes late, none is before its own second, no
// more of them than seconds, and the last is max_age late.
func TestSchedules(t *testing.T) {
	for _, period := range []time.Duration{10 * time.Second, 11 * time.Second, 30 * time.Second, time.Minute, 97 * time.Second, 10 * time.Minute} {
		for _, flush := range []time.Duration{time.Second, 4 * time.Second, 7 * time.Second, 10 * time.Second, period} {
			for _, count := range []int{1, 2, int(period / (10 * time.Second))} {
				for _, age := range []time.Duration{period + flush, time.Hour, 115 * time.Minute} {
					if count > max(1, int(period/(10*time.Second))) {
						continue
					}
					name := fmt.Sprint(period, flush, count, age)
					s := newSchedule(period, flush, age, count-1, count)
					require.NotEmpty(t, s.offsets, name)
					require.LessOrEqual(t, len(s.offsets)*count, int(s.period), name)
					last := int64(0)
					for k, offset := range s.offsets {
						require.Greater(t, offset, last, name)
						require.Zero(t, offset%int64(flush), name)
						require.GreaterOrEqual(t, offset, (s.index+int64(k)*s.count)*int64(time.Second), "%s: tick %d is before its second", name, k)
						last = offset
					}
					require.GreaterOrEqual(t, last, int64(age/flush*flush), name)
				}
			}
		}
	}
}

// The property: with random periods, intervals, instances, pauses and clock steps, no two increments of a stream share
// a second, whichever instance they are of, none is ahead of the tick that seals it, and none stays behind.
func TestNoTwoIncrementsShareASecond(t *testing.T) {
	seeds := uint64(100)
	if testing.Short() {
		seeds = 30
	}
	increments := 0
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 1))
		cfg := validConfig()
		cfg.Gauges.Period = time.Duration(10+rnd.IntN(591)) * time.Second
		cfg.FlushInterval = time.Duration(1+rnd.IntN(min(60, int(cfg.Gauges.Period/time.Second)))) * time.Second
		cfg.MaxAge = min(maxMaxAge, cfg.Gauges.Period+cfg.FlushInterval+time.Duration(rnd.IntN(7000))*time.Second)
		cfg.Instance.Count = 1 + rnd.IntN(max(1, int(cfg.Gauges.Period/(10*time.Second))))
		require.NoError(t, cfg.Validate())

		instances := make([]*journal, min(cfg.Instance.Count, 3))
		for i := range instances {
			cfg.Instance.Index = i * (cfg.Instance.Count - 1) / max(1, len(instances)-1)
			instances[i] = memoryJournal(t, cfg)
		}
		type place struct {
			stream string
			second int64
		}
		seen := map[place]bool{}
		now := noon.UnixNano() + rnd.Int64N(int64(time.Hour))
		lastTick := int64(0)
		flush := func() {
			tick := now / int64(cfg.FlushInterval)
			if tick == lastTick {
				return
			}
			lastTick = tick
			for _, j := range instances {
				j.expire(now)
				due := j.sealFlush(now)
				for _, inc := range due {
					require.LessOrEqual(t, inc.second*int64(time.Second), now, "seed %d: ahead of its tick", seed)
					p := place{inc.stream.key, inc.second}
					require.False(t, seen[p], "seed %d: %v twice", seed, p)
					require.Equal(t, inc.start, inc.second-inc.second%inc.period, "seed %d: not in its period", seed)
					seen[p] = true
					increments++
				}
				j.settle(due)
				j.tidy(now)
			}
		}
		for range 400 {
			switch rnd.IntN(40) {
			case 0:
				now -= rnd.Int64N(int64(3 * time.Minute))
			case 1:
				now += rnd.Int64N(int64(5 * time.Minute)) // a pause, or a step
			default:
				now += rnd.Int64N(2 * int64(cfg.FlushInterval))
			}
			for range rnd.IntN(3) {
				late := rnd.Int64N(1 + rnd.Int64N(int64(cfg.MaxAge/time.Second)))
				s := sample{name: "e", source: string(rune('a' + rnd.IntN(2))), event: true, time: now/int64(time.Second) - late, value: librato.SummaryOf(1)}
				require.NoError(t, instances[rnd.IntN(len(instances))].take([]sample{s}, now))
			}
			flush()
		}
		for end := now + int64(cfg.MaxAge+cfg.Gauges.Period); now < end; {
			now += int64(cfg.FlushInterval)
			flush()
		}
		for _, j := range instances {
			require.Zero(t, j.count(), "seed %d: stays behind", seed)
		}
	}
	t.Logf("%d increments", increments)
}

// What the largest max_age and the smallest period leave in memory of used seconds is bounded.
func TestUsedSecondsAreBounded(t *testing.T) {
	cfg := validConfig()
	cfg.Gauges.Period = 10 * time.Second
	j := memoryJournal(t, cfg)
	for i := range int64(10_000) {
		now := noon.Add(time.Duration(i) * 10 * time.Second).UnixNano()
		require.NoError(t, j.take([]sample{{name: "e", event: true, time: now / int64(time.Second), value: librato.SummaryOf(1)}}, now))
		j.expire(now)
		due := j.sealFlush(now)
		j.settle(due)
		j.tidy(now)
	}
	assert.LessOrEqual(t, len(j.state.used.ranges), 64+2*720)
}

func TestSecondSet(t *testing.T) {
	const window = 7200
	s := newSecondSet(window)
	rnd := rand.New(rand.NewPCG(1, 2))
	want := map[int64]bool{}
	newest := int64(1_700_000_000)
	for range 5000 {
		second := newest - rnd.Int64N(window) + rnd.Int64N(20)
		assert.Equal(t, want[second], s.contains(second))
		s.add(second)
		want[second] = true
		newest = max(newest, second)
	}
	// The clock is set back, and forth: what was added near either time is still known.
	for _, step := range []int64{-10 * window, 10 * window, 0} {
		at := newest + step
		assert.Equal(t, want[at], s.contains(at))
		s.add(at)
		s.add(at - 100)
		assert.True(t, s.contains(at-100))
		assert.False(t, s.contains(at-window-200))
		want[at], want[at-100] = true, true
	}
	for second, added := range want {
		if second > newest-window+100 || second < newest-2*window {
			require.Equal(t, added, s.contains(second))
		}
	}
	require.Len(t, s.windows, 3)
	s.add(newest + 20*window)
	require.Len(t, s.windows, 3)
	assert.True(t, s.contains(newest), "the one that was used last stays")
	assert.False(t, s.contains(newest-10*window))
}

// A second that falls out of the window as another comes marks no other one.
func TestSecondSetAtTheEndOfItsWindow(t *testing.T) {
	s := newSecondSet(7200)
	first, last := int64(1_700_000_000/64*64), s.words
	for _, back := range []int64{last - 1, last, last + 1} {
		s.add(first)
		s.add(first - back*64 + 5)
		assert.False(t, s.contains(first+5), "%d words back", back)
	}
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"testing"
	"time"

	"github.com/cenkalti/backoff/v7"
	"github.com/stretchr/testify/assert"
)

// testPace has ticks every ten seconds and waits for 5, 10, then 20 seconds. It begins at noon, a tick.
func testPace() (pace, time.Time) {
	start := noon.Truncate(time.Minute)
	return newPace(10*time.Second, &backoff.ExponentialBackOff{
		InitialInterval: 5 * time.Second, Multiplier: 2, MaxInterval: 20 * time.Second,
	}, start), start
}

// What is to be done, and when next, as time and the service go.
func TestPace(t *testing.T) {
	type event struct {
		at    time.Duration // since the start
		do    task
		after string        // what the service then does: leaves, leaves for 1m, comes back
		wait  time.Duration // until the next step
	}
	for name, events := range map[string][]event{
		"a flush at each tick, once": {
			{at: 9 * time.Second, do: taskNothing, wait: time.Second},
			{at: 10 * time.Second, do: taskFlush, wait: 10 * time.Second},
			{at: 11 * time.Second, do: taskNothing, wait: 9 * time.Second},
			{at: 20 * time.Second, do: taskFlush, wait: 10 * time.Second},
		},
		"a pause costs one flush": {
			{at: 65 * time.Second, do: taskFlush, wait: 5 * time.Second},
			{at: 70 * time.Second, do: taskFlush, wait: 10 * time.Second},
		},
		"a clock that steps back ticks on": {
			{at: 10 * time.Second, do: taskFlush, wait: 10 * time.Second},
			{at: -time.Hour + time.Second, do: taskFlush, wait: 9 * time.Second},
			{at: -time.Hour + 10*time.Second, do: taskFlush, wait: 10 * time.Second},
		},
		"the back-off grows up to its longest, and comes before a tick": {
			{at: 10 * time.Second, do: taskFlush, after: "leaves", wait: 5 * time.Second},
			{at: 15 * time.Second, do: taskProbe, after: "leaves", wait: 5 * time.Second},
			{at: 20 * time.Second, do: taskExpire, wait: 5 * time.Second},
			{at: 25 * time.Second, do: taskProbe, after: "leaves", wait: 5 * time.Second},
			{at: 30 * time.Second, do: taskExpire, wait: 10 * time.Second},
			{at: 40 * time.Second, do: taskExpire, wait: 5 * time.Second},
			{at: 45 * time.Second, do: taskProbe, after: "leaves", wait: 5 * time.Second},
			{at: 65 * time.Second, do: taskProbe, after: "comes back", wait: 5 * time.Second},
			{at: 70 * time.Second, do: taskFlush, after: "leaves", wait: 5 * time.Second},
		},
		"the service asks for longer": {
			{at: 10 * time.Second, do: taskFlush, after: "leaves for 1m", wait: 10 * time.Second},
			{at: 20 * time.Second, do: taskExpire, wait: 10 * time.Second},
			{at: 69 * time.Second, do: taskExpire, wait: time.Second},
			{at: 70 * time.Second, do: taskProbe, wait: 10 * time.Second},
		},
		"a probe that is due and not made is due still": {
			{at: 10 * time.Second, do: taskFlush, after: "leaves", wait: 5 * time.Second},
			{at: 15 * time.Second, do: taskProbe, wait: 5 * time.Second},
			{at: 16 * time.Second, do: taskProbe, wait: 4 * time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, start := testPace()
			for i, e := range events {
				now := start.Add(e.at)
				do, _ := p.step(now)
				assert.Equal(t, e.do, do, "event %d", i)
				switch e.after {
				case "leaves":
					p.leave(now, time.Second)
				case "leaves for 1m":
					assert.Equal(t, time.Minute, p.leave(now, time.Minute))
				case "comes back":
					p.back()
				}
				assert.Equal(t, e.wait, p.wait(now), "event %d", i)
			}
		})
	}
}

// The state is tidied once an interval, wherever the clock goes.
func TestPaceTidies(t *testing.T) {
	p, start := testPace()
	for i, event := range []struct {
		at   time.Duration
		tidy bool
	}{
		{time.Second, true},
		{2 * time.Second, false},
		{10 * time.Second, false},
		{11 * time.Second, true},
		{20 * time.Second, false},
		{-time.Hour, true},
		{-time.Hour + time.Second, false},
		{-time.Hour + 10*time.Second, true},
	} {
		_, tidy := p.step(start.Add(event.at))
		assert.Equal(t, event.tidy, tidy, "event %d", i)
	}
}

// A wait is never 0: the step would come at the same instant again.
func TestPaceWaits(t *testing.T) {
	p, start := testPace()
	assert.Equal(t, time.Millisecond, p.wait(start.Add(10*time.Second-time.Nanosecond)))
}

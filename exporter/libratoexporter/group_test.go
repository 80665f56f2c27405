// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// joined is how many callers the group that forms has.
func (g *groupCommit[C]) joined() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.forming == nil {
		return 0
	}
	return len(g.forming.members)
}

// Who comes while a transaction runs belongs to the next one, however many they are.
func TestGroupsFormDuringACommit(t *testing.T) {
	const callers = 16
	g := groupCommit[int]{enough: 1000, wait: time.Minute}
	entered, open := make(chan struct{}), make(chan struct{})
	var groups [][]int
	var writer sync.Mutex
	commit := func(closeGroup func() []int) {
		writer.Lock()
		defer writer.Unlock()
		groups = append(groups, closeGroup())
		if len(groups) == 1 {
			close(entered)
			<-open
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { g.do(0, 1, commit) })
	<-entered
	for i := range callers - 1 {
		wg.Go(func() { g.do(i+1, 1, commit) })
	}
	require.Eventually(t, func() bool { return g.joined() == callers-1 }, 10*time.Second, time.Millisecond)
	close(open)
	wg.Wait()
	require.Len(t, groups, 2)
	assert.Equal(t, []int{0}, groups[0])
	assert.Len(t, groups[1], callers-1)
}

// A leader waits for as many as came last time, unless its group weighs enough, and never longer than it may.
func TestLeadersWait(t *testing.T) {
	alone := func(closeGroup func() []int) { closeGroup() }
	g := groupCommit[int]{enough: 100, wait: time.Hour, lastSize: 16}
	g.do(1, 100, alone) // or the test would not end
	assert.Equal(t, 1, g.lastSize)
	g.do(1, 1, alone) // who was alone last time waits for nobody

	g.lastSize, g.wait = 16, time.Millisecond
	began := time.Now()
	g.do(1, 1, alone)
	assert.GreaterOrEqual(t, time.Since(began), time.Millisecond)
}

// With one processor nobody joins unless the leader lets others run.
func TestGroupsFormWithOneProcessor(t *testing.T) {
	const callers, calls = 16, 200
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	g := groupCommit[int]{enough: 1000, wait: groupWait}
	var writer sync.Mutex
	commits := 0
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range calls {
				g.do(i, 1, func(closeGroup func() []int) {
					writer.Lock()
					defer writer.Unlock()
					closeGroup()
					commits++
				})
			}
		})
	}
	wg.Wait()
	t.Logf("%d calls, %d commits", callers*calls, commits)
	assert.Less(t, commits, callers*calls/4)
}

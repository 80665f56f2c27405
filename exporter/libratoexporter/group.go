// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"runtime"
	"sync"
	"time"
)

// groupCommit lets callers that arrive together share one transaction. It knows nothing of what they bring.
//
// The first caller leads: it waits for as many as the last group had, but not long, and commits for all. A caller that is
// alone waits for nobody.
type groupCommit[C any] struct {
	enough int           // a group that weighs so much waits for no more
	wait   time.Duration // the longest that a leader waits

	mu       sync.Mutex // guards what follows, and the members of the group that forms
	forming  *group[C]  // the group that callers join; nil: none
	lastSize int        // callers in the last group
}

// group is the callers that share one transaction.
type group[C any] struct {
	members []C
	weight  int           // of all of them
	want    int           // callers worth waiting for
	full    chan struct{} // closed when they are there, or weigh enough
	isFull  bool
	done    chan struct{} // closed when it is decided
}

// do returns when c was committed. One of the callers in a group runs commit, for all of them; commit calls closeGroup to
// learn whom it is for, as late as it can: until then others join.
func (g *groupCommit[C]) do(c C, weight int, commit func(closeGroup func() []C)) {
	own, leads := g.join(c, weight)
	if !leads {
		<-own.done // from here on only the commit decides
		return
	}
	// With one processor nobody can join while this goroutine runs: each caller would commit alone for ever.
	runtime.Gosched()
	select {
	case <-own.full: // at once if the last one was alone
	default:
		timer := time.NewTimer(g.wait)
		select {
		case <-own.full:
		case <-timer.C:
		}
		timer.Stop()
	}
	commit(func() []C {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.forming, g.lastSize = nil, len(own.members)
		return own.members
	})
	close(own.done)
}

// join returns the group that c now belongs to, and whether it leads it.
func (g *groupCommit[C]) join(c C, weight int) (own *group[C], leads bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	own = g.forming
	if own == nil {
		leads = true
		own = &group[C]{want: g.lastSize, full: make(chan struct{}), done: make(chan struct{})}
		g.forming = own
	}
	own.members = append(own.members, c)
	own.weight += weight
	if !own.isFull && (len(own.members) >= own.want || own.weight >= g.enough) {
		own.isFull = true
		close(own.full)
	}
	return own, leads
}

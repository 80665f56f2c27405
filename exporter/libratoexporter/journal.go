// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
)

const (
	// groupWait is the longest that the first caller of a group waits for others.
	groupWait = 2 * time.Millisecond

	// worthACommit is how many samples are worth a transaction of their own: then the first caller waits for no others.
	worthACommit = 150

	// A stream that opens no increment for so long is forgotten.
	idleStream = time.Hour
)

// journal is the one writer of the state: it puts every change through one lock and, with storage, on disk before it
// counts.
type journal struct {
	logger    *zap.Logger
	telemetry *metadata.TelemetryBuilder
	refusals  *refusals
	group     groupCommit[*call] // calls that share a transaction
	disk      *disk              // nil: in memory only; set before the first call

	mu      sync.Mutex // guards what follows, and disk; nobody outside this type takes it
	state   state
	staging staging
	ids     idLog  // with storage
	lastIDs uint64 // the number of the last ids key, written or not
}

// call is one ConsumeMetrics on its way to disk.
type call struct {
	samples []sample
	now     int64
	err     error
}

func newJournal(
	cfg *Config, logger *zap.Logger, telemetry *metadata.TelemetryBuilder, refusals *refusals, origins *origins,
) *journal {
	j := &journal{
		logger:    logger,
		telemetry: telemetry,
		refusals:  refusals,
		group:     groupCommit[*call]{enough: worthACommit, wait: groupWait},
		state:     newState(cfg),
		ids:       idLog{window: int64(cfg.Deduplication.Window), maxIDs: cfg.Deduplication.MaxEntries},
	}
	j.staging.state, j.staging.origins = &j.state, origins
	return j
}

// open recovers the state that client holds, and keeps it there from now on. The client remains the caller's to close
// if that fails.
func (j *journal) open(ctx context.Context, client storage.Client, now int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := recovery{state: &j.state, ids: &j.ids, client: client, logger: j.logger, refusals: j.refusals, now: now}
	if err := r.run(ctx); err != nil {
		return err
	}
	j.lastIDs = r.number
	j.disk = newDisk(client, j.telemetry)
	return nil
}

// stored says whether the state is on disk.
func (j *journal) stored() bool { return j.disk != nil }

// close gives the storage back. Nothing is taken or settled afterwards.
func (j *journal) close(ctx context.Context) error { return j.disk.client.Close(ctx) }

// take folds the samples of one call into the state, as a whole or not at all. With storage it returns when they are
// on disk. It fails only with errFull or for the disk, and both pass: the caller may send the same again.
func (j *journal) take(samples []sample, now int64) error {
	if j.disk == nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.staging.begin()
		err := j.staging.stage(samples, now)
		j.staging.keep(j.refusals)
		return err
	}
	c := &call{samples: samples, now: now}
	j.group.do(c, len(samples), j.commitGroup)
	return c.err
}

// commitGroup stages every call of a group, writes what they changed in one transaction, and keeps or undoes it.
func (j *journal) commitGroup(closeGroup func() []*call) {
	j.mu.Lock()
	defer j.mu.Unlock()
	calls := closeGroup() // who comes while the transaction before runs still belongs to it
	err := j.disk.makeSure(&j.state)
	if err == nil {
		j.staging.begin()
		for _, c := range calls {
			c.err = j.staging.stage(c.samples, c.now)
		}
		if err = j.writeStaged(calls[len(calls)-1].now); err == nil {
			j.staging.keep(j.refusals)
			return
		}
		j.staging.undo()
	}
	for _, c := range calls {
		c.err = fmt.Errorf("the storage extension did not take the state: %w", err)
	}
}

// writeStaged writes what is staged.
func (j *journal) writeStaged(now int64) error {
	c := &j.staging
	room := 64*len(c.floors) + 8*len(c.newIDs) + 64
	for _, inc := range c.touched {
		room += len(inc.key) + 32 // the value has the key's name and source, and numbers
	}
	values := make([]byte, 0, room)
	set := func(key string, from int) { j.disk.set(key, values[from:len(values):len(values)]) }

	j.disk.begin()
	for _, inc := range c.touched {
		from := len(values)
		values = appendIncrement(values, inc, &inc.staged)
		set(inc.key, from)
	}
	for _, start := range c.floors {
		from := len(values)
		r := j.state.used.of(start, j.state.schedule.period)
		values = appendFloor(values, &r)
		set(floorKey(&r), from)
	}
	ids := j.ids
	if len(c.newIDs) > 0 {
		j.lastIDs++
		ids, _ = ids.add(j.disk, values, j.lastIDs, now, c.newIDs)
	}
	if err := j.disk.write(); err != nil {
		return err
	}
	j.ids = ids
	return nil
}

// expire takes what became too old to be sent out of the state and off the disk, and returns it. It also puts right what
// a failed transaction left unsure, so that it may be sealed.
func (j *journal) expire(now int64) []*increment {
	j.mu.Lock()
	defer j.mu.Unlock()
	gone := j.state.expire(now)
	j.deleteFromDisk(gone)
	j.makeSure()
	return gone
}

// sealFlush seals one flush's worth of what is due, and returns it with what is unconfirmed.
func (j *journal) sealFlush(now int64) []*increment {
	j.mu.Lock()
	defer j.mu.Unlock()
	most := j.state.flushSize()
	j.state.fast = 0
	j.state.seal(now, most, j.mayPost)
	return j.state.waiting(now, most)
}

// sealAtMost seals what is due until n increments are unconfirmed, and returns n of these at most.
func (j *journal) sealAtMost(now int64, n int) []*increment {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.seal(now, n, j.mayPost)
	return j.state.waiting(now, n)
}

// mayPost says whether an increment may be sealed: not while it is unsure what the disk holds of it.
func (j *journal) mayPost(inc *increment) bool { return j.disk == nil || j.disk.isSure(inc) }

// unconfirmed returns what is sealed and waits for an answer of the service.
func (j *journal) unconfirmed(now int64) []*increment {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.waiting(now, math.MaxInt)
}

// sealAll seals every increment, due or not, and returns all that are unconfirmed.
func (j *journal) sealAll() []*increment {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.sealAll()
	return j.state.waiting(math.MaxInt64, math.MaxInt)
}

// settle takes increments that were confirmed, refused or became too old out of the state and off the disk. If the
// disk does not take it, the keys go with the next transaction.
func (j *journal) settle(incs []*increment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.settle(incs)
	j.deleteFromDisk(incs)
}

func (j *journal) deleteFromDisk(incs []*increment) {
	if j.disk == nil || len(incs) == 0 {
		return
	}
	j.disk.begin()
	for _, inc := range incs {
		j.disk.delete(inc.key)
	}
	if err := j.disk.write(); err != nil {
		j.logger.Warn("cannot delete confirmed increments from storage, will try again", zap.Error(err))
	}
}

// makeSure puts right what a failed transaction left unsure, and says whether it did.
func (j *journal) makeSure() bool {
	if j.disk == nil {
		return true
	}
	if err := j.disk.makeSure(&j.state); err != nil {
		j.logger.Warn("cannot write the state to storage, will try again", zap.Error(err))
		return false
	}
	return true
}

// tidy merges what is kept by time, and lets go of what is out of it.
func (j *journal) tidy(now int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	old := j.state.forget(now)
	if j.disk == nil || !j.makeSure() {
		return
	}
	j.disk.begin()
	for i := range old {
		j.disk.delete(floorKey(&old[i]))
	}
	j.lastIDs++
	ids := j.ids.tidy(j.disk, j.lastIDs, now)
	if err := j.disk.write(); err != nil {
		// Before and after, the keys of ids hold the same ids: whichever of the two the disk has is right.
		clear(j.disk.unsure)
		j.logger.Warn("cannot tidy the state in storage, will try again", zap.Error(err))
		return
	}
	j.ids = ids
}

// count is how many increments are not confirmed.
func (j *journal) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.count()
}

// streams is how many streams are known.
func (j *journal) streams() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.streams.count()
}

// messageIDs is how many message ids are remembered.
func (j *journal) messageIDs() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.ids.Len()
}

// oldestUnconfirmed returns when the oldest increment that waits for an answer was opened, in nanoseconds; 0 without any.
func (j *journal) oldestUnconfirmed() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.oldestUnconfirmed()
}

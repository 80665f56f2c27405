// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// The state on disk. Keys are text; values start with the number of their format.
//
//	version                                    the format of the whole
//	i/PERIOD START/LENGTH/SECOND/NAME/SOURCE   an increment: written when changed, deleted when confirmed
//	f/PERIOD START/LENGTH                      the last second handed out of a period
//	m/NUMBER                                   message ids: one key a commit, merged as time goes by
//	aside/KEY                                  an entry that did not decode
//
// Writing an increment, its second and the ids that it holds is one transaction, so after a crash either all of a
// call is known or nothing. Everything found at start is sealed: what may have been posted never changes.
const (
	keyVersion    = "version"
	prefixInc     = "i/"
	prefixFloor   = "f/"
	prefixIDs     = "m/"
	prefixAside   = "aside/"
	stateVersion  = "1"
	formatCurrent = 1
)

// worthAKey is how many ids in a key make it as good as a merged one: the key takes a twentieth of them. To merge those of
// batches holds up every call meanwhile: p99 of the answer went from 14 to 6 ms without (bench -only latency, 100 events).
const worthAKey = 64

// datedPerTick is how many ids keys a tick lets go, beside those that go as others come.
const datedPerTick = 64

// A stream that opens no increment for so long is forgotten.
const idleStream = time.Hour

// The longest that the first caller of a group waits for others.
const groupWait = 2 * time.Millisecond

// worthACommit is how many samples are worth a transaction of their own. At 2,400 requests of 100 events a second, between 64,
// 150 and 250: 4.4, 3.7 and 3.6 µs CPU an event, p50 0.6, 0.9 and 1.2 ms, p99 6.8, 4.9 and 6.0 ms (bench -load).
const worthACommit = 150

// journal puts every change of the increments through one writer and, with storage, on disk before it counts.
type journal struct {
	*increments
	client   storage.Client // nil: in memory only
	logger   *zap.Logger
	counters *metadata.TelemetryBuilder

	groupMu  sync.Mutex
	forming  *group // the group that callers join; nil: none
	lastSize int    // callers in the last group

	window int64 // nanoseconds: how long ids are kept
	maxIDs int

	// With storage, guarded by increments.mu.
	ops     []*storage.Operation
	number  uint64    // of the last ids key
	chunks  []idChunk // ids keys, oldest first
	unmerge int       // how many at the end of chunks are of one commit each
	recent  []uint64  // the ids in those
	idsKept int       // ids in all chunks
}

// idChunk is one ids key.
type idChunk struct {
	number uint64
	time   int64 // nanoseconds: of its newest id
	count  int
}

// call is one ConsumeMetrics on its way to disk.
type call struct {
	samples []sample
	now     int64
	err     error
}

// group is the calls that share one transaction.
type group struct {
	calls   []*call
	samples int           // of all of them
	want    int           // callers worth waiting for
	full    chan struct{} // closed when they are there, or samples are worth a commit
	isFull  bool
	done    chan struct{} // closed when each call has its err
}

func newJournal(cfg *Config, logger *zap.Logger, counters *metadata.TelemetryBuilder, refused *refusals) *journal {
	return &journal{
		increments: newIncrements(cfg, refused),
		logger:     logger,
		counters:   counters,
		window:     int64(cfg.Deduplication.Window),
		maxIDs:     cfg.Deduplication.MaxEntries,
	}
}

// take folds the samples of one call into the state, as a whole or not at all. With storage it returns when they are
// on disk. It fails only with errFull or for the disk, and both pass: the caller may send the same again.
func (j *journal) take(samples []sample, now int64) error {
	if j.client == nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.begin()
		err := j.stage(samples, now)
		j.keep()
		return err
	}

	c := &call{samples: samples, now: now}
	j.groupMu.Lock()
	g := j.forming
	leads := g == nil
	if leads {
		g = &group{want: j.lastSize, full: make(chan struct{}), done: make(chan struct{})}
		j.forming = g
	}
	g.calls = append(g.calls, c)
	g.samples += len(samples)
	if !g.isFull && (len(g.calls) >= g.want || g.samples >= worthACommit) {
		g.isFull = true
		close(g.full)
	}
	j.groupMu.Unlock()

	if !leads {
		<-g.done // from here on only the commit decides
		return c.err
	}
	select {
	case <-g.full: // at once if it was alone last time
	default:
		timer := time.NewTimer(groupWait)
		select {
		case <-g.full:
		case <-timer.C:
		}
		timer.Stop()
	}
	j.mu.Lock()
	j.groupMu.Lock() // who comes while the last transaction runs still joins
	j.forming, j.lastSize = nil, len(g.calls)
	j.groupMu.Unlock()
	j.commitGroup(g.calls)
	j.mu.Unlock()
	close(g.done)
	return c.err
}

// commitGroup stages every call, writes what they changed in one transaction, and keeps or undoes it.
func (j *journal) commitGroup(calls []*call) {
	err := j.makeSure()
	if err == nil {
		j.begin()
		for _, c := range calls {
			c.err = j.stage(c.samples, c.now)
		}
		if err = j.commitStaged(calls[len(calls)-1].now); err == nil {
			j.keep()
			return
		}
		j.undo()
	}
	for _, c := range calls {
		c.err = fmt.Errorf("the storage extension did not take the state: %w", err)
	}
}

// commitStaged writes what is staged.
func (j *journal) commitStaged(now int64) error {
	j.ops = j.ops[:0]
	room := 64*len(j.floors) + 8*len(j.newIDs) + 64
	for _, inc := range j.touched {
		room += len(inc.key) + 32 // the value has the key's name and source, and numbers
	}
	values := make([]byte, 0, room)
	set := func(key string, from int) {
		j.ops = append(j.ops, storage.SetOperation(key, values[from:len(values):len(values)]))
	}
	for _, inc := range j.touched {
		from := len(values)
		values = appendIncrement(values, inc, &inc.staged)
		set(inc.key, from)
	}
	for _, start := range j.floors {
		if i, found := j.used.find(start, j.schedule.period); found {
			from := len(values)
			values = appendFloor(values, &j.used.ranges[i])
			set(floorKey(&j.used.ranges[i]), from)
		}
	}
	dated := 0
	if len(j.newIDs) > 0 {
		j.number++
		from := len(values)
		values = appendIDs(values, now, j.newIDs)
		set(idsKey(j.number), from)
		// As many keys go as come, and one more: to let go of all of them at a tick holds up every call meanwhile.
		dated = j.deleteDated(now, 2)
	}
	if err := j.write(); err != nil {
		return err
	}
	j.forgetDated(dated)
	if len(j.newIDs) > 0 {
		j.chunks = append(j.chunks, idChunk{j.number, now, len(j.newIDs)})
		j.idsKept += len(j.newIDs)
		j.recent = append(j.recent, j.newIDs...)
		j.unmerge++
	}
	return nil
}

// makeSure puts right what a failed transaction left unsure, before anything else is written: so a disk that stays
// full makes no more than one group's increments unsure. Those are not sealed until then, the others are.
func (j *journal) makeSure() error {
	if len(j.unsure) == 0 {
		return nil
	}
	j.ops = j.ops[:0]
	for _, list := range [][]*increment{j.open, j.sealed} {
		for _, inc := range list {
			if _, ok := j.unsure[inc.key]; ok && inc.state != stateDone {
				j.ops = append(j.ops, storage.SetOperation(inc.key, appendIncrement(nil, inc, &inc.value)))
				delete(j.unsure, inc.key)
			}
		}
	}
	for key := range j.unsure {
		j.ops = append(j.ops, storage.DeleteOperation(key))
	}
	clear(j.unsure)
	return j.write()
}

// write runs the operations as one transaction. After an error the disk may hold what was before it or what would be
// after it, so their keys are noted: makeSure puts them right.
func (j *journal) write() error {
	if len(j.ops) == 0 {
		return nil
	}
	// Not the caller's context: once a call has joined a group only the transaction decides.
	err := j.client.Batch(context.Background(), j.ops...)
	if err != nil {
		j.counters.ExporterLibratoCommitFailures.Add(context.Background(), 1)
		for _, op := range j.ops {
			if !strings.HasPrefix(op.Key, prefixFloor) { // a floor that is too high does no harm
				j.unsure[op.Key] = struct{}{}
			}
		}
		return err
	}
	written := 0
	for _, op := range j.ops {
		written += len(op.Key) + len(op.Value)
	}
	j.counters.ExporterLibratoCommits.Add(context.Background(), 1)
	j.counters.ExporterLibratoCommitBytes.Add(context.Background(), int64(written))
	return nil
}

// sealAll seals every increment, due or not, and returns all that are unconfirmed.
func (j *journal) sealAll() []*increment {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.increments.sealAll()
}

// finish takes increments that were confirmed, refused or became too old out of the state and off the disk. If the
// disk does not take it, the keys go with the next transaction.
func (j *journal) finish(incs []*increment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.settle(incs)
	j.drop(incs)
}

// drop takes increments that are done off the disk.
func (j *journal) drop(incs []*increment) {
	if j.client == nil || len(incs) == 0 {
		return
	}
	j.ops = j.ops[:0]
	for _, inc := range incs {
		j.ops = append(j.ops, storage.DeleteOperation(inc.key))
	}
	if err := j.write(); err != nil {
		j.logger.Warn("cannot delete confirmed increments from storage, will try again", zap.Error(err))
	}
}

// expire takes what became too old to be sent out of the state and off the disk, and returns it. It also puts right what
// a failed transaction left unsure, so that it may be sealed.
func (j *journal) expire(now int64) []*increment {
	j.mu.Lock()
	defer j.mu.Unlock()
	gone := j.increments.expire(now)
	j.drop(gone)
	if err := j.makeSure(); err != nil {
		j.logger.Warn("cannot write the state to storage, will try again", zap.Error(err))
	}
	return gone
}

// sealFlush seals one flush's worth of what is due, and returns it with what is unconfirmed.
func (j *journal) sealFlush(now int64) []*increment {
	j.mu.Lock()
	defer j.mu.Unlock()
	most := j.flushSize()
	j.fast = 0
	return j.seal(now, most)
}

// sealAtMost seals what is due until at most n increments are unconfirmed, and returns these.
func (j *journal) sealAtMost(now int64, n int) []*increment {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seal(now, n)
}

// unconfirmed returns what is sealed and waits for an answer of the service.
func (j *journal) unconfirmed(now int64) []*increment {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seal(now, -1)
}

// tidy merges what is kept by time, and lets go of what is out of it.
func (j *journal) tidy(now int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.streams.forget(now - int64(idleStream))
	old := j.used.forget()
	if j.client == nil {
		return
	}
	if err := j.makeSure(); err != nil {
		j.logger.Warn("cannot write the state to storage, will try again", zap.Error(err))
		return
	}
	j.ops = j.ops[:0]
	for i := range old {
		j.ops = append(j.ops, storage.DeleteOperation(floorKey(&old[i])))
	}
	dated := j.deleteDated(now, datedPerTick)
	chunks, recent, unmerge := j.chunks, j.recent, j.unmerge
	switch {
	case len(recent) >= unmerge*worthAKey:
		recent, unmerge = nil, 0
	case unmerge > 1:
		merged := idChunk{number: j.number + 1, time: chunks[len(chunks)-1].time, count: len(recent)}
		j.number++
		for _, c := range chunks[len(chunks)-unmerge:] {
			j.ops = append(j.ops, storage.DeleteOperation(idsKey(c.number)))
		}
		j.ops = append(j.ops, storage.SetOperation(idsKey(merged.number), appendIDs(nil, merged.time, recent)))
		chunks = append(slices.Clone(chunks[:len(chunks)-unmerge]), merged)
		recent, unmerge = nil, 0
	}
	if err := j.write(); err != nil {
		// Before and after, the keys of ids hold the same ids: whichever of the two the disk has is right.
		clear(j.unsure)
		j.logger.Warn("cannot tidy the state in storage, will try again", zap.Error(err))
		return
	}
	j.chunks, j.recent, j.unmerge = chunks, recent, unmerge
	j.forgetDated(dated)
}

// deleteDated adds operations for the oldest ids keys, at most so many, that are out of the window or more than are to be
// kept. It returns how many; forgetDated is called once they are written.
func (j *journal) deleteDated(now int64, most int) (n int) {
	kept := j.idsKept
	for _, c := range j.chunks[:min(most, len(j.chunks)-j.unmerge)] {
		if c.time >= now-j.window && kept-c.count < j.maxIDs {
			break
		}
		j.ops = append(j.ops, storage.DeleteOperation(idsKey(c.number)))
		kept -= c.count
		n++
	}
	return n
}

func (j *journal) forgetDated(n int) {
	for _, c := range j.chunks[:n] {
		j.idsKept -= c.count
	}
	j.chunks = j.chunks[n:]
}

// recover reads the state that an earlier run left: its increments come back sealed, since any of them may have been
// posted. What does not decode is set aside under its key, and said.
func (j *journal) recover(ctx context.Context, now int64) error {
	walker, ok := j.client.(storage.Walker)
	if !ok {
		return errors.New("storage: this extension cannot list its keys; use one that can, such as file_storage")
	}
	version, err := j.client.Get(ctx, keyVersion)
	if err != nil {
		return fmt.Errorf("storage: cannot read the state: %w", err)
	}
	if version != nil && string(version) != stateVersion {
		return fmt.Errorf("storage: holds state of version %q, this exporter writes %s: start the release that wrote it, or give this one a storage of its own", version, stateVersion)
	}

	j.mu.Lock()
	defer j.mu.Unlock()
	var ids []idChunkIDs
	err = walker.Walk(ctx, func(key string, value []byte) ([]*storage.Operation, error) {
		var err error
		switch {
		case strings.HasPrefix(key, prefixInc):
			err = j.recoverIncrement(key, value, now)
		case strings.HasPrefix(key, prefixFloor):
			err = j.recoverFloor(value)
		case strings.HasPrefix(key, prefixIDs):
			var c idChunkIDs
			if c, err = decodeIDs(key, value); err == nil {
				ids = append(ids, c)
			}
		case key == keyVersion, strings.HasPrefix(key, prefixAside):
		default:
			err = errors.New("unknown key")
		}
		if err == nil {
			return nil, nil
		}
		j.logger.Error("an entry of the state in storage does not decode and is set aside; what it held is not sent",
			zap.String("key", key), zap.String("kept_as", prefixAside+key), zap.Error(err))
		j.refused.lost(reasonUndecodable, 0)
		return []*storage.Operation{
			storage.SetOperation(prefixAside+key, slices.Clone(value)),
			storage.DeleteOperation(key),
		}, nil
	})
	if err != nil {
		return fmt.Errorf("storage: cannot read the state: %w", err)
	}
	if err := j.joinRecovered(ctx); err != nil {
		return fmt.Errorf("storage: cannot write the state: %w", err)
	}
	slices.SortFunc(j.sealed, func(a, b *increment) int { return cmp.Compare(a.second, b.second) })
	for _, c := range ids { // in the order of their keys, which is that of time
		for _, id := range c.ids {
			j.ids.Add(id, time.Unix(0, c.time))
		}
		j.chunks = append(j.chunks, c.idChunk)
		j.idsKept += c.count
		j.number = max(j.number, c.number)
	}
	if version == nil {
		if err := j.client.Set(ctx, keyVersion, []byte(stateVersion)); err != nil {
			return fmt.Errorf("storage: cannot write the state: %w", err)
		}
	}
	if n := len(j.sealed); n > 0 {
		j.logger.Info("recovered increments from storage", zap.Int("increments", n), zap.Int("message_ids", j.ids.Len()))
	}
	return nil
}

func (j *journal) recoverIncrement(key string, value []byte, now int64) error {
	inc, err := decodeIncrement(value)
	if err != nil {
		return err
	}
	fresh := inc.stream
	switch {
	case j.streams.api.Tagged && fresh.tags == nil:
		source := cmp.Or(librato.CleanTagValue(fresh.source), librato.Unassigned)
		fresh.source, fresh.tags = "", []librato.Tag{{Name: librato.SourceTag, Value: source}}
	case !j.streams.api.Tagged && fresh.tags != nil:
		for _, tag := range fresh.tags {
			if tag.Name == librato.SourceTag {
				fresh.source = librato.CleanSource(tag.Value)
			}
		}
		fresh.tags = nil
	}
	most := j.streams.most
	j.streams.most = math.MaxInt // what is on disk was taken: a smaller max_streams must not lose it
	st, _ := j.streams.add(fresh)
	j.streams.most = most
	st.used = now
	inc.stream, inc.key = st, key
	inc.due = inc.second * int64(time.Second) // after many starts its second may be ahead of the clock
	if st.kind == kindAdding {
		// Its second was saved with it. Should that entry be lost, the increment still keeps its second.
		j.used.handOut(inc.start, inc.period, inc.second)
	}
	j.addSealed(inc)
	return nil
}

// joinRecovered adds up increments that a change of api brought to one second of one stream: tags told them apart.
func (j *journal) joinRecovered(ctx context.Context) error {
	type place struct {
		stream *stream
		second int64
	}
	places := map[place]*increment{}
	var ops []*storage.Operation
	j.sealed = slices.DeleteFunc(j.sealed, func(inc *increment) bool {
		into := places[place{inc.stream, inc.second}]
		if into == nil {
			places[place{inc.stream, inc.second}] = inc
			return false
		}
		into.value.Add(inc.value)
		ops = append(ops, storage.SetOperation(into.key, appendIncrement(nil, into, &into.value)), storage.DeleteOperation(inc.key))
		inc.stream.unconfirmed--
		j.increments.unconfirmed--
		return true
	})
	if len(ops) == 0 {
		return nil
	}
	return j.client.Batch(ctx, ops...)
}

func (j *journal) recoverFloor(value []byte) error {
	r, err := decodeFloor(value)
	if err != nil {
		return err
	}
	kept := j.used.handOut(r.start, r.period, r.last)
	kept.sealed, kept.saved = kept.last, kept.last
	return nil
}

// incrementKey sorts by period, so that what changes together lies together on disk.
func incrementKey(inc *increment) string {
	period := inc.period
	if inc.stream.kind != kindAdding {
		period = 1
	}
	return prefixInc + strconv.FormatInt(inc.start, 10) + "/" + strconv.FormatInt(period, 10) + "/" +
		strconv.FormatInt(inc.second, 10) + "/" + inc.stream.key
}

func floorKey(r *usedRange) string {
	return prefixFloor + strconv.FormatInt(r.start, 10) + "/" + strconv.FormatInt(r.period, 10)
}

// idsKey has a fixed width, so that the keys sort in the order of writing.
func idsKey(number uint64) string { return fmt.Sprintf(prefixIDs+"%016x", number) }

// appendIncrement appends, after the format: kind, start, period, second, opened (varints), count, sum, min, max, and
// the stream's name, source and tags, each with its length.
func appendIncrement(dst []byte, inc *increment, value *librato.Summary) []byte {
	st := inc.stream
	dst = append(dst, formatCurrent, byte(st.kind))
	for _, n := range [...]int64{inc.start, inc.period, inc.second, inc.opened} {
		dst = binary.AppendVarint(dst, n)
	}
	dst = binary.AppendUvarint(dst, value.Count)
	for _, f := range [...]float64{value.Sum, value.Min, value.Max} {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
	}
	for _, s := range [...]string{st.name, st.source, joinTags(st.tags)} {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	return dst
}

func decodeIncrement(value []byte) (*increment, error) {
	d := decoder{rest: value}
	d.format()
	st := &stream{kind: kind(d.byte())}
	inc := &increment{stream: st}
	for _, n := range [...]*int64{&inc.start, &inc.period, &inc.second, &inc.opened} {
		*n = d.varint()
	}
	inc.value.Count = d.uvarint()
	for _, f := range [...]*float64{&inc.value.Sum, &inc.value.Min, &inc.value.Max} {
		*f = math.Float64frombits(d.uint64())
	}
	st.name, st.source, st.tags = d.string(), d.string(), splitTags(d.string())
	switch {
	case d.err != nil:
		return nil, d.err
	case len(d.rest) > 0:
		return nil, errors.New("is longer than an increment")
	case st.kind > kindCounter, inc.period <= 0, inc.period > longestPeriod,
		inc.start < 0, inc.second < inc.start, inc.second-inc.start >= inc.period,
		st.name == "", inc.value.Count == 0, math.IsNaN(inc.value.Sum), math.IsInf(inc.value.Sum, 0):
		return nil, errors.New("is no increment")
	}
	return inc, nil
}

// appendFloor appends, after the format: start, period, last second (varints).
func appendFloor(dst []byte, r *usedRange) []byte {
	dst = append(dst, formatCurrent)
	for _, n := range [...]int64{r.start, r.period, r.last} {
		dst = binary.AppendVarint(dst, n)
	}
	return dst
}

func decodeFloor(value []byte) (usedRange, error) {
	d := decoder{rest: value}
	d.format()
	r := usedRange{start: d.varint(), period: d.varint(), last: d.varint()}
	if d.err == nil && (len(d.rest) > 0 || r.period <= 0 || r.period > longestPeriod || r.start < 0 || r.last < r.start || r.last-r.start >= r.period) {
		d.err = errors.New("is no second of a period")
	}
	return r, d.err
}

// idChunkIDs is an ids key with what it holds.
type idChunkIDs struct {
	idChunk
	ids []uint64
}

// appendIDs appends, after the format: the time in nanoseconds (varint), then eight bytes an id.
func appendIDs(dst []byte, now int64, ids []uint64) []byte {
	dst = binary.AppendVarint(append(dst, formatCurrent), now)
	for _, id := range ids {
		dst = binary.LittleEndian.AppendUint64(dst, id)
	}
	return dst
}

func decodeIDs(key string, value []byte) (idChunkIDs, error) {
	number, err := strconv.ParseUint(key[len(prefixIDs):], 16, 64)
	if err != nil {
		return idChunkIDs{}, errors.New("its key has no number")
	}
	d := decoder{rest: value}
	d.format()
	c := idChunkIDs{idChunk: idChunk{number: number, time: d.varint()}}
	for d.err == nil && len(d.rest) > 0 {
		c.ids = append(c.ids, d.uint64())
	}
	c.count = len(c.ids)
	return c, d.err
}

// decoder reads what the append functions wrote. After an error it returns zeros.
type decoder struct {
	rest []byte
	err  error
}

var errShort = errors.New("is cut short")

func (d *decoder) format() {
	if f := d.byte(); d.err == nil && f != formatCurrent {
		d.err = fmt.Errorf("has the unknown format %d", f)
	}
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.rest) {
		d.rest, d.err = nil, cmp.Or(d.err, errShort)
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) varint() int64 {
	n, size := binary.Varint(d.rest)
	d.take(max(size, 0))
	if size <= 0 {
		d.err = cmp.Or(d.err, errShort)
	}
	return n
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.rest)
	d.take(max(size, 0))
	if size <= 0 {
		d.err = cmp.Or(d.err, errShort)
	}
	return n
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.err = cmp.Or(d.err, errShort)
		return ""
	}
	return string(d.take(int(n))) //nolint:gosec // n is at most len(d.rest)
}

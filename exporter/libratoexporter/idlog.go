// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import "slices"

const (
	// worthAKey is how many ids in a key make it as good as a merged one. To merge the ids of batches would hold up every
	// call meanwhile, and save little: the key takes a twentieth of them.
	worthAKey = 64

	// datedPerTick is how many ids keys a tick lets go, beside those that go as others come.
	datedPerTick = 64
)

// idLog is the message ids on disk: one key a commit, merged as time goes by, oldest first. Its methods put operations
// into a transaction and return what the log is once that is written.
type idLog struct {
	window int64 // nanoseconds: how long ids are kept
	maxIDs int

	chunks []idChunk // ids keys, oldest first
	single int       // how many at the end of chunks are of one commit each
	recent []uint64  // the ids in those
	kept   int       // ids in all chunks
}

// idChunk is one ids key.
type idChunk struct {
	number uint64
	time   int64 // nanoseconds: of its newest id
	count  int
}

// add writes the ids of one commit under a key of that number. It appends to values, which the transaction holds on to.
func (l idLog) add(d *disk, values []byte, number uint64, now int64, ids []uint64) (after idLog, _ []byte) {
	from := len(values)
	values = appendIDs(values, now, ids)
	d.set(idsKey(number), values[from:len(values):len(values)])
	// As many keys go as come, and one more: to let go of all of them at a tick would hold up every call meanwhile.
	l = l.deleteDated(d, now, 2)
	l.chunks = append(l.chunks, idChunk{number, now, len(ids)})
	l.kept += len(ids)
	l.recent = append(l.recent, ids...)
	l.single++
	return l, values
}

// tidy lets go of keys that are dated, and merges those of single commits into one of that number, unless they are large.
func (l idLog) tidy(d *disk, number uint64, now int64) idLog {
	l = l.deleteDated(d, now, datedPerTick)
	switch {
	case len(l.recent) >= l.single*worthAKey:
		l.recent, l.single = nil, 0
	case l.single > 1:
		rest := len(l.chunks) - l.single
		merged := idChunk{number: number, time: l.chunks[len(l.chunks)-1].time, count: len(l.recent)}
		for _, c := range l.chunks[rest:] {
			d.delete(idsKey(c.number))
		}
		d.set(idsKey(merged.number), appendIDs(nil, merged.time, l.recent))
		l.chunks = append(slices.Clone(l.chunks[:rest]), merged)
		l.recent, l.single = nil, 0
	}
	return l
}

// deleteDated deletes the oldest keys, at most so many, that are out of the window or more than are to be kept. Those of
// single commits stay until they are merged.
func (l idLog) deleteDated(d *disk, now int64, most int) idLog {
	for range min(most, len(l.chunks)-l.single) {
		c := l.chunks[0]
		if c.time >= now-l.window && l.kept-c.count < l.maxIDs {
			break
		}
		d.delete(idsKey(c.number))
		l.kept -= c.count
		l.chunks = l.chunks[1:]
	}
	return l
}

// found takes up what an earlier run left under a key.
func (l *idLog) found(c idChunk) {
	l.chunks = append(l.chunks, c)
	l.kept += c.count
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import "github.com/otelcol-segment/otelcol-segment/internal/librato"

// increment is what one stream got within one period since the last seal: one measurement to be.
//
// It folds while it is open and never changes once it is sealed, which is when its first post begins.
type increment struct {
	stream *stream
	start  int64 // of its period, Unix seconds; for a stream that does not add up, its second
	period int64 // seconds: its length
	second int64 // Unix seconds: the one that it is posted with, see schedule.go; of a counter, that of its last reading
	due    int64 // nanoseconds: the tick that seals it; of one found on disk, when its second has passed
	opened int64 // nanoseconds
	value  librato.Summary

	state  incrementState
	staged staged // value and what the commit under way adds
	commit uint64 // the commit that last touched it
	key    string // on disk; empty without storage
}

// holds says whether a second is among those from the first to the last reading of a counter.
func (inc *increment) holds(second int64) bool {
	return inc.stream.kind == kindCounter && second > inc.start && second <= max(inc.second, inc.staged.second)
}

// staged is what an increment will be when the commit under way is kept.
type staged struct {
	value  librato.Summary
	second int64
}

// incrementState only ever goes forward.
type incrementState uint8

const (
	stateOpen   incrementState = iota // folds
	stateSealed                       // is being posted
	stateDone                         // confirmed, refused or too old
)

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import "github.com/otelcol-segment/otelcol-segment/internal/librato"

// kind says what Librato does with the values of one stream.
type kind uint8

const (
	kindAdding    kind = iota // seconds add up to the period: events, delta sums
	kindAveraging             // each second stands for itself: other gauges
	kindCounter               // a cumulative monotonic sum, a Librato counter
)

// sample is one data point in Librato's terms. Names are as they came: they are cleaned once for each stream,
// not once for each point. Strings may share pdata's memory.
type sample struct {
	name   string          // the metric's name, with the attribute values that tell it apart appended
	source string          // metrics API: the source; measurements API: the tag set as appendTagSet writes it
	kind   kind            //
	event  bool            // from the segment receiver: Segment's rule for names applies (":" becomes "-")
	time   int64           // Unix seconds, floored
	value  librato.Summary // Count 1 for a plain value
	origin origin          // zero for what adds up
	id     uint64          // the receiver's hash of the message id; 0: none
}

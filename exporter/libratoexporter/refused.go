// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

// reason says why a point or a measurement was refused; it is the value of the metrics' attribute "reason".
type reason string

const (
	reasonInvalidValue       reason = "invalid_value"       // NaN, infinite, a count that is none
	reasonOutOfRange         reason = "out_of_range"        // past 1e126, or the sum would be
	reasonUnsupportedType    reason = "unsupported_type"    // the service has no fit for it
	reasonAttributeCollision reason = "attribute_collision" // name_attributes leaves points of one metric apart by nothing
	reasonEmptyName          reason = "empty_name"
	reasonTooOld             reason = "too_old"
	reasonInTheFuture        reason = "in_the_future"
	reasonTooManyStreams     reason = "too_many_streams"
	reasonSecondTaken        reason = "second_taken"
	reasonKindConflict       reason = "kind_conflict" // a stream that adds up got a point that does not, or the reverse
	reasonTypeConflict       reason = "type_conflict" // the service knows the metric as another type
)

// refusals counts what is refused, by reason, and logs the first of each reason once a while.
type refusals struct{}

// point reports one data point that is refused. detail says what to do about it, and may be empty.
func (r *refusals) point(why reason, name, source, detail string) {}

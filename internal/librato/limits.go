// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package librato

import "time"

// What Librato takes. How many measurements a request may carry stands with each API.
// Source: Librato API reference, "Measurement Restrictions", unless another is named.
const (
	// MaxNameLength is the longest metric name, source and tag value, in characters.
	MaxNameLength = 255
	// MaxTagNameLength is the longest name of a tag, in characters.
	MaxTagNameLength = 64
	// MaxTags is how many tags a measurement may carry.
	MaxTags = 50

	// MaxValue is the largest magnitude of a number: one beyond it costs the whole request.
	// Source: "Float Restrictions".
	MaxValue = 1e126
	// smallest is the magnitude below which the service stores 0.
	// Source: "Float Restrictions".
	smallest = 1e-130
	// MaxCount is the largest count that a double holds exactly, as JSON numbers are doubles to the service.
	MaxCount = 1 << 53

	// MinPeriod is the shortest period of a metric.
	// Source: "Service-Side Aggregation".
	MinPeriod = 10 * time.Second
	// MaxPeriod is the longest period of a metric.
	// Source: "Service-Side Aggregation".
	MaxPeriod = 600 * time.Second
	// MaxAge is how old a measurement may be. Not documented; a user found it.
	MaxAge = 120 * time.Minute
)

const (
	// ReservedSource is the one source, in any case, that the service keeps for itself.
	ReservedSource = "all"
	// SourceTag is the tag that holds what the metrics API calls the source.
	SourceTag = "source"
	// Unassigned is what the service calls the source of what has none.
	// Source: Librato API reference, "Individual Sample Parameters".
	Unassigned = "unassigned"
)

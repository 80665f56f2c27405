// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package librato

// API is one of the ways in which Librato takes measurements. All that differs between them stands here, so that no
// other code has to ask which one it is.
type API struct {
	// Path follows the base URL in the URL of a POST.
	Path string
	// MaxMeasurements is how many measurements one request may carry.
	MaxMeasurements int
	// Tagged says that streams are told apart by name and tags, which each measurement must have; else by name and
	// source.
	Tagged bool
	// Counters says that it has counters beside gauges.
	Counters bool
	// AppOptics says that AppOptics has it too, where an account is a token alone; else it takes an e-mail address as
	// well.
	AppOptics bool

	// Append appends ms to dst as the JSON body of a POST and returns it.
	Append func(dst []byte, ms []Measurement) []byte

	// identity appends to dst the words, besides the name, that tell the stream of m apart: a refusal may name it by
	// them.
	identity func(dst []string, m *Measurement) []string
}

// Metrics is POST /v1/metrics: gauges and counters with a source. The size of its requests is a guideline.
// Source: Librato API reference (archive of December 2016), "Create a Metric" and "Measurement Restrictions".
var Metrics = &API{
	Path:            "/v1/metrics",
	MaxMeasurements: 300,
	Counters:        true,
	Append:          AppendMetrics,
	identity: func(dst []string, m *Measurement) []string {
		return append(dst, m.Source)
	},
}

// Measurements is POST /v1/measurements: gauges with tags.
// Source: Librato API reference, "Create a Measurement" and "Measurement Restrictions".
var Measurements = &API{
	Path:            "/v1/measurements",
	MaxMeasurements: 1000,
	Tagged:          true,
	AppOptics:       true,
	Append:          AppendMeasurements,
	identity: func(dst []string, m *Measurement) []string {
		for _, tag := range m.Tags {
			dst = append(dst, tag.Name, tag.Value)
		}
		return dst
	},
}

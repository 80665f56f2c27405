// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Package librato holds Librato's own terms: what a measurement is, which names the service takes, how a
// request is written and what an answer means. It knows nothing of the collector and imports only the
// standard library.
package librato

// Summary is one or more values added up: what Librato calls a complex gauge. The zero value is empty.
// Min and Max are NaN where they are not known, as in histograms that carry none, and in all that such
// a summary is folded into.
type Summary struct {
	Count         uint64
	Sum, Min, Max float64
}

// SummaryOf returns the summary of a single value.
func SummaryOf(value float64) Summary {
	return Summary{Count: 1, Sum: value, Min: value, Max: value}
}

// Add folds o into s.
func (s *Summary) Add(o Summary) {
	if o.Count == 0 {
		return
	}
	if s.Count == 0 {
		*s = o
		return
	}
	s.Count += o.Count
	s.Sum += o.Sum
	s.Min = min(s.Min, o.Min)
	s.Max = max(s.Max, o.Max)
}

// Tag is one name and value that a measurement of the measurements API carries.
type Tag struct {
	Name, Value string
}

// Properties are applied by the service when a POST creates the metric, and ignored when it exists.
// Source: Librato API reference, "Metric Attributes".
type Properties struct {
	Period            int64  // seconds; 0: not sent
	Aggregate         bool   // service-side aggregation ("Source Aggregation" in the UI)
	SummarizeFunction string // average, sum, count, min or max; empty: not sent
	DisplayStacked    bool
}

// Measurement is one value, or summary of values, of one stream at one second.
type Measurement struct {
	Name       string
	Source     string      // metrics API; empty: none
	Tags       []Tag       // measurements API
	Time       int64       // Unix seconds
	Counter    bool        // a Librato counter (metrics API only); its value is Summary.Sum
	Summary                // Count 1 is written as a plain value
	Properties *Properties // nil: none; not owned, many measurements share one
}

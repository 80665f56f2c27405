// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

//go:generate go tool -modfile=../../internal/tools/go.mod mdatagen metadata.yaml

// Package libratoexporter sends metrics to Librato, or to AppOptics, which kept Librato's tag-based API.
//
// Each data point is folded into the open increment {count, sum, min, max} of its stream and period, and increments
// are posted at ticks until the service confirms them; so memory, disk and requests grow with streams, not with
// points. Data points become:
//
//	gauge from the segment receiver, delta sum, sum_metrics   a gauge whose seconds add up to its period
//	other gauge, cumulative non-monotonic sum                 a gauge that averages, each second on its own
//	cumulative monotonic sum                                  a counter (metrics API only)
//	delta histogram, exponential histogram, summary           a gauge with count, sum, min and max
//
// Source: Librato API reference, editions of December 2016 (POST /v1/metrics) and after (POST /v1/measurements).
package libratoexporter

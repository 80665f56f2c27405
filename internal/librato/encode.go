// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package librato

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// AppendMetrics appends ms to dst as the JSON body of POST /v1/metrics and returns it. Gauges come first,
// counters after them, each in the order of ms; an empty list is left out, and Tags are not part of this API.
// Times are Unix seconds, values doubles; ms holds at most Metrics.MaxMeasurements, each with a Count of 1 or more and every
// value finite, as JSON has no words for the rest. dst shares no memory with ms and is all that is allocated.
// Source: Librato API reference (archive of December 2016), "Create a Metric".
func AppendMetrics(dst []byte, ms []Measurement) []byte {
	dst = append(dst, '{')
	gauges := 0
	for i := range ms {
		if ms[i].Counter {
			continue
		}
		if gauges == 0 {
			dst = append(dst, `"gauges":[`...)
		} else {
			dst = append(dst, ',')
		}
		gauges++
		dst = appendMetric(dst, &ms[i])
	}
	if gauges > 0 {
		dst = append(dst, ']')
	}
	if gauges == len(ms) {
		return append(dst, '}')
	}
	if gauges > 0 {
		dst = append(dst, ',')
	}
	dst = append(dst, `"counters":[`...)
	first := true
	for i := range ms {
		if !ms[i].Counter {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendMetric(dst, &ms[i])
	}
	return append(dst, "]}"...)
}

// AppendMeasurements appends ms to dst as the JSON body of POST /v1/measurements and returns it. Source and
// Counter are not part of this API; a measurement without Tags is written without them. The rest is as with
// AppendMetrics, with at most Measurements.MaxMeasurements in ms.
// Source: Librato API reference, "Create a Measurement".
func AppendMeasurements(dst []byte, ms []Measurement) []byte {
	dst = append(dst, `{"measurements":[`...)
	for i := range ms {
		m := &ms[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"name":`...)
		dst = appendString(dst, m.Name)
		dst = append(dst, `,"time":`...)
		dst = strconv.AppendInt(dst, m.Time, 10)
		dst = appendSummary(dst, &m.Summary)
		if len(m.Tags) > 0 {
			dst = append(dst, `,"tags":{`...)
			for j := range m.Tags {
				if j > 0 {
					dst = append(dst, ',')
				}
				dst = appendString(dst, m.Tags[j].Name)
				dst = append(dst, ':')
				dst = appendString(dst, m.Tags[j].Value)
			}
			dst = append(dst, '}')
		}
		dst = appendProperties(dst, m.Properties)
		dst = append(dst, '}')
	}
	return append(dst, "]}"...)
}

func appendMetric(dst []byte, m *Measurement) []byte {
	dst = append(dst, `{"name":`...)
	dst = appendString(dst, m.Name)
	if m.Source != "" {
		dst = append(dst, `,"source":`...)
		dst = appendString(dst, m.Source)
	}
	dst = append(dst, `,"measure_time":`...)
	dst = strconv.AppendInt(dst, m.Time, 10)
	if m.Counter {
		dst = append(dst, `,"value":`...)
		dst = appendFloat(dst, m.Sum)
	} else {
		dst = appendSummary(dst, &m.Summary)
	}
	dst = appendProperties(dst, m.Properties)
	return append(dst, '}')
}

// appendSummary writes a single value as such and everything else as a complex gauge; the service takes one or
// the other, never both. A minimum or maximum that is not known (NaN) is not sent.
func appendSummary(dst []byte, s *Summary) []byte {
	if s.Count == 1 && s.Min == s.Sum && s.Max == s.Sum {
		dst = append(dst, `,"value":`...)
		return appendFloat(dst, s.Sum)
	}
	dst = append(dst, `,"count":`...)
	dst = strconv.AppendUint(dst, s.Count, 10)
	dst = append(dst, `,"sum":`...)
	dst = appendFloat(dst, s.Sum)
	if !math.IsNaN(s.Min) {
		dst = append(dst, `,"min":`...)
		dst = appendFloat(dst, s.Min)
	}
	if !math.IsNaN(s.Max) {
		dst = append(dst, `,"max":`...)
		dst = appendFloat(dst, s.Max)
	}
	return dst
}

func appendProperties(dst []byte, p *Properties) []byte {
	if p == nil {
		return dst
	}
	if p.Period != 0 {
		dst = append(dst, `,"period":`...)
		dst = strconv.AppendInt(dst, p.Period, 10)
	}
	dst = append(dst, `,"attributes":{"aggregate":`...)
	dst = strconv.AppendBool(dst, p.Aggregate)
	if p.SummarizeFunction != "" {
		dst = append(dst, `,"summarize_function":`...)
		dst = appendString(dst, p.SummarizeFunction)
	}
	dst = append(dst, `,"display_stacked":`...)
	dst = strconv.AppendBool(dst, p.DisplayStacked)
	return append(dst, '}')
}

// appendFloat writes f so that it reads back as the same double, whole numbers without a fraction or exponent.
func appendFloat(dst []byte, f float64) []byte {
	abs := math.Abs(f)
	switch {
	case abs < smallest:
		return append(dst, '0')
	case abs < 1e15 && f == math.Trunc(f): // most sums of events; a third of the time of AppendFloat
		return strconv.AppendInt(dst, int64(f), 10)
	case abs < 1e-6 || abs >= 1e21:
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	default:
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
}

// appendString writes s as a JSON string. It copies runs of characters that need no escape at once: last is
// where the run that is not written yet begins. Invalid UTF-8 is written as U+FFFD.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	last := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, s[last:i]...)
				dst = append(dst, "\ufffd"...)
				last = i + size
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[last:i]...)
		if c == '"' || c == '\\' {
			dst = append(dst, '\\', c)
		} else {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xF])
		}
		i++
		last = i
	}
	dst = append(dst, s[last:]...)
	return append(dst, '"')
}

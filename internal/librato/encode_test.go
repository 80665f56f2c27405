// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package librato

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/quick"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var eventProperties = &Properties{Period: 60, Aggregate: true, SummarizeFunction: "sum", DisplayStacked: true}

const eventPropertiesJSON = `"period":60,"attributes":{"aggregate":true,"summarize_function":"sum","display_stacked":true}`

func TestAppendMetrics(t *testing.T) {
	tests := []struct {
		name string
		ms   []Measurement
		want string
	}{
		{"none", nil, `{}`},
		{
			"one event",
			[]Measurement{{Name: "Event-Triggered", Source: "web-1:8080", Time: 1479236400, Summary: SummaryOf(2), Properties: eventProperties}},
			`{"gauges":[{"name":"Event-Triggered","source":"web-1:8080","measure_time":1479236400,"value":2,` + eventPropertiesJSON + `}]}`,
		},
		{
			"several events",
			[]Measurement{{Name: "a", Time: 1, Summary: Summary{Count: 3, Sum: 15, Min: 5, Max: 5}}},
			`{"gauges":[{"name":"a","measure_time":1,"count":3,"sum":15,"min":5,"max":5}]}`,
		},
		{
			"a count of one that is no single value",
			[]Measurement{{Name: "a", Time: 1, Summary: Summary{Count: 1, Sum: 4, Min: 2, Max: 8}}},
			`{"gauges":[{"name":"a","measure_time":1,"count":1,"sum":4,"min":2,"max":8}]}`,
		},
		{
			"a count of one whose maximum is another",
			[]Measurement{{Name: "a", Time: 1, Summary: Summary{Count: 1, Sum: 4, Min: 4, Max: 8}}},
			`{"gauges":[{"name":"a","measure_time":1,"count":1,"sum":4,"min":4,"max":8}]}`,
		},
		{
			"a histogram that knows no minimum or maximum",
			[]Measurement{{Name: "a", Time: 1, Summary: Summary{Count: 3, Sum: 15, Min: math.NaN(), Max: math.NaN()}}},
			`{"gauges":[{"name":"a","measure_time":1,"count":3,"sum":15}]}`,
		},
		{
			"a counter",
			[]Measurement{{Name: "c", Source: "s", Time: 1, Counter: true, Summary: Summary{Count: 9, Sum: 1e9}}},
			`{"counters":[{"name":"c","source":"s","measure_time":1,"value":1000000000}]}`,
		},
		{
			"gauges and counters",
			[]Measurement{
				{Name: "c1", Counter: true, Summary: SummaryOf(1)},
				{Name: "g1", Summary: SummaryOf(2)},
				{Name: "c2", Counter: true, Summary: SummaryOf(3)},
				{Name: "g2", Summary: SummaryOf(4)},
			},
			`{"gauges":[{"name":"g1","measure_time":0,"value":2},{"name":"g2","measure_time":0,"value":4}],` +
				`"counters":[{"name":"c1","measure_time":0,"value":1},{"name":"c2","measure_time":0,"value":3}]}`,
		},
		{
			"properties without period and function",
			[]Measurement{{Name: "a", Time: 1, Summary: SummaryOf(1), Properties: &Properties{}}},
			`{"gauges":[{"name":"a","measure_time":1,"value":1,"attributes":{"aggregate":false,"display_stacked":false}}]}`,
		},
		{
			"escapes",
			[]Measurement{{Name: "a\"b\\c\n\x00\xff…", Time: -1, Summary: SummaryOf(0.5)}},
			`{"gauges":[{"name":"a\"b\\c\u000a\u0000` + "\ufffd…" + `","measure_time":-1,"value":0.5}]}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := AppendMetrics([]byte("kept "), tt.ms)
			assert.Equal(t, "kept "+tt.want, string(got))
			assert.True(t, json.Valid(got[len("kept "):]))
		})
	}
}

func TestAppendMeasurements(t *testing.T) {
	tests := []struct {
		name string
		ms   []Measurement
		want string
	}{
		{"none", nil, `{"measurements":[]}`},
		{
			"tags and properties",
			[]Measurement{{
				Name: "cpu", Source: "ignored", Counter: true, Time: 1421530163, Summary: Summary{Count: 3, Sum: 35, Min: 4.5, Max: 6.7},
				Tags: []Tag{{"az", "b"}, {"region", `us "east"`}}, Properties: eventProperties,
			}},
			`{"measurements":[{"name":"cpu","time":1421530163,"count":3,"sum":35,"min":4.5,"max":6.7,` +
				`"tags":{"az":"b","region":"us \"east\""},` + eventPropertiesJSON + `}]}`,
		},
		{
			"one tag",
			[]Measurement{{Name: "a", Time: 1, Summary: SummaryOf(1), Tags: []Tag{{"az", "b"}}}},
			`{"measurements":[{"name":"a","time":1,"value":1,"tags":{"az":"b"}}]}`,
		},
		{
			"two without tags",
			[]Measurement{{Name: "a", Time: 1, Summary: SummaryOf(-1)}, {Name: "b", Time: 2, Summary: SummaryOf(1e300)}},
			`{"measurements":[{"name":"a","time":1,"value":-1},{"name":"b","time":2,"value":1e+300}]}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := AppendMeasurements(nil, tt.ms)
			assert.Equal(t, tt.want, string(got))
			assert.True(t, json.Valid(got))
		})
	}
}

func TestAddKeepsWhatIsNotKnown(t *testing.T) {
	s := Summary{Count: 2, Sum: 3, Min: 1, Max: math.NaN()}
	s.Add(SummaryOf(4))
	assert.Equal(t, uint64(3), s.Count)
	assert.InDelta(t, 7, s.Sum, 0)
	assert.InDelta(t, 1, s.Min, 0)
	assert.True(t, math.IsNaN(s.Max))
}

func TestAppendFloat(t *testing.T) {
	for f, want := range map[float64]string{
		0:                            "0",
		math.Copysign(0, -1):         "0",
		1:                            "1",
		-42:                          "-42",
		0.1:                          "0.1",
		1e14:                         "100000000000000",
		1e15 + 1:                     "1000000000000001",
		1e20:                         "100000000000000000000",
		1e21:                         "1e+21",
		1e126:                        "1e+126",
		1e-6:                         "0.000001",
		9e-7:                         "9e-07",
		1e-130:                       "1e-130",
		9.9e-131:                     "0",
		-math.SmallestNonzeroFloat64: "0",
		math.MaxInt64:                "9223372036854776000",
	} {
		assert.Equal(t, want, string(appendFloat(nil, f)))
	}
}

// decoded has the fields of both APIs.
type decoded struct {
	Name        string
	Source      string
	MeasureTime int64 `json:"measure_time"`
	Time        int64
	Tags        map[string]string
	Value       *float64
	Count       uint64
	Sum         float64
	Min         float64
	Max         float64
	Period      int64
	Attributes  *struct {
		Aggregate         bool
		SummarizeFunction string `json:"summarize_function"`
		DisplayStacked    bool   `json:"display_stacked"`
	}
}

func (d *decoded) measurement(api string) Measurement {
	m := Measurement{Name: d.Name, Source: d.Source, Time: d.MeasureTime, Summary: Summary{Count: d.Count, Sum: d.Sum, Min: d.Min, Max: d.Max}}
	if api == "measurements" {
		m.Time = d.Time
	}
	if d.Value != nil {
		m.Summary = SummaryOf(*d.Value)
	}
	if d.Attributes != nil {
		m.Properties = &Properties{
			Period: d.Period, Aggregate: d.Attributes.Aggregate,
			SummarizeFunction: d.Attributes.SummarizeFunction, DisplayStacked: d.Attributes.DisplayStacked,
		}
	}
	return m
}

// checkRoundTrip writes m in both APIs, reads it with encoding/json and compares.
func checkRoundTrip(t *testing.T, m Measurement) {
	t.Helper()
	if m.Count == 0 {
		m.Count = 1
	}
	for _, f := range []*float64{&m.Sum, &m.Min, &m.Max} {
		if math.IsNaN(*f) || math.IsInf(*f, 0) || math.Abs(*f) < smallest {
			*f = 0
		}
	}
	want := m
	for _, s := range []*string{&want.Name, &want.Source} {
		*s = strings.ToValidUTF8(string([]rune(*s)), "\ufffd")
	}
	want.Tags = nil
	if p := want.Properties; p != nil {
		clone := *p
		clone.SummarizeFunction = string([]rune(p.SummarizeFunction))
		want.Properties = &clone
	}

	var body struct{ Gauges, Counters, Measurements []decoded }
	other := Measurement{Name: "other", Time: 1, Counter: true, Summary: SummaryOf(1)}
	encoded := AppendMetrics(nil, []Measurement{other, m, other})
	require.NoError(t, json.Unmarshal(encoded, &body), string(encoded))
	if m.Counter {
		require.Len(t, body.Counters, 3)
		got := body.Counters[1].measurement("metrics")
		assert.Equal(t, want.Name, got.Name)
		assert.Equal(t, want.Sum, got.Sum) //nolint:testifylint // exact on purpose
	} else {
		require.Len(t, body.Gauges, 1)
		assert.Empty(t, cmp.Diff(want, body.Gauges[0].measurement("metrics")))
	}

	encoded = AppendMeasurements(nil, []Measurement{other, m})
	require.NoError(t, json.Unmarshal(encoded, &body), string(encoded))
	require.Len(t, body.Measurements, 2)
	want.Counter, want.Source = false, ""
	assert.Empty(t, cmp.Diff(want, body.Measurements[1].measurement("measurements")))
	for _, tag := range m.Tags {
		assert.Contains(t, body.Measurements[1].Tags, string([]rune(tag.Name)))
	}
}

func TestEncodersRoundTrip(t *testing.T) {
	require.NoError(t, quick.Check(func(m Measurement) bool {
		checkRoundTrip(t, m)
		return !t.Failed()
	}, nil))
}

func FuzzEncode(f *testing.F) {
	f.Add("Event-Triggered", "web-1", "sum", int64(1479236400), uint64(3), 15.0, 5.0, 5.0, false)
	f.Add("\xff\"\\", "\x00😀", "", int64(-1), uint64(1), 1e126, 1e-130, -1.5, true)
	f.Fuzz(func(t *testing.T, name, source, function string, time int64, count uint64, sum, low, high float64, counter bool) {
		checkRoundTrip(t, Measurement{
			Name: name, Source: source, Tags: []Tag{{name, source}}, Time: time, Counter: counter,
			Summary: Summary{Count: count, Sum: sum, Min: low, Max: high}, Properties: &Properties{SummarizeFunction: function},
		})
	})
}

// events returns n measurements as a flush of the exporter has them.
func events(n int) []Measurement {
	ms := make([]Measurement, n)
	for i := range ms {
		ms[i] = Measurement{
			Name: fmt.Sprintf("Order-Completed-%d", i%10), Source: fmt.Sprintf("web-server-%d", i), Time: 1479236400 + int64(i%6),
			Summary: Summary{Count: uint64(i%3 + 1), Sum: float64(i) * 1.25, Min: 1.25, Max: 99.5}, Properties: eventProperties,
			Tags: []Tag{{"host", fmt.Sprintf("web-server-%d", i)}, {"region", "us-east-1"}},
		}
	}
	return ms
}

func TestEncodersAllocateNothing(t *testing.T) {
	ms, buf := events(Metrics.MaxMeasurements), make([]byte, 0, 1<<20)
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		_ = AppendMetrics(buf, ms)
		_ = AppendMeasurements(buf, ms)
	}))
}

func BenchmarkAppendMetrics(b *testing.B) {
	benchmarkEncoder(b, AppendMetrics, events(Metrics.MaxMeasurements))
}

func BenchmarkAppendMeasurements(b *testing.B) {
	benchmarkEncoder(b, AppendMeasurements, events(Measurements.MaxMeasurements))
}

func benchmarkEncoder(b *testing.B, encode func([]byte, []Measurement) []byte, ms []Measurement) {
	buf := encode(nil, ms)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf = encode(buf[:0], ms)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ms)), "ns/measurement")
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/golden"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadatatest"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

var update = flag.Bool("update", false, "write the golden files of TestConvertGolden anew")

// receipt is when the tests' data points arrive.
var receipt = time.Unix(1479236460, 0)

// refusal is what a converter refuses.
type refusal struct {
	Reason reason `json:"reason"`
	Name   string `json:"name"`
	Source string `json:"source,omitempty"`
	Detail string `json:"detail"`
	Values uint64 `json:"values"`
}

// testedConverter is a converter that keeps what it refuses.
type testedConverter struct {
	*converter
	refused []refusal
	mu      sync.Mutex
}

func (c *testedConverter) appendSamples(dst []sample, md pmetric.Metrics, now time.Time) []sample {
	samples, refused := c.converter.appendSamples(dst, md, now)
	if len(refused) > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, p := range refused {
			c.refused = append(c.refused, refusal{p.why, p.name, p.source, p.detail, p.values})
		}
	}
	return samples
}

// testConverter returns a converter for cfg, and what it has refused so far.
func testConverter(tb testing.TB, cfg *Config) (*testedConverter, *[]refusal) {
	tb.Helper()
	require.NoError(tb, cfg.Validate())
	telemetry, err := metadata.NewTelemetryBuilder(componenttest.NewNopTelemetrySettings())
	require.NoError(tb, err)
	c := &testedConverter{converter: newConverter(cfg, telemetry, zap.NewNop())}
	return c, &c.refused
}

// measurementsOf does to samples what the core does to those that meet no others: it cleans the names.
func measurementsOf(api API, samples []sample) []librato.Measurement {
	ms := make([]librato.Measurement, len(samples))
	for i, s := range samples {
		m := librato.Measurement{Name: librato.CleanMetricName(s.name), Time: s.time, Counter: s.kind == kindCounter, Summary: s.value}
		if s.event {
			m.Name = librato.CleanEventName(s.name)
		}
		if api == APIMeasurements {
			m.Tags = decodeTagSet(s.source)
		} else {
			m.Source = librato.CleanSource(s.source)
		}
		ms[i] = m
	}
	return ms
}

// Each testdata/convert/CASE.yaml is pdata; CASE.metrics.json and CASE.measurements.json are what goes to the two
// APIs, the points that add up, and what is refused. To add a case, add the first and run with -update.
func TestConvertGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/convert/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, inputs)
	for _, input := range inputs {
		for _, api := range []API{APIMetrics, APIMeasurements} {
			t.Run(strings.TrimSuffix(filepath.Base(input), ".yaml")+"/"+string(api), func(t *testing.T) {
				md, err := golden.ReadMetrics(input)
				require.NoError(t, err)
				md.MarkReadOnly()
				cfg := validConfig()
				cfg.API = api
				c, refused := testConverter(t, cfg)
				samples := c.appendSamples(nil, md, receipt)

				var got struct {
					Request json.RawMessage   `json:"request"`
					Adding  []string          `json:"adding,omitempty"`
					IDs     map[string]uint64 `json:"ids,omitempty"`
					Refused []refusal         `json:"refused,omitempty"`
				}
				ms := measurementsOf(api, samples)
				if api == APIMetrics {
					got.Request = librato.AppendMetrics(nil, ms)
				} else {
					got.Request = librato.AppendMeasurements(nil, ms)
				}
				for _, s := range samples {
					if s.kind == kindAdding {
						got.Adding = append(got.Adding, s.name)
					}
					if s.id != 0 {
						got.IDs = map[string]uint64{s.name: s.id}
					}
				}
				got.Refused = *refused

				file := strings.TrimSuffix(input, "yaml") + string(api) + ".json"
				if *update {
					text, err := json.MarshalIndent(got, "", "  ")
					require.NoError(t, err)
					require.NoError(t, os.WriteFile(file, append(text, '\n'), 0o600))
				}
				want, err := os.ReadFile(file)
				require.NoError(t, err)
				text, err := json.Marshal(got)
				require.NoError(t, err)
				assert.JSONEq(t, string(want), string(text))
			})
		}
	}
}

// point is one gauge data point of a test's metric.
type point struct {
	value      float64
	time       int64 // Unix seconds
	attributes map[string]any
}

// gauges returns one gauge of a scope.
func gauges(scope, name string, points ...point) pmetric.Metrics {
	md := pmetric.NewMetrics()
	sm := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	sm.Scope().SetName(scope)
	metric := sm.Metrics().AppendEmpty()
	metric.SetName(name)
	dps := metric.SetEmptyGauge().DataPoints()
	for _, p := range points {
		dp := dps.AppendEmpty()
		dp.SetTimestamp(pcommon.Timestamp(p.time) * pcommon.Timestamp(time.Second))
		dp.SetDoubleValue(p.value)
		if err := dp.Attributes().FromRaw(p.attributes); err != nil {
			panic(err)
		}
	}
	return md
}

// streamNames returns names and sources, or tags, in the order of samples.
func streamNames(api API, samples []sample) []string {
	names := []string{}
	for _, m := range measurementsOf(api, samples) {
		words := []string{m.Name}
		if m.Source != "" {
			words = append(words, "of", m.Source)
		}
		for _, tag := range m.Tags {
			words = append(words, tag.Name+"="+tag.Value)
		}
		names = append(names, strings.Join(words, " "))
	}
	return names
}

func TestAttributesInNames(t *testing.T) {
	cpu := func(attributes ...map[string]any) pmetric.Metrics {
		points := []point{}
		for i, a := range attributes {
			points = append(points, point{float64(i), 1479236400, a})
		}
		return gauges("hostmetrics", "cpu", points...)
	}
	tests := []struct {
		name    string
		chosen  *[]string
		md      pmetric.Metrics
		want    []string
		refused int
	}{
		{
			"all, sorted by key", nil,
			cpu(map[string]any{"state": "user", "cpu": "0"}, map[string]any{"cpu": "1", "state": "idle"}),
			[]string{"cpu.0.user", "cpu.1.idle"},
			0,
		},
		{
			"values of every type", nil,
			cpu(map[string]any{"a": 7, "b": true, "c": 1.5, "d": []any{"x"}}),
			[]string{"cpu.7.true.1.5.--x--"},
			0,
		},
		{
			"the source is not part of the name", nil,
			cpu(map[string]any{"source": "web-1", "cpu": "0"}),
			[]string{"cpu.0 of web-1"},
			0,
		},
		{
			"some", &[]string{"state", "nothing"},
			cpu(map[string]any{"state": "user", "cpu": "0"}),
			[]string{"cpu.user"},
			0,
		},
		{
			"some, which does not tell all points apart", &[]string{"state"},
			cpu(map[string]any{"state": "user", "cpu": "0"}, map[string]any{"state": "user", "cpu": "1"}, map[string]any{"state": "idle", "cpu": "0"}),
			[]string{"cpu.idle"},
			2,
		},
		{
			"none, one point", &[]string{},
			cpu(map[string]any{"state": "user"}),
			[]string{"cpu"},
			0,
		},
		{
			"none, collision", &[]string{},
			cpu(map[string]any{"state": "user"}, map[string]any{"state": "idle"}, map[string]any{}),
			[]string{},
			3,
		},
		{
			"none, sources tell apart", &[]string{},
			cpu(map[string]any{"source": "a"}, map[string]any{"source": "b"}),
			[]string{"cpu of a", "cpu of b"},
			0,
		},
		{
			"none, the same attributes in another order", &[]string{},
			cpu(map[string]any{"a": "b", "c": "d"}, map[string]any{"c": "d", "a": "b"}),
			[]string{"cpu", "cpu"},
			0,
		},
		{
			"none, keys and values swapped", &[]string{},
			cpu(map[string]any{"a": "b"}, map[string]any{"b": "a"}),
			[]string{},
			2,
		},
		{
			"none, different seconds", &[]string{},
			gauges("hostmetrics", "cpu", point{1, 1479236400, map[string]any{"v": "1"}}, point{2, 1479236410, map[string]any{"v": "2"}}),
			[]string{"cpu", "cpu"},
			0,
		},
		{
			"all, values that meet when joined", nil,
			cpu(map[string]any{"a": "x.y", "b": "z"}, map[string]any{"a": "x", "b": "y.z"}, map[string]any{"a": "good"}),
			[]string{"cpu.good"},
			2,
		},
		{
			"an event is summed over its attributes", &[]string{},
			gauges(segmentScope, "cpu", point{1, 1479236400, map[string]any{"plan": "a"}}, point{2, 1479236400, map[string]any{"plan": "b"}}),
			[]string{"cpu", "cpu"},
			0,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := validConfig()
			cfg.NameAttributes = tt.chosen
			c, refused := testConverter(t, cfg)
			assert.Equal(t, tt.want, streamNames(APIMetrics, c.appendSamples(nil, tt.md, receipt)))
			require.Len(t, *refused, tt.refused)
			for _, r := range *refused {
				assert.Equal(t, reasonAttributeCollision, r.Reason)
				assert.Contains(t, r.Detail, "name_attributes")
			}
		})
	}
}

func TestTags(t *testing.T) {
	many := map[string]any{}
	for i := range 60 {
		many[fmt.Sprintf("k%02d", i)] = "v"
	}
	tests := []struct {
		name    string
		tags    TagsConfig
		md      pmetric.Metrics
		want    []string
		refused int
	}{
		{
			"all attributes, names and values as the service stores them",
			TagsConfig{},
			gauges("", "g", point{1, 1, map[string]any{"Route": "/Cart?x=1", "http method": "GET", "source": "Web-1", "empty": ""}}),
			[]string{"g http-method=get route=/cart?x-1 source=web-1"},
			0,
		},
		{
			"some attributes",
			TagsConfig{Attributes: &[]string{"route"}},
			gauges("", "g", point{1, 1, map[string]any{"route": "r", "method": "GET"}}),
			[]string{"g route=r source=host-1"},
			0,
		},
		{
			"some attributes, collision",
			TagsConfig{Attributes: &[]string{"route"}},
			gauges("", "g", point{1, 1, map[string]any{"route": "r", "method": "GET"}}, point{1, 1, map[string]any{"route": "r", "method": "PUT"}}),
			[]string{},
			2,
		},
		{
			"some attributes of what adds up",
			TagsConfig{Attributes: &[]string{}},
			gauges(segmentScope, "g", point{1, 1, map[string]any{"plan": "a", "source": "s"}}, point{1, 1, map[string]any{"plan": "b", "source": "s"}}),
			[]string{"g source=s", "g source=s"},
			0,
		},
		{
			"resource and fixed ones come last",
			TagsConfig{
				ResourceAttributes: []string{"service.name", "absent"},
				Fixed:              map[string]string{"env": "prod", "service.name": "fixed", "route": "fixed", "source": "fixed"},
			},
			gauges("", "g", point{1, 1, map[string]any{"route": "r"}}),
			[]string{"g env=prod route=r service.name=shop source=host-1"},
			0,
		},
		{
			"names that are one after cleaning",
			TagsConfig{},
			gauges("", "g", point{1, 1, map[string]any{"A b": "1", "a-b": "2"}}),
			[]string{"g a-b=1 source=host-1"},
			0,
		},
		{
			"at most 50, the source among them",
			TagsConfig{},
			gauges("", "g", point{1, 1, many}),
			[]string{"g" + strings.Join(manyTags(49), "") + " source=host-1"},
			0,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := validConfig()
			cfg.API = APIMeasurements
			cfg.Tags = tt.tags
			resource := tt.md.ResourceMetrics().At(0).Resource().Attributes()
			resource.PutStr("host.name", "host-1")
			resource.PutStr("service.name", "shop")
			c, refused := testConverter(t, cfg)
			assert.Equal(t, tt.want, streamNames(APIMeasurements, c.appendSamples(nil, tt.md, receipt)))
			require.Len(t, *refused, tt.refused)
			for _, r := range *refused {
				assert.Equal(t, reasonAttributeCollision, r.Reason)
				assert.Contains(t, r.Detail, "tags.attributes")
			}
		})
	}
}

// manyTags returns the first n tags of the measurement with too many.
func manyTags(n int) []string {
	var tags []string
	for i := range n {
		tags = append(tags, fmt.Sprintf(" k%02d=v", i))
	}
	return tags
}

// Tags beyond the limit are counted once for each stream and said once.
func TestDroppedTagsAreCountedAndSaid(t *testing.T) {
	many := map[string]any{}
	for i := range 52 {
		many["k"+strconv.Itoa(i)] = "v"
	}
	telemetry := componenttest.NewTelemetry()
	defer func() { require.NoError(t, telemetry.Shutdown(t.Context())) }()
	builder, err := metadata.NewTelemetryBuilder(telemetry.NewTelemetrySettings())
	require.NoError(t, err)
	core, logs := observer.New(zapcore.WarnLevel)
	cfg := validConfig()
	cfg.API = APIMeasurements
	c := newConverter(cfg, builder, zap.New(core))

	scratch := c.scratches.Get().(*scratch)
	for range 3 {
		m := metricContext{name: "g", scratch: scratch}
		for _, source := range []string{"a", "b"} {
			attributes := pcommon.NewMap()
			require.NoError(t, attributes.FromRaw(many))
			c.tagSet(&m, attributes, source)
		}
	}
	metadatatest.AssertEqualExporterLibratoTagsDropped(t, telemetry,
		[]metricdata.DataPoint[int64]{{Value: 6}}, metricdatatest.IgnoreTimestamp())
	require.Equal(t, 1, logs.Len())
	assert.Contains(t, logs.All()[0].Message, "tags.attributes")
}

func TestWhatAddsUp(t *testing.T) {
	gauge := func(m pmetric.Metric) { m.SetEmptyGauge().DataPoints().AppendEmpty().SetIntValue(1) }
	sum := func(monotonic bool, temporality pmetric.AggregationTemporality) func(pmetric.Metric) {
		return func(m pmetric.Metric) {
			m.SetEmptySum().SetAggregationTemporality(temporality)
			m.Sum().SetIsMonotonic(monotonic)
			m.Sum().DataPoints().AppendEmpty().SetIntValue(1)
		}
	}
	histogram := func(m pmetric.Metric) {
		m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		p := m.Histogram().DataPoints().AppendEmpty()
		p.SetCount(1)
		p.SetSum(1)
	}
	summary := func(m pmetric.Metric) { m.SetEmptySummary().DataPoints().AppendEmpty().SetCount(1) }
	const delta, cumulative = pmetric.AggregationTemporalityDelta, pmetric.AggregationTemporalityCumulative
	tests := []struct {
		name   string
		metric string
		fill   func(pmetric.Metric)
		want   kind
		why    reason // refused instead
	}{
		{"gauge", "other", gauge, kindAveraging, ""},
		{"gauge in sum_metrics", "jobs.done", gauge, kindAdding, ""},
		{"gauge in sum_metrics, one character", "job1", gauge, kindAdding, ""},
		{"gauge in sum_metrics but for its end", "job12", gauge, kindAveraging, ""},
		{"gauge in sum_metrics but for a dot", "jobsXdone", gauge, kindAveraging, ""},
		{"gauge in sum_metrics but for its case", "Jobs.done", gauge, kindAveraging, ""},
		{"delta sum", "other", sum(true, delta), kindAdding, ""},
		{"counter", "other", sum(true, cumulative), kindCounter, ""},
		{"counter in sum_metrics", "jobs.done", sum(true, cumulative), 0, reasonUnsupportedType},
		{"level", "other", sum(false, cumulative), kindAveraging, ""},
		{"level in sum_metrics", "jobs.done", sum(false, cumulative), kindAdding, ""},
		{"histogram", "other", histogram, kindAveraging, ""},
		{"histogram in sum_metrics", "jobs.done", histogram, kindAdding, ""},
		{"summary", "other", summary, kindAveraging, ""},
		{"summary in sum_metrics", "jobs.done", summary, kindAdding, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := validConfig()
			cfg.SumMetrics = []string{"jobs.*", "job?", "a|b"}
			c, refused := testConverter(t, cfg)
			md := pmetric.NewMetrics()
			m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
			m.SetName(tt.metric)
			tt.fill(m)
			samples := c.appendSamples(nil, md, receipt)
			if tt.why != "" {
				require.Len(t, *refused, 1)
				assert.Equal(t, tt.why, (*refused)[0].Reason)
				assert.Contains(t, (*refused)[0].Detail, "cumulativetodelta")
				return
			}
			require.Len(t, samples, 1)
			assert.Equal(t, tt.want, samples[0].kind)
		})
	}
}

func TestDefaultSource(t *testing.T) {
	cfg := validConfig()
	cfg.SourceFallbacks = nil
	cfg.DefaultSource = "fleet"
	c, _ := testConverter(t, cfg)
	md := gauges("", "g", point{1, 1, nil}, point{1, 2, map[string]any{"source": "own"}})
	md.ResourceMetrics().At(0).Resource().Attributes().PutStr("host.name", "host")
	assert.Equal(t, []string{"g of fleet", "g of own"}, streamNames(APIMetrics, c.appendSamples(nil, md, receipt)))
}

// Exemplars of others, or of other types, are no message ids.
func TestMessageID(t *testing.T) {
	tests := map[string]struct {
		scope      string
		attributes map[string]any
		want       uint64
	}{
		"the receiver's":             {segmentScope, map[string]any{messageIDAttribute: int64(-1)}, math.MaxUint64},
		"among others":               {segmentScope, map[string]any{"user": "x", messageIDAttribute: int64(7)}, 7},
		"of another type":            {segmentScope, map[string]any{messageIDAttribute: "7"}, 0},
		"of another scope":           {"other", map[string]any{messageIDAttribute: int64(7)}, 0},
		"an exemplar without the id": {segmentScope, map[string]any{"trace": int64(7)}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, _ := testConverter(t, validConfig())
			md := gauges(tt.scope, "g", point{1, 1, nil})
			exemplars := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Gauge().DataPoints().At(0).Exemplars()
			exemplars.AppendEmpty()
			require.NoError(t, exemplars.AppendEmpty().FilteredAttributes().FromRaw(tt.attributes))
			samples := c.appendSamples(nil, md, receipt)
			require.Len(t, samples, 1)
			assert.Equal(t, tt.want, samples[0].id)
		})
	}
}

// A scratch remembers so many names and no more, whatever comes.
func TestRememberedNamesAreBounded(t *testing.T) {
	s := scratch{texts: map[string]string{}}
	for i := range 2*maxTexts + 1 {
		s.text = strconv.AppendInt(s.text[:0], int64(i), 10)
		s.intern()
		require.LessOrEqual(t, len(s.texts), maxTexts)
	}
	name, seen := s.intern()
	assert.True(t, seen)
	assert.Equal(t, strconv.Itoa(2*maxTexts), name)
}

// Every number of a summary counts: one beyond what the service takes refuses the whole request.
func TestCheckedNumbers(t *testing.T) {
	for name, tt := range map[string]struct {
		value librato.Summary
		want  reason
	}{
		"the largest":         {librato.Summary{Count: 1 << 53, Sum: 1e126, Min: -1e126, Max: 1e126}, ""},
		"unknown min and max": {librato.Summary{Count: 2, Sum: 3, Min: math.NaN(), Max: math.NaN()}, ""},
		"count":               {librato.Summary{Count: 1<<53 + 1, Sum: 1, Min: 1, Max: 1}, reasonOutOfRange},
		"sum":                 {librato.Summary{Count: 1, Sum: -2e126, Min: 1, Max: 1}, reasonOutOfRange},
		"min":                 {librato.Summary{Count: 2, Sum: 0, Min: -2e126, Max: 1}, reasonOutOfRange},
		"max":                 {librato.Summary{Count: 2, Sum: 0, Min: 0, Max: 2e126}, reasonOutOfRange},
		"infinite min":        {librato.Summary{Count: 2, Sum: 0, Min: math.Inf(-1), Max: 1}, reasonInvalidValue},
		"infinite max":        {librato.Summary{Count: 2, Sum: 0, Min: 0, Max: math.Inf(1)}, reasonInvalidValue},
		"no sum":              {librato.Summary{Count: 2, Sum: math.NaN(), Min: 0, Max: 1}, reasonInvalidValue},
	} {
		t.Run(name, func(t *testing.T) {
			why, _ := check(&tt.value)
			assert.Equal(t, tt.want, why)
		})
	}
}

func TestTagSetRoundTrip(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := map[string]struct {
		pairs []pair
		want  []librato.Tag
	}{
		"none":           {nil, nil},
		"empty texts":    {[]pair{{"", ""}}, []librato.Tag{{}}},
		"any bytes":      {[]pair{{"a\x00b", "c\xffd"}}, []librato.Tag{{Name: "a-b", Value: "c-d"}}},
		"long texts":     {[]pair{{"k", long}, {long, "v"}}, []librato.Tag{{Name: "k", Value: long[:255]}, {Name: long[:64], Value: "v"}}},
		"sorted at last": {[]pair{{"B", "1"}, {"a", "2"}}, []librato.Tag{{Name: "a", Value: "2"}, {Name: "b", Value: "1"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Empty(t, cmp.Diff(tt.want, decodeTagSet(string(appendTagSet(nil, tt.pairs)))))
		})
	}
}

// What is no tag set gives tags or none, but no panic.
func FuzzDecodeTagSet(f *testing.F) {
	f.Add(string(appendTagSet(nil, []pair{{"source", "web-1"}, {"route", "/"}})))
	f.Add("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
	f.Add("\x05abc")
	f.Fuzz(func(_ *testing.T, set string) { decodeTagSet(set) })
}

// Calls do not disturb each other, and what they return does not change afterwards.
func TestConvertConcurrently(t *testing.T) {
	for _, api := range []API{APIMetrics, APIMeasurements} {
		t.Run(string(api), func(t *testing.T) {
			cfg := validConfig()
			cfg.API = api
			c, refused := testConverter(t, cfg)
			var callers sync.WaitGroup
			for caller := range 4 {
				callers.Go(func() {
					for i := range maxTexts / 2 {
						state := fmt.Sprintf("s%d-%d", caller, i)
						md := gauges("", "g", point{1, 1, map[string]any{"state": state}}, point{1, 1, map[string]any{"state": "other"}})
						want := []string{"g." + state, "g.other"}
						if api == APIMeasurements {
							want = []string{"g state=" + state, "g state=other"}
						}
						assert.Equal(t, want, streamNames(api, c.appendSamples(nil, md, receipt)))
					}
				})
			}
			callers.Wait()
			assert.Empty(t, *refused)
		})
	}
}

// eventBatch returns what the receiver makes of n events.
func eventBatch(n int) pmetric.Metrics {
	md := pmetric.NewMetrics()
	sm := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	sm.Scope().SetName(segmentScope)
	for i := range n {
		m := sm.Metrics().AppendEmpty()
		m.SetName("Event " + strconv.Itoa(i%10))
		dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
		dp.SetTimestamp(1479236400_000_000_000)
		dp.SetDoubleValue(1)
		dp.Attributes().PutStr("source", "web-1:8080")
	}
	return md
}

// hostBatch returns n points in the shape of host metrics: gauges with two attributes, one source.
func hostBatch(n int) pmetric.Metrics {
	points := make([]point, n)
	for i := range points {
		points[i] = point{float64(i), 1479236400, map[string]any{"cpu": "cpu" + strconv.Itoa(i/8), "state": "state" + strconv.Itoa(i%8)}}
	}
	md := gauges("hostmetrics", "system.cpu.utilization", points...)
	md.ResourceMetrics().At(0).Resource().Attributes().PutStr("host.name", "web-1")
	return md
}

// keepsThings says whether pools are what they are without the race detector, under which they lose things at random.
func keepsThings() bool {
	var pool sync.Pool
	for range 100 {
		pool.Put(new(int))
		if pool.Get() == nil {
			return false
		}
	}
	return true
}

// Events cost no allocation, and other names and tag sets none once they were seen.
func TestConvertAllocatesNothing(t *testing.T) {
	tests := []struct {
		name    string
		api     API
		md      pmetric.Metrics
		scratch bool
	}{
		{"events, metrics", APIMetrics, eventBatch(100), false},
		{"events, measurements", APIMeasurements, eventBatch(100), true},
		{"host metrics, metrics", APIMetrics, hostBatch(64), true},
		{"host metrics, measurements", APIMeasurements, hostBatch(64), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.scratch && !keepsThings() {
				t.Skip("under the race detector a scratch does not stay in its pool")
			}
			cfg := validConfig()
			cfg.API = tt.api
			c, _ := testConverter(t, cfg)
			dst := c.appendSamples(nil, tt.md, receipt)
			allocs := testing.AllocsPerRun(100, func() { dst = c.appendSamples(dst[:0], tt.md, receipt) })
			assert.Zero(t, allocs)
		})
	}
}

func BenchmarkConvert(b *testing.B) {
	const points = 1024
	tests := []struct {
		name string
		api  API
		md   pmetric.Metrics
	}{
		{"events/metrics", APIMetrics, eventBatch(points)},
		{"events/measurements", APIMeasurements, eventBatch(points)},
		{"hostmetrics/metrics", APIMetrics, hostBatch(points)},
		{"hostmetrics/measurements", APIMeasurements, hostBatch(points)},
	}
	for _, bb := range tests {
		b.Run(bb.name, func(b *testing.B) {
			cfg := validConfig()
			cfg.API = bb.api
			c, _ := testConverter(b, cfg)
			var dst []sample
			b.ReportAllocs()
			for b.Loop() {
				dst = c.appendSamples(dst[:0], bb.md, receipt)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/points, "ns/point")
		})
	}
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadatatest"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

// testClock is what the exporter and the service take for the time.
type testClock struct{ nanoseconds atomic.Int64 }

func (c *testClock) now() time.Time { return time.Unix(0, c.nanoseconds.Load()).UTC() }

func (c *testClock) set(t time.Time) { c.nanoseconds.Store(t.UnixNano()) }

// noon is when the tests begin: half a second after a tick, at the start of a period.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 500_000_000, time.UTC)

// testHost has extensions, and takes note of the component's status.
type testHost struct {
	extensions map[component.ID]component.Component
	mu         sync.Mutex
	events     []*componentstatus.Event
}

func (h *testHost) GetExtensions() map[component.ID]component.Component { return h.extensions }

func (h *testHost) Report(event *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event)
}

func (h *testHost) statuses() []componentstatus.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	var statuses []componentstatus.Status
	for _, event := range h.events {
		statuses = append(statuses, event.Status())
	}
	return statuses
}

// harness is the exporter as the factory makes it, posting over HTTP to a Librato in memory. Only time is the
// test's: pass lets it go on, tick by tick.
type harness struct {
	t         *testing.T
	cfg       *Config
	clock     *testClock
	service   *libratoserver.Server
	host      *testHost
	telemetry *componenttest.Telemetry
	logs      *observer.ObservedLogs
	exporter  *libratoExporter
}

const (
	testEmail = "me@example.com"
	testToken = "c0ffee-s3cr3t-token"
)

// newHarness starts an exporter with default settings, changed by change if that is not nil.
func newHarness(t *testing.T, change func(*Config), options ...libratoserver.Option) *harness {
	t.Helper()
	h := &harness{t: t, clock: &testClock{}, host: &testHost{}, telemetry: componenttest.NewTelemetry()}
	h.clock.set(noon)
	options = append([]libratoserver.Option{
		libratoserver.WithClock(h.clock.now), libratoserver.WithCredentials(testEmail, testToken),
	}, options...)
	h.service = libratoserver.New(options...)
	server := httptest.NewServer(h.service)
	t.Cleanup(server.Close)

	h.cfg = createDefaultConfig().(*Config)
	h.cfg.Endpoint, h.cfg.Email, h.cfg.Token = server.URL, testEmail, testToken
	if change != nil {
		change(h.cfg)
	}
	require.NoError(t, h.cfg.Validate())
	if h.cfg.StorageID != nil {
		h.host.extensions = map[component.ID]component.Component{*h.cfg.StorageID: fileStorage(t)}
	}
	h.start()
	t.Cleanup(func() { require.NoError(t, h.telemetry.Shutdown(context.Background())) })
	t.Cleanup(func() { h.shutdown(context.Background()) })
	return h
}

// start does what the exporter's start does, but leaves the ticking to pass.
func (h *harness) start() {
	h.t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	h.logs = logs
	set := metadatatest.NewSettings(h.telemetry)
	set.Logger = zap.New(core)
	set.BuildInfo.Version = "1.2.3"
	var err error
	h.exporter, err = newExporter(h.cfg, set)
	require.NoError(h.t, err)
	h.exporter.now = h.clock.now
	require.NoError(h.t, h.exporter.prepare(h.t.Context(), h.host))
	h.exporter.stopped, h.exporter.cancel = make(chan struct{}), func() {}
	close(h.exporter.stopped)
}

// shutdown ends the exporter; a second time it does nothing.
func (h *harness) shutdown(ctx context.Context) {
	if h.exporter != nil {
		assert.NoError(h.t, h.exporter.shutdown(ctx))
		h.exporter = nil
	}
}

// pass lets time go on, with every tick and every end of a back-off on its way.
func (h *harness) pass(d time.Duration) {
	f := h.exporter.flusher
	for until := h.clock.now().Add(d); ; {
		next := h.clock.now().Add(f.pace.wait(h.clock.now()))
		if next.After(until) {
			h.clock.set(until)
			return
		}
		h.clock.set(next)
		f.step(context.Background(), next)
	}
}

// reading is one data point of a test.
type reading struct {
	name, source string
	value        float64
	late         time.Duration
	id           uint64
	gauge        bool // no event: it averages
}

func track(name, source string, value float64) reading {
	return reading{name: name, source: source, value: value}
}

func (h *harness) metricsOf(readings []reading) pmetric.Metrics {
	md := pmetric.NewMetrics()
	scopes := md.ResourceMetrics().AppendEmpty().ScopeMetrics()
	events, others := scopes.AppendEmpty(), scopes.AppendEmpty()
	events.Scope().SetName(segmentScope)
	for _, r := range readings {
		into := events
		if r.gauge {
			into = others
		}
		m := into.Metrics().AppendEmpty()
		m.SetName(r.name)
		p := m.SetEmptyGauge().DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.NewTimestampFromTime(h.clock.now().Add(-r.late)))
		p.SetDoubleValue(r.value)
		if r.source != "" {
			p.Attributes().PutStr("source", r.source)
		}
		if r.id != 0 {
			p.Exemplars().AppendEmpty().FilteredAttributes().PutInt(messageIDAttribute, int64(r.id))
		}
	}
	return md
}

func (h *harness) consume(readings ...reading) error {
	return h.exporter.consume(context.Background(), h.metricsOf(readings))
}

func (h *harness) send(readings ...reading) {
	h.t.Helper()
	require.NoError(h.t, h.consume(readings...))
}

// sendStreams sends one event to each of n streams: stream-0, stream-1, …
func (h *harness) sendStreams(n int) {
	h.t.Helper()
	readings := make([]reading, n)
	for i := range readings {
		readings[i] = track(fmt.Sprintf("stream-%d", i), "s", 1)
	}
	h.send(readings...)
}

// stored requires that the service has so many events of a stream, and so large a sum.
func (h *harness) stored(name, source string, count uint64, sum float64) {
	h.t.Helper()
	got := h.service.Sum(name, source)
	assert.Equal(h.t, count, got.Count, "count of %s/%s", name, source)
	assert.InDelta(h.t, sum, got.Sum, 1e-9, "sum of %s/%s", name, source)
}

// counter reads one of the exporter's counters, by its one attribute's value; "" takes what has none.
func (h *harness) counter(name, value string) int64 {
	h.t.Helper()
	m, err := h.telemetry.GetMetric("otelcol_exporter_librato_" + name)
	if err != nil {
		return 0 // nothing was counted
	}
	var n int64
	for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
		labels := p.Attributes.ToSlice()
		if value == "" && len(labels) == 0 || len(labels) == 1 && labels[0].Value.AsString() == value {
			n += p.Value
		}
	}
	return n
}

// refused is how many points were refused for a reason, on arrival and with their measurement.
func (h *harness) refused(why reason) int64 {
	h.t.Helper()
	return h.counter("points_refused", string(why))
}

// measurementsOfBody are the measurements that a post holds, each as the JSON that was sent.
func measurementsOfBody(t *testing.T, body []byte) []string {
	t.Helper()
	var lists map[string][]json.RawMessage
	require.NoError(t, json.Unmarshal(body, &lists), "%s", body)
	var all []string
	for _, key := range []string{"gauges", "counters", "measurements"} {
		for _, m := range lists[key] {
			all = append(all, string(m))
		}
	}
	return all
}

// What one event becomes on the wire: the JSON, the path, and the headers.
func TestPost(t *testing.T) {
	h := newHarness(t, nil)
	h.send(track("Event Triggered", "web-1:8080", 2), track("Signup", "", 1), track("Signup", "", 1), track("Signup", "", 4))
	h.pass(10 * time.Second)

	posts := h.service.Posts()
	require.Len(t, posts, 1)
	assert.Equal(t, "/v1/metrics", posts[0].Path)
	assert.Equal(t, testEmail, posts[0].User)
	assert.Equal(t, "otelcol-segment/1.2.3", posts[0].Header.Get("User-Agent"))
	assert.Equal(t, "application/json", posts[0].Header.Get("Content-Type"))
	assert.Empty(t, posts[0].Header.Get("Content-Encoding"), "whether the service takes it is not documented")
	second := noon.Unix()
	properties := `"period":60,"attributes":{"aggregate":true,"summarize_function":"sum","display_stacked":true}`
	assert.JSONEq(t, fmt.Sprintf(`{"gauges":[
		{"name":"Event-Triggered","source":"web-1:8080","measure_time":%d,"value":2,%s},
		{"name":"Signup","measure_time":%d,"count":3,"sum":6,"min":1,"max":4,%s}
	]}`, second, properties, second, properties), string(posts[0].Body))
}

// AppOptics has a token alone, and tags.
func TestPostToAppOptics(t *testing.T) {
	h := newHarness(t, func(cfg *Config) {
		cfg.API, cfg.Email = APIMeasurements, ""
		cfg.Tags.Fixed = map[string]string{"env": "prod"}
	}, libratoserver.WithCredentials(testToken, ""))
	h.send(track("Event Triggered", "Web-1", 2))
	h.pass(10 * time.Second)

	posts := h.service.Posts()
	require.Len(t, posts, 1)
	assert.Equal(t, "/v1/measurements", posts[0].Path)
	assert.Equal(t, 202, posts[0].Status)
	assert.Contains(t, string(posts[0].Body), `"tags":{"env":"prod","source":"web-1"}`)
	h.stored("Event-Triggered", "env=prod,source=web-1", 1, 2)
}

// One exporter with default settings treats events and host metrics in one pipeline right.
func TestEventsAndHostMetrics(t *testing.T) {
	h := newHarness(t, nil)
	const scrapes = 12 // two minutes, a scrape and some events every ten seconds
	for i := range scrapes {
		md := h.metricsOf([]reading{track("Signup", "web", 1), track("Signup", "web", 2)})
		resource := md.ResourceMetrics().AppendEmpty()
		resource.Resource().Attributes().PutStr("host.name", "db-1")
		metrics := resource.ScopeMetrics().AppendEmpty().Metrics()
		at := pcommon.NewTimestampFromTime(h.clock.now())

		usage := metrics.AppendEmpty()
		usage.SetName("system.memory.usage")
		levels := usage.SetEmptyGauge().DataPoints()
		for _, state := range []string{"used", "free"} {
			p := levels.AppendEmpty()
			p.SetTimestamp(at)
			p.SetIntValue(int64(100 + i))
			p.Attributes().PutStr("state", state)
		}
		traffic := metrics.AppendEmpty()
		traffic.SetName("system.network.io")
		total := traffic.SetEmptySum()
		total.SetIsMonotonic(true)
		total.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := total.DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.SetIntValue(int64(1000 * i))
		duration := metrics.AppendEmpty()
		duration.SetName("http.server.duration")
		histogram := duration.SetEmptyHistogram()
		histogram.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		d := histogram.DataPoints().AppendEmpty()
		d.SetTimestamp(at)
		d.SetCount(4)
		d.SetSum(10)

		require.NoError(t, h.exporter.consume(t.Context(), md))
		h.pass(10 * time.Second)
	}
	h.pass(20 * time.Second)

	h.stored("Signup", "web", 2*scrapes, 3*scrapes)
	series := h.service.Series("Signup", "web")
	require.Len(t, series, 2, "two periods")
	for _, p := range series {
		assert.InDelta(t, 18, p.Sum, 0, "six scrapes of 1 and 2 a period")
	}
	for _, name := range []string{"system.memory.usage.used", "system.memory.usage.free", "system.network.io"} {
		assert.Len(t, h.service.Seconds(name, "db-1"), scrapes, "%s: each scrape at its own second", name)
	}
	h.stored("http.server.duration", "db-1", 4*scrapes, 10*scrapes)

	var properties []string
	for _, total := range h.service.Totals() {
		properties = append(properties, fmt.Sprint(total.Name, " ", total.Type))
	}
	assert.Subset(t, properties, []string{"Signup gauge", "system.network.io counter"})
	for _, post := range h.service.Posts() {
		for _, m := range measurementsOfBody(t, post.Body) {
			assert.Equal(t, strings.Contains(m, "Signup"), strings.Contains(m, `"aggregate":true`), m)
		}
	}
	metadatatest.AssertEqualExporterLibratoMeasurementsSent(t, h.telemetry, []metricdata.DataPoint[int64]{
		{Attributes: attribute.NewSet(attribute.String("measurement", "gauge")), Value: 4 * scrapes},
		{Attributes: attribute.NewSet(attribute.String("measurement", "counter")), Value: scrapes},
	}, metricdatatest.IgnoreTimestamp())
}

// Each of a call's points that can never be taken is refused with its reason; the others are taken.
func TestRefusedOnArrival(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.MaxStreams = 3 })
	h.send(track("Signup", "a", 1), reading{name: "temperature", source: "a", value: 20, gauge: true})

	for _, tt := range []struct {
		reading
		why reason
	}{
		{reading{name: "Signup", source: "a", value: 1, late: 110*time.Minute + 2*time.Second}, reasonTooOld},
		{reading{name: "Signup", source: "a", value: 1, late: -10*time.Minute - 2*time.Second}, reasonInTheFuture},
		{reading{name: "Signup", source: "a", value: 1, gauge: true}, reasonKindConflict},
		{reading{name: "temperature", source: "a", value: 1}, reasonKindConflict},
		{reading{name: "Signup", source: "a", value: math.NaN()}, reasonInvalidValue},
		{reading{name: "Signup", source: "a", value: 2e126}, reasonOutOfRange},
		{reading{name: "", source: "a", value: 1}, reasonEmptyName},
	} {
		t.Run(string(tt.why), func(t *testing.T) {
			before := h.refused(tt.why)
			require.NoError(t, h.consume(tt.reading, track("Signup", "a", 1)))
			assert.Equal(t, int64(1), h.refused(tt.why)-before)
			lines := h.logs.FilterMessage("refused a data point: " + string(tt.why)).All()
			require.Len(t, lines, 1, "the first of a minute is logged")
			if before == 0 {
				assert.Equal(t, tt.name, lines[0].ContextMap()["metric"])
			}
		})
	}
	t.Run("sum out of range", func(t *testing.T) {
		before := h.refused(reasonOutOfRange)
		for range 3 { // the third would pass 1e126
			require.NoError(t, h.consume(track("Large", "a", 4e125)))
		}
		assert.Equal(t, int64(1), h.refused(reasonOutOfRange)-before)
	})
	t.Run("too many streams", func(t *testing.T) {
		require.NoError(t, h.consume(track("One more", "a", 1), track("Signup", "a", 1)))
		assert.Equal(t, int64(1), h.refused(reasonTooManyStreams))
	})
	h.pass(10 * time.Second)
	h.stored("Signup", "a", 9, 9)
	h.stored("Large", "a", 2, 8e125)
	assert.Equal(t, map[int]int{200: 1}, h.service.Stats().Statuses)
}

// A call that fails comes again: what it holds is counted as refused when it is taken, once.
func TestRefusedPointsOfAFailedCall(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.MaxStreams, cfg.MaxIncrements = 1, 1 })
	h.send(track("a", "s", 1))
	call := []reading{track("a", "s", math.NaN()), {name: "a", source: "s", value: 1, late: 5 * time.Minute}}
	for range 3 {
		require.ErrorIs(t, h.consume(call...), errFull)
	}
	assert.Zero(t, h.refused(reasonInvalidValue))
	h.pass(10 * time.Second)
	h.send(call...)
	assert.Equal(t, int64(1), h.refused(reasonInvalidValue))
}

// A histogram counts as many points as it has values, whoever refuses it.
func TestRefusedHistogramsCountTheirValues(t *testing.T) {
	h := newHarness(t, nil)
	histogram := func(name string, hasSum bool) pmetric.Metrics {
		md := pmetric.NewMetrics()
		m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
		m.SetName(name)
		m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		p := m.Histogram().DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.NewTimestampFromTime(h.clock.now()))
		p.SetCount(100)
		if hasSum {
			p.SetSum(5)
		}
		return md
	}
	require.NoError(t, h.exporter.consume(t.Context(), histogram("arrival", false)))
	assert.Equal(t, int64(100), h.refused(reasonUnsupportedType))
	require.NoError(t, h.exporter.consume(t.Context(), histogram("service", true)))
	h.service.Fail(libratoserver.Failure{Status: 400, Body: `{"errors":{"params":{"name":["service is not a valid metric name"]}}}`})
	h.pass(time.Minute)
	assert.Equal(t, int64(100), h.refused("invalid_name"))
}

// Names that are one stream to Librato are one here, sent in the spelling that came first.
func TestStreamsOfOneName(t *testing.T) {
	h := newHarness(t, nil)
	h.send(track("Order Paid", "Web", 1), track("order-paid", "web", 1), track("Order?Paid", "WEB", 1), track("ORDER PAID", "web", 1))
	h.pass(10 * time.Second)
	require.Len(t, h.service.Posts(), 1)
	assert.Len(t, measurementsOfBody(t, h.service.Posts()[0].Body), 1)
	assert.Contains(t, string(h.service.Posts()[0].Body), `"name":"Order-Paid","source":"Web"`)
	h.stored("Order-Paid", "Web", 4, 4)
}

// Without an increment for an hour a stream is forgotten.
func TestIdleStreamsAreForgotten(t *testing.T) {
	h := newHarness(t, nil)
	streams := func(want int64) {
		t.Helper()
		metadatatest.AssertEqualExporterLibratoStreams(t, h.telemetry, []metricdata.DataPoint[int64]{{Value: want}}, metricdatatest.IgnoreTimestamp())
	}
	h.send(track("a", "s", 1), track("b", "s", 1))
	for range 5 {
		h.pass(10 * time.Minute)
		h.send(track("b", "s", 1))
	}
	streams(2)
	h.pass(11 * time.Minute)
	streams(1)
	h.send(track("a", "s", 1))
	h.pass(time.Minute)
	h.stored("a", "s", 2, 2)
	h.stored("b", "s", 6, 6)
}

// The spellings that are remembered stay bounded, whatever comes.
func TestSpellingsAreBounded(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.MaxStreams = 3 })
	for i := range 1000 {
		h.send(track("a"+string(rune(0x4E00+i)), "s", 1))
	}
	s := &h.exporter.journal.state.streams
	assert.Len(t, s.byKey, 1)
	assert.LessOrEqual(t, len(s.aliases), 12)
	h.pass(10 * time.Second)
	h.stored("a-", "s", 1000, 1000)
}

// When an outage fills the bound, calls fail as a whole, with an error that makes the receiver answer 503.
func TestMaxIncrements(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.MaxStreams, cfg.MaxIncrements = 3, 3 })
	h.send(track("a", "s", 1), track("b", "s", 1))
	err := h.consume(track("a", "s", 1), track("c", "s", 1), track("d", "s", 1))
	require.ErrorIs(t, err, errFull)
	assert.False(t, consumererror.IsPermanent(err))
	h.send(track("a", "s", 1), track("b", "s", 1)) // what needs no new increment is taken
	h.send(track("c", "s", 1))

	// The service is away, the first three are sealed, and wait.
	h.service.Fail(libratoserver.Failure{Status: 503, Times: -1})
	h.pass(time.Minute)
	require.ErrorIs(t, h.consume(track("a", "s", 1)), errFull)
	metadatatest.AssertEqualExporterLibratoIncrements(t, h.telemetry, []metricdata.DataPoint[int64]{{Value: 3}}, metricdatatest.IgnoreTimestamp())
	h.service.ClearFailures()
	h.pass(time.Minute)
	h.send(track("a", "s", 1))
	h.pass(time.Minute)
	h.stored("a", "s", 3, 3)
	h.stored("b", "s", 2, 2)
	h.stored("c", "s", 1, 1)
	assert.Zero(t, h.service.Sum("d", "s").Count)
}

// A gauge that averages has one value a second: once that is sent, later points for it are refused.
func TestSecondTaken(t *testing.T) {
	h := newHarness(t, nil)
	at := func(late time.Duration) reading {
		return reading{name: "temperature", source: "a", value: 20, late: late, gauge: true}
	}
	h.send(at(0))
	h.pass(5 * time.Second)
	h.send(at(5 * time.Second)) // not sent yet: averaged
	h.pass(25 * time.Second)
	h.send(at(30*time.Second), at(29*time.Second), at(0))
	assert.Equal(t, int64(1), h.refused(reasonSecondTaken))
	h.pass(30 * time.Second)
	h.stored("temperature", "a", 4, 80)
	assert.Len(t, h.service.Seconds("temperature", "a"), 3)
}

// A message id is known for every stream and period of its metric, and of its metric alone.
func TestDuplicates(t *testing.T) {
	h := newHarness(t, nil)
	h.send(reading{name: "Signup", source: "a", value: 1, id: 7}, reading{name: "Signup", source: "a", value: 1, id: 7})
	h.send(reading{name: "signup", source: "b", value: 1, late: 5 * time.Minute, id: 7})
	h.send(reading{name: "Order", source: "a", value: 1, id: 7}, reading{name: "Signup", source: "a", value: 1, id: 8})
	h.pass(30 * time.Second)
	h.stored("Signup", "a", 2, 2)
	h.stored("Order", "a", 1, 1)
	metadatatest.AssertEqualExporterLibratoPointsDuplicate(t, h.telemetry, []metricdata.DataPoint[int64]{{Value: 2}}, metricdatatest.IgnoreTimestamp())
	metadatatest.AssertEqualExporterLibratoMessageIds(t, h.telemetry, []metricdata.DataPoint[int64]{{Value: 3}}, metricdatatest.IgnoreTimestamp())
}

func TestEvictedIDsAreCounted(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.Deduplication.MaxEntries = 2 })
	for id := range uint64(5) {
		h.send(reading{name: "Signup", source: "a", value: 1, id: id + 1})
	}
	assert.Equal(t, int64(3), h.counter("ids_evicted", ""))
	assert.NotEmpty(t, h.logs.FilterMessageSnippet("raise deduplication.max_entries").All())
}

// A late event is added to its own period, at a second of its own.
func TestLateEvents(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.Gauges.ServiceSideAggregation = false })
	h.send(track("Signup", "a", 1))
	h.pass(5*time.Minute + 20*time.Second)
	h.send(reading{name: "Signup", source: "a", value: 1, late: 5*time.Minute + 19*time.Second})
	h.send(reading{name: "Signup", source: "a", value: 1, late: 5*time.Minute + 10*time.Second})
	h.send(track("Signup", "a", 1))
	h.pass(3 * time.Minute)
	series := h.service.Series("Signup", "a")
	require.Len(t, series, 2)
	assert.InDelta(t, 3, series[0].Sum, 0)
	assert.InDelta(t, 1, series[1].Sum, 0)
	assert.Len(t, h.service.Seconds("Signup", "a"), 3, "the two late ones share an increment")
	assert.Zero(t, h.service.Stats().Replaced)
}

// Without storage, shutdown tries one last flush; what is left is counted and logged.
func TestShutdownWithoutStorage(t *testing.T) {
	t.Run("sent", func(t *testing.T) {
		h := newHarness(t, nil)
		h.send(track("Signup", "a", 1), reading{name: "temperature", source: "a", value: 20, gauge: true})
		h.shutdown(t.Context())
		h.stored("Signup", "a", 1, 1)
		h.stored("temperature", "a", 1, 20)
	})
	t.Run("left", func(t *testing.T) {
		h := newHarness(t, nil)
		h.send(track("Signup", "a", 1), track("Signup", "a", 1), track("Order", "a", 1))
		h.service.Fail(libratoserver.Failure{Status: 503, Times: -1})
		h.shutdown(t.Context())
		assert.Equal(t, 1, h.service.Stats().Posts)
		assert.Equal(t, int64(3), h.refused(reasonShutdown))
		lines := h.logs.FilterMessageSnippet("were not sent before shutdown").All()
		require.Len(t, lines, 2)
		slices.SortFunc(lines, func(a, b observer.LoggedEntry) int {
			return strings.Compare(fmt.Sprint(a.ContextMap()["metric"]), fmt.Sprint(b.ContextMap()["metric"]))
		})
		assert.Equal(t, "Signup", lines[1].ContextMap()["metric"])
		assert.EqualValues(t, 2, lines[1].ContextMap()["points"])
	})
	t.Run("no time left", func(t *testing.T) {
		h := newHarness(t, nil)
		h.send(track("Signup", "a", 1))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		h.shutdown(ctx)
		assert.Zero(t, h.service.Stats().Posts)
		assert.Equal(t, int64(1), h.refused(reasonShutdown))
	})
}

// The exporter as a collector runs it: the factory's, with its own clock and ticks.
func TestRun(t *testing.T) {
	service := libratoserver.New()
	server := httptest.NewServer(service)
	defer server.Close()
	cfg := createDefaultConfig().(*Config)
	cfg.Endpoint, cfg.Email, cfg.Token = server.URL, testEmail, testToken
	cfg.FlushInterval = time.Second
	cfg.RetryConfig.InitialInterval, cfg.RetryConfig.MaxInterval = 10*time.Millisecond, 10*time.Millisecond
	exp, err := NewFactory().CreateMetrics(t.Context(), exportertest.NewNopSettings(metadata.Type), cfg)
	require.NoError(t, err)
	require.NoError(t, exp.Start(t.Context(), componenttest.NewNopHost()))
	service.Fail(libratoserver.Failure{Status: 503, Times: 3})

	h := &harness{clock: &testClock{}}
	for range 5 {
		h.clock.set(time.Now())
		require.NoError(t, exp.ConsumeMetrics(t.Context(), h.metricsOf([]reading{track("Signup", "a", 1)})))
	}
	assert.Eventually(t, func() bool { return service.Sum("Signup", "a").Count == 5 }, 10*time.Second, 10*time.Millisecond)
	h.clock.set(time.Now())
	require.NoError(t, exp.ConsumeMetrics(t.Context(), h.metricsOf([]reading{track("Signup", "a", 1)})))
	require.NoError(t, exp.Shutdown(t.Context()))
	assert.Equal(t, uint64(6), service.Sum("Signup", "a").Count)
}

// A shutdown does not work off a backlog of 20 requests that take 0.3 s each. With storage it ends before the next request,
// without it after shutdown_timeout, and what is left is counted.
func TestShutdownWithBacklog(t *testing.T) {
	const requests = 20
	for name, change := range map[string]func(*Config){
		"with storage":    withStorage,
		"without storage": func(cfg *Config) { cfg.ShutdownTimeout = 500 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, func(cfg *Config) {
				cfg.NumConsumers = 1
				change(cfg)
			})
			h.sendStreams(requests * 300)
			posted := make(chan struct{}, requests)
			h.exporter.flusher.courier.client.Transport = transport(func(req *http.Request) (*http.Response, error) {
				posted <- struct{}{}
				select {
				case <-time.After(300 * time.Millisecond):
				case <-req.Context().Done():
					return nil, req.Context().Err()
				}
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			})
			posts, cancel := context.WithCancel(t.Context())
			h.exporter.cancel, h.exporter.stopped = cancel, make(chan struct{})
			e := h.exporter
			h.clock.set(noon.Add(10 * time.Second))
			go func() {
				defer close(e.stopped)
				e.flusher.step(posts, h.clock.now())
			}()
			<-posted

			began := time.Now()
			h.shutdown(t.Context())
			assert.Less(t, time.Since(began), 4*time.Second, "of 6")
			assert.Less(t, len(posted), requests/2)
			lost := h.refused(reasonShutdown)
			if h.cfg.StorageID != nil {
				assert.Zero(t, lost)
				h.start()
				assert.Equal(t, (requests-1)*300, h.exporter.journal.count(), "all but what was under way")
				return
			}
			assert.Equal(t, int64(requests*300), lost+h.counter("measurements_sent", "gauge"))
		})
	}
}

// A post that hangs does not hold shutdown longer than its context.
func TestShutdownCutsPostsOff(t *testing.T) {
	service := libratoserver.New()
	server := httptest.NewServer(service)
	defer server.Close()
	cfg := createDefaultConfig().(*Config)
	cfg.Endpoint, cfg.Email, cfg.Token = server.URL, testEmail, testToken
	cfg.FlushInterval = time.Second
	exp, err := newExporter(cfg, exportertest.NewNopSettings(metadata.Type))
	require.NoError(t, err)
	require.NoError(t, exp.start(t.Context(), componenttest.NewNopHost()))
	service.Fail(libratoserver.Failure{Delay: libratoserver.Duration(time.Hour), Times: -1})
	h := &harness{clock: &testClock{}}
	h.clock.set(time.Now())
	require.NoError(t, exp.consume(t.Context(), h.metricsOf([]reading{track("Signup", "a", 1)})))
	require.Eventually(t, func() bool { // the post is under way
		return len(exp.journal.unconfirmed(math.MaxInt64)) > 0
	}, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	began := time.Now()
	require.NoError(t, exp.shutdown(ctx))
	assert.Less(t, time.Since(began), 5*time.Second)
}

// What the service refuses, and every way in which it fails, is logged without the token.
func TestNoSecretsInLogs(t *testing.T) {
	h := newHarness(t, nil)
	for _, status := range []int{0, 400, 401, 403, 404, 429, 500, 503} {
		h.send(track("Signup", "a", 1), track("Order", "a", 1))
		h.service.Fail(libratoserver.Failure{Status: status, Body: `{"errors":{"request":["no"]}}`})
		h.pass(2 * time.Minute)
	}
	h.host.mu.Lock()
	defer h.host.mu.Unlock()
	require.NotEmpty(t, h.host.events)
	var text strings.Builder
	for _, e := range h.host.events {
		fmt.Fprintln(&text, e.Err())
	}
	encoder := zapcore.NewJSONEncoder(zap.NewDevelopmentEncoderConfig())
	require.Greater(t, h.logs.Len(), 8)
	for _, line := range h.logs.All() {
		buf, err := encoder.EncodeEntry(line.Entry, line.Context)
		require.NoError(t, err)
		text.Write(buf.Bytes())
	}
	assert.NotContains(t, text.String(), testToken)
	assert.NotContains(t, text.String(), base64.StdEncoding.EncodeToString([]byte(testEmail+":"+testToken)))
	assert.NotContains(t, text.String(), testEmail)
}

// Settings that work but hardly as meant are said at start.
func TestWarningsAreLogged(t *testing.T) {
	h := newHarness(t, func(cfg *Config) { cfg.Gauges.ServiceSideAggregation = false })
	assert.Len(t, h.logs.FilterMessageSnippet("a restart may replace what was counted").All(), 1)
}

// What cannot start says why.
func TestStartFails(t *testing.T) {
	id := component.MustNewID("file_storage")
	for name, tt := range map[string]struct {
		extensions map[component.ID]component.Component
		want       string
	}{
		"no extension": {nil, `storage: extension "file_storage" is not there`},
		"no storage":   {map[component.ID]component.Component{id: nopComponent{}}, `storage: extension "file_storage" is no storage`},
		"no client":    {map[component.ID]component.Component{id: storageOf{err: errors.New("busy")}}, "storage: busy"},
		"no walker":    {map[component.ID]component.Component{id: storageOf{}}, "storage: this extension cannot list its keys"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := validConfig()
			cfg.StorageID = &id
			exp, err := newExporter(cfg, exportertest.NewNopSettings(metadata.Type))
			require.NoError(t, err)
			require.ErrorContains(t, exp.start(t.Context(), &testHost{extensions: tt.extensions}), tt.want)
			require.NoError(t, exp.shutdown(t.Context()))
		})
	}
}

// Folding and keeping a call's points allocates nothing once their streams have an open increment.
func TestFoldAllocatesNothing(t *testing.T) {
	h := newHarness(t, nil)
	samples := make([]sample, 100)
	for i := range samples {
		samples[i] = sample{name: fmt.Sprintf("stream %d", i), source: "s", event: true, time: noon.Unix(), value: librato.SummaryOf(1)}
	}
	j, now := h.exporter.journal, noon.UnixNano()
	require.NoError(t, j.take(samples, now))
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if err := j.take(samples, now); err != nil {
			t.Error(err)
		}
	}))
}

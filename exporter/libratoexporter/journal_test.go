// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/filestorage"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadatatest"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

// nopComponent is an extension that does nothing.
type nopComponent struct{}

func (nopComponent) Start(context.Context, component.Host) error { return nil }
func (nopComponent) Shutdown(context.Context) error              { return nil }

// storageOf is a storage extension that hands out client, or fails.
type storageOf struct {
	nopComponent
	client storage.Client
	err    error
}

func (s storageOf) GetClient(context.Context, component.Kind, component.ID, string) (storage.Client, error) {
	if s.client == nil {
		return storage.NewNopClient(), s.err
	}
	return s.client, s.err
}

var fileStorageID = component.MustNewID("file_storage")

// withStorage makes a harness keep its state on disk.
func withStorage(cfg *Config) { cfg.StorageID = &fileStorageID }

// fileStorage is the storage extension that collectors use, in a directory of its own.
func fileStorage(tb testing.TB) storage.Extension {
	tb.Helper()
	factory := filestorage.NewFactory()
	cfg := factory.CreateDefaultConfig().(*filestorage.Config)
	cfg.Directory = tb.TempDir()
	ext, err := factory.Create(tb.Context(), extension.Settings{
		ID: fileStorageID, TelemetrySettings: componenttest.NewNopTelemetrySettings(),
	}, cfg)
	require.NoError(tb, err)
	require.NoError(tb, ext.Start(tb.Context(), componenttest.NewNopHost()))
	tb.Cleanup(func() { assert.NoError(tb, ext.Shutdown(context.Background())) })
	return ext.(storage.Extension)
}

// withClient gives f the exporter's storage, while the exporter is down.
func (h *harness) withClient(f func(storage.Client)) {
	h.t.Helper()
	require.Nil(h.t, h.exporter, "it has the storage open")
	client, err := h.host.extensions[fileStorageID].(storage.Extension).GetClient(
		h.t.Context(), component.KindExporter, component.MustNewID("librato"), "")
	require.NoError(h.t, err)
	f(client)
	require.NoError(h.t, client.Close(h.t.Context()))
}

// onDisk are the entries that the exporter left.
func (h *harness) onDisk() map[string][]byte {
	h.t.Helper()
	entries := map[string][]byte{}
	h.withClient(func(client storage.Client) {
		require.NoError(h.t, client.(storage.Walker).Walk(h.t.Context(), func(key string, value []byte) ([]*storage.Operation, error) {
			entries[key] = slices.Clone(value)
			return nil, nil
		}))
	})
	return entries
}

func keysWith(entries map[string][]byte, prefix string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(entries)), func(key string) bool { return !strings.HasPrefix(key, prefix) })
}

// With storage shutdown posts nothing and loses nothing: the state comes back, and message ids with it.
func TestRestart(t *testing.T) {
	h := newHarness(t, withStorage)
	h.send(reading{name: "Signup", source: "a", value: 2, id: 7}, track("Signup", "a", 3),
		reading{name: "temperature", source: "a", value: 20, gauge: true})
	h.shutdown(t.Context())
	assert.Zero(t, h.service.Stats().Posts)

	h.start()
	metadatatest.AssertEqualExporterLibratoIncrements(t, h.telemetry, []metricdata.DataPoint[int64]{{Value: 2}}, metricdatatest.IgnoreTimestamp())
	h.send(reading{name: "Signup", source: "b", value: 2, id: 7}) // its sender got no answer
	h.send(track("Signup", "a", 4))
	h.pass(30 * time.Second)
	h.stored("Signup", "a", 3, 9)
	h.stored("temperature", "a", 1, 20)
	assert.Zero(t, h.service.Sum("Signup", "b").Count)
	h.shutdown(t.Context())

	entries := h.onDisk()
	assert.Empty(t, keysWith(entries, prefixInc), "what is confirmed is deleted")
	assert.Len(t, keysWith(entries, prefixFloor), 1)
	assert.Len(t, keysWith(entries, prefixIDs), 1)
	assert.Equal(t, "1", string(entries[keyVersion]))
}

// A crash while a post is under way: it goes again as it was, and what came later has another second.
func TestRestartAfterAPost(t *testing.T) {
	h := newHarness(t, func(cfg *Config) {
		withStorage(cfg)
		cfg.Gauges.ServiceSideAggregation = false
	})
	h.send(track("Signup", "a", 2), track("Signup", "a", 3))
	h.service.Fail(libratoserver.Failure{Apply: libratoserver.ApplyNow}) // no answer
	h.pass(10 * time.Second)
	h.send(track("Signup", "a", 4))
	for range 3 {
		h.shutdown(t.Context())
		h.start()
		h.send(track("Signup", "a", 1))
	}
	h.pass(5 * time.Minute)
	h.stored("Signup", "a", 6, 12)
	posts := h.service.Posts()
	assert.Equal(t, measurementsOfBody(t, posts[0].Body)[0], measurementsOfBody(t, posts[1].Body)[0])
	assert.Zero(t, h.service.Stats().Replaced)
}

// gate is a storage client whose transactions wait for the test.
type gate struct {
	storage.Client
	entered chan struct{}
	open    chan error
}

func (g gate) Batch(ctx context.Context, ops ...*storage.Operation) error {
	g.entered <- struct{}{}
	if err := <-g.open; err != nil {
		return err
	}
	return g.Client.Batch(ctx, ops...)
}

// A call is answered when its transaction is through, and fails, to be repeated, when that fails.
func TestOnlyTheCommitDecides(t *testing.T) {
	h := newHarness(t, withStorage)
	g := gate{h.exporter.journal.disk.client, make(chan struct{}), make(chan error)}
	h.exporter.journal.disk.client = g
	answers := make(chan error)
	consume := func() { answers <- h.consume(track("Signup", "a", 1)) }

	go consume()
	<-g.entered
	select {
	case err := <-answers:
		t.Fatalf("answered before the commit: %v", err)
	default:
	}
	g.open <- nil
	require.NoError(t, <-answers)

	go consume()
	<-g.entered
	g.open <- errors.New("disk full")
	err := <-answers
	require.ErrorContains(t, err, "disk full")
	assert.False(t, consumererror.IsPermanent(err))
	h.exporter.journal.disk.client = g.Client

	h.pass(time.Minute)
	h.stored("Signup", "a", 1, 1)
	metadatatest.AssertEqualExporterLibratoCommitFailures(t, h.telemetry, []metricdata.DataPoint[int64]{{Value: 1}}, metricdatatest.IgnoreTimestamp())
}

// What a full disk refuses does not push the message ids of what was taken out of memory.
func TestFullDiskKeepsWhatIsKnown(t *testing.T) {
	h := newHarness(t, func(cfg *Config) {
		withStorage(cfg)
		cfg.Deduplication.MaxEntries = 2
	})
	known := []reading{{name: "Signup", source: "a", value: 1, id: 1}, {name: "Signup", source: "a", value: 1, id: 2}}
	h.send(known...)
	d := &fullDisk{Client: h.exporter.journal.disk.client}
	h.exporter.journal.disk.client = d
	d.full.Store(true)
	for id := uint64(3); id < 10; id++ {
		require.Error(t, h.consume(reading{name: "Signup", source: "a", value: 1, id: id}))
	}
	d.full.Store(false)
	h.send(known...)
	h.pass(time.Minute)
	h.stored("Signup", "a", 2, 2)
	assert.Zero(t, h.counter("ids_evicted", ""))
}

// A full disk stops intake, not posting; when there is room again, nothing was lost or counted twice.
func TestFullDisk(t *testing.T) {
	h := newHarness(t, withStorage)
	h.send(track("Signup", "a", 1), track("Signup", "b", 1))
	d := &fullDisk{Client: h.exporter.journal.disk.client}
	h.exporter.journal.disk.client = d
	d.full.Store(true)
	require.Error(t, h.consume(track("Signup", "a", 1), reading{name: "Signup", source: "c", value: 1, id: 5}))
	require.Error(t, h.consume(track("Signup", "a", 1)))
	h.pass(10 * time.Second)
	h.stored("Signup", "b", 1, 1)
	assert.Zero(t, h.service.Sum("Signup", "a").Count, "what the disk holds of it is not known")
	assert.NotEmpty(t, h.logs.FilterMessageSnippet("storage, will try again").All())
	d.full.Store(false)
	h.send(track("Signup", "a", 1), reading{name: "Signup", source: "c", value: 1, id: 5})
	h.pass(time.Minute)
	h.stored("Signup", "a", 2, 2)
	h.stored("Signup", "b", 1, 1)
	h.stored("Signup", "c", 1, 1)
	h.shutdown(t.Context())
	assert.Empty(t, keysWith(h.onDisk(), prefixInc))
}

type fullDisk struct {
	storage.Client
	full atomic.Bool
}

func (d *fullDisk) Batch(ctx context.Context, ops ...*storage.Operation) error {
	if d.full.Load() {
		return errors.New("no space left on device")
	}
	return d.Client.Batch(ctx, ops...)
}

// Callers that arrive while a transaction runs share the next one, and each that was acknowledged is on disk.
func TestGroupCommit(t *testing.T) {
	const callers = 16
	h := newHarness(t, withStorage)
	g := gate{h.exporter.journal.disk.client, make(chan struct{}), make(chan error)}
	h.exporter.journal.disk.client = g
	var wg sync.WaitGroup
	consume := func(caller int) {
		wg.Go(func() {
			assert.NoError(t, h.consume(reading{name: "Signup", source: fmt.Sprint("s", caller%4), value: 1, id: uint64(caller + 1)}))
		})
	}
	consume(0)
	<-g.entered
	for caller := range callers - 1 {
		consume(caller + 1)
	}
	require.Eventually(t, func() bool { return h.exporter.journal.group.joined() == callers-1 }, 10*time.Second, time.Millisecond)
	g.open <- nil
	<-g.entered
	g.open <- nil
	wg.Wait()
	h.exporter.journal.disk.client = g.Client
	assert.Equal(t, int64(2), h.counter("commits", ""))
	h.shutdown(t.Context())

	h.start()
	assert.Equal(t, callers, h.exporter.journal.messageIDs())
	h.pass(10 * time.Second)
	for i := range 4 {
		h.stored("Signup", fmt.Sprint("s", i), callers/4, callers/4)
	}
}

// A call that shares a transaction with one that is beyond the bound is taken; that one alone fails.
func TestGroupWithAFullCall(t *testing.T) {
	h := newHarness(t, func(cfg *Config) {
		withStorage(cfg)
		cfg.MaxStreams, cfg.MaxIncrements = 2, 2
	})
	j, now := h.exporter.journal, noon.UnixNano()
	samplesOf := func(names ...string) []sample {
		var samples []sample
		for _, name := range names {
			samples = append(samples, sample{name: name, source: "s", event: true, time: noon.Unix(), value: librato.SummaryOf(1)})
		}
		return samples
	}
	calls := []*call{
		{samples: samplesOf("a"), now: now},
		{samples: samplesOf("a", "b", "c"), now: now},
		{samples: samplesOf("b", "a"), now: now},
	}
	j.commitGroup(func() []*call { return calls })
	require.NoError(t, calls[0].err)
	require.ErrorIs(t, calls[1].err, errFull)
	require.NoError(t, calls[2].err)
	h.pass(10 * time.Second)
	h.stored("a", "s", 2, 2)
	h.stored("b", "s", 1, 1)
}

// incrementOf is an increment of one event as it stands on disk.
func incrementOf(start, second int64) []byte {
	inc := increment{stream: &stream{name: "x"}, start: start, period: 60, second: second, value: librato.SummaryOf(1)}
	return appendIncrement(nil, &inc, &staged{inc.value, second})
}

// What does not decode is set aside and said, once; the rest is recovered.
func TestUndecodableEntries(t *testing.T) {
	h := newHarness(t, withStorage)
	h.send(reading{name: "Signup", source: "a", value: 1, id: 7})
	h.shutdown(t.Context())
	bad := map[string][]byte{
		"i/1/60/1/x/y":                []byte("nonsense"),
		"i/2/60/2/x/y":                nil,
		"f/1/60":                      {formWritten},
		"m/zzz":                       {formWritten, 0},
		"m/0000000000000009":          {formWritten, 0, 1, 2, 3},
		"i/newer":                     {99, 1, 2, 3},
		"i/longer":                    append(incrementOf(60, 60), 0),
		"i/after its period":          incrementOf(60, 120),
		"something/of/another/origin": []byte("x"),
	}
	h.withClient(func(client storage.Client) {
		for key, value := range bad {
			require.NoError(t, client.Set(t.Context(), key, value))
		}
	})

	h.start()
	lines := h.logs.FilterMessageSnippet("does not decode and is set aside").All()
	require.Len(t, lines, len(bad))
	for _, line := range lines {
		assert.Contains(t, bad, line.ContextMap()["key"])
		assert.Equal(t, fmt.Sprint(prefixAside, line.ContextMap()["key"]), line.ContextMap()["kept_as"])
		assert.NotEmpty(t, line.ContextMap()["error"])
	}
	metadatatest.AssertEqualExporterLibratoMeasurementsRefused(t, h.telemetry, []metricdata.DataPoint[int64]{
		{Attributes: attribute.NewSet(attribute.String("reason", string(reasonUndecodable))), Value: int64(len(bad))},
	}, metricdatatest.IgnoreTimestamp())
	h.send(reading{name: "Signup", source: "a", value: 1, id: 7})
	h.pass(10 * time.Second)
	h.stored("Signup", "a", 1, 1)
	h.shutdown(t.Context())

	entries := h.onDisk()
	for key, value := range bad {
		assert.NotContains(t, entries, key)
		assert.True(t, bytes.Equal(value, entries[prefixAside+key]), key)
	}
	h.start()
	assert.Empty(t, h.logs.FilterMessageSnippet("set aside").All(), "said once")
}

// State of a later release is left alone.
func TestNewerState(t *testing.T) {
	h := newHarness(t, withStorage)
	h.shutdown(t.Context())
	h.withClient(func(client storage.Client) { require.NoError(t, client.Set(t.Context(), keyVersion, []byte("2"))) })
	exp, err := newExporter(h.cfg, metadatatest.NewSettings(h.telemetry))
	require.NoError(t, err)
	err = exp.start(t.Context(), h.host)
	require.ErrorContains(t, err, `holds state of version "2", this exporter writes 1`)
	require.NoError(t, exp.shutdown(t.Context()))
	assert.Equal(t, "2", string(h.onDisk()[keyVersion]), "the storage is free again, and unchanged")
}

// Two exporters never share state, though they share an extension.
func TestTwoExporters(t *testing.T) {
	h := newHarness(t, withStorage)
	h.send(track("Signup", "a", 1))
	set := metadatatest.NewSettings(h.telemetry)
	set.ID = component.MustNewIDWithName("librato", "second")
	other, err := newExporter(h.cfg, set)
	require.NoError(t, err)
	other.now = h.clock.now
	require.NoError(t, other.start(t.Context(), h.host))
	assert.Zero(t, other.journal.count())
	require.NoError(t, other.consume(t.Context(), h.metricsOf([]reading{track("Signup", "a", 1), track("Order", "a", 1)})))
	require.NoError(t, other.shutdown(t.Context()))
	h.shutdown(t.Context())
	assert.Len(t, keysWith(h.onDisk(), prefixInc), 1)
}

// Settings that change between two starts keep the sums exact, each event in the period that it was taken for.
func TestSettingsChange(t *testing.T) {
	h := newHarness(t, func(cfg *Config) {
		withStorage(cfg)
		cfg.Gauges.ServiceSideAggregation = false
		cfg.Gauges.Period = 2 * time.Minute
	})
	changes := []func(cfg *Config){
		func(cfg *Config) { cfg.Gauges.Period = time.Minute },
		func(cfg *Config) { cfg.FlushInterval = 5 * time.Second },
		func(cfg *Config) { cfg.MaxAge = 30 * time.Minute },
		func(cfg *Config) { cfg.Gauges.Period, cfg.MaxAge = 10*time.Minute, 100*time.Minute },
		func(cfg *Config) { cfg.Instance = InstanceConfig{Index: 1, Count: 3} },
		func(cfg *Config) { cfg.Instance = InstanceConfig{Index: 0, Count: 2} },
		func(cfg *Config) { cfg.MaxStreams, cfg.MaxIncrements = 1, 1 }, // what was taken is not lost for it
		func(cfg *Config) { cfg.MaxStreams, cfg.MaxIncrements = 100, 1000 },
		func(cfg *Config) {
			cfg.Gauges.Period, cfg.Instance = 10*time.Second, InstanceConfig{Index: 0, Count: 1}
		},
	}
	taken := map[string]uint64{}
	for _, change := range changes {
		h.service.Fail(libratoserver.Failure{Apply: libratoserver.ApplyNow}) // the answer gets lost
		for i := range 3 {
			for _, source := range []string{"a", "b"} {
				if h.consume(reading{name: "Signup", source: source, value: 1, late: time.Duration(i) * 20 * time.Second}) == nil {
					taken[source]++
				}
			}
			h.pass(7 * time.Second)
		}
		h.shutdown(t.Context())
		change(h.cfg)
		require.NoError(t, h.cfg.Validate())
		h.start()
	}
	h.service.ClearFailures()
	h.pass(20 * time.Minute)
	require.Zero(t, h.refused(reasonTooOld))
	assert.Zero(t, h.exporter.journal.count())
	for source, n := range taken {
		if source == "b" { // was refused while max_streams was 1
			n -= uint64(h.refused(reasonTooManyStreams))
		}
		h.stored("Signup", source, n, float64(n))
	}
	assert.Zero(t, h.service.Stats().Replaced)
}

// What waits on disk goes to the API that is set now: a source becomes the tag source, and the reverse.
func TestAPIChanges(t *testing.T) {
	t.Run("to measurements", func(t *testing.T) {
		h := newHarness(t, withStorage)
		h.send(track("Signup", "Web-1", 1), track("Signup", "", 1), reading{name: "temperature", source: "a", value: 20, gauge: true})
		h.shutdown(t.Context())
		h.cfg.API = APIMeasurements
		h.start()
		h.send(track("Signup", "Web-1", 1))
		h.pass(time.Minute)
		h.stored("Signup", "source=web-1", 2, 2)
		h.stored("Signup", "source=unassigned", 1, 1)
		h.stored("temperature", "source=a", 1, 20)
		for _, post := range h.service.Posts() {
			assert.Equal(t, "/v1/measurements", post.Path)
			assert.Equal(t, 202, post.Status)
		}
	})
	t.Run("to metrics", func(t *testing.T) {
		h := newHarness(t, func(cfg *Config) {
			withStorage(cfg)
			cfg.API = APIMeasurements
		})
		md := h.metricsOf([]reading{track("Signup", "web", 1), track("Signup", "web", 5), track("Signup", "other", 1), track("Order", "web", 1)})
		for i, env := range []string{"prod", "test"} { // streams that the metrics API cannot tell apart
			md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(i).Gauge().DataPoints().At(0).Attributes().PutStr("env", env)
		}
		require.NoError(t, h.exporter.consume(t.Context(), md))
		assert.Equal(t, 4, h.exporter.journal.count())
		h.shutdown(t.Context())
		h.cfg.API = APIMetrics
		for range 2 { // what was added up stays so
			h.start()
			assert.Equal(t, 3, h.exporter.journal.count())
			h.shutdown(t.Context())
		}
		h.start()
		h.pass(time.Minute)
		h.stored("Signup", "web", 2, 6)
		h.stored("Signup", "other", 1, 1)
		h.stored("Order", "web", 1, 1)
		h.shutdown(t.Context())
		assert.Empty(t, keysWith(h.onDisk(), prefixInc))
	})
}

// Ids that were written one commit at a time are merged, and go when their window is over.
func TestIDsAreMerged(t *testing.T) {
	h := newHarness(t, func(cfg *Config) {
		withStorage(cfg)
		cfg.Deduplication.Window = 10 * time.Minute
	})
	ids := func() int { return len(keysWith(h.onDisk(), prefixIDs)) }
	for i := range uint64(20) {
		h.send(reading{name: "Signup", source: "a", value: 1, id: i + 1})
	}
	h.shutdown(t.Context())
	assert.Equal(t, 20, ids())
	h.start()
	h.send(reading{name: "Signup", source: "a", value: 1, id: 21}, reading{name: "Signup", source: "a", value: 1, id: 1})
	h.send(reading{name: "Signup", source: "a", value: 1, id: 22})
	h.pass(20 * time.Second)
	assert.Equal(t, 22, h.exporter.journal.messageIDs())
	h.shutdown(t.Context())
	assert.LessOrEqual(t, ids(), 21)
	h.start()
	h.pass(10*time.Minute + 20*time.Second)
	h.shutdown(t.Context())
	assert.LessOrEqual(t, ids(), 1)
	h.start()
	h.pass(time.Minute)
	h.stored("Signup", "a", 22, 22)
}

// Keys that hold many ids are left as they are: to write them again would hold up every call.
func TestManyIDsAreNotMerged(t *testing.T) {
	h := newHarness(t, withStorage)
	send := func(first uint64) {
		readings := make([]reading, worthAKey)
		for i := range readings {
			readings[i] = reading{name: "Signup", source: "a", value: 1, id: first + uint64(i)}
		}
		h.send(readings...)
	}
	send(1)
	send(1 + worthAKey)
	h.pass(20 * time.Second)
	h.shutdown(t.Context())
	assert.Len(t, keysWith(h.onDisk(), prefixIDs), 2)
	h.start()
	send(1) // copies
	h.pass(time.Minute)
	h.stored("Signup", "a", 2*worthAKey, 2*worthAKey)
}

// What is beyond max_entries goes with the transactions that bring more, not all at a tick, which would hold up every call.
func TestDatedIDsGoAsOthersCome(t *testing.T) {
	cfg := validConfig()
	withStorage(cfg)
	cfg.Deduplication.MaxEntries = 2 * worthAKey
	telemetry, err := metadata.NewTelemetryBuilder(componenttest.NewNopTelemetrySettings())
	require.NoError(t, err)
	d := &memoryDisk{entries: map[string][]byte{}}
	j := newJournal(cfg, zap.NewNop(), telemetry, newRefusals(zap.NewNop(), telemetry), newOrigins())
	now := noon.UnixNano()
	require.NoError(t, j.open(t.Context(), d, now))
	first := uint64(1)
	take := func() int {
		samples := make([]sample, worthAKey)
		for i := range samples {
			samples[i] = sample{name: "Signup", event: true, time: noon.Unix(), value: librato.SummaryOf(1), id: first}
			first++
		}
		require.NoError(t, j.take(samples, now))
		return len(keysWith(d.entries, prefixIDs))
	}
	for range 5 {
		take()
	}
	j.tidy(now)
	var keys []int
	for range 4 {
		keys = append(keys, take())
	}
	assert.Equal(t, []int{4, 3, 3, 4}, keys, "the five from before the tick go, two at a time; those since stay until the next")
	j.tidy(now)
	j.tidy(now)
	assert.Len(t, keysWith(d.entries, prefixIDs), 2)
}

// stateV1 is a state of format 1 with an entry of each kind: what one release wrote, the next one reads.
func stateV1(t *testing.T) map[string][]byte {
	t.Helper()
	d := &memoryDisk{entries: map[string][]byte{}}
	now := noon.UnixNano()
	for _, api := range []API{APIMetrics, APIMeasurements} {
		cfg := validConfig()
		cfg.API = api
		withStorage(cfg)
		telemetry, err := metadata.NewTelemetryBuilder(componenttest.NewNopTelemetrySettings())
		require.NoError(t, err)
		j := newJournal(cfg, zap.NewNop(), telemetry, newRefusals(zap.NewNop(), telemetry), newOrigins())
		require.NoError(t, j.open(t.Context(), d, now))
		if api == APIMeasurements {
			tags := string(appendTagSet(nil, []pair{{"env", "prod"}, {"source", "Web 1"}}))
			require.NoError(t, j.take([]sample{
				{name: "Tagged", source: tags, event: true, time: noon.Unix(), value: librato.SummaryOf(4)},
			}, now))
			continue
		}
		require.NoError(t, j.take([]sample{
			{name: "Signup", source: "Web-1:8080", event: true, time: noon.Unix(), value: librato.SummaryOf(1.5), id: 0xFEDCBA9876543210},
			{name: "Signup", source: "Web-1:8080", event: true, time: noon.Unix() + 1, value: librato.SummaryOf(-2), id: 7},
			{name: "Signup", source: "Web-1:8080", event: true, time: noon.Unix() - 300, value: librato.SummaryOf(1), id: 8},
			{name: "No source", event: true, time: noon.Unix(), value: librato.SummaryOf(0)},
			{name: "temperature", source: "db", kind: kindAveraging, time: noon.Unix(), value: librato.SummaryOf(20)},
			{name: "latency", source: "db", kind: kindAveraging, time: noon.Unix(), value: librato.Summary{Count: 4, Sum: 10, Min: math.NaN(), Max: math.NaN()}},
			{name: "bytes", source: "db", kind: kindCounter, time: noon.Unix(), value: librato.SummaryOf(1 << 40)},
		}, now))
	}
	return d.entries
}

const fixtureV1 = "testdata/state-v1/state.txt"

// TestStateV1 fails when what is written differs from what format 1 was when it was released. Then the format is a new
// one: raise formWritten or stateVersion, read both, and add a fixture; do not write this one anew.
func TestStateV1(t *testing.T) {
	var text strings.Builder
	entries := stateV1(t)
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		fmt.Fprintf(&text, "%s\t%s\n", key, hex.EncodeToString(entries[key]))
	}
	if _, err := os.Stat(fixtureV1); *update && os.IsNotExist(err) {
		require.NoError(t, os.MkdirAll("testdata/state-v1", 0o755))
		require.NoError(t, os.WriteFile(fixtureV1, []byte(text.String()), 0o600))
	}
	want, err := os.ReadFile(fixtureV1)
	require.NoError(t, err)
	assert.Equal(t, string(want), text.String())
}

// A state of format 1 is read, posted, and its ids are known.
func TestReadsStateV1(t *testing.T) {
	h := newHarness(t, withStorage)
	h.shutdown(t.Context())
	fixture, err := os.ReadFile(fixtureV1)
	require.NoError(t, err)
	h.withClient(func(client storage.Client) {
		for line := range strings.Lines(string(fixture)) {
			key, text, ok := strings.Cut(strings.TrimSpace(line), "\t")
			require.True(t, ok, line)
			value, err := hex.DecodeString(text)
			require.NoError(t, err)
			require.NoError(t, client.Set(t.Context(), key, value))
		}
	})
	h.start()
	assert.Empty(t, h.logs.FilterMessageSnippet("set aside").All())
	h.send(reading{name: "Signup", source: "elsewhere", value: 1, id: 0xFEDCBA9876543210}, reading{name: "signup", source: "b", value: 1, id: 8})
	h.send(track("Signup", "Web-1:8080", 100))
	h.pass(10 * time.Second)

	posts := h.service.Posts()
	require.Len(t, posts, 1)
	properties := `"period":60,"attributes":{"aggregate":true,"summarize_function":"sum","display_stacked":true}`
	second := noon.Unix()
	want := fmt.Sprintf(`{"gauges":[
		{"name":"Signup","source":"Web-1:8080","measure_time":%d,"value":1,%s},
		{"name":"No-source","measure_time":%d,"value":0,%s},
		{"name":"Signup","source":"Web-1:8080","measure_time":%d,"count":2,"sum":-0.5,"min":-2,"max":1.5,%s},
		{"name":"Tagged","source":"web-1","measure_time":%d,"value":4,%s},
		{"name":"latency","source":"db","measure_time":%d,"count":4,"sum":10},
		{"name":"temperature","source":"db","measure_time":%d,"value":20}
	],"counters":[{"name":"bytes","source":"db","measure_time":%d,"value":1099511627776}]}`,
		second-300+secondOfLateEvent(t), properties, second, properties, second, properties, second+1, properties, second, second, second)
	assert.ElementsMatch(t, measurementsOfBody(t, []byte(want)), measurementsOfBody(t, posts[0].Body))
	h.pass(time.Minute)
	h.stored("Signup", "Web-1:8080", 4, 100.5)
	assert.Zero(t, h.service.Sum("Signup", "elsewhere").Count)
}

// secondOfLateEvent is which second of its period an event of five minutes ago gets.
func secondOfLateEvent(t *testing.T) int64 {
	t.Helper()
	s := newSchedule(time.Minute, 10*time.Second, 110*time.Minute, 0, 1)
	second, _, ok := s.place(0, int64(5*time.Minute+500*time.Millisecond), &usedSeconds{maxRanges: 1}, nil)
	require.True(t, ok)
	return second
}

// Whatever stands on disk: it decodes to something that can be kept and posted, or not at all, and never panics.
func FuzzRecover(f *testing.F) {
	fixture, err := os.ReadFile(fixtureV1)
	require.NoError(f, err)
	for line := range strings.Lines(string(fixture)) {
		key, text, _ := strings.Cut(strings.TrimSpace(line), "\t")
		value, err := hex.DecodeString(text)
		require.NoError(f, err)
		f.Add(key, value)
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if inc, err := decodeIncrement(value); err == nil {
			again, err := decodeIncrement(appendIncrement(nil, inc, &staged{inc.value, inc.second}))
			require.NoError(t, err)
			assert.Equal(t, incrementKey(inc), incrementKey(again))
		}
		if r, err := decodeFloor(value); err == nil {
			again, err := decodeFloor(appendFloor(nil, &r))
			require.NoError(t, err)
			assert.Equal(t, r.last, again.last)
		}
		for _, api := range []API{APIMetrics, APIMeasurements} {
			d := &memoryDisk{entries: map[string][]byte{key: value}}
			cfg := validConfig()
			cfg.API = api
			withStorage(cfg)
			telemetry, err := metadata.NewTelemetryBuilder(componenttest.NewNopTelemetrySettings())
			require.NoError(t, err)
			j := newJournal(cfg, zap.NewNop(), telemetry, newRefusals(zap.NewNop(), telemetry), newOrigins())
			if err := j.open(t.Context(), d, noon.UnixNano()); err != nil {
				require.Equal(t, keyVersion, key)
				continue
			}
			require.NoError(t, j.take([]sample{{name: "Signup", event: true, time: noon.Unix(), value: librato.SummaryOf(1)}}, noon.UnixNano()))
			j.expire(noon.UnixNano())
			j.sealFlush(noon.UnixNano())
			j.settle(j.sealAll())
			j.tidy(noon.UnixNano())
			assert.Zero(t, j.count())
		}
	})
}

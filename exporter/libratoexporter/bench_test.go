// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// eventSamples are n points of as many streams, in the period that began at noon.
func eventSamples(n int) []sample {
	samples := make([]sample, n)
	for i := range samples {
		samples[i] = sample{
			name: fmt.Sprintf("Event %d", i%100), source: fmt.Sprintf("web-%d", i/100), event: true,
			time: noon.Unix(), value: librato.SummaryOf(float64(i)),
		}
	}
	return samples
}

// What one event costs in the state, once its stream has an open increment: no allocation.
func BenchmarkFold(b *testing.B) {
	for _, streams := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			cfg := validConfig()
			cfg.MaxStreams = streams
			j := memoryJournal(b, cfg)
			samples := eventSamples(streams)
			require.NoError(b, j.take(samples, noon.UnixNano()))
			b.ReportAllocs()
			from := 0
			for b.Loop() {
				if err := j.take(samples[from:from+100], noon.UnixNano()); err != nil {
					b.Fatal(err)
				}
				from = (from + 100) % streams
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/event")
		})
	}
}

// hashed spreads numbers as the receiver's hash does: the set of ids counts on it.
func hashed(n uint64) uint64 { return n*0x9E3779B97F4A7C15 | 1 }

// With message ids.
func BenchmarkFoldIDs(b *testing.B) {
	cfg := validConfig()
	j := memoryJournal(b, cfg)
	samples := eventSamples(100)
	id := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		for i := range samples {
			id++
			samples[i].id = hashed(id)
		}
		if err := j.take(samples, noon.UnixNano()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/event")
}

// Sealing, encoding and confirming one flush of as many streams.
func BenchmarkSeal(b *testing.B) {
	for _, streams := range []int{300, 100_000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			cfg := validConfig()
			cfg.MaxStreams = streams
			j := memoryJournal(b, cfg)
			samples := eventSamples(streams)
			now := noon.UnixNano()
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for i := range samples {
					samples[i].time = now / int64(time.Second)
				}
				require.NoError(b, j.take(samples, now))
				now += int64(time.Minute)
				b.StartTimer()
				j.expire(now)
				due := j.sealFlush(now)
				if len(due) != streams {
					b.Fatalf("%d are due", len(due))
				}
				j.settle(due)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(streams), "ns/stream")
		})
	}
}

func storageClientOf(b *testing.B, ext storage.Extension) storage.Client {
	b.Helper()
	client, err := ext.GetClient(b.Context(), component.KindExporter, component.MustNewID("librato"), "")
	require.NoError(b, err)
	return client
}

// counting is a storage client that counts its transactions.
type counting struct {
	storage.Client
	storage.Walker
	transactions int
}

func (c *counting) Batch(ctx context.Context, ops ...*storage.Operation) error {
	c.transactions++ // one writer at a time
	return c.Client.Batch(ctx, ops...)
}

// A call of one event with the storage that collectors use, from one caller and from many at a time.
func BenchmarkCommit(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			cfg := validConfig()
			withStorage(cfg)
			j := memoryJournal(b, cfg)
			client := storageClientOf(b, fileStorage(b))
			c := &counting{Client: client, Walker: client.(storage.Walker)}
			require.NoError(b, j.open(b.Context(), c, noon.UnixNano()))
			defer func() { require.NoError(b, j.close(context.Background())) }()
			var left, id atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for caller := range callers {
				wg.Go(func() {
					samples := eventSamples(callers)[caller : caller+1]
					for left.Add(-1) >= 0 {
						samples[0].id = hashed(uint64(id.Add(1)))
						if err := j.take(samples, noon.UnixNano()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/float64(c.transactions), "calls/transaction")
		})
	}
}

// Reading 100,000 increments after a restart.
func BenchmarkRecover(b *testing.B) {
	const streams = 100_000
	cfg := validConfig()
	withStorage(cfg)
	cfg.MaxStreams = streams
	ext := fileStorage(b)
	j := memoryJournal(b, cfg)
	require.NoError(b, j.open(b.Context(), storageClientOf(b, ext), noon.UnixNano()))
	require.NoError(b, j.take(eventSamples(streams), noon.UnixNano()))
	require.NoError(b, j.close(b.Context()))
	b.ReportAllocs()
	for b.Loop() {
		j = memoryJournal(b, cfg)
		require.NoError(b, j.open(b.Context(), storageClientOf(b, ext), noon.UnixNano()))
		b.StopTimer()
		require.Equal(b, streams, j.count())
		require.NoError(b, j.close(b.Context()))
		b.StartTimer()
	}
}

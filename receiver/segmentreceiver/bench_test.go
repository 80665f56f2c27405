// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelcol-segment/otelcol-segment/internal/idset"
	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

// benchBatch returns a batch as @segment/analytics-node 3 sends it, about 690 bytes an event.
func benchBatch(events int) []byte {
	names := []string{"Order Completed", "Signed Up", "Product Viewed", "Checkout Started", "invoice.paid"}
	var b strings.Builder
	b.WriteString(`{"batch":[`)
	for i := range events {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"timestamp":"2026-05-04T03:02:%02d.%03dZ","integrations":{},"userId":"507f191e810c19729de860ea","event":%q,`+
			`"properties":{"value":%d.5,"currency":"EUR","plan":"Enterprise","path":"/checkout/confirmation?step=3","products":[{"sku":"G-32","name":"Monopoly: 3rd Edition","price":19,"quantity":1},{"sku":"F-32","name":"UNO","price":4.5,"quantity":2}]},`+
			`"context":{"Librato":{"source":"web-%d.example.com"},"ip":"203.0.113.7","userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36","library":{"name":"@segment/analytics-node","version":"3.1.0"}},`+
			`"type":"track","messageId":"node-next-000000%07d-6f3a2b1c-8d4e-4f5a-9b7c-0123456789ab","writeKey":"abcdefghijklmnopqrstuvwxyz","_metadata":{"nodeVersion":"20.19.2","jsRuntime":"node"}}`,
			i%60, i%1000, names[i%len(names)], i%100, i%8, i)
	}
	b.WriteString(`],"sentAt":"2026-05-04T03:02:59.999Z","writeKey":"abcdefghijklmnopqrstuvwxyz"}`)
	return []byte(b.String())
}

var benchSizes = []int{1, 100, 729}

func BenchmarkDecodeBatch(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			body := benchBatch(n)
			body = append(make([]byte, 0, len(body)+len(padding)), body...)
			r := newReading(keepNothing)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := r.take(body, shapeBatch, callUnknown); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/event")
		})
	}
}

// BenchmarkDecodeRecorded reads the recorded batch of 100 events that bench/candidates gives to JSON libraries.
func BenchmarkDecodeRecorded(b *testing.B) {
	raw, err := os.ReadFile("../../bench/testdata/batch.http")
	require.NoError(b, err)
	_, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	require.True(b, ok)
	body = append(make([]byte, 0, len(body)+len(padding)), body...)
	r := newReading(keepNothing)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := r.take(body, shapeBatch, callUnknown); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(r.events)), "ns/event")
}

func BenchmarkMetricsBuilder(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			r := newReading(keepNothing)
			require.Nil(b, r.take(benchBatch(n), shapeBatch, callUnknown))
			builder := newTestBuilder(r)
			b.ReportAllocs()
			for b.Loop() {
				builder.build(r.events, r.properties, nil)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/event")
		})
	}
}

// BenchmarkDeduplicator has batches of a hundred new ids evict the oldest of a million: with the caches to itself, and
// with work in between that leaves nothing in them but the last level, as a collector's does.
func BenchmarkDeduplicator(b *testing.B) {
	const n = 100
	work := make([]uint64, 4<<20/8)
	for name, size := range map[string]int{"alone": 0, "between": len(work)} {
		b.Run(name, func(b *testing.B) {
			dedup := newDeduplicator(4*time.Hour, 1_000_000)
			random := rand.New(rand.NewPCG(1, 2))
			events := make([]event, n)
			var c claim
			now, spent := time.Now(), time.Duration(0)
			timed := func(f func()) {
				for i := 0; i < size; i += 8 {
					work[i]++
				}
				start := time.Now()
				f()
				spent += time.Since(start)
			}
			batch := func() {
				for i := range events {
					events[i].hash = random.Uint64()
				}
				timed(func() { dedup.claim(&c, events, now) })
				timed(func() { dedup.commit(&c, now) })
			}
			for range 15_000 {
				batch()
			}
			spent = 0
			b.ReportAllocs()
			for b.Loop() {
				batch()
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N)/n, "ns/event")
		})
	}
}

// BenchmarkHTTP is the whole receiver over a connection, the client included.
func BenchmarkHTTP(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("receiver/events=%d", n), func(b *testing.B) {
			cfg := createDefaultConfig().(*Config)
			cfg.NetAddr.Endpoint = "localhost:0"
			cfg.Deduplication.Enabled = false // the same body again and again
			r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), consumertest.NewNop())
			require.NoError(b, err)
			require.NoError(b, r.Start(b.Context(), componenttest.NewNopHost()))
			benchPost(b, "http://"+r.listener.Addr().String()+"/v1/batch", n)
			require.NoError(b, r.Shutdown(b.Context()))
		})
	}
}

func benchPost(b *testing.B, url string, events int) {
	body := benchBatch(events)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		resp, err := client.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status)
		}
	}
}

// BenchmarkGzip compares the receiver's reader with the one that confighttp makes for each request.
func BenchmarkGzip(b *testing.B) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := w.Write(benchBatch(100))
	require.NoError(b, err)
	require.NoError(b, w.Close())
	for name, open := range map[string]func(io.ReadCloser) (io.ReadCloser, error){
		"pooled":   newGzipReader,
		"standard": func(body io.ReadCloser) (io.ReadCloser, error) { return gzip.NewReader(body) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(zipped.Len()))
			b.ReportAllocs()
			for b.Loop() {
				r, err := open(io.NopCloser(bytes.NewReader(zipped.Bytes())))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, r)
				_ = r.Close()
			}
		})
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	body := benchBatch(100)
	body = append(make([]byte, 0, len(body)+len(padding)), body...)
	r := newReading()
	dedup := newDeduplicator(time.Hour, 1000)
	var c claim
	var hasher idset.Hasher
	steady := func() {
		if err := r.take(body, shapeBatch, callUnknown); err != nil {
			t.Fatal(err)
		}
		hasher.SetKey(r.key)
		for i := range r.events {
			r.events[i].hash = hasher.Secret(r.events[i].id)
		}
		dedup.claim(&c, r.events, testReceived)
		dedup.commit(&c, testReceived)
	}
	steady()
	require.Zero(t, testing.AllocsPerRun(100, steady))
	require.Len(t, r.events, 100)
}

// TestMetricsAllocations keeps what pdata costs where it was measured: five allocations an event, whatever the names.
func TestMetricsAllocations(t *testing.T) {
	allocations := func(n int) float64 {
		r := newReading(keepNothing)
		require.Nil(t, r.take(benchBatch(n), shapeBatch, callUnknown))
		builder := newTestBuilder(r)
		return testing.AllocsPerRun(100, func() { builder.build(r.events, r.properties, nil) })
	}
	require.LessOrEqual(t, (allocations(500)-allocations(100))/400, 5.0)
}

func hashOf(key, id string) uint64 {
	var h idset.Hasher
	h.SetKey([]byte(key))
	return h.Hash([]byte(id))
}

// BenchmarkHandle is the receiver without the HTTP server around it.
func BenchmarkHandle(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			cfg := createDefaultConfig().(*Config)
			withKeys("abcdefghijklmnopqrstuvwxyz")(cfg)
			r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), consumertest.NewNop())
			require.NoError(b, err)
			body := benchBatch(n)
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/v1/batch", http.NoBody)
			require.NoError(b, err)
			req.ContentLength = int64(len(body))
			req.SetBasicAuth("abcdefghijklmnopqrstuvwxyz", "")
			w := &recorder{header: http.Header{}}
			i := 0
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				i++
				renumber(body, i)
				req.Body = io.NopCloser(bytes.NewReader(body))
				w.Reset()
				r.handle(w, req)
			}
			require.JSONEq(b, `{"success":true}`, w.String())
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/event")
		})
	}
}

// renumber changes all message ids of a batch of benchBatch, so that it is no repeat.
func renumber(body []byte, n int) {
	mark := []byte("node-next-")
	for {
		i := bytes.Index(body, mark)
		if i < 0 {
			return
		}
		body = body[i+len(mark):]
		copy(body, fmt.Sprintf("%06d", n%1_000_000))
	}
}

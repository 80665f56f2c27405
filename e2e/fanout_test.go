// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// This file holds the examples that send events to Librato and elsewhere to what they promise: what arrives where, and
// what a client is told when one of the two refuses, is away, or is slow.

// example returns one of the examples with the addresses of a test, a tick each second, and further replacements.
func example(t *testing.T, name string, replacements ...string) string {
	t.Helper()
	replacements = append(replacements,
		"endpoint: 0.0.0.0:8080", "endpoint: ${env:SEGMENT_ADDR}",
		"    email: ${env:LIBRATO_EMAIL}\n    token: ${env:LIBRATO_TOKEN}\n",
		"    email: e2e@example.com\n    token: e2e\n    endpoint: ${env:LIBRATO_ENDPOINT}\n    flush_interval: 1s\n")
	config, err := os.ReadFile(filepath.Join("../examples", name))
	require.NoError(t, err)
	for i := 0; i < len(replacements); i += 2 {
		require.Contains(t, string(config), replacements[i])
	}
	return strings.NewReplacer(replacements...).Replace(string(config))
}

// otlpBackend takes OTLP over HTTP. It adds up deltas, and keeps the last of cumulative values for each start time.
type otlpBackend struct {
	addr string
	http *http.Server

	mu     sync.Mutex
	delay  time.Duration
	deltas totals
	lasts  map[start]total
	fallen []start // counters that fell
}

// start is one life of a counter.
type start struct {
	counter
	at pcommon.Timestamp
}

func startOTLPBackend(t *testing.T) *otlpBackend {
	t.Helper()
	b := &otlpBackend{addr: freeAddr(t), deltas: totals{}, lasts: map[start]total{}}
	b.up(t)
	t.Cleanup(b.down)
	return b
}

func (b *otlpBackend) up(t *testing.T) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", b.addr)
	require.NoError(t, err)
	b.http = &http.Server{Handler: b, ReadHeaderTimeout: time.Minute}
	go func(server *http.Server) { _ = server.Serve(l) }(b.http) // ends with ErrServerClosed
}

func (b *otlpBackend) down() { _ = b.http.Close() }

// slow makes each further request take that long.
func (b *otlpBackend) slow(delay time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delay = delay
}

func (b *otlpBackend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	delay := b.delay
	b.mu.Unlock()
	time.Sleep(delay)
	body, err := gzip.NewReader(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	raw, err := io.ReadAll(body)
	request := pmetricotlp.NewExportRequest()
	if err == nil {
		err = request.UnmarshalProto(raw)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, resource := range request.Metrics().ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				b.take(metric)
			}
		}
	}
	answer, _ := pmetricotlp.NewExportResponse().MarshalProto() // of an empty message
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(answer) // a client that went will send it again
}

func (b *otlpBackend) take(metric pmetric.Metric) {
	for _, point := range metric.Histogram().DataPoints().All() {
		attribute := func(name string) string {
			value, ok := point.Attributes().Get(name)
			if !ok {
				return ""
			}
			return value.Str()
		}
		if metric.Histogram().AggregationTemporality() == pmetric.AggregationTemporalityDelta {
			b.deltas.add(metric.Name(), attribute("source"), point.Sum())
			continue
		}
		at := start{counter{attribute("event"), attribute("source"), attribute("negative") == "true"}, point.StartTimestamp()}
		last, now := b.lasts[at], total{point.Count(), point.Sum()}
		if now.count < last.count || now.sum < last.sum {
			b.fallen = append(b.fallen, at)
		}
		b.lasts[at] = now
	}
}

// added returns the sum of all deltas, as the totals of Librato's names.
func (b *otlpBackend) added() totals {
	b.mu.Lock()
	defer b.mu.Unlock()
	ts := totals{}
	for s, t := range b.deltas {
		ts[stream{librato.CleanEventName(s.name), s.source}] = t
	}
	return ts
}

// counted returns what the counters count over all their lives, as the totals of Librato's names.
func (b *otlpBackend) counted() totals {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := counters{}
	for s, last := range b.lasts {
		found[s.counter] = total{found[s.counter].count + last.count, found[s.counter].sum + last.sum}
	}
	return found.totals()
}

// totals returns what Librato has for the same events.
func (cs counters) totals() totals {
	ts := totals{}
	for c, t := range cs {
		if c.negative {
			t.sum = -t.sum
		}
		s := stream{librato.CleanEventName(c.event), c.source}
		ts[s] = total{ts[s].count + t.count, ts[s].sum + t.sum}
	}
	return ts
}

// eventually waits until a backend has exactly want.
func eventually(t *testing.T, want totals, has func() totals) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { assert.Equal(c, want, has()) }, arriveTimeout, 50*time.Millisecond)
}

// fanOutEvent is the n-th event of a test, and where it counts in Librato.
func fanOutEvent(n int) (body string, s stream, value float64) {
	source, value := fmt.Sprintf("web-%d", n%3), float64(n%7-2)
	return fmt.Sprintf(`{"event":"Fanned Out","messageId":"id-%d","properties":{"value":%v},"context":{"Librato":{"source":%q}}}`,
		n, value, source), stream{"Fanned-Out", source}, value
}

// TestOTLPBackend sends events to Librato, and to backends that add up deltas and that keep the last value. The first is
// away while the collector starts again.
func TestOTLPBackend(t *testing.T) {
	service, adds, keeps := startLibrato(t), startOTLPBackend(t), startOTLPBackend(t)
	c := startCollector(t, otlpExample(t), append(service.env(),
		"OTLP_DELTA_ENDPOINT=http://"+adds.addr, "OTLP_CUMULATIVE_ENDPOINT=http://"+keeps.addr)...)
	want := totals{}
	var mu sync.Mutex
	send := func(from, to int) {
		var clients sync.WaitGroup
		for client := range 12 {
			clients.Go(func() {
				for n := from + client; n < to; n += 12 {
					body, s, value := fanOutEvent(n)
					status, answer, err := post(t.Context(), c.segment+"/v1/track", "key", body)
					if !assert.Equal(t, http.StatusOK, status, "%s %v", answer, err) {
						return
					}
					mu.Lock()
					want.add(s.name, s.source, value)
					mu.Unlock()
				}
			})
		}
		clients.Wait()
	}
	send(0, 600)
	adds.down()
	send(600, 900)
	c.stop(t)
	c.start(t)
	adds.up(t)
	send(900, 1500)
	service.eventually(t, want)
	eventually(t, want, adds.added)
	eventually(t, want, keeps.counted)
	assert.Empty(t, keeps.fallen)
}

// otlpExample is examples/otlp-backend.yaml with counters each second.
func otlpExample(t *testing.T, replacements ...string) string {
	t.Helper()
	return example(t, "otlp-backend.yaml", append(replacements, "interval: 10s", "interval: 1s")...)
}

// A second destination that is away: what it misses waits in a queue, or is left to a counter's later values. Only in
// fan-out.yaml clients are told when the queue is full, and repeat. Librato has every event all the while.
func TestSecondDestinationIsAway(t *testing.T) {
	const smallQueue = "sending_queue:\n      queue_size: 5\n      sizer: requests\n"
	for name, tt := range map[string]struct {
		holdsUp bool // clients, once its queue is full
		run     func(t *testing.T, service *libratoService) (c *collector, down func(), up func(), has func() totals)
	}{
		"fan-out.yaml": {true, func(t *testing.T, service *libratoService) (*collector, func(), func(), func() totals) {
			theirs := startLibrato(t)
			second := startCollector(t, aggregator, theirs.env()...)
			c := startCollector(t, example(t, "fan-out.yaml", "sending_queue:\n", smallQueue, "max_elapsed_time: 0 # for ever",
				"max_elapsed_time: 0\n      max_interval: 1s"), append(service.env(), "OTLP_ENDPOINT="+second.otlp)...)
			return c, func() { second.stop(t) }, func() { second.start(t) }, func() totals { return theirs.totals(t) }
		}},
		"otlp-backend.yaml, delta": {false, func(t *testing.T, service *libratoService) (*collector, func(), func(), func() totals) {
			backend, other := startOTLPBackend(t), startOTLPBackend(t)
			c := startCollector(t, otlpExample(t, "max_elapsed_time: 0 # for ever", "max_elapsed_time: 0\n      max_interval: 1s"),
				append(service.env(), "OTLP_DELTA_ENDPOINT=http://"+backend.addr, "OTLP_CUMULATIVE_ENDPOINT=http://"+other.addr)...)
			return c, backend.down, func() { backend.up(t) }, backend.added
		}},
		"otlp-backend.yaml, cumulative": {false, func(t *testing.T, service *libratoService) (*collector, func(), func(), func() totals) {
			delta, backend := startOTLPBackend(t), startOTLPBackend(t)
			c := startCollector(t, otlpExample(t,
				"sending_queue:\n      num_consumers", "retry_on_failure: {enabled: false}\n    "+smallQueue+"      num_consumers"),
				append(service.env(), "OTLP_DELTA_ENDPOINT=http://"+delta.addr, "OTLP_CUMULATIVE_ENDPOINT=http://"+backend.addr)...)
			return c, backend.down, func() { backend.up(t) }, backend.counted
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := startLibrato(t)
			c, down, up, has := tt.run(t, service)
			down()
			want := totals{}
			var waiting sync.WaitGroup
			var refused []int // by event, how often
			for n := range 40 {
				body, s, value := fanOutEvent(n)
				want.add(s.name, s.source, value)
				status, answer, err := post(t.Context(), c.segment+"/v1/track", "key", body)
				if status == http.StatusOK {
					continue
				}
				require.Equal(t, http.StatusServiceUnavailable, status, "%s %v", answer, err)
				refused = append(refused, n)
				waiting.Go(func() { untilTaken(t, c, body) })
			}
			assert.Equal(t, tt.holdsUp, len(refused) > 0, "clients that were told 503: %v", refused)
			service.eventually(t, want)

			up()
			waiting.Wait()
			if !tt.holdsUp { // later values
				for n := 40; n < 82; n++ { // of each counter
					body, s, value := fanOutEvent(n)
					untilTaken(t, c, body)
					want.add(s.name, s.source, value)
				}
			}
			eventually(t, want, has)
			service.eventually(t, want)
		})
	}
}

// untilTaken sends an event as SDKs do, again and again, and returns how often it was refused.
func untilTaken(t *testing.T, c *collector, body string) (refused int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), arriveTimeout)
	defer cancel()
	for {
		status, answer, err := post(ctx, c.segment+"/v1/track", "key", body)
		if status == http.StatusOK {
			return refused
		}
		if !assert.Equal(t, http.StatusServiceUnavailable, status, "%s %v", answer, err) {
			return refused
		}
		refused++
		time.Sleep(200 * time.Millisecond) // as clients wait
	}
}

// A second destination that takes seconds for each request keeps nobody waiting.
func TestSecondDestinationIsSlow(t *testing.T) {
	service, backend := startLibrato(t), startOTLPBackend(t)
	backend.slow(3 * time.Second)
	c := startCollector(t, otlpExample(t), append(service.env(),
		"OTLP_DELTA_ENDPOINT=http://"+backend.addr, "OTLP_CUMULATIVE_ENDPOINT=http://"+backend.addr)...)
	want := totals{}
	begun := time.Now()
	for n := range 20 {
		body, s, value := fanOutEvent(n)
		untilTaken(t, c, body)
		want.add(s.name, s.source, value)
	}
	assert.Less(t, time.Since(begun), 3*time.Second, "20 events, one after the other")
	service.eventually(t, want)
	eventually(t, want, backend.added)
	eventually(t, want, backend.counted)
}

// Librato's exporter refuses what is beyond its bounds. The client repeats until it takes the event, and what the others
// took meanwhile counts there again: only this exporter knows ids, here and in a second collector.
func TestLibratoRefuses(t *testing.T) {
	const full = "flush_interval: 1s\n    max_streams: 1\n    max_increments: 1\n    gauges: {period: 10s}\n    retry_on_failure: {initial_interval: 1s, max_interval: 1s}"
	again := func(want totals, s stream, value float64, times int) totals {
		ts := maps.Clone(want)
		for range times {
			ts.add(s.name, s.source, value)
		}
		return ts
	}
	for name, tt := range map[string]struct {
		knowsIDs bool
		run      func(t *testing.T, service *libratoService) (c *collector, has func() totals)
	}{
		"fan-out.yaml": {true, func(t *testing.T, service *libratoService) (*collector, func() totals) {
			theirs := startLibrato(t)
			second := startCollector(t, aggregator, theirs.env()...)
			c := startCollector(t, strings.Replace(example(t, "fan-out.yaml"), "flush_interval: 1s", full, 1),
				append(service.env(), "OTLP_ENDPOINT="+second.otlp)...)
			return c, func() totals { return theirs.totals(t) }
		}},
		"otlp-backend.yaml, delta": {false, func(t *testing.T, service *libratoService) (*collector, func() totals) {
			delta, cumulative := startOTLPBackend(t), startOTLPBackend(t)
			c := startCollector(t, strings.Replace(otlpExample(t), "flush_interval: 1s", full, 1), append(service.env(),
				"OTLP_DELTA_ENDPOINT=http://"+delta.addr, "OTLP_CUMULATIVE_ENDPOINT=http://"+cumulative.addr)...)
			return c, delta.added
		}},
		"otlp-backend.yaml, cumulative": {false, func(t *testing.T, service *libratoService) (*collector, func() totals) {
			delta, cumulative := startOTLPBackend(t), startOTLPBackend(t)
			c := startCollector(t, strings.Replace(otlpExample(t), "flush_interval: 1s", full, 1), append(service.env(),
				"OTLP_DELTA_ENDPOINT=http://"+delta.addr, "OTLP_CUMULATIVE_ENDPOINT=http://"+cumulative.addr)...)
			return c, cumulative.counted
		}},
		"prometheus.yaml": {false, func(t *testing.T, service *libratoService) (*collector, func() totals) {
			scraped := freeAddr(t)
			c := startCollector(t, strings.Replace(example(t, "prometheus.yaml", "0.0.0.0:9464", scraped), "flush_interval: 1s", full, 1),
				service.env()...)
			return c, func() totals { return exposed(t, scraped).totals() }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := startLibrato(t)
			c, has := tt.run(t, service)
			service.down()
			want := totals{}
			body, s, value := fanOutEvent(3)
			require.Zero(t, untilTaken(t, c, body))
			want.add(s.name, s.source, value)

			// Of another period: one increment too many.
			body = strings.Replace(body, "id-3", "id-4", 1)
			body = strings.Replace(body, "{", fmt.Sprintf(`{"timestamp":%q,`, time.Now().Add(-15*time.Second).UTC().Format(time.RFC3339)), 1)
			want.add(s.name, s.source, value)
			for range 3 {
				status, answer, err := post(t.Context(), c.segment+"/v1/track", "key", body)
				require.Equal(t, http.StatusServiceUnavailable, status, "%s %v", answer, err)
			}
			service.up(t)
			refused := 3 + untilTaken(t, c, body)
			service.eventually(t, want)
			if tt.knowsIDs {
				refused = 0
			}
			eventually(t, again(want, s, value, refused), has)
		})
	}
}

// exposed returns the counters that the prometheus exporter shows.
func exposed(t *testing.T, addr string) counters {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics") //nolint:noctx // on loopback
	require.NoError(t, err)
	defer resp.Body.Close()
	found := counters{}
	line := regexp.MustCompile(`^segment_events_(count|sum)\{event="(.*?)",(negative="true",)?source="(.*?)"\} (.*)$`)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		match := line.FindStringSubmatch(lines.Text())
		if match == nil {
			continue
		}
		value, err := strconv.ParseFloat(match[5], 64)
		require.NoError(t, err)
		c := counter{match[2], match[4], match[3] != ""}
		of := found[c]
		if match[1] == "count" {
			of.count = uint64(math.Round(value))
		} else {
			of.sum = value
		}
		found[c] = of
	}
	return found
}

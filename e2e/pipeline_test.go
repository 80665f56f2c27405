// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

// TestOutage takes Librato away while events arrive, and brings it back: every acknowledged event arrives, and neither the
// outage nor its end costs more requests than there are ticks and streams.
func TestOutage(t *testing.T) {
	service := startLibrato(t)
	c := startCollector(t, segmentToLibrato, service.env()...)

	const streams = 50
	var (
		mu   sync.Mutex
		want = totals{}
		stop = make(chan struct{})
		wg   sync.WaitGroup
	)
	for worker := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				source := fmt.Sprintf("host-%d", (worker+4*n)%streams)
				body := fmt.Sprintf(`{"event":"Load","messageId":"%d-%d","properties":{"value":%d},"context":{"Librato":{"source":%q}}}`,
					worker, n, n%7, source)
				status, answer, err := post(t.Context(), c.segment+"/v1/track", "e2e-key", body)
				if !assert.Equal(t, http.StatusOK, status, "%s %v", answer, err) {
					return
				}
				mu.Lock()
				want.add("Load", source, float64(n%7))
				mu.Unlock()
				time.Sleep(time.Millisecond) // a load, not a benchmark: the machine has other tests to run
			}
		})
	}
	phase := func(d time.Duration) { time.Sleep(d) } // there is no event to wait for: time under load is what is tested
	phase(3 * time.Second)
	service.down()
	phase(6 * time.Second)
	back := time.Now()
	service.up(t)
	phase(5 * time.Second)
	close(stop)
	wg.Wait()
	service.eventually(t, want)

	// One tick posts all 50 streams in one request. After an outage a probe comes first, and what waited follows: a period
	// that ended meanwhile has one more increment a stream.
	perSecond := map[int64]int{}
	for _, req := range service.Posts() {
		perSecond[req.Time.Unix()]++
		assert.LessOrEqual(t, req.Measurements, 300)
	}
	for second, n := range perSecond {
		assert.LessOrEqual(t, n, 3, "posts in the second %d, %d after Librato came back", second, second-back.Unix())
	}
	assert.Zero(t, service.Stats().Replaced, "no value may take another's place")
}

const fanOut = `
receivers:
  segment:
    endpoint: ${env:SEGMENT_ADDR}
    deduplication: {forward_ids: true}
exporters:
  librato:
    endpoint: ${env:LIBRATO_ENDPOINT}
    email: e2e@example.com
    token: e2e
    flush_interval: 1s
    storage: file_storage
  file:
    path: ${env:STATE_DIRECTORY}.jsonl
extensions:
  file_storage: {directory: "${env:STATE_DIRECTORY}", create_directory: true}
service:
  extensions: [file_storage]
  pipelines:
    metrics: {receivers: [segment], exporters: [librato, file]}
`

// TestFanOut sends the same events to Librato and to a file.
func TestFanOut(t *testing.T) {
	service := startLibrato(t)
	c := startCollector(t, fanOut, service.env()...)
	want := totals{}
	for n := range 10 {
		status, answer, err := post(t.Context(), c.segment+"/v1/track", "key",
			fmt.Sprintf(`{"event":"Fan Out","messageId":"id-%d","properties":{"value":%d}}`, n%5, n%5))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status, answer)
		if n < 5 { // the others repeat what was taken
			want.add("Fan-Out", "Fan-Out", float64(n))
		}
	}
	service.eventually(t, want)
	c.stop(t)
	file, err := os.ReadFile(filepath.Clean(c.stateDirectory() + ".jsonl"))
	require.NoError(t, err)
	assert.Equal(t, 5, bytes.Count(file, []byte(`"name":"Fan Out"`)), "%s", file)
}

// The two tiers: a gateway that only receives, and a collector that adds up. In between, the events are OTLP.
const (
	gateway = `
receivers:
  segment:
    endpoint: ${env:SEGMENT_ADDR}
    deduplication: {forward_ids: true}
exporters:
  otlp_http:
    endpoint: ${env:AGGREGATOR}
    compression: none
    sending_queue: {enabled: false}
    retry_on_failure: {enabled: false}
service:
  pipelines:
    metrics: {receivers: [segment], exporters: [otlp_http]}
`
	// The receiver segment tells the harness that the collector runs, and that both kinds of metrics can meet.
	aggregator = `
receivers:
  segment:
    endpoint: ${env:SEGMENT_ADDR}
  otlp:
    protocols:
      http: {endpoint: "${env:OTLP_ADDR}"}
exporters:
  librato:
    endpoint: ${env:LIBRATO_ENDPOINT}
    email: e2e@example.com
    token: e2e
    flush_interval: 1s
service:
  pipelines:
    metrics: {receivers: [segment, otlp], exporters: [librato]}
`
)

// TestAgreement holds the receiver and the exporter, which do not know each other, to the three constants that they share:
// between two collectors, what one receiver forwards adds up (its scope name), keeps its source (the attribute source),
// and is recognised when the same message reaches another receiver (the exemplar attribute).
func TestAgreement(t *testing.T) {
	service := startLibrato(t)
	adds := startCollector(t, aggregator, service.env()...)
	first := startCollector(t, gateway, "AGGREGATOR="+adds.otlp)
	second := startCollector(t, gateway, "AGGREGATOR="+adds.otlp)

	// All of the same second: without the scope name they would average, or the later ones be refused.
	timestamp := time.Now().UTC().Format(time.RFC3339)
	want := totals{}
	for n := range 6 {
		to := first
		if n%2 == 1 {
			to = second
		}
		body := fmt.Sprintf(`{"event":"Order: Paid","messageId":"m-%d","timestamp":%q,"properties":{"value":%d},"context":{"Librato":{"source":"web-1:80"}}}`,
			n/2, timestamp, n/2+1)
		status, answer, err := post(t.Context(), to.segment+"/v1/track", "key", body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status, answer)
		if n%2 == 0 {
			want.add("Order--Paid", "web-1:80", float64(n/2+1))
		}
	}
	service.eventually(t, want)
	adds.stop(t)
	assert.Equal(t, want, service.totals(t))
}

// TestTakenWithoutAnswer loses answers and delays posts beyond the client's patience, with what exact counting needs set.
func TestTakenWithoutAnswer(t *testing.T) {
	service := startLibrato(t)
	service.Fail(
		libratoserver.Failure{Apply: libratoserver.ApplyNow},
		libratoserver.Failure{Status: http.StatusServiceUnavailable, RetryAfter: "1", Apply: libratoserver.ApplyNow},
		libratoserver.Failure{Apply: libratoserver.ApplyLater},
	)
	config := strings.Replace(fanOut, "storage: file_storage", "storage: file_storage\n    gauges: {service_side_aggregation: false}", 1)
	require.NotEqual(t, fanOut, config)
	c := startCollector(t, config, service.env()...)
	want := totals{}
	for n := range 40 {
		status, answer, err := post(t.Context(), c.segment+"/v1/track", "key",
			fmt.Sprintf(`{"event":"Lost Answers","messageId":"id-%d","properties":{"value":%d}}`, n, n))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status, answer)
		want.add("Lost-Answers", "Lost-Answers", float64(n))
		time.Sleep(50 * time.Millisecond) // spreads the events over several ticks
	}
	service.eventually(t, want)
	assert.Zero(t, service.Failures(), "every failure was met")
}

// TestLoadBalancing runs examples/load-balancing: one gateway and two aggregating collectors.
func TestLoadBalancing(t *testing.T) {
	needLargeBinary(t)
	read := func(name string, replacements ...string) string {
		text, err := os.ReadFile(filepath.Join("../examples/load-balancing", name))
		require.NoError(t, err)
		for i := 0; i < len(replacements); i += 2 {
			require.Contains(t, string(text), replacements[i])
		}
		return strings.NewReplacer(replacements...).Replace(string(text))
	}
	service := startLibrato(t)
	env := append(service.env(), "LIBRATO_EMAIL=e2e@example.com", "LIBRATO_TOKEN=e2e")
	config := read("aggregator.yaml",
		"endpoint: 0.0.0.0:4317", "endpoint: ${env:OTLP_ADDR}",
		"    email:", "    endpoint: ${env:LIBRATO_ENDPOINT}\n    flush_interval: 1s\n    email:")
	first, second := startBinary(t, largeBinary, config, env...), startBinary(t, largeBinary, config, env...)
	c := startBinary(t, largeBinary, read("gateway.yaml",
		"endpoint: 0.0.0.0:8080", "endpoint: ${env:SEGMENT_ADDR}",
		`dns:
        hostname: ${env:AGGREGATORS:-aggregators.example.com}
        port: "4317"`,
		fmt.Sprintf("static: {hostnames: [%q, %q]}", first.ready, second.ready)))

	want := totals{}
	for n := range 60 {
		source := fmt.Sprintf("host-%d", n%10)
		body := fmt.Sprintf(`{"event":"Routed","messageId":"m-%d","properties":{"value":%d},"context":{"Librato":{"source":%q}}}`, n, n, source)
		status, answer, err := post(t.Context(), c.segment+"/v1/track", "key", body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status, answer)
		want.add("Routed", source, float64(n))
	}
	service.eventually(t, want)
	for _, req := range service.Posts() {
		assert.Less(t, req.Measurements, 10, "each aggregating collector has only some of the streams")
	}
}

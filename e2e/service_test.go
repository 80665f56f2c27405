// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

// patient is segmentToLibrato with a back-off that a test can wait for.
var patient = strings.Replace(segmentToLibrato, "flush_interval: 1s",
	"flush_interval: 1s\n    retry_on_failure: {initial_interval: 200ms, max_interval: 1s}", 1)

// TestServiceRefusesEverything has Librato, or what stands before it, answer all posts with what is about none of them, for six
// seconds. Nothing is lost, whatever is open is not tried again and again, and it all arrives once that is over.
func TestServiceRefusesEverything(t *testing.T) {
	t.Parallel()
	const page = "<html><body>Please log in</body></html>"
	for name, failure := range map[string]libratoserver.Failure{
		"429 about the request":              {Status: http.StatusTooManyRequests, Body: `{"errors":{"request":["Rate exceeded"]}}`},
		"429 about the request, Retry-After": {Status: http.StatusTooManyRequests, Body: `{"errors":{"request":["Rate exceeded"]}}`, RetryAfter: "1"},
		"429 of another form":                {Status: http.StatusTooManyRequests, Body: `["slow down"]`},
		"400 about the account":              {Status: http.StatusBadRequest, Body: `{"errors":{"request":["account is suspended"]}}`},
		"403 about the account":              {Status: http.StatusForbidden, Body: `{"errors":{"request":["account is suspended"]}}`},
		"404 of a proxy":                     {Status: http.StatusNotFound, Body: page, HTML: true},
		"a page with status 200":             {Status: http.StatusOK, Body: page, HTML: true},
		"a page with status 202":             {Status: http.StatusAccepted, Body: page, HTML: true},
		"a page with status 502":             {Status: http.StatusBadGateway, Body: page, HTML: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := startLibrato(t)
			c := startCollector(t, patient, service.env()...)
			const streams, during = 40, 6 * time.Second
			want := totals{}
			send := func(n int) {
				source := fmt.Sprintf("host-%d", n%streams)
				status, answer, err := post(t.Context(), c.segment+"/v1/track", "e2e-key",
					fmt.Sprintf(`{"event":"Kept","messageId":"m-%d","properties":{"value":%d},"context":{"Librato":{"source":%q}}}`, n, n%7, source))
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, status, answer)
				want.add("Kept", source, float64(n%7))
			}
			failure.Times = -1
			service.Fail(failure)
			n := 0
			for begin := time.Now(); time.Since(begin) < during; time.Sleep(10 * time.Millisecond) { // time under load is what is tested
				send(n)
				n++
			}
			posts := len(service.Posts())
			assert.LessOrEqual(t, posts, 60*int(during.Seconds()), "posts while everything is refused")
			assert.Positive(t, posts)
			service.ClearFailures()
			for range streams {
				send(n)
				n++
			}
			service.eventually(t, want)
		})
	}
}

const measurementsAPI = `
receivers:
  segment:
    endpoint: ${env:SEGMENT_ADDR}
exporters:
  librato:
    endpoint: ${env:LIBRATO_ENDPOINT}
    email: e2e@example.com
    token: e2e
    api: measurements
    flush_interval: 1s
service:
  telemetry:
    metrics:
      readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: "${env:METRICS_PORT}"}}}}]
  pipelines:
    metrics: {receivers: [segment], exporters: [librato]}
`

// TestServiceNamesMany has Librato take one measurement of a thousand and name each of the others in an answer of more than
// 100 kB. What it refused is counted, nothing is posted twice, and what comes later arrives.
func TestServiceNamesMany(t *testing.T) {
	t.Parallel()
	service := startLibrato(t)
	metrics := freeAddr(t)
	_, port, _ := strings.Cut(metrics, ":")
	c := startCollector(t, measurementsAPI, append(service.env(), "METRICS_PORT="+port)...)
	const streams = 1000
	service.Fail(libratoserver.Failure{
		Status: http.StatusAccepted, Apply: libratoserver.ApplyPart, Take: 1, Times: -1,
		Reason: "is not valid: " + strings.Repeat("long ", 10),
	})
	batch := func() {
		messages := make([]string, streams)
		for i := range messages {
			messages[i] = fmt.Sprintf(`{"type":"track","event":"Named %d"}`, i)
		}
		status, answer, err := post(t.Context(), c.segment+"/v1/batch", "key", `{"batch":[`+strings.Join(messages, ",")+`]}`)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status, answer)
	}
	batch()
	require.Eventually(t, func() bool { return len(service.totals(t)) == 1 }, arriveTimeout, 20*time.Millisecond)
	require.Eventually(t, func() bool {
		refused, _ := scrape(t.Context(), metrics, "exporter_librato_measurements_refused")
		return refused == streams-1
	}, arriveTimeout, 100*time.Millisecond)
	service.ClearFailures()
	batch()
	require.Eventually(t, func() bool { return len(service.totals(t)) == streams }, arriveTimeout, 100*time.Millisecond)
	sum := uint64(0)
	for _, total := range service.totals(t) {
		sum += total.count
	}
	assert.Equal(t, uint64(streams+1), sum)
}

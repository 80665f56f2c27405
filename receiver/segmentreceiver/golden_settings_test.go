// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.yaml.in/yaml/v3"
)

// settingTests has one case for each setting that the README documents: the setting as a user writes it, what is
// sent, and what becomes of it, answers and data points.
var settingTests = []struct {
	setting string
	yaml    string
	send    []string // "METHOD path [Header: value …]", and the body after a line break
	want    []string
	// how sends instead, where it takes more than requests.
	how func(t *testing.T, tr *testReceiver) []string
}{
	{
		setting: "endpoint", yaml: `endpoint: 127.0.0.1:0`,
		how: func(t *testing.T, tr *testReceiver) []string {
			host, _, err := net.SplitHostPort(tr.listener.Addr().String())
			require.NoError(t, err)
			return []string{host}
		},
		want: []string{"127.0.0.1"},
	},
	{
		setting: "write_keys", yaml: `write_keys: [one, {key: "2", resource_attributes: {env: prod}}]`,
		send: []string{
			"POST /v1/track\n" + `{"event":"a"}`,
			"POST /v1/track\n" + `{"event":"b","writeKey":"one"}`,
			"POST /v1/track\n" + `{"event":"c","writeKey":"2"}`,
		},
		want: []string{"401 unauthorized", "200", "b 1 source=b", "200", "env=prod: c 1 source=c"},
	},
	{
		setting: "events", yaml: `events: [page, screen]`,
		send: []string{"POST /v1/batch\n" + `{"batch":[{"type":"track","event":"a"},{"type":"page","name":"b"},{"type":"screen","name":"c"}]}`},
		want: []string{"200", "Viewed b Page 1 source=Viewed-b-Page", "Viewed c Screen 1 source=Viewed-c-Screen"},
	},
	{
		setting: "metric_type", yaml: `metric_type: sum`,
		send: []string{"POST /v1/track\n" + `{"event":"a","properties":{"value":2}}`},
		want: []string{"200", "a delta 2 source=a"},
	},
	{
		setting: "source_attribute", yaml: `source_attribute: origin`,
		send: []string{"POST /v1/track\n" + `{"event":"a"}`},
		want: []string{"200", "a 1 origin=a"},
	},
	{
		setting: "properties", yaml: `properties: [plan, seats]`,
		send: []string{"POST /v1/track\n" + `{"event":"a","properties":{"plan":"pro","seats":5,"email":"x@example.com"}}`},
		want: []string{"200", "a 1 plan=pro seats=5 source=a"},
	},
	{
		setting: "max_message_size", yaml: `max_message_size: 40`,
		send: []string{"POST /v1/batch\n" + `{"batch":[{"type":"track","event":"a"},{"type":"track","event":"b","userId":"c"}]}`},
		want: []string{"200", "a 1 source=a"},
	},
	{
		setting: "max_request_body_size", yaml: "max_request_body_size: 40\nmax_message_size: 40",
		send: []string{"POST /v1/track\n" + `{"event":"a"}`, "POST /v1/track\n" + `{"event":"b","userId":"0123456789012345678"}`},
		want: []string{"200", "a 1 source=a", "400 body_too_large"},
	},
	{
		setting: "max_messages", yaml: `max_messages: 2`,
		send: []string{
			"POST /v1/batch\n" + `{"batch":[{"type":"track","event":"a"},{"type":"track","event":"b"}]}`,
			"POST /v1/batch\n" + `{"batch":[{"type":"track","event":"a"},{"type":"identify"},{"type":"alias"}]}`,
		},
		want: []string{"200", "a 1 source=a", "b 1 source=b", "400 too_many_messages"},
	},
	{
		setting: "max_in_flight_bytes", yaml: "max_in_flight_bytes: 100000\nmax_request_body_size: 20000\nmax_message_size: 20000\nmax_messages: 9",
		how: func(t *testing.T, tr *testReceiver) []string {
			tr.memory.patience = 10 * time.Millisecond
			leave, first := make(chan struct{}), make(chan answer, 1)
			entered := make(chan struct{})
			tr.consume(func(context.Context, pmetric.Metrics) error {
				close(entered)
				<-leave
				return nil
			})
			go func() { first <- tr.post("/v1/track", `{"event":"a"}`) }()
			<-entered
			second := tr.transcript("POST /v1/track\n" + `{"event":"b"}`) // a quarter of it has room for one
			close(leave)
			(<-first).assertSuccess(t)
			return append(second, tr.transcript("POST /v1/m\n")...)
		},
		want: []string{"503 overloaded", "200", "a 1 source=a"},
	},
	{
		setting: "deduplication.enabled", yaml: `deduplication: {enabled: false}`,
		send: []string{"POST /v1/track\n" + `{"event":"a","messageId":"1"}`, "POST /v1/track\n" + `{"event":"a","messageId":"1"}`},
		want: []string{"200", "a 1 source=a", "200", "a 1 source=a"},
	},
	{
		setting: "deduplication.window", yaml: `deduplication: {window: 1m}`,
		how: func(_ *testing.T, tr *testReceiver) []string {
			now := testReceived
			tr.now = func() time.Time { return now }
			body := `{"event":"a","messageId":"1"}`
			first := tr.transcript("POST /v1/track\n" + body)
			now = now.Add(time.Minute)
			second := tr.transcript("POST /v1/track\n" + body)
			now = now.Add(5 * time.Second)
			return slices.Concat(first, second, tr.transcript("POST /v1/track\n"+body))
		},
		want: []string{"200", "a 1 source=a", "200", "200", "a 1 source=a"},
	},
	{
		setting: "deduplication.max_entries", yaml: `deduplication: {max_entries: 1}`,
		send: []string{
			"POST /v1/track\n" + `{"event":"a","messageId":"1"}`, "POST /v1/track\n" + `{"event":"a","messageId":"1"}`,
			"POST /v1/track\n" + `{"event":"b","messageId":"2"}`, "POST /v1/track\n" + `{"event":"a","messageId":"1"}`,
		},
		want: []string{"200", "a 1 source=a", "200", "200", "b 1 source=b", "200", "a 1 source=a"},
	},
	{
		setting: "deduplication.forward_ids", yaml: `deduplication: {forward_ids: true}`,
		send: []string{"POST /v1/track\n" + `{"event":"a","messageId":"1","writeKey":"k"}`},
		want: []string{"200", "a 1 source=a segment.message_id_hash=" + strconv.FormatInt(int64(hashOf("k", "1")), 10)},
	},
	{
		setting: "webhook.path", yaml: `webhook: {path: /from-segment}`,
		send: []string{"POST /from-segment\n" + `[{"type":"track","event":"a"},{"type":"track","event":"b"}]`, "POST /webhook\n" + `{}`},
		want: []string{"200", "a 1 source=a", "b 1 source=b", "404 not_found"},
	},
	{
		setting: "webhook.shared_secret", yaml: `webhook: {shared_secret: quiet}`,
		send: []string{
			"POST /webhook X-Signature: " + sign("quiet", `{"type":"track","event":"a"}`) + "\n" + `{"type":"track","event":"a"}`,
			"POST /webhook\n" + `{"type":"track","event":"a"}`,
		},
		want: []string{"200", "a 1 source=a", "401 unauthorized"},
	},
	{
		setting: "public_url", yaml: `public_url: https://events.example.com/in/`,
		send: []string{"GET /v1/projects/k/settings"},
		want: []string{`200 {"integrations":{"Segment.io":{"apiHost":"events.example.com/in/v1","apiKey":"k","protocol":"https"}}}`},
	},
	{
		setting: "trust_proxy", yaml: `trust_proxy: true`,
		send: []string{"GET /v1/projects/k/settings X-Forwarded-Host: events.example.com X-Forwarded-Proto: https"},
		want: []string{`200 {"integrations":{"Segment.io":{"apiHost":"events.example.com/v1","apiKey":"k","protocol":"https"}}}`},
	},
	{
		setting: "cors.allowed_origins", yaml: `cors: {allowed_origins: ["https://*.example.com"]}`,
		how: preflight("https://www.example.com", "authorization", "Access-Control-Allow-Origin"), want: []string{"https://www.example.com"},
	},
	{
		setting: "cors.allowed_headers", yaml: `cors: {allowed_origins: ["https://www.example.com"], allowed_headers: [X-Own]}`,
		how: preflight("https://www.example.com", "x-own", "Access-Control-Allow-Headers"), want: []string{"x-own"},
	},
	{
		setting: "cors.exposed_headers", yaml: `cors: {allowed_origins: ["https://www.example.com"], exposed_headers: [X-Own]}`,
		how: func(_ *testing.T, tr *testReceiver) []string {
			return tr.post("/v1/m", "", "Origin", "https://www.example.com").header.Values("Access-Control-Expose-Headers")
		},
		want: []string{"X-Own"},
	},
	{
		setting: "cors.max_age", yaml: `cors: {allowed_origins: ["https://www.example.com"], max_age: 60}`,
		how: preflight("https://www.example.com", "authorization", "Access-Control-Max-Age"), want: []string{"60"},
	},
	{
		setting: "read_header_timeout", yaml: `read_header_timeout: 50ms`,
		how: rawRequest("POST /v1/track HTTP/1.1\r\nHost: x\r\n"), want: []string{"closed"},
	},
	{
		setting: "read_timeout", yaml: `read_timeout: 50ms`,
		how:  rawRequest("POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{"),
		want: []string{"HTTP/1.1 400 Bad Request", "closed"},
	},
	{
		setting: "write_timeout", yaml: `write_timeout: 50ms`,
		how: func(t *testing.T, tr *testReceiver) []string {
			asked := time.Now()
			tr.consume(func(ctx context.Context, _ pmetric.Metrics) error {
				<-time.After(100*time.Millisecond - time.Since(asked)) // longer than the answer may take
				return ctx.Err()
			})
			body := `{"event":"a"}`
			return rawRequest(fmt.Sprintf("POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body))(t, tr)
		},
		want: []string{"closed"},
	},
	{
		setting: "idle_timeout", yaml: `idle_timeout: 50ms`,
		how:  rawRequest("POST /v1/m HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
		want: []string{"HTTP/1.1 200 OK", "closed"},
	},
}

// TestSettings shows what each setting of the README's table does.
func TestSettings(t *testing.T) {
	documented := map[string]bool{}
	for _, row := range table(t, "## Settings") {
		documented[row[0]] = true
	}
	for _, tt := range settingTests {
		assert.True(t, documented[tt.setting], "the README does not describe %s", tt.setting)
		delete(documented, tt.setting)
		t.Run(tt.setting, func(t *testing.T) {
			tr := startReceiver(t, func(c *Config) {
				var doc map[string]any
				require.NoError(t, yaml.Unmarshal([]byte(tt.yaml), &doc))
				conf := confmap.NewFromStringMap(doc)
				require.True(t, conf.IsSet(strings.ReplaceAll(tt.setting, ".", confmap.KeyDelimiter)))
				require.NoError(t, conf.Unmarshal(c))
			})
			if tt.how != nil {
				assert.Equal(t, tt.want, tt.how(t, tr))
				return
			}
			assert.Equal(t, tt.want, tr.transcript(tt.send...))
		})
	}
	assert.Empty(t, documented, "settings of the README without a case here")
}

// transcript sends the requests, and returns each answer with what the pipeline then had taken.
func (tr *testReceiver) transcript(requests ...string) []string {
	tr.t.Helper()
	var lines []string
	for _, text := range requests {
		head, body, _ := strings.Cut(text, "\n")
		words := strings.Fields(strings.ReplaceAll(head, ": ", " "))
		a := tr.do(words[0], words[1], body, words[2:]...)
		switch line := strconv.Itoa(a.status); {
		case a.status != http.StatusOK:
			lines = append(lines, line+" "+a.code(tr.t))
		case words[0] == http.MethodGet:
			lines = append(lines, line+" "+strings.TrimSpace(a.body))
		default:
			lines = append(lines, line)
		}
		lines = append(lines, tr.points()...)
		tr.sink.Reset()
	}
	return lines
}

// points returns what the pipeline took: "resource: name value attributes ids", what is not there left out.
func (tr *testReceiver) points() []string {
	pairs := func(attributes map[string]any) string {
		var list []string
		for name, value := range attributes {
			list = append(list, fmt.Sprint(name, "=", value))
		}
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	var lines []string
	for _, md := range tr.sink.AllMetrics() {
		resource := pairs(md.ResourceMetrics().At(0).Resource().Attributes().AsRaw())
		if resource != "" {
			resource += ": "
		}
		for _, metric := range md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
			points, kind := pmetric.NewNumberDataPointSlice(), " "
			if metric.Type() == pmetric.MetricTypeGauge {
				points = metric.Gauge().DataPoints()
			} else if metric.Sum().AggregationTemporality() == pmetric.AggregationTemporalityDelta {
				points, kind = metric.Sum().DataPoints(), " delta "
			}
			for _, p := range points.All() {
				words := []string{resource + metric.Name() + kind + formatFloat(p.DoubleValue()), pairs(p.Attributes().AsRaw())}
				for _, e := range p.Exemplars().All() {
					words = append(words, pairs(e.FilteredAttributes().AsRaw()))
				}
				lines = append(lines, strings.Join(words, " "))
			}
		}
	}
	return lines
}

// preflight asks whether a page of the origin may send the header, and returns one of the answer's headers.
func preflight(origin, header, want string) func(*testing.T, *testReceiver) []string {
	return func(_ *testing.T, tr *testReceiver) []string {
		return tr.do(http.MethodOptions, "/v1/t", "", "Origin", origin, "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", header).header.Values(want)
	}
}

// rawRequest writes text to a connection and waits until the receiver closes it; of an answer it returns the first
// line.
func rawRequest(text string) func(*testing.T, *testReceiver) []string {
	return func(t *testing.T, tr *testReceiver) []string {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", tr.listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
		_, err = io.WriteString(conn, text)
		require.NoError(t, err)
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		first, _, err := bufio.NewReader(strings.NewReader(string(answer))).ReadLine()
		if err != nil {
			return []string{"closed"}
		}
		return []string{string(first), "closed"}
	}
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/extension/extensionauth"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

// testReceiver is a receiver that serves, and what its pipeline took.
type testReceiver struct {
	*segmentReceiver
	t    *testing.T
	url  string
	sink *consumertest.MetricsSink
	// next decides instead of the sink, if it is set.
	next atomic.Pointer[func(ctx context.Context, metrics pmetric.Metrics) error]
	logs *observer.ObservedLogs
}

func startReceiver(t *testing.T, change ...func(*Config)) *testReceiver {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	cfg.NetAddr.Endpoint = "localhost:0"
	for _, c := range change {
		c(cfg)
	}
	require.NoError(t, cfg.Validate())
	tr := &testReceiver{t: t, sink: new(consumertest.MetricsSink)}
	set := receivertest.NewNopSettings(metadata.Type)
	core, logs := observer.New(zapcore.DebugLevel)
	set.Logger, tr.logs = zap.New(core), logs
	next, err := consumer.NewMetrics(func(ctx context.Context, metrics pmetric.Metrics) error {
		if f := tr.next.Load(); f != nil {
			if err := (*f)(ctx, metrics); err != nil {
				return err
			}
		}
		return tr.sink.ConsumeMetrics(ctx, metrics)
	})
	require.NoError(t, err)
	r, err := NewFactory().CreateMetrics(t.Context(), set, cfg, next)
	require.NoError(t, err)
	tr.segmentReceiver = r.(*segmentReceiver)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	tr.url = "http://" + tr.listener.Addr().String()
	t.Cleanup(func() { assert.NoError(t, r.Shutdown(context.WithoutCancel(t.Context()))) })
	return tr
}

// newTestReceiver returns a receiver that does not serve.
func newTestReceiver(t *testing.T, next consumer.Metrics, change ...func(*Config)) *segmentReceiver {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	for _, c := range change {
		c(cfg)
	}
	require.NoError(t, cfg.Validate())
	r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), next)
	require.NoError(t, err)
	return r
}

func (tr *testReceiver) consume(f func(ctx context.Context, metrics pmetric.Metrics) error) {
	tr.next.Store(&f)
}

// answer is what a client gets.
type answer struct {
	status int
	header http.Header
	body   string
}

// code returns the answer's code, after checks that go for all errors.
func (a answer) code(t *testing.T) string {
	t.Helper()
	assert.Equal(t, "application/json", a.header.Get("Content-Type"))
	assert.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
	var e struct{ Code, Message string }
	require.NoError(t, json.Unmarshal([]byte(a.body), &e), a.body)
	assert.NotEmpty(t, e.Message)
	return e.Code
}

func (a answer) assertSuccess(t *testing.T) {
	t.Helper()
	assert.Equal(t, http.StatusOK, a.status)
	assert.Equal(t, "application/json", a.header.Get("Content-Type"))
	assert.Equal(t, `{"success":true}`, a.body)
}

// do sends one request; header is pairs of names and values.
func (tr *testReceiver) do(method, path, body string, header ...string) answer {
	tr.t.Helper()
	req, err := http.NewRequestWithContext(tr.t.Context(), method, tr.url+path, strings.NewReader(body))
	require.NoError(tr.t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	resp, err := client.Do(req)
	require.NoError(tr.t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.NoError(tr.t, err)
	return answer{resp.StatusCode, resp.Header, string(got)}
}

func (tr *testReceiver) post(path, body string, header ...string) answer {
	tr.t.Helper()
	return tr.do(http.MethodPost, path, body, header...)
}

func basicAuth(user string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"))
}

// names returns the names of the metrics that the pipeline took, in order.
func (tr *testReceiver) names() []string {
	var names []string
	for _, m := range tr.sink.AllMetrics() {
		metrics := m.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics()
		for i := range metrics.Len() {
			names = append(names, metrics.At(i).Name())
		}
	}
	return names
}

func withKeys(keys ...string) func(*Config) {
	return func(c *Config) {
		for _, k := range keys {
			c.WriteKeys = append(c.WriteKeys, WriteKeyConfig{Key: configopaque.String(k)})
		}
	}
}

func TestRoutes(t *testing.T) {
	tr := startReceiver(t, func(c *Config) { c.Events = []EventType{"track", "page", "screen"} })
	single := `{"event":"E","name":"N"}`
	batch := `{"batch":[{"type":"track","event":"B"},{"type":"identify","userId":"u"}]}`
	for _, tt := range []struct {
		path, body, want string
	}{
		{"/v1/track", single, "E"},
		{"/v1/t", single, "E"},
		{"/v1/page", single, "Viewed N Page"},
		{"/v1/p", single, "Viewed N Page"},
		{"/v1/screen", single, "Viewed N Screen"},
		{"/v1/s", single, "Viewed N Screen"},
		{"/v1/identify", single, ""},
		{"/v1/i", single, ""},
		{"/v1/group", single, ""},
		{"/v1/g", single, ""},
		{"/v1/alias", single, ""},
		{"/v1/a", single, ""},
		{"/v1/batch", batch, "B"},
		{"/v1/b", batch, "B"},
		{"/v1/import", batch, "B"},
		{"/v1/m", `{"series":[]}`, ""},
		{"/v1/m", `not even JSON`, ""},
	} {
		t.Run(tt.path, func(t *testing.T) {
			tr.sink.Reset()
			// The content type says nothing: browsers send text/plain, rudder a form.
			for _, contentType := range []string{"application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", ""} {
				tr.post(tt.path, tt.body, "Content-Type", contentType).assertSuccess(t)
			}
			want := []string{tt.want, tt.want, tt.want, tt.want}
			if tt.want == "" {
				want = nil
			}
			assert.Equal(t, want, tr.names())
		})
	}
}

func TestCallsOtherThanTrackAreIgnoredByDefault(t *testing.T) {
	tr := startReceiver(t)
	tr.post("/v1/page", `{"name":"N"}`).assertSuccess(t)
	tr.post("/v1/batch", `{"batch":[{"type":"screen","name":"N"}]}`).assertSuccess(t)
	assert.Empty(t, tr.names())
}

func TestPixel(t *testing.T) {
	tr := startReceiver(t, withKeys("key"))
	message := `{"writeKey":"key","event":"Email Opened?>","properties":{"value":2}}`
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		tr.do(http.MethodGet, "/v1/pixel/track?data="+encoding.EncodeToString([]byte(message)), "").assertSuccess(t)
	}
	assert.Len(t, tr.names(), 4)

	noKey := base64.RawURLEncoding.EncodeToString([]byte(`{"event":"e"}`))
	tr.do(http.MethodGet, "/v1/pixel/track?writeKey=key&data="+noKey, "").assertSuccess(t)
	assert.Equal(t, http.StatusUnauthorized, tr.do(http.MethodGet, "/v1/pixel/track?data="+noKey, "").status)

	for _, accept := range []string{"image/avif,image/*", "*/*", "text/html, */*;q=0.8"} { // curl and mail readers accept anything
		image := tr.do(http.MethodGet, "/v1/pixel/track?writeKey=key&data="+noKey, "", "Accept", accept)
		assert.Equal(t, "image/gif", image.header.Get("Content-Type"), accept)
		assert.Equal(t, "image/gif", http.DetectContentType([]byte(image.body)))
		assert.Equal(t, "no-store", image.header.Get("Cache-Control"), "each opening counts")
	}
	for _, accept := range []string{"application/json", "application/json, */*"} {
		tr.do(http.MethodGet, "/v1/pixel/track?writeKey=key&data="+noKey, "", "Accept", accept).assertSuccess(t)
	}

	for _, query := range []string{"", "?data=", "?data=%25%25", "?data=" + base64.RawURLEncoding.EncodeToString([]byte("x"))} {
		a := tr.do(http.MethodGet, "/v1/pixel/track"+query, "")
		assert.Equal(t, http.StatusBadRequest, a.status, query)
		a.code(t)
	}
	assert.Equal(t, http.StatusMethodNotAllowed, tr.do(http.MethodHead, "/v1/pixel/track?writeKey=key&data="+noKey, "").status,
		"a HEAD would count an event")
}

func TestSettingsOfAnalyticsJS(t *testing.T) {
	get := func(t *testing.T, tr *testReceiver, header ...string) map[string]any {
		a := tr.do(http.MethodGet, "/v1/projects/key/settings", "", header...)
		require.Equal(t, http.StatusOK, a.status)
		var settings struct {
			Integrations map[string]map[string]any `json:"integrations"`
		}
		require.NoError(t, json.Unmarshal([]byte(a.body), &settings))
		return settings.Integrations["Segment.io"]
	}
	t.Run("from the request", func(t *testing.T) {
		tr := startReceiver(t, withKeys("key"))
		host := strings.TrimPrefix(tr.url, "http://")
		assert.Equal(t, map[string]any{"apiKey": "key", "apiHost": host + "/v1", "protocol": "http"},
			get(t, tr, "X-Forwarded-Host", "evil.example.com", "X-Forwarded-Proto", "https"))
		for _, path := range []string{"/v1/projects/other/settings", "/v1/projects//settings", "/v1/projects/a/b/settings", "/v1/projects/key"} {
			a := tr.do(http.MethodGet, path, "")
			assert.Equal(t, http.StatusNotFound, a.status, path)
			assert.Equal(t, "not_found", a.code(t))
		}
	})
	t.Run("over TLS", func(t *testing.T) {
		r := newTestReceiver(t, consumertest.NewNop())
		w := httptest.NewRecorder()
		r.handle(w, httptest.NewRequest(http.MethodGet, "https://example.com/v1/projects/key/settings", http.NoBody))
		assert.JSONEq(t, `{"integrations":{"Segment.io":{"apiKey":"key","apiHost":"example.com/v1","protocol":"https"}}}`, w.Body.String())
	})
	t.Run("without the body", func(t *testing.T) {
		assert.Equal(t, http.StatusOK, startReceiver(t).do(http.MethodHead, "/v1/projects/key/settings", "").status)
	})
	t.Run("behind a proxy", func(t *testing.T) {
		tr := startReceiver(t, func(c *Config) { c.TrustProxy = true })
		assert.Equal(t, map[string]any{"apiKey": "key", "apiHost": "events.example.com/v1", "protocol": "https"},
			get(t, tr, "X-Forwarded-Host", "events.example.com, inner", "X-Forwarded-Proto", "HTTPS"))
	})
	t.Run("public_url", func(t *testing.T) {
		tr := startReceiver(t, func(c *Config) { c.PublicURL = "https://example.com/segment/" })
		assert.Equal(t, map[string]any{"apiKey": "key", "apiHost": "example.com/segment/v1", "protocol": "https"}, get(t, tr))
	})
}

func TestEveryErrorIsJSON(t *testing.T) {
	tr := startReceiver(t, withKeys("key"), func(c *Config) { c.MaxRequestBodySize = 64 << 10 })
	for _, tt := range []struct {
		name         string
		method, path string
		body         string
		header       []string
		status       int
		code         string
	}{
		{name: "unknown path", method: http.MethodPost, path: "/v2/track", status: 404, code: "not_found"},
		{name: "root", method: http.MethodGet, path: "/", status: 404, code: "not_found"},
		{name: "wrong method", method: http.MethodGet, path: "/v1/track", status: 405, code: "method_not_allowed"},
		{name: "OPTIONS without CORS", method: http.MethodOptions, path: "/v1/track", status: 405, code: "method_not_allowed"},
		{name: "settings posted", method: http.MethodPost, path: "/v1/projects/key/settings", status: 405, code: "method_not_allowed"},
		{name: "no key", method: http.MethodPost, path: "/v1/track", body: `{"event":"e"}`, status: 401, code: "unauthorized"},
		{name: "unknown key", method: http.MethodPost, path: "/v1/track", body: `{"event":"e"}`, header: []string{"Authorization", basicAuth("other")}, status: 401, code: "unauthorized"},
		{name: "unknown key in the body", method: http.MethodPost, path: "/v1/track", body: `{"event":"e","writeKey":"other"}`, status: 401, code: "unauthorized"},
		{name: "not JSON", method: http.MethodPost, path: "/v1/track", body: `event=e`, status: 400, code: "invalid_json"},
		{name: "no batch", method: http.MethodPost, path: "/v1/batch", body: `{}`, status: 400, code: "invalid_request"},
		{name: "no event", method: http.MethodPost, path: "/v1/track", body: `{"writeKey":"key"}`, status: 400, code: "missing_event"},
		{name: "no value", method: http.MethodPost, path: "/v1/track", body: `{"writeKey":"key","event":"e","properties":{"value":[]}}`, status: 400, code: "invalid_value"},
		{name: "message too large", method: http.MethodPost, path: "/v1/track", body: `{"writeKey":"key","event":"` + strings.Repeat("e", 40<<10) + `"}`, status: 400, code: "too_large"},
		{name: "nothing good in a batch", method: http.MethodPost, path: "/v1/batch", body: `{"writeKey":"key","batch":[{"type":"track"},{"type":"x"}]}`, status: 400, code: "missing_event"},
		{name: "body too large", method: http.MethodPost, path: "/v1/batch", body: strings.Repeat(" ", 65<<10), status: 400, code: "body_too_large"},
		{name: "metrics of analytics.js that cannot be read", method: http.MethodPost, path: "/v1/m", body: compress("gzip", strings.Repeat("x", 1000))[:20], header: []string{"Content-Encoding", "gzip"}, status: 400, code: "invalid_body"},
		{name: "not zstd", method: http.MethodPost, path: "/v1/batch", body: "x", header: []string{"Content-Encoding", "zstd"}, status: 400, code: "invalid_body"},
		{name: "zstd that grows too large", method: http.MethodPost, path: "/v1/batch", body: compress("zstd", strings.Repeat(" ", 1<<20)), header: []string{"Content-Encoding", "zstd"}, status: 400, code: "body_too_large"},
		{name: "unknown encoding", method: http.MethodPost, path: "/v1/batch", body: "x", header: []string{"Content-Encoding", "br"}, status: 400, code: "invalid_body"},
		{name: "not gzip", method: http.MethodPost, path: "/v1/batch", body: "x", header: []string{"Content-Encoding", "gzip"}, status: 400, code: "invalid_body"},
		{name: "cut off gzip", method: http.MethodPost, path: "/v1/batch", body: compress("gzip", strings.Repeat("x", 1000))[:20], header: []string{"Content-Encoding", "gzip"}, status: 400, code: "invalid_body"},
		{name: "gzip that grows too large", method: http.MethodPost, path: "/v1/batch", body: compress("gzip", strings.Repeat(" ", 1<<20)), header: []string{"Content-Encoding", "gzip"}, status: 400, code: "body_too_large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := tr.do(tt.method, tt.path, tt.body, tt.header...)
			assert.Equal(t, tt.status, a.status)
			assert.Equal(t, tt.code, a.code(t))
			if tt.status == http.StatusMethodNotAllowed {
				assert.NotEmpty(t, a.header.Get("Allow"))
			}
		})
	}
	assert.Empty(t, tr.names(), "nothing of it is forwarded")
}

func TestRefusedClientsSeeTheAnswer(t *testing.T) {
	// Not a reset connection, although nobody wants the body. (What is far beyond the limit may see one.)
	tr := startReceiver(t, withKeys("key"))
	for range 5 {
		assert.Equal(t, http.StatusUnauthorized, tr.post("/v1/batch", strings.Repeat(" ", 4_000_000), "Authorization", basicAuth("other")).status)
		assert.Equal(t, http.StatusBadRequest, tr.post("/v1/batch", strings.Repeat(" ", 4<<20+10_000), "Authorization", basicAuth("key")).status)
	}
}

// TestARefusedBodyIsReadToItsEnd: net/http closes a connection whose body it has not seen the end of.
func TestARefusedBodyIsReadToItsEnd(t *testing.T) {
	r := newTestReceiver(t, consumertest.NewNop(), withKeys("key"), func(c *Config) { c.MaxRequestBodySize = 64 << 10 })
	for _, key := range []string{"other", "key"} {
		body := strings.NewReader(strings.Repeat(" ", 1<<20))
		req := httptest.NewRequest(http.MethodPost, "/v1/batch", body)
		req.SetBasicAuth(key, "")
		w := httptest.NewRecorder()
		r.handle(w, req)
		assert.GreaterOrEqual(t, w.Code, 400)
		assert.Zero(t, body.Len(), key)
	}
}

func TestABodyAsLargeAsMayBe(t *testing.T) {
	tr := startReceiver(t, func(c *Config) { c.MaxRequestBodySize = 64 << 10 })
	body := `{"batch":[{"type":"track","event":"e"}]}`
	body += strings.Repeat(" ", 64<<10-len(body))
	tr.post("/v1/batch", body).assertSuccess(t)
	tr.post("/v1/batch", compress("gzip", body), "Content-Encoding", "gzip").assertSuccess(t)
	assert.Equal(t, http.StatusBadRequest, tr.post("/v1/batch", body+" ").status)
	assert.Equal(t, http.StatusBadRequest, tr.post("/v1/batch", compress("gzip", body+" "), "Content-Encoding", "gzip").status)
}

func TestBatchesLargerThanSegmentTakes(t *testing.T) {
	// node 3 was seen to send 905 kB at once.
	tr := startReceiver(t)
	message := `{"type":"track","event":"e","properties":{"p":"` + strings.Repeat("x", 30_000) + `"}}`
	tr.post("/v1/batch", `{"batch":[`+strings.Repeat(message+",", 99)+message+`]}`).assertSuccess(t)
	assert.Equal(t, 100, tr.sink.DataPointCount())
}

func compress(encoding, text string) string {
	var b bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "zstd":
		w, _ = zstd.NewWriter(&b)
	}
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func TestCompressedBodies(t *testing.T) {
	tr := startReceiver(t)
	for _, encoding := range []string{"gzip", "deflate", "zstd"} {
		tr.post("/v1/batch", compress(encoding, `{"batch":[{"type":"track","event":"`+encoding+`"}]}`), "Content-Encoding", encoding).assertSuccess(t)
	}
	assert.Equal(t, []string{"gzip", "deflate", "zstd"}, tr.names())
	tr.post("/v1/track", `{"event":"e"}`, "Content-Encoding", "identity").assertSuccess(t)
	for _, encoding := range []string{"lz4", "snappy", "x-snappy-framed"} { // they may take far more memory than they bring
		assert.Equal(t, "invalid_body", tr.post("/v1/track", `{"event":"e"}`, "Content-Encoding", encoding).code(t))
	}
}

func TestBadMessagesDoNotStopGoodOnes(t *testing.T) {
	tr := startReceiver(t)
	tr.post("/v1/batch", `{"batch":[{"type":"track","event":"a"},{"type":"track"},{"type":"track","event":"x","properties":{"value":NaN}},`+
		`{"type":"track","event":"y","properties":{"p":"`+strings.Repeat("z", 33<<10)+`"}},{"type":"track","event":"b"}]}`).assertSuccess(t)
	assert.Equal(t, []string{"a", "b"}, tr.names())
	logged := tr.logs.FilterMessageSnippet("refused a message").All()
	require.Len(t, logged, 1)
	assert.Equal(t, "batch[1].event: missing", logged[0].ContextMap()["problem"])
}

// TestMessagesThatAreSwitchedOffAreAcknowledged, whatever else is wrong with them.
func TestMessagesThatAreSwitchedOffAreAcknowledged(t *testing.T) {
	tr := startReceiver(t)
	for _, wrong := range []string{
		`"event":"e","properties":{"value":"many"}`, `"event":"e","properties":{"value":NaN}`, `"event":""`, `"x":"` + strings.Repeat("x", 40_000) + `"`,
	} {
		tr.post("/v1/track", `{"integrations":{"Librato":false},`+wrong+`}`).assertSuccess(t)
		tr.post("/v1/batch", `{"integrations":{"All":false},"batch":[{"type":"track",`+wrong+`}]}`).assertSuccess(t)
		assert.Equal(t, http.StatusBadRequest, tr.post("/v1/track", `{`+wrong+`}`).status)
	}
	tr.post("/v1/batch", `{"batch":[{"type":"unknown","integrations":{"All":false}}]}`).assertSuccess(t)
	assert.Empty(t, tr.names())
}

func TestWriteKeys(t *testing.T) {
	for _, tt := range []struct {
		name   string
		path   string
		auth   string
		body   string
		status int
		names  []string
	}{
		{name: "basic auth", path: "/v1/track", auth: "one", body: `{"event":"e"}`, status: 200, names: []string{"e"}},
		{name: "in the body", path: "/v1/track", body: `{"event":"e","writeKey":"two"}`, status: 200, names: []string{"e"}},
		{name: "basic beats body", path: "/v1/track", auth: "one", body: `{"event":"e","writeKey":"other"}`, status: 200, names: []string{"e"}},
		{name: "basic beats body, wrong", path: "/v1/track", auth: "other", body: `{"event":"e","writeKey":"one"}`, status: 401},
		{name: "bearer with the key in the body", path: "/v1/track", auth: "bearer", body: `{"event":"e","writeKey":"one"}`, status: 200, names: []string{"e"}},
		{name: "of the batch, after it", path: "/v1/batch", body: `{"batch":[{"type":"track","event":"e"}],"writeKey":"one"}`, status: 200, names: []string{"e"}},
		{name: "of the messages", path: "/v1/batch", body: `{"batch":[{"type":"identify"},{"type":"track","event":"e","writeKey":"one"}]}`, status: 200, names: []string{"e"}},
		{name: "of the messages, unknown", path: "/v1/batch", body: `{"batch":[{"type":"track","event":"e","writeKey":"other"},{"type":"track","event":"f","writeKey":"one"}]}`, status: 401},
		{name: "foreign message", path: "/v1/batch", auth: "one", body: `{"batch":[{"type":"track","event":"e","writeKey":"two"},{"type":"track","event":"f","writeKey":"one"}]}`, status: 200, names: []string{"f"}},
		{name: "no key", path: "/v1/batch", body: `{"batch":[{"type":"track","event":"e"}]}`, status: 401},
		{name: "a prefix of a key", path: "/v1/track", auth: "on", body: `{"event":"e"}`, status: 401},
		{name: "their own metrics carry none", path: "/v1/m", body: `{}`, status: 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := startReceiver(t, withKeys("one", "two"))
			auth := basicAuth(tt.auth)
			if tt.auth == "bearer" {
				auth = "Bearer token"
			}
			a := tr.post(tt.path, tt.body, "Authorization", auth)
			assert.Equal(t, tt.status, a.status, a.body)
			assert.Equal(t, tt.names, tr.names())
		})
	}
}

func TestAnyKeyIsTakenAndSaidOnce(t *testing.T) {
	tr := startReceiver(t)
	tr.post("/v1/track", `{"event":"a"}`).assertSuccess(t)
	tr.post("/v1/track", `{"event":"b"}`, "Authorization", basicAuth("any")).assertSuccess(t)
	tr.post("/v1/batch", `{"batch":[{"type":"track","event":"c","writeKey":"1"},{"type":"track","event":"d","writeKey":"2"}]}`).assertSuccess(t)
	assert.Equal(t, []string{"a", "b", "c", "d"}, tr.names())
	assert.Equal(t, 1, tr.logs.FilterMessageSnippet("write_keys is empty").Len())
}

func TestResourceAttributes(t *testing.T) {
	tr := startReceiver(t, func(c *Config) {
		c.WriteKeys = []WriteKeyConfig{
			{Key: "one", ResourceAttributes: map[string]string{"service.name": "web", "env": "prod"}},
			{Key: "two"},
		}
	})
	tr.post("/v1/track", `{"event":"a"}`, "Authorization", basicAuth("one")).assertSuccess(t)
	tr.post("/v1/track", `{"event":"b"}`, "Authorization", basicAuth("two")).assertSuccess(t)
	require.Len(t, tr.sink.AllMetrics(), 2)
	assert.Equal(t, map[string]any{"service.name": "web", "env": "prod"}, tr.sink.AllMetrics()[0].ResourceMetrics().At(0).Resource().Attributes().AsRaw())
	assert.Empty(t, tr.sink.AllMetrics()[1].ResourceMetrics().At(0).Resource().Attributes().AsRaw())
}

func TestCORSNeedsOnlyTheOrigins(t *testing.T) {
	tr := startReceiver(t, withKeys("key"), func(c *Config) {
		c.CORS.GetOrInsertDefault().AllowedOrigins = []string{"https://shop.example.com"}
	})
	for _, path := range []string{"/v1/t", "/v1/b", "/v1/m"} {
		preflight := tr.do(http.MethodOptions, path, "", "Origin", "https://shop.example.com",
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type,x-retry-count")
		assert.Equal(t, http.StatusNoContent, preflight.status)
		assert.Equal(t, "https://shop.example.com", preflight.header.Get("Access-Control-Allow-Origin"))
		assert.Equal(t, "authorization,content-type,x-retry-count", preflight.header.Get("Access-Control-Allow-Headers"))
	}
	other := tr.do(http.MethodOptions, "/v1/t", "", "Origin", "https://evil.example.com", "Access-Control-Request-Method", "POST")
	assert.Empty(t, other.header.Get("Access-Control-Allow-Origin"))

	for _, path := range []string{"/v1/t", "/v1/b", "/nowhere"} { // errors too, or the page cannot read them
		a := tr.post(path, `{}`, "Origin", "https://shop.example.com")
		assert.Equal(t, "https://shop.example.com", a.header.Get("Access-Control-Allow-Origin"))
		assert.Equal(t, "Retry-After", a.header.Get("Access-Control-Expose-Headers"))
	}
	settings := tr.do(http.MethodGet, "/v1/projects/key/settings", "", "Origin", "https://shop.example.com")
	assert.Equal(t, "https://shop.example.com", settings.header.Get("Access-Control-Allow-Origin"))
}

func TestPipelineErrorsDecideTheStatus(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		status int
		code   string
	}{
		{"permanent", consumererror.NewPermanent(errors.New("no")), 400, "refused_by_pipeline"},
		{"rate limited", consumererror.NewOTLPHTTPError(errors.New("no"), http.StatusTooManyRequests), 429, "rate_limited"},
		{"plain", errors.New("data refused due to high memory usage"), 503, "unavailable"},
		{"an upstream's 500", consumererror.NewOTLPHTTPError(errors.New("no"), http.StatusInternalServerError), 503, "unavailable"},
		{"cancelled", context.Canceled, 503, "unavailable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := startReceiver(t)
			tr.consume(func(context.Context, pmetric.Metrics) error { return tt.err })
			for range 2 { // refused ids are released
				a := tr.post("/v1/track", `{"event":"e","messageId":"1"}`)
				assert.Equal(t, tt.status, a.status)
				assert.Equal(t, tt.code, a.code(t))
				assert.Equal(t, tt.status != 400, a.header.Get("Retry-After") != "")
			}
			tr.consume(func(context.Context, pmetric.Metrics) error { return nil })
			tr.post("/v1/track", `{"event":"e","messageId":"1"}`).assertSuccess(t)
			tr.post("/v1/track", `{"event":"e","messageId":"1"}`).assertSuccess(t)
			assert.Equal(t, []string{"e"}, tr.names())
		})
	}
}

func TestTheClientsLeavingCancelsNothing(t *testing.T) {
	t.Run("before the pipeline is asked", func(t *testing.T) {
		var err error
		r := newTestReceiver(t, consumerFunc(func(ctx context.Context, _ pmetric.Metrics) error {
			err = ctx.Err()
			return err
		}))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/track", strings.NewReader(`{"event":"e"}`))
		w := httptest.NewRecorder()
		r.handle(w, req)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, w.Code)
	})
	tr := startReceiver(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	tr.consume(func(ctx context.Context, _ pmetric.Metrics) error {
		close(entered)
		<-leave
		return ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, tr.url+"/v1/track", strings.NewReader(`{"event":"e"}`))
	require.NoError(t, err)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-entered
	cancel()
	<-gone
	close(leave)
	assert.Eventually(t, func() bool { return len(tr.names()) == 1 }, 5*time.Second, 10*time.Millisecond)
}

func TestDuplicates(t *testing.T) {
	t.Run("by key and id", func(t *testing.T) {
		tr := startReceiver(t)
		tr.post("/v1/track", `{"event":"a","messageId":"1"}`).assertSuccess(t)
		tr.post("/v1/track", `{"event":"b","messageId":"1","timestamp":"2020-01-01"}`).assertSuccess(t)
		tr.post("/v1/track", `{"event":"c","messageId":"1","writeKey":"k"}`).assertSuccess(t)
		tr.post("/v1/batch", `{"batch":[{"type":"track","event":"d","messageId":"2"},{"type":"track","event":"e","messageId":"2"},{"type":"track","event":"f","messageId":"1"}]}`).assertSuccess(t)
		assert.Equal(t, []string{"a", "c", "d"}, tr.names())
		assert.Len(t, tr.sink.AllMetrics(), 3, "the pipeline is not asked to take nothing")
	})
	t.Run("calls without an id are none", func(t *testing.T) {
		tr := startReceiver(t)
		for _, id := range []string{``, `,"messageId":null`, `,"messageId":""`, `,"messageId":7`} {
			for range 2 {
				tr.post("/v1/track", `{"event":"e"`+id+`}`).assertSuccess(t)
			}
		}
		assert.Len(t, tr.names(), 8)
	})
	t.Run("a batch's own id is none", func(t *testing.T) {
		tr := startReceiver(t)
		for range 2 {
			tr.post("/v1/batch", `{"messageId":"b","batch":[{"type":"track","event":"e"}]}`).assertSuccess(t)
		}
		assert.Len(t, tr.names(), 2)
	})
	t.Run("long ids", func(t *testing.T) {
		tr := startReceiver(t)
		for _, end := range []string{"a", "b", "a"} {
			tr.post("/v1/track", `{"event":"`+end+`","messageId":"`+strings.Repeat("x", 500)+end+`"}`).assertSuccess(t)
		}
		assert.Equal(t, []string{"a", "b"}, tr.names())
	})
	t.Run("off", func(t *testing.T) {
		tr := startReceiver(t, func(c *Config) { c.Deduplication.Enabled = false })
		for range 2 {
			tr.post("/v1/track", `{"event":"e","messageId":"1"}`).assertSuccess(t)
		}
		assert.Len(t, tr.names(), 2)
	})
}

func TestForwardedIDs(t *testing.T) {
	for _, enabled := range []bool{true, false} {
		tr := startReceiver(t, func(c *Config) {
			c.Deduplication.ForwardIDs = true
			c.Deduplication.Enabled = enabled
		})
		tr.post("/v1/batch", `{"batch":[{"type":"track","event":"e","messageId":"1"},{"type":"track","event":"e"}],"writeKey":"k"}`).assertSuccess(t)
		points := tr.sink.AllMetrics()[0].ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Gauge().DataPoints()
		require.Equal(t, 2, points.Len())
		require.Equal(t, 1, points.At(0).Exemplars().Len())
		exemplar := points.At(0).Exemplars().At(0)
		assert.Equal(t, map[string]any{"segment.message_id_hash": int64(hashOf("k", "1"))}, exemplar.FilteredAttributes().AsRaw())
		assert.Equal(t, points.At(0).Timestamp(), exemplar.Timestamp())
		assert.Zero(t, points.At(1).Exemplars().Len())
	}
}

func sign(secret, text string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

func TestWebhook(t *testing.T) {
	tr := startReceiver(t, withKeys("key"), func(c *Config) {
		c.Webhook = configoptional.Some(WebhookConfig{Path: "/hook", SharedSecret: "secret"})
		c.Events = append(c.Events, "page")
	})
	first := `{"type":"track","event":"a","userId":"019mr8mf4r","anonymousId":"23adfd82-aa0f-45a7-a756-24f2a7a4c895","timestamp":"2026-05-01T00:00:00Z","originalTimestamp":"2026-05-02T00:00:00Z","sentAt":"2026-05-03T00:00:00Z"}`
	array := ` [ ` + first + ` , {"type":"page","name":"N"}]`
	tr.post("/hook", first, "X-Signature", sign("secret", first)).assertSuccess(t)
	tr.post("/hook", array, "X-Signature", sign("secret", first)).assertSuccess(t)
	assert.Equal(t, []string{"a", "a", "Viewed N Page"}, tr.names())
	assert.Equal(t, "2026-05-01 00:00:00 +0000 UTC",
		tr.sink.AllMetrics()[0].ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Gauge().DataPoints().At(0).Timestamp().String())

	for _, header := range [][]string{nil, {"X-Signature", ""}, {"X-Signature", "xyz"}, {"X-Signature", sign("other", first)}, {"Authorization", basicAuth("key")}} {
		a := tr.post("/hook", first, header...)
		assert.Equal(t, http.StatusUnauthorized, a.status)
		assert.Equal(t, "unauthorized", a.code(t))
	}
	assert.Equal(t, http.StatusUnauthorized, tr.post("/hook", array, "X-Signature", sign("secret", array)).status)
	changed := strings.Replace(first, "05-03", "05-04", 1)
	assert.Equal(t, http.StatusUnauthorized, tr.post("/hook", changed, "X-Signature", sign("secret", first)).status, "it covers the whole message")
	assert.Equal(t, http.StatusUnauthorized, tr.post("/hook", `[]`, "X-Signature", sign("other", "")).status)
	assert.Len(t, tr.names(), 3)
	tr.post("/hook", first, "X-Signature", sign("secret", first), "Authorization", basicAuth("of a proxy")).assertSuccess(t)
}

func TestWebhookIsAnsweredInTime(t *testing.T) {
	tr := startReceiver(t, func(c *Config) { c.Webhook = configoptional.Some(WebhookConfig{Path: "/hook"}) })
	tr.webhookLimit = 50 * time.Millisecond
	leave := make(chan struct{})
	tr.consume(func(context.Context, pmetric.Metrics) error {
		<-leave
		return nil
	})
	body := `{"type":"track","event":"e","messageId":"1"}`
	for range 2 { // the repeat waits for the first's fate, and not longer than it may
		a := tr.post("/hook", body)
		assert.Equal(t, http.StatusServiceUnavailable, a.status)
		assert.NotEmpty(t, a.header.Get("Retry-After"))
		a.code(t)
	}
	close(leave)
	require.Eventually(t, func() bool { return len(tr.names()) == 1 }, 5*time.Second, 10*time.Millisecond)
	tr.post("/hook", body).assertSuccess(t)
	assert.Len(t, tr.names(), 1)
}

func TestLogsHoldNoUserData(t *testing.T) {
	tr := startReceiver(t, withKeys("secretkey"), func(c *Config) {
		c.Webhook = configoptional.Some(WebhookConfig{Path: "/hook", SharedSecret: "secretsecret"})
	})
	tr.post("/v1/track", `{"event":"secretevent","properties":{"value":"secretvalue"}}`, "Authorization", basicAuth("secretkey"))
	tr.post("/v1/track", `{"secretfield":secretbody}`, "Authorization", basicAuth("secretkey"))
	tr.post("/v1/track", `{}`, "Authorization", basicAuth("secretwrong"))
	tr.post("/hook", `{"userId":"secretuser"}`, "X-Signature", "secretsignature")
	require.Equal(t, 3, tr.logs.FilterMessageSnippet("refused").Len())
	for _, entry := range tr.logs.All() {
		text, err := json.Marshal(entry.ContextMap())
		require.NoError(t, err)
		assert.NotContains(t, entry.Message+string(text), "secret", entry.Message)
	}
}

func TestAWebhookSurvivesAPanic(t *testing.T) {
	tr := startReceiver(t, func(c *Config) { c.Webhook = configoptional.Some(WebhookConfig{Path: "/hook"}) })
	tr.consume(func(context.Context, pmetric.Metrics) error { panic("broken component") })
	assert.Equal(t, http.StatusServiceUnavailable, tr.post("/hook", `{"type":"track","event":"e","messageId":"1"}`).status)
	assert.Zero(t, tr.dedup.undecided())
}

func TestSlowBodiesAreRefused(t *testing.T) {
	tr := startReceiver(t, func(c *Config) { c.ReadTimeout = 50 * time.Millisecond })
	body, rest := io.Pipe()
	defer rest.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tr.url+"/v1/track", body)
	require.NoError(t, err)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "invalid_body", answer{resp.StatusCode, resp.Header, string(text)}.code(t))
	assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
}

// authHost has an authenticator that takes nobody.
type authHost struct{ component.Host }

var authID = component.MustNewID("nobody")

func (authHost) GetExtensions() map[component.ID]component.Component {
	return map[component.ID]component.Component{authID: nobody{}}
}

// nobody is that authenticator.
type nobody struct {
	component.StartFunc
	component.ShutdownFunc
}

var _ extensionauth.Server = nobody{}

func (nobody) Authenticate(ctx context.Context, _ map[string][]string) (context.Context, error) {
	return ctx, errors.New("no credentials")
}

func TestConfighttpAuthCoversAllRoutes(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	cfg.NetAddr.Endpoint = "localhost:0"
	cfg.Auth = configoptional.Some(confighttp.AuthConfig{Config: configauth.Config{AuthenticatorID: authID}})
	cfg.CORS.GetOrInsertDefault().AllowedOrigins = []string{"https://shop.example.com"}
	r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), consumertest.NewNop())
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), authHost{componenttest.NewNopHost()}))
	tr := &testReceiver{segmentReceiver: r, t: t, url: "http://" + r.listener.Addr().String()}
	for _, path := range []string{"/v1/track", "/v1/m", "/nowhere"} {
		a := tr.post(path, `{"event":"e"}`)
		assert.Equal(t, http.StatusUnauthorized, a.status)
		assert.Equal(t, "unauthorized", a.code(t))
	}
	preflight := tr.do(http.MethodOptions, "/v1/t", "", "Origin", "https://shop.example.com", "Access-Control-Request-Method", "POST")
	assert.Equal(t, http.StatusNoContent, preflight.status, "a preflight never carries credentials")
	require.NoError(t, r.Shutdown(t.Context()))
}

type recorder struct {
	bytes.Buffer
	header http.Header
	status int
}

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }

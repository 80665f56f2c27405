// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Write keys of web pages are public: whoever can reach the port may send anything.

func batchOf(messages ...string) string { return `{"batch":[` + strings.Join(messages, ",") + `]}` }

func repeated(n int, message func(i int) string) []string {
	messages := make([]string, n)
	for i := range messages {
		messages[i] = message(i)
	}
	return messages
}

// hostileBodies are bodies of up to 4 MiB that are made to cost much.
func hostileBodies() map[string]string {
	const size = 4<<20 - 1000
	long := strings.Repeat("x", size/2)
	alternating := repeated(9000, func(i int) string {
		if i%2 == 0 {
			return `{"type":"track","event":"e"}`
		}
		return `{"type":"track","event":"e","context":{"source":"own"}}`
	})
	filled := func(field string) string {
		return batchOf(repeated(size/32_000, func(i int) string {
			return fmt.Sprintf(`{"type":"page","name":"n%d","event":"e",%q:%q}`, i, field, strings.Repeat("y", 31_000))
		})...)
	}
	return map[string]string{
		"a batch's source beside those of messages": `{"context":{"source":"` + long + `"},"batch":[` + strings.Join(alternating, ",") + `]}`,
		"a batch's number as source":                `{"context":{"source":` + strings.Repeat("9", size/2) + `},"batch":[` + strings.Join(alternating, ",") + `]}`,
		"a batch's source in escapes":               `{"context":{"source":"` + strings.Repeat(`\u0078`, size/12) + `"},"batch":[` + strings.Join(alternating, ",") + `]}`,
		"long categories":                           filled("category"),
		"long ids":                                  filled("messageId"),
		"long keys":                                 filled("writeKey"),
		"long times":                                filled("timestamp"),
		"many properties kept": batchOf(repeated(9000, func(i int) string {
			return fmt.Sprintf(`{"type":"track","event":"e%d","properties":{"a":1,"b":2,"c":"%d","d":"x","e":true}}`, i, i)
		})...),
		"many names": batchOf(repeated(9999, func(i int) string {
			return fmt.Sprintf(`{"type":"track","event":"%d%s"}`, i, strings.Repeat("z", 350))
		})...),
		"many sources": batchOf(repeated(9999, func(i int) string {
			return fmt.Sprintf(`{"type":"track","event":"e","context":{"source":"%d%s"}}`, i, strings.Repeat("z", 300))
		})...),
		"tiny messages":         batchOf(repeated(size/30, func(int) string { return `{"type":"track","event":"e"}` })...),
		"bad messages":          batchOf(repeated(9999, func(int) string { return `{"type":"track","event":"e","x":NaN}` })...),
		"numbers as messages":   batchOf(repeated(size/2, func(int) string { return "1" })...),
		"a deep body":           strings.Repeat("[", size),
		"deep messages":         batchOf(repeated(size/1030, func(int) string { return strings.Repeat("[", 500) + strings.Repeat("]", 500) })...),
		"one string of escapes": `{"batch":[],"x":"` + strings.Repeat(`\n`, size/2) + `"}`,
		"escaped keys":          `{"batch":[],` + strings.Repeat(`"\u0061":1,`, size/11) + `"b":1}`,
		"only space":            strings.Repeat(" ", size),
		"not UTF-8":             `{"batch":["` + strings.Repeat("\xff", size) + `"]}`,
	}
}

// TestNoBodyIsAmplified: what is allocated for a request, all that is garbage again included, is a small multiple of
// its body.
func TestNoBodyIsAmplified(t *testing.T) {
	cfg := func(c *Config) {
		c.Events = []EventType{"track", "page"}
		c.Properties = []string{"a", "b", "c", "d", "e"}
		c.Deduplication.ForwardIDs = true
	}
	for name, body := range hostileBodies() {
		require.LessOrEqual(t, len(body), 4<<20, name)
		for _, encoding := range []string{"", "gzip", "zstd", "deflate"} {
			r := newTestReceiver(t, consumertest.NewNop(), cfg)
			server, err := r.newServer(t.Context(), componenttest.NewNopHost())
			require.NoError(t, err)
			packed := body
			if encoding != "" {
				packed = compress(encoding, body)
			}
			req := httptest.NewRequest(http.MethodPost, "/v1/batch", strings.NewReader(packed))
			req.Header.Set("Content-Encoding", encoding)
			w := httptest.NewRecorder()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			server.Handler.ServeHTTP(w, req)
			runtime.ReadMemStats(&after)
			assert.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, w.Code, name)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(80<<20), "%s %s: %d", name, encoding, w.Code)
			assertAllFree(t, r)
		}
	}
}

// assertAllFree checks that no request holds anything.
func assertAllFree(t *testing.T, r *segmentReceiver) {
	t.Helper()
	assert.Eventually(t, func() bool {
		r.memory.mu.Lock()
		defer r.memory.mu.Unlock()
		return r.memory.small+r.memory.large == r.config.MaxInFlightBytes
	}, 5*time.Second, time.Millisecond)
}

func liveBytes() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // what is in pools goes with the second
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc + stats.StackInuse
}

// TestManyRequestsHoldNoMoreThanTheBound has the pipeline hold on to as many large requests as it gets.
func TestManyRequestsHoldNoMoreThanTheBound(t *testing.T) {
	const bound = 64 << 20
	entered, leave := make(chan struct{}, 1000), make(chan struct{})
	r := newTestReceiver(t, consumerFunc(func(context.Context, pmetric.Metrics) error {
		entered <- struct{}{}
		<-leave
		return nil
	}), func(c *Config) { c.MaxInFlightBytes = bound })
	r.memory.patience = 100 * time.Millisecond
	body := hostileBodies()["many names"]
	statuses := make(chan int, 100)
	send := func(body string) {
		w := httptest.NewRecorder()
		r.handle(w, httptest.NewRequest(http.MethodPost, "/v1/batch", strings.NewReader(body)))
		if w.Code == http.StatusServiceUnavailable {
			assert.NotEmpty(t, w.Header().Get("Retry-After"))
		}
		statuses <- w.Code
	}
	before := liveBytes()
	var sending sync.WaitGroup
	for range 60 {
		sending.Go(func() { send(body) })
	}
	refused, taken := 0, 0
	for refused+taken < 60 {
		select {
		case status := <-statuses:
			require.Equal(t, http.StatusServiceUnavailable, status)
			refused++
		case <-entered:
			taken++
		}
	}
	assert.Positive(t, refused)
	assert.Positive(t, taken)
	assert.Less(t, liveBytes()-before, uint64(2*bound))

	// What is small finds room beside them.
	sending.Go(func() { send(`{"batch":[{"type":"track","event":"e"}]}`) })
	<-entered
	close(leave)
	sending.Wait()
	close(statuses)
	for status := range statuses {
		assert.Equal(t, http.StatusOK, status)
	}
	assertAllFree(t, r)
}

// TestARequestWaitsForRoom: it gets it when another gives back.
func TestARequestWaitsForRoom(t *testing.T) {
	m := newMemory(4 * smallRequest)
	m.patience = 10 * time.Second
	var first, second held
	require.True(t, m.take(t.Context(), &first, 3*smallRequest))
	require.False(t, m.take(canceled(t), &second, smallRequest+1))
	done := make(chan bool)
	go func() { done <- m.take(t.Context(), &second, smallRequest+1) }()
	require.Eventually(t, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.freed != nil
	}, 5*time.Second, time.Millisecond)
	m.release(&first)
	require.True(t, <-done)
	m.patience = time.Millisecond
	require.False(t, m.take(t.Context(), &first, 3*smallRequest))
	assert.Zero(t, first.sum(), "a request that got nothing holds nothing")
	m.release(&second)
	require.True(t, m.take(t.Context(), &first, 3*smallRequest))
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// TestAnnouncedBodiesCostNothing: memory follows what was received.
func TestAnnouncedBodiesCostNothing(t *testing.T) {
	tr := startReceiver(t)
	before := liveBytes()
	const connections = 500
	for range connections {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", tr.listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n\r\n{")
		require.NoError(t, err)
	}
	free := tr.config.MaxInFlightBytes - connections*firstHold
	require.Eventually(t, func() bool {
		tr.memory.mu.Lock()
		defer tr.memory.mu.Unlock()
		return tr.memory.small+tr.memory.large == free
	}, 10*time.Second, time.Millisecond)
	assert.Less(t, liveBytes()-before, uint64(64<<20))
	tr.post("/v1/track", `{"event":"e"}`).assertSuccess(t)
}

// TestUndecidedWebhooksAreBounded: they hold what they brought until the pipeline decides, though they are answered.
func TestUndecidedWebhooksAreBounded(t *testing.T) {
	tr := startReceiver(t, func(c *Config) { c.Webhook = configoptional.Some(WebhookConfig{Path: "/hook"}) })
	tr.webhookLimit = 10 * time.Millisecond
	leave := make(chan struct{})
	tr.consume(func(context.Context, pmetric.Metrics) error {
		<-leave
		return nil
	})
	body := `{"type":"track","event":"e"}`
	assert.Equal(t, "timeout", tr.post("/hook", body).code(t))
	tr.memory.mu.Lock()
	assert.Equal(t, tr.config.MaxInFlightBytes-firstHold-messageHold, tr.memory.small+tr.memory.large)
	tr.memory.mu.Unlock()

	tr.deliveries.Add(maxDeliveries - 1)
	a := tr.post("/hook", body)
	assert.Equal(t, "overloaded", a.code(t))
	assert.NotEmpty(t, a.header.Get("Retry-After"))
	tr.deliveries.Add(1 - maxDeliveries)
	close(leave)
	tr.post("/hook", body).assertSuccess(t)
	assertAllFree(t, tr.segmentReceiver)
}

// TestAGzipReaderIsClosedTwice, by a middleware and by confighttp: two requests must not get the same one.
func TestAGzipReaderIsClosedTwice(t *testing.T) {
	open := func() *gzipReader {
		r, err := newGzipReader(io.NopCloser(strings.NewReader(compress("gzip", "x"))))
		require.NoError(t, err)
		return r.(*gzipReader)
	}
	first := open()
	require.NoError(t, first.Close())
	require.NoError(t, first.Close())
	_, err := first.Read(make([]byte, 1))
	require.Error(t, err)
	second, third := open(), open()
	assert.NotSame(t, second.reader, third.reader)
}

// TestWhatNetHTTPAnswers is what the README names as such.
func TestWhatNetHTTPAnswers(t *testing.T) {
	tr := startReceiver(t)
	for text, want := range map[string]string{
		"POST /v1/track HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n":                           "HTTP/1.1 501 Not Implemented",
		"POST /v1/track HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: x\r\n\r\n":                 "HTTP/1.1 417 Expectation Failed",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":                                   "HTTP/1.1 200 OK",
		"POST /v1/track HTTP/1.1\r\n\r\n":                                                              "HTTP/1.1 400 Bad Request: missing required Host header",
		"POST /v1/track HTTP/3.0\r\nHost: x\r\n\r\n":                                                   "HTTP/1.1 505 HTTP Version Not Supported: unsupported protocol version",
		"POST /v1/track HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", maxHeader+8192) + "\r\n\r\n": "HTTP/1.1 431 Request Header Fields Too Large",
	} {
		assert.Equal(t, want, rawRequest(text)(t, tr)[0])
	}
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcol-segment/otelcol-segment/internal/idset/idsettest"
)

// scale has tests run for as long, and with as much, as the service does; only then do they ask for times.
var scale = flag.Bool("scale", false, "long runs that also assert how long things take; for a machine with nothing else to do")

const hostileConfig = `
receivers:
  segment:
    endpoint: ${env:SEGMENT_ADDR}
    write_keys: [honest-key, ` + idsettest.WriteKey + `]
    deduplication: {forward_ids: true}
exporters:
  librato:
    endpoint: ${env:LIBRATO_ENDPOINT}
    email: e2e@example.com
    token: e2e
    flush_interval: 1s
    storage: file_storage
extensions:
  file_storage: {directory: "${env:STATE_DIRECTORY}", create_directory: true}
service:
  extensions: [file_storage]
  telemetry:
    logs: {level: error}
  pipelines:
    metrics: {receivers: [segment], exporters: [librato]}
`

// maxHostileMemory is what the collector may ever have resident while anyone sends it anything: its default of
// max_in_flight_bytes, what it has without a load, and what the garbage collector leaves until its next turn.
const maxHostileMemory = 400 << 20

// TestHostile sends random requests of the worst kinds beside an honest client, who repeats each event until it is taken. Nothing
// of the honest client's is lost, and memory stays bounded. With -scale it takes a minute, and the honest client never
// waits for longer than a second; without, how long it waited is said, since that depends on what else the machine does.
func TestHostile(t *testing.T) {
	duration, longest := 15*time.Second, time.Minute
	if *scale {
		duration, longest = time.Minute, time.Second
	}
	service := startLibrato(t)
	c := startCollector(t, hostileConfig, service.env()...)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)

	whole := t.Context() // what was begun in time may end later
	ctx, cancel := context.WithTimeout(whole, duration)
	defer cancel()
	h := newHostile(c.ready)
	var attackers sync.WaitGroup
	h.hold(ctx, t, 500)
	for n := range 6 {
		attackers.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(n)))
			for ctx.Err() == nil {
				h.attack(ctx, rnd)
			}
		})
	}

	const clients = 4
	want, waited := make([]totals, clients), make([]time.Duration, clients)
	var honest sync.WaitGroup
	for n := range clients {
		want[n] = totals{}
		honest.Go(func() {
			for sent := 0; ctx.Err() == nil; sent++ {
				source, value := fmt.Sprintf("honest-%d-%d", n, sent%5), float64(sent%10)
				body := fmt.Sprintf(`{"event":"Honest","messageId":"honest-%d-%d","properties":{"value":%g},"context":{"Librato":{"source":%q}}}`, n, sent, value, source)
				begin := time.Now()
				for !taken(whole, c.segment+"/v1/track", "honest-key", body) && whole.Err() == nil {
					time.Sleep(20 * time.Millisecond)
				}
				waited[n] = max(waited[n], time.Since(begin))
				want[n].add("Honest", source, value)
				time.Sleep(20 * time.Millisecond) // a load, not a benchmark
			}
		})
	}
	attackers.Wait()
	honest.Wait()

	select {
	case <-c.done:
		require.Fail(t, "the collector died")
	default:
	}
	all, events := totals{}, uint64(0)
	for n := range clients {
		for s, v := range want[n] {
			all[s] = v
			events += v.count
		}
		assert.LessOrEqual(t, waited[n], longest, "an honest client waited")
	}
	assert.EventuallyWithT(t, func(ct *assert.CollectT) {
		got := totals{}
		for s, v := range service.totals(t) {
			if strings.HasPrefix(s.source, "honest-") {
				got[s] = v
			}
		}
		assert.Equal(ct, all, got)
	}, arriveTimeout, 200*time.Millisecond)
	peak := memoryOf(t, c.cmd.Process.Pid, "VmHWM")
	assert.LessOrEqual(t, peak, int64(maxHostileMemory))
	t.Logf("%d honest events, the longest wait of each client %v; %d hostile requests, answers %s; peak %d MiB",
		events, waited, h.sent.Load(), h.answers(), peak>>20)
}

// taken posts body once, with an SDK's patience.
func taken(ctx context.Context, url, key, body string) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	status, _, err := post(ctx, url, key, body)
	return err == nil && status == http.StatusOK
}

// memoryOf returns a field of /proc/PID/status in bytes.
func memoryOf(t *testing.T, pid int, field string) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			require.NoError(t, err)
			return kib << 10
		}
	}
	require.Fail(t, "no "+field)
	return 0
}

// hostile makes requests that nobody needs.
type hostile struct {
	addr    string
	bodies  []body // that take long to make
	sent    atomic.Int64
	mu      sync.Mutex
	byState map[string]int
}

// body is what a request carries, compressed as encoding says.
type body struct {
	path, encoding string
	bytes          []byte
}

func newHostile(addr string) *hostile {
	h := &hostile{addr: addr, byState: map[string]int{}}
	batch := func(messages []string, behind string) string {
		return `{"batch":[` + strings.Join(messages, ",") + `]` + behind + `}`
	}
	repeated := func(n int, message func(i int) string) []string {
		messages := make([]string, n)
		for i := range messages {
			messages[i] = message(i)
		}
		return messages
	}
	add := func(path, text string) {
		plain := []byte(text)
		h.bodies = append(h.bodies, body{path, "gzip", zipped(plain)})
		if len(plain) < 4<<20 {
			h.bodies = append(h.bodies, body{path, "", plain})
		}
	}
	// A source of the batch that half of the messages have to be given.
	add("/v1/batch", batch(repeated(8_000, func(i int) string {
		if i%2 == 0 {
			return `{"type":"track","event":"Hostile"}`
		}
		return `{"type":"track","event":"Hostile","context":{"source":"y"}}`
	}), `,"context":{"source":"`+strings.Repeat("x", 2_000_000)+`"}`))
	// Ids that one exporter takes for one, and a receiver whose hash they know as well.
	ids := idsettest.Colliding(2_000)
	add("/v1/batch", batch(repeated(len(ids), func(i int) string {
		return `{"type":"track","event":"Hostile","messageId":"` + ids[i] + `"}`
	}), ""))
	// Long names, that are kept as they were spelled.
	add("/v1/batch", batch(repeated(100, func(i int) string {
		return `{"type":"track","event":"` + strconv.Itoa(i) + strings.Repeat("n", 30_000) + `"}`
	}), ""))
	// As many messages as fit, and more.
	add("/v1/batch", batch(repeated(300_000, func(int) string { return `{}` }), ""))
	add("/v1/batch", batch(repeated(60_000, func(int) string { return `{"type":"track","event":"Hostile"}` }), ""))
	// Nesting, closed and not.
	deep := strings.Repeat("[", 1<<20)
	add("/v1/track", `{"event":"Hostile","properties":{"x":`+deep+strings.ReplaceAll(deep, "[", "]")+`}}`)
	add("/v1/track", `{"event":"Hostile","properties":`+strings.Repeat(`{"a":`, 500_000))
	// Large values of every kind.
	add("/v1/track", `{"event":"Hostile","properties":{"value":`+strings.Repeat("1", 3<<20)+`}}`)
	add("/v1/track", `{"event":"Hostile","messageId":"`+strings.Repeat("m", 3<<20)+`"}`)
	add("/v1/track", `{"event":"`+strings.Repeat(`\ud83d\ude00`, 300_000)+`"}`)
	// A gzip of 64 MiB, and one in another.
	bomb := zipped(bytes.Repeat([]byte(" "), 64<<20))
	h.bodies = append(h.bodies, body{"/v1/batch", "gzip", bomb}, body{"/v1/batch", "gzip, gzip", zipped(bomb)}, body{"/v1/batch", "gzip", zipped(bomb)})
	return h
}

func zipped(plain []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(plain) // a bytes.Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

var hostileAuth = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(idsettest.WriteKey+":")) + "\r\n"

// hold opens connections that announce a large body, send one byte of it and then nothing, until ctx is done.
func (h *hostile) hold(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	for range n {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", h.addr)
		require.NoError(t, err)
		_, err = io.WriteString(conn, "POST /v1/batch HTTP/1.1\r\nHost: hostile\r\n"+hostileAuth+"Content-Length: 4194304\r\n\r\n{")
		require.NoError(t, err)
		context.AfterFunc(ctx, func() { conn.Close() })
	}
}

// attack sends one request of a random kind.
func (h *hostile) attack(ctx context.Context, rnd *rand.Rand) {
	b := h.bodies[rnd.IntN(len(h.bodies))]
	path, headers, content := b.path, "", b.bytes
	length := len(content)
	switch rnd.IntN(8) {
	case 0: // cut off, or with something behind it
		length += rnd.IntN(1000) - 500
	case 1: // something else than is said
		b.encoding = []string{"gzip", "br", "deflate", "zstd", "identity", "", "nonsense", "gzip, br"}[rnd.IntN(8)]
	case 2: // broken somewhere
		content = bytes.Clone(content)
		for range 1 + rnd.IntN(5) {
			content[rnd.IntN(len(content))] = byte(rnd.IntN(256))
		}
	case 3: // random bytes
		content = make([]byte, rnd.IntN(100_000))
		for i := range content {
			content[i] = byte(rnd.IntN(256))
		}
		length = len(content)
	case 4: // large headers and queries
		path = "/v1/pixel/track?data=" + strings.Repeat("e30", rnd.IntN(100_000))
		headers = "X-Large: " + strings.Repeat("h", rnd.IntN(100_000)) + "\r\n"
	case 5: // another key, or none
		path += "?writeKey=" + strconv.Itoa(rnd.IntN(1000))
	default:
	}
	if rnd.IntN(8) != 0 {
		headers += hostileAuth
	}
	if b.encoding != "" {
		headers += "Content-Encoding: " + b.encoding + "\r\n"
	}
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: hostile\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n", path, headers, max(0, length))

	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", h.addr)
	if err != nil {
		h.note("no connection")
		return
	}
	defer conn.Close()
	h.sent.Add(1)
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second)) // writes fail then
	if _, err := io.WriteString(conn, head); err != nil {
		h.note("closed")
		return
	}
	slow := rnd.IntN(20) == 0
	for len(content) > 0 && ctx.Err() == nil {
		n := len(content)
		if slow {
			n = min(n, 1+len(b.bytes)/10)
			time.Sleep(50 * time.Millisecond)
		}
		if _, err := conn.Write(content[:n]); err != nil {
			break // it may have answered and closed
		}
		content = content[n:]
	}
	if rnd.IntN(10) == 0 {
		return // without waiting for the answer
	}
	answer := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(conn, answer); err != nil {
		h.note("none")
		return
	}
	h.note(string(answer[len("HTTP/1.1 "):]))
}

func (h *hostile) note(state string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byState[state]++
}

func (h *hostile) answers() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprint(h.byState)
}

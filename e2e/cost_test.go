// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

// The benchmarks here measure what exactly-once costs; docs/reliability.md has their figures.

const costConfig = `
receivers:
  segment:
    endpoint: ${env:SEGMENT_ADDR}
    deduplication: {forward_ids: "${env:FORWARD_IDS}"}
exporters:
  librato:
    endpoint: ${env:LIBRATO_ENDPOINT}
    email: e2e@example.com
    token: e2e
    max_streams: 200000
    max_increments: 400000
extensions:
  file_storage: {directory: "${env:STATE_DIRECTORY}", create_directory: true, fsync: "${env:FSYNC}"}
service:
  extensions: [file_storage]
  telemetry:
    logs: {level: error}
    metrics:
      readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: "${env:METRICS_PORT}"}}}}]
  pipelines:
    metrics: {receivers: [segment], exporters: [librato]}
`

const withStorage = `
exporters:
  librato: {storage: file_storage}
`

// costCollector is a collector for measuring, and what its /metrics says.
type costCollector struct {
	process *os.Process
	wait    func()
	addr    string
	metrics string
}

func startCost(b *testing.B, dir string, env []string, overlays ...string) *costCollector {
	b.Helper()
	listen := func() string {
		l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
		require.NoError(b, err)
		defer l.Close()
		return l.Addr().String()
	}
	c := &costCollector{addr: listen(), metrics: listen()}
	var args []string
	for i, text := range append([]string{costConfig}, overlays...) {
		path := filepath.Join(dir, fmt.Sprintf("config-%d.yaml", i))
		require.NoError(b, os.WriteFile(path, []byte(text), 0o600))
		args = append(args, "--config", path)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(append(os.Environ(), env...), "SEGMENT_ADDR="+c.addr, "STATE_DIRECTORY="+filepath.Join(dir, "state"),
		"METRICS_PORT="+c.metrics[strings.LastIndexByte(c.metrics, ':')+1:])
	cmd.Stderr = os.Stderr
	require.NoError(b, cmd.Start())
	c.process = cmd.Process
	c.wait = sync.OnceFunc(func() { _ = cmd.Wait() })
	b.Cleanup(func() { _ = c.process.Kill(); c.wait() })
	require.Eventually(b, func() bool {
		conn, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", c.addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, time.Minute, time.Millisecond)
	return c
}

func (c *costCollector) metric(b *testing.B, name string) float64 {
	b.Helper()
	value, _ := scrape(b.Context(), c.metrics, name)
	return value
}

// cpu returns the user and system time of the process so far.
func (c *costCollector) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.process.Pid))
	require.NoError(b, err)
	var user, system int64 // in hundredths of a second, fields 14 and 15
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	require.NoError(b, err)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// written returns the bytes that the process wrote so far, to files and sockets.
func (c *costCollector) written(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", c.process.Pid))
	require.NoError(b, err)
	_, rest, _ := strings.Cut(string(text), "wchar: ")
	var n float64
	_, err = fmt.Sscan(rest, &n)
	require.NoError(b, err)
	return n
}

// BenchmarkStorage sends single events over 100 streams, with and without storage. ns/op is the wall time
// of an event with clients and service on the same machine; the rest is the collector's.
func BenchmarkStorage(b *testing.B) {
	for _, setting := range []struct {
		name     string
		callers  int
		env      []string
		overlays []string
	}{
		{"memory", 16, []string{"FORWARD_IDS=false", "FSYNC=false"}, nil},
		{"memory with ids", 16, []string{"FORWARD_IDS=true", "FSYNC=false"}, nil},
		{"storage", 16, []string{"FORWARD_IDS=true", "FSYNC=false"}, []string{withStorage}},
		{"storage, one caller", 1, []string{"FORWARD_IDS=true", "FSYNC=false"}, []string{withStorage}},
		{"storage with fsync", 16, []string{"FORWARD_IDS=true", "FSYNC=true"}, []string{withStorage}},
	} {
		b.Run(setting.name, func(b *testing.B) {
			service := httptest.NewServer(libratoserver.New(libratoserver.WithSink()))
			b.Cleanup(service.Close)
			c := startCost(b, b.TempDir(), append(setting.env, "LIBRATO_ENDPOINT="+service.URL), setting.overlays...)
			var next atomic.Int64
			run := func(events int64) {
				next.Store(0)
				var wg sync.WaitGroup
				for range setting.callers {
					wg.Go(func() {
						conn, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", c.addr)
						if err != nil {
							b.Error(err)
							return
						}
						defer conn.Close()
						answers := bufio.NewReader(conn)
						for n := next.Add(1); n <= events; n = next.Add(1) {
							body := fmt.Sprintf(`{"type":"track","event":"Cost %d","messageId":"%d-%d","properties":{"value":1},"context":{"Librato":{"source":"host-%d"}}}`,
								n%10, time.Now().UnixNano(), n, n/10%10)
							fmt.Fprintf(conn, "POST /v1/track HTTP/1.1\r\nHost: cost\r\nAuthorization: Basic a2V5Og==\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
							resp, err := http.ReadResponse(answers, nil)
							if err != nil || resp.StatusCode != http.StatusOK {
								b.Error(resp, err)
								return
							}
							_, _ = answers.Discard(int(resp.ContentLength))
						}
					})
				}
				wg.Wait()
			}
			run(2_000) // opens the streams
			commits, bytes, cpu := c.metric(b, "exporter_librato_commits"), c.metric(b, "exporter_librato_commit_bytes"), c.cpu(b)
			written := c.written(b)
			b.ResetTimer()
			run(int64(b.N))
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64((c.cpu(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/event")
			b.ReportMetric((c.written(b)-written)/float64(b.N), "written-B/event")
			if setting.overlays != nil {
				b.ReportMetric((c.metric(b, "exporter_librato_commits")-commits)/float64(b.N), "commits/event")
				b.ReportMetric((c.metric(b, "exporter_librato_commit_bytes")-bytes)/float64(b.N), "stored-B/event")
			}
		})
	}
}

// BenchmarkRecovery kills a collector that holds 100,000 increments, one each of as many streams, and measures how long
// the next one takes until it accepts events.
func BenchmarkRecovery(b *testing.B) {
	for _, streams := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("increments=%d", streams), func(b *testing.B) {
			dir := b.TempDir()
			env := []string{"FORWARD_IDS=true", "FSYNC=false", "LIBRATO_ENDPOINT=http://127.0.0.1:9"} // nobody there
			c := startCost(b, dir, env, withStorage)
			const batch = 1000
			for from := 0; from < streams; from += batch {
				events := make([]string, batch)
				for i := range events {
					events[i] = fmt.Sprintf(`{"type":"track","event":"Recovery","messageId":"m-%d","context":{"Librato":{"source":"host-%d"}}}`, from+i, from+i)
				}
				status, answer, err := post(b.Context(), "http://"+c.addr+"/v1/batch", "key", `{"batch":[`+strings.Join(events, ",")+`]}`)
				require.NoError(b, err)
				require.Equal(b, http.StatusOK, status, answer)
			}
			require.InDelta(b, streams, c.metric(b, "exporter_librato_increments"), float64(streams)/2) // a period may have ended
			bytes := c.metric(b, "exporter_librato_commit_bytes")
			kill := func() {
				_ = c.process.Signal(syscall.SIGKILL)
				c.wait()
			}
			kill()
			b.ResetTimer()
			for range b.N {
				c = startCost(b, dir, env, withStorage)
				b.StopTimer()
				kill()
				b.StartTimer()
			}
			b.StopTimer()
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/start")
			if streams > 0 {
				b.ReportMetric(bytes/float64(streams), "stored-B/stream")
				size := int64(0)
				files, err := filepath.Glob(filepath.Join(dir, "state", "*"))
				require.NoError(b, err)
				for _, file := range files {
					info, err := os.Stat(file)
					require.NoError(b, err)
					size += info.Size()
				}
				b.ReportMetric(float64(size)/float64(streams), "disk-B/stream")
			}
		})
	}
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var pageURL = regexp.MustCompile(`http://127\.0\.0\.1:\d+/`)

// startProgram returns where it serves, and how to stop it.
func startProgram(t *testing.T, out *buffer, args ...string) (url string, stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), out, out) }()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	require.Eventually(t, func() bool { return pageURL.MatchString(out.String()) }, 5*time.Second, time.Millisecond)
	return pageURL.FindString(out.String()), func() int {
		cancel()
		return <-code
	}
}

func post(t *testing.T, url string) int {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"v1/metrics", strings.NewReader(`{"gauges":[{"name":"a","value":2}]}`))
	require.NoError(t, err)
	req.SetBasicAuth("me@example.com", "token")
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

func TestItServesUntilItIsStopped(t *testing.T) {
	var out buffer
	url, stop := startProgram(t, &out)
	assert.Equal(t, 200, post(t, url))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"_local/totals", http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	totals, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Contains(t, string(totals), `"stored":{"count":1,"sum":2,"min":2,"max":2}`)
	assert.Zero(t, stop())
	assert.Contains(t, out.String(), "POST /v1/metrics: 200 OK, 1 measurements, 35 bytes\n")
}

func TestQuietSink(t *testing.T) {
	var out buffer
	url, stop := startProgram(t, &out, "-quiet", "-sink")
	assert.Equal(t, 200, post(t, url))
	assert.Zero(t, stop())
	assert.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
}

func TestBusyPort(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	var out buffer
	addr := taken.Addr().String()
	assert.Equal(t, 1, run(t.Context(), []string{"-addr", addr}, &out, &out))
	assert.Equal(t, "librato-local: "+addr+" is in use by another program; stop it or choose another address with -addr\n", out.String())
}

func TestFlags(t *testing.T) {
	for args, want := range map[string]int{
		"-addr 0.0.0.0:0": 2, "-addr :8089": 2, "-addr [::]:0": 2, "-addr example.com:1": 2, "-none": 2, "x": 2, "-h": 0,
		"-addr 127.0.0.1": 1, "-addr 127.0.0.1:99999": 1,
	} {
		var out buffer
		assert.Equal(t, want, run(t.Context(), strings.Fields(args), &out, &out), args)
		if want == 1 {
			assert.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
		}
	}
	assert.True(t, isLoopback("[::1]:80"))
	assert.True(t, isLoopback("localhost:80"))
}

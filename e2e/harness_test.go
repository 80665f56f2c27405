// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e drives the built collector from outside: real SDKs send to it, and a Librato in this process takes what it
// posts. All configs take their addresses from the environment, so no port is fixed.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	binary      = "../_build/otelcol-segment"
	largeBinary = "../_build-large/otelcol-segment-large" // of `make large`

	startTimeout = 30 * time.Second
	// arriveTimeout bounds the wait for measurements; with a flush interval of a second they take one or two.
	arriveTimeout = 60 * time.Second
)

func TestMain(m *testing.M) {
	if out, err := exec.Command("make", "-C", "..", "build").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "make build: %v\n%s", err, out)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// unavailable skips the test with its reason where something that this machine lacks is needed. In CI that is a failure:
// what is skipped there is skipped for good.
func unavailable(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		require.Fail(t, "CI must be able to run this test", reason)
	}
	t.Skip(reason)
}

// collector is a running otelcol-segment.
type collector struct {
	binary  string
	ready   string // the address that listens once it runs
	segment string // URL of the Segment receiver
	otlp    string // URL of the OTLP/HTTP receiver, if the config has one
	args    []string
	env     []string
	cmd     *exec.Cmd
	logs    *lockedBuffer
	done    chan struct{} // closed when it ended
}

// startCollector writes config, which may use SEGMENT_ADDR, OTLP_ADDR, STATE_DIRECTORY and the given variables ("NAME=value")
// of the environment, to a file and starts the collector with it. It runs until the test ends.
func startCollector(t *testing.T, config string, env ...string) *collector {
	t.Helper()
	return startBinary(t, binary, config, env...)
}

// startBinary does so with another build of the collector.
func startBinary(t *testing.T, program, config string, env ...string) *collector {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	segment, otlp := freeAddr(t), freeAddr(t)
	c := &collector{
		binary:  program,
		ready:   segment,
		segment: "http://" + segment,
		otlp:    "http://" + otlp,
		args:    []string{"--config", file},
		env:     append([]string{"SEGMENT_ADDR=" + segment, "OTLP_ADDR=" + otlp, "STATE_DIRECTORY=" + filepath.Join(dir, "state")}, env...),
		logs:    &lockedBuffer{},
	}
	if !strings.Contains(config, "${env:METRICS_PORT}") {
		c.args = append(c.args, "--config", "yaml:service::telemetry::metrics::level: none")
	}
	if !strings.Contains(config, "${env:SEGMENT_ADDR}") {
		c.ready = otlp
	}
	c.start(t)
	t.Cleanup(func() {
		c.stop(t)
		if t.Failed() {
			t.Logf("the collector's log:\n%s", c.logs)
		}
	})
	return c
}

// stateDirectory returns what STATE_DIRECTORY is to the config.
func (c *collector) stateDirectory() string {
	for _, env := range c.env {
		if dir, ok := strings.CutPrefix(env, "STATE_DIRECTORY="); ok {
			return dir
		}
	}
	return ""
}

// start starts the collector, for the first time or again after stop or kill, and waits until it takes events.
func (c *collector) start(t *testing.T) {
	t.Helper()
	c.cmd = exec.Command(c.binary, c.args...)
	c.cmd.Env = append(os.Environ(), c.env...)
	c.cmd.Stdout, c.cmd.Stderr = c.logs, c.logs
	require.NoError(t, c.cmd.Start())
	c.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // its exit code is in cmd.ProcessState
		close(done)
	}(c.cmd, c.done)
	// Receivers start last: once this one listens, everything behind it runs.
	require.Eventually(t, func() bool {
		select {
		case <-c.done:
			return true
		default:
		}
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", c.ready)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	}, startTimeout, 20*time.Millisecond, "the collector does not listen:\n%s", c.logs)
	select {
	case <-c.done:
		require.Fail(t, "the collector ended at its start", c.logs.String())
	default:
	}
}

// stop ends the collector as an operator does.
func (c *collector) stop(t *testing.T) {
	t.Helper()
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended already
	select {
	case <-c.done:
	case <-time.After(startTimeout):
		_ = c.cmd.Process.Kill()
		<-c.done
		assert.Fail(t, "the collector did not stop", c.logs.String())
	}
}

// freeAddr returns a loopback address that nothing listens on. It lies below the ports that systems take for
// outgoing connections, of which there are many here, and no other test of this process gets it.
func freeAddr(t *testing.T) string {
	t.Helper()
	for {
		addr := "127.0.0.1:" + strconv.Itoa(15_000+rand.IntN(15_000))
		if _, taken := givenAddrs.LoadOrStore(addr, true); taken {
			continue
		}
		if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr); err == nil {
			require.NoError(t, l.Close())
			return addr
		}
	}
}

var givenAddrs sync.Map

// post sends body with basic auth for key and returns the status and the answer's body; status 0 is no answer.
func post(ctx context.Context, url, key, body string) (status int, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.SetBasicAuth(key, "")
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// runBinary runs the collector with args until it ends by itself.
func runBinary(t *testing.T, env []string, args ...string) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return string(out), err
}

// lockedBuffer is a bytes.Buffer that a process may write to while a test reads it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

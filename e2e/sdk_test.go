// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	analytics "gopkg.in/segmentio/analytics-go.v3"
)

// segmentToLibrato is the main job, with CORS for the page of the browser tests.
const segmentToLibrato = `
receivers:
  segment:
    endpoint: ${env:SEGMENT_ADDR}
    write_keys: [e2e-key]
    cors:
      allowed_origins: ["http://localhost:*"]
exporters:
  librato:
    endpoint: ${env:LIBRATO_ENDPOINT}
    email: e2e@example.com
    token: e2e
    flush_interval: 1s
service:
  pipelines:
    metrics: {receivers: [segment], exporters: [librato]}
`

// sdkEvent is what a test tracks; its JSON is what the JavaScript programs read.
type sdkEvent struct {
	Event      string         `json:"event"`
	Properties map[string]any `json:"properties,omitempty"`
	Context    map[string]any `json:"context,omitempty"`
}

// sdkEvents returns 60 events over three names and three sources (one of them the default), a third of each with no
// value, and what must stand in Librato for them.
func sdkEvents() ([]sdkEvent, totals) {
	names := []struct{ sent, cleaned string }{
		{"Signed Up", "Signed-Up"},
		{"order.completed", "order.completed"},
		{"Café Visited 😀", "Caf--Visited---"},
	}
	sources := []string{"", "web-1:8080", "worker"}
	values := []any{nil, 2, 0.5, nil, 0, -3}
	var events []sdkEvent
	want := totals{}
	for i := range 60 {
		name, source, value := names[i%3], sources[i/3%3], values[i/9%6]
		e := sdkEvent{Event: name.sent, Properties: map[string]any{"plan": "pro"}}
		number := 1.0
		switch v := value.(type) {
		case int:
			number = float64(v)
			e.Properties["value"] = v
		case float64:
			number = v
			e.Properties["value"] = v
		}
		at := name.cleaned
		if source != "" {
			at = source
			e.Context = map[string]any{"Librato": map[string]any{"source": source}}
		}
		events = append(events, e)
		want.add(name.cleaned, at, number)
	}
	return events, want
}

// TestSDKs sends N events with each SDK as it is published; every count and sum in Librato is exact.
func TestSDKs(t *testing.T) {
	for _, sdk := range []struct {
		name  string
		track func(t *testing.T, host string, events []sdkEvent) (finish func())
	}{
		{"node3", javaScript("node3.mjs", nil)},
		{"node6", javaScript("node6.cjs", nil)},
		{"browser-standard", javaScript("browser.mjs", map[string]any{"mode": "standard"})},
		{"browser-batching", javaScript("browser.mjs", map[string]any{"mode": "batching"})},
		{"browser-unload", javaScript("browser.mjs", map[string]any{"mode": "unload"})},
		{"go", goSDK},
	} {
		t.Run(sdk.name, func(t *testing.T) {
			service := startLibrato(t)
			c := startCollector(t, segmentToLibrato, service.env()...)
			events, want := sdkEvents()
			finish := sdk.track(t, recorded(t, sdk.name, c.segment), events)
			service.eventually(t, want)
			finish()
			// Whatever the SDK repeats at its end must not count again.
			c.stop(t)
			assert.Equal(t, want, service.totals(t))
		})
	}
}

// javaScript returns a function that runs a program of sdks/ with input on top of what all of them take. A program may
// wait for its stdin to close before it ends.
func javaScript(program string, input map[string]any) func(*testing.T, string, []sdkEvent) func() {
	return func(t *testing.T, host string, events []sdkEvent) func() {
		t.Helper()
		all := map[string]any{"host": host, "writeKey": "e2e-key", "events": events}
		maps.Copy(all, input)
		if program == "browser.mjs" {
			all["executablePath"] = chromium(t)
		}
		return startNode(t, program, all)
	}
}

// startNode runs a program of sdks/ with input. The function that it returns closes the program's stdin and waits for its end.
func startNode(t *testing.T, program string, input map[string]any) (finish func()) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		unavailable(t, "Node.js is not installed")
	}
	if _, err := exec.Command("test", "-d", "sdks/node_modules").Output(); err != nil {
		unavailable(t, "the npm packages are not installed: run e2e/setup.sh")
	}
	arg, err := json.Marshal(input)
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, node, program, string(arg))
	cmd.Dir = "sdks"
	logs := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = logs, logs
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s says:\n%s", program, logs)
		}
	})
	return func() {
		stdin.Close()
		require.NoError(t, cmd.Wait(), "%s failed", program)
	}
}

// chromium returns the path of the browser.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	unavailable(t, "Chromium is not installed: run e2e/setup.sh as root")
	return ""
}

// goSDK tracks the events with analytics-go.
func goSDK(t *testing.T, host string, events []sdkEvent) func() {
	t.Helper()
	client, err := analytics.NewWithConfig("e2e-key", analytics.Config{
		Endpoint:  host,
		Interval:  200 * time.Millisecond,
		BatchSize: 20,
		Logger:    testLogger{t},
	})
	require.NoError(t, err)
	for _, e := range events {
		require.NoError(t, client.Enqueue(analytics.Track{
			UserId:     "user-1",
			Event:      e.Event,
			Properties: e.Properties,
			Context:    &analytics.Context{Extra: e.Context},
		}))
	}
	return func() { require.NoError(t, client.Close()) }
}

// testLogger fails the test for what analytics-go calls an error.
type testLogger struct{ t *testing.T }

func (l testLogger) Logf(format string, args ...any)   { l.t.Logf(format, args...) }
func (l testLogger) Errorf(format string, args ...any) { l.t.Errorf(format, args...) }

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write what TestGolden gets to ../testdata/requests")

// golden is segmentToLibrato with a file beside it, for what passes between the receiver and the exporter.
var golden = strings.NewReplacer(
	"exporters: [librato]", "exporters: [librato, file]",
	"exporters:\n  librato:", "exporters:\n  file:\n    path: ${env:STATE_DIRECTORY}.jsonl\n  librato:",
	"cors:", "deduplication: {forward_ids: true}\n    cors:",
).Replace(segmentToLibrato)

// TestGolden replays the recorded requests and compares what the receiver makes of each with NAME.metrics.json, and what
// the exporter posts with NAME.librato.json. Times depend on when a request is received: the data points' are compared
// relative to the first one's, and what is posted without its second.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("../testdata/requests/*.http")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		name := strings.TrimSuffix(path, ".http")
		t.Run(filepath.Base(name), func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Clean(path))
			require.NoError(t, err)
			service := startLibrato(t)
			c := startCollector(t, golden, service.env()...)
			awaitMidPeriod()
			isPost := bytes.HasPrefix(raw, []byte("POST"))
			answer := replay(t, c.segment, raw)
			if !isPost {
				return
			}
			assert.JSONEq(t, `{"success":true}`, answer)
			require.Eventually(t, func() bool { return len(service.Posts()) > 0 }, arriveTimeout, 20*time.Millisecond)
			c.stop(t)

			compare(t, name+".metrics.json", metricsJSON(t, c))
			compare(t, name+".librato.json", libratoJSON(t, service))
		})
	}
}

// awaitMidPeriod waits until the minute is neither about to end nor just begun, so that all events of a request fall into one.
func awaitMidPeriod() {
	now := time.Now()
	if second := now.Second(); second < 3 || second >= 57 {
		time.Sleep(now.Truncate(time.Minute).Add(time.Minute+3*time.Second).Sub(now) % time.Minute)
	}
}

// replay sends the request as it was recorded and returns the body of the answer.
func replay(t *testing.T, host string, raw []byte) string {
	t.Helper()
	head, body, _ := bytes.Cut(raw, []byte("\n\n"))
	req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(head), strings.NewReader("\n\n"))))
	require.NoError(t, err)
	out, err := http.NewRequestWithContext(t.Context(), req.Method, host+req.RequestURI, bytes.NewReader(body))
	require.NoError(t, err)
	out.Header = req.Header // the length is the body's, whatever the file says
	out.Header.Del("Content-Length")
	out.Header.Del("Accept-Encoding") // what the answer is compressed with is not the client's business here
	resp, err := http.DefaultClient.Do(out)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Less(t, resp.StatusCode, 300, "%s", answer)
	return string(answer)
}

// compare compares got with the file, or writes it there.
func compare(t *testing.T, path string, got any) {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	require.NoError(t, encoder.Encode(got))
	if *update {
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
		return
	}
	want, err := os.ReadFile(filepath.Clean(path))
	require.NoError(t, err)
	assert.Equal(t, string(want), b.String(), "%s; `make e2e E2EFLAGS='-run TestGolden -update'` writes it", path)
}

// metricsJSON returns what the file exporter wrote, as OTLP JSON.
func metricsJSON(t *testing.T, c *collector) any {
	t.Helper()
	file, err := os.ReadFile(filepath.Clean(c.stateDirectory() + ".jsonl"))
	require.NoError(t, err)
	var metrics any
	require.NoError(t, json.Unmarshal(file, &metrics), "one request is one call")
	var first int64
	normalize(t, metrics, &first)
	assert.WithinDuration(t, time.Now(), time.Unix(0, first), time.Minute)
	return metrics
}

// normalize replaces every time below v by its distance from the first one, and leaves out the version of the build.
func normalize(t *testing.T, v any, first *int64) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			normalize(t, e, first)
		}
	case map[string]any:
		for key, e := range v {
			text, isText := e.(string)
			if key == "version" {
				delete(v, key)
			}
			if key != "timeUnixNano" || !isText {
				continue
			}
			at, err := strconv.ParseInt(text, 10, 64)
			require.NoError(t, err)
			if *first == 0 {
				*first = at
			}
			v[key] = time.Duration(at-*first).String() + " after the first"
		}
		for _, key := range sortedKeys(v) {
			normalize(t, v[key], first)
		}
	}
}

// libratoJSON returns what was posted, with the gauges sorted and without their seconds.
func libratoJSON(t *testing.T, service *libratoService) any {
	t.Helper()
	gauges := []any{}
	for _, req := range service.Posts() {
		assert.Equal(t, "/v1/metrics", req.Path)
		assert.Regexp(t, `^otelcol-segment/\d+\.\d+\.\d+`, req.Header.Get("User-Agent"))
		assert.Equal(t, http.StatusOK, req.Status, req.Answer)
		var body struct {
			Gauges []any `json:"gauges"`
		}
		require.NoError(t, json.Unmarshal(req.Body, &body))
		gauges = append(gauges, body.Gauges...)
	}
	var texts []string
	for _, gauge := range gauges {
		fields, ok := gauge.(map[string]any)
		require.True(t, ok)
		at, ok := fields["measure_time"].(float64)
		require.True(t, ok)
		assert.WithinDuration(t, time.Now(), time.Unix(int64(at), 0), 2*time.Minute)
		delete(fields, "measure_time")
		text, err := json.Marshal(fields)
		require.NoError(t, err)
		texts = append(texts, string(text))
	}
	slices.Sort(texts)
	sorted := make([]json.RawMessage, len(texts))
	for i, text := range texts {
		sorted[i] = json.RawMessage(text)
	}
	return map[string]any{"gauges": sorted}
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

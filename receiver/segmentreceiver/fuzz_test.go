// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

var testReceived = time.Date(2026, 5, 4, 3, 2, 1, 500_000_000, time.UTC)

// addRequestSeeds adds the bodies of the golden requests, and the decoder's own cases.
func addRequestSeeds(f *testing.F) {
	for _, file := range requestFiles(f) {
		body, err := io.ReadAll(readRequest(f, file).Body)
		require.NoError(f, err)
		for _, s := range []shape{shapeMessage, shapeBatch, shapeArray} {
			f.Add(body, byte(s))
		}
		for typ := range calls {
			f.Add(body, byte(shapeMessage)+3*byte(typ))
		}
	}
	for _, tt := range decodeTests {
		how := byte(tt.shape)
		if tt.shape == shapeMessage {
			how += 3 * byte(callTrack)
		}
		f.Add([]byte(tt.body), how)
	}
}

// FuzzDecode compares the decoder with the oracle on whatever encoding/json takes as JSON, and makes sure that the
// decoder takes nothing else.
func FuzzDecode(f *testing.F) {
	addRequestSeeds(f)
	reused := newReading()
	f.Fuzz(func(t *testing.T, body []byte, how byte) {
		s, typ := shape(how%3), callUnknown
		if s == shapeMessage {
			typ = callType(how / 3 % byte(len(calls)))
		}
		for _, r := range []*reading{newReading(), reused} {
			compareWithOracle(t, r, body, s, typ)
			// Again in the next message, where the decoder may remember it.
			twice := slices.Concat([]byte(`{"batch":[`), body, []byte(`,`), body, []byte(`]}`))
			compareWithOracle(t, r, twice, shapeBatch, callUnknown)
		}
	})
}

func compareWithOracle(t *testing.T, r *reading, body []byte, s shape, typ callType) {
	err := r.take(body, s, typ)
	webhook := s == shapeArray
	if trimmed := strings.TrimLeft(string(body), " \t\r\n"); webhook && (trimmed == "" || trimmed[0] != '[') {
		s = shapeMessage
	}
	if err != nil && strings.Contains(err.message, "nested too deeply") {
		return
	}
	isJSON := json.Valid(body) && utf8.Valid(body)
	if !isJSON {
		flaws := int64(0)
		for typ := range calls {
			// What is switched off is acknowledged whatever it is, so nobody looks whether it is JSON.
			flaws += r.tally.counts[typ][outcomeInvalidJSON] + r.tally.counts[typ][outcomeDisabled]
		}
		require.True(t, err != nil || flaws > 0, "took what is not JSON")
		return
	}
	want, wantErr := oracleDecode(r.rules, s, webhook, typ, body, testReceived)
	if wantErr != nil {
		require.NotNil(t, err, "the oracle says %v", wantErr)
		return
	}
	require.Nil(t, err)
	got := &oracleResult{Key: string(r.key), Counts: map[string]int64{}}
	for typ := range calls {
		for o, n := range r.tally.counts[typ] {
			if n > 0 {
				got.Counts[calls[typ].name+" "+outcomeNames[o]] = n
			}
		}
	}
	for _, e := range r.events {
		properties := map[string]any{}
		for _, p := range r.properties[e.properties[0]:e.properties[1]] {
			name := r.keep[p.name]
			require.NotContains(t, properties, name)
			switch p.kind {
			case 's':
				properties[name] = string(p.text)
			case 'd':
				properties[name] = p.double
			case 'i':
				properties[name] = p.integer
			default:
				properties[name] = p.kind == 't'
			}
		}
		got.Events = append(got.Events, oracleEvent{
			Type: calls[e.typ].name, Name: string(e.name), Source: string(e.source), ID: string(e.id),
			Value: e.value, Time: e.time, Properties: properties,
		})
		assert.False(t, math.IsNaN(e.value) || math.IsInf(e.value, 0))
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("oracle and decoder differ: %s", diff)
	}
}

// FuzzHandler sends whatever it finds to every route of the server as it runs, packed or not, with a known write key
// or signature or another: no panic, no 5xx, every answer is JSON or the pixel, and no memory stays behind.
func FuzzHandler(f *testing.F) {
	cfg := goldenConfig()
	cfg.MaxRequestBodySize = 64 << 10
	r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), consumertest.NewNop())
	require.NoError(f, err)
	server, err := r.newServer(f.Context(), componenttest.NewNopHost())
	require.NoError(f, err)
	paths := slices.Sorted(maps.Keys(r.routes))
	encodings := []string{"", "gzip", "zstd", "deflate", "identity", "br"}
	for i, file := range requestFiles(f) {
		req := readRequest(f, file)
		body, err := io.ReadAll(req.Body)
		require.NoError(f, err)
		path := byte(max(0, slices.Index(paths, req.URL.Path)))
		f.Add(path, byte(i), req.URL.RawQuery, req.Header.Get("Authorization"), body)
		f.Add(path, byte(i)|knownSender, req.URL.RawQuery, "", body)
		f.Add(path, byte(i)|knownSender|isPacked, req.URL.RawQuery, "", []byte(compress(packers[i%len(packers)], string(body))))
	}
	f.Fuzz(func(t *testing.T, path, how byte, query, auth string, body []byte) {
		encoding := encodings[int(how&^(knownSender|isPacked))%len(encodings)]
		if slices.Contains(packers, encoding) && how&isPacked == 0 {
			body = []byte(compress(encoding, string(body)))
		}
		req := httptest.NewRequest(http.MethodPost, paths[int(path)%len(paths)], bytes.NewReader(body))
		if strings.HasPrefix(req.URL.Path, "/v1/pixel/") {
			req.Method = http.MethodGet
		}
		req.URL.RawQuery = query
		req.Header.Set("Content-Encoding", encoding)
		req.Header.Set("Authorization", auth)
		req.Header.Set("X-Signature", auth)
		if how&knownSender != 0 {
			req.SetBasicAuth("key", "")
			req.Header.Set("X-Signature", sign("secret", string(body)))
		}
		w := httptest.NewRecorder()
		server.Handler.ServeHTTP(w, req)
		assert.Contains(t, []int{http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized}, w.Code)
		if w.Header().Get("Content-Type") != "image/gif" {
			assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
			assert.True(t, json.Valid(w.Body.Bytes()))
		}
		assert.Equal(t, cfg.MaxInFlightBytes, r.memory.small+r.memory.large)
	})
}

// What the second byte of FuzzHandler says beside the encoding.
const (
	knownSender = 0x40
	isPacked    = 0x80 // the body is what was compressed, or is said to be
)

var packers = []string{"gzip", "zstd", "deflate"}

// requestFiles returns the golden requests and those recorded from real SDKs.
func requestFiles(f *testing.F) []string {
	own, err := filepath.Glob(filepath.Join("testdata", "golden", "*.http"))
	require.NoError(f, err)
	recorded, err := filepath.Glob(filepath.Join("..", "..", "testdata", "requests", "*.http"))
	require.NoError(f, err)
	return append(own, recorded...)
}

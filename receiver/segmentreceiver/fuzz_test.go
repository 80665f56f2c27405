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
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

var testReceived = time.Date(2026, 5, 4, 3, 2, 1, 500_000_000, time.UTC)

func newTestDecoder() *decoder {
	d := &decoder{maxMessageSize: 1000, keep: []string{"plan", "n", "value"}}
	d.wanted[typeTrack], d.wanted[typePage], d.wanted[typeScreen] = true, true, true
	return d
}

// addRequestSeeds adds the bodies of the golden requests, and the decoder's own cases.
func addRequestSeeds(f *testing.F) {
	for _, file := range requestFiles(f) {
		body, err := io.ReadAll(readRequest(f, file).Body)
		require.NoError(f, err)
		for _, s := range []shape{shapeMessage, shapeBatch, shapeArray} {
			f.Add(body, byte(s))
		}
		for typ := typeTrack; typ < messageTypes; typ++ {
			f.Add(body, byte(shapeMessage)+3*byte(typ))
		}
	}
	for _, tt := range decodeTests {
		how := byte(tt.shape)
		if tt.shape == shapeMessage {
			how += 3 * byte(typeTrack)
		}
		f.Add([]byte(tt.body), how)
	}
}

// FuzzDecode compares the decoder with the oracle on whatever encoding/json takes as JSON, and makes sure that the
// decoder takes nothing else.
func FuzzDecode(f *testing.F) {
	addRequestSeeds(f)
	reused := newTestDecoder()
	f.Fuzz(func(t *testing.T, body []byte, how byte) {
		s, webhook := shape(how%3), how%3 == byte(shapeArray)
		typ := typeUnknown
		if s == shapeMessage {
			typ = messageType(how / 3 % byte(messageTypes))
		}
		for _, d := range []*decoder{newTestDecoder(), reused} {
			compareWithOracle(t, d, body, s, webhook, typ)
			d.reset()
			// Again in the next message, where the decoder may remember it.
			twice := slices.Concat([]byte(`{"batch":[`), body, []byte(`,`), body, []byte(`]}`))
			compareWithOracle(t, d, twice, shapeBatch, false, typeUnknown)
			d.reset()
		}
	})
}

func compareWithOracle(t *testing.T, d *decoder, body []byte, s shape, webhook bool, typ messageType) {
	var err *bodyError
	switch s {
	case shapeBatch:
		err = d.decodeBatch(body)
	case shapeArray:
		if trimmed := strings.TrimLeft(string(body), " \t\r\n"); trimmed == "" || trimmed[0] != '[' {
			s = shapeMessage
		}
		err = d.decodeWebhook(body)
	case shapeMessage:
		err = d.decode(body, typ)
	}
	if err != nil && strings.Contains(err.message, "nested too deeply") {
		return
	}
	isJSON := json.Valid(body) && utf8.Valid(body)
	if !isJSON {
		soft := int64(0)
		for typ := range d.counts {
			soft += d.counts[typ][outcomeInvalidJSON]
		}
		require.True(t, err != nil || soft > 0, "took what is not JSON")
		return
	}
	want, wantErr := oracleDecode(d, s, webhook, typ, body, testReceived)
	if wantErr != nil {
		require.NotNil(t, err, "the oracle says %v", wantErr)
		return
	}
	require.Nil(t, err)
	d.resolve(d.key, len(d.key) > 0 && s == shapeBatch, testReceived)
	got := &oracleResult{Key: string(d.key), Counts: map[string]int64{}}
	for typ := range d.counts {
		for o, n := range d.counts[typ] {
			if n > 0 {
				got.Counts[typeNames[typ]+" "+outcomeNames[o]] = n
			}
		}
	}
	for _, e := range d.events {
		properties := map[string]any{}
		for _, p := range d.properties[e.properties[0]:e.properties[1]] {
			name := d.keep[p.name]
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
			Type: typeNames[e.typ], Index: int(e.index), Name: string(e.name), Source: string(e.source), ID: string(e.id),
			Value: e.value, Time: e.time, Properties: properties,
		})
		assert.False(t, math.IsNaN(e.value) || math.IsInf(e.value, 0))
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("oracle and decoder differ: %s", diff)
	}
}

// FuzzHandler sends whatever it finds to every route: no panic, no 5xx, and every answer is JSON.
func FuzzHandler(f *testing.F) {
	cfg := goldenConfig()
	cfg.WriteKeys = nil
	cfg.Webhook = configoptional.Some(WebhookConfig{Path: "/webhook"})
	cfg.MaxRequestBodySize = 64 << 10
	r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), consumertest.NewNop())
	require.NoError(f, err)
	paths := slices.Sorted(maps.Keys(r.routes))
	for _, file := range requestFiles(f) {
		req := readRequest(f, file)
		body, err := io.ReadAll(req.Body)
		require.NoError(f, err)
		f.Add(byte(max(0, slices.Index(paths, req.URL.Path))), req.URL.RawQuery, req.Header.Get("Authorization"), body)
	}
	f.Fuzz(func(t *testing.T, path byte, query, auth string, body []byte) {
		req := httptest.NewRequest(http.MethodPost, paths[int(path)%len(paths)], bytes.NewReader(body))
		if strings.HasPrefix(req.URL.Path, "/v1/pixel/") {
			req.Method = http.MethodGet
		}
		req.URL.RawQuery = query
		req.Header.Set("Authorization", auth)
		w := httptest.NewRecorder()
		r.handle(w, req)
		assert.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, w.Code)
		assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
		assert.True(t, json.Valid(w.Body.Bytes()))
	})
}

// requestFiles returns the golden requests and those recorded from real SDKs.
func requestFiles(f *testing.F) []string {
	own, err := filepath.Glob(filepath.Join("testdata", "golden", "*.http"))
	require.NoError(f, err)
	recorded, err := filepath.Glob(filepath.Join("..", "..", "testdata", "requests", "*.http"))
	require.NoError(f, err)
	return append(own, recorded...)
}

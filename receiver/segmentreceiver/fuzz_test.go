// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var testReceived = time.Date(2026, 5, 4, 3, 2, 1, 500_000_000, time.UTC)

func newTestDecoder() *decoder {
	d := &decoder{maxMessageSize: 1000, keep: []string{"plan", "n", "value"}}
	d.wanted[typeTrack], d.wanted[typePage], d.wanted[typeScreen] = true, true, true
	return d
}

// addRequestSeeds adds the bodies of the golden requests, and the decoder's own cases.
func addRequestSeeds(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "requests", "*.json"))
	require.NoError(f, err)
	for _, file := range files {
		body, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(body, byte(shapeBatch))
		f.Add(body, byte(shapeMessage))
	}
	for _, tt := range decodeTests {
		f.Add([]byte(tt.body), byte(tt.shape))
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
		for _, counts := range d.counts {
			soft += counts[outcomeInvalidJSON]
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
	for typ, counts := range d.counts {
		for o, n := range counts {
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

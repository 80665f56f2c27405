// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

// libratoService is a Librato that can be taken off the network and brought back, with what it holds.
type libratoService struct {
	*libratoserver.Server
	addr string
	http *http.Server
}

func startLibrato(t *testing.T) *libratoService {
	t.Helper()
	s := &libratoService{Server: libratoserver.New(), addr: freeAddr(t)}
	s.up(t)
	t.Cleanup(s.down)
	return s
}

// up listens, for the first time or again.
func (s *libratoService) up(t *testing.T) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", s.addr)
	require.NoError(t, err)
	s.http = &http.Server{Handler: s.Server, ReadHeaderTimeout: time.Minute}
	go func(server *http.Server) { _ = server.Serve(l) }(s.http) // ends with ErrServerClosed
}

// down cuts all connections; further ones are refused.
func (s *libratoService) down() { _ = s.http.Close() }

// env is what a collector's config needs to reach it.
func (s *libratoService) env() []string {
	return []string{"LIBRATO_ENDPOINT=http://" + s.addr}
}

// stream is a metric and source in Librato.
type stream struct{ name, source string }

// total is what stands there, over all periods.
type total struct {
	count uint64
	sum   float64
}

type totals map[stream]total

func (ts totals) add(name, source string, value float64) {
	t := ts[stream{name, source}]
	ts[stream{name, source}] = total{t.count + 1, t.sum + value}
}

// totals returns what stands in Librato now.
func (s *libratoService) totals(t *testing.T) totals {
	t.Helper()
	ts := totals{}
	for _, line := range s.Totals() {
		ts[stream{line.Name, line.Source}] = total{line.Stored.Count, line.Stored.Sum}
	}
	return ts
}

// eventually waits until exactly want stands in Librato.
func (s *libratoService) eventually(t *testing.T, want totals) {
	t.Helper()
	assert.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.Equal(c, want, s.totals(t))
	}, arriveTimeout, 50*time.Millisecond)
}

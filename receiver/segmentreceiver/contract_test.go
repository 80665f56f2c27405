// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

// client sends batches as an SDK does: again after 429 and 5xx, with the same message ids, and not after a 400.
type client struct {
	t    *testing.T
	url  string
	next atomic.Int64
	http *http.Client
}

func (c *client) Start() { c.http = &http.Client{Transport: &http.Transport{}} }

func (c *client) Stop() { c.http.CloseIdleConnections() }

// Generate sends three messages whose sources are the ids that the contract is checked by.
func (c *client) Generate() []receivertest.UniqueIDAttrVal {
	var ids []receivertest.UniqueIDAttrVal
	var messages []string
	for range 3 {
		id := strconv.FormatInt(c.next.Add(1), 10)
		ids = append(ids, receivertest.UniqueIDAttrVal(id))
		messages = append(messages, fmt.Sprintf(`{"type":"track","event":"e","messageId":"m%s","context":{"Librato":{"source":%q}}}`, id, id))
	}
	body := `{"batch":[` + strings.Join(messages, ",") + `]}`
	require.Eventually(c.t, func() bool {
		resp, err := c.http.Post(c.url, "application/json", strings.NewReader(body))
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusBadRequest
	}, 10*time.Second, time.Millisecond)
	return ids
}

func TestConsumeContract(t *testing.T) {
	listener, err := net.Listen("tcp", "localhost:0") //nolint:noctx // only to find a free port
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())

	cfg := createDefaultConfig().(*Config)
	cfg.NetAddr.Endpoint = address
	cfg.SourceAttribute = receivertest.UniqueIDAttrName
	receivertest.CheckConsumeContract(receivertest.CheckConsumeContractParams{
		T:             t,
		Factory:       NewFactory(),
		Signal:        pipeline.SignalMetrics,
		Config:        cfg,
		Generator:     &client{t: t, url: "http://" + address + "/v1/batch"},
		GenerateCount: 300,
	})
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var record = flag.Bool("record", false, "write the requests of the SDK tests to ../testdata/requests")

// recorded returns the URL that the SDK called name sends to. With -record that is a proxy in front of host, which writes
// the first requests of each method and path to testdata, as they came.
func recorded(t *testing.T, name, host string) string {
	t.Helper()
	if !*record {
		return host
	}
	target, err := url.Parse(host)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	var mu sync.Mutex
	seen := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if !assert.NoError(t, err) {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		mu.Lock()
		seen[r.Method]++
		n := seen[r.Method]
		mu.Unlock()
		// Two of a client's batches show all there is to see; preflights and requests for settings are all alike.
		if n == 1 || n == 2 && r.Method == http.MethodPost {
			file := fmt.Sprintf("../testdata/requests/%s-%s-%d.http", name, r.Method, n)
			assert.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
			assert.NoError(t, os.WriteFile(file, dumpRequest(r, body), 0o644))
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// dumpRequest returns r and its body as http.ReadRequest reads them. The address is example.com's, so that recording
// again changes no more than it must.
func dumpRequest(r *http.Request, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\nHost: example.com\n", r.Method, r.URL.RequestURI())
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	keys := make([]string, 0, len(r.Header))
	for key := range r.Header {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		for _, value := range r.Header[key] {
			fmt.Fprintf(&b, "%s: %s\n", key, value)
		}
	}
	b.WriteByte('\n')
	b.Write(body)
	return b.Bytes()
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"net/http"
	"strings"
)

// handleSettings answers GET /v1/projects/{writeKey}/settings, which analytics.js asks its CDN for, and 404 to all
// else.
// Source: analytics-next's browser/settings and plugins/segmentio.
func (r *segmentReceiver) handleSettings(w http.ResponseWriter, req *http.Request) {
	key, ok := strings.CutPrefix(req.URL.Path, "/v1/projects/")
	if ok {
		key, ok = strings.CutSuffix(key, "/settings")
	}
	if !ok || key == "" || strings.Contains(key, "/") {
		const message = "no such path; events go to /v1/track, /v1/batch and their like"
		r.refuse(w, req, &refusal{http.StatusNotFound, "not_found", message})
		return
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		r.refuseMethod(w, req, http.MethodGet)
		return
	}
	if _, ok := r.keys.find([]byte(key)); !ok {
		r.refuse(w, req, &refusal{http.StatusNotFound, "not_found", "the write key is unknown"})
		return
	}
	r.telemetry.countRequest(req.Context(), http.StatusOK)
	protocol, host := r.publicAddress(req)
	writeJSON(w, http.StatusOK, map[string]any{
		"integrations": map[string]any{
			"Segment.io": map[string]any{"apiKey": key, "apiHost": host + "/v1", "protocol": protocol},
		},
	})
}

// publicAddress returns where the browser reaches the receiver.
func (r *segmentReceiver) publicAddress(req *http.Request) (protocol, host string) {
	if u := r.publicURL; u != nil {
		return u.Scheme, u.Host + strings.TrimSuffix(u.Path, "/")
	}
	protocol, host = "http", req.Host
	if req.TLS != nil {
		protocol = "https"
	}
	if r.config.TrustProxy {
		// Each proxy appends; the first is the browser's.
		if first, _, _ := strings.Cut(req.Header.Get("X-Forwarded-Proto"), ","); first != "" {
			protocol = strings.ToLower(strings.TrimSpace(first))
		}
		if first, _, _ := strings.Cut(req.Header.Get("X-Forwarded-Host"), ","); first != "" {
			host = strings.TrimSpace(first)
		}
	}
	return protocol, host
}

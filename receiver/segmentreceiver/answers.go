// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

// Success is exactly status 200 with a JSON object, and errors have code and message: other answers make one SDK or
// another send everything again.

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/consumer/consumererror"
)

// retryAfter is what clients are told to wait when the pipeline refuses, in seconds.
const retryAfter = "5"

var (
	jsonType = []string{"application/json"}
	gifType  = []string{"image/gif"}
	success  = []byte(`{"success":true}`)
	// pixel is one transparent pixel.
	pixel = []byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00," +
		"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;")
)

// refusal is an answer that is not 200. Its message names places, never contents.
type refusal struct {
	status        int
	code, message string
}

func (e *refusal) Error() string { return e.message }

// bodyRefusal says what the client is told when reading the body failed with err.
func bodyRefusal(err error) *refusal {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		message := "the body is larger than max_request_body_size, " + strconv.FormatInt(tooLarge.Limit, 10) + " bytes"
		return &refusal{http.StatusBadRequest, "body_too_large", message}
	}
	const message = "the body ended early, came too slowly or could not be decompressed"
	return &refusal{http.StatusBadRequest, "invalid_body", message}
}

// pipelineRefusal says what the client is told when the pipeline returned err:
//
//	permanent    400, since most SDKs repeat a 5xx and it would never succeed
//	429          429 with Retry-After
//	any other    503 with Retry-After (that of the memory limiter is plain)
func pipelineRefusal(err error) *refusal {
	switch {
	case consumererror.IsPermanent(err):
		return &refusal{http.StatusBadRequest, "refused_by_pipeline", "the pipeline refuses these events for good"}
	case consumererror.ToHTTPStatus(err) == http.StatusTooManyRequests:
		return &refusal{http.StatusTooManyRequests, "rate_limited", "the pipeline takes no more for now"}
	default:
		return &refusal{http.StatusServiceUnavailable, "unavailable", "the pipeline does not take events for now"}
	}
}

func (r *segmentReceiver) succeed(w http.ResponseWriter, req *http.Request, kind routeKind) {
	r.telemetry.countRequest(req.Context(), http.StatusOK)
	if kind == routePixel {
		w.Header()["Cache-Control"] = []string{"no-store"}
		if takesImage(req.Header.Get("Accept")) {
			w.Header()["Content-Type"] = gifType
			_, _ = w.Write(pixel)
			return
		}
	}
	w.Header()["Content-Type"] = jsonType
	_, _ = w.Write(success)
}

// takesImage says whether a client asks for an image, as an img element does, or for anything. One that asks for
// nothing gets JSON, as from all paths.
func takesImage(accept string) bool {
	for kind := range strings.SplitSeq(accept, ",") {
		kind = strings.TrimSpace(kind)
		if strings.HasPrefix(kind, "image/") || strings.HasPrefix(kind, "*/*") {
			return true
		}
		if strings.HasPrefix(kind, "application/json") {
			return false
		}
	}
	return false
}

// refuse answers with err, which is a *refusal.
func (r *segmentReceiver) refuse(w http.ResponseWriter, req *http.Request, err error) {
	var e *refusal
	if !errors.As(err, &e) {
		e = &refusal{http.StatusServiceUnavailable, "unavailable", "try again"}
	}
	r.telemetry.countRequest(req.Context(), e.status)
	if e.status == http.StatusTooManyRequests || e.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	writeJSON(w, e.status, struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{e.code, e.message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header()["Content-Type"] = jsonType
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}

func (r *segmentReceiver) refuseMethod(w http.ResponseWriter, req *http.Request, allowed string) {
	w.Header().Set("Allow", allowed)
	r.refuse(w, req, &refusal{http.StatusMethodNotAllowed, "method_not_allowed", "use " + allowed})
}

// refuseEarly answers what confighttp refuses before handle is called: credentials that the authenticator does not
// take, and bodies that it cannot decompress.
func (r *segmentReceiver) refuseEarly(w http.ResponseWriter, req *http.Request, message string, status int) {
	code := "invalid_body"
	if status == http.StatusUnauthorized {
		code = "unauthorized"
	}
	r.refuse(w, req, &refusal{status, code, message})
}

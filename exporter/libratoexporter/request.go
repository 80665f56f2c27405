// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

const (
	// bytesAMeasurement is what one takes as JSON, about: names, properties and four numbers.
	bytesAMeasurement = 256
	// maxAnswer bounds what is read of an answer. The longest that says something names each of a request's
	// measurements, with its name and a reason.
	maxAnswer = 4 << 20
)

// poster sends requests to one API of the service.
type poster struct {
	api       *librato.API
	client    *http.Client
	url       string
	user      string // of basic authentication; empty: none
	password  string
	agent     string
	telemetry *metadata.TelemetryBuilder
	now       func() time.Time
}

// post makes one request. What never got an answer is an outage.
func (p *poster) post(ctx context.Context, ms []librato.Measurement) librato.Response {
	// Not from a pool: the transport may still read a body when its request has been answered, or has timed out.
	body := p.api.Append(make([]byte, 0, bytesAMeasurement*len(ms)), ms)

	began := time.Now()
	resp, err := p.roundTrip(ctx, body)
	status := strconv.Itoa(resp.Status)
	if err != nil {
		resp, status = librato.NoResponse(err), "error"
	}
	p.telemetry.ExporterLibratoRequests.Add(context.Background(), 1,
		metric.WithAttributeSet(attribute.NewSet(attribute.String("status", status))))
	p.telemetry.ExporterLibratoRequestDuration.Record(context.Background(), time.Since(began).Seconds())
	p.telemetry.ExporterLibratoRequestBytes.Add(context.Background(), int64(len(body)))
	return resp
}

func (p *poster) roundTrip(ctx context.Context, body []byte) (librato.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return librato.Response{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", p.agent)
	if p.user != "" {
		req.SetBasicAuth(p.user, p.password)
	}
	answer, err := p.client.Do(req)
	if err != nil {
		return librato.Response{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if len(text) > maxAnswer {
		text, err = nil, errors.New("the answer is too long to be read")
	}
	if err != nil && answer.StatusCode < http.StatusMultipleChoices {
		// What the body would have said of single measurements is not known.
		return librato.Response{}, err
	}
	return librato.ParseResponse(answer.StatusCode, answer.Header, text, p.now()), nil
}

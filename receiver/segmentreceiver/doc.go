// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

//go:generate go tool -modfile=../../internal/tools/go.mod mdatagen metadata.yaml

// Package segmentreceiver takes what Segment's SDKs, web pages and webhooks send, and makes events gauges.
//
// It speaks Segment's HTTP Tracking API, so a client needs nothing changed but its host. Calls become:
//
//	track                         a gauge data point: the event is the metric's name, properties.value (or 1) the value
//	page, screen                  the same, named as Segment's Librato destination did, if the setting `events` says so
//	identify, group, alias        nothing; they are acknowledged
//
// Each data point has the attribute `source` (context.Librato.source, or else the cleaned event name) and the event's
// time. One request is one call of the pipeline, which returns before the client is answered.
//
// Source: Segment's HTTP Tracking API (https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/)
// and its Librato destination (https://segment.com/docs/connections/destinations/catalog/librato/).
package segmentreceiver

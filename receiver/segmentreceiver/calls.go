// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"net/http"
	"strings"
)

// call is what is known of one type of Segment's calls.
type call struct {
	// name is the call's in a message's `type`, in paths, in the setting `events` and in telemetry.
	name string
	// short is the path that analytics.js uses.
	short string
	// title returns what Segment's Librato destination named the gauge of a message, empty if the message lacks what
	// it takes. It may append to texts what it puts together. Calls without a title never become data points; they
	// are acknowledged.
	title func(m *message, texts *[]byte) []byte
}

// calls has one row for each type of call. Its routes and short form, the names of its data points, whether `events`
// may name it, and its telemetry follow from the row.
// Source: Segment's HTTP Tracking API; analytics-next's plugins/segmentio.
var calls = [...]call{
	callUnknown: {name: "unknown"},
	{name: "track", short: "t", title: eventField},
	{name: "page", short: "p", title: viewed("Page")},
	{name: "screen", short: "s", title: viewed("Screen")},
	{name: "identify", short: "i"},
	{name: "group", short: "g"},
	{name: "alias", short: "a"},
}

// callType is an index into calls.
type callType uint8

// callUnknown is the type of a message that names none, or none that there is.
const callUnknown callType = 0

// callNamed returns the type of that name, callUnknown if there is none.
func callNamed(name []byte) callType {
	for typ := callUnknown + 1; int(typ) < len(calls); typ++ {
		if calls[typ].name == string(name) {
			return typ
		}
	}
	return callUnknown
}

// eventField is the title of a track call.
func eventField(m *message, _ *[]byte) []byte { return m.event }

// viewed returns the title of calls that say what a user saw.
func viewed(what string) func(m *message, texts *[]byte) []byte {
	return func(m *message, texts *[]byte) []byte {
		text := *texts
		start := len(text)
		if len(m.name) == 0 {
			text = append(append(text, "Loaded a "...), what...)
		} else {
			text = append(text, "Viewed "...)
			if len(m.category) > 0 {
				text = append(append(text, m.category...), ' ')
			}
			text = append(append(append(text, m.name...), ' '), what...)
		}
		*texts = text
		return text[start:len(text):len(text)]
	}
}

// callNames returns the names of all calls.
func callNames() (names []string) {
	for _, c := range calls[callUnknown+1:] {
		names = append(names, c.name)
	}
	return names
}

// eventTypes returns the values that the setting `events` may have.
func eventTypes() (names []string) {
	for _, c := range calls {
		if c.title != nil {
			names = append(names, c.name)
		}
	}
	return names
}

// oneOf joins names to "a, b or c".
func oneOf(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// route says what a path takes.
type route struct {
	method string // POST, or GET with its HEAD
	kind   routeKind
	call   callType // of the message, if the path says it
}

type routeKind uint8

const (
	routeMessage routeKind = iota
	routeBatch
	routePixel   // one message in the query
	routeWebhook // one message or an array of them
	routeDiscard // analytics.js's metrics of itself
)

// newRoutes returns the paths and what they take.
func newRoutes(config *Config) map[string]route {
	routes := map[string]route{
		"/v1/batch":  {http.MethodPost, routeBatch, callUnknown},
		"/v1/b":      {http.MethodPost, routeBatch, callUnknown},
		"/v1/import": {http.MethodPost, routeBatch, callUnknown},
		"/v1/m":      {http.MethodPost, routeDiscard, callUnknown},
	}
	for typ := callUnknown + 1; int(typ) < len(calls); typ++ {
		c := &calls[typ]
		routes["/v1/"+c.name] = route{http.MethodPost, routeMessage, typ}
		routes["/v1/"+c.short] = route{http.MethodPost, routeMessage, typ}
		routes["/v1/pixel/"+c.name] = route{http.MethodGet, routePixel, typ}
	}
	if config.Webhook.HasValue() {
		routes[config.Webhook.Get().Path] = route{http.MethodPost, routeWebhook, callUnknown}
	}
	return routes
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"
)

// Config is the configuration of the segment receiver.
type Config struct {
	// ServerConfig is the HTTP server: endpoint, TLS, CORS, size limit of a body, timeouts, authenticator.
	confighttp.ServerConfig `mapstructure:",squash"`

	// WriteKeys are the write keys that may send. If there are none, any key is taken, and requests without one.
	WriteKeys []WriteKeyConfig `mapstructure:"write_keys"`
	// MaxMessageSize is the size in bytes above which a message is refused.
	MaxMessageSize int `mapstructure:"max_message_size"`
	// MaxMessages is how many messages a body may have.
	MaxMessages int `mapstructure:"max_messages"`
	// MaxInFlightBytes is how much memory all requests may hold at once.
	MaxInFlightBytes int64 `mapstructure:"max_in_flight_bytes"`

	// Events are the calls that become data points.
	Events []EventType `mapstructure:"events"`
	// MetricType is what a call becomes.
	MetricType MetricType `mapstructure:"metric_type"`
	// SourceAttribute is the name of the attribute that holds the source.
	SourceAttribute string `mapstructure:"source_attribute"`
	// Properties names the properties that are kept as attributes.
	Properties []string `mapstructure:"properties"`

	// Deduplication recognises what clients repeat.
	Deduplication DeduplicationConfig `mapstructure:"deduplication"`

	// Webhook adds a path for Segment's Webhooks destination.
	Webhook configoptional.Optional[WebhookConfig] `mapstructure:"webhook"`

	// PublicURL is where browsers reach the receiver, for the settings that analytics.js asks for. If it is empty, the
	// request's own host is.
	PublicURL string `mapstructure:"public_url"`
	// TrustProxy says that the X-Forwarded-Host and X-Forwarded-Proto headers are true.
	TrustProxy bool `mapstructure:"trust_proxy"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// WriteKeyConfig is one write key, and what is known of who sends with it. In YAML a bare string is short for one
// with nothing but its key.
type WriteKeyConfig struct {
	Key configopaque.String `mapstructure:"key"`
	// ResourceAttributes are set on the resource of what is sent with the key.
	ResourceAttributes map[string]string `mapstructure:"resource_attributes"`

	// prevent unkeyed literal initialization
	_ struct{}
}

var _ confmap.ScalarUnmarshaler = (*WriteKeyConfig)(nil)

// UnmarshalScalar takes the bare string. What YAML takes for a number is refused, since it does not say how it was
// written.
func (c *WriteKeyConfig) UnmarshalScalar(scalar confmap.ScalarValue) error {
	switch raw := scalar.GetRaw().(type) {
	case nil, map[string]any:
		return confmap.ErrValueNotApplicable
	case string:
		c.Key = configopaque.String(raw)
		return nil
	default:
		return errors.New("a write key that looks like a number or a boolean has to be written as `key: …`, " +
			"in quotes or from ${env:…}")
	}
}

// DeduplicationConfig says how long and how many message ids are remembered.
type DeduplicationConfig struct {
	// Enabled leaves out messages whose write key and messageId were taken before. (Not a configoptional.Optional:
	// ids may be forwarded without being remembered here.)
	Enabled bool `mapstructure:"enabled"`
	// Window is how long an id is remembered.
	Window time.Duration `mapstructure:"window"`
	// MaxEntries is how many ids are remembered; beyond it the oldest is forgotten.
	MaxEntries int `mapstructure:"max_entries"`
	// ForwardIDs adds a hash of write key and messageId to each data point, as an exemplar, for exporters that
	// recognise repeats themselves.
	ForwardIDs bool `mapstructure:"forward_ids"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// WebhookConfig is the path for Segment's Webhooks destination.
type WebhookConfig struct {
	// Path is where Segment is told to send.
	Path string `mapstructure:"path"`
	// SharedSecret is the secret that the X-Signature header is made with.
	SharedSecret configopaque.String `mapstructure:"shared_secret"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// EventType is the name of a call of Segment's API that can become a data point, see calls.
type EventType string

// UnmarshalText implements encoding.TextUnmarshaler, so that a wrong value fails while the configuration loads.
func (t *EventType) UnmarshalText(text []byte) error {
	if !slices.Contains(eventTypes(), string(text)) {
		return fmt.Errorf("unknown event type %q: use %s", text, oneOf(eventTypes()))
	}
	*t = EventType(text)
	return nil
}

// MetricType is the type of the metrics that events become.
type MetricType string

const (
	MetricTypeGauge MetricType = "gauge" // Segment's Librato destination made gauges
	MetricTypeSum   MetricType = "sum"   // delta, not monotonic, for backends that add sums up but not gauges
	// Delta, without buckets, for backends that want the number of events as well.
	MetricTypeHistogram MetricType = "histogram"
)

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *MetricType) UnmarshalText(text []byte) error {
	switch v := MetricType(text); v {
	case MetricTypeGauge, MetricTypeSum, MetricTypeHistogram:
		*t = v
		return nil
	default:
		return fmt.Errorf("unknown metric type %q: use gauge, sum or histogram", text)
	}
}

var _ component.Config = (*Config)(nil)

// Validate checks what the types do not.
func (c *Config) Validate() error {
	var errs []error
	fail := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if c.NetAddr.Endpoint == "" {
		fail("endpoint", "must be set, for example localhost:8080")
	}
	if c.MaxRequestBodySize <= 0 {
		fail("max_request_body_size", "must be positive, not %d", c.MaxRequestBodySize)
	}
	if c.MaxMessageSize <= 0 {
		fail("max_message_size", "must be positive, not %d", c.MaxMessageSize)
	}
	if c.MaxRequestBodySize > 0 && int64(c.MaxMessageSize) > c.MaxRequestBodySize {
		fail("max_message_size", "must be at most max_request_body_size, %d", c.MaxRequestBodySize)
	}

	if c.MaxMessages <= 0 {
		fail("max_messages", "must be positive, not %d", c.MaxMessages)
	}
	// The largest request has to fit beside others, packed and unpacked.
	if largest := 2*c.MaxRequestBodySize + messageHold*int64(c.MaxMessages); c.MaxInFlightBytes < 2*largest {
		fail("max_in_flight_bytes", "must be at least %d: twice what a request of max_request_body_size and max_messages "+
			"may hold", 2*largest)
	}

	keys := make(map[configopaque.String]int, len(c.WriteKeys))
	for i, k := range c.WriteKeys {
		field := fmt.Sprintf("write_keys[%d]", i)
		if k.Key == "" {
			fail(field, "key must not be empty; leave write_keys out to take any key")
		} else if first, ok := keys[k.Key]; ok {
			fail(field, "the same key as write_keys[%d]", first)
		} else {
			keys[k.Key] = i
		}
		for name := range k.ResourceAttributes {
			if name == "" {
				fail(field+".resource_attributes", "a name must not be empty")
			}
		}
	}

	if len(c.Events) == 0 {
		fail("events", "must name at least one of track, page and screen")
	}
	if c.SourceAttribute == "" {
		fail("source_attribute", "must not be empty")
	}
	properties := make(map[string]bool, len(c.Properties))
	for i, name := range c.Properties {
		field := fmt.Sprintf("properties[%d]", i)
		switch {
		case name == "":
			fail(field, "must not be empty")
		case name == c.SourceAttribute:
			fail(field, "%q holds the source; choose another source_attribute to keep this property", name)
		case properties[name]:
			fail(field, "%q is listed twice", name)
		}
		properties[name] = true
	}

	if c.Deduplication.Window <= 0 {
		fail("deduplication.window", "must be positive; set deduplication.enabled to false to turn it off")
	}
	if c.Deduplication.MaxEntries <= 0 || c.Deduplication.MaxEntries > 1<<30 {
		fail("deduplication.max_entries", "must be between 1 and %d", 1<<30)
	}

	if c.Webhook.HasValue() {
		w := c.Webhook.Get()
		if !strings.HasPrefix(w.Path, "/") || strings.HasPrefix(w.Path, "/v1/") || strings.ContainsAny(w.Path, "?#") {
			fail("webhook.path", "must begin with a slash and not with /v1/, for example /webhook")
		}
		if w.SharedSecret == "" && len(c.WriteKeys) > 0 {
			fail("webhook.shared_secret", "must be set, since write_keys is set: "+
				"a webhook carries no write key, so anybody could send there")
		}
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			fail("public_url", "must be an http or https URL without a query, for example https://events.example.com")
		}
	}
	return errors.Join(errs...)
}

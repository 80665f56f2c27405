// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/otelcol-segment/otelcol-segment/receiver/segmentreceiver/internal/metadata"
)

func loadConfig(t *testing.T, name string) (*Config, error) {
	t.Helper()
	all, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	sub, err := all.Sub(component.NewIDWithName(metadata.Type, name).String())
	require.NoError(t, err)
	cfg := createDefaultConfig().(*Config)
	if err := sub.Unmarshal(cfg); err != nil {
		return nil, err
	}
	return cfg, confmap.Validate(cfg)
}

func TestLoadConfig(t *testing.T) {
	require.NoError(t, componenttest.CheckConfigStruct(createDefaultConfig()))

	cfg, err := loadConfig(t, "")
	require.NoError(t, err)
	assert.Equal(t, createDefaultConfig(), cfg)
	assert.False(t, cfg.CORS.HasValue())
	assert.False(t, cfg.Webhook.HasValue())

	cfg, err = loadConfig(t, "full")
	require.NoError(t, err)
	want := createDefaultConfig().(*Config)
	want.NetAddr.Endpoint = "0.0.0.0:8080"
	want.CORS.GetOrInsertDefault().AllowedOrigins = []string{"https://shop.example.com"}
	want.MaxRequestBodySize = 1 << 20
	want.WriteKeys = []WriteKeyConfig{{Key: "plain"}, {Key: "with-attributes", ResourceAttributes: map[string]string{"service.name": "shop"}}}
	want.MaxMessageSize = 16 << 10
	want.Events = []EventType{"track", "page", "screen"}
	want.MetricType = MetricTypeSum
	want.SourceAttribute = "origin"
	want.Properties = []string{"plan", "source"}
	want.Deduplication = DeduplicationConfig{Window: time.Hour, MaxEntries: 1000, ForwardIDs: true}
	want.Webhook = configoptional.Some(WebhookConfig{Path: "/webhook", SharedSecret: "quiet"})
	want.PublicURL = "https://events.example.com"
	want.TrustProxy = true
	assert.Equal(t, want, cfg)

	for name, want := range map[string]string{
		"number":          "'write_keys[0]' a write key that looks like a number",
		"events":          `unknown event type "identify": use track, page or screen`,
		"metric_type":     `unknown metric type "counter": use gauge, sum or histogram`,
		"misspelt":        "invalid keys: write_key",
		"nested_misspelt": "invalid keys: windows",
	} {
		_, err := loadConfig(t, name)
		assert.ErrorContains(t, err, want, name)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	cfg, err := loadConfig(t, "full")
	require.NoError(t, err)
	conf := confmap.New()
	require.NoError(t, conf.Marshal(cfg))
	for _, text := range []string{fmt.Sprint(conf.ToStringMap()), fmt.Sprintf("%v %+v", cfg.WriteKeys, cfg.Webhook.Get())} {
		assert.Contains(t, text, "[REDACTED]")
		for _, secret := range []string{"plain", "with-attributes", "quiet"} {
			assert.NotContains(t, text, secret)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no endpoint", func(c *Config) { c.NetAddr.Endpoint = "" }, "endpoint: must be set"},
		{"no body", func(c *Config) { c.MaxRequestBodySize = 0 }, "max_request_body_size: must be positive"},
		{"no message", func(c *Config) { c.MaxMessageSize = -1 }, "max_message_size: must be positive"},
		{"message larger than body", func(c *Config) { c.MaxMessageSize = 5 << 20 }, "max_message_size: must be at most max_request_body_size"},
		{"empty key", func(c *Config) { c.WriteKeys = []WriteKeyConfig{{Key: "a"}, {}} }, "write_keys[1]: key must not be empty"},
		{"same key twice", func(c *Config) { c.WriteKeys = []WriteKeyConfig{{Key: "a"}, {Key: "a"}} }, "write_keys[1]: the same key as write_keys[0]"},
		{"empty attribute", func(c *Config) {
			c.WriteKeys = []WriteKeyConfig{{Key: "a", ResourceAttributes: map[string]string{"": "x"}}}
		}, "write_keys[0].resource_attributes: a name must not be empty"},
		{"no events", func(c *Config) { c.Events = nil }, "events: must name at least one"},
		{"no source attribute", func(c *Config) { c.SourceAttribute = "" }, "source_attribute: must not be empty"},
		{"empty property", func(c *Config) { c.Properties = []string{""} }, "properties[0]: must not be empty"},
		{"property is the source", func(c *Config) { c.Properties = []string{"source"} }, `properties[0]: "source" holds the source`},
		{"property twice", func(c *Config) { c.Properties = []string{"a", "a"} }, `properties[1]: "a" is listed twice`},
		{"no window", func(c *Config) { c.Deduplication.Window = 0 }, "deduplication.window: must be positive"},
		{"no entries", func(c *Config) { c.Deduplication.MaxEntries = 0 }, "deduplication.max_entries: must be between"},
		{"webhook on the API", func(c *Config) { c.Webhook = configoptional.Some(WebhookConfig{Path: "/v1/track"}) }, "webhook.path: must begin with a slash"},
		{"webhook without secret", func(c *Config) {
			c.WriteKeys = []WriteKeyConfig{{Key: "a"}}
			c.Webhook = configoptional.Some(WebhookConfig{Path: "/hook"})
		}, "webhook.shared_secret: must be set, since write_keys is set"},
		{"public_url without scheme", func(c *Config) { c.PublicURL = "events.example.com" }, "public_url: must be an http or https URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := createDefaultConfig().(*Config)
			require.NoError(t, cfg.Validate())
			tt.change(cfg)
			assert.ErrorContains(t, cfg.Validate(), tt.want)
		})
	}
}

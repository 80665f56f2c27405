// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configcompression"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
)

// validConfig returns the default settings with an account.
func validConfig() *Config {
	cfg := createDefaultConfig().(*Config)
	cfg.Email = "ops@example.com"
	cfg.Token = "secret"
	return cfg
}

func TestLoadConfig(t *testing.T) {
	storage := component.MustNewIDWithName("file_storage", "librato")
	tests := map[component.ID]func(*Config){
		component.NewID(metadata.Type): func(*Config) {},
		component.NewIDWithName(metadata.Type, "appoptics"): func(cfg *Config) {
			cfg.Endpoint = "https://api.appoptics.com"
			cfg.API = APIMeasurements
			cfg.Email = ""
		},
		component.NewIDWithName(metadata.Type, "all"): func(cfg *Config) {
			cfg.Endpoint = "https://librato.example.com/base"
			cfg.Timeout = 5 * time.Second
			cfg.SourceAttribute = "host.id"
			cfg.SourceFallbacks = []string{}
			cfg.DefaultSource = "fleet"
			cfg.NameAttributes = &[]string{}
			cfg.MetricPrefix = "shop."
			cfg.SumMetrics = []string{"jobs.*", "clicks"}
			cfg.FlushInterval = 5 * time.Second
			cfg.Gauges = GaugesConfig{Period: 5 * time.Minute}
			cfg.MaxAge = 90 * time.Minute
			cfg.MaxFuture = time.Minute
			cfg.MaxStreams = 1000
			cfg.MaxIncrements = 50_000
			cfg.NumConsumers = 2
			cfg.RetryConfig.InitialInterval = time.Second
			cfg.RetryConfig.MaxInterval = 10 * time.Second
			cfg.RetryConfig.Multiplier = 2
			cfg.RetryConfig.RandomizationFactor = 0
			cfg.ShutdownTimeout = 20 * time.Second
			cfg.Instance = InstanceConfig{Index: 2, Count: 3}
			cfg.StorageID = &storage
			cfg.Deduplication = DeduplicationConfig{Window: time.Hour, MaxEntries: 10}
		},
		component.NewIDWithName(metadata.Type, "tags"): func(cfg *Config) {
			cfg.API = APIMeasurements
			cfg.Email = ""
			cfg.Tags = TagsConfig{
				Attributes:         &[]string{"route"},
				ResourceAttributes: []string{"service.name"},
				Fixed:              map[string]string{"env": "prod"},
			}
		},
	}

	file, err := confmaptest.LoadConf("testdata/config.yaml")
	require.NoError(t, err)
	assert.Len(t, file.ToStringMap(), len(tests))
	for id, change := range tests {
		t.Run(id.String(), func(t *testing.T) {
			sub, err := file.Sub(id.String())
			require.NoError(t, err)
			cfg := createDefaultConfig()
			require.NoError(t, sub.Unmarshal(cfg))
			require.NoError(t, confmap.Validate(cfg))

			want := validConfig()
			change(want)
			assert.Equal(t, want, cfg)
		})
	}
}

func TestLoadConfigRefusesWhatItDoesNotKnow(t *testing.T) {
	tests := map[string]struct {
		settings map[string]any
		want     string
	}{
		"unknown key":        {map[string]any{"tokn": "secret"}, "tokn"},
		"unknown nested key": {map[string]any{"gauges": map[string]any{"perod": "60s"}}, "perod"},
		"unknown api":        {map[string]any{"api": "spans"}, `unknown api "spans": write "metrics" or "measurements"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := confmap.NewFromStringMap(tt.settings).Unmarshal(createDefaultConfig())
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// Each impossible setting is named, with what to do about it.
func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		want   string // the whole message; empty: valid
	}{
		{"defaults with an account", func(*Config) {}, ""},
		{"auth extension instead of a token", func(cfg *Config) {
			cfg.Email, cfg.Token = "", ""
			cfg.Auth = configoptional.Some(configauth.Config{AuthenticatorID: component.MustNewID("basicauth")})
		}, ""},
		{"token alone for measurements", func(cfg *Config) { cfg.API, cfg.Email = APIMeasurements, "" }, ""},
		{"path below the host", func(cfg *Config) { cfg.Endpoint = "http://localhost:8089/librato" }, ""},
		{"period at its least", func(cfg *Config) { cfg.Gauges.Period = 10 * time.Second }, ""},
		{"period at its most", func(cfg *Config) { cfg.Gauges.Period = 600 * time.Second }, ""},
		{"max_age at its most", func(cfg *Config) { cfg.MaxAge = 115 * time.Minute }, ""},
		{"as many instances as fit", func(cfg *Config) { cfg.Instance = InstanceConfig{Index: 5, Count: 6} }, ""},
		{"source that Librato takes", func(cfg *Config) { cfg.DefaultSource = "web-1:8080" }, ""},

		{
			"endpoint that is no URL", func(cfg *Config) { cfg.Endpoint = "https://metrics api" },
			"endpoint: is no URL; write it like https://metrics-api.librato.com",
		},
		{
			"endpoint without scheme", func(cfg *Config) { cfg.Endpoint = "metrics-api.librato.com" },
			"endpoint: needs a scheme and a host; write it like https://metrics-api.librato.com",
		},
		{
			"empty endpoint", func(cfg *Config) { cfg.Endpoint = "" },
			"endpoint: needs a scheme and a host; write it like https://metrics-api.librato.com",
		},
		{
			"endpoint with credentials", func(cfg *Config) { cfg.Endpoint = "https://a:b@librato.example.com" },
			"endpoint: must not hold credentials; set email and token",
		},
		{
			"endpoint with query", func(cfg *Config) { cfg.Endpoint = "https://librato.example.com?a=b" },
			"endpoint: must not have a query or fragment; leave out what follows the path",
		},
		{
			"AppOptics with sources", func(cfg *Config) { cfg.Endpoint = "https://api.appoptics.com" },
			"api: AppOptics does not take source-based metrics; set api: measurements",
		},
		{
			"no timeout", func(cfg *Config) { cfg.Timeout = 0 },
			"timeout: must be above 0, or a request without an answer would wait for ever; the default is 30s",
		},
		{
			"no api", func(cfg *Config) { cfg.API = "" },
			`api: "" is unknown; write "metrics" or "measurements"`,
		},
		{
			"no token", func(cfg *Config) { cfg.Token = "" },
			"token: must be set to an API token of the account; one that may only record suffices",
		},
		{
			"no email", func(cfg *Config) { cfg.Email = "" },
			"email: must be set to the account's e-mail address; only api: measurements works with a token alone",
		},
		{
			"email with a colon", func(cfg *Config) { cfg.Email = "a:b@example.com" },
			"email: must not contain a colon, which basic authentication cannot carry",
		},
		{"auth extension and token", func(cfg *Config) {
			cfg.Auth = configoptional.Some(configauth.Config{AuthenticatorID: component.MustNewID("basicauth")})
		}, "auth: replaces email and token; remove it or these two"},

		{
			"no source attribute", func(cfg *Config) { cfg.SourceAttribute = "" },
			"source_attribute: must not be empty; leave it out for the default, source",
		},
		{
			"empty source fallback", func(cfg *Config) { cfg.SourceFallbacks = []string{"host.name", ""} },
			"source_fallbacks[1]: is empty; name a resource attribute, or write [] for no fallback",
		},
		{
			"reserved source", func(cfg *Config) { cfg.DefaultSource = "All" },
			`default_source: "all" is reserved by Librato; choose another`,
		},
		{
			"source with a space", func(cfg *Config) { cfg.DefaultSource = "my host" },
			"default_source: Librato takes up to 255 of A-Z a-z 0-9 . : _ -; leave the other characters out",
		},
		{
			"source too long", func(cfg *Config) { cfg.DefaultSource = strings.Repeat("a", 256) },
			"default_source: Librato takes up to 255 of A-Z a-z 0-9 . : _ -; leave the other characters out",
		},
		{
			"empty name attribute", func(cfg *Config) { cfg.NameAttributes = &[]string{""} },
			"name_attributes[0]: is empty; name an attribute, or remove it",
		},
		{
			"name attributes with tags", func(cfg *Config) { cfg.API, cfg.NameAttributes = APIMeasurements, &[]string{} },
			"name_attributes: attributes become tags in the measurements API; set tags.attributes instead",
		},
		{
			"prefix with a slash", func(cfg *Config) { cfg.MetricPrefix = "shop/" },
			"metric_prefix: may have up to 100 of A-Z a-z 0-9 . : _ -; leave the other characters out",
		},
		{
			"prefix too long", func(cfg *Config) { cfg.MetricPrefix = strings.Repeat("a", 101) },
			"metric_prefix: may have up to 100 of A-Z a-z 0-9 . : _ -; leave the other characters out",
		},
		{
			"empty pattern", func(cfg *Config) { cfg.SumMetrics = []string{""} },
			`sum_metrics[0]: is empty and matches nothing; write a name, "*" stands for any characters`,
		},
		{
			"tags without the measurements API", func(cfg *Config) { cfg.Tags.Fixed = map[string]string{"env": "prod"} },
			"tags: the metrics API has none; remove them, or set api: measurements",
		},
		{
			"empty tag attribute", func(cfg *Config) { cfg.API, cfg.Tags.Attributes = APIMeasurements, &[]string{""} },
			"tags.attributes[0]: is empty; name an attribute, or remove it",
		},
		{
			"empty tag resource attribute", func(cfg *Config) { cfg.API, cfg.Tags.ResourceAttributes = APIMeasurements, []string{""} },
			"tags.resource_attributes[0]: is empty; name an attribute, or remove it",
		},
		{
			"empty fixed tag", func(cfg *Config) { cfg.API, cfg.Tags.Fixed = APIMeasurements, map[string]string{"env": ""} },
			`tags.fixed: "env": "" has an empty name or value; the service takes neither`,
		},

		{
			"period too short", func(cfg *Config) { cfg.Gauges.Period, cfg.FlushInterval = 9*time.Second, 5*time.Second },
			"gauges.period: is 9s; Librato takes 10s to 10m0s",
		},
		{
			"period too long", func(cfg *Config) { cfg.Gauges.Period = 601 * time.Second },
			"gauges.period: is 10m1s; Librato takes 10s to 10m0s",
		},
		{
			"period with a fraction", func(cfg *Config) { cfg.Gauges.Period = 10500 * time.Millisecond },
			"gauges.period: is 10.5s; Librato takes whole seconds only",
		},
		{
			"flush too often", func(cfg *Config) { cfg.FlushInterval = 500 * time.Millisecond },
			"flush_interval: is 500ms; it must be at least 1s",
		},
		{
			"flush with a fraction", func(cfg *Config) { cfg.FlushInterval = 1500 * time.Millisecond },
			"flush_interval: is 1.5s; ticks come at whole seconds, write whole seconds",
		},
		{
			"flush too seldom", func(cfg *Config) { cfg.FlushInterval = 61 * time.Second },
			"flush_interval: is 1m1s, longer than gauges.period, 1m0s; shorten it",
		},
		{
			"max_age too long", func(cfg *Config) { cfg.MaxAge = 2 * time.Hour },
			"max_age: is 2h0m0s; Librato refuses what is older than 120m, so write at most 1h55m0s",
		},
		{
			"max_age too short", func(cfg *Config) { cfg.MaxAge = time.Minute },
			"max_age: is 1m0s; it must be at least gauges.period and flush_interval together, 1m10s",
		},
		{
			"negative max_future", func(cfg *Config) { cfg.MaxFuture = -time.Second },
			"max_future: is -1s; it must be from 0s to 1h0m0s",
		},
		{
			"max_future too long", func(cfg *Config) { cfg.MaxFuture = 61 * time.Minute },
			"max_future: is 1h1m0s; it must be from 0s to 1h0m0s",
		},
		{
			"no instances", func(cfg *Config) { cfg.Instance = InstanceConfig{} },
			"instance.count: is 0; it must be at least 1",
		},
		{
			"too many instances", func(cfg *Config) { cfg.Instance.Count = 7 },
			"instance.count: is 7; each instance needs 10 seconds of gauges.period, 1m0s: lengthen that, or run fewer",
		},
		{
			"negative instance", func(cfg *Config) { cfg.Instance.Index = -1 },
			"instance.index: is -1; it must be from 0 to instance.count - 1",
		},
		{
			"instance past the last", func(cfg *Config) { cfg.Instance.Index = 1 },
			"instance.index: is 1; it must be from 0 to instance.count - 1",
		},

		{
			"no streams", func(cfg *Config) { cfg.MaxStreams = 0 },
			"max_streams: is 0; it must be at least 1",
		},
		{
			"fewer increments than streams", func(cfg *Config) { cfg.MaxIncrements = 39_999 },
			"max_increments: is 39999; each of max_streams, 40000, needs one: raise it, or lower max_streams",
		},
		{
			"no consumers", func(cfg *Config) { cfg.NumConsumers = 0 },
			"num_consumers: is 0; it must be at least 1",
		},
		{
			"negative shutdown timeout", func(cfg *Config) { cfg.ShutdownTimeout = -time.Second },
			"shutdown_timeout: is -1s; it must not be negative",
		},
		{
			"no window", func(cfg *Config) { cfg.Deduplication.Window = 0 },
			"deduplication.window: is 0s; it must be above 0",
		},
		{
			"no entries", func(cfg *Config) { cfg.Deduplication.MaxEntries = 0 },
			"deduplication.max_entries: is 0; it must be at least 1",
		},

		{
			"retry off", func(cfg *Config) { cfg.RetryConfig.Enabled = false },
			"retry_on_failure.enabled: must stay true; what the service did not confirm is always posted again, max_age bounds how long",
		},
		{
			"retry with an end", func(cfg *Config) { cfg.RetryConfig.MaxElapsedTime = time.Hour },
			"retry_on_failure.max_elapsed_time: must be 0; max_age bounds how long a measurement is tried",
		},
		{
			"retry at once", func(cfg *Config) { cfg.RetryConfig.InitialInterval = 0 },
			"retry_on_failure.initial_interval: is 0s; it must be above 0",
		},
		{
			"retry ever faster", func(cfg *Config) { cfg.RetryConfig.Multiplier = 0.5 },
			"retry_on_failure.multiplier: is 0.5; it must be at least 1",
		},
		{
			"retry with a low ceiling", func(cfg *Config) { cfg.RetryConfig.MaxInterval = time.Second },
			"retry_on_failure.max_interval: is 1s; it must be at least initial_interval, 5s",
		},

		{
			"several at once", func(cfg *Config) { cfg.Token, cfg.MaxStreams = "", 0 },
			"token: must be set to an API token of the account; one that may only record suffices\nmax_streams: is 0; it must be at least 1",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := validConfig()
			tt.change(cfg)
			err := confmap.Validate(cfg)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, tt.want)
		})
	}
}

func TestWarnings(t *testing.T) {
	tests := map[string]struct {
		change func(*Config)
		want   string // how the only warning begins; empty: none
	}{
		"defaults":                   {func(*Config) {}, ""},
		"http on this machine":       {func(cfg *Config) { cfg.Endpoint = "http://localhost:8089" }, ""},
		"http on loopback, IPv4":     {func(cfg *Config) { cfg.Endpoint = "http://127.0.0.1:8089" }, ""},
		"http on loopback, IPv6":     {func(cfg *Config) { cfg.Endpoint = "http://[::1]:8089" }, ""},
		"http elsewhere":             {func(cfg *Config) { cfg.Endpoint = "http://librato.example.com" }, "endpoint: is not https"},
		"exact seconds, not on disk": {func(cfg *Config) { cfg.Gauges.ServiceSideAggregation = false }, "gauges.service_side_aggregation: is off"},
		"exact seconds, on disk": {func(cfg *Config) {
			id := component.MustNewID("file_storage")
			cfg.Gauges.ServiceSideAggregation, cfg.StorageID = false, &id
		}, ""},
		"compression": {func(cfg *Config) { cfg.Compression = configcompression.TypeGzip }, "compression: is on"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := validConfig()
			tt.change(cfg)
			require.NoError(t, cfg.Validate())
			if tt.want == "" {
				assert.Empty(t, cfg.warnings())
				return
			}
			require.Len(t, cfg.warnings(), 1)
			assert.Contains(t, cfg.warnings()[0], tt.want)
		})
	}
}

// Nothing that prints the settings gives the token away.
func TestTokenIsRedacted(t *testing.T) {
	cfg := validConfig()
	cfg.Token = "sesame"
	marshaled := confmap.New()
	require.NoError(t, marshaled.Marshal(cfg))
	asJSON, err := json.Marshal(cfg)
	require.NoError(t, err)
	assert.Equal(t, "[REDACTED]", marshaled.Get("token"))
	for _, printed := range []string{
		fmt.Sprint(cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg), fmt.Sprintf("%q", cfg.Token),
		fmt.Sprint(marshaled.ToStringMap()), string(asJSON),
	} {
		assert.Contains(t, printed, "[REDACTED]")
		assert.NotContains(t, printed, "sesame")
	}
}

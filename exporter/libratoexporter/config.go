// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configretry"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// API names one of the two ways in which the service takes measurements. Beyond this file it is a librato.API.
type API string

// The APIs.
const (
	APIMetrics      API = "metrics"      // POST /v1/metrics: gauges and counters, told apart by name and source
	APIMeasurements API = "measurements" // POST /v1/measurements: told apart by name and tags
)

var apis = map[API]*librato.API{
	APIMetrics:      librato.Metrics,
	APIMeasurements: librato.Measurements,
}

// UnmarshalText refuses every text that names no API.
func (a *API) UnmarshalText(text []byte) error {
	*a = API(text)
	if apis[*a] == nil {
		return fmt.Errorf("unknown api %q: write %q or %q", text, APIMetrics, APIMeasurements)
	}
	return nil
}

// Config holds the settings of the exporter.
type Config struct {
	confighttp.ClientConfig `mapstructure:",squash"`

	// Email is the user name of Librato's accounts. AppOptics has none: there the token is the user name.
	Email string `mapstructure:"email"`
	// Token is the API token; one that may only record suffices.
	Token configopaque.String `mapstructure:"token"`
	// API is the way in which measurements are sent.
	API API `mapstructure:"api"`

	// SourceAttribute is the attribute, of the data point or else of the resource, that holds the source.
	SourceAttribute string `mapstructure:"source_attribute"`
	// SourceFallbacks are resource attributes; the first that is there is the source if there is no SourceAttribute.
	SourceFallbacks []string `mapstructure:"source_fallbacks"`
	// DefaultSource is the source of what has none otherwise. Empty: sent without a source.
	DefaultSource string `mapstructure:"default_source"`

	// NameAttributes are the data point attributes whose values are appended to the names of metrics that do not add
	// up, in the metrics API. Nil: all but the source. Empty: none.
	NameAttributes *[]string `mapstructure:"name_attributes"`
	// MetricPrefix comes before every name.
	MetricPrefix string `mapstructure:"metric_prefix"`
	// SumMetrics are globs: metrics with such names add up. "*" stands for any run of characters, "?" for one.
	SumMetrics []string `mapstructure:"sum_metrics"`
	// Tags says what becomes a tag in the measurements API.
	Tags TagsConfig `mapstructure:"tags"`

	// FlushInterval is the time between two ticks, at which increments are sealed and posted. Whole seconds.
	FlushInterval time.Duration `mapstructure:"flush_interval"`
	// Gauges are the properties with which metrics that add up are created.
	Gauges GaugesConfig `mapstructure:"gauges"`

	// MaxAge is how old a point may be on arrival; the service refuses what is older than 120 minutes.
	MaxAge time.Duration `mapstructure:"max_age"`
	// MaxFuture is how far ahead of the clock a point may be on arrival.
	MaxFuture time.Duration `mapstructure:"max_future"`
	// MaxStreams bounds the streams known at a time: pairs of name and source, or name and tags.
	MaxStreams int `mapstructure:"max_streams"`
	// MaxIncrements bounds the increments that wait for the service.
	MaxIncrements int `mapstructure:"max_increments"`

	// NumConsumers is how many requests may be under way at a time.
	NumConsumers int `mapstructure:"num_consumers"`
	// RetryConfig is the back-off from the service as a whole.
	RetryConfig configretry.BackOffConfig `mapstructure:"retry_on_failure"`

	// ShutdownTimeout is how long a shutdown waits for requests at most. With storage these are the ones under way;
	// without, it goes on posting what is left.
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout"`

	// Instance shares the seconds of a period out among collectors that send the same streams.
	Instance InstanceConfig `mapstructure:"instance"`
	// StorageID is the storage extension that keeps the state over restarts. Nil: memory only.
	StorageID *component.ID `mapstructure:"storage"`
	// Deduplication bounds the message ids that are remembered.
	Deduplication DeduplicationConfig `mapstructure:"deduplication"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// api is what the name in API stands for; of a valid configuration it is not nil.
func (cfg *Config) api() *librato.API { return apis[cfg.API] }

// TagsConfig says what becomes a tag in the measurements API. The source is always the tag "source". Where two give
// the same tag, attributes come before resource attributes, and these before fixed ones.
type TagsConfig struct {
	// Attributes are the data point attributes that become tags. Nil: all. Empty: none.
	Attributes *[]string `mapstructure:"attributes"`
	// ResourceAttributes are the resource attributes that become tags.
	ResourceAttributes []string `mapstructure:"resource_attributes"`
	// Fixed are tags that every measurement carries.
	Fixed map[string]string `mapstructure:"fixed"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// GaugesConfig holds the properties of gauges that add up, applied when the first measurement creates the gauge.
type GaugesConfig struct {
	// Period is what a point on the graph stands for. Whole seconds.
	Period time.Duration `mapstructure:"period"`
	// ServiceSideAggregation lets the service add up what arrives within a period.
	ServiceSideAggregation bool `mapstructure:"service_side_aggregation"`
	// DisplayStacked stacks the sources in the graph.
	DisplayStacked bool `mapstructure:"display_stacked"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// InstanceConfig tells collectors apart that send the same streams.
type InstanceConfig struct {
	// Index is this collector's number, from 0.
	Index int `mapstructure:"index"`
	// Count is how many collectors there are.
	Count int `mapstructure:"count"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// DeduplicationConfig bounds the message ids that are remembered, so that an event which comes twice is added once.
// They only come if the receiver forwards them.
type DeduplicationConfig struct {
	// Window is how long an id is remembered.
	Window time.Duration `mapstructure:"window"`
	// MaxEntries is how many ids are remembered at most; beyond it the oldest go early.
	MaxEntries int `mapstructure:"max_entries"`

	// prevent unkeyed literal initialization
	_ struct{}
}

const (
	minFlushInterval  = time.Second                    // the service's resolution
	maxMaxFuture      = time.Hour                      // what is further ahead has a wrong clock, and the state has to know its periods
	maxMaxAge         = librato.MaxAge - 5*time.Minute // a post takes its time
	secondsAnInstance = 10                             // each instance needs a few seconds of the period to itself
	maxPrefix         = 100                            // of the characters that a name may have
	appOpticsHost     = "api.appoptics.com"
)

// Validate names each impossible setting and says how to mend it.
func (cfg *Config) Validate() error {
	return errors.Join(
		cfg.validateAccount(),
		cfg.validateNaming(),
		cfg.validateTimes(),
		cfg.validateBounds(),
		cfg.validateRetry(),
	)
}

func (cfg *Config) validateAccount() error {
	var errs []error
	api := cfg.api()
	if api == nil {
		errs = append(errs, fmt.Errorf("api: %q is unknown; write %q or %q", cfg.API, APIMetrics, APIMeasurements))
	}
	endpoint, err := url.Parse(cfg.Endpoint)
	switch {
	case err != nil:
		errs = append(errs, errors.New("endpoint: is no URL; write it like https://metrics-api.librato.com"))
	case endpoint.Scheme != "http" && endpoint.Scheme != "https", endpoint.Host == "":
		errs = append(errs, errors.New(
			"endpoint: needs a scheme and a host; write it like https://metrics-api.librato.com"))
	case endpoint.User != nil:
		errs = append(errs, errors.New("endpoint: must not hold credentials; set email and token"))
	case endpoint.RawQuery != "" || endpoint.Fragment != "":
		errs = append(errs, errors.New("endpoint: must not have a query or fragment; leave out what follows the path"))
	case endpoint.Hostname() == appOpticsHost && api != nil && !api.AppOptics:
		errs = append(errs, errors.New("api: AppOptics does not take source-based metrics; set api: measurements"))
	}
	if cfg.Timeout <= 0 {
		errs = append(errs, errors.New(
			"timeout: must be above 0, or a request without an answer would wait for ever; the default is 30s"))
	}
	switch {
	case cfg.Auth.HasValue():
		if cfg.Token != "" || cfg.Email != "" {
			errs = append(errs, errors.New("auth: replaces email and token; remove it or these two"))
		}
	case cfg.Token == "":
		errs = append(errs, errors.New(
			"token: must be set to an API token of the account; one that may only record suffices"))
	case cfg.Email == "" && api != nil && !api.AppOptics:
		errs = append(errs, errors.New(
			"email: must be set to the account's e-mail address; only api: measurements works with a token alone"))
	}
	if strings.Contains(cfg.Email, ":") {
		errs = append(errs, errors.New("email: must not contain a colon, which basic authentication cannot carry"))
	}
	return errors.Join(errs...)
}

func (cfg *Config) validateNaming() error {
	var errs []error
	if cfg.SourceAttribute == "" {
		errs = append(errs, errors.New("source_attribute: must not be empty; leave it out for the default, source"))
	}
	for i, key := range cfg.SourceFallbacks {
		if key == "" {
			errs = append(errs, fmt.Errorf(
				"source_fallbacks[%d]: is empty; name a resource attribute, or write [] for no fallback", i))
		}
	}
	api := cfg.api()
	if api != nil && !api.Tagged {
		if strings.EqualFold(cfg.DefaultSource, librato.ReservedSource) {
			errs = append(errs, fmt.Errorf(
				"default_source: %q is reserved by Librato; choose another", librato.ReservedSource))
		} else if librato.CleanSource(cfg.DefaultSource) != cfg.DefaultSource {
			errs = append(errs, fmt.Errorf(
				"default_source: Librato takes up to %d of A-Z a-z 0-9 . : _ -; leave the other characters out",
				librato.MaxNameLength))
		}
		if cfg.Tags.Attributes != nil || len(cfg.Tags.ResourceAttributes) != 0 || len(cfg.Tags.Fixed) != 0 {
			errs = append(errs, errors.New("tags: the metrics API has none; remove them, or set api: measurements"))
		}
	}
	if api != nil && api.Tagged && cfg.NameAttributes != nil {
		errs = append(errs, errors.New(
			"name_attributes: attributes become tags in the measurements API; set tags.attributes instead"))
	}
	if cfg.NameAttributes != nil {
		errs = append(errs, emptyKeys("name_attributes", *cfg.NameAttributes))
	}
	if len(cfg.MetricPrefix) > maxPrefix || librato.CleanMetricName(cfg.MetricPrefix) != cfg.MetricPrefix {
		errs = append(errs, fmt.Errorf(
			"metric_prefix: may have up to %d of A-Z a-z 0-9 . : _ -; leave the other characters out", maxPrefix))
	}
	for i, pattern := range cfg.SumMetrics {
		if pattern == "" {
			errs = append(errs, fmt.Errorf(
				"sum_metrics[%d]: is empty and matches nothing; write a name, \"*\" stands for any characters", i))
		}
	}
	if cfg.Tags.Attributes != nil {
		errs = append(errs, emptyKeys("tags.attributes", *cfg.Tags.Attributes))
	}
	errs = append(errs, emptyKeys("tags.resource_attributes", cfg.Tags.ResourceAttributes))
	for name, value := range cfg.Tags.Fixed {
		if name == "" || value == "" {
			errs = append(errs, fmt.Errorf(
				"tags.fixed: %q: %q has an empty name or value; the service takes neither", name, value))
		}
	}
	return errors.Join(errs...)
}

func emptyKeys(field string, keys []string) error {
	for i, key := range keys {
		if key == "" {
			return fmt.Errorf("%s[%d]: is empty; name an attribute, or remove it", field, i)
		}
	}
	return nil
}

func (cfg *Config) validateTimes() error {
	var errs []error
	period := cfg.Gauges.Period
	switch {
	case period < librato.MinPeriod || period > librato.MaxPeriod:
		errs = append(errs, fmt.Errorf(
			"gauges.period: is %v; Librato takes %v to %v", period, librato.MinPeriod, librato.MaxPeriod))
	case period%time.Second != 0:
		errs = append(errs, fmt.Errorf("gauges.period: is %v; Librato takes whole seconds only", period))
	}
	switch {
	case cfg.FlushInterval < minFlushInterval:
		errs = append(errs, fmt.Errorf(
			"flush_interval: is %v; it must be at least %v", cfg.FlushInterval, minFlushInterval))
	case cfg.FlushInterval%time.Second != 0:
		errs = append(errs, fmt.Errorf(
			"flush_interval: is %v; ticks come at whole seconds, write whole seconds", cfg.FlushInterval))
	case cfg.FlushInterval > period:
		errs = append(errs, fmt.Errorf(
			"flush_interval: is %v, longer than gauges.period, %v; shorten it", cfg.FlushInterval, period))
	}
	switch {
	case cfg.MaxAge > maxMaxAge:
		errs = append(errs, fmt.Errorf(
			"max_age: is %v; Librato refuses what is older than 120m, so write at most %v", cfg.MaxAge, maxMaxAge))
	case cfg.MaxAge < period+cfg.FlushInterval:
		errs = append(errs, fmt.Errorf(
			"max_age: is %v; it must be at least gauges.period and flush_interval together, %v", cfg.MaxAge, period+cfg.FlushInterval))
	}
	if cfg.MaxFuture < 0 || cfg.MaxFuture > maxMaxFuture {
		errs = append(errs, fmt.Errorf("max_future: is %v; it must be from 0s to %v", cfg.MaxFuture, maxMaxFuture))
	}
	switch {
	case cfg.Instance.Count < 1:
		errs = append(errs, fmt.Errorf("instance.count: is %d; it must be at least 1", cfg.Instance.Count))
	case cfg.Instance.Count > 1 && time.Duration(cfg.Instance.Count) > period/(secondsAnInstance*time.Second):
		errs = append(errs, fmt.Errorf(
			"instance.count: is %d; each instance needs %d seconds of gauges.period, %v: lengthen that, or run fewer",
			cfg.Instance.Count, secondsAnInstance, period))
	}
	if cfg.Instance.Index < 0 || cfg.Instance.Index >= max(cfg.Instance.Count, 1) {
		errs = append(errs, fmt.Errorf(
			"instance.index: is %d; it must be from 0 to instance.count - 1", cfg.Instance.Index))
	}
	return errors.Join(errs...)
}

func (cfg *Config) validateBounds() error {
	var errs []error
	if cfg.MaxStreams < 1 {
		errs = append(errs, fmt.Errorf("max_streams: is %d; it must be at least 1", cfg.MaxStreams))
	}
	if cfg.MaxIncrements < cfg.MaxStreams {
		errs = append(errs, fmt.Errorf(
			"max_increments: is %d; each of max_streams, %d, needs one: raise it, or lower max_streams",
			cfg.MaxIncrements, cfg.MaxStreams))
	}
	if cfg.NumConsumers < 1 {
		errs = append(errs, fmt.Errorf("num_consumers: is %d; it must be at least 1", cfg.NumConsumers))
	}
	if cfg.ShutdownTimeout < 0 {
		errs = append(errs, fmt.Errorf("shutdown_timeout: is %v; it must not be negative", cfg.ShutdownTimeout))
	}
	if cfg.Deduplication.Window <= 0 {
		errs = append(errs, fmt.Errorf("deduplication.window: is %v; it must be above 0", cfg.Deduplication.Window))
	}
	if cfg.Deduplication.MaxEntries < 1 {
		errs = append(errs, fmt.Errorf(
			"deduplication.max_entries: is %d; it must be at least 1", cfg.Deduplication.MaxEntries))
	}
	return errors.Join(errs...)
}

// validateRetry refuses what configretry allows and an exporter that never gives up cannot do.
func (cfg *Config) validateRetry() error {
	var errs []error
	retry := &cfg.RetryConfig
	if !retry.Enabled {
		errs = append(errs, errors.New(
			"retry_on_failure.enabled: must stay true; what the service did not confirm is always posted again, max_age bounds how long"))
	}
	if retry.MaxElapsedTime != 0 {
		errs = append(errs, errors.New(
			"retry_on_failure.max_elapsed_time: must be 0; max_age bounds how long a measurement is tried"))
	}
	if retry.InitialInterval <= 0 {
		errs = append(errs, fmt.Errorf(
			"retry_on_failure.initial_interval: is %v; it must be above 0", retry.InitialInterval))
	}
	if retry.Multiplier < 1 {
		errs = append(errs, fmt.Errorf("retry_on_failure.multiplier: is %v; it must be at least 1", retry.Multiplier))
	}
	if retry.MaxInterval < retry.InitialInterval {
		errs = append(errs, fmt.Errorf(
			"retry_on_failure.max_interval: is %v; it must be at least initial_interval, %v", retry.MaxInterval, retry.InitialInterval))
	}
	return errors.Join(errs...)
}

// warnings are settings that work, but hardly as meant; each is worth one line at start.
func (cfg *Config) warnings() []string {
	var warnings []string
	if endpoint, err := url.Parse(cfg.Endpoint); err == nil && endpoint.Scheme == "http" && !isLoopback(endpoint.Hostname()) {
		warnings = append(warnings, "endpoint: is not https; Librato answers 403 there, and the token travels in the clear")
	}
	if cfg.StorageID == nil && !cfg.Gauges.ServiceSideAggregation {
		warnings = append(warnings, "gauges.service_side_aggregation: is off and storage is not set; a restart may replace what was counted in the open period")
	}
	if cfg.Compression.IsCompressed() {
		warnings = append(warnings, "compression: is on; whether the service takes compressed requests is not documented")
	}
	return warnings
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.yaml.in/yaml/v3"
)

// readTable returns the rows of the README's table whose first column has that title, without backquotes: the other
// columns by the first.
func readTable(t *testing.T, title string) map[string][]string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(readme), "\n| "+title+" |")
	require.True(t, found, "no table with the column %q", title)
	rows := map[string][]string{}
	for i, line := range strings.Split(table, "\n") {
		if i < 2 { // the rest of the head, and the rule under it
			continue
		}
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "|"), " |")
		for j, cell := range cells {
			cells[j] = strings.ReplaceAll(strings.TrimSpace(cell), "`", "")
		}
		require.NotContains(t, rows, cells[0], "twice in the table")
		rows[cells[0]] = cells[1:]
	}
	return rows
}

// addSettings adds to settings what s has: keys as they are nested in YAML, and defaults as people write them.
func addSettings(settings map[string]string, prefix string, s reflect.Value) {
	for i := range s.NumField() {
		field, value := s.Type().Field(i), s.Field(i)
		key, _, _ := strings.Cut(field.Tag.Get("mapstructure"), ",")
		switch {
		case field.Type == reflect.TypeFor[confighttp.ClientConfig](), key == "":
			// confighttp describes its own, and the unexported fields are no settings.
		case field.Type.Kind() == reflect.Struct:
			addSettings(settings, prefix+key+".", value)
		case field.Type.Kind() == reflect.Pointer:
			settings[prefix+key] = "" // not set
		case field.Type == reflect.TypeFor[time.Duration]():
			settings[prefix+key] = value.Interface().(time.Duration).String()
		case field.Type.Kind() == reflect.Slice:
			settings[prefix+key] = "[" + strings.Join(value.Interface().([]string), ", ") + "]"
		case field.Type.Kind() == reflect.Map:
			settings[prefix+key] = "{}"
		case field.Type.Kind() == reflect.String:
			settings[prefix+key] = value.String()
		default:
			settings[prefix+key] = fmt.Sprint(value)
		}
	}
}

// The README names every setting, with its default.
func TestReadmeSettings(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	want := map[string]string{"endpoint": cfg.Endpoint, "timeout": cfg.Timeout.String()}
	addSettings(want, "", reflect.ValueOf(cfg).Elem())

	got := map[string]string{}
	for key, cells := range readTable(t, "Setting") {
		got[key] = cells[0]
		if d, err := time.ParseDuration(cells[0]); err == nil && cells[0] != "0" {
			got[key] = d.String()
		}
	}
	assert.Equal(t, want, got)
}

// The README names every metric of metadata.yaml, with its unit and attributes.
func TestReadmeTelemetry(t *testing.T) {
	file, err := os.ReadFile("metadata.yaml")
	require.NoError(t, err)
	var metadata struct {
		Telemetry struct {
			Metrics map[string]struct {
				Unit       string
				Attributes []string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(file, &metadata))

	want, got := map[string][]string{}, map[string][]string{}
	for name, metric := range metadata.Telemetry.Metrics {
		want[name] = []string{metric.Unit, strings.Join(metric.Attributes, ", ")}
	}
	for name, cells := range readTable(t, "Metric") {
		got[name] = cells[:2]
	}
	assert.Equal(t, want, got)
}

// The tests that the README names exist.
func TestReadmeTests(t *testing.T) {
	for what, cells := range readTable(t, "Data point") {
		name, sub, _ := strings.Cut(cells[len(cells)-1], "/")
		switch name {
		case "TestConvertGolden":
			assert.FileExists(t, "testdata/convert/"+sub+".yaml", what)
		case "TestWhatAddsUp":
		default:
			t.Errorf("%s: no such test: %q", what, name)
		}
	}
	var tests []byte
	for _, file := range []string{"flusher_test.go", "deliver_test.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		tests = append(tests, text...)
	}
	for answer, cells := range readTable(t, "Answer") {
		assert.Contains(t, string(tests), "\nfunc "+cells[len(cells)-1]+"(t *testing.T) {", answer)
	}
}

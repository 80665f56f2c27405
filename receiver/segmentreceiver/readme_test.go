// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.yaml.in/yaml/v3"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Clean(name))
	require.NoError(t, err)
	return string(text)
}

// table returns the rows of the README's table under the heading, cell by cell, without the two that head it.
func table(t *testing.T, heading string) [][]string {
	t.Helper()
	_, section, found := strings.Cut(readFile(t, "README.md"), "\n"+heading+"\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n#")
	var rows [][]string
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "|") {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
			for i := range cells {
				cells[i] = strings.Trim(strings.TrimSpace(strings.Trim(strings.TrimSpace(cells[i]), "|")), "`")
			}
			rows = append(rows, cells)
		}
	}
	require.Greater(t, len(rows), 2)
	return rows[2:]
}

// settingsOf adds the keys that c, a configuration struct, declares itself.
func settingsOf(keys map[string]bool, prefix string, c reflect.Type) {
	for i := range c.NumField() {
		field := c.Field(i)
		key, options, _ := strings.Cut(field.Tag.Get("mapstructure"), ",")
		switch typ := field.Type; {
		case key == "" || options != "": // unkeyed, or squashed
		case key == "webhook":
			settingsOf(keys, key+".", reflect.TypeFor[WebhookConfig]())
		case typ.Kind() == reflect.Struct:
			settingsOf(keys, prefix+key+".", typ)
		default:
			keys[prefix+key] = true
		}
	}
}

func TestREADMESettings(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	require.NoError(t, confmap.NewFromStringMap(map[string]any{"webhook": map[string]any{}, "cors": map[string]any{}}).Unmarshal(cfg))
	conf := confmap.New()
	require.NoError(t, conf.Marshal(cfg))

	missing := map[string]bool{}
	settingsOf(missing, "", reflect.TypeFor[Config]())
	require.Contains(t, missing, "deduplication.window")
	require.Contains(t, missing, "webhook.path")
	for _, row := range table(t, "## Settings") {
		key, documented := row[0], row[1]
		delete(missing, key)
		value := conf.Get(strings.ReplaceAll(key, ".", confmap.KeyDelimiter))
		switch v := value.(type) {
		case time.Duration:
			d, err := time.ParseDuration(documented)
			require.NoError(t, err, key)
			assert.Equal(t, v, d, key)
			continue
		case nil:
			value = map[bool]any{true: []any{}, false: ""}[documented == "[]"]
		case []any:
			var items []string
			for _, item := range v {
				items = append(items, fmt.Sprint(item))
			}
			value = "[" + strings.Join(items, ", ") + "]"
		}
		if value == "" || value == "[REDACTED]" { // no secret has a default
			value = `""`
		}
		assert.Equal(t, fmt.Sprint(value), documented, key)
	}
	assert.Empty(t, missing, "settings that the README does not describe")
}

func TestREADMETelemetry(t *testing.T) {
	var metadata struct {
		Telemetry struct {
			Metrics map[string]struct {
				Unit string `yaml:"unit"`
			} `yaml:"metrics"`
		} `yaml:"telemetry"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(readFile(t, "metadata.yaml")), &metadata))
	want := map[string]string{}
	for name, m := range metadata.Telemetry.Metrics {
		want["otelcol_"+name] = m.Unit
	}
	got := map[string]string{}
	for _, row := range table(t, "## Telemetry") {
		got[row[0]] = row[1]
	}
	assert.Equal(t, want, got)

	// The outcomes that metadata.yaml lists are those that are counted.
	for _, name := range append(outcomeNames[:], append(callNames(), calls[callUnknown].name)...) {
		assert.Regexp(t, `(?m)^ +- `+name+`$|[\[ ]`+name+`[,\]]`, readFile(t, "metadata.yaml"), name)
	}
}

// TestREADMEComparison checks that each row of the comparison names tests, and that these exist.
func TestREADMEComparison(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	var code strings.Builder
	for _, file := range files {
		code.WriteString(readFile(t, file))
	}
	for _, row := range table(t, "## Compared with Segment's Tracking API") {
		tests := regexp.MustCompile(`Test\w+`).FindAllString(row[2], -1)
		assert.NotEmpty(t, tests, row[0])
		for _, test := range tests {
			assert.Contains(t, code.String(), "func "+test+"(", row[0])
		}
	}
}

// TestREADMEExamples loads every configuration of this receiver that the README shows.
func TestREADMEExamples(t *testing.T) {
	n := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(readFile(t, "README.md"), -1) {
		var doc map[string]any
		text := regexp.MustCompile(`\$\{env:(\w+)\}`).ReplaceAllString(block[1], "$1")
		require.NoError(t, yaml.Unmarshal([]byte(text), &doc))
		sub, err := confmap.NewFromStringMap(doc).Sub("receivers" + confmap.KeyDelimiter + "segment")
		require.NoError(t, err)
		cfg := createDefaultConfig().(*Config)
		require.NoError(t, sub.Unmarshal(cfg), block[1])
		assert.NoError(t, confmap.Validate(cfg), block[1])
		n++
	}
	assert.GreaterOrEqual(t, n, 4)
}

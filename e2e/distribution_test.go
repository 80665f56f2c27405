// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestComponents(t *testing.T) {
	out, err := runBinary(t, nil, "components")
	require.NoError(t, err, out)
	for _, name := range []string{
		"segment", "otlp", "host_metrics", // receivers
		"librato", "debug", "otlp_http", "file", "prometheus", "prometheus_remote_write", // exporters
		"memory_limiter", "filter", "transform", "cumulative_to_delta", "batch", "delta_to_cumulative", "interval", // processors
		"file_storage", "health_check", "zpages", // extensions
		"env", "yaml", // providers
	} {
		assert.Regexp(t, `(?m)^\s+(- name|- scheme): `+name+`$`, out)
	}
}

// TestConfigsValidate loads every config that this repository shows a user with the built collector: config.yaml, the
// examples, and the YAML of each README.
func TestConfigsValidate(t *testing.T) {
	validate := func(t *testing.T, path string) {
		t.Helper()
		out, err := runBinary(t, variables(t, path), "validate", "--config", path)
		assert.NoError(t, err, out)
	}

	t.Run("config.yaml", func(t *testing.T) { validate(t, "../config.yaml") })

	examples := 0
	require.NoError(t, filepath.WalkDir("../examples", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) != ".yaml" || needsLargeBuild(path) || strings.Contains(path, "builder-config") {
			return err
		}
		examples++
		t.Run(strings.TrimPrefix(path, "../"), func(t *testing.T) { validate(t, path) })
		return err
	}))
	assert.GreaterOrEqual(t, examples, 7)

	readmes := []string{
		"../README.md", "../receiver/segmentreceiver/README.md", "../exporter/libratoexporter/README.md",
		"../docs/reliability.md", "../docs/performance.md",
	}
	for _, readme := range readmes {
		text, err := os.ReadFile(readme)
		if os.IsNotExist(err) && strings.HasPrefix(readme, "../docs/") {
			continue
		}
		require.NoError(t, err)
		for i, block := range yamlBlocks(string(text)) {
			t.Run(fmt.Sprintf("%s/%d", strings.TrimPrefix(readme, "../"), i), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "config.yaml")
				require.NoError(t, os.WriteFile(path, []byte(completed(block)), 0o600))
				validate(t, path)
			})
		}
	}
}

// needsLargeBuild says whether an example uses components that only examples/builder-config-large.yaml has.
func needsLargeBuild(path string) bool {
	dir := filepath.Base(filepath.Dir(path))
	return dir == "kafka" || dir == "load-balancing"
}

// TestLargeConfigsValidate does the same for the examples of several tiers, with the binary of `make large`.
func TestLargeConfigsValidate(t *testing.T) {
	needLargeBinary(t)
	paths, err := filepath.Glob("../examples/*/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		t.Run(strings.TrimPrefix(path, "../"), func(t *testing.T) {
			cmd := exec.Command(largeBinary, "validate", "--config", path)
			cmd.Env = append(os.Environ(), variables(t, path)...)
			out, err := cmd.CombinedOutput()
			assert.NoError(t, err, "%s", out)
		})
	}
}

func needLargeBinary(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(largeBinary); err != nil {
		unavailable(t, "_build-large/otelcol-segment-large is not there; it takes several minutes to build: run `make large`")
	}
}

// variables sets the environment variables that a config uses, each to a word of its own.
func variables(t *testing.T, config string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Clean(config))
	require.NoError(t, err)
	var env []string
	for _, match := range regexp.MustCompile(`\$\{env:(\w+)`).FindAllStringSubmatch(string(text), -1) {
		value := strings.ToLower(match[1])
		if strings.HasSuffix(match[1], "ENDPOINT") {
			value = "http://127.0.0.1:8089"
		}
		env = append(env, match[1]+"="+value)
	}
	return append(env, "STATE_DIRECTORY="+t.TempDir(), "LOG_LEVEL=warn")
}

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// yamlBlocks returns the collector configs in a Markdown text: its YAML blocks with a receiver or exporter section, save
// manifests for the builder.
func yamlBlocks(text string) []string {
	var blocks []string
	for _, match := range yamlBlock.FindAllStringSubmatch(text, -1) {
		if regexp.MustCompile(`(?m)^(receivers|exporters):`).MatchString(match[1]) && !strings.Contains(match[1], "gomod:") {
			blocks = append(blocks, match[1])
		}
	}
	return blocks
}

// completed adds to a block that shows one component what makes it a whole config.
func completed(block string) string {
	has := func(section string) bool { return regexp.MustCompile(`(?m)^` + section + `:`).MatchString(block) }
	if !has("receivers") {
		block += "\nreceivers:\n  segment:\n"
	}
	if !has("exporters") {
		block += "\nexporters:\n  debug:\n"
	}
	if strings.Contains(block, "storage: file_storage") && !has("extensions") {
		block += "\nextensions:\n  file_storage:\n    directory: ${env:STATE_DIRECTORY}\n"
	}
	if has("service") {
		return block
	}
	block += "\nservice:\n"
	if regexp.MustCompile(`(?m)^extensions:`).MatchString(block) {
		block += "  extensions: [file_storage]\n"
	}
	return block + fmt.Sprintf("  pipelines:\n    metrics:\n      receivers: [%s]\n      exporters: [%s]\n",
		strings.Join(ids(block, "receivers"), ", "), strings.Join(ids(block, "exporters"), ", "))
}

// ids returns the component ids of a section.
func ids(config, section string) []string {
	_, rest, _ := strings.Cut("\n"+config, "\n"+section+":\n")
	var found []string
	for line := range strings.Lines(rest) {
		if line != "\n" && line[0] != ' ' && line[0] != '#' {
			break
		}
		if match := regexp.MustCompile(`^ {2}([a-z_/0-9]+):`).FindStringSubmatch(line); match != nil {
			found = append(found, match[1])
		}
	}
	return found
}

// TestREADMEShowsExamples keeps the configs of the README equal to the files that they are said to be.
func TestREADMEShowsExamples(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	shown := regexp.MustCompile("(?ms)^<!-- (examples/\\S+) -->\n```yaml\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	assert.NotEmpty(t, shown)
	for _, match := range shown {
		file, err := os.ReadFile(filepath.Join("..", match[1]))
		require.NoError(t, err)
		assert.Equal(t, string(file), match[2], match[1])
	}
}

// TestLinks follows the links from one file of the repository to another.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	pages := 0
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../testdata/*.md", "../*/*/README.md"} {
		paths, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, path := range paths {
			text, err := os.ReadFile(filepath.Clean(path))
			require.NoError(t, err)
			pages++
			for _, match := range link.FindAllStringSubmatch(string(text), -1) {
				target := filepath.Join(filepath.Dir(path), match[1])
				if _, err := os.Stat(target); err != nil {
					assert.Fail(t, "broken link", "%s links to %s: %v", path, match[1], err)
				}
			}
		}
	}
	assert.Greater(t, pages, 4)
}

func TestWrongConfig(t *testing.T) {
	for name, tt := range map[string]struct{ from, to, want string }{
		"unknown key of the exporter":  {"token: e2e", "tokn: e2e", "tokn"},
		"unknown key of the receiver":  {"write_keys: [e2e-key]", "writekeys: [e2e-key]", "writekeys"},
		"impossible value":             {"flush_interval: 1s", "flush_interval: 1ms", "flush_interval"},
		"missing value":                {"token: e2e", "", "token"},
		"a storage that is not there":  {"token: e2e", "token: e2e\n    storage: file_storage", "file_storage"},
		"a value of the wrong type":    {"flush_interval: 1s", "max_streams: many", "max_streams"},
		"no such period at Librato":    {"token: e2e", "token: e2e\n    gauges: {period: 1h}", "gauges.period"},
		"an empty write key":           {"[e2e-key]", `[""]`, "write_keys"},
		"webhook without a secret":     {"write_keys: [e2e-key]", "write_keys: [e2e-key]\n    webhook: {path: /hook}", "webhook.shared_secret"},
		"an event that does not exist": {"write_keys: [e2e-key]", "write_keys: [e2e-key]\n    events: [identify]", "events"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, segmentToLibrato, tt.from)
			path := filepath.Join(t.TempDir(), "config.yaml")
			require.NoError(t, os.WriteFile(path, []byte(strings.Replace(segmentToLibrato, tt.from, tt.to, 1)), 0o600))
			// The storage that a component names is looked for when it starts.
			args := []string{"validate", "--config", path}
			if name == "a storage that is not there" {
				args = args[1:]
			}
			out, err := runBinary(t, []string{"SEGMENT_ADDR=" + freeAddr(t), "LIBRATO_ENDPOINT=http://127.0.0.1:1"}, args...)
			require.Error(t, err, out)
			assert.Contains(t, out, tt.want)
		})
	}
}

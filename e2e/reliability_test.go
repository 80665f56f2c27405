// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReliabilityNamesWhatExists holds docs/reliability.md to the code: the tests and metrics that it names are there.
func TestReliabilityNamesWhatExists(t *testing.T) {
	doc, err := os.ReadFile("../docs/reliability.md")
	require.NoError(t, err)

	var code, metadata strings.Builder
	require.NoError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir() && (strings.HasPrefix(entry.Name(), "_build") || entry.Name() == "node_modules" || entry.Name() == ".git"):
			return fs.SkipDir
		case strings.HasSuffix(path, "_test.go"):
			text, err := os.ReadFile(path)
			code.Write(text)
			return err
		case entry.Name() == "metadata.yaml":
			text, err := os.ReadFile(path)
			metadata.Write(text)
			return err
		}
		return nil
	}))

	tests := regexp.MustCompile("`((?:Test|Benchmark)[A-Za-z]+)`").FindAllStringSubmatch(string(doc), -1)
	assert.NotEmpty(t, tests)
	for _, match := range tests {
		assert.Contains(t, code.String(), "\nfunc "+match[1]+"(", "docs/reliability.md names a test that is not there")
	}
	metrics := regexp.MustCompile(`\b(?:exporter_librato|receiver_segment)_[a-z_]+`).FindAllString(string(doc), -1)
	assert.NotEmpty(t, metrics)
	for _, name := range metrics {
		assert.Contains(t, metadata.String(), "\n    "+name+":\n", "docs/reliability.md names a metric that is not there")
	}
}

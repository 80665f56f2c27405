// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import "testing"

// TestPage has a browser use the page of librato-local; page.mjs says what it expects.
func TestPage(t *testing.T) {
	startNode(t, "page.mjs", map[string]any{"host": "http://" + startLibrato(t).addr, "executablePath": chromium(t)})()
}

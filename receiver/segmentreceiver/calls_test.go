// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestCallsShareNothing: two calls with one name or short form, or with one of the paths for batches, would answer
// for each other.
func TestCallsShareNothing(t *testing.T) {
	paths := len(newRoutes(&Config{}))
	assert.Equal(t, 4+3*(len(calls)-1), paths, "a path of one call is that of another, or of batches")
	for typ, c := range calls {
		assert.NotEmpty(t, c.name)
		assert.Equal(t, callType(typ), callNamed([]byte(c.name)), c.name)
	}
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Package idset remembers the hashes of message ids for a while, in bounded memory. The receiver uses it to
// recognise a client's repeats, the exporter to recognise them after a restart.
package idset

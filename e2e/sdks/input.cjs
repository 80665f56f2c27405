// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// What the Go tests give each program as its one argument: {host, writeKey, events: [{event, properties, context}], …}.
exports.readInput = () => JSON.parse(process.argv[2])

#!/bin/sh
# Copyright The otelcol-segment Authors
# SPDX-License-Identifier: Apache-2.0

# Compares the receiver's decoder with JSON libraries on the same recorded body: CPU time and allocations an event. Arguments go to
# `go test`, for example -count 5.
set -eu
cd "$(dirname "$0")"
go test -run '^$' -bench Candidates -benchtime 1s "$@" ./candidates
cd ../receiver/segmentreceiver
go test -run '^$' -bench DecodeRecorded -benchtime 1s "$@" .

#!/bin/sh
# Copyright The otelcol-segment Authors
# SPDX-License-Identifier: Apache-2.0

# Builds the collector with net/http/pprof as _build/otelcol-segment-profile, which serves profiles at $BENCH_PPROF:
#   sh profile.sh && BENCH_PPROF=127.0.0.1:6060 go run . -binary ../_build/otelcol-segment-profile -only cpu &
#   go tool pprof -http : 'http://127.0.0.1:6060/debug/pprof/profile?seconds=20'
set -eu
cd "$(dirname "$0")"
overlay=$(mktemp)
trap 'rm -f "$overlay"' EXIT
printf '{"Replace":{"%s/_build/pprof.go":"%s/profile/pprof.go"}}' "$(cd .. && pwd)" "$(pwd)" >"$overlay"
cd ../_build
CGO_ENABLED=0 go build -mod=mod -overlay "$overlay" -tags benchprofile -o otelcol-segment-profile .

#!/bin/sh
# Copyright The otelcol-segment Authors
# SPDX-License-Identifier: Apache-2.0

# Runs the whole-process benchmarks on what `make build` left in _build. Arguments go to the program, for example -quick.
set -eu
cd "$(dirname "$0")"
go build -o ../_build/bench .
exec ../_build/bench "$@"

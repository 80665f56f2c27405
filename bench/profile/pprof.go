// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

//go:build benchprofile

// This file is laid over the collector's main package by profile.sh. The distribution itself has no pprof.
package main

import (
	"log"
	"net/http"
	_ "net/http/pprof" //nolint:gosec // on loopback, and only in a build for profiles
	"os"
)

func init() {
	addr := os.Getenv("BENCH_PPROF")
	if addr == "" {
		return
	}
	go func() { log.Println(http.ListenAndServe(addr, nil)) }() //nolint:gosec // as above
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Command librato-local is a Librato on this machine: it takes what the exporter posts, as strictly as the service,
// keeps it in memory, and draws the graphs on its page.
//
// Any user and token are taken. Tests script failures and read exact totals below /_local/; package libratoserver
// lists the paths.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run serves until ctx is done and returns the exit code: 0 after a clean stop, 1 if it could not listen or serve,
// 2 for wrong flags.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("librato-local", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:8089", "`address` to listen on")
	remote := flags.Bool("allow-remote", false, "listen on an address that other machines can reach; there is no protection")
	sink := flags.Bool("sink", false, "count what is posted, and neither check nor keep it (for benchmarks)")
	quiet := flags.Bool("quiet", false, "do not print a line for each request")
	retention := flags.Duration("retention", 24*time.Hour, "how long measurements are kept; 0: for ever")
	maxFuture := flags.Duration("max-future", 0, "how far ahead measurements may be; 0: no limit")
	recordOnly := flags.Bool("record-only", false, "treat every token as one that may post measurements and nothing else")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "librato-local: unexpected argument %q\n", flags.Arg(0))
		return 2
	}
	if !*remote && !isLoopback(*addr) {
		fmt.Fprintf(stderr, "librato-local: %s can be reached from other machines; use 127.0.0.1, or -allow-remote if that is meant\n", *addr)
		return 2
	}

	opts := []libratoserver.Option{libratoserver.WithRetention(*retention), libratoserver.WithMaxFuture(*maxFuture)}
	if *sink {
		opts = append(opts, libratoserver.WithSink())
	}
	if *recordOnly {
		opts = append(opts, libratoserver.WithRecordOnly())
	}
	if !*quiet {
		opts = append(opts, libratoserver.WithObserver(func(r libratoserver.Request) {
			fmt.Fprintf(stdout, "%s %s %s: %s, %d measurements, %d bytes\n",
				r.Time.Format(time.TimeOnly), r.Method, r.Path, statusText(r.Status), r.Measurements, r.Size)
		}))
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *addr)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			fmt.Fprintf(stderr, "librato-local: %s is in use by another program; stop it or choose another address with -addr\n", *addr)
		} else {
			fmt.Fprintf(stderr, "librato-local: %v\n", err)
		}
		return 1
	}
	server := &http.Server{Handler: libratoserver.New(opts...), ReadHeaderTimeout: 10 * time.Second}
	fmt.Fprintf(stdout, "librato-local: the graphs are at http://%s/\n", listener.Addr())

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err = <-served:
		fmt.Fprintf(stderr, "librato-local: %v\n", err)
		return 1
	case <-ctx.Done():
	}
	// Posts that are scripted to be slow must not hold up the stop.
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err = server.Shutdown(stopping); err != nil {
		_ = server.Close()
	}
	if err = <-served; !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintf(stderr, "librato-local: %v\n", err)
		return 1
	}
	return 0
}

func statusText(status int) string {
	if status == 0 {
		return "no answer"
	}
	return fmt.Sprintf("%d %s", status, http.StatusText(status))
}

// isLoopback reports whether only this machine can reach addr.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true // listening fails and says why
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

// Command run is `make run`: it starts librato-local and the collector with config.yaml, says what to do next, and
// stops both when it is told to stop. With LIBRATO_EMAIL and LIBRATO_TOKEN set, the collector talks to Librato itself
// and librato-local stays off. With -demo, which is `make demo`, four web servers made of Segment's Node SDK send to it. It
// expects both programs in _build and runs from the root of the repository.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The addresses of config.yaml, and of the local Librato that it falls back to.
const (
	receiverAddr = "127.0.0.1:8080"
	healthAddr   = "127.0.0.1:13133"
	metricsAddr  = "127.0.0.1:8888"
	libratoAddr  = "127.0.0.1:8089"

	libratoURL = "https://metrics-api.librato.com"

	startTimeout = 30 * time.Second
	stopTimeout  = 30 * time.Second // the collector posts what is left before it goes
)

func main() {
	demo := flag.Bool("demo", false, "send a stream of events to the local Librato")
	flag.Parse()
	if err := run(*demo); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func run(demo bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()

	email, token := os.Getenv("LIBRATO_EMAIL"), os.Getenv("LIBRATO_TOKEN")
	if (email == "") != (token == "") {
		return errors.New("set both LIBRATO_EMAIL and LIBRATO_TOKEN to send to Librato, or neither to send to a local one")
	}
	local := email == ""
	if demo && !local {
		return errors.New("the demo's events are made up: unset LIBRATO_EMAIL and LIBRATO_TOKEN to send them to a local Librato")
	}

	ports := []struct{ addr, purpose string }{
		{receiverAddr, "the Segment receiver"},
		{healthAddr, "the health check"},
		{metricsAddr, "the collector's own metrics"},
	}
	if local {
		ports = append(ports, struct{ addr, purpose string }{libratoAddr, "the local Librato"})
	}
	for _, p := range ports {
		if err := free(ctx, p.addr); err != nil {
			return fmt.Errorf("%s, which is for %s, is in use: stop the program that listens there, then try again", p.addr, p.purpose)
		}
	}

	// What was not delivered when a run ended is kept for the next one, so each destination has a state of its own: events
	// made up for the local Librato must not reach an account.
	endpoint, state := "http://"+libratoAddr, ".run/local"
	if !local {
		endpoint, state = libratoURL, ".run/librato"
		if e := os.Getenv("LIBRATO_ENDPOINT"); e != "" {
			endpoint = e
		}
	}

	var children []*child
	// What was started last stops first: what it sends on its way out still arrives.
	defer func() {
		hurry, done := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer done()
		for _, c := range slices.Backward(children) {
			c.stop(hurry)
		}
	}()
	if local {
		librato, err := start("_build/librato-local", []string{"-addr", libratoAddr}, nil)
		if err != nil {
			return err
		}
		children = append(children, librato)
		if err := ready(ctx, librato, endpoint+"/"); err != nil {
			return err
		}
	}
	collector, err := start("_build/otelcol-segment", []string{"--config", "config.yaml"},
		[]string{"LIBRATO_ENDPOINT=" + endpoint, "STATE_DIRECTORY=" + state})
	if err != nil {
		return err
	}
	children = append(children, collector)
	if err := ready(ctx, collector, "http://"+healthAddr+"/"); err != nil {
		return err
	}
	if demo && ctx.Err() == nil {
		servers, err := start("node", []string{"e2e/sdks/demo.mjs", "http://" + receiverAddr}, nil)
		if err != nil {
			return err
		}
		children = append(children, servers)
	}
	if ctx.Err() == nil {
		fmt.Print(next(local, endpoint))
	}

	var libratoDone <-chan struct{} // stays nil, and so silent, without a local Librato
	if local {
		libratoDone = children[0].done
	}
	select {
	case <-ctx.Done():
		fmt.Println("\nStopping. Ctrl-C again ends it at once.")
		return nil
	case <-collector.done:
		return fmt.Errorf("the collector stopped: %w", collector.err)
	case <-libratoDone:
		return fmt.Errorf("the local Librato stopped: %w", children[0].err)
	}
}

// next tells a new user what to do.
func next(local bool, endpoint string) string {
	where := "your account at " + endpoint
	if local {
		where = endpoint + "/"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `
The collector is running. It sends to %s

  Send an event     curl -u any-key: http://%s/v1/track -d '{"event":"Signed Up","properties":{"value":2}}'
  Use an SDK        set its host (in some: endpoint) to http://%s, with any write key
  See the result    %s, 10 seconds later at most

Ctrl-C stops it.
`, endpoint, receiverAddr, receiverAddr, where)
	return b.String()
}

// free reports whether a program could listen on addr now.
func free(ctx context.Context, addr string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// ready waits until url answers 200, the child ends, or ctx does; the last is not an error.
func ready(ctx context.Context, c *child, url string) error {
	waiting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(waiting, http.MethodGet, url, http.NoBody) //nolint:gosec // one of the addresses above
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil { //nolint:gosec // likewise
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-c.done:
			return fmt.Errorf("%s did not start: %w", c.name, c.err)
		case <-ctx.Done():
			return nil
		case <-waiting.Done():
			return fmt.Errorf("%s does not answer at %s", c.name, url)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// child is a program that was started; err holds how it ended once done is closed.
type child struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// start runs the program in a process group of its own: a Ctrl-C reaches this program alone, which then stops its
// children in their order.
func start(path string, args, env []string) (*child, error) {
	cmd := exec.Command(path, args...) //nolint:gosec // both programs are this repository's own, see run
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{name: filepath.Base(path), cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		if c.err = cmd.Wait(); c.err == nil {
			c.err = errors.New("it ended by itself")
		}
	}()
	return c, nil
}

// stop asks the child to end, and ends it if it does not in time or hurry is done.
func (c *child) stop(hurry context.Context) {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended already
	select {
	case <-c.done:
	case <-hurry.Done():
		_ = c.cmd.Process.Kill()
		<-c.done
	case <-time.After(stopTimeout):
		fmt.Fprintf(os.Stderr, "run: %s did not stop within %s and was killed\n", c.name, stopTimeout)
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a server under measurement, or the sink.
type process struct {
	name string
	addr string
	cmd  *exec.Cmd
	logs bytes.Buffer
	done chan struct{}
}

// started are all processes, so that none outlives a bench that fails.
var started []*process

// start runs a program and waits until addr takes connections.
func start(name, addr string, args []string) (*process, error) {
	p := &process{name: name, addr: addr, cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})} //nolint:gosec // our own programs
	p.cmd.Stdout, p.cmd.Stderr = &p.logs, &p.logs
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	started = append(started, p)
	go func() {
		_ = p.cmd.Wait() // whoever waits for done asks no more
		close(p.done)
	}()
	for range 600 {
		select {
		case <-p.done:
			return nil, fmt.Errorf("%s ended at its start:\n%s", name, p.logs.String())
		case <-time.After(50 * time.Millisecond):
		}
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			return p, c.Close()
		}
	}
	p.stop()
	return nil, fmt.Errorf("%s does not listen:\n%s", name, p.logs.String())
}

// stop ends the process as an operator does.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// cpu returns the user and system time that the process has used.
func (p *process) cpu() time.Duration {
	// The kernel's number for another process's CPU clock, see clock_getcpuclockid(3): to the nanosecond, where
	// /proc/PID/stat counts ticks of ten milliseconds.
	clock := int32(^p.cmd.Process.Pid<<3 | 2) //nolint:gosec // process ids are small
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		panic(fmt.Sprintf("%s: %v\n%s", p.name, err, p.logs.String())) // it has ended
	}
	return time.Duration(t.Nano())
}

// memory returns a field of /proc/PID/status in bytes: VmRSS is what is resident now, VmHWM the most there ever was.
func (p *process) memory(field string) int64 {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// freeAddr returns a loopback address that nothing listens on.
func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // no loopback
	}
	defer l.Close()
	return l.Addr().String()
}

// startHandler starts this very program as a handler to compare with, see serveHandler.
func startHandler(kind handler) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addr := freeAddr()
	return start(string(kind), addr, []string{self, "-serve", addr, "-handler", string(kind)})
}

// startSink starts the Librato that reads, counts and forgets.
func startSink() (*process, error) {
	addr := freeAddr()
	return start("librato-local", addr, []string{"../_build/librato-local", "-sink", "-quiet", "-addr", addr})
}

// settings are what the runs of the collector differ in.
type settings struct {
	binary     string        // "": the one under test
	storage    bool          // file_storage and forwarded ids, as `make run` has it
	noIDs      bool          // deduplication off
	maxStreams int           // 0: the default
	maxEntries int           // 0: the default
	flush      time.Duration // 0: one second, so that a run drains soon
}

// fields is a mapping of a config.
type fields = map[string]any

// config returns the collector's config: all at its default that s does not name, its own telemetry included.
func (s settings) config(addr string, telemetryPort int, sink, dir string) fields {
	deduplication := fields{"enabled": !s.noIDs, "forward_ids": s.storage}
	if s.maxEntries > 0 {
		deduplication["max_entries"] = s.maxEntries
	}
	librato := fields{"endpoint": "http://" + sink, "email": "bench", "token": "bench", "flush_interval": cmp.Or(s.flush, time.Second).String()}
	if s.maxStreams > 0 {
		librato["max_streams"] = s.maxStreams
	}
	service := fields{
		"pipelines": fields{"metrics": fields{"receivers": []string{"segment"}, "exporters": []string{"librato"}}},
		// The default of the collector's own metrics, but for the port.
		"telemetry": fields{
			"logs": fields{"level": "warn"},
			"metrics": fields{"readers": []fields{{
				"pull": fields{"exporter": fields{"prometheus": fields{"host": "127.0.0.1", "port": telemetryPort}}},
			}}},
		},
	}
	config := fields{
		"receivers": fields{"segment": fields{"endpoint": addr, "deduplication": deduplication}},
		"exporters": fields{"librato": librato},
		"service":   service,
	}
	if s.storage {
		librato["storage"] = "file_storage"
		config["extensions"] = fields{"file_storage": fields{"directory": dir}}
		service["extensions"] = []string{"file_storage"}
	}
	return config
}

// startCollector starts the collector with s.
func (b *bench) startCollector(sink string, s settings) (*process, error) {
	dir, err := os.MkdirTemp("", "otelcol-segment-bench-")
	if err != nil {
		return nil, err
	}
	addr := freeAddr()
	_, text, _ := net.SplitHostPort(freeAddr())
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(s.config(addr, port, sink, dir)) // JSON is YAML
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		return nil, err
	}
	binary := cmp.Or(s.binary, b.binary)
	p, err := start(filepath.Base(binary), addr, append([]string{binary, "--config", path}, b.args...))
	if err != nil {
		return nil, err
	}
	go func() {
		<-p.done
		_ = os.RemoveAll(dir) // a temporary directory
	}()
	return p, nil
}

// stats is what the sink counted.
type stats struct {
	Posts        int   `json:"posts"`
	Measurements int64 `json:"measurements"`
	LargestPost  int   `json:"largest_post"`
	Statuses     map[string]int
}

func readStats(sink string) (stats, error) {
	var s stats
	resp, err := http.Get("http://" + sink + "/_local/stats") //nolint:noctx // this machine's, and short
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(resp.Body).Decode(&s)
	return s, err
}

// drain waits until nothing more arrives at the sink: for longer than two ticks of a stream.
func drain(sink string) error {
	last, quiet := int64(-1), time.Now()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		s, err := readStats(sink)
		if err != nil {
			return err
		}
		if s.Measurements != last {
			last, quiet = s.Measurements, time.Now()
		} else if time.Since(quiet) > 4500*time.Millisecond {
			return nil
		}
	}
	return errors.New("the collector still posts after two minutes")
}

// machine describes what this runs on, in one line.
func machine() string {
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	model := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(cpu)
	name := "unknown CPU"
	if model != nil {
		name = string(model[1])
	}
	var u unix.Utsname
	_ = unix.Uname(&u) // leaves it empty
	load, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(load))
	if len(fields) < 3 {
		fields = make([]string, 3)
	}
	return fmt.Sprintf("%s, %d cores, Linux %s, load average before %s", name, strings.Count(string(cpu), "processor\t"),
		unix.ByteSliceToString(u.Release[:]), fields[0])
}

// countTotals returns how many events the measurements of a librato-local that is no sink stand for.
func countTotals(addr string) (int, error) {
	resp, err := http.Get("http://" + addr + "/_local/totals") //nolint:noctx // this machine's, and short
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var streams []struct {
		Stored struct {
			Count int `json:"count"`
		} `json:"stored"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&streams); err != nil {
		return 0, err
	}
	n := 0
	for _, s := range streams {
		n += s.Stored.Count
	}
	return n, nil
}

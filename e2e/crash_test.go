// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

// This file kills the collector under load, at random moments and at the dangerous instants, while clients repeat each
// message until it is answered with 200, and compares what stands in Librato with the truth: per stream and period.

var (
	crashDuration = flag.Duration("crash.duration", 0, "how long each crash test begins again; 0: it runs once, for some 15 seconds")
	crashSeed     = flag.Uint64("crash.seed", 0, "seed of the crash tests; 0: a new one, which is printed")
)

// crashPeriod is the longest period that there is, and that of most tests: a process that opens an increment uses up a second of
// each period, and here they die faster than the seconds pass. What is compared are the totals of such periods.
const crashPeriod = 600

const crashConfig = `
receivers:
  segment:
    endpoint: ${env:SEGMENT_ADDR}
    deduplication: {forward_ids: "${env:FORWARD_IDS}"}
exporters:
  librato:
    endpoint: ${env:LIBRATO_ENDPOINT}
    email: e2e@example.com
    token: e2e
    headers: {X-Generation: "${env:GENERATION}"}
    timeout: 1s
    flush_interval: ${env:FLUSH_INTERVAL}
    max_age: ${env:MAX_AGE}
    instance: {index: "${env:INSTANCE}", count: "${env:INSTANCES}"}
    gauges: {period: "${env:PERIOD}", service_side_aggregation: "${env:SSA}"}
    retry_on_failure: {initial_interval: 100ms, max_interval: 1s}
    storage: ${env:STORAGE}
extensions:
  file_storage: {directory: "${env:STATE_DIRECTORY}", create_directory: true}
service:
  extensions: [file_storage]
  telemetry:
    logs: {level: warn, disable_stacktrace: true}
    metrics:
      readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: "${env:METRICS_PORT}"}}}}]
  pipelines:
    metrics: {receivers: [segment], exporters: [librato]}
`

// Added to crashConfig.
const (
	withCrashStorage = `
extensions:
  crash_storage: {storage: file_storage, on: "${env:CRASH_ON}", at: "${env:CRASH_AT}", after: "${env:CRASH_AFTER}", late: "${env:CRASH_LATE}", fail: "${env:CRASH_FAIL}"}
service:
  extensions: [file_storage, crash_storage]
`
	withAnotherExporter = `
exporters:
  otlp_http/other:
    endpoint: ${env:OTHER_ENDPOINT}
    compression: none
    sending_queue: {enabled: false}
    retry_on_failure: {enabled: false}
service:
  pipelines:
    metrics: {exporters: [librato, otlp_http/other]}
`
)

// faults are what the service does while collectors die.
var faults = []libratoserver.Failure{
	{Times: -1, Probability: 0.10, Apply: libratoserver.ApplyNow},                                                                                // the answer is lost
	{Times: -1, Probability: 0.10, Apply: libratoserver.ApplyLater, After: 2},                                                                    // and it is applied after later ones
	{Times: -1, Probability: 0.05, Apply: libratoserver.ApplyNow, Status: http.StatusOK, Delay: libratoserver.Duration(1500 * time.Millisecond)}, // longer than the time-out
	{Times: -1, Probability: 0.05, Status: http.StatusServiceUnavailable},
	{Times: -1, Probability: 0.05, Status: http.StatusTooManyRequests, RetryAfter: "1"},
}

// end is how one process ends.
type end struct {
	name    string
	signal  syscall.Signal // sent after a while; 0: it dies by itself, or by a post
	after   time.Duration  // from its start, whether it takes events by then or not
	answers int64          // instead of after: when it has answered so many requests with 200
	grace   time.Duration  // it is killed if it takes longer to end; 0: it must not take long
	env     []string       // settings, and when crash_storage kills
	post    *libratoserver.Failure
}

// crashTest is a service, clients, and one collector after another on the same state.
type crashTest struct {
	t       *testing.T
	seed    uint64
	rnd     *rand.Rand
	ssa     bool
	names   int  // of events
	sources int  // each
	onTime  bool // no event is late
	service *libratoService

	binary  string
	args    []string
	env     map[string]string
	cmd     *exec.Cmd
	done    chan struct{}
	logs    *lockedBuffer
	process atomic.Pointer[os.Process]
	started int
	killed  map[int]bool // generations that did not end by SIGTERM

	clients     sync.WaitGroup
	stop        chan struct{}
	answered    atomic.Int64 // attempts of clients that got a 200
	unreachable atomic.Int64 // and those that got none

	mu     sync.Mutex
	truth  map[place]total
	copies map[instant][]measured // what reached the service, in order
	posts  int
}

// place is where events add up: a stream and the start of a period.
type place struct {
	stream
	start int64
}

// instant is where one increment stands.
type instant struct {
	stream
	second int64
}

// measured is one copy of an increment that the service took.
type measured struct {
	value      total
	answered   bool
	generation int
}

// newCrashTest prepares a collector with config, and the overlays that are added to it.
func newCrashTest(t *testing.T, s crashSettings, overlays ...string) *crashTest {
	t.Helper()
	seed := cmp.Or(*crashSeed, rand.Uint64())
	c := &crashTest{
		t: t, ssa: s.ssa, seed: seed, names: 4, sources: 5,
		rnd:    rand.New(rand.NewPCG(seed, 0)),
		binary: binary,
		logs:   &lockedBuffer{},
		killed: map[int]bool{},
		stop:   make(chan struct{}),
		truth:  map[place]total{},
		copies: map[instant][]measured{},
	}
	// Its listener stays: one that was closed may linger in a process that is being started at this moment.
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c.service = &libratoService{
		Server: libratoserver.New(libratoserver.WithSeed(seed), libratoserver.WithObserver(c.observe)),
		addr:   l.Addr().String(),
	}
	c.service.http = &http.Server{Handler: c.service.Server, ReadHeaderTimeout: time.Minute}
	go func(server *http.Server) { _ = server.Serve(l) }(c.service.http) // ends with ErrServerClosed
	t.Cleanup(c.service.down)
	dir := t.TempDir()
	for i, text := range append([]string{crashConfig}, overlays...) {
		path := filepath.Join(dir, fmt.Sprintf("config-%d.yaml", i))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		c.args = append(c.args, "--config", path)
	}
	metrics := freeAddr(t)
	c.env = map[string]string{
		"SEGMENT_ADDR": freeAddr(t), "METRICS_PORT": metrics[strings.LastIndexByte(metrics, ':')+1:],
		"LIBRATO_ENDPOINT": "http://" + c.service.addr, "STATE_DIRECTORY": filepath.Join(dir, "state"),
		"FORWARD_IDS": "true", "SSA": strconv.FormatBool(s.ssa), "STORAGE": "file_storage",
		"PERIOD": strconv.Itoa(s.period) + "s", "FLUSH_INTERVAL": "1s", "MAX_AGE": "110m", "INSTANCE": "0", "INSTANCES": "1",
		"CRASH_ON": "any", "CRASH_AT": "0", "CRASH_AFTER": "false", "CRASH_LATE": "0s", "CRASH_FAIL": "0",
	}
	t.Cleanup(func() {
		if c.cmd != nil {
			_ = c.cmd.Process.Kill()
			<-c.done
		}
		if t.Failed() {
			t.Logf("seed %d; the end of the collectors' log:\n%s", seed, tail(c.logs.String(), 20_000))
		}
	})
	return c
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

var buildCrashCollector = sync.OnceValues(func() (string, error) {
	path := filepath.Join("..", "_build", "crashcollector")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./crashcollector")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return path, err
})

// newCrashStorageTest prepares a collector whose storage kills it.
func newCrashStorageTest(t *testing.T, s crashSettings) *crashTest {
	t.Helper()
	path, err := buildCrashCollector()
	require.NoError(t, err)
	c := newCrashTest(t, s, withCrashStorage)
	c.binary, c.env["STORAGE"] = path, "crash_storage"
	return c
}

// start starts the next collector. It may be dead before it takes events.
func (c *crashTest) start(env ...string) {
	c.t.Helper()
	c.started++
	c.cmd = exec.Command(c.binary, c.args...)
	c.cmd.Env = append(os.Environ(), "GENERATION="+strconv.Itoa(c.started))
	for name, value := range c.env {
		c.cmd.Env = append(c.cmd.Env, name+"="+value)
	}
	c.cmd.Env = append(c.cmd.Env, env...) // the last one counts
	c.cmd.Stdout, c.cmd.Stderr = c.logs, c.logs
	require.NoError(c.t, c.cmd.Start())
	c.process.Store(c.cmd.Process)
	c.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(c.cmd, c.done)
}

// ended waits until the collector is dead.
func (c *crashTest) ended(within time.Duration) bool {
	select {
	case <-c.done:
		return true
	case <-time.After(within):
		return false
	}
}

// run lets one collector after another come to its end, under load.
func (c *crashTest) run(ends []end) {
	c.t.Helper()
	for _, e := range ends {
		if e.post != nil {
			c.service.ClearFailures()
			c.service.Fail(*e.post)
			c.service.Fail(faults[:2]...) // the next ones need a post to be answered
		}
		c.start(e.env...)
		c.killed[c.started] = e.signal != syscall.SIGTERM
		if e.answers > 0 {
			from := c.answered.Load()
			require.Eventually(c.t, func() bool { return c.answered.Load()-from >= e.answers },
				startTimeout, time.Millisecond, "%s: too few answers", e.name)
		}
		if e.signal == 0 {
			if !assert.True(c.t, c.ended(30*time.Second), "%s: was not reached", e.name) {
				_ = c.cmd.Process.Kill()
				<-c.done
			}
		} else if !c.ended(e.after) {
			_ = c.cmd.Process.Signal(e.signal)
			if e.grace > 0 && !c.ended(e.grace) {
				c.killed[c.started] = true
				_ = c.cmd.Process.Kill()
			}
			require.True(c.t, c.ended(30*time.Second), "%s: does not end", e.name)
		}
		status := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if e.signal == syscall.SIGTERM && status.Signaled() {
			continue // it was not up yet, or had no time
		}
		require.Equal(c.t, e.signal != syscall.SIGTERM, status.Signaled(), "%s: ended otherwise: %v", e.name, c.cmd.ProcessState)
	}
}

// kill is for hooks of the service.
func (c *crashTest) kill() {
	if p := c.process.Load(); p != nil {
		_ = p.Kill()
	}
}

// settings draws those that may change between two starts. (So may the period, see TestPeriodChanges.)
func (c *crashTest) settings() []string {
	pick := func(of ...string) string { return of[c.rnd.IntN(len(of))] }
	instances := pick("1", "2")
	instance := "0"
	if instances == "2" {
		instance = pick("0", "1")
	}
	return []string{
		"FLUSH_INTERVAL=" + pick("1s", "1s", "1s", "2s"),
		"MAX_AGE=" + pick("100m", "110m", "115m"),
		"INSTANCE=" + instance, "INSTANCES=" + instances,
	}
}

// finish ends the faults, lets the clients come to an end, and waits until a last collector has delivered everything.
func (c *crashTest) finish() {
	c.t.Helper()
	c.service.ClearFailures()
	c.service.ApplyPending()
	c.start()
	close(c.stop)
	c.clients.Wait()
	// What is open would wait for its tick, for minutes if it is late. What a start finds on disk is due.
	require.NoError(c.t, c.cmd.Process.Signal(syscall.SIGTERM))
	require.True(c.t, c.ended(30*time.Second), "the collector does not stop")
	c.start()
	require.Eventually(c.t, func() bool {
		n, ok := c.metric("exporter_librato_increments")
		return ok && n == 0
	}, 2*time.Minute, 200*time.Millisecond, "increments are not delivered")
	require.NoError(c.t, c.cmd.Process.Signal(syscall.SIGTERM))
	require.True(c.t, c.ended(30*time.Second), "the collector does not stop")
}

// metric reads one of the collector's own metrics.
func (c *crashTest) metric(name string) (float64, bool) {
	return scrape(c.t.Context(), "127.0.0.1:"+c.env["METRICS_PORT"], name)
}

// scrape returns the sum of a metric's values in Prometheus' text format.
func scrape(ctx context.Context, addr, name string) (sum float64, ok bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", http.NoBody)
	if err != nil {
		return 0, false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, false
	}
	for _, line := range regexp.MustCompile(`(?m)^otelcol_`+name+`[a-zA-Z_]*(?:\{.*\})? (\S+)$`).FindAllSubmatch(text, -1) {
		value, err := strconv.ParseFloat(string(line[1]), 64)
		if err != nil {
			return 0, false
		}
		sum, ok = sum+value, true
	}
	return sum, ok
}

// observe notes what the service took.
func (c *crashTest) observe(req libratoserver.Request) {
	// What is answered with an error was not taken; what is not answered will be, at the latest by ApplyPending.
	if req.Method != http.MethodPost || req.Applied == 0 && req.Status != 0 {
		return
	}
	var body struct {
		Gauges []struct {
			Name        string   `json:"name"`
			Source      string   `json:"source"`
			MeasureTime int64    `json:"measure_time"`
			Value       *float64 `json:"value"`
			Count       uint64   `json:"count"`
			Sum         float64  `json:"sum"`
		} `json:"gauges"`
	}
	generation, err := strconv.Atoi(req.Header.Get("X-Generation"))
	if err = errors.Join(err, json.Unmarshal(req.Body, &body)); err != nil {
		c.t.Error(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.posts++
	for _, g := range body.Gauges {
		value := total{g.Count, g.Sum}
		if g.Value != nil {
			value = total{1, *g.Value}
		}
		at := instant{stream{g.Name, g.Source}, g.MeasureTime}
		c.copies[at] = append(c.copies[at], measured{value, req.Status == http.StatusOK, generation})
	}
}

// message is one event of a client.
type message struct{ id, body string }

// load starts eight clients that send until finish. Each message is repeated until it is answered with 200: alone or in
// batches, with a patience that is sometimes too short, and sometimes once more.
func (c *crashTest) load() {
	for n := range 8 {
		c.clients.Go(func() {
			rnd := rand.New(rand.NewPCG(c.seed, uint64(n)+1))
			for sent := 0; ; {
				select {
				case <-c.stop:
					return
				default:
				}
				size := 1
				if rnd.IntN(3) == 0 {
					size = 2 + rnd.IntN(9)
				}
				var open []message
				for range size {
					sent++
					open = append(open, c.event(rnd, fmt.Sprintf("client-%d-%d", n, sent)))
				}
				c.deliver(rnd, open)
				time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond) // a load that leaves the machine to others
			}
		})
	}
}

// event makes a message and adds it to the truth, since it will be sent until it is taken.
func (c *crashTest) event(rnd *rand.Rand, id string) message {
	at := time.Now()
	dice := rnd.IntN(20)
	if c.sources == 1 { // seldom, so that nothing of a period is left on disk at times
		dice = rnd.IntN(1000)
	}
	switch {
	case c.onTime:
	case dice == 0: // late by up to 80 minutes
		at = at.Add(-time.Duration(rnd.Int64N(int64(80 * time.Minute))))
	case dice <= 2: // late by up to 20 minutes
		at = at.Add(-time.Duration(rnd.Int64N(int64(20 * time.Minute))))
	}
	s := stream{fmt.Sprintf("Event-%d", rnd.IntN(c.names)), fmt.Sprintf("host-%d", rnd.IntN(c.sources))}
	value := rnd.IntN(10)
	c.mu.Lock()
	defer c.mu.Unlock()
	p := place{s, at.Unix() - at.Unix()%crashPeriod}
	t := c.truth[p]
	c.truth[p] = total{t.count + 1, t.sum + float64(value)}
	return message{id, fmt.Sprintf(`{"type":"track","event":%q,"messageId":%q,"timestamp":%q,"properties":{"value":%d},"context":{"Librato":{"source":%q}}}`,
		strings.ReplaceAll(s.name, "-", " "), id, at.UTC().Format("2006-01-02T15:04:05.000Z07:00"), value, s.source)}
}

func (c *crashTest) deliver(rnd *rand.Rand, open []message) {
	for len(open) > 0 {
		sent := open
		if rnd.IntN(4) == 0 { // not the batch that it was before
			i := rnd.IntN(len(open))
			sent = open[i : i+1]
		}
		if !c.send(rnd, sent) {
			c.unreachable.Add(1)
			time.Sleep(time.Duration(5+rnd.IntN(40)) * time.Millisecond)
			continue
		}
		if rnd.IntN(20) == 0 { // the answer came too late for the client
			c.send(rnd, sent)
		}
		taken := sent[0].id
		if len(sent) == len(open) {
			return
		}
		open = slices.DeleteFunc(slices.Clone(open), func(m message) bool { return m.id == taken })
	}
}

// send posts the messages once, and reports whether they were taken.
func (c *crashTest) send(rnd *rand.Rand, ms []message) bool {
	path, body := "/v1/track", ms[0].body
	if len(ms) > 1 || rnd.IntN(4) == 0 {
		bodies := make([]string, len(ms))
		for i, m := range ms {
			bodies[i] = m.body
		}
		path, body = "/v1/batch", `{"batch":[`+strings.Join(bodies, ",")+`]}`
	}
	patience := 3 * time.Second
	if rnd.IntN(10) == 0 {
		patience = time.Duration(1+rnd.IntN(10)) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	status, _, err := post(ctx, "http://"+c.env["SEGMENT_ADDR"]+path, "key", body)
	taken := err == nil && status == http.StatusOK
	if taken {
		c.answered.Add(1)
	}
	return taken
}

// outcome is how what stands in Librato differs from the truth, in events.
type outcome struct {
	lost, duplicated uint64
	exact, places    int    // places that equal the truth in count and sum
	again            uint64 // with service-side aggregation: counted once more for each copy that was taken
	repeats          int    // copies of increments that were taken before
	wrong            []string
}

// compare holds what the service took against the truth: each increment once, whatever number of copies reached it.
func (c *crashTest) compare() outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	var o outcome
	once := map[place]total{}
	all := map[place]total{}
	for at, copies := range c.copies {
		p := place{at.stream, at.second - at.second%crashPeriod}
		for i, m := range copies {
			if i > 0 {
				o.repeats++
				o.again += m.value.count
				if copies[0].value != m.value {
					o.wrong = append(o.wrong, fmt.Sprintf("a repeat has another value: %v %v", at, copies))
				}
				// It goes again only if it was not answered, or the process was killed before the answer was noted on disk.
				before := copies[i-1]
				if before.answered && (before.generation == m.generation || !c.killed[before.generation]) {
					o.wrong = append(o.wrong, fmt.Sprintf("repeated without a need: %v %v", at, copies))
				}
			} else {
				once[p] = total{once[p].count + m.value.count, once[p].sum + m.value.sum}
			}
			all[p] = total{all[p].count + m.value.count, all[p].sum + m.value.sum}
		}
	}
	for p, want := range c.truth {
		got := once[p]
		o.places++
		switch {
		case got == want:
			o.exact++
		case got.count < want.count:
			o.lost += want.count - got.count
		default:
			o.duplicated += got.count - want.count
		}
	}
	for p, got := range once {
		if _, known := c.truth[p]; !known {
			o.duplicated += got.count
			o.places++
		}
	}
	// What stands there is what it took: replaced second by second, or added up.
	stands := map[place]total{}
	for _, line := range c.service.Totals() {
		for _, point := range line.Periods {
			p := place{stream{line.Name, line.Source}, point.Time - point.Time%crashPeriod} // the gauge's own period may be shorter
			stands[p] = total{stands[p].count + point.Count, stands[p].sum + point.Sum}
		}
	}
	should := once
	if c.ssa {
		should = all
	}
	if !maps.Equal(should, stands) {
		o.wrong = append(o.wrong, fmt.Sprintf("the service holds something else than what it took: %v, %v", should, stands))
	}
	if n := c.service.Stats().Replaced; n > 0 && !c.ssa {
		o.wrong = append(o.wrong, fmt.Sprintf("%d measurements took another's place", n))
	}
	events := uint64(0)
	for _, t := range c.truth {
		events += t.count
	}
	c.t.Logf("seed %d: %d events, %d collectors, %d client attempts without a 200, %d posts taken, %d increments, %d copies of them (%d events)",
		c.seed, events, c.started, c.unreachable.Load(), c.posts, len(c.copies), o.repeats, o.again)
	c.t.Logf("lost=%d duplicated=%d exact=%d/%d, counted again by service-side aggregation: %s", o.lost, o.duplicated, o.exact, o.places, c.counted(o))
	return o
}

func (c *crashTest) counted(o outcome) string {
	if c.ssa {
		return fmt.Sprintf("%d, all of them taken without an answer or at a crash", o.again)
	}
	return "off"
}

// requireExact ends the test: each event counts once.
func (c *crashTest) requireExact() {
	c.t.Helper()
	o := c.compare()
	assert.Zero(c.t, o.lost, "lost")
	assert.Zero(c.t, o.duplicated, "duplicated")
	assert.Equal(c.t, o.places, o.exact)
	assert.Empty(c.t, o.wrong)
	// What the exporter refuses was answered with 200: lost, if for a reason.
	assert.Empty(c.t, regexp.MustCompile(`.*(refused a |too old to be sent|set aside).*`).FindString(c.logs.String()))
}

// crashSettings are what crash tests run with.
type crashSettings struct {
	ssa    bool
	period int // seconds; the default's runs have fewer deaths, see crashPeriod
}

func (s crashSettings) defaultPeriod() bool { return s.period == 60 }

// forSettings runs a crash test without and with service-side aggregation, and with the default period, each time on an empty state.
func forSettings(t *testing.T, test func(t *testing.T, s crashSettings, round int)) {
	t.Helper()
	for _, s := range []crashSettings{{false, crashPeriod}, {true, crashPeriod}, {false, 60}} {
		t.Run(fmt.Sprintf("service_side_aggregation=%t,period=%ds", s.ssa, s.period), func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			for round := 0; round == 0 || time.Since(began) < *crashDuration && !t.Failed(); round++ {
				t.Run(fmt.Sprintf("round=%d", round), func(t *testing.T) { test(t, s, round) })
			}
		})
	}
}

// TestKilledAtRandomMoments kills and stops the collector at random moments, with other settings at each start, while the
// service loses answers and takes posts late.
func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	forSettings(t, func(t *testing.T, s crashSettings, _ int) {
		c := newCrashTest(t, s)
		if c.rnd.IntN(2) == 0 { // where nothing else of a period is left on disk, only the floor keeps its seconds
			c.names, c.sources = 1, 1
		}
		c.service.Fail(faults...)
		c.load()
		began := time.Now()
		c.run([]end{{name: "first", signal: syscall.SIGKILL, answers: 500}}) // creates the gauges
		for time.Since(began) < 12*time.Second {
			e := end{name: "kill -9", signal: syscall.SIGKILL, after: time.Duration(c.rnd.Int64N(int64(3 * time.Second))), env: c.settings()}
			if s.defaultPeriod() {
				e.after, e.env = e.after+2*time.Second, nil
			}
			if c.rnd.IntN(4) == 0 {
				e.name, e.signal = "SIGTERM", syscall.SIGTERM
				if c.rnd.IntN(2) == 0 { // and no time to stop
					e.grace = time.Duration(1 + c.rnd.Int64N(int64(30*time.Millisecond)))
				}
			}
			c.run([]end{e})
		}
		c.finish()
		c.requireExact()
	})
}

// TestKilledAtStorageOperations kills the collector before and after each of the first operations on its storage, of every
// kind: what it does at start, commits, deletes of what was delivered, merges of message ids. Each round takes the next ones.
func TestKilledAtStorageOperations(t *testing.T) {
	t.Parallel()
	forSettings(t, func(t *testing.T, s crashSettings, round int) {
		c := newCrashStorageTest(t, s)
		c.service.Fail(faults[:2]...)
		var ends []end
		for _, kind := range []struct {
			on          string
			first, last int
		}{
			{"recover", 1, 1}, // the version is only written once
			{"any", 10*round + 1, 10*round + 10},
			{"commit", 20 + round, 20 + round},
			{"confirm", 1, 2},
			{"merge", 1, 2},
		} {
			for n := kind.first; n <= kind.last; n++ {
				for _, after := range []bool{false, true} {
					ends = append(ends, end{
						name: fmt.Sprintf("%s %d after=%t", kind.on, n, after),
						env:  []string{"CRASH_ON=" + kind.on, "CRASH_AT=" + strconv.Itoa(n), "CRASH_AFTER=" + strconv.FormatBool(after)},
					})
				}
			}
		}
		c.rnd.Shuffle(len(ends), func(i, k int) { ends[i], ends[k] = ends[k], ends[i] })
		if s.defaultPeriod() {
			ends = ends[:8]
		}
		// The very first start writes the version.
		ends = append([]end{
			{name: "first write", env: []string{"CRASH_ON=recover", "CRASH_AT=2", "CRASH_AFTER=false"}},
			{name: "first write", env: []string{"CRASH_ON=recover", "CRASH_AT=2", "CRASH_AFTER=true"}},
		}, ends...)
		c.load()
		c.run(ends)
		c.finish()
		c.requireExact()
	})
}

// TestKilledAtPosts kills the collector as its first posts reach the service: before they are taken, taken but not
// answered, and as they are answered.
func TestKilledAtPosts(t *testing.T) {
	t.Parallel()
	forSettings(t, func(t *testing.T, s crashSettings, _ int) {
		c := newCrashTest(t, s)
		var ends []end
		for pass := range 2 { // so many posts are let through first
			for _, e := range []end{
				{name: "before taking", post: &libratoserver.Failure{Status: http.StatusServiceUnavailable}},
				{name: "taken, not answered", post: &libratoserver.Failure{Apply: libratoserver.ApplyNow}},
				{name: "applied later", post: &libratoserver.Failure{Apply: libratoserver.ApplyLater}},
				{name: "answered", post: &libratoserver.Failure{Apply: libratoserver.ApplyNow, Status: http.StatusOK}},
			} {
				delay := time.Duration(0)
				if e.post.Status == http.StatusOK { // as the answer is on its way, or just after it came
					delay = time.Duration(c.rnd.Int64N(int64(3 * time.Millisecond)))
				}
				posts := 0
				e.post.Match = func(*libratoserver.Request) bool {
					if posts++; posts <= pass {
						return false
					}
					if delay == 0 {
						c.kill()
					} else {
						time.AfterFunc(delay, c.kill)
					}
					return true
				}
				e.name += fmt.Sprintf(", post %d", pass+1)
				ends = append(ends, e)
			}
		}
		c.load()
		c.run(ends)
		c.finish()
		c.requireExact()
	})
}

// TestStorageFails lets one transaction in five fail, half of them after they were written, and kills in between.
func TestStorageFails(t *testing.T) {
	t.Parallel()
	c := newCrashStorageTest(t, crashSettings{period: 60})
	c.env["CRASH_FAIL"] = "0.2"
	c.load()
	for range 4 {
		c.run([]end{{name: "kill -9", signal: syscall.SIGKILL, answers: 100 + c.rnd.Int64N(400)}})
	}
	c.env["CRASH_FAIL"] = "0"
	c.finish()
	c.requireExact()
	assert.Contains(t, c.logs.String(), "crash_storage: ", "no transaction failed")
}

// TestAnotherExporterRefusesHalf has a second exporter in the pipeline whose service refuses half of what it gets, so that
// the clients repeat what Librato's exporter has taken; and kills in between.
func TestAnotherExporterRefusesHalf(t *testing.T) {
	t.Parallel()
	var calls, refused atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if calls.Add(1)%2 == 0 {
			refused.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(other.Close)
	c := newCrashTest(t, crashSettings{period: 60}, withAnotherExporter)
	c.env["OTHER_ENDPOINT"] = other.URL
	c.load()
	c.run([]end{
		{name: "SIGTERM", signal: syscall.SIGTERM, answers: 500},
		{name: "kill -9", signal: syscall.SIGKILL, answers: 500},
	})
	c.finish()
	c.requireExact()
	assert.Positive(t, refused.Load())
}

// TestPeriodChanges kills and stops collectors whose period differs from that of the one before. No event is late: a period
// that lies within one of another length, of which late seconds are used, may have none left.
func TestPeriodChanges(t *testing.T) {
	t.Parallel()
	c := newCrashTest(t, crashSettings{period: crashPeriod})
	c.onTime = true
	c.load()
	for i, period := range []int{600, 300, 600, 200, 300} { // all divide crashPeriod
		e := end{name: "kill -9", signal: syscall.SIGKILL, answers: 500, env: []string{"PERIOD=" + strconv.Itoa(period) + "s"}}
		if i%2 == 0 {
			e.name, e.signal = "SIGTERM", syscall.SIGTERM
		}
		c.run([]end{e})
	}
	c.finish()
	c.requireExact()
}

// TestFailsWithoutForwardedIDs shows that the crash tests notice: when the exporter does not get the message ids, what was
// on disk but not answered at a crash counts twice.
func TestFailsWithoutForwardedIDs(t *testing.T) {
	t.Parallel()
	c := newCrashStorageTest(t, crashSettings{period: crashPeriod})
	c.env["FORWARD_IDS"] = "false"
	c.load()
	for n := range 4 {
		c.run([]end{{name: "commit", env: []string{"CRASH_ON=commit", "CRASH_AFTER=true", "CRASH_AT=" + strconv.Itoa(10+n)}}})
	}
	c.finish()
	o := c.compare()
	assert.Positive(t, o.duplicated)
	assert.Zero(t, o.lost)
}

// TestFailsWhenCommittedAfterTheAnswer shows that the crash tests notice: when storage answers before it has written, what
// was answered is lost at a crash.
func TestFailsWhenCommittedAfterTheAnswer(t *testing.T) {
	t.Parallel()
	c := newCrashStorageTest(t, crashSettings{period: crashPeriod})
	c.env["CRASH_LATE"] = "100ms"
	c.load()
	for range 4 {
		c.run([]end{{name: "kill -9", signal: syscall.SIGKILL, answers: 10 + c.rnd.Int64N(50)}})
	}
	c.env["CRASH_LATE"] = "0s"
	c.finish()
	o := c.compare()
	assert.Positive(t, o.lost)
}

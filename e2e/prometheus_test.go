// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// prometheus is a real Prometheus on loopback that keeps what it has over stop and start.
type prometheus struct {
	addr    string
	program string
	args    []string
	cmd     *exec.Cmd
	logs    *lockedBuffer
	done    chan struct{} // closed when it ended
}

// newPrometheus prepares one that scrapes the target, if there is one, every second, and may be written to.
func newPrometheus(t *testing.T, target string) *prometheus {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		program, err = exec.LookPath("prometheus/usr/bin/prometheus") // where setup.sh leaves it
	}
	if err != nil {
		unavailable(t, "Prometheus is not installed, and setup.sh could not have it from apt-get")
	}
	dir := t.TempDir()
	config := "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
	if target != "" {
		config += fmt.Sprintf("scrape_configs: [{job_name: segment, static_configs: [{targets: [%q]}]}]\n", target)
	}
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	p := &prometheus{addr: freeAddr(t), program: program, logs: &lockedBuffer{}}
	p.args = []string{
		"--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", p.addr,
		"--web.enable-remote-write-receiver", "--log.level", "warn",
	}
	p.start(t)
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("Prometheus's log:\n%s", p.logs)
		}
	})
	return p
}

// start starts it, for the first time or again, and waits until it answers.
func (p *prometheus) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(p.program, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = p.logs, p.logs
	require.NoError(t, p.cmd.Start())
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // its exit code does not matter
		close(done)
	}(p.cmd, p.done)
	require.Eventually(t, func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.addr+"/-/ready", http.NoBody)
		if err != nil {
			return false
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, startTimeout, 50*time.Millisecond, "Prometheus does not answer:\n%s", p.logs)
}

func (p *prometheus) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended already
	select {
	case <-p.done:
	case <-time.After(startTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
		assert.Fail(t, "Prometheus did not stop")
	}
}

// counter is one of the counters of examples/prometheus.yaml. Negative values have one of their own.
type counter struct {
	event, source string
	negative      bool
}

// counters are what stands in them: how many events, and the sum of their values, without the sign.
type counters map[counter]total

func (cs counters) add(event, source string, value float64) {
	c := counter{event, source, value < 0}
	t := cs[c]
	cs[c] = total{t.count + 1, t.sum + math.Abs(value)}
}

// query evaluates an expression at a time, 0 is now, and returns a value for each counter.
func (p *prometheus) query(t require.TestingT, expression string, at float64) map[counter]float64 {
	form := url.Values{"query": {expression}}
	if at != 0 {
		form.Set("time", strconv.FormatFloat(at, 'f', 3, 64))
	}
	resp, err := http.PostForm("http://"+p.addr+"/api/v1/query", form) //nolint:noctx // on loopback
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct {
				Metric struct{ Event, Source, Negative string }
				Value  [2]any
			}
		}
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	require.Empty(t, answer.Error, expression)
	values := map[counter]float64{}
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		require.NoError(t, err)
		values[counter{r.Metric.Event, r.Metric.Source, r.Metric.Negative == "true"}] = value
	}
	return values
}

// counters returns what stands in Prometheus at a time.
func (p *prometheus) counters(t require.TestingT, at float64) counters {
	found := counters{}
	counts, sums := p.query(t, "segment_events_count", at), p.query(t, "segment_events_sum", at)
	for c, count := range counts {
		found[c] = total{uint64(count), sums[c]}
	}
	return found
}

// eventually waits until exactly want stands in Prometheus, and returns when the last sample of each counter was taken.
func (p *prometheus) eventually(t *testing.T, want counters) map[counter]float64 {
	t.Helper()
	require.EventuallyWithT(t, func(collect *assert.CollectT) {
		assert.Equal(collect, want, p.counters(collect, 0))
	}, arriveTimeout, 100*time.Millisecond)
	return p.query(t, "timestamp(segment_events_count)", 0)
}

// TestPrometheus sends the same events to Librato and to a real Prometheus, that scrapes or is written to, from twelve
// clients at a time. Prometheus is away for a while, and the collector starts again, so that its counters do. In the end
// PromQL's increase says of both sum and number what is true and what Librato has.
func TestPrometheus(t *testing.T) {
	t.Run("scraped", func(t *testing.T) {
		scraped := freeAddr(t)
		testPrometheus(t, newPrometheus(t, scraped), example(t, "prometheus.yaml", "0.0.0.0:9464", scraped))
	})
	t.Run("written to", func(t *testing.T) {
		p := newPrometheus(t, "")
		testPrometheus(t, p, example(t, "prometheus-remote-write.yaml",
			"${env:REMOTE_WRITE_ENDPOINT:-http://localhost:9090/api/v1/write}", "http://"+p.addr+"/api/v1/write",
			"interval: 10s", "interval: 1s"))
	})
}

func testPrometheus(t *testing.T, p *prometheus, config string) {
	service := startLibrato(t)
	c := startCollector(t, config, service.env()...)
	var (
		names   = []string{"Signed Up", "order.completed", "Café Visited 😀"}
		sources = []string{"web-1", "web-2:80"}
		now     counters // since the collector's start
		before  = counters{}
		all     = totals{}
		mu      sync.Mutex
	)
	send := func(event, source string, value float64) {
		status, answer, err := post(t.Context(), c.segment+"/v1/track", "key", fmt.Sprintf(
			`{"event":%q,"properties":{"value":%v},"context":{"Librato":{"source":%q}}}`, event, value, source))
		if !assert.Equal(t, http.StatusOK, status, "%s %v", answer, err) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		now.add(event, source, value)
		all.add(librato.CleanEventName(event), source, value)
	}
	// Prometheus does not see from where to where a counter rises before its first sample, nor a fall that the next sample
	// hides. So each begins with a single event, which is waited for.
	begin := func() map[counter]float64 {
		now = counters{}
		for _, event := range names {
			for _, source := range sources {
				send(event, source, 1)
				send(event, source, -1)
			}
		}
		return p.eventually(t, now)
	}
	load := func(events int) {
		var clients sync.WaitGroup
		for client := range 12 {
			clients.Go(func() {
				for n := range events {
					send(names[(client+n)%len(names)], sources[n/3%len(sources)], float64(n%11)-4)
					time.Sleep(10 * time.Millisecond) // a load, not a benchmark
				}
			})
		}
		clients.Wait()
	}

	from := begin()
	first := maps.Clone(now)
	load(100)
	p.stop(t)
	load(100)
	p.start(t)
	p.eventually(t, now)
	for c, t := range now {
		before[c] = total{t.count - first[c].count, t.sum - first[c].sum}
	}
	c.stop(t)
	c.start(t)
	begin()
	load(100)
	to := p.eventually(t, now)

	increase := counters{}
	for c := range now {
		of := fmt.Sprintf(`{event=%q,source=%q,negative=%q}`, c.event, c.source, map[bool]string{true: "true"}[c.negative])
		// From a sample to a sample, nothing is extrapolated.
		over := fmt.Sprintf("[%.0fms]", 1000*(to[c]-from[c]))
		count := p.query(t, "increase(segment_events_count"+of+over+")", to[c])
		sum := p.query(t, "increase(segment_events_sum"+of+over+")", to[c])
		increase[c] = total{uint64(math.Round(count[c])), math.Round(1e6*sum[c]) / 1e6}
	}
	want := counters{}
	for c, t := range now {
		want[c] = total{before[c].count + t.count, before[c].sum + t.sum}
	}
	assert.Equal(t, want, increase)

	service.eventually(t, all)
	for c, t := range first {
		increase[c] = total{increase[c].count + t.count, increase[c].sum + t.sum}
	}
	assert.Equal(t, service.totals(t), increase.totals(), "what Librato has, and what Prometheus says")
}

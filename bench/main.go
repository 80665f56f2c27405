// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the built collector from outside: what an event costs on its way from an SDK's request to Librato,
// beside a bare net/http handler that reads the same requests and throws them away, and one that reads their fields as well. All run
// on this machine, in turn, so what counts is their ratio. docs/performance.md says how to read what it prints.
//
//	go run .               everything, some twenty minutes
//	go run . -quick        shorter runs, three rounds; for a first look
//	go run . -only cpu     one part: cpu, storage, latency, idle, scale or exact
//	go run . -against OLD  beside the collector OLD instead, built from another commit: what a change costs
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bench is one invocation.
type bench struct {
	binary    string
	other     string   // another build of the collector, to compare with
	args      []string // more arguments for the collector
	rounds    int
	scale     int // runs are this many times shorter
	conns     int
	recording *recording
	zipped    []*request // a ring of compressed batches
	turn      int        // where it goes on
	rows      []row
}

// row is a line of the table.
type row struct {
	what                string
	ours, beside, ratio string
	goal                string
	holds               bool
}

func main() {
	b := &bench{rounds: 5, scale: 1}
	serve := flag.String("serve", "", "serve a handler to compare with on this address and do nothing else (the bench starts itself so)")
	kind := flag.String("handler", string(bare), "with -serve: which")
	flag.StringVar(&b.binary, "binary", "../_build/otelcol-segment", "the collector")
	flag.StringVar(&b.other, "against", "", "compare only what an event costs with this other build of the collector")
	flag.IntVar(&b.rounds, "rounds", b.rounds, "rounds of which the median is taken")
	flag.IntVar(&b.conns, "connections", 16, "connections that send at the same time")
	args := flag.String("args", "", "more arguments for the collector, for example -args=--feature-gates=pdata.useProtoPooling")
	quick := flag.Bool("quick", false, "three rounds, a fifth of the requests in each; what the collector does while it drains weighs five times as much")
	only := flag.String("only", "", "comma separated parts to run: cpu, storage, latency, idle, scale, exact")
	load := flag.String("load", "", "only send requests of this many events (gzip: append z) for -load-time, to take profiles meanwhile")
	loadTime := flag.Duration("load-time", 20*time.Second, "see -load")
	loadRate := flag.Float64("load-rate", 0, "with -load: requests a second; 0: as fast as they are answered")
	loadStorage := flag.Bool("load-storage", false, "with -load: the collector has storage")
	loadBare := flag.Bool("load-bare", false, "with -load: send to the bare handler instead")
	flag.Parse()
	if *serve != "" {
		exitOn(serveHandler(*serve, handler(*kind)))
		return
	}
	b.args = strings.Fields(*args)
	if *quick {
		b.rounds, b.scale = 3, 5
	}
	var err error
	b.recording, err = readRecording("testdata/batch.http")
	exitOn(err)

	if *load != "" {
		exitOn(b.load(*load, *loadTime, *loadRate, settings{storage: *loadStorage}, *loadBare))
		return
	}
	type part struct {
		name string
		run  func() error
	}
	parts := []part{
		{"cpu", b.cpu}, {"storage", b.storage}, {"latency", b.latency}, {"idle", b.idle}, {"scale", b.scaling}, {"exact", b.exact},
	}
	if b.other != "" {
		parts = []part{{"against", b.against}}
	}
	fmt.Println(machine())
	for _, part := range parts {
		if *only == "" || slices.Contains(strings.Split(*only, ","), part.name) {
			begin := time.Now()
			exitOn(part.run())
			fmt.Fprintf(os.Stderr, "%s: %s\n", part.name, time.Since(begin).Round(time.Second))
		}
	}
	b.print()
}

func exitOn(err error) {
	if err != nil {
		for _, p := range started {
			p.stop()
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// print writes the table as Markdown.
func (b *bench) print() {
	beside := "bare handler"
	if b.other != "" {
		beside = filepath.Base(b.other)
	}
	fmt.Printf("\n| what | %s | %s | ratio | goal | |\n|---|---|---|---|---|---|\n", filepath.Base(b.binary), beside)
	for _, r := range b.rows {
		mark := "holds"
		if !r.holds {
			mark = "**does not hold**"
		}
		if r.goal == "" {
			mark = ""
		}
		fmt.Printf("| %s | %s | %s | %s | %s | %s |\n", r.what, r.ours, r.beside, r.ratio, r.goal, mark)
	}
	fmt.Print(`
How to read it: costs are CPU time of the server process, user and system, an event; each is the median of the rounds, which start both anew and
have them take turns; the ratio is the median of the rounds' ratios. Percentiles are of a second each, of which the median is taken. Only ratios can be compared between machines and days. The bare handler reads the body, throws it away and answers the
same; the reading one parses it with valyala/fastjson and reads what makes an event; the collector has its default settings, but for a flush interval of one second, and its share covers everything up to the post.
`)
}

func median[T time.Duration | float64](of []T) T {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

// size is a kind of request and how many of them one round has.
type size struct {
	name     string
	events   int
	zipped   bool
	fresh    bool // no warm-up
	requests int
}

// beyondIDs is more message ids than the collector remembers by default.
const beyondIDs = 1_200_000

// single and batches are the sizes that all parts measure.
func (b *bench) single() size {
	return size{name: "one event a request", events: 1, requests: 60_000 / b.scale}
}

func (b *bench) batches() size {
	return size{name: "100 events a request", events: 100, requests: 20_000 / b.scale}
}

// feed makes n requests of a size, or one of another number.
func (b *bench) feed(s size, n int) feed {
	if s.zipped {
		// Their ids cannot be changed while the clock runs. They come again once the collector has forgotten them: it
		// remembers a million.
		body := b.recording.body(s.events, 0)
		for len(b.zipped)*s.events < beyondIDs {
			numberBody(body, ids.Add(uint64(s.events))-uint64(s.events)) //nolint:gosec // a count
			b.zipped = append(b.zipped, b.recording.request(body, s.events, true))
		}
		var next []*request
		for range n {
			next = append(next, b.zipped[b.turn%len(b.zipped)])
			b.turn++
		}
		return once(next)
	}
	kinds := 1
	if s.events == 1 {
		kinds = len(b.recording.messages) // so that all streams come
	}
	var templates []*request
	for first := range kinds {
		templates = append(templates, b.recording.request(b.recording.body(s.events, first), s.events, false))
	}
	return fresh(templates, n, b.conns)
}

// target is a server with its connections.
type target struct {
	*process
	connections
	sink *process // where to see that all is drained; nil: nowhere
}

func (b *bench) connect(p *process, sink *process) (*target, error) {
	cs, err := dial(p.addr, b.conns)
	if err != nil {
		return nil, err
	}
	return &target{process: p, connections: cs, sink: sink}, nil
}

// collector starts the collector with a sink of its own.
func (b *bench) collector(s settings) (*target, error) {
	sink, err := startSink()
	if err != nil {
		return nil, err
	}
	p, err := b.startCollector(sink.addr, s)
	if err != nil {
		return nil, err
	}
	return b.connect(p, sink)
}

// handler starts one of the handlers to compare with.
func (b *bench) handler(kind handler) (*target, error) {
	p, err := startHandler(kind)
	if err != nil {
		return nil, err
	}
	return b.connect(p, nil)
}

func (t *target) shut() {
	t.close()
	t.stop()
	if t.sink != nil {
		t.sink.stop()
	}
}

// warmUp sends what comes ahead of what is measured: batches until the set of message ids is full and the heap has its
// size (should it grow meanwhile, that costs a page fault for each 4 kB), then requests of the size itself.
func (b *bench) warmUp(t *target, s size) error {
	if s.fresh {
		return nil
	}
	batches := b.batches()
	for _, f := range []feed{b.feed(batches, beyondIDs/batches.events), b.feed(s, s.requests/4)} {
		if _, err := t.send(f, 0); err != nil {
			return err
		}
	}
	return nil
}

// send is run, whose errors it names.
func (t *target) send(f feed, rate float64) (*result, error) {
	res, err := t.run(f, rate)
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", t.name, err, t.logs.String())
	}
	return res, nil
}

// pair starts the collector with its sink, and the bare handler.
func (b *bench) pair(s settings) (ours, other *target, shut func(), err error) {
	if ours, err = b.collector(s); err != nil {
		return nil, nil, nil, err
	}
	if other, err = b.handler(bare); err != nil {
		return nil, nil, nil, err
	}
	return ours, other, func() { ours.shut(); other.shut() }, nil
}

// compare returns, of each round, what an event of a size cost each of some servers, all drained, and the most memory that
// each had resident. Every round starts all anew, and they take turns in it: two starts of the same program may
// differ by some percent, and the speed of a virtual machine by a fifth from one half minute to the next.
func (b *bench) compare(s size, servers ...func() (*target, error)) (costs [][]time.Duration, peaks []int64, err error) {
	turns := 10 / b.scale // of a quarter of a second
	costs, peaks = make([][]time.Duration, len(servers)), make([]int64, len(servers))
	for range b.rounds {
		targets := make([]*target, len(servers))
		used := make([]time.Duration, len(servers))
		for i, serve := range servers {
			if targets[i], err = serve(); err != nil {
				return costs, peaks, err
			}
			if err := b.warmUp(targets[i], s); err != nil {
				return costs, peaks, err
			}
		}
		for i, t := range targets {
			used[i] = -t.cpu()
		}
		for range turns {
			for _, t := range targets {
				if _, err := t.send(b.feed(s, s.requests/turns), 0); err != nil {
					return costs, peaks, err
				}
			}
		}
		for i, t := range targets {
			if t.sink != nil {
				if err := drain(t.sink.addr); err != nil {
					return costs, peaks, err
				}
			}
			used[i] += t.cpu()
			costs[i] = append(costs[i], used[i]/time.Duration(s.requests/turns*turns*s.events))
			peaks[i] = max(peaks[i], t.memory("VmHWM"))
			t.shut()
		}
	}
	return costs, peaks, nil
}

// cpu compares what an event costs with the bare handler and the one that reads.
func (b *bench) cpu() error {
	for _, kind := range []struct {
		size
		beside []handler
		goal   float64 // of the ratio to the bare handler; 0: none
	}{
		{b.single(), []handler{bare, reading}, 1.5},
		{b.batches(), []handler{bare, reading}, 2.5},
		{size{name: "one event a request, all just started", events: 1, fresh: true, requests: 60_000 / b.scale}, []handler{bare}, 0},
		{size{name: "729 events a request", events: 729, requests: 3_000 / b.scale}, []handler{bare, reading}, 4},
		{size{name: "100 events a request, gzip", events: 100, zipped: true, requests: 12_000 / b.scale}, []handler{bare, pooled, reading}, 1.7},
	} {
		b.feed(kind.size, 0) // to compress takes longer than servers wait on a new connection
		servers := []func() (*target, error){func() (*target, error) { return b.collector(settings{}) }}
		for _, h := range kind.beside {
			servers = append(servers, func() (*target, error) { return b.handler(h) })
		}
		costs, peaks, err := b.compare(kind.size, servers...)
		if err != nil {
			return err
		}
		for i, h := range kind.beside {
			ratio := ratio(costs[0], costs[i+1])
			line := row{
				what: "CPU an event, " + kind.name + " (beside: " + h.describe() + ")",
				ours: micros(median(costs[0])), beside: micros(median(costs[i+1])), ratio: fmt.Sprintf("%.2f", ratio),
			}
			if i == 0 && kind.goal > 0 {
				line.goal, line.holds = fmt.Sprintf("≤ %.1f", kind.goal), ratio <= kind.goal
			}
			b.rows = append(b.rows, line)
		}
		b.rows = append(b.rows, row{what: "peak resident memory, " + kind.name, ours: mib(peaks[0]), beside: mib(peaks[1])})
		fmt.Fprintf(os.Stderr, "%s: ours, then %v: %v\n", kind.name, kind.beside, costs)
	}
	return nil
}

// ratio returns the median of the rounds' own ratios.
func ratio(a, b []time.Duration) float64 {
	var of []float64
	for i := range a {
		of = append(of, float64(a[i])/float64(b[i]))
	}
	return median(of)
}

func micros(d time.Duration) string { return fmt.Sprintf("%.2f µs", float64(d)/1000) }
func mib(n int64) string            { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

// storage compares the collector with file_storage, as `make run` has it, to itself without.
func (b *bench) storage() error {
	for _, s := range []size{b.single(), b.batches()} {
		costs, _, err := b.compare(s,
			func() (*target, error) { return b.collector(settings{storage: true}) },
			func() (*target, error) { return b.collector(settings{}) },
		)
		if err != nil {
			return err
		}
		ratio := ratio(costs[0], costs[1])
		b.rows = append(b.rows, row{
			"CPU an event with storage (beside: without), " + s.name, micros(median(costs[0])), micros(median(costs[1])),
			fmt.Sprintf("%.2f", ratio), "≤ 2.0", ratio <= 2,
		})
		fmt.Fprintf(os.Stderr, "storage, %s: with %v without %v\n", s.name, costs[0], costs[1])
	}
	return nil
}

// against compares the collector with another build of it, with the same settings: what a change costs, in one run.
func (b *bench) against() error {
	for _, s := range []size{b.single(), b.batches()} {
		for _, storage := range []bool{false, true} {
			costs, peaks, err := b.compare(s,
				func() (*target, error) { return b.collector(settings{storage: storage}) },
				func() (*target, error) { return b.collector(settings{storage: storage, binary: b.other}) },
			)
			if err != nil {
				return err
			}
			name := s.name
			if storage {
				name += ", with storage"
			}
			b.rows = append(b.rows, row{
				what: "CPU an event, " + name, ours: micros(median(costs[0])), beside: micros(median(costs[1])),
				ratio: fmt.Sprintf("%.3f", ratio(costs[0], costs[1])),
			}, row{
				what: "peak resident memory, " + name, ours: mib(peaks[0]), beside: mib(peaks[1]),
			})
			fmt.Fprintf(os.Stderr, "%s: ours %v other %v\n", name, costs[0], costs[1])
		}
	}
	return nil
}

// latency compares the time to the answer, each server at half of the load that saturates it. As in compare, every round
// starts both anew, and they take turns, of a second each.
func (b *bench) latency() error {
	for _, with := range []bool{false, true} {
		for _, s := range []size{b.single(), b.batches()} {
			var rates [2]float64 // of the first round
			var p50, p99 [2][]time.Duration
			for round := range b.rounds {
				ours, other, shut, err := b.pair(settings{storage: with})
				if err != nil {
					return err
				}
				targets := []*target{ours, other}
				for i, t := range targets {
					if err := b.warmUp(t, s); err != nil {
						return err
					}
					if round == 0 {
						if rates[i], err = b.half(t, s); err != nil {
							return err
						}
					}
				}
				for range max(1, 4/b.scale) {
					for i, t := range targets {
						res, err := t.send(b.feed(s, int(rates[i])+b.conns), rates[i])
						if err != nil {
							return err
						}
						p50[i], p99[i] = append(p50[i], res.percentile(0.5)), append(p99[i], res.percentile(0.99))
					}
				}
				shut()
			}
			b.latencyRows(s, with, rates, p50, p99)
		}
	}
	return nil
}

// half returns half of the requests a second that saturate a server.
func (b *bench) half(t *target, s size) (float64, error) {
	full, err := t.send(b.feed(s, s.requests), 0)
	if err != nil {
		return 0, err
	}
	return float64(full.requests) / full.elapsed.Seconds() / 2, nil
}

// latencyRows adds the rows for the percentiles of all turns, of the collector and the bare handler.
func (b *bench) latencyRows(s size, storage bool, rates [2]float64, p50, p99 [2][]time.Duration) {
	name := fmt.Sprintf("at half of what saturates either (%.0f and %.0f requests/s), %s", rates[0], rates[1], s.name)
	goal := "≤ 2.0"
	if storage {
		name, goal = "with storage, "+name, "≤ 2.0, and one commit"
	}
	o, r := median(p50[0]), median(p50[1])
	b.rows = append(b.rows, row{what: "p50 " + name, ours: micros(o), beside: micros(r), ratio: fmt.Sprintf("%.2f", float64(o)/float64(r))})
	o, r = median(p99[0]), median(p99[1])
	b.rows = append(b.rows, row{
		what: "p99 " + name, ours: micros(o), beside: micros(r), ratio: fmt.Sprintf("%.2f", float64(o)/float64(r)), goal: goal,
		// One commit of bbolt without fsync, and the wait for the group's others.
		holds: o <= 2*r || storage && o <= 2*r+2*time.Millisecond,
	})
	fmt.Fprintf(os.Stderr, "latency, %s, storage %t: p99 ours %v bare %v\n", s.name, storage, p99[0], p99[1])
}

// idle measures what 2,000 connections cost that have sent one request each and are kept alive.
func (b *bench) idle() error {
	const connections = 2000
	ours, other, shut, err := b.pair(settings{})
	if err != nil {
		return err
	}
	defer shut()
	var grown [2]int64
	for i, t := range []*target{ours, other} {
		s := b.single()
		if _, err := t.send(b.feed(s, s.requests), 0); err != nil { // so that the heap has its size
			return err
		}
		time.Sleep(time.Second)
		before := t.memory("VmRSS")
		cs, err := dial(t.addr, connections)
		if err != nil {
			return err
		}
		next := b.feed(s, connections)
		answer := make([]byte, 4096)
		for _, c := range cs {
			if err := exchange(c, next(0).bytes, answer); err != nil {
				return err
			}
		}
		time.Sleep(2 * time.Second)
		grown[i] = t.memory("VmRSS") - before
		cs.close()
	}
	b.rows = append(b.rows, row{
		what: "2,000 idle connections", ours: mib(grown[0]), beside: mib(grown[1]), ratio: fmt.Sprintf("%.2f", float64(grown[0])/float64(grown[1])),
	})
	return nil
}

// scaling sends ten million events of 100,000 streams, and compares what one costs to the case of 100 streams.
func (b *bench) scaling() error {
	const streams, limit = 100_000, 60 * time.Second
	requests := 100_000 / b.scale
	s := b.batches()
	wide := b.recording.widen()
	feeds := func(r *recording, n int) feed {
		return fresh([]*request{r.request(r.body(s.events, 0), s.events, false)}, n, b.conns)
	}
	for _, v := range []struct {
		name string
		s    settings
	}{
		{"without ids", settings{noIDs: true, maxStreams: streams, flush: 10 * time.Second}},
		{"max_entries 10,000,000", settings{maxStreams: streams, maxEntries: 10_000_000, flush: 10 * time.Second}},
	} {
		t, err := b.collector(v.s)
		if err != nil {
			return err
		}
		cost := func(r *recording, n int) (time.Duration, error) {
			before := t.cpu()
			res, err := t.send(feeds(r, n), 0)
			if err != nil {
				return 0, err
			}
			if res.elapsed > limit {
				fmt.Fprintf(os.Stderr, "scale: %d events took %s, longer than the minute they stand for\n", res.events, res.elapsed)
			}
			time.Sleep(25 * time.Second) // two flushes
			return (t.cpu() - before) / time.Duration(res.events), nil
		}
		few, err := cost(b.recording, requests/4)
		if err != nil {
			return err
		}
		fewStats, err := readStats(t.sink.addr)
		if err != nil {
			return err
		}
		many, err := cost(wide, requests)
		if err != nil {
			return err
		}
		peak := t.memory("VmHWM")
		all, err := readStats(t.sink.addr)
		if err != nil {
			return err
		}
		ratio := float64(many) / float64(few)
		b.rows = append(b.rows, row{
			fmt.Sprintf("CPU an event, %d events of 100,000 streams (beside: of 100), max_streams 100,000, %s", requests*s.events, v.name),
			micros(many), micros(few), fmt.Sprintf("%.2f", ratio), "≤ 1.5", ratio <= 1.5,
		})
		memory := row{what: "peak resident memory of that", ours: mib(peak)}
		if v.s.noIDs {
			memory.goal, memory.holds = "≤ 300 MiB", peak <= 300<<20
		}
		posts, measurements := all.Posts-fewStats.Posts, all.Measurements-fewStats.Measurements
		// Each flush may have one request that is not full, and flushes are ten seconds apart.
		full := int((measurements + 299) / 300)
		b.rows = append(b.rows, memory, row{
			what: fmt.Sprintf("requests to Librato of that, %d measurements", measurements), ours: strconv.Itoa(posts), beside: strconv.Itoa(full),
			ratio: fmt.Sprintf("%.2f", float64(posts)/float64(full)), goal: "full ones, but one a flush", holds: posts <= full+int(limit/(10*time.Second))+3,
		})
		t.shut()
	}
	return nil
}

// exact sends at full speed into a Librato that checks and keeps, and compares its counts with what was sent.
func (b *bench) exact() error {
	addr := freeAddr()
	server, err := start("librato-local", addr, []string{"../_build/librato-local", "-quiet", "-addr", addr})
	if err != nil {
		return err
	}
	p, err := b.startCollector(addr, settings{})
	if err != nil {
		return err
	}
	t, err := b.connect(p, server)
	if err != nil {
		return err
	}
	defer t.shut()
	s := b.batches()
	res, err := t.send(b.feed(s, s.requests), 0)
	if err != nil {
		return err
	}
	if err := drain(addr); err != nil {
		return err
	}
	counted, err := countTotals(addr)
	if err != nil {
		return err
	}
	b.rows = append(b.rows, row{
		"delivered of what was answered with 200, at full speed", strconv.Itoa(counted), "", fmt.Sprintf("%.4f", float64(counted)/float64(res.events)),
		strconv.Itoa(res.events), counted == res.events,
	})
	return nil
}

// load sends requests of some number of events for a while, and says what one cost and how long the answers took.
func (b *bench) load(events string, during time.Duration, rate float64, with settings, toBare bool) error {
	s := size{zipped: strings.HasSuffix(events, "z")}
	if _, err := fmt.Sscanf(events, "%d", &s.events); err != nil || s.events < 1 {
		return fmt.Errorf("-load %q: a number of events, with a z for gzip", events)
	}
	s.requests = max(4000, 60_000/s.events) // about a second and a half at full speed, or half of one
	if rate > 0 {
		s.requests = int(rate) // a second of them
	}
	b.feed(s, 0) // as in cpu
	server, other, shut, err := b.pair(with)
	if err != nil {
		return err
	}
	defer shut()
	if toBare {
		server, other = other, server
	}
	other.shut()
	if err := b.warmUp(server, s); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "load: process %d\n", server.cmd.Process.Pid)
	before, sent := server.cpu(), 0
	var latencies []time.Duration
	for begin := time.Now(); time.Since(begin) < during; {
		res, err := server.send(b.feed(s, s.requests), rate)
		if err != nil {
			return err
		}
		sent += res.events
		latencies = append(latencies, res.latencies...)
	}
	slices.Sort(latencies)
	all := result{latencies: latencies}
	fmt.Printf("%s events a request: %s an event, %d events; p50 %s, p99 %s\n", events,
		micros((server.cpu()-before)/time.Duration(sent)), sent, micros(all.percentile(0.5)), micros(all.percentile(0.99)))
	return nil
}

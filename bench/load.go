// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ids numbers all messages of all runs. The first connections of a run and of the next never share a number.
var ids atomic.Uint64

// feed returns the next request of a connection, or nil when there is none left. What it returned before is free again.
type feed func(conn int) *request

// fresh feeds n requests made of the given ones in turn, with new message ids in each. Every connection has its own copies,
// so that numbering them, some nanoseconds an event, is all that is done while the clock runs.
func fresh(requests []*request, n, conns int) feed {
	own := make([][]*request, conns)
	for c := range own {
		for _, q := range requests {
			twin := *q
			twin.bytes = bytes.Clone(q.bytes)
			own[c] = append(own[c], &twin)
		}
	}
	turn := make([]int, conns)
	var taken atomic.Int64
	return func(conn int) *request {
		k := int(taken.Add(1))
		if k > n {
			return nil
		}
		turn[conn]++
		q := own[conn][(turn[conn]+conn)%len(requests)]
		q.number(ids.Add(uint64(q.events)) - uint64(q.events)) //nolint:gosec // a count
		q.spread(10 * k)
		return q
	}
}

// once feeds each request one time.
func once(requests []*request) feed {
	var taken atomic.Int64
	return func(int) *request {
		k := int(taken.Add(1)) - 1
		if k >= len(requests) {
			return nil
		}
		return requests[k]
	}
}

// connections are kept alive between runs.
type connections []net.Conn

func dial(addr string, n int) (connections, error) {
	var cs connections
	for range n {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			cs.close()
			return nil, err
		}
		cs = append(cs, c)
	}
	return cs, nil
}

func (cs connections) close() {
	for _, c := range cs {
		_ = c.Close() // nothing is under way
	}
}

// result is what a run saw.
type result struct {
	requests, events int
	elapsed          time.Duration
	latencies        []time.Duration // sorted
}

func (r *result) percentile(p float64) time.Duration {
	return r.latencies[min(len(r.latencies)-1, int(p*float64(len(r.latencies))))]
}

// run sends what next feeds, one request at a time on each connection: as fast as they are answered, or, with a rate in
// requests a second, at instants that are set before. A latency is the time from the write to the last byte of the answer.
// Anything but a 200 with success ends it.
func (cs connections) run(next feed, rate float64) (*result, error) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		total result
		first error
	)
	begin := time.Now()
	for i, conn := range cs {
		wg.Go(func() {
			latencies := make([]time.Duration, 0, 1<<12)
			answer := make([]byte, 4096)
			events := 0
			var err error
			for k := 0; ; k++ {
				q := next(i)
				if q == nil {
					break
				}
				if rate > 0 {
					at := begin.Add(time.Duration(float64(k*len(cs)+i) / rate * float64(time.Second)))
					time.Sleep(time.Until(at))
				}
				sent := time.Now()
				if err = exchange(conn, q.bytes, answer); err != nil {
					break
				}
				latencies = append(latencies, time.Since(sent))
				events += q.events
			}
			mu.Lock()
			defer mu.Unlock()
			total.events += events
			total.requests += len(latencies)
			total.latencies = append(total.latencies, latencies...)
			if first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	total.elapsed = time.Since(begin)
	slices.Sort(total.latencies)
	return &total, first
}

var (
	statusOK = []byte("HTTP/1.1 200 ")
	success  = []byte(`{"success":true}`)
)

// exchange writes a request and reads its answer.
func exchange(conn net.Conn, request, buf []byte) error {
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	n := 0
	for {
		k, err := conn.Read(buf[n:])
		if err != nil {
			return err
		}
		n += k
		if bytes.HasSuffix(buf[:n], success) {
			if !bytes.HasPrefix(buf[:n], statusOK) {
				return errors.New("answered with another status than 200")
			}
			return nil
		}
		if bytes.HasSuffix(buf[:n], []byte("}\n")) || n == len(buf) {
			return fmt.Errorf("answered with %q", buf[:min(n, 300)])
		}
	}
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"cmp"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lendAlways is how many connections net/http keeps even if they are idle, at 20 kB each. Whoever has fewer notices nothing
	// of parking.
	lendAlways = 128
	// parkAfter is how long a connection beyond those is idle before it is parked. The shorter it is, the fewer hold what
	// net/http gives each; a client that sends again sooner costs nothing, one that sends later some 50 µs of CPU time.
	parkAfter = 50 * time.Millisecond
)

// parkingListener lends connections to net/http, and where there are many, keeps those that wait for a request.
//
// net/http holds 8 kB of buffers and an 8 kB stack for a connection even if nothing comes on it. Parked, a connection is
// its socket and a goroutine of 2 kB that reads one byte. The resident memory of 2,000 connections:
//
//	one request each, one after the other     15 to 18 MiB instead of 42 (the bench)
//	all at the same time                      20 to 30 MiB instead of 43: Go keeps what it once needed
//
// Once lendAlways are lent, a new connection is parked at once, and one beyond them when it has been idle for
// parkAfter: net/http reads the end of the connection, gives its memory back and closes, which parks. With the next byte,
// net/http accepts it as a new connection. Its timeouts hold for parked ones: ReadHeaderTimeout until the first request
// begins, IdleTimeout until any other does.
type parkingListener struct {
	*net.TCPListener
	server *http.Server
	always int64 // see lendAlways
	after  time.Duration
	lent   atomic.Int64
	ready  chan *parkingConn // to be lent
	failed chan error        // of TCPListener.Accept

	mu         sync.Mutex
	parked     map[*parkingConn]struct{} // nil once the listener is closed
	closed     chan struct{}
	goroutines sync.WaitGroup
}

// parkIdle returns the listener that the server is to Serve. What is no TCP listener stays as it is: TLS has a state of its
// own, and net/http has to see it. HTTP/2 must not be parked; confighttp has it with TLS only.
func parkIdle(server *http.Server, listener net.Listener, always int64, after time.Duration) net.Listener {
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return listener
	}
	hook := server.ConnState
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		if c, ok := conn.(*parkingConn); ok && state == http.StateIdle {
			c.answered = true
		}
		if hook != nil {
			hook(conn, state)
		}
	}
	l := &parkingListener{
		TCPListener: tcp, server: server, always: always, after: after,
		ready: make(chan *parkingConn), failed: make(chan error),
		parked: make(map[*parkingConn]struct{}), closed: make(chan struct{}),
	}
	l.goroutines.Go(l.acceptAll)
	return l
}

// acceptAll lends or parks what comes until the listener is closed.
func (l *parkingListener) acceptAll() {
	for {
		tcp, err := l.AcceptTCP()
		if err == nil && l.lent.Load() < l.always {
			l.lend(&parkingConn{TCPConn: tcp, listener: l})
			continue
		}
		if err == nil {
			var until time.Time
			if timeout := cmp.Or(l.server.ReadHeaderTimeout, l.server.ReadTimeout); timeout > 0 {
				until = time.Now().Add(timeout)
			}
			l.park(tcp, until)
			continue
		}
		select { // Serve waits a moment if it can go on, and returns if not
		case l.failed <- err:
		case <-l.closed:
			return
		}
	}
}

// Accept returns the next connection that is lent.
func (l *parkingListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case err := <-l.failed:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// lend hands c to Accept.
func (l *parkingListener) lend(c *parkingConn) {
	l.lent.Add(1)
	select {
	case l.ready <- c:
	case <-l.closed:
		c.Close()
	}
}

// Close closes the parked connections too. From then on a connection that would be parked is closed.
func (l *parkingListener) Close() error {
	err := l.TCPListener.Close()
	l.mu.Lock()
	if l.parked != nil {
		for c := range l.parked {
			c.TCPConn.Close()
		}
		l.parked = nil
		close(l.closed)
	}
	l.mu.Unlock()
	l.goroutines.Wait()
	return err
}

// park waits for a byte in the background.
func (l *parkingListener) park(tcp *net.TCPConn, until time.Time) {
	c := &parkingConn{TCPConn: tcp, listener: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parked == nil || tcp.SetReadDeadline(until) != nil {
		tcp.Close()
		return
	}
	l.parked[c] = struct{}{}
	l.goroutines.Add(1)
	go c.wait()
}

// parkingConn is a connection from the time it is accepted or parked until net/http gives it back. Only the goroutine that has it uses
// the fields, first wait and then net/http's. (That has a second one that reads while a request is answered; then none of
// them changes.)
type parkingConn struct {
	*net.TCPConn
	listener *parkingListener

	first    [1]byte
	unread   []byte // first, until net/http has read it
	size     int    // of net/http's buffer
	answered bool   // the next deadline is the one until which net/http waits for a request
	waiting  bool   // the deadline is the one for parking, until is net/http's
	until    time.Time

	parking atomic.Bool // net/http has read the end
	closed  atomic.Bool
}

// wait reads a byte and lends c. It is small so that its stack stays at 2 kB.
func (c *parkingConn) wait() {
	l := c.listener
	defer l.goroutines.Done()
	n, err := c.TCPConn.Read(c.first[:])
	if err == nil {
		err = c.TCPConn.SetReadDeadline(time.Time{})
	}
	l.mu.Lock()
	delete(l.parked, c) // Close leaves it alone: a request has begun
	l.mu.Unlock()
	if err != nil { // the client has gone, or the time is over; net/http does not log that either
		c.TCPConn.Close()
		return
	}
	c.unread = c.first[:n]
	l.lend(c)
}

// SetReadDeadline sets the deadline for parking instead when net/http begins to wait for a request, so that this takes no
// second timer.
func (c *parkingConn) SetReadDeadline(t time.Time) error {
	switch {
	case c.answered:
		c.answered = false
		if c.listener.lent.Load() <= c.listener.always {
			break
		}
		if soon := time.Now().Add(c.listener.after); t.IsZero() || soon.Before(t) {
			c.waiting, c.until = true, t
			t = soon
		}
	case c.waiting:
		c.waiting = false
	}
	return c.TCPConn.SetReadDeadline(t)
}

// Read returns io.EOF when it is time to park c.
func (c *parkingConn) Read(b []byte) (int, error) {
	if c.size == 0 {
		c.size = len(b)
	}
	if len(c.unread) > 0 {
		n := copy(b, c.unread)
		c.unread = c.unread[n:]
		return n, nil
	}
	if !c.waiting {
		return c.TCPConn.Read(b)
	}
	if len(b) != c.size {
		// For the very first byte net/http offered its whole buffer. It does not now, so it holds a part of the request.
		c.waiting = false
		if err := c.TCPConn.SetReadDeadline(c.until); err != nil {
			return 0, err
		}
		return c.TCPConn.Read(b)
	}
	n, err := c.TCPConn.Read(b)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		c.parking.Store(true)
		return 0, io.EOF
	}
	return n, err
}

// Close parks c if it is time. Shutdown and net/http's goroutine for c may both call it; by then the socket may be another's.
func (c *parkingConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	c.listener.lent.Add(-1)
	if c.parking.Load() {
		c.listener.park(c.TCPConn, c.until)
		return nil
	}
	return c.TCPConn.Close()
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
)

// testParkAfter is long enough for a client to do something before it, even with the race detector.
const testParkAfter = 100 * time.Millisecond

// parkingServer serves the body of each request back, and counts the connections as net/http sees them.
type parkingServer struct {
	*http.Server
	t        *testing.T
	listener *parkingListener
	accepted atomic.Int64
	inside   atomic.Int64 // of those accepted, the ones that net/http has not closed
}

func serveParking(t *testing.T, after time.Duration, change ...func(*http.Server)) *parkingServer {
	t.Helper()
	return serveParkingBeyond(t, 0, after, change...)
}

func serveParkingBeyond(t *testing.T, always int64, after time.Duration, change ...func(*http.Server)) *parkingServer {
	t.Helper()
	s := &parkingServer{t: t}
	s.Server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		assert.NoError(t, err)
		assert.Equal(t, http.MethodPost, req.Method, "without its first byte it is one too")
		if req.URL.Path == "/slow" {
			time.Sleep(testParkAfter / 2)
		}
		_, _ = w.Write(body) // fails if the client has gone
	})}
	s.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.accepted.Add(1)
			s.inside.Add(1)
		case http.StateClosed:
			s.inside.Add(-1)
		case http.StateActive, http.StateIdle, http.StateHijacked:
		}
	}
	for _, c := range change {
		c(s.Server)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	require.NoError(t, err)
	s.listener = parkIdle(s.Server, tcp, always, after).(*parkingListener)
	var serving sync.WaitGroup
	serving.Go(func() { assert.ErrorIs(t, s.Serve(s.listener), http.ErrServerClosed) })
	t.Cleanup(func() {
		assert.NoError(t, s.Shutdown(context.WithoutCancel(t.Context())))
		serving.Wait()
	})
	return s
}

// awaitParked waits until n connections are parked and net/http has none.
func (s *parkingServer) awaitParked(n int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.parked() == n && s.inside.Load() == 0 }, 10*time.Second, time.Millisecond)
}

func (s *parkingServer) parked() int {
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	return len(s.listener.parked)
}

// parkingClient is one connection to a server.
type parkingClient struct {
	net.Conn
	answers *bufio.Reader
}

func (s *parkingServer) dial() *parkingClient {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.listener.Addr().String()) //nolint:noctx // at once
	require.NoError(s.t, err)
	require.NoError(s.t, conn.SetDeadline(time.Now().Add(10*time.Second))) // so that no failure hangs
	s.t.Cleanup(func() { _ = conn.Close() })
	return &parkingClient{conn, bufio.NewReader(conn)}
}

func echoRequest(body string) string {
	return fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// assertAnswer reads the answer to echoRequest.
func (c *parkingClient) assertAnswer(t *testing.T, body string) {
	t.Helper()
	status, got, err := c.answer()
	if err != nil || status != http.StatusOK || got != body {
		t.Errorf("%.40q is answered by %d, %.40q, %v", body, status, got, err)
	}
}

func (c *parkingClient) answer() (status int, body string, err error) {
	resp, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(got), err
}

// assertClosed reads the end of the connection, and nothing before it.
func (c *parkingClient) assertClosed(t *testing.T) {
	t.Helper()
	_, err := c.answers.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}

func (c *parkingClient) exchange(t *testing.T, body string) {
	t.Helper()
	if _, err := io.WriteString(c, echoRequest(body)); err != nil {
		t.Error(err)
	}
	c.assertAnswer(t, body)
}

func TestParkedConnectionsAreServedAgain(t *testing.T) {
	s := serveParking(t, testParkAfter)
	c := s.dial()
	s.awaitParked(1)
	assert.Zero(t, s.accepted.Load(), "a new connection is not net/http's before its first byte")
	for k := range 3 {
		c.exchange(t, "first")
		c.exchange(t, "at once") // on the same stay in net/http
		s.awaitParked(1)
		assert.Equal(t, int64(k+1), s.accepted.Load())
	}
}

// TestParkingLeavesSomeToNetHTTP: whoever has few connections notices nothing of it.
func TestParkingLeavesSomeToNetHTTP(t *testing.T) {
	const always = 2
	s := serveParkingBeyond(t, always, time.Millisecond)
	var clients []*parkingClient
	for i := range always {
		c := s.dial()
		require.Eventually(t, func() bool { return s.inside.Load() == int64(i+1) }, 10*time.Second, time.Millisecond, "lent before it sends")
		c.exchange(t, "first")
		clients = append(clients, c)
	}
	time.Sleep(20 * time.Millisecond) // twenty times as long as the others are idle before they are parked
	require.Equal(t, int64(always), s.inside.Load())
	for range 3 {
		c := s.dial()
		c.exchange(t, "first")
		clients = append(clients, c)
	}
	settled := func() bool { return s.inside.Load() <= always && int(s.inside.Load())+s.parked() == len(clients) }
	require.Eventually(t, settled, 10*time.Second, time.Millisecond)
	for _, c := range clients {
		c.exchange(t, "again")
		require.NoError(t, c.Close())
	}
	require.Eventually(t, func() bool { return s.inside.Load() == 0 && s.listener.lent.Load() == 0 && s.parked() == 0 }, 10*time.Second, time.Millisecond)
}

// TestParkingLosesNothing pauses around the moment of parking, where a request and the parking meet.
func TestParkingLosesNothing(t *testing.T) {
	const after = 3 * time.Millisecond
	s := serveParking(t, after)
	var clients sync.WaitGroup
	for i := range 32 {
		c := s.dial()
		clients.Go(func() {
			for k := range 60 {
				c.exchange(t, fmt.Sprintf("client %d request %d %s", i, k, strings.Repeat("x", rand.IntN(10_000))))
				time.Sleep(after/2 + rand.N(after)) // around the moment of parking
			}
		})
	}
	clients.Wait()
	if accepted := s.accepted.Load(); assert.Greater(t, accepted, int64(32*10), "parked too seldom to test it") {
		assert.Less(t, accepted, int64(32*59), "parked too often to test it")
	}
}

// TestParkingKeepsPartsOfRequests sends requests in two parts. net/http has the first one when it is time to park: read
// while it waited for a request, with the body of the request before, or beside its answer.
func TestParkingKeepsPartsOfRequests(t *testing.T) {
	for name, begin := range map[string]func(t *testing.T, s *parkingServer, c *parkingClient, part string){
		"after parking": func(t *testing.T, s *parkingServer, c *parkingClient, part string) {
			c.exchange(t, "first")
			s.awaitParked(1)
			c.send(t, part)
		},
		"before parking": func(t *testing.T, _ *parkingServer, c *parkingClient, part string) {
			c.exchange(t, "first")
			c.send(t, part)
		},
		"with the request before": func(t *testing.T, _ *parkingServer, c *parkingClient, part string) {
			c.send(t, echoRequest("first")+part)
			c.assertAnswer(t, "first")
		},
		"beside the answer": func(t *testing.T, _ *parkingServer, c *parkingClient, part string) {
			c.send(t, strings.Replace(echoRequest("first"), "/", "/slow", 1))
			time.Sleep(testParkAfter / 4) // the server takes twice that
			c.send(t, part)
			c.assertAnswer(t, "first")
		},
	} {
		for _, size := range []int{1, 3, 4, 30} {
			t.Run(fmt.Sprintf("%d bytes %s", size, name), func(t *testing.T) {
				t.Parallel()
				s := serveParking(t, testParkAfter)
				c := s.dial()
				request := echoRequest("second")
				begin(t, s, c, request[:size])
				time.Sleep(2 * testParkAfter) // it would be parked by then
				c.send(t, request[size:])
				c.assertAnswer(t, "second")
				s.awaitParked(1) // as ever
			})
		}
	}
}

func (c *parkingClient) send(t *testing.T, s string) {
	t.Helper()
	_, err := io.WriteString(c, s)
	require.NoError(t, err)
}

// TestParkedConnectionsEndAtTheTimeouts of net/http: of the header's for one that never sent anything, which is the whole
// request's if there is none, and of idle ones else.
func TestParkedConnectionsEndAtTheTimeouts(t *testing.T) {
	const short = 4 * testParkAfter
	for name, change := range map[string]func(*http.Server){
		"header":           func(s *http.Server) { s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout = short, time.Hour, time.Hour },
		"header from read": func(s *http.Server) { s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout = 0, short, time.Hour },
		"idle":             func(s *http.Server) { s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout = time.Hour, time.Hour, short },
		"idle from read":   func(s *http.Server) { s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout = time.Hour, short, 0 },
		"idle before parking": func(s *http.Server) {
			s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout = time.Hour, time.Hour, testParkAfter/10
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveParking(t, testParkAfter, change)
			c := s.dial()
			begin, want := time.Now(), short
			if strings.HasPrefix(name, "idle") {
				s.awaitParked(1)
				c.exchange(t, "before")
				begin = time.Now()
			}
			if s.IdleTimeout == testParkAfter/10 {
				want = s.IdleTimeout
			} else {
				s.awaitParked(1)
			}
			c.assertClosed(t)
			assert.InDelta(t, want.Seconds(), time.Since(begin).Seconds(), 0.8*testParkAfter.Seconds())
			s.awaitParked(0)
			if want < testParkAfter {
				assert.Equal(t, int64(1), s.accepted.Load())
			}
		})
	}
}

// TestParkingLeavesNoDeadline to the request that ends it, where net/http sets none.
func TestParkingLeavesNoDeadline(t *testing.T) {
	for _, idle := range []time.Duration{0, 2 * testParkAfter} {
		s := serveParking(t, testParkAfter/10, func(s *http.Server) { s.ReadHeaderTimeout, s.IdleTimeout = 0, idle })
		c := s.dial()
		for range 2 {
			s.awaitParked(1)
			request := echoRequest("slow")
			c.send(t, request[:20])
			time.Sleep(3 * testParkAfter) // as a slow client
			c.send(t, request[20:])
			c.assertAnswer(t, "slow")
		}
	}
}

// TestParkingLeavesTheHeaderItsTimeout where it is shorter than the one for idle connections.
func TestParkingLeavesTheHeaderItsTimeout(t *testing.T) {
	for _, parked := range []bool{true, false} {
		s := serveParking(t, testParkAfter, func(s *http.Server) { s.ReadHeaderTimeout, s.IdleTimeout = 2*testParkAfter, time.Hour })
		c := s.dial()
		c.exchange(t, "before")
		if parked {
			s.awaitParked(1)
		}
		begin := time.Now()
		c.send(t, echoRequest("slow")[:20])
		status, _, err := c.answer()
		require.NoError(t, err)
		assert.Equal(t, http.StatusBadRequest, status, "as net/http does")
		assert.InDelta(t, (2 * testParkAfter).Seconds(), time.Since(begin).Seconds(), 0.8*testParkAfter.Seconds())
	}
}

func TestParkedConnectionsEndWithTheClient(t *testing.T) {
	s := serveParking(t, time.Millisecond)
	for range 10 {
		s.dial().exchange(t, "before")
		s.dial() // never sends
	}
	gone := s.dial()
	gone.exchange(t, "before")
	s.awaitParked(21)
	require.NoError(t, gone.Close())
	s.awaitParked(20)
	reset := s.dial()
	s.awaitParked(21)
	require.NoError(t, reset.Conn.(*net.TCPConn).SetLinger(0)) // RST
	require.NoError(t, reset.Close())
	s.awaitParked(20)
}

func TestShutdownClosesParkedConnections(t *testing.T) {
	s := serveParking(t, time.Millisecond)
	var clients []*parkingClient
	for range 10 {
		c := s.dial()
		c.exchange(t, "before")
		clients = append(clients, c, s.dial())
	}
	s.awaitParked(20)
	begin := time.Now()
	require.NoError(t, s.Shutdown(context.WithoutCancel(t.Context())))
	assert.Less(t, time.Since(begin), 2*time.Second)
	for _, c := range clients {
		c.assertClosed(t)
	}
	_, err := s.listener.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

// TestParkingClosesOnce, since the connection may be net/http's again; and for good once the listener is closed.
func TestParkingClosesOnce(t *testing.T) {
	s := serveParking(t, testParkAfter)
	other, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	require.NoError(t, err)
	defer other.Close()
	leave := func() (*parkingClient, *parkingConn) {
		client, err := net.Dial("tcp", other.Addr().String()) //nolint:noctx // at once
		require.NoError(t, err)
		require.NoError(t, client.SetDeadline(time.Now().Add(10*time.Second)))
		t.Cleanup(func() { _ = client.Close() })
		server, err := other.Accept()
		require.NoError(t, err)
		c := &parkingConn{TCPConn: server.(*net.TCPConn), listener: s.listener}
		c.parking.Store(true)
		require.NoError(t, c.Close())
		return &parkingClient{client, bufio.NewReader(client)}, c
	}
	client, c := leave()
	s.awaitParked(1)
	require.ErrorIs(t, c.Close(), net.ErrClosed)
	s.awaitParked(1)
	client.exchange(t, "still there")

	require.NoError(t, s.Shutdown(context.WithoutCancel(t.Context())))
	client, _ = leave()
	client.assertClosed(t)
}

// TestShutdownWhileParking ends the server while clients send and connections are parked: a connection is served or
// closed, whatever it is at.
func TestShutdownWhileParking(t *testing.T) {
	for range 20 {
		s := serveParking(t, time.Millisecond)
		var clients sync.WaitGroup
		for range 16 {
			c := s.dial()
			clients.Go(func() {
				for {
					if _, err := io.WriteString(c, echoRequest("body")); err != nil {
						return
					}
					if _, _, err := c.answer(); err != nil {
						assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "neither served nor closed")
						return
					}
					time.Sleep(rand.N(2 * time.Millisecond)) // so that some are parked, others not
				}
			})
		}
		time.Sleep(rand.N(20 * time.Millisecond)) // Shutdown comes at any moment
		require.NoError(t, s.Shutdown(context.WithoutCancel(t.Context())))
		clients.Wait()
		assert.Zero(t, s.parked())
	}
}

// TestReceiverParksConnections keeps Start parking, but not where net/http has to know what the connection is.
func TestReceiverParksConnections(t *testing.T) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	post := func(url string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/track", strings.NewReader(`{"event":"e"}`))
		require.NoError(t, err)
		resp, err := (&http.Client{Transport: transport}).Do(req)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, http.StatusOK, resp.StatusCode)
	}

	plain := startReceiver(t)
	assert.Nil(t, plain.server.Protocols, "or it may speak HTTP/2 without TLS, which must not be parked")
	l := plain.listener.(*parkingListener)
	s := &parkingServer{t: t, listener: l}
	for range lendAlways {
		s.dial()
	}
	require.Eventually(t, func() bool { return l.lent.Load() == lendAlways }, 10*time.Second, time.Millisecond)
	for range 2 {
		post(plain.url)
		s.awaitParked(1)
	}

	secure := startReceiver(t, func(c *Config) {
		certificate, key := newCertificate(t)
		c.TLS = configoptional.Some(configtls.ServerConfig{Config: configtls.Config{CertPem: certificate, KeyPem: key}})
	})
	assert.IsNotType(t, l, secure.listener)
	post("https://" + secure.listener.Addr().String())

	local := startReceiver(t, func(c *Config) {
		c.NetAddr = confignet.AddrConfig{Endpoint: t.TempDir() + "/socket", Transport: confignet.TransportTypeUnix}
	})
	assert.IsType(t, &net.UnixListener{}, local.listener)
}

func newCertificate(t *testing.T) (certificate, key configopaque.String) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	private, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	return configopaque.String(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
		configopaque.String(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fastjson"
)

// handler is what the collector is compared with.
type handler string

const (
	bare    handler = "bare"    // reads the body, throws it away and answers as the receiver does
	pooled  handler = "pooled"  // bare, but uses gzip readers again
	reading handler = "reading" // parses the body with valyala/fastjson, and reads what makes an event
)

func (h handler) describe() string {
	switch h {
	case pooled:
		return "bare handler that uses its gzip readers again"
	case reading:
		return "handler that reads the fields"
	default:
		return "bare handler"
	}
}

// readers are gzip readers that are used again.
var readers = sync.Pool{New: func() any { return new(gzip.Reader) }}

// open returns what decompresses body, and what to do afterwards: with the standard library, and for the bare handler with a
// reader for each request, as examples and confighttp have it.
func (h handler) open(body io.Reader) (io.Reader, func(), error) {
	if h == bare {
		r, err := gzip.NewReader(body)
		return r, func() {}, err
	}
	r := readers.Get().(*gzip.Reader)
	err := r.Reset(body)
	return r, func() { readers.Put(r) }, err
}

// parser is what the reading handler uses again.
type parser struct {
	body   bytes.Buffer
	json   fastjson.Parser
	events []event
}

var parsers = sync.Pool{New: func() any { return new(parser) }}

// event is what the receiver reads of a message.
type event struct {
	kind, name, source, timestamp, id []byte
	value                             float64
	off                               bool
}

// read reads body to its end, and the fields of its messages.
func (h handler) read(body io.Reader) error {
	if h != reading {
		_, err := io.Copy(io.Discard, body)
		return err
	}
	p := parsers.Get().(*parser)
	defer parsers.Put(p)
	p.body.Reset()
	if _, err := p.body.ReadFrom(body); err != nil {
		return err
	}
	parsed, err := p.json.ParseBytes(p.body.Bytes())
	if err != nil {
		return err
	}
	p.events = p.events[:0]
	for _, m := range parsed.GetArray("batch") {
		e := event{
			kind: m.GetStringBytes("type"), name: m.GetStringBytes("event"), source: m.GetStringBytes("context", "Librato", "source"),
			timestamp: m.GetStringBytes("timestamp"), id: m.GetStringBytes("messageId"), value: m.GetFloat64("properties", "value"),
		}
		for _, name := range []string{"All", "Librato"} {
			on := m.Get("integrations", name)
			e.off = e.off || on != nil && on.Type() == fastjson.TypeFalse
		}
		p.events = append(p.events, e)
	}
	return nil
}

// serveHandler serves one of the handlers until SIGTERM.
func serveHandler(addr string, h handler) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	contentType, success := []string{"application/json"}, []byte(`{"success":true}`)
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			var body io.Reader = req.Body
			if req.Header.Get("Content-Encoding") == "gzip" {
				unzip, free, err := h.open(body)
				defer free()
				if err != nil {
					http.Error(w, "not gzip", http.StatusBadRequest)
					return
				}
				body = unzip
			}
			if err := h.read(body); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			w.Header()["Content-Type"] = contentType
			_, _ = w.Write(success)
		}),
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-stop
		_ = server.Close()
	}()
	fmt.Println("listening")
	if err := server.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	return nil
}

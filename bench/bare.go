// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
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
)

// serveBare is what everything is measured against: a net/http handler that reads the body, throws it away and answers as
// the receiver does. It decompresses with the standard library, with a reader for each request as examples and confighttp
// have it, or, if pooled, with readers used again. It serves until SIGTERM.
func serveBare(addr string, pooled bool) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	readers := sync.Pool{New: func() any { return new(gzip.Reader) }}
	open := func(body io.Reader) (io.Reader, func(), error) {
		if !pooled {
			r, err := gzip.NewReader(body)
			return r, func() {}, err
		}
		r := readers.Get().(*gzip.Reader)
		err := r.Reset(body)
		return r, func() { readers.Put(r) }, err
	}
	contentType, success := []string{"application/json"}, []byte(`{"success":true}`)
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			var body io.Reader = req.Body
			if req.Header.Get("Content-Encoding") == "gzip" {
				unzip, free, err := open(body)
				defer free()
				if err != nil {
					http.Error(w, "not gzip", http.StatusBadRequest)
					return
				}
				body = unzip
			}
			if _, err := io.Copy(io.Discard, body); err != nil {
				http.Error(w, "cut off", http.StatusBadRequest)
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

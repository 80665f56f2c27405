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
// the receiver does. It decompresses with the standard library, readers used again. It serves until SIGTERM.
func serveBare(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	readers := sync.Pool{New: func() any { return new(gzip.Reader) }}
	contentType, success := []string{"application/json"}, []byte(`{"success":true}`)
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			var body io.Reader = req.Body
			if req.Header.Get("Content-Encoding") == "gzip" {
				unzip := readers.Get().(*gzip.Reader)
				defer readers.Put(unzip)
				if err := unzip.Reset(body); err != nil {
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

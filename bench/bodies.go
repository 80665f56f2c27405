// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"regexp"
	"strconv"
)

// recording is a batch that @segment/analytics-node sent, taken apart; record.mjs makes it.
type recording struct {
	header   []byte // request line and headers but for the length, each with its line end
	messages [][]byte
	tail     []byte // what follows the messages, from the closing bracket on
}

var (
	contentLength = regexp.MustCompile(`(?i)content-length: \d+\r\n`)
	librato       = regexp.MustCompile(`"source":"web-(\d)\.example\.com"`)
	messageID     = regexp.MustCompile(`"messageId":"[^"]*-([0-9a-f]{12})"`)
)

// readRecording reads testdata/batch.http.
func readRecording(path string) (*recording, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the path is this program's own
	if err != nil {
		return nil, err
	}
	const open, next = `{"batch":[`, `},{"timestamp":`
	header, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	end := bytes.LastIndex(body, []byte("]"))
	if !ok || !bytes.HasPrefix(body, []byte(open)) || end < 0 {
		return nil, fmt.Errorf("%s: not a recorded batch", path)
	}
	r := &recording{header: contentLength.ReplaceAll(append(header, "\r\n"...), nil), tail: body[end:]}
	r.messages = bytes.Split(body[len(open):end], []byte(next))
	for i, m := range r.messages {
		if i > 0 {
			m = append([]byte(next[2:]), m...)
		}
		if i < len(r.messages)-1 {
			m = append(bytes.Clone(m), '}')
		}
		if !messageID.Match(m) {
			return nil, fmt.Errorf("%s: message %d has no id of the SDK's form", path, i)
		}
		r.messages[i] = m
	}
	return r, nil
}

// body returns a batch of n messages, from the one numbered first on.
func (r *recording) body(n, first int) []byte {
	b := []byte(`{"batch":[`)
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, r.messages[(first+i)%len(r.messages)]...)
	}
	return append(b, r.tail...)
}

// widen makes the source of each message one of 10,000: room for five digits instead of one.
func (r *recording) widen() *recording {
	wide := &recording{header: r.header, tail: r.tail}
	for _, m := range r.messages {
		wide.messages = append(wide.messages, librato.ReplaceAll(m, []byte(`"source":"web-0000$1.example.com"`)))
	}
	return wide
}

// request is an HTTP request that is written as it stands, once its ids are those of messages never sent before.
type request struct {
	bytes   []byte
	events  int
	ids     []int // where the last twelve hex digits of each messageId stand
	sources []int // where the five digits of each source stand, of a recording that was widened
}

func (r *recording) request(body []byte, events int, zipped bool) *request {
	encoding := ""
	if zipped {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(body) // a bytes.Buffer takes everything
		_ = w.Close()
		body, encoding = b.Bytes(), "content-encoding: gzip\r\n"
	}
	q := &request{events: events}
	q.bytes = append(q.bytes, r.header...)
	q.bytes = append(q.bytes, encoding+"content-length: "+strconv.Itoa(len(body))+"\r\n\r\n"...)
	start := len(q.bytes)
	q.bytes = append(q.bytes, body...)
	if !zipped {
		for _, at := range messageID.FindAllSubmatchIndex(body, -1) {
			q.ids = append(q.ids, start+at[2])
		}
		for _, at := range wideSource.FindAllSubmatchIndex(body, -1) {
			q.sources = append(q.sources, start+at[2])
		}
	}
	return q
}

var wideSource = regexp.MustCompile(`"source":"web-(\d{5})\.example\.com"`)

// number gives every message an id of its own, as if the SDK had drawn it.
func (q *request) number(first uint64) {
	const digits = "0123456789abcdef"
	for i, at := range q.ids {
		n := first + uint64(i)
		for k := at + 11; k >= at; k-- {
			q.bytes[k] = digits[n&15]
			n >>= 4
		}
	}
}

// spread gives the messages sources from first on: ten messages, one of each name, share one.
func (q *request) spread(first int) {
	for i, at := range q.sources {
		n := (first + i/10) % 10_000
		for k := at + 4; k >= at; k-- {
			q.bytes[k] = byte('0' + n%10)
			n /= 10
		}
	}
}

// numberBody does what number does, for a body that is compressed afterwards.
func numberBody(body []byte, first uint64) {
	q := request{bytes: body}
	for _, at := range messageID.FindAllSubmatchIndex(body, -1) {
		q.ids = append(q.ids, at[2])
	}
	q.number(first)
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/collector/config/confighttp"
)

// decoders returns the readers of compressed bodies that are not confighttp's own.
func decoders(config *Config) (options []confighttp.ToServerOption) {
	// This is how confighttp is told to leave a body alone.
	asItIs := func(io.ReadCloser) (io.ReadCloser, error) { return nil, nil } //nolint:nilnil // see above
	for encoding, d := range map[string]struct {
		enabledBy string
		open      func(body io.ReadCloser) (io.ReadCloser, error)
	}{
		"gzip":     {"gzip", newGzipReader},
		"zstd":     {"zstd", asItIs}, // see unpack
		"identity": {"", asItIs},
	} {
		if config.CompressionAlgorithms == nil || slices.Contains(config.CompressionAlgorithms, d.enabledBy) {
			options = append(options, confighttp.WithDecoder(encoding, d.open))
		}
	}
	return options
}

// newZstdDecoder returns what decompresses zstd. It unpacks whole bodies: to unpack one as it arrives takes a window
// whose size its first bytes say, of any number of megabytes.
func newZstdDecoder(config *Config) (*zstd.Decoder, error) {
	const window = 8 << 20 // as encoders name it, even for a small body
	return zstd.NewReader(nil, zstd.WithDecoderMaxMemory(uint64(max(config.MaxRequestBodySize, window))))
}

// unpack decompresses what confighttp left packed.
func (r *segmentReceiver) unpack(q *request, req *http.Request) error {
	if req.Header.Get("Content-Encoding") != "zstd" {
		return nil
	}
	limit := r.config.MaxRequestBodySize
	unpacked, err := r.zstd.DecodeAll(q.buf, q.unpacked[:0])
	q.buf, q.unpacked = unpacked, q.buf
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), err == nil && int64(len(unpacked)) > limit:
		return bodyRefusal(&http.MaxBytesError{Limit: limit})
	case err != nil:
		return bodyRefusal(err)
	case !r.memory.take(req.Context(), &q.held, int64(len(unpacked))):
		return r.overloaded(q)
	}
	return nil
}

// gzipReader decompresses a body. What it wraps is pooled, since its tables are large, and of a library that is
// faster than the one that confighttp takes (BenchmarkGzip).
type gzipReader struct {
	reader *gzip.Reader // nil once it is closed
}

var gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}

// newGzipReader returns what reads body decompressed.
func newGzipReader(body io.ReadCloser) (io.ReadCloser, error) {
	r := gzipReaders.Get().(*gzip.Reader)
	if err := r.Reset(body); err != nil {
		gzipReaders.Put(r)
		return nil, err
	}
	return &gzipReader{r}, nil
}

func (r *gzipReader) Read(b []byte) (int, error) {
	if r.reader == nil {
		return 0, os.ErrClosed
	}
	return r.reader.Read(b)
}

// Close makes the reader free for another body. It may be called again, as middleware does that closes bodies.
func (r *gzipReader) Close() error {
	if r.reader == nil {
		return nil
	}
	err := r.reader.Close()
	gzipReaders.Put(r.reader)
	r.reader = nil
	return err
}

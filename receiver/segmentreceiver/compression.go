// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"go.opentelemetry.io/collector/config/confighttp"
)

// decoders returns the readers of compressed bodies that are not confighttp's own.
func decoders(config *Config) []confighttp.ToServerOption {
	if config.CompressionAlgorithms != nil && !slices.Contains(config.CompressionAlgorithms, "gzip") {
		return nil
	}
	return []confighttp.ToServerOption{confighttp.WithDecoder("gzip", newGzipReader)}
}

// gzipReader decompresses a body. It is pooled, since its tables are large, and of a library that is faster than the one that
// confighttp takes (BenchmarkGzip).
type gzipReader struct{ gzip.Reader }

var gzipReaders = sync.Pool{New: func() any { return new(gzipReader) }}

// newGzipReader returns what reads body decompressed, and is free for others once it is closed.
func newGzipReader(body io.ReadCloser) (io.ReadCloser, error) {
	r := gzipReaders.Get().(*gzipReader)
	if err := r.Reset(body); err != nil {
		gzipReaders.Put(r)
		return nil, err
	}
	return r, nil
}

// Close gives r back. It is called once, by confighttp, after the answer.
func (r *gzipReader) Close() error {
	err := r.Reader.Close()
	gzipReaders.Put(r)
	return err
}

module github.com/otelcol-segment/otelcol-segment/bench

go 1.26.8

replace github.com/otelcol-segment/otelcol-segment => ../

require (
	github.com/klauspost/compress v1.19.1 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

module github.com/otelcol-segment/otelcol-segment/bench

go 1.26.8

replace github.com/otelcol-segment/otelcol-segment => ../

require (
	golang.org/x/sys v0.49.0 // indirect
)

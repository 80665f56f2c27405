// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

type libratoExporter struct{}

func newExporter(*Config, exporter.Settings) (*libratoExporter, error) {
	return &libratoExporter{}, nil
}

func (*libratoExporter) start(context.Context, component.Host) error { return nil }

func (*libratoExporter) shutdown(context.Context) error { return nil }

func (*libratoExporter) consume(context.Context, pmetric.Metrics) error { return nil }

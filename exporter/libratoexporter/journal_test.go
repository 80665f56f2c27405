// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// nopComponent is an extension that does nothing.
type nopComponent struct{}

func (nopComponent) Start(context.Context, component.Host) error { return nil }
func (nopComponent) Shutdown(context.Context) error              { return nil }

// storageOf is a storage extension that hands out client, or fails.
type storageOf struct {
	nopComponent
	client storage.Client
	err    error
}

func (s storageOf) GetClient(context.Context, component.Kind, component.ID, string) (storage.Client, error) {
	if s.client == nil {
		return storage.NewNopClient(), s.err
	}
	return s.client, s.err
}

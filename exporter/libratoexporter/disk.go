// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"

	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
)

// disk writes to the storage client, one transaction at a time: begin, set and delete, then write.
//
// A transaction that failed proves nothing: the disk may hold what was before it or what would be after it. Its keys are
// unsure until makeSure has put them right.
type disk struct {
	client    storage.Client
	telemetry *metadata.TelemetryBuilder
	ops       []*storage.Operation // of the transaction that is put together
	unsure    map[string]struct{}
}

func newDisk(client storage.Client, telemetry *metadata.TelemetryBuilder) *disk {
	return &disk{client: client, telemetry: telemetry, unsure: map[string]struct{}{}}
}

func (d *disk) begin() { d.ops = d.ops[:0] }

// set makes value that of the key. It is not copied.
func (d *disk) set(key string, value []byte) { d.ops = append(d.ops, storage.SetOperation(key, value)) }

func (d *disk) delete(key string) { d.ops = append(d.ops, storage.DeleteOperation(key)) }

// write ends the transaction.
func (d *disk) write() error {
	if len(d.ops) == 0 {
		return nil
	}
	// Not the context of a call: once it has joined a group only the transaction decides.
	err := d.client.Batch(context.Background(), d.ops...)
	if err != nil {
		d.telemetry.ExporterLibratoCommitFailures.Add(context.Background(), 1)
		for _, op := range d.ops {
			if !isFloorKey(op.Key) { // a floor that is too high does no harm
				d.unsure[op.Key] = struct{}{}
			}
		}
		return err
	}
	written := 0
	for _, op := range d.ops {
		written += len(op.Key) + len(op.Value)
	}
	d.telemetry.ExporterLibratoCommits.Add(context.Background(), 1)
	d.telemetry.ExporterLibratoCommitBytes.Add(context.Background(), int64(written))
	return nil
}

// isSure says whether the disk holds of the increment what memory does.
func (d *disk) isSure(inc *increment) bool {
	_, unsure := d.unsure[inc.key]
	return !unsure
}

// makeSure writes what is unsure again, before anything else is written: so a disk that stays full makes no more than one
// transaction's keys unsure. What belongs to none of the increments of the state is deleted.
func (d *disk) makeSure(s *state) error {
	if len(d.unsure) == 0 {
		return nil
	}
	d.begin()
	for _, list := range [][]*increment{s.open, s.sealed} {
		for _, inc := range list {
			if !d.isSure(inc) && inc.state != stateDone {
				d.set(inc.key, appendIncrement(nil, inc, &staged{inc.value, inc.second}))
				delete(d.unsure, inc.key)
			}
		}
	}
	for key := range d.unsure {
		d.delete(key)
	}
	clear(d.unsure)
	return d.write()
}

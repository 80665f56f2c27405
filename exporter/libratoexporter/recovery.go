// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// recovery reads the state that an earlier run left: its increments come back sealed, since any of them may have been
// posted. What does not decode is set aside under its key, and said.
type recovery struct {
	state    *state
	ids      *idLog
	number   uint64 // the last of an ids key
	client   storage.Client
	logger   *zap.Logger
	refusals *refusals
	now      int64

	found []idEntry
}

func (r *recovery) run(ctx context.Context) error {
	walker, ok := r.client.(storage.Walker)
	if !ok {
		return errors.New("storage: this extension cannot list its keys; use one that can, such as file_storage")
	}
	version, err := r.client.Get(ctx, keyVersion)
	if err != nil {
		return fmt.Errorf("storage: cannot read the state: %w", err)
	}
	if err := checkVersion(version); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	if err := walker.Walk(ctx, r.entry); err != nil {
		return fmt.Errorf("storage: cannot read the state: %w", err)
	}
	if err := r.join(ctx); err != nil {
		return fmt.Errorf("storage: cannot write the state: %w", err)
	}
	slices.SortFunc(r.state.sealed, func(a, b *increment) int { return cmp.Compare(a.second, b.second) })
	for _, e := range r.found { // in the order of their keys, which is that of time
		for _, id := range e.ids {
			r.state.ids.Add(id, time.Unix(0, e.time))
		}
		r.ids.found(e.idChunk)
		r.number = max(r.number, e.number)
	}
	if string(version) != writtenVersion {
		if err := r.client.Set(ctx, keyVersion, []byte(writtenVersion)); err != nil {
			return fmt.Errorf("storage: cannot write the state: %w", err)
		}
	}
	if n := len(r.state.sealed); n > 0 {
		r.logger.Info("recovered increments from storage", zap.Int("increments", n), zap.Int("message_ids", r.state.ids.Len()))
	}
	return nil
}

// entry takes up one entry, or returns what sets it aside.
func (r *recovery) entry(key string, value []byte) ([]*storage.Operation, error) {
	e, err := decodeEntry(key, value)
	if err != nil {
		r.logger.Error("an entry of the state in storage does not decode and is set aside; what it held is not sent",
			zap.String("key", key), zap.String("kept_as", asideKey(key)), zap.Error(err))
		r.refusals.lost(reasonUndecodable, 0)
		return []*storage.Operation{
			storage.SetOperation(asideKey(key), slices.Clone(value)),
			storage.DeleteOperation(key),
		}, nil
	}
	switch e := e.(type) {
	case *increment:
		r.increment(e)
	case usedRange:
		r.state.used.recovered(e.start, e.period, e.last)
	case idEntry:
		r.found = append(r.found, e)
	}
	return nil, nil
}

func (r *recovery) increment(inc *increment) {
	s := r.state
	fresh := inc.stream
	switch { // the API may have changed
	case s.streams.api.Tagged && fresh.tags == nil:
		source := cmp.Or(librato.CleanTagValue(fresh.source), librato.Unassigned)
		fresh.source, fresh.tags = "", []librato.Tag{{Name: librato.SourceTag, Value: source}}
	case !s.streams.api.Tagged && fresh.tags != nil:
		for _, tag := range fresh.tags {
			if tag.Name == librato.SourceTag {
				fresh.source = librato.CleanSource(tag.Value)
			}
		}
		fresh.tags = nil
	}
	st := s.streams.add(fresh) // what is on disk was taken: a smaller max_streams must not lose it
	st.used = r.now
	inc.stream = st
	inc.due = inc.second * int64(time.Second) // the clock may have been ahead, or its second after many starts
	if st.kind == kindAdding {
		// Its second was saved with it. Should that entry be lost, the increment still keeps its second.
		s.used.handOut(inc.start, inc.period, inc.second)
	}
	s.addSealed(inc)
	if inc.due > r.now {
		st.ahead++
		s.ahead = append(s.ahead, inc)
	}
}

// join adds up increments that a change of api brought to one second of one stream: tags told them apart.
func (r *recovery) join(ctx context.Context) error {
	type place struct {
		stream *stream
		second int64
	}
	s := r.state
	places := map[place]*increment{}
	var ops []*storage.Operation
	var joined []*increment
	for _, inc := range s.sealed {
		at := place{inc.stream, inc.second}
		into := places[at]
		if into == nil {
			places[at] = inc
			continue
		}
		into.value.Add(inc.value)
		joined = append(joined, inc)
		ops = append(ops,
			storage.SetOperation(into.key, appendIncrement(nil, into, &staged{into.value, into.second})),
			storage.DeleteOperation(inc.key))
	}
	if len(ops) == 0 {
		return nil
	}
	s.settle(joined)
	s.sealed = slices.DeleteFunc(s.sealed, func(inc *increment) bool { return inc.state == stateDone })
	return r.client.Batch(ctx, ops...)
}

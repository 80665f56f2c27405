// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Package crashstorage is a storage extension for tests: it wraps another one and kills the process, as kill -9 does, at
// the n-th operation on it, or breaks the promise that what it took is stored.
//
//	extensions:
//	  file_storage: {directory: …}
//	  crash_storage:
//	    storage: file_storage
//	    on: confirm   # any, recover, commit, confirm, merge
//	    at: 3         # the third of those kills; 0: none does
//	    after: true   # once it is done; false: before it begins
//	    late: 200ms   # answers at once and writes so much later; 0: writes, then answers
//	    fail: 0.1     # the share of transactions that fail, half of them after they were written
//
// It tells the operations of the librato exporter apart by its keys.
package crashstorage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/extensioncapabilities"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// Kind is what an operation is to the exporter.
type Kind string

const (
	Any     Kind = "any"     // every operation that may write
	Recover Kind = "recover" // the walk at start, and the first write of the version
	Commit  Kind = "commit"  // increments and message ids, before the answer
	Confirm Kind = "confirm" // deletes what was delivered
	Merge   Kind = "merge"   // puts message ids together
)

// Config says what is wrapped and when it kills.
type Config struct {
	Storage component.ID  `mapstructure:"storage"`
	On      Kind          `mapstructure:"on"`
	At      int           `mapstructure:"at"`
	After   bool          `mapstructure:"after"`
	Late    time.Duration `mapstructure:"late"`
	Fail    float64       `mapstructure:"fail"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// NewFactory returns the extension's factory.
func NewFactory() extension.Factory {
	return extension.NewFactory(component.MustNewType("crash_storage"),
		func() component.Config { return &Config{On: Any} },
		func(_ context.Context, _ extension.Settings, cfg component.Config) (extension.Extension, error) {
			return &crashStorage{cfg: cfg.(*Config)}, nil
		},
		component.StabilityLevelDevelopment)
}

type crashStorage struct {
	cfg  *Config
	host component.Host

	mu sync.Mutex
	n  int // operations of the kind that kills
}

var (
	_ storage.Extension               = (*crashStorage)(nil)
	_ extensioncapabilities.Dependent = (*crashStorage)(nil)
)

func (s *crashStorage) Start(_ context.Context, host component.Host) error {
	s.host = host
	return nil
}

func (*crashStorage) Shutdown(context.Context) error { return nil }

func (s *crashStorage) Dependencies() []component.ID { return []component.ID{s.cfg.Storage} }

func (s *crashStorage) GetClient(ctx context.Context, kind component.Kind, id component.ID, name string) (storage.Client, error) {
	inner, ok := s.host.GetExtensions()[s.cfg.Storage].(storage.Extension)
	if !ok {
		return nil, fmt.Errorf("%q is no storage extension", s.cfg.Storage)
	}
	c, err := inner.GetClient(ctx, kind, id, name)
	if err != nil {
		return nil, err
	}
	walker, ok := c.(storage.Walker)
	if !ok {
		return nil, fmt.Errorf("%q cannot list its keys", s.cfg.Storage)
	}
	return &client{Client: c, walker: walker, storage: s}, nil
}

// around runs an operation, and ends the process before or after it if it is the one.
func (s *crashStorage) around(kind Kind, operation func() error) error {
	dies := false
	if s.cfg.At > 0 && (s.cfg.On == Any || s.cfg.On == kind) {
		s.mu.Lock()
		s.n++
		dies = s.n == s.cfg.At
		s.mu.Unlock()
	}
	if dies && !s.cfg.After {
		die()
	}
	err := operation()
	if dies {
		die()
	}
	return err
}

// die is kill -9: nothing that is deferred or buffered in the process happens any more.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// client is one component's storage.
type client struct {
	storage.Client
	walker  storage.Walker
	storage *crashStorage
	late    sync.Mutex // writes that are late keep their order
}

func (c *client) Set(ctx context.Context, key string, value []byte) error {
	return c.storage.around(Recover, func() error { return c.Client.Set(ctx, key, value) })
}

func (c *client) Walk(ctx context.Context, fn storage.WalkFunc) error {
	return c.storage.around(Recover, func() error { return c.walker.Walk(ctx, fn) })
}

func (c *client) Batch(ctx context.Context, ops ...*storage.Operation) error {
	kind := kindOf(ops)
	if c.storage.cfg.Late > 0 {
		copied := make([]*storage.Operation, len(ops))
		for i, op := range ops {
			o := *op
			o.Value = append([]byte(nil), op.Value...)
			copied[i] = &o
		}
		c.late.Lock()
		go func() {
			defer c.late.Unlock()
			time.Sleep(c.storage.cfg.Late)
			_ = c.Client.Batch(context.WithoutCancel(ctx), copied...) // too late to tell anyone
		}()
		return nil
	}
	return c.storage.around(kind, func() error {
		if c.storage.cfg.Fail == 0 {
			return c.Client.Batch(ctx, ops...)
		}
		chance := rand.Float64()
		if chance < c.storage.cfg.Fail/2 {
			return errors.New("crash_storage: not written")
		}
		err := c.Client.Batch(ctx, ops...)
		if err == nil && chance < c.storage.cfg.Fail {
			err = errors.New("crash_storage: written, but who knows")
		}
		return err
	})
}

// kindOf knows the exporter's keys: "i/…" are increments, "m/…" message ids.
func kindOf(ops []*storage.Operation) Kind {
	kind := Commit
	for _, op := range ops {
		if op.Type != storage.Delete {
			continue
		}
		switch {
		case strings.HasPrefix(op.Key, "m/"):
			return Merge
		case strings.HasPrefix(op.Key, "i/"):
			kind = Confirm
		}
	}
	return kind
}

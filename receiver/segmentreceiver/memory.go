// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"context"
	"sync"
	"time"
)

const (
	// firstHold is what a request holds before the first byte of its body is read: its own buffers, and a small body.
	firstHold = 16 << 10
	// smallRequest is up to where a request holds memory of the part that is set aside for small ones.
	smallRequest = 64 << 10
	// messageHold stands for what a message takes beside its bytes in the body: as decoded, and as a data point.
	messageHold = 1 << 10
)

// memory bounds the bytes that all requests hold at once: bodies as far as they were received, and what is made of
// them. A quarter of it is set aside for the first 64 KiB of each request, so that large bodies that arrive slowly do
// not keep small ones out.
type memory struct {
	patience time.Duration // how long a request waits for others to give back

	mu           sync.Mutex
	small, large int64         // free
	freed        chan struct{} // made by the first that waits, closed when something was given back
}

// held is what one request holds.
type held struct{ small, large int64 }

func (h held) sum() int64 { return h.small + h.large }

func newMemory(limit int64) *memory {
	return &memory{patience: 500 * time.Millisecond, small: limit / 4, large: limit - limit/4}
}

// take adds n bytes to h. It waits for them for a while, and is false if there still are too few.
func (m *memory) take(ctx context.Context, h *held, n int64) bool {
	if m.tryTake(h, n) == nil {
		return true
	}
	timer := time.NewTimer(m.patience)
	defer timer.Stop()
	for {
		freed := m.tryTake(h, n)
		if freed == nil {
			return true
		}
		select {
		case <-freed:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// tryTake adds n bytes to h, or returns what is closed when it is worth trying again.
func (m *memory) tryTake(h *held, n int64) (freed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	free, part := &m.large, &h.large
	if h.sum()+n <= smallRequest {
		free, part = &m.small, &h.small
	}
	if *free >= n {
		*free -= n
		*part += n
		return nil
	}
	if m.freed == nil {
		m.freed = make(chan struct{})
	}
	return m.freed
}

// release gives back all that h holds.
func (m *memory) release(h *held) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.small += h.small
	m.large += h.large
	*h = held{}
	if m.freed != nil {
		close(m.freed)
		m.freed = nil
	}
}

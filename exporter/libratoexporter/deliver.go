// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/otelcol-segment/otelcol-segment/exporter/libratoexporter/internal/metadata"
	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// courier posts requests and acts on what the answers mean:
//
//	taken     the increments are confirmed and leave the state
//	refused   offenders are dropped and counted, the rest goes again at once; see halving.go
//	again     they stay as they are, and so does everything else until the service is back
type courier struct {
	poster
	journal   *journal
	refusals  *refusals
	adding    *librato.Properties // what metrics that add up are created with
	consumers int                 // requests at a time
	doubts    *doubts
	conflicts *conflicts
	stop      <-chan struct{} // closed: no further request
}

// deliverAll posts the batches, so many at a time, until all are through, or the service is not to be asked any more.
// Then it returns what it said; of several answers the one that asks for the longest wait.
func (c *courier) deliverAll(ctx context.Context, batches [][]*increment) *librato.Response {
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		again  *librato.Response
		places = make(chan struct{}, c.consumers)
	)
	left := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return again != nil || ctx.Err() != nil || c.stopped()
	}
	for _, batch := range batches {
		places <- struct{}{}
		if left() {
			break
		}
		wg.Go(func() {
			defer func() { <-places }()
			resp := c.deliver(ctx, batch, left)
			mu.Lock()
			defer mu.Unlock()
			if resp != nil && (again == nil || resp.RetryAfter > again.RetryAfter) {
				again = resp
			}
		})
	}
	wg.Wait()
	return again
}

func (c *courier) stopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// deliver posts one batch until each of it is taken or refused, and returns nil; or, if the service says so, leaves the
// rest for later and returns what it said.
func (c *courier) deliver(ctx context.Context, batch []*increment, left func() bool) *librato.Response {
	refusedBefore, othersTaken, alone := c.doubts.known(batch)
	s := newSearch(len(batch), othersTaken, alone, rand.IntN)
	unnamed := make(map[int]unnamedRefusal)
	var last *librato.Response // the last that refused and named nothing
	ms := make([]librato.Measurement, 0, len(batch))
	var again *librato.Response
	for asked, posts := s.ask(), 0; asked != nil; asked, posts = s.ask(), posts+1 {
		if posts > 0 && left() {
			s.leave()
			break
		}
		ms = ms[:0]
		for _, i := range asked {
			ms = append(ms, c.measurement(batch[i]))
		}
		number := c.doubts.begin()
		resp := c.post(ctx, ms)
		verdict := resp.Judge(c.api, ms)
		named, others := divide(asked, verdict.Named)

		switch {
		case verdict.Verdict == librato.VerdictTaken:
			c.doubts.take(number)
			c.refuse(verdict.Reason, chosen(batch, named), resp.Words())
			c.refusals.unnamed(verdict.Unnamed, resp.Words())
			c.confirm(chosen(batch, others), verdict.Unnamed)
			s.taken(len(named) == 0 && verdict.Unnamed == 0)
		case verdict.Verdict == librato.VerdictRefused && len(named) > 0:
			c.refuse(verdict.Reason, chosen(batch, named), resp.Words())
			if verdict.Reason == reasonTypeConflict {
				c.conflicts.add(chosen(batch, named), c.now())
			}
			s.named(others)
		case verdict.Verdict == librato.VerdictRefused, resp.Divisible() && refusedBefore:
			last = &resp
			for _, i := range asked {
				unnamed[i] = unnamedRefusal{verdict.Reason, resp.Words(), verdict.Verdict == librato.VerdictRefused}
			}
			s.unnamed(resp.Status == http.StatusRequestEntityTooLarge)
		default:
			if len(named) > 0 { // it took a part, and says which it did not
				c.confirm(chosen(batch, others), 0)
			}
			if resp.Divisible() {
				c.doubts.add(chosen(batch, asked), false)
			}
			s.leave()
			again = &resp
		}
		if again != nil {
			break
		}
	}
	if everything := c.conclude(s, batch, unnamed, last); again == nil {
		again = everything
	}
	return again
}

// unnamedRefusal is the last answer to a request that held a measurement, if it refused the request and named none of
// it.
type unnamedRefusal struct {
	why   reason
	words string
	final bool // Librato says so, not what may be in between
}

// conclude refuses what a search found, and keeps in doubt what it could not settle. It returns what the service said
// last if that may be about everything.
func (c *courier) conclude(
	s *search, batch []*increment, unnamed map[int]unnamedRefusal, last *librato.Response,
) *librato.Response {
	offenders, alone, open := s.result()
	takes := s.taking && !s.refusesAll()
	for _, i := range offenders {
		if said := unnamed[i]; said.final {
			c.refuse(said.why, batch[i:i+1], said.words)
		} else {
			alone = append(alone, i)
		}
	}
	c.doubts.add(chosen(batch, alone), true)
	if takes || len(alone) == 0 {
		return nil
	}
	c.doubts.add(chosen(batch, open), false)
	resp := *last
	resp.Verdict, resp.Cause = librato.VerdictAgain, librato.CauseEverything
	return &resp
}

// chosen returns those of batch that indexes name.
func chosen(batch []*increment, indexes []int) []*increment {
	incs := make([]*increment, len(indexes))
	for i, index := range indexes {
		incs[i] = batch[index]
	}
	return incs
}

// divide divides asked into those at the ascending positions, and the others.
func divide(asked, positions []int) (at, others []int) {
	if len(positions) == 0 {
		return nil, asked
	}
	for i, index := range asked {
		if len(positions) > 0 && positions[0] == i {
			at = append(at, index)
			positions = positions[1:]
			continue
		}
		others = append(others, index)
	}
	return at, others
}

// measurement is what an increment is posted as: the same each time.
func (c *courier) measurement(inc *increment) librato.Measurement {
	m := librato.Measurement{
		Name:    inc.stream.name,
		Source:  inc.stream.source,
		Tags:    inc.stream.tags,
		Time:    inc.second,
		Counter: inc.stream.kind == kindCounter,
		Summary: inc.value,
	}
	if inc.stream.kind == kindAdding {
		m.Properties = c.adding
	}
	return m
}

// confirm takes what the service answered for out of the state. So many of them it gave up, without saying which: they
// are not counted as sent, and gone all the same, since to send all of them again would count the others twice.
func (c *courier) confirm(incs []*increment, unnamed int) {
	if len(incs) == 0 {
		return
	}
	c.settle(incs)
	counters := 0
	for _, inc := range incs {
		if inc.stream.kind == kindCounter {
			counters++
		}
	}
	countSent(c.telemetry, "gauge", len(incs)-counters-unnamed) // the API that counts what it gave up has no counters
	countSent(c.telemetry, "counter", counters)
}

func countSent(telemetry *metadata.TelemetryBuilder, as string, n int) {
	if n > 0 {
		telemetry.ExporterLibratoMeasurementsSent.Add(context.Background(), int64(n),
			metric.WithAttributeSet(attribute.NewSet(attribute.String("measurement", as))))
	}
}

// refuse drops what the service will not take, and says so.
func (c *courier) refuse(why reason, incs []*increment, words string) {
	if len(incs) == 0 {
		return
	}
	c.settle(incs)
	for _, inc := range incs {
		c.refusals.measurement(why, inc, words)
	}
}

// settle takes increments out of the state for good.
func (c *courier) settle(incs []*increment) {
	c.journal.settle(incs)
	c.doubts.settle(incs)
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import "slices"

// One bad measurement refuses its whole request, and the answer need not name it. So the request is halved until the
// offender is alone. But the same answer may be about none of them: an account that is suspended, a path that is wrong,
// a proxy that is in the way. Halving must then not go through all measurements, and must not drop any. These are the
// rules:
//
//   - A measurement that the answer names is an offender. What follows is about answers that name none.
//   - Before a request is halved, one of its measurements is asked alone, then another from elsewhere. Once one is
//     taken, the service is known to take measurements, and what it refuses is known to be among the others.
//   - A measurement that is refused alone is asked once more, alone, as soon as another was taken. If it is refused
//     again, it is an offender: the service refused it, took another, and refused it.
//   - Where so many as aloneInARow are refused alone, from different places and with none taken in between, it is about
//     none of them. The search ends, and they are kept. So is what was refused alone when nothing is left that could
//     be taken.
//
// A single offender among n costs at most 2·log2(n)+3 requests.

// aloneInARow is how many measurements, each refused alone, show that the service refuses everything.
const aloneInARow = 3

// search is the halving of one request of measurements 0 to n-1. It makes no request: its user asks for what ask
// returns, and says what became of it.
type search struct {
	todo  []*part         // what is to be asked, the next last
	asked *part           // what was asked last
	pick  func(n int) int // a number below n: which measurement of a part is asked alone

	refused   bool  // something was, and not for its size
	taking    bool  // the service takes measurements: it did since it refused these first
	alone     []int // refused alone, and nothing was taken since
	offenders []int
}

// part is a piece of the request.
type part struct {
	of       []int
	other    *part // of the first of two halves: the second
	offends  bool  // it holds an offender, as its other half was taken
	unproven bool  // nothing follows for it from its other half
	from     *part // of a measurement that is asked alone: where it was drawn
	again    bool  // it was refused alone, and another was taken since
}

// newSearch begins with the whole request. taking says that the service took others since it refused these before;
// alone, that it refused them alone.
func newSearch(n int, taking, alone bool, pick func(n int) int) *search {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return &search{todo: []*part{{of: all, again: taking && alone && n == 1}}, taking: taking, pick: pick}
}

// ask returns the measurements of the next request; nil if the search is over.
func (s *search) ask() []int {
	if len(s.todo) == 0 || s.refusesAll() {
		return nil
	}
	if s.refused && !s.taking || len(s.alone) == aloneInARow-1 {
		s.draw()
	}
	for {
		last := len(s.todo) - 1
		s.asked = s.todo[last]
		s.todo = s.todo[:last]
		if !s.asked.offends || len(s.asked.of) == 1 {
			return s.asked.of
		}
		s.halve(s.asked)
	}
}

// draw has one measurement of the part that would be asked last asked next, alone.
func (s *search) draw() {
	p := s.todo[0]
	if len(p.of) == 1 {
		s.todo = append(s.todo[1:], p)
		return
	}
	i := s.pick(len(p.of))
	s.todo = append(s.todo, &part{of: []int{p.of[i]}, from: p})
	p.of = slices.Concat(p.of[:i], p.of[i+1:])
}

// halve has the halves of p asked next, the first of which is not the larger one.
func (s *search) halve(p *part) (first *part) {
	middle := len(p.of) / 2
	second := &part{of: p.of[middle:]}
	first = &part{of: p.of[:middle], other: second}
	s.todo = append(s.todo, second, first)
	return first
}

// taken says that the service took what was asked last: all of it, or but for some that it gave up.
func (s *search) taken(all bool) {
	s.taking = true
	for _, i := range s.alone {
		s.todo = append(s.todo, &part{of: []int{i}, again: true})
	}
	s.alone = s.alone[:0]
	if other := s.asked.other; all && other != nil && !other.unproven {
		other.offends = true
	}
}

// named says that the service refused what was asked last for some, and rest is without those.
func (s *search) named(rest []int) {
	if len(rest) > 0 {
		s.todo = append(s.todo, &part{of: rest})
	}
}

// unnamed says that the service refused what was asked last and named none of it. If it was too large, both of its
// halves may be good.
func (s *search) unnamed(tooLarge bool) {
	if s.asked.again {
		s.offenders = append(s.offenders, s.asked.of...)
		return
	}
	if len(s.asked.of) == 1 {
		s.alone = append(s.alone, s.asked.of[0])
		if from := s.asked.from; from != nil {
			from.offends, from.unproven = false, true // this one may have been the offender
		}
		return
	}
	first := s.halve(s.asked)
	if tooLarge {
		first.other = nil
		return
	}
	s.refused = true
}

// leave says that nothing more is to be asked, and what was asked last is not settled.
func (s *search) leave() { s.todo = append(s.todo, s.asked) }

// refusesAll says that the service refuses whatever it is asked.
func (s *search) refusesAll() bool { return len(s.alone) >= aloneInARow }

// result returns, once the search is over, the offenders; those that were refused alone, and nothing was taken since;
// and those that are not settled.
func (s *search) result() (offenders, alone, open []int) {
	for _, p := range s.todo {
		open = append(open, p.of...)
	}
	return s.offenders, s.alone, open
}

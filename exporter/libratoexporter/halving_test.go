// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func pickFirst(int) int { return 0 }

// ranges reads "0-3,5".
func ranges(t *testing.T, text string) []int {
	t.Helper()
	var all []int
	for r := range strings.SplitSeq(text, ",") {
		var from, to int
		if n, _ := fmt.Sscanf(r, "%d-%d", &from, &to); n < 2 {
			to = from
		}
		for i := from; i <= to && text != ""; i++ {
			all = append(all, i)
		}
	}
	return all
}

// A search asks for what its rules say, in the order that they say. A step is what is asked, and the answer: taken, part (taken
// but for some), refused (and none named), large (too large), or named (its first is).
func TestSearch(t *testing.T) {
	for name, tt := range map[string]struct {
		n                      int
		taking, before         bool
		steps                  string
		offenders, alone, open string
	}{
		"all taken":          {n: 8, steps: "0-7 taken"},
		"one named":          {n: 4, steps: "0-3 named; 1-3 taken"},
		"the only one named": {n: 1, steps: "0 named"},
		"one offender: one is asked alone before the request is halved, and what follows is not asked": {
			n: 8, steps: "0-7 refused; 4 taken; 0-3 refused; 0-1 taken; 2 refused; 3 taken; 2 refused; 5-7 taken", offenders: "2",
		},
		"an offender that nothing is left for": {
			n: 8, steps: "0-7 refused; 4 taken; 0-3 taken; 5 taken; 6 taken; 7 refused", alone: "7",
		},
		"the offender is the one that is asked alone: another is": {
			n: 4, steps: "0-3 refused; 2 refused; 3 taken; 2 refused; 0-1 taken", offenders: "2",
		},
		"once one asked alone was refused, nothing follows for those around it": {
			n: 6, steps: "0-5 refused; 3 refused; 4 taken; 3 refused; 0-2 taken; 5 taken", offenders: "3",
		},
		"one that was refused alone by chance": {
			n: 4, taking: true, steps: "0-3 refused; 0-1 refused; 0 refused; 1 taken; 0 taken; 2-3 taken",
		},
		"two offenders": {
			n: 5, steps: "0-4 refused; 2 taken; 0-1 refused; 0 refused; 1 taken; 0 refused; 3-4 refused; 3 refused; 4 taken; 3 refused",
			offenders: "0,3",
		},
		"several offenders side by side, and others": {
			n: 8, steps: "0-7 refused; 4 taken; 0-3 refused; 0-1 refused; 0 refused; 1 refused; 5 taken; 1 refused; 0 refused; " +
				"2-3 taken; 6-7 taken",
			offenders: "1,0",
		},
		"everything is refused": {
			n: 300, steps: "0-299 refused; 150 refused; 151 refused; 152 refused", alone: "150-152", open: "153-299,0-149",
		},
		"everything is refused from the middle of a search on": {
			n: 8, steps: "0-7 refused; 4 taken; 0-3 refused; 0-1 refused; 0 refused; 1 refused; 5 refused", alone: "0,1,5", open: "6-7,2-3",
		},
		"everything is too large":                            {n: 4, steps: "0-3 large; 0-1 large; 0 large; 1 large; 2 large", alone: "0-2", open: "3"},
		"one alone, and nothing shows that others are taken": {n: 1, steps: "0 refused", alone: "0"},
		"one alone, and others were taken since it was refused with others": {
			n: 1, taking: true, steps: "0 refused", alone: "0",
		},
		"one alone, and others were taken since it was refused alone": {
			n: 1, taking: true, before: true, steps: "0 refused", offenders: "0",
		},
		"two alone, and nothing shows that others are taken": {n: 2, steps: "0-1 refused; 1 refused; 0 refused", alone: "1,0"},
		"others were taken since: halved at once":            {n: 4, taking: true, steps: "0-3 refused; 0-1 taken; 2 taken; 3 taken"},
		"too large: halved at once, and nothing follows from a half that is taken": {
			n: 4, steps: "0-3 large; 0-1 taken; 2-3 taken",
		},
		"nothing follows from a half that was taken in part": {n: 4, taking: true, steps: "0-3 refused; 0-1 part; 2-3 taken"},
		"a name in a half": {n: 4, taking: true, steps: "0-3 refused; 0-1 named; 1 taken; 2-3 taken"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSearch(tt.n, tt.taking, tt.before, pickFirst)
			for step := range strings.SplitSeq(tt.steps, "; ") {
				ask, answer, _ := strings.Cut(step, " ")
				asked := s.ask()
				require.Equal(t, ranges(t, ask), asked, step)
				switch answer {
				case "taken", "part":
					s.taken(answer == "taken")
				case "named":
					s.named(asked[1:])
				default:
					s.unnamed(answer == "large")
				}
			}
			require.Nil(t, s.ask())
			offenders, alone, open := s.result()
			assert.Equal(t, ranges(t, tt.offenders), offenders)
			assert.ElementsMatch(t, ranges(t, tt.alone), alone)
			assert.Equal(t, ranges(t, tt.open), open)
		})
	}
}

// A search that is left keeps what was asked last.
func TestSearchLeft(t *testing.T) {
	s := newSearch(4, true, false, pickFirst)
	s.ask()
	s.unnamed(false)
	s.ask()
	s.leave()
	offenders, alone, open := s.result()
	assert.Empty(t, offenders)
	assert.Empty(t, alone)
	assert.Equal(t, []int{2, 3, 0, 1}, open)
}

// runSearch asks a service that refuses requests which hold a bad measurement, without naming it. It returns how many requests
// the search took.
func runSearch(t *testing.T, n int, bad map[int]bool, pick func(int) int) int {
	t.Helper()
	s := newSearch(n, false, false, pick)
	taken := map[int]bool{}
	requests := 0
	for asked := s.ask(); asked != nil; asked = s.ask() {
		requests++
		if slices.ContainsFunc(asked, func(i int) bool { return bad[i] }) {
			s.unnamed(false)
			continue
		}
		for _, i := range asked {
			if taken[i] {
				t.Fatal("taken twice")
			}
			taken[i] = true
		}
		s.taken(true)
	}
	offenders, alone, open := s.result()
	for _, i := range offenders {
		require.True(t, bad[i], "a good one is given up")
	}
	for _, i := range alone {
		require.True(t, bad[i])
	}
	assert.Equal(t, n, len(taken)+len(offenders)+len(alone)+len(open), "each is settled or open")
	if len(bad) < aloneInARow {
		assert.Empty(t, open)
	}
	return requests
}

// One offender among n costs at most 2·log2(n)+3 requests, wherever it is, and whichever are asked alone.
func TestSearchForOne(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 3, 4, 7, 8, 11, 64, 299, 300, 1000} {
		limit := 2*math.Log2(float64(n)) + 3
		worst := 0
		for bad := range n {
			for _, pick := range []func(int) int{pickFirst, func(n int) int { return n - 1 }, random.IntN} {
				worst = max(worst, runSearch(t, n, map[int]bool{bad: true}, pick))
			}
		}
		t.Logf("one of %d: at most %d requests, the limit is %.1f", n, worst, limit)
		assert.LessOrEqual(t, float64(worst), limit)
	}
}

// Any number of offenders is found with so many requests for each and two more, or all that are left are kept.
func TestSearchForSeveral(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		n := 1 + random.IntN(300)
		bad := map[int]bool{}
		for range random.IntN(6) {
			bad[random.IntN(n)] = true
		}
		requests := runSearch(t, n, bad, random.IntN)
		limit := float64(len(bad))*(2*math.Log2(float64(n))+3) + 2
		require.LessOrEqual(t, float64(requests), limit, fmt.Sprint(n, bad))
	}
}

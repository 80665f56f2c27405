// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Package idsettest makes message ids as an attacker would, for tests.
package idsettest

import (
	"encoding/binary"
	"math/bits"
)

// WriteKey is the key whose ids Colliding makes. With the zero byte behind it, it fills one of xxHash64's lanes.
const WriteKey = "web-key"

// The primes of xxHash64.
const (
	prime1 = 0x9E3779B185EBCA87
	prime2 = 0xC2B2AE3D27D4EB4F
	prime4 = 0x85EBCA77C2B2AE63
	prime5 = 0x27D4EB2F165667C5
)

// Colliding returns n different message ids of WriteKey, of letters, digits and punctuation, that all have the same
// idset.Hasher.Hash. xxHash64 has no secret: after any eight bytes there are eight more that lead to a given state.
func Colliding(n int) []string {
	begin := state(prime5+8+16, lane(WriteKey+"\x00"))
	var (
		ids  []string
		goal uint64 // what the last lane makes of the state, before it is mixed again
		id   [16]byte
	)
	for i := uint64(0); len(ids) < n; i++ {
		for k := range 8 {
			id[k] = 'a' + byte(i>>(4*k)&15)
		}
		middle := state(begin, binary.LittleEndian.Uint64(id[:8]))
		if len(ids) == 0 {
			goal = middle ^ round(lane("aaaaaaaa"))
		}
		last := unround(middle ^ goal)
		binary.LittleEndian.PutUint64(id[8:], last)
		if printable(id[8:]) {
			ids = append(ids, string(id[:]))
		}
	}
	return ids
}

func lane(s string) uint64 { return binary.LittleEndian.Uint64([]byte(s)) }

// state is what follows on h when a lane is read.
func state(h, lane uint64) uint64 { return bits.RotateLeft64(h^round(lane), 27)*prime1 + prime4 }

func round(lane uint64) uint64 { return bits.RotateLeft64(lane*prime2, 31) * prime1 }

func unround(r uint64) uint64 { return bits.RotateLeft64(r*inverse(prime1), -31) * inverse(prime2) }

// inverse returns what p, an odd number, is to be multiplied with to make 1.
func inverse(p uint64) uint64 {
	x := uint64(1)
	for range 6 {
		x *= 2 - p*x
	}
	return x
}

// printable says whether b can stand in a JSON string as it is.
func printable(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

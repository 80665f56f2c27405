// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package librato

import (
	"strings"
	"unicode/utf8"
)

// alphabet says for each ASCII character what is written for it: itself, its lower case, or '-'.
type alphabet [utf8.RuneSelf]byte

const wordCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

var (
	eventAlphabet    = newAlphabet(wordCharacters)
	metricAlphabet   = newAlphabet(wordCharacters + ":")
	tagNameAlphabet  = newAlphabet(wordCharacters + ":").lower()
	tagValueAlphabet = newAlphabet(wordCharacters + `:?\/ `).lower()
)

func newAlphabet(allowed string) alphabet {
	var a alphabet
	for i := range a {
		a[i] = '-'
	}
	for i := range len(allowed) {
		a[allowed[i]] = allowed[i]
	}
	return a
}

func (a alphabet) lower() alphabet {
	for c := 'A'; c <= 'Z'; c++ {
		a[c] = byte(c - 'A' + 'a')
	}
	return a
}

// CleanEventName returns the name of the gauge that Segment's Librato destination made of an event: every
// UTF-16 code unit outside A-Z a-z 0-9 . _ - is replaced by '-', and the first 255 are kept. Invalid UTF-8
// counts as U+FFFD, byte by byte. An event that needs no change is returned as it is, without an allocation.
func CleanEventName(event string) string { return clean(event, &eventAlphabet, MaxNameLength) }

// CleanMetricName is CleanEventName for metrics that are no events: ':' is Librato's as well and stays.
func CleanMetricName(name string) string { return clean(name, &metricAlphabet, MaxNameLength) }

// CleanSource keeps what Librato takes as a source (A-Z a-z 0-9 . : _ -), replaces the rest by '-' and keeps
// the first 255. The reserved word "all", in any case, gets an underscore appended.
func CleanSource(source string) string {
	if len(source) == len(ReservedSource) && strings.EqualFold(source, ReservedSource) {
		return source + "_"
	}
	return clean(source, &metricAlphabet, MaxNameLength)
}

// CleanTagName returns name in the form in which the service stores it: lower case, what it does not take
// replaced by '-', the first 64 kept.
func CleanTagName(name string) string { return clean(name, &tagNameAlphabet, MaxTagNameLength) }

// CleanTagValue does for tag values what CleanTagName does for names; they may also hold '?', '\', '/' and
// spaces, and 255 are kept.
func CleanTagValue(value string) string { return clean(value, &tagValueAlphabet, MaxNameLength) }

// clean maps s through a, with '-' for each UTF-16 code unit that a does not allow, cut after limit units.
// What it returns is ASCII, so bytes, characters and UTF-16 code units are the same there.
func clean(s string, a *alphabet, limit int) string {
	same := 0 // s[:same] needs no change
	for same < len(s) && same < limit && s[same] < utf8.RuneSelf && a[s[same]] == s[same] {
		same++
	}
	if same == len(s) || same == limit {
		return s[:same]
	}
	buf := make([]byte, same, min(len(s), limit))
	copy(buf, s)
	for _, r := range s[same:] {
		if len(buf) == limit {
			break
		}
		switch {
		case r < utf8.RuneSelf:
			buf = append(buf, a[r])
		case r > 0xFFFF && len(buf) < limit-1: // two UTF-16 code units, a surrogate pair
			buf = append(buf, '-', '-')
		default:
			buf = append(buf, '-')
		}
	}
	return string(buf)
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

// The decoder's JSON: members of objects, skipped values, strings, numbers. What a field means is in decode.go, and so
// are the rules for positions.

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// padding follows the body: zeros, so that sixteen bytes can be read at its last.
var padding [16]byte

// maxDepth is how deep a value may be nested below the fields that are read.
const maxDepth = 512

// fail notes that the JSON cannot be followed at i, and returns -1.
func (d *decoder) fail(i int, what string) int {
	if i >= d.size {
		i, what = d.size, "unexpected end of the body"
	}
	message := "not JSON at byte " + strconv.Itoa(i) + ": " + what
	if d.element >= 0 && d.shape != shapeMessage {
		message = d.path(d.element, "") + ": " + message
	}
	d.err = &bodyError{"invalid_json", message}
	return -1
}

// notJSON notes that what stands at i is not JSON, though it can be followed.
func (d *decoder) notJSON(i int, what string) {
	if d.soft == "" {
		d.soft, d.softAt = what, i
	}
}

func (d *decoder) space(i int) int {
	b := d.body
	for b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// enter goes into the object at i. more says whether it has a member, whose key is then at next.
func (d *decoder) enter(i int) (next int, more bool) {
	i = d.space(i + 1)
	switch d.body[i] {
	case '"':
		return i, true
	case '}':
		return i + 1, false
	default:
		return d.fail(i, "expected a key or the end of the object"), false
	}
}

// member reads the key at i and returns it with the position of its value.
func (d *decoder) member(i int) (key []byte, value int) {
	b := d.body
	next, escaped := d.str(i + 1)
	if next < 0 {
		return nil, next
	}
	key = b[i+1 : next-1]
	if escaped {
		key = d.unescape(key)
	}
	if b[next] != ':' {
		if next = d.space(next); b[next] != ':' {
			return nil, d.fail(next, "expected a colon")
		}
	}
	if next++; b[next] <= ' ' {
		next = d.space(next)
	}
	return key, next
}

// leave goes on after a member that ended at i. more says whether there is another, whose key is then at next. A
// negative i is returned as it is.
func (d *decoder) leave(i int) (next int, more bool) {
	if i < 0 {
		return i, false
	}
	b := d.body
	if b[i] <= ' ' {
		i = d.space(i)
	}
	switch b[i] {
	case ',':
		if i++; b[i] != '"' {
			if i = d.space(i); b[i] != '"' {
				return d.fail(i, "expected a key"), false
			}
		}
		return i, true
	case '}':
		return i + 1, false
	default:
		return d.fail(i, "expected a comma or the end of the object"), false
	}
}

// skip reads the value at i, whatever it is, and returns the position after it.
func (d *decoder) skip(i int) int {
	b := d.body
	var (
		objects [maxDepth / 64]uint64 // a bit for each level: whether it is an object
		depth   int
		object  bool // the bit of the innermost, without which each comma would cost a look at the bits
	)
value:
	switch c := b[i]; c {
	case '"':
		if i, _ = d.str(i + 1); i < 0 {
			return i
		}
	case '{':
		if i++; b[i] <= ' ' {
			i = d.space(i)
		}
		if b[i] == '}' {
			i++
			break
		}
		if depth == maxDepth {
			return d.fail(i, "nested too deeply")
		}
		objects[depth/64] |= 1 << (depth % 64)
		object = true
		depth++
		goto key
	case '[':
		if i++; b[i] <= ' ' {
			i = d.space(i)
		}
		if b[i] == ']' {
			i++
			break
		}
		if depth == maxDepth {
			return d.fail(i, "nested too deeply")
		}
		objects[depth/64] &^= 1 << (depth % 64)
		object = false
		depth++
		goto value
	default:
		if i = d.skipWord(i); i < 0 {
			return i
		}
	}

	for depth > 0 {
		if b[i] <= ' ' {
			i = d.space(i)
		}
		switch c := b[i]; {
		case c == ',':
			if i++; b[i] <= ' ' {
				i = d.space(i)
			}
			if object {
				goto key
			}
			goto value
		case c == '}' && object, c == ']' && !object:
			i++
			if depth--; depth > 0 {
				object = objects[(depth-1)/64]>>((depth-1)%64)&1 != 0
			}
		case object:
			return d.fail(i, "expected a comma or the end of the object")
		default:
			return d.fail(i, "expected a comma or the end of the array")
		}
	}
	return i

key:
	if b[i] != '"' {
		return d.fail(i, "expected a key")
	}
	if i, _ = d.str(i + 1); i < 0 {
		return i
	}
	if b[i] != ':' {
		if i = d.space(i); b[i] != ':' {
			return d.fail(i, "expected a colon")
		}
	}
	if i++; b[i] <= ' ' {
		i = d.space(i)
	}
	goto value
}

// skipWord reads a number or one of the words that JSON knows, and those that some clients write although it does not.
func (d *decoder) skipWord(i int) int {
	b := d.body
	switch c := b[i]; {
	case c == 't' && string(b[i:i+4]) == "true", c == 'n' && string(b[i:i+4]) == "null":
		return i + 4
	case c == 'f' && string(b[i:i+5]) == "false":
		return i + 5
	case c == 'N' && string(b[i:i+3]) == "NaN":
		d.notJSON(i, "NaN is not JSON")
		return i + 3
	case c == 'I' && string(b[i:i+8]) == "Infinity":
		d.notJSON(i, "Infinity is not JSON")
		return i + 8
	case c == '-' && b[i+1] == 'I' && string(b[i+1:i+9]) == "Infinity":
		d.notJSON(i, "-Infinity is not JSON")
		return i + 9
	case c == '-' || c-'0' <= 9:
		return d.skipNumber(i)
	default:
		return d.fail(i, "expected a value")
	}
}

// skipNumber reads the number at i: -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
func (d *decoder) skipNumber(i int) int {
	b := d.body
	if b[i] == '-' {
		i++
	}
	switch {
	case b[i] == '0':
		i++
	case b[i]-'1' <= 8:
		i = d.skipDigits(i)
	default:
		return d.fail(i, "expected a digit")
	}
	if b[i] == '.' {
		if i++; b[i]-'0' > 9 {
			return d.fail(i, "expected a digit")
		}
		i = d.skipDigits(i)
	}
	if b[i]|0x20 == 'e' {
		if i++; b[i] == '+' || b[i] == '-' {
			i++
		}
		if b[i]-'0' > 9 {
			return d.fail(i, "expected a digit")
		}
		i = d.skipDigits(i)
	}
	return i
}

// skipDigits returns the position after the digits from i on.
func (d *decoder) skipDigits(i int) int {
	for d.body[i]-'0' <= 9 {
		i++
	}
	return i
}

// special looks at eight bytes at once: the lowest bit set in what it returns is in the first byte that is a quote, a
// backslash, a control character or not ASCII; 0 if there is none. It halves the time of a whole batch.
func special(b []byte) uint64 {
	const ones = 0x0101010101010101
	x := binary.LittleEndian.Uint64(b)
	// With the second bit flipped the quote, 0x22, is the space, control characters are still below it, and the space above:
	// one test for both.
	return (((x ^ ones*2) - ones*0x21) | ((x ^ ones*'\\') - ones) | x) & (ones * 0x80)
}

// str reads the rest of the string whose opening quote is before i, and says whether there are escapes in it.
func (d *decoder) str(i int) (next int, escaped bool) {
	b := d.body
	for {
		// Sixteen bytes a turn: a tenth less for a whole batch.
		for {
			w := b[i : i+16 : i+16]
			if m := special(w); m != 0 {
				i += bits.TrailingZeros64(m) / 8
				break
			}
			if m := special(w[8:]); m != 0 {
				i += 8 + bits.TrailingZeros64(m)/8
				break
			}
			i += 16
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1, escaped
		case c == '\\':
			escaped = true
			i = d.escape(i + 1)
		case c < ' ':
			if i >= d.size {
				return d.fail(i, ""), false
			}
			d.notJSON(i, "a control character in a string")
			i++
		default:
			for b[i] >= utf8.RuneSelf {
				r, size := utf8.DecodeRune(b[i:])
				if r == utf8.RuneError && size == 1 {
					d.notJSON(i, "a string that is not UTF-8")
				}
				i += size
			}
		}
	}
}

// escape reads what follows a backslash.
func (d *decoder) escape(i int) int {
	switch d.body[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		if _, ok := hex4(d.body[i+1:]); ok {
			return i + 5
		}
	}
	d.notJSON(i, "an escape that JSON does not know")
	return i // what follows is read as part of the string
}

// hex4 returns the number that the first four bytes are.
func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c-'0' <= 9:
			r = r<<4 | rune(c-'0')
		case c|0x20-'a' <= 5:
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// unescape returns the string whose raw bytes are given. A surrogate without its other half becomes U+FFFD.
func (d *decoder) unescape(raw []byte) []byte {
	start := len(d.arena)
	for len(raw) > 0 {
		run := bytes.IndexByte(raw, '\\')
		if run < 0 || run+1 == len(raw) {
			run = len(raw)
		}
		d.arena = append(d.arena, raw[:run]...)
		if raw = raw[run:]; len(raw) == 0 {
			break
		}
		c := raw[1]
		raw = raw[2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, ok := hex4(raw)
			if !ok {
				continue
			}
			raw = raw[4:]
			if utf16.IsSurrogate(r) {
				low, ok := rune(0), false
				if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
					low, ok = hex4(raw[2:])
				}
				if r = utf16.DecodeRune(r, low); ok && r != utf8.RuneError {
					raw = raw[6:]
				}
			}
			d.arena = utf8.AppendRune(d.arena, r)
			continue
		}
		d.arena = append(d.arena, c)
	}
	return d.arena[start:len(d.arena):len(d.arena)]
}

// parseNumber returns the value of a JSON number; ok is false if a double cannot hold it.
func parseNumber(raw []byte) (value float64, ok bool) {
	if len(raw) <= 15 { // digits alone are the common case, and exact
		n := int64(0)
		for i, c := range raw {
			if c-'0' > 9 {
				break
			}
			n = n*10 + int64(c-'0')
			if i == len(raw)-1 {
				return float64(n), true
			}
		}
	}
	value, err := strconv.ParseFloat(string(raw), 64)
	return value, err == nil
}

// parseNumericString returns the value of a string that is a decimal number, with spaces around it or a plus sign if
// it must be.
func parseNumericString(text []byte) (value float64, ok bool) {
	text = bytes.TrimSpace(text)
	for _, c := range text {
		// ParseFloat takes more: hexadecimal numbers, underscores, infinities.
		if c-'0' > 9 && c != '.' && c != '-' && c != '+' && c|0x20 != 'e' {
			return 0, false
		}
	}
	value, err := strconv.ParseFloat(string(text), 64)
	return value, err == nil
}

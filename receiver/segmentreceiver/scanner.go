// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner walks JSON without building a tree. It knows nothing of what the JSON means.
//
// Its methods take the position of a value in body and return the position after it, or -1 when the JSON cannot be
// followed: failure then says where and why. What can be followed although it is not JSON, like the NaN that Python
// writes, is noted as a flaw, and reading goes on. The end of body is padded with zeros, so that a byte, or sixteen,
// can be read at any position up to its end without a check.
type scanner struct {
	body    []byte // with its padding
	size    int    // without it
	failure scanError
	flaw    scanError // the first since it was cleared; what: "" if there is none
	texts   []byte    // strings that had escapes in them
}

// scanError says what is wrong at a byte of the body. It never quotes the body.
type scanError struct {
	at   int
	what string
}

// padding follows the body.
var padding [16]byte

// maxDepth is how deep a value may be nested.
const maxDepth = 512

// reset makes the scanner ready for body, whose capacity beyond its end, sixteen bytes of it, is overwritten.
func (s *scanner) reset(body []byte) {
	*s = scanner{body: append(body, padding[:]...), size: len(body), texts: s.texts[:0]}
}

// fail notes that the JSON cannot be followed at i, and returns -1.
func (s *scanner) fail(i int, what string) int {
	if i >= s.size {
		i, what = s.size, "unexpected end of the body"
	}
	s.failure = scanError{i, what}
	return -1
}

// notJSON notes that what stands at i is not JSON, though it can be followed.
func (s *scanner) notJSON(i int, what string) {
	if s.flaw.what == "" {
		s.flaw = scanError{i, what}
	}
}

// end returns the end of the body if nothing but white space follows the value that ended at i, and -1 otherwise.
func (s *scanner) end(i int) int {
	if i >= 0 {
		if i = s.space(i); i < s.size {
			return s.fail(i, "text after the end of the JSON value")
		}
	}
	return i
}

// space returns the position after the white space at i.
func (s *scanner) space(i int) int {
	b := s.body
	for b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// first enters the object at i and returns its first member: the key, and where the value begins. If there is none,
// more is false and value the position after the object, or -1. So this goes through an object:
//
//	for key, i, more = s.first(i); more; key, i, more = s.next(i) {
//		i = … // the position after the value at i
//	}
func (s *scanner) first(i int) (key []byte, value int, more bool) {
	i = s.space(i + 1)
	switch s.body[i] {
	case '"':
		return s.member(i)
	case '}':
		return nil, i + 1, false
	default:
		return nil, s.fail(i, "expected a key or the end of the object"), false
	}
}

// next returns the member after the value that ended at i, as first does. A negative i is returned as it is.
func (s *scanner) next(i int) (key []byte, value int, more bool) {
	if i < 0 {
		return nil, i, false
	}
	b := s.body
	if b[i] <= ' ' {
		i = s.space(i)
	}
	switch b[i] {
	case ',':
		if i++; b[i] != '"' {
			if i = s.space(i); b[i] != '"' {
				return nil, s.fail(i, "expected a key"), false
			}
		}
		return s.member(i)
	case '}':
		return nil, i + 1, false
	default:
		return nil, s.fail(i, "expected a comma or the end of the object"), false
	}
}

// member reads the key at i and returns it with the position of its value.
func (s *scanner) member(i int) (key []byte, value int, more bool) {
	b := s.body
	next, escaped := s.str(i + 1)
	if next < 0 {
		return nil, next, false
	}
	key = b[i+1 : next-1]
	if escaped {
		key = s.unescape(key)
	}
	if b[next] != ':' {
		if next = s.space(next); b[next] != ':' {
			return nil, s.fail(next, "expected a colon"), false
		}
	}
	if next++; b[next] <= ' ' {
		next = s.space(next)
	}
	return key, next, true
}

// firstElement enters the array at i and returns where its first element begins. If there is none, more is false and
// value the position after the array.
func (s *scanner) firstElement(i int) (value int, more bool) {
	if i = s.space(i + 1); s.body[i] == ']' {
		return i + 1, false
	}
	return i, true
}

// nextElement returns where the element after the one that ended at i begins. If there is none, more is false and
// value the position after the array, or -1. A negative i is returned as it is.
func (s *scanner) nextElement(i int) (value int, more bool) {
	if i < 0 {
		return i, false
	}
	i = s.space(i)
	switch s.body[i] {
	case ',':
		return s.space(i + 1), true
	case ']':
		return i + 1, false
	default:
		return s.fail(i, "expected a comma or the end of the array"), false
	}
}

// text reads the value at i and returns it if it is a string, else nil.
func (s *scanner) text(i int) (text []byte, next int) {
	if s.body[i] != '"' {
		return nil, s.skip(i)
	}
	next, escaped := s.str(i + 1)
	if next < 0 {
		return nil, next
	}
	text = s.body[i+1 : next-1 : next-1]
	if escaped {
		text = s.unescape(text)
	}
	return text, next
}

// isNumber says whether the value at i is a number, or fails to be one.
func (s *scanner) isNumber(i int) bool { return s.body[i] == '-' || s.body[i]-'0' <= 9 }

// skip reads the value at i, whatever it is, and returns the position after it.
func (s *scanner) skip(i int) int {
	b := s.body
	var (
		objects [maxDepth / 64]uint64 // a bit for each level: whether it is an object
		depth   int
		object  bool // the bit of the innermost, without which each comma would cost a look at the bits
	)
value:
	switch c := b[i]; c {
	case '"':
		if i, _ = s.str(i + 1); i < 0 {
			return i
		}
	case '{':
		if i++; b[i] <= ' ' {
			i = s.space(i)
		}
		if b[i] == '}' {
			i++
			break
		}
		if depth == maxDepth {
			return s.fail(i, "nested too deeply")
		}
		objects[depth/64] |= 1 << (depth % 64)
		object = true
		depth++
		goto key
	case '[':
		if i++; b[i] <= ' ' {
			i = s.space(i)
		}
		if b[i] == ']' {
			i++
			break
		}
		if depth == maxDepth {
			return s.fail(i, "nested too deeply")
		}
		objects[depth/64] &^= 1 << (depth % 64)
		object = false
		depth++
		goto value
	default:
		if i = s.skipWord(i); i < 0 {
			return i
		}
	}

	for depth > 0 {
		if b[i] <= ' ' {
			i = s.space(i)
		}
		switch c := b[i]; {
		case c == ',':
			if i++; b[i] <= ' ' {
				i = s.space(i)
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
			return s.fail(i, "expected a comma or the end of the object")
		default:
			return s.fail(i, "expected a comma or the end of the array")
		}
	}
	return i

key:
	if b[i] != '"' {
		return s.fail(i, "expected a key")
	}
	if i, _ = s.str(i + 1); i < 0 {
		return i
	}
	if b[i] != ':' {
		if i = s.space(i); b[i] != ':' {
			return s.fail(i, "expected a colon")
		}
	}
	if i++; b[i] <= ' ' {
		i = s.space(i)
	}
	goto value
}

// skipWord reads a number, true, false or null, and the words that some clients write although they are not JSON.
func (s *scanner) skipWord(i int) int {
	b := s.body
	switch c := b[i]; {
	case c == 't' && string(b[i:i+4]) == "true", c == 'n' && string(b[i:i+4]) == "null":
		return i + 4
	case c == 'f' && string(b[i:i+5]) == "false":
		return i + 5
	case c == 'N' && string(b[i:i+3]) == "NaN":
		s.notJSON(i, "NaN is not JSON")
		return i + 3
	case c == 'I' && string(b[i:i+8]) == "Infinity":
		s.notJSON(i, "Infinity is not JSON")
		return i + 8
	case c == '-' && b[i+1] == 'I' && string(b[i+1:i+9]) == "Infinity":
		s.notJSON(i, "-Infinity is not JSON")
		return i + 9
	case c == '-' || c-'0' <= 9:
		return s.skipNumber(i)
	default:
		return s.fail(i, "expected a value")
	}
}

// skipNumber reads the number at i: -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
func (s *scanner) skipNumber(i int) int {
	b := s.body
	if b[i] == '-' {
		i++
	}
	switch {
	case b[i] == '0':
		i++
	case b[i]-'1' <= 8:
		i = s.skipDigits(i)
	default:
		return s.fail(i, "expected a digit")
	}
	if b[i] == '.' {
		if i++; b[i]-'0' > 9 {
			return s.fail(i, "expected a digit")
		}
		i = s.skipDigits(i)
	}
	if b[i]|0x20 == 'e' {
		if i++; b[i] == '+' || b[i] == '-' {
			i++
		}
		if b[i]-'0' > 9 {
			return s.fail(i, "expected a digit")
		}
		i = s.skipDigits(i)
	}
	return i
}

// skipDigits returns the position after the digits from i on.
func (s *scanner) skipDigits(i int) int {
	for s.body[i]-'0' <= 9 {
		i++
	}
	return i
}

// special looks at eight bytes at once: the lowest bit set in what it returns is in the first byte that is a quote, a
// backslash, a control character or not ASCII; 0 if there is none.
func special(b []byte) uint64 {
	const ones = 0x0101010101010101
	x := binary.LittleEndian.Uint64(b)
	// Flipping the second lowest bit swaps the quote, 0x22, with the space, 0x20, and leaves control characters below both.
	// So one comparison, with 0x21, finds quotes and control characters, and no spaces.
	return (((x ^ ones*2) - ones*0x21) | ((x ^ ones*'\\') - ones) | x) & (ones * 0x80)
}

// str reads the rest of the string whose opening quote is before i, and says whether there are escapes in it.
func (s *scanner) str(i int) (next int, escaped bool) {
	b := s.body
	for {
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
			i = s.escape(i + 1)
		case c < ' ':
			if i >= s.size {
				return s.fail(i, ""), false
			}
			s.notJSON(i, "a control character in a string")
			i++
		default:
			for b[i] >= utf8.RuneSelf {
				r, size := utf8.DecodeRune(b[i:])
				if r == utf8.RuneError && size == 1 {
					s.notJSON(i, "a string that is not UTF-8")
				}
				i += size
			}
		}
	}
}

// escape reads what follows a backslash.
func (s *scanner) escape(i int) int {
	switch s.body[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		if _, ok := hex4(s.body[i+1:]); ok {
			return i + 5
		}
	}
	s.notJSON(i, "an escape that JSON does not know")
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
func (s *scanner) unescape(raw []byte) []byte {
	start := len(s.texts)
	for len(raw) > 0 {
		run := bytes.IndexByte(raw, '\\')
		if run < 0 || run+1 == len(raw) {
			run = len(raw)
		}
		s.texts = append(s.texts, raw[:run]...)
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
			s.texts = utf8.AppendRune(s.texts, r)
			continue
		}
		s.texts = append(s.texts, c)
	}
	return s.texts[start:len(s.texts):len(s.texts)]
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

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/otelcol-segment/otelcol-segment/internal/librato"
)

// The form of the state on disk, all of it: keys, values, and versions. Keys are text.
//
//	version                                    of the form that is written
//	i/PERIOD START/LENGTH/SECOND/STREAM        an increment: written when changed, deleted when confirmed
//	f/PERIOD START/LENGTH                      the last second handed out of a period
//	m/NUMBER                                   message ids: one key a commit, merged as time goes by
//	aside/KEY                                  an entry that did not decode
//
// To write an increment, its second and the ids that it holds is one transaction, so after a crash either all of a
// call is known or nothing.
//
// Versions. What one release wrote, every later one reads, and no earlier one misreads. So each change of what is written,
// however small, raises formWritten: an earlier release then does not start on it. Each value begins with the version in
// which it was written, since after an upgrade values of several versions lie side by side. To change the form: raise
// formWritten, let the append functions write the new one, add its reader to forms, and leave the readers of earlier ones as
// they are, with the fixtures of their tests.
const (
	keyVersion  = "version"
	prefixInc   = "i/"
	prefixFloor = "f/"
	prefixIDs   = "m/"
	prefixAside = "aside/"

	formWritten    = 1
	writtenVersion = "1" // formWritten, as it stands under keyVersion
)

// form reads the values of one version, after that version.
type form struct {
	increment func(*valueReader) *increment
	floor     func(*valueReader) usedRange
	ids       func(*valueReader) idEntry
}

// forms are those that this release reads, by the version that a value begins with.
var forms = map[byte]form{
	1: {readIncrement1, readFloor1, readIDs1},
}

// checkVersion returns an error unless this release reads a state of that version. Nil is that of an empty one.
func checkVersion(version []byte) error {
	if version == nil {
		return nil
	}
	if n, err := strconv.ParseUint(string(version), 10, 8); err == nil {
		if _, ok := forms[byte(n)]; ok {
			return nil
		}
	}
	return fmt.Errorf("holds state of version %q, this exporter writes %d: "+
		"start the release that wrote it, or give this one a storage of its own", version, formWritten)
}

// idEntry is an ids key with what it holds.
type idEntry struct {
	idChunk
	ids []uint64
}

// decodeEntry returns an *increment, a usedRange, an idEntry, or nil for what is not to be taken up.
func decodeEntry(key string, value []byte) (any, error) {
	switch {
	case strings.HasPrefix(key, prefixInc):
		inc, err := decodeIncrement(value)
		if err != nil {
			return nil, err
		}
		inc.key = key
		return inc, nil
	case isFloorKey(key):
		return decodeFloor(value)
	case strings.HasPrefix(key, prefixIDs):
		return decodeIDs(key, value)
	case key == keyVersion, strings.HasPrefix(key, prefixAside):
		return nil, nil
	}
	return nil, errors.New("unknown key")
}

// incrementKey sorts by period, so that what changes together lies together on disk.
func incrementKey(inc *increment) string {
	period := inc.period
	if inc.stream.kind != kindAdding {
		period = 1
	}
	return prefixInc + strconv.FormatInt(inc.start, 10) + "/" + strconv.FormatInt(period, 10) + "/" +
		strconv.FormatInt(inc.second, 10) + "/" + inc.stream.key
}

func floorKey(r *usedRange) string {
	return prefixFloor + strconv.FormatInt(r.start, 10) + "/" + strconv.FormatInt(r.period, 10)
}

func isFloorKey(key string) bool { return strings.HasPrefix(key, prefixFloor) }

// idsKey has a fixed width, so that the keys sort in the order of writing.
func idsKey(number uint64) string { return fmt.Sprintf(prefixIDs+"%016x", number) }

func asideKey(key string) string { return prefixAside + key }

// streamKey tells streams apart as Librato does, which does not tell upper from lower case: the name, "/", then the
// source or the tags. Names hold no "/".
func streamKey(st *stream) string {
	source := st.source
	if st.tags != nil {
		source = joinTags(st.tags)
	}
	return strings.ToLower(st.name) + "/" + strings.ToLower(source)
}

// joinTags writes tags as "name=value,name=value": neither character may be in a tag's name or value.
func joinTags(tags []librato.Tag) string {
	var b strings.Builder
	for i, tag := range tags {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(tag.Name)
		b.WriteByte('=')
		b.WriteString(tag.Value)
	}
	return b.String()
}

// splitTags reads what joinTags wrote.
func splitTags(joined string) []librato.Tag {
	var tags []librato.Tag
	for pair := range strings.SplitSeq(joined, ",") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			tags = append(tags, librato.Tag{Name: name, Value: value})
		}
	}
	return tags
}

// appendIncrement appends, after the version: kind, start, period, second, opened (varints), count, sum, min, max, and
// the stream's name, source and tags, each with its length.
func appendIncrement(dst []byte, inc *increment, as *staged) []byte {
	st, value := inc.stream, &as.value
	dst = append(dst, formWritten, byte(st.kind))
	for _, n := range [...]int64{inc.start, inc.period, as.second, inc.opened} {
		dst = binary.AppendVarint(dst, n)
	}
	dst = binary.AppendUvarint(dst, value.Count)
	for _, f := range [...]float64{value.Sum, value.Min, value.Max} {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
	}
	for _, s := range [...]string{st.name, st.source, joinTags(st.tags)} {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	return dst
}

// appendFloor appends, after the version: start, period, last second (varints).
func appendFloor(dst []byte, r *usedRange) []byte {
	dst = append(dst, formWritten)
	for _, n := range [...]int64{r.start, r.period, r.last} {
		dst = binary.AppendVarint(dst, n)
	}
	return dst
}

// appendIDs appends, after the version: the time in nanoseconds (varint), then eight bytes an id.
func appendIDs(dst []byte, now int64, ids []uint64) []byte {
	dst = binary.AppendVarint(append(dst, formWritten), now)
	for _, id := range ids {
		dst = binary.LittleEndian.AppendUint64(dst, id)
	}
	return dst
}

func decodeIncrement(value []byte) (*increment, error) {
	r, form, err := openValue(value)
	if err != nil {
		return nil, err
	}
	inc := form.increment(r)
	switch {
	case r.err != nil:
		return nil, r.err
	case len(r.rest) > 0:
		return nil, errors.New("is longer than an increment")
	case inc.stream.kind > kindCounter, inc.period <= 0, inc.period > longestPeriod,
		inc.start < 0, inc.second < inc.start, inc.second-inc.start >= inc.period,
		inc.stream.name == "", inc.value.Count == 0, math.IsNaN(inc.value.Sum), math.IsInf(inc.value.Sum, 0):
		return nil, errors.New("is no increment")
	}
	return inc, nil
}

func readIncrement1(r *valueReader) *increment {
	st := &stream{kind: kind(r.byte())}
	inc := &increment{stream: st}
	for _, n := range [...]*int64{&inc.start, &inc.period, &inc.second, &inc.opened} {
		*n = r.varint()
	}
	inc.value.Count = r.uvarint()
	for _, f := range [...]*float64{&inc.value.Sum, &inc.value.Min, &inc.value.Max} {
		*f = math.Float64frombits(r.uint64())
	}
	st.name, st.source, st.tags = r.string(), r.string(), splitTags(r.string())
	return inc
}

func decodeFloor(value []byte) (usedRange, error) {
	r, form, err := openValue(value)
	if err != nil {
		return usedRange{}, err
	}
	floor := form.floor(r)
	switch {
	case r.err != nil:
		return usedRange{}, r.err
	case len(r.rest) > 0, floor.period <= 0, floor.period > longestPeriod,
		floor.start < 0, floor.last < floor.start, floor.last-floor.start >= floor.period:
		return usedRange{}, errors.New("is no second of a period")
	}
	return floor, nil
}

func readFloor1(r *valueReader) usedRange {
	return usedRange{start: r.varint(), period: r.varint(), last: r.varint()}
}

func decodeIDs(key string, value []byte) (idEntry, error) {
	number, err := strconv.ParseUint(key[len(prefixIDs):], 16, 64)
	if err != nil {
		return idEntry{}, errors.New("its key has no number")
	}
	r, form, err := openValue(value)
	if err != nil {
		return idEntry{}, err
	}
	e := form.ids(r)
	e.number, e.count = number, len(e.ids)
	return e, r.err
}

func readIDs1(r *valueReader) idEntry {
	e := idEntry{idChunk: idChunk{time: r.varint()}}
	for r.err == nil && len(r.rest) > 0 {
		e.ids = append(e.ids, r.uint64())
	}
	return e
}

// openValue returns what reads the rest of a value, in the form that it was written in.
func openValue(value []byte) (*valueReader, form, error) {
	r := &valueReader{rest: value}
	version := r.byte()
	if r.err != nil {
		return nil, form{}, r.err
	}
	f, ok := forms[version]
	if !ok {
		return nil, form{}, fmt.Errorf("has the unknown format %d", version)
	}
	return r, f, nil
}

// valueReader reads what the append functions wrote. After an error it returns zeros.
type valueReader struct {
	rest []byte
	err  error
}

var errShort = errors.New("is cut short")

func (r *valueReader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.rest) {
		r.rest, r.err = nil, cmp.Or(r.err, errShort)
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *valueReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *valueReader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *valueReader) varint() int64 {
	n, size := binary.Varint(r.rest)
	r.take(max(size, 0))
	if size <= 0 {
		r.err = cmp.Or(r.err, errShort)
	}
	return n
}

func (r *valueReader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	r.take(max(size, 0))
	if size <= 0 {
		r.err = cmp.Or(r.err, errShort)
	}
	return n
}

func (r *valueReader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.err = cmp.Or(r.err, errShort)
		return ""
	}
	return string(r.take(int(n))) //nolint:gosec // n is at most len(r.rest)
}

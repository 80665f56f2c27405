// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

// idleList holds the streams of which nothing waits, in the order in which they became idle. Its links are fields of the
// streams: most of them come and go with each flush, which allocates nothing.
type idleList struct {
	first, last *stream
}

// idleLinks are a stream's neighbours in the list.
type idleLinks struct {
	listed         bool
	before, behind *stream
}

// append puts a stream at the end, unless it is in the list.
func (l *idleList) append(st *stream) {
	if st.idle.listed {
		return
	}
	st.idle = idleLinks{listed: true, before: l.last}
	if l.last == nil {
		l.first = st
	} else {
		l.last.idle.behind = st
	}
	l.last = st
}

// remove takes a stream out, if it is in the list.
func (l *idleList) remove(st *stream) {
	if !st.idle.listed {
		return
	}
	if before := st.idle.before; before == nil {
		l.first = st.idle.behind
	} else {
		before.idle.behind = st.idle.behind
	}
	if behind := st.idle.behind; behind == nil {
		l.last = st.idle.before
	} else {
		behind.idle.before = st.idle.before
	}
	st.idle = idleLinks{}
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package segmentreceiver

import "time"

// Times that can be told from nonsense: from 1970 to 2199, so that differences of two fit into nanoseconds.
const maxUnixSeconds = 7258118400

// parseTime returns the Unix nanoseconds of an ISO 8601 time, as the SDKs write it: a date, or a date and a time of day
// with any number of decimals, with Z, +hh:mm, +hhmm, +hh or no zone (UTC). Ten digits alone are Unix seconds,
// thirteen are milliseconds. 0 if text is no time between 1970 and 2199.
func parseTime(text []byte) int64 {
	if n := len(text); (n == 10 || n == 13) && text[4]-'0' <= 9 {
		v, ok := digits(text)
		switch {
		case !ok:
			return 0
		case n == 10:
			return inRange(v, 0)
		default:
			return inRange(v/1000, v%1000*1e6)
		}
	}
	if len(text) < 10 || text[4] != '-' || text[7] != '-' {
		return 0
	}
	year, ok1 := digits(text[:4])
	month, ok2 := digits(text[5:7])
	day, ok3 := digits(text[8:10])
	date := time.Date(int(year), time.Month(month), int(day), 0, 0, 0, 0, time.UTC)
	// Date takes February 30 for a day in March, so a day that does not exist comes out as another.
	if !ok1 || !ok2 || !ok3 || month != int64(date.Month()) || day != int64(date.Day()) {
		return 0
	}
	seconds := date.Unix()
	text = text[10:]
	if len(text) == 0 {
		return inRange(seconds, 0)
	}
	if len(text) < 6 || (text[0]|0x20 != 't' && text[0] != ' ') || text[3] != ':' {
		return 0
	}
	hour, ok1 := digits(text[1:3])
	minute, ok2 := digits(text[4:6])
	if !ok1 || !ok2 || hour > 23 || minute > 59 {
		return 0
	}
	seconds += hour*3600 + minute*60
	text = text[6:]
	nanoseconds := int64(0)
	if len(text) > 0 && text[0] == ':' {
		if len(text) < 3 {
			return 0
		}
		second, ok := digits(text[1:3])
		if !ok || second > 60 { // a leap second is the next minute's first
			return 0
		}
		seconds += second
		text = text[3:]
		if len(text) > 0 && (text[0] == '.' || text[0] == ',') {
			n := 1
			for scale := int64(1e8); n < len(text) && text[n]-'0' <= 9; n++ {
				nanoseconds += int64(text[n]-'0') * scale
				scale /= 10
			}
			if n == 1 {
				return 0
			}
			text = text[n:]
		}
	}
	offset, ok := parseZone(text)
	if !ok {
		return 0
	}
	return inRange(seconds-offset, nanoseconds)
}

// parseZone returns the seconds that a zone, as parseTime takes it, is ahead of UTC.
func parseZone(text []byte) (seconds int64, ok bool) {
	if len(text) == 0 || (len(text) == 1 && text[0]|0x20 == 'z') {
		return 0, true
	}
	sign := int64(1)
	switch text[0] {
	case '+':
	case '-':
		sign = -1
	default:
		return 0, false
	}
	var hours, minutes int64
	okHours, okMinutes := false, true
	switch {
	case len(text) == 3: // +hh
		hours, okHours = digits(text[1:3])
	case len(text) == 5: // +hhmm
		hours, okHours = digits(text[1:3])
		minutes, okMinutes = digits(text[3:5])
	case len(text) == 6 && text[3] == ':': // +hh:mm
		hours, okHours = digits(text[1:3])
		minutes, okMinutes = digits(text[4:6])
	}
	if !okHours || !okMinutes || hours > 23 || minutes > 59 {
		return 0, false
	}
	return sign * (hours*3600 + minutes*60), true
}

func inRange(seconds, nanoseconds int64) int64 {
	if seconds < 0 || seconds >= maxUnixSeconds {
		return 0
	}
	return seconds*1e9 + nanoseconds
}

func digits(text []byte) (n int64, ok bool) {
	for _, c := range text {
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package librato

import (
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
)

func TestCleanEventName(t *testing.T) {
	long := strings.Repeat("x", 300)
	for in, want := range map[string]string{
		"":                               "",
		"Event Triggered":                "Event-Triggered",
		"Signed_Up-2.0":                  "Signed_Up-2.0",
		"é":                              "-",
		"e\u0301":                        "e-",
		"😀":                              "--",
		"a:b/c":                          "a-b-c",
		"\xff\xfe":                       "--",
		"a\xc3":                          "a-",
		"\xed\xa0\xbd":                   "---", // a lone surrogate is no UTF-8
		"\x00\n":                         "--",
		long:                             long[:255],
		long[:254] + "é!":                long[:254] + "-",
		long[:254] + "😀":                 long[:254] + "-", // the cut falls between the code units
		strings.Repeat("😀", 200):         strings.Repeat("-", 255),
		strings.Repeat("é", 254) + "xyz": strings.Repeat("-", 254) + "x",
	} {
		assert.Equal(t, want, CleanEventName(in), "%q", in)
	}
}

func TestCleanMetricName(t *testing.T) {
	assert.Equal(t, "http:requests-total", CleanMetricName("http:requests total"))
	assert.Equal(t, strings.Repeat(":", 255), CleanMetricName(strings.Repeat(":", 256)))
}

func TestCleanSource(t *testing.T) {
	for in, want := range map[string]string{
		"":               "",
		"web-1:8080":     "web-1:8080",
		"your host (1)":  "your-host--1-",
		"all":            "all_",
		"ALL":            "ALL_",
		"aLl":            "aLl_",
		"ſall":           "-all",
		"all_":           "all_",
		"allx":           "allx",
		"\u212a":         "-", // the Kelvin sign, which lower-cases to a plain k
		"mobile/android": "mobile-android",
	} {
		assert.Equal(t, want, CleanSource(in), "%q", in)
	}
}

func TestCleanTags(t *testing.T) {
	assert.Equal(t, "service.name", CleanTagName("Service.Name"))
	assert.Equal(t, "a-b-c-", CleanTagName("a b/c?"))
	assert.Equal(t, strings.Repeat("x", 64), CleanTagName(strings.Repeat("X", 65)))
	assert.Equal(t, `c:\dir/us east?`, CleanTagValue(`C:\Dir/US East?`))
	assert.Equal(t, "-k--", CleanTagValue("\u212ak😀"))
	assert.Equal(t, strings.Repeat("x", 255), CleanTagValue(strings.Repeat("x", 256)))
}

// cleanSlowly does what clean does, as the specification words it.
func cleanSlowly(s, allowed string, limit int, lower bool) string {
	units := utf16.Encode([]rune(s))
	var out []uint16
	for _, u := range units {
		switch {
		case u >= 0x80 || !strings.ContainsRune(allowed, rune(u)):
			u = '-'
		case lower && u >= 'A' && u <= 'Z':
			u += 'a' - 'A'
		}
		out = append(out, u)
	}
	return string(utf16.Decode(out[:min(len(out), limit)]))
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{
		"", "Event Triggered", "é", "😀", "\xff", "all", "ALL", "web-1:8080", "a\u2028b", "\xed\xa0\xbd", strings.Repeat("a", 254) + "😀",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		const name = letters + "0123456789._-"
		event, metric, source := CleanEventName(s), CleanMetricName(s), CleanSource(s)
		assert.Equal(t, cleanSlowly(s, name, 255, false), event)
		assert.Equal(t, cleanSlowly(s, name+":", 255, false), metric)
		if !strings.EqualFold(metric, "all") {
			assert.Equal(t, metric, source)
		} else {
			assert.Equal(t, metric+"_", source)
		}
		assert.Equal(t, cleanSlowly(s, name+":", 64, true), CleanTagName(s))
		assert.Equal(t, cleanSlowly(s, name+`:?\/ `, 255, true), CleanTagValue(s))

		assert.Equal(t, event, CleanEventName(event), "clean names stay as they are")
		assert.Equal(t, source, CleanSource(source))
	})
}

func TestCleanAllocatesNothingForCleanNames(t *testing.T) {
	long := strings.Repeat("x", 300)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		_ = CleanEventName("Order_Completed")
		_ = CleanEventName(long)
		_ = CleanMetricName("http:requests")
		_ = CleanSource("web-1:8080")
		_ = CleanTagName("service.name")
		_ = CleanTagValue("us east")
	}))
}

func BenchmarkCleanEventName(b *testing.B) {
	for name, s := range map[string]string{"clean": "Order_Completed", "space": "Order Completed", "unicode": "Bestellung ausgelöst 😀"} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(s)))
			b.ReportAllocs()
			for b.Loop() {
				_ = CleanEventName(s)
			}
		})
	}
}

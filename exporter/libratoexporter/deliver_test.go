// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoexporter

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.uber.org/zap"

	"github.com/otelcol-segment/otelcol-segment/internal/libratoserver"
)

// mostPostsASecond returns how many posts the service got within one second at most.
func mostPostsASecond(posts []libratoserver.Request) int {
	most, seconds := 0, map[int64]int{}
	for _, post := range posts {
		second := post.Time.Unix()
		seconds[second]++
		most = max(most, seconds[second])
	}
	return most
}

// An answer to everything that is sent is about none of it: all is kept, few posts are made, and it is said as an error.
func TestEverythingIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		failure libratoserver.Failure
		warning bool // said as a warning alone, since it passes by itself
	}{
		"account suspended":    {failure: libratoserver.Failure{Status: 400, Body: `{"errors":{"request":["account is suspended"]}}`}},
		"with a text a post":   {failure: libratoserver.Failure{Status: 400, Body: `{"errors":{"request":["request 815 is refused"]}}`}},
		"no word":              {failure: libratoserver.Failure{Status: 400}},
		"422":                  {failure: libratoserver.Failure{Status: 422, Body: `{"errors":{"request":["no such plan"]}}`}},
		"413":                  {failure: libratoserver.Failure{Status: 413}},
		"the token":            {failure: libratoserver.Failure{Status: 403, Body: `{"errors":{"request":["Forbidden"]}}`}},
		"the path":             {failure: libratoserver.Failure{Status: 404, Body: `{"errors":{"request":["Not Found"]}}`}},
		"a proxy's page":       {failure: libratoserver.Failure{Status: 400, Body: "<html>Bad Request</html>"}},
		"a login page":         {failure: libratoserver.Failure{Status: 200, Body: "<html>Log in</html>"}},
		"another's object":     {failure: libratoserver.Failure{Status: 202, Body: `{"message":"hello"}`}},
		"429, rate exceeded":   {failure: libratoserver.Failure{Status: 429, Body: `{"errors":{"request":["Rate exceeded"]}}`}, warning: true},
		"429, a list":          {failure: libratoserver.Failure{Status: 429, Body: `["slow down"]`}, warning: true},
		"429, slow down":       {failure: libratoserver.Failure{Status: 429, Body: `{"errors":{"request":["slow down"]}}`}, warning: true},
		"429, with a time":     {failure: libratoserver.Failure{Status: 429, RetryAfter: "20", Body: `{"errors":{"request":["Rate exceeded"]}}`}, warning: true},
		"429, other words":     {failure: libratoserver.Failure{Status: 429, Body: `{"errors":{"request":["not so fast"]}}`}},
		"none of a 202":        {failure: libratoserver.Failure{Status: 202, Body: `{"measurements":{"summary":{"accepted":0,"failed":1000}}}`}},
		"a measurement's word": {failure: libratoserver.Failure{Status: 400, Body: `{"errors":{"params":{"value":["must be positive"]}}}`}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, func(cfg *Config) { cfg.Gauges.ServiceSideAggregation = false })
			const streams = 601
			tt.failure.Times = -1
			h.service.Fail(tt.failure)
			for range 10 {
				h.sendStreams(streams)
				h.pass(time.Minute)
			}
			assert.Less(t, mostPostsASecond(h.service.Posts()), 60)
			assert.Less(t, h.service.Stats().Posts, 300, "in ten minutes")
			for _, why := range []reason{"rejected", "invalid_value", reasonTooOld} {
				assert.Zero(t, h.refused(why))
			}
			errors := h.logs.FilterLevelExact(zap.ErrorLevel).FilterMessageSnippet("measurements are kept and retried").Len()
			if tt.warning {
				assert.Zero(t, errors)
				assert.Equal(t, 1, h.logs.FilterMessageSnippet("measurements are kept and retried").Len())
			} else {
				assert.Equal(t, 1, errors)
				assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError}, h.host.statuses())
			}

			h.service.ClearFailures()
			h.pass(15 * time.Minute)
			for i := range streams {
				if !assert.Equal(t, uint64(10), h.service.Sum(fmt.Sprintf("stream-%d", i), "s").Count, i) {
					break
				}
			}
			assert.Zero(t, h.exporter.journal.count())
			assert.Empty(t, h.exporter.flusher.courier.doubts.of)
			if !tt.warning {
				assert.Equal(t, componentstatus.StatusOK, h.host.statuses()[1])
			}
		})
	}
}

// refusing returns a service's answer to requests that hold a measurement which bad describes.
func refusing(bad string) libratoserver.Failure {
	return libratoserver.Failure{Status: 400, Body: `{"errors":{"request":["is invalid"]}}`, Contains: bad, Times: -1}
}

// A measurement that is refused alone in every flush holds nobody up. It is given up once others were taken.
func TestOneBadStreamAlone(t *testing.T) {
	h := newHarness(t, nil)
	h.service.Fail(refusing(`"bad"`))
	for range 10 {
		h.send(track("bad", "s", 1))
		h.pass(time.Minute)
	}
	assert.Zero(t, h.refused("rejected"), "nothing shows that it is about this one")
	assert.Less(t, h.service.Stats().Posts, 30)
	assert.Positive(t, h.exporter.journal.count())

	h.send(track("good", "s", 1))
	h.pass(2 * time.Minute)
	h.stored("good", "s", 1, 1)
	assert.Positive(t, h.refused("rejected"))
	h.send(track("good", "s", 1), track("bad", "s", 1))
	h.pass(2 * time.Minute)
	h.stored("good", "s", 2, 2)

	h.service.ClearFailures()
	h.pass(10 * time.Minute)
	assert.Zero(t, h.exporter.journal.count())
	assert.Equal(t, int64(11), h.refused("rejected")+int64(h.service.Sum("bad", "s").Count), "each is sent or counted")
}

// Streams that are bad through and through fill requests of their own. They hold up no others, and cost few posts.
func TestManyBadStreams(t *testing.T) {
	h := newHarness(t, nil)
	h.service.Fail(refusing(`"bad-`))
	readings := make([]reading, 300)
	for i := range readings {
		readings[i] = track(fmt.Sprintf("bad-%d", i), "s", 1)
	}
	h.send(readings...)
	for i := range 30 {
		h.sendStreams(600)
		h.pass(time.Minute)
		require.GreaterOrEqual(t, h.service.Sum("stream-599", "s").Count, uint64(i), "minute %d", i)
	}
	h.pass(time.Minute)
	for i := range 600 {
		if !assert.Equal(t, uint64(30), h.service.Sum(fmt.Sprintf("stream-%d", i), "s").Count) {
			break
		}
	}
	assert.Less(t, mostPostsASecond(h.service.Posts()), 60)
	h.pass(50 * time.Minute)
	assert.Positive(t, h.refused("rejected"))
}

// model is a Librato that refuses requests for the bad ones of their measurements, or everything for a while. It keeps one value
// a second of a stream, as Librato does.
type model struct {
	random  *rand.Rand
	bad     func(name string) bool
	named   bool // it names the bad ones
	tagged  bool
	partly  bool                                     // a 202 that takes the good ones, and counts the bad
	refuses func(post int) (status int, text string) // 0: it does not

	mu     sync.Mutex
	posts  int
	stored map[string]map[int64]float64
}

func (m *model) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	type measurement struct {
		Name        string
		MeasureTime int64 `json:"measure_time"`
		Time        int64
		Value       *float64
		Sum         float64
	}
	var post struct{ Gauges, Measurements []measurement }
	if err := json.Unmarshal(body, &post); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.posts++
	answer := func(status int, body string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
	}
	if status, text := m.refuses(m.posts); status != 0 {
		return answer(status, text)
	}
	var good, bad []measurement
	for _, x := range append(post.Gauges, post.Measurements...) {
		if m.bad(x.Name) {
			bad = append(bad, x)
		} else {
			good = append(good, x)
		}
	}
	store := func() {
		for _, x := range good {
			if x.Value != nil {
				x.Sum = *x.Value
			}
			if m.stored[x.Name] == nil {
				m.stored[x.Name] = map[int64]float64{}
			}
			m.stored[x.Name][x.MeasureTime+x.Time] = x.Sum
		}
	}
	names := ""
	if m.named && len(bad) > 0 {
		names = fmt.Sprintf(`{"param":"name","value":%q,"reason":"is not valid"}`, bad[m.random.IntN(len(bad))].Name)
	}
	switch {
	case len(bad) == 0 && m.tagged:
		store()
		return answer(http.StatusAccepted, fmt.Sprintf(`{"measurements":{"summary":{"accepted":%d,"failed":0}}}`, len(good)))
	case len(bad) == 0:
		store()
		return answer(http.StatusOK, "")
	case m.partly:
		store()
		return answer(http.StatusAccepted, fmt.Sprintf(`{"measurements":{"summary":{"accepted":%d,"failed":%d}},"errors":[%s]}`,
			len(good), len(bad), names))
	case m.named && m.tagged:
		return answer(http.StatusTooManyRequests, `{"errors":[`+names+`]}`)
	default:
		return answer(http.StatusBadRequest, `{"errors":[`+names+`]}`)
	}
}

// deliverToModel sends the events of so many minutes to a model drawn from seed. Of each good stream the service has what was
// sent, whatever it refused meanwhile, and posts are bounded.
func deliverToModel(t *testing.T, seed uint64, streams, bads int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	bad := map[string]bool{}
	for range bads {
		bad[fmt.Sprintf("stream-%d", random.IntN(streams))] = true
	}
	m := &model{
		random: random, bad: func(name string) bool { return bad[name] }, stored: map[string]map[int64]float64{},
		named: random.IntN(3) == 0, tagged: random.IntN(2) == 0,
	}
	m.partly = m.tagged && random.IntN(2) == 0
	from, length := random.IntN(20*(1+bads)), random.IntN(100)
	status := []int{400, 400, 400, 422, 413, 403, 404, 429, 200, 503}[random.IntN(10)]
	text := []string{
		`{"errors":{"request":["account is suspended"]}}`, `{}`, `<html>blocked</html>`, `{"errors":{"params":{"value":["is no good"]}}}`,
		`["slow down"]`,
	}[random.IntN(5)]
	if status == http.StatusOK {
		text = `<html>log in</html>`
	}
	m.refuses = func(post int) (int, string) {
		if post > from && post <= from+length {
			return status, text
		}
		return 0, ""
	}

	h := newHarness(t, func(cfg *Config) {
		cfg.Gauges.ServiceSideAggregation = false
		cfg.NumConsumers = 1 + random.IntN(4)
		if m.tagged {
			cfg.API = APIMeasurements
		}
	})
	h.exporter.flusher.courier.client.Transport = m
	sent := map[string]int{}
	send := func() {
		var readings []reading
		for i := range streams {
			if random.IntN(4) > 0 {
				readings = append(readings, track(fmt.Sprintf("stream-%d", i), "s", 1))
				sent[fmt.Sprintf("stream-%d", i)]++
			}
		}
		h.send(readings...)
	}
	for range 20 {
		send()
		before := m.posts
		h.pass(20 * time.Second)
		// Two flushes, each with at most a search for each bad one and for each request under way.
		require.LessOrEqual(t, m.posts-before, 2*(len(bad)*30+4*streams/300+60), "seed %d", seed)
	}
	// The last of the good ones that were refused with others wait for something that is taken.
	for range 12 {
		h.send(track("last", "s", 1))
		h.pass(5 * time.Minute)
	}
	for name, want := range sent {
		if bad[name] {
			continue
		}
		got := 0.0
		for _, value := range m.stored[name] {
			got += value
		}
		require.InDelta(t, want, got, 0, "%s, seed %d", name, seed)
	}
}

func TestDeliverToModel(t *testing.T) {
	for seed := range uint64(30) {
		deliverToModel(t, seed, 1+int(seed*37%700), int(seed%5))
	}
}

// Whatever the service refuses, good measurements arrive, and posts are bounded.
func FuzzDeliver(f *testing.F) {
	f.Add(uint64(1), uint16(10), uint8(1))
	f.Add(uint64(2), uint16(650), uint8(3))
	f.Add(uint64(3), uint16(1), uint8(1))
	f.Fuzz(func(t *testing.T, seed uint64, streams uint16, bads uint8) {
		deliverToModel(t, seed, 1+int(streams%700), int(bads%8))
	})
}

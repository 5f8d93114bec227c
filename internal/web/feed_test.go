package web

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// loop is the daemon's loop as the listener sees it.
type loop struct{ events chan status.Event }

func newLoop(c *Config) *loop {
	l := &loop{make(chan status.Event)}
	c.Events = func(ctx context.Context) <-chan status.Event {
		out := make(chan status.Event)
		go func() {
			defer close(out)
			for {
				select {
				case <-ctx.Done():
					return
				case e := <-l.events:
					select {
					case out <- e:
					case <-ctx.Done():
						return
					}
				}
			}
		}()
		return out
	}
	return l
}

// happen reports an event that happens now.
func (l *loop) happen(t *testing.T, e status.Event) {
	t.Helper()
	e.At = time.Now()
	select {
	case l.events <- e:
	case <-time.After(time.Minute):
		t.Fatal("nobody takes the event")
	}
}

// stream reads server-sent events.
type stream struct {
	t    *testing.T
	body io.ReadCloser
	in   *bufio.Scanner
}

func follow(t *testing.T, addr string) *stream {
	t.Helper()
	return followOver(t, addr, nil)
}

// followOver follows on a connection that dial makes; nil: over TCP.
func followOver(t *testing.T, addr string, dial dialer) *stream {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		t.Fatalf("%d %s", resp.StatusCode, kind)
	}
	s := &stream{t, resp.Body, bufio.NewScanner(resp.Body)}
	if !s.in.Scan() || s.in.Text() != "retry: 5000" {
		t.Fatalf("the stream begins with %q", s.in.Text())
	}
	return s
}

// next returns the next work in the stream; ok is false when the stream has ended.
func (s *stream) next() (w work, ok bool) {
	s.t.Helper()
	for s.in.Scan() {
		data, is := strings.CutPrefix(s.in.Text(), "data: ")
		if !is {
			continue
		}
		if err := json.Unmarshal([]byte(data), &w); err != nil {
			s.t.Fatal(err)
		}
		return w, true
	}
	return w, false
}

func done(name string, generation int, step, vault string) status.Event {
	return status.Event{At: at, Key: name, Generation: generation, Step: step, Vault: vault, Phase: status.Done,
		Elapsed: status.Seconds(time.Second)}
}

func TestAReaderGetsRecentWorkAndThenEvents(t *testing.T) {
	c := (&world{}).config(t)
	l := newLoop(&c)
	addr := serve(t, c)
	l.happen(t, done("k", 3, "reserve", ""))
	l.happen(t, done("k", 3, "import", "weu")) // once this is read, the feed knows the first one
	s := follow(t, addr)
	if w, _ := s.next(); w.Key != "k" || len(w.Steps) == 0 || w.Steps[0].Words != "Number reserved" {
		t.Errorf("first %+v", w)
	}
	l.happen(t, done("k", 3, "finish", ""))
	for {
		w, ok := s.next()
		if !ok {
			t.Fatal("the stream has ended")
		}
		if w.Mark == markDone {
			if len(w.Steps) != 3 || w.Steps[1].Words != "Imported into weu" || w.Title != "k, generation 3" {
				t.Errorf("last %+v", w)
			}
			return
		}
	}
}

func TestReadersAreLimitedAndALeavingReaderFreesItsPlace(t *testing.T) {
	c := (&world{}).config(t)
	newLoop(&c)
	addr := serve(t, c)
	streams := make([]*stream, maxReaders)
	for i := range streams {
		streams[i] = follow(t, addr)
	}
	if resp := knock(t, addr, nil); resp.StatusCode != http.StatusServiceUnavailable ||
		resp.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %s", resp.Status)
	}
	if a := ask(t, "GET", addr, "/", nil); a.code != http.StatusOK {
		t.Errorf("the page itself: %d", a.code)
	}
	streams[0].body.Close()
	deadline := time.Now().Add(time.Minute)
	for ; knock(t, addr, nil).StatusCode != http.StatusOK; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the place is not free")
		}
	}
}

// knock asks for the events and leaves at once: a stream that was admitted would not end.
func knock(t *testing.T, addr string, change func(*http.Request)) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

func TestASlowReaderIsDroppedAndHoldsUpNobody(t *testing.T) {
	f := newFeed()
	slow, _ := f.join(at)
	quick, _ := f.join(at)
	for i := range 2 * cap(slow.messages) {
		f.apply(done(fmt.Sprintf("k%d", i%3), 1, "prove", "weu"))
		<-quick.messages
	}
	if len(f.readers) != 1 {
		t.Fatalf("%d readers are left, although one is slow", len(f.readers))
	}
	kept := 0
	for range slow.messages { // ends because the channel is closed
		kept++
	}
	if kept != cap(slow.messages) {
		t.Errorf("the slow reader has %d messages", kept)
	}
	f.leave(slow) // as its answer does when it ends
	if len(f.readers) != 1 {
		t.Errorf("%d readers are left", len(f.readers))
	}
}

func TestTheEventsBeginWithRecentWork(t *testing.T) {
	f := newFeed()
	f.apply(done("ended", 1, "finish", ""))
	f.apply(done("under-way", 1, "pin", ""))
	for passed, want := range map[time.Duration]int{time.Minute: 2, time.Hour: 0} {
		r, ok := f.join(at.Add(passed))
		if !ok || len(r.messages) != want {
			t.Errorf("after %s: %d works, want %d", passed, len(r.messages), want)
		}
	}
}

func TestAForeignPageMayNotFollow(t *testing.T) {
	addr := serve(t, (&world{}).config(t))
	for _, site := range []string{"cross-site", "same-site"} {
		resp := knock(t, addr, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", site) })
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", site, resp.Status)
		}
	}
	resp := knock(t, addr, func(r *http.Request) { r.Host = "attacker.example" })
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another name: %s", resp.Status)
	}
}

// workOf applies events to the work of one key.
func workOf(events ...status.Event) work {
	f := newFeed()
	for _, e := range events {
		f.apply(e)
	}
	return *f.works[len(f.works)-1]
}

func TestAWorkIsTheStepsOfOneGeneration(t *testing.T) {
	begin := func(e status.Event) status.Event { e.Phase, e.Elapsed = status.Begin, 0; return e }
	failed := func(e status.Event) status.Event { e.Phase, e.Error = status.Failed, "403"; return e }
	wait := status.Event{At: at, Key: "k", Generation: 2, Step: "wait", Phase: status.Wait,
		Detail: "vault weu is not ready"}
	for _, c := range []struct {
		name   string
		events []status.Event
		mark   string
		steps  []string // mark and words
	}{
		{"begun", []status.Event{begin(done("k", 2, "generate", ""))}, markDoing,
			[]string{"doing Generating the key pair in the HSM"}},
		{"done, and another follows", []status.Event{begin(done("k", 2, "pin", "")), done("k", 2, "pin", "")},
			markDoing, []string{"done Pair checked, fingerprint recorded"}},
		{"tried again", []status.Event{failed(done("k", 2, "import", "weu")), done("k", 2, "import", "weu")}, markDoing,
			[]string{"done Imported into weu"}},
		{"failed", []status.Event{failed(done("k", 2, "import", "weu"))}, markFailed,
			[]string{"failed Importing into weu"}},
		{"waits once", []status.Event{wait, wait}, markWaiting, []string{"waiting Waiting"}},
		{"waits no longer", []status.Event{wait, done("k", 2, "reserve", "")}, markDoing,
			[]string{"done Number reserved"}},
		{"the next generation begins anew", []status.Event{done("k", 2, "finish", ""), done("k", 3, "reserve", "")},
			markDoing, []string{"done Number reserved"}},
		{"finished", []status.Event{done("k", 2, "finish", "")}, markDone,
			[]string{"done Rotation finished: active everywhere"}},
		{"held", []status.Event{done("k", 0, "hold", "weu")}, markHeld,
			[]string{"held The key is on hold because of weu"}},
	} {
		w := workOf(c.events...)
		var got []string
		for _, s := range w.Steps {
			got = append(got, s.Mark+" "+s.Words)
		}
		if w.Mark != c.mark || strings.Join(got, "|") != strings.Join(c.steps, "|") {
			t.Errorf("%s: %s %q", c.name, w.Mark, got)
		}
	}
}

func TestTheFeedRemembersABoundedNumber(t *testing.T) {
	f := newFeed()
	for i := range 10 * maxWorks {
		f.apply(done(fmt.Sprintf("k%d", i), 1, "reserve", ""))
	}
	for i := range 10 * maxSteps {
		f.apply(done("k", 1, "prove", fmt.Sprintf("vault-%d", i)))
	}
	if len(f.works) != maxWorks || len(f.works[maxWorks-1].Steps) != maxSteps {
		t.Errorf("%d works, %d steps", len(f.works), len(f.works[maxWorks-1].Steps))
	}
	if current := f.current(status.Snapshot{At: at}); len(current) != maxWorks {
		t.Errorf("%d are shown", len(current))
	}
}

func TestNowShowsCurrentAndRecentWork(t *testing.T) {
	f := newFeed()
	f.apply(done("ended", 1, "finish", ""))
	f.apply(done("paused", 1, "pin", "")) // no event reports that
	f.apply(done("slow", 1, "reserve", ""))
	s := status.Snapshot{At: at.Add(time.Minute), Summary: status.Summary{UnderWay: []string{"slow"}}}
	if current := f.current(s); len(current) != 3 || current[2].Key != "ended" {
		t.Errorf("after a minute: %+v", current)
	}
	s.At = at.Add(time.Hour)
	if current := f.current(s); len(current) != 1 || current[0].Key != "slow" {
		t.Errorf("after an hour: %+v", current)
	}
}

func TestAStreamPassesTheToolkitWithTLSAndPasswords(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	c := (&world{}).config(t)
	l := newLoop(&c)
	c.WebConfigFile = filepath.Join(dir, "web.yaml")
	write(t, c.WebConfigFile, "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"+
		"basic_auth_users: {prometheus: \""+scrapeHash+"\"}\n")
	addr := serve(t, c)
	for name, versions := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: versions,
			TLSClientConfig: &tls.Config{RootCAs: pool}}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+addr+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		if a := do(t, client, r); a.code != http.StatusUnauthorized {
			t.Errorf("%s without a password: %d", name, a.code)
		}
		r.SetBasicAuth("prometheus", "scrape")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Proto != name || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %d", name, resp.Proto, resp.StatusCode)
		}
		s := &stream{t, resp.Body, bufio.NewScanner(resp.Body)}
		l.happen(t, done("k", 1, "pin", ""))
		if w, ok := s.next(); !ok || w.Key != "k" {
			t.Errorf("%s: %+v, %v", name, w, ok)
		}
		resp.Body.Close()
		client.CloseIdleConnections()
	}
}

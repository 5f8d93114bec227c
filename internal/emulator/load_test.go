package emulator

import (
	"errors"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// BenchmarkGetThroughTheProxy measures a whole call: proxy, token, answer.
func BenchmarkGetThroughTheProxy(b *testing.B) {
	place := func() func() func() error {
		e, err := Start(Options{Vaults: []VaultConfig{{Host: testVault}}})
		check(b, err)
		b.Cleanup(func() { check(b, e.Close()) })
		v := e.Vault(testVault)
		_, err = v.AddForeignVersion("k")
		check(b, err)
		token, err := e.signer.mint(DefaultTenantID, "bench", v.audience(), time.Now(), time.Hour, 0)
		check(b, err)
		return func() func() error {
			client := &http.Client{Transport: e.Transport()}
			return func() error { return get(b, client, token) }
		}
	}
	together(b, place)
}

func get(b *testing.B, client *http.Client, token string) error {
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "https://"+testVault+"/keys/k?api-version=7.6",
		nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

// BenchmarkUnwrap measures the work of a key alone.
func BenchmarkUnwrap(b *testing.B) {
	together(b, func() func() func() error {
		v := newVault(VaultConfig{Host: testVault}, Options{Now: time.Now})
		_, err := v.AddForeignVersion("k")
		check(b, err)
		private, err := v.PrivateKey("k", "")
		check(b, err)
		wrapped, err := (&rsaKey{private: private}).encrypt("RSA-OAEP-256", []byte("x"))
		check(b, err)
		return func() func() error {
			return func() error {
				_, err := v.compute(target{operation: opUnwrap, key: "k"},
					operationRequest{Algorithm: "RSA-OAEP-256", Value: wrapped})
				return err
			}
		}
	})
}

// together lets one caller call alone; then as many callers as there are processors call one place; then each calls a
// place of its own. place makes a place, and what makes its callers. times-serial is how many times more calls many
// callers complete than one, which the free processors limit. times-own is how much longer they take in one place
// than in places of their own; a value above 1 means that they wait for each other.
func together(b *testing.B, place func() func() func() error) {
	b.Helper()
	shared := place()
	n := runtime.GOMAXPROCS(0)
	one, own := make([]func() error, n), make([]func() error, n)
	for i := range n {
		one[i], own[i] = shared(), place()()
		check(b, errors.Join(one[i](), own[i]())) // their connections, and everything that is made once
	}
	const round = 50
	var serial, parallel, apart time.Duration
	for b.Loop() {
		serial += timed(b, one[:1], round*n)
		parallel += timed(b, one, round)
		apart += timed(b, own, round)
	}
	calls := float64(b.N * round * n)
	b.ReportMetric(float64(serial.Microseconds())/calls, "µs/call-alone")
	b.ReportMetric(serial.Seconds()/parallel.Seconds(), "times-serial")
	b.ReportMetric(parallel.Seconds()/apart.Seconds(), "times-own")
}

// timed measures how long the callers take for n calls each.
func timed(b *testing.B, callers []func() error, n int) time.Duration {
	b.Helper()
	begin := time.Now()
	var all sync.WaitGroup
	for _, call := range callers {
		all.Go(func() {
			for range n {
				if err := call(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	return time.Since(begin)
}

// The test holds every lock of the whole process, and a call succeeds all the same.
func TestACallTakesNoLockOfTheWholeProcess(t *testing.T) {
	e, err := Start(Options{Vaults: []VaultConfig{{Host: testVault}}})
	check(t, err)
	defer func() { check(t, e.Close()) }()
	v := e.Vault(testVault)
	_, err = v.AddForeignVersion("k")
	check(t, err)
	e.Fail(Rule{Key: "another", Status: http.StatusTooManyRequests})
	token, err := e.signer.mint(DefaultTenantID, "load", v.audience(), time.Now(), time.Hour, 0)
	check(t, err)
	client := &http.Client{Transport: e.Transport(), Timeout: time.Minute}
	e.mu.Lock()
	e.rules.mu.Lock()
	defer e.mu.Unlock()
	defer e.rules.mu.Unlock()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+testVault+"/keys/k?api-version=7.6",
		nil)
	check(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(req)
	check(t, err)
	if check(t, res.Body.Close()); res.StatusCode != http.StatusOK || len(e.Requests()) != 1 {
		t.Errorf("%d; %v", res.StatusCode, e.Requests())
	}
}

func TestTheRequestLogKeepsTheLast(t *testing.T) {
	l := newRequestLog(4)
	for i := range 10 {
		var got []int
		for _, r := range l.all() {
			got = append(got, r.Status)
		}
		var want []int
		for n := max(0, i-4); n < i; n++ {
			want = append(want, n)
		}
		if !slices.Equal(got, want) {
			t.Errorf("after %d: %v", i, got)
		}
		l.add(RequestLog{Status: i})
	}
}

// Who asks often enough sees each request once; who does not can tell.
func TestTheRequestLogTellsWhatCameSince(t *testing.T) {
	l := newRequestLog(4)
	statuses := func(list []RequestLog) (s []int) {
		for _, r := range list {
			s = append(s, r.Status)
		}
		return s
	}
	var next uint64
	for i := range 10 {
		l.add(RequestLog{Status: i})
		list, after := l.since(next)
		if got := statuses(list); !slices.Equal(got, []int{i}) || after != next+1 {
			t.Errorf("since %d: %v, and the next is %d", next, got, after)
		}
		next = after
	}
	list, next := l.since(2)
	if got := statuses(list); !slices.Equal(got, []int{6, 7, 8, 9}) || next != 10 {
		t.Errorf("since 2, of which four are kept: %v, and the next is %d", got, next)
	}
}

// The log gives what was recorded, once and in order, whoever records meanwhile.
func TestTheRequestLogIsRecordedByMany(t *testing.T) {
	l := newRequestLog(64)
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 1000 {
				l.add(RequestLog{Status: i, Key: strconv.Itoa(w)})
			}
		})
	}
	for range 1000 {
		last := map[string]int{}
		for _, r := range l.all() {
			if at, seen := last[r.Key]; seen && r.Status <= at {
				t.Fatalf("of %s, %d came after %d", r.Key, r.Status, at)
			}
			last[r.Key] = r.Status
		}
	}
	writers.Wait()
	if n := len(l.all()); n != 64 {
		t.Errorf("%d are kept", n)
	}
}

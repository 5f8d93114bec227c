package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/observe"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// A crowd is a daemon with many keys, a thousand in each vault, all of them well. Each has two generations, and was
// looked at and proven.

const (
	crowdVault = "https://crowd-%02d.vault.azure.net"
	perVault   = 1000
)

func newCrowd(t testing.TB, keys int) *Daemon {
	t.Helper()
	var vaults, names strings.Builder
	for i := range keys {
		if i%perVault == 0 {
			fmt.Fprintf(&vaults, "  crowd-%02d: {url: %s}\n", i/perVault, fmt.Sprintf(crowdVault, i/perVault))
		}
		// Not at a time of the month: on that day keys that were rotated the day before would be due.
		fmt.Fprintf(&names, "  %s: {vaults: [crowd-%02d], schedule: \"@every 720h\"}\n", crowdKey(i), i/perVault)
	}
	text := strings.Replace(basic, "  weu: {url: https://weu-keyd-test.vault.azure.net}\n", vaults.String(), 1)
	text = strings.Replace(text, "  one: {vaults: [weu], schedule: \"0 3 1 * *\"}\n", names.String(), 1)
	d, _ := newDaemonOf(t, text)
	d.observer = observe.New(observe.Config{
		Instance: "test", HSM: crowdHSM{}, Records: d.store, Clock: time.Now,
		Vaults: func(url string) observe.Vault { return crowdSeen{d: d, url: url} },
	})
	for i := range keys {
		p, ok := d.loop.Policy(crowdKey(i))
		if !ok {
			t.Fatalf("there is no key %s", crowdKey(i))
		}
		rec, err := d.store.Save(t.Context(), crowdRecord(p), chain.Entry{Event: "test", Actor: "test"})
		if err != nil {
			t.Fatal(err)
		}
		d.observer.Observe(t.Context(), p, rec)
	}
	if _, err := d.health.Prove(t.Context(), "none"); err == nil { // it reads the records all the same
		t.Fatal("a key that is not there was proven")
	}
	d.readyAt.Store(new(time.Time))
	return d
}

func crowdKey(i int) string { return fmt.Sprintf("key-%05d", i) }

func crowdRecord(p key.Policy) record.Record {
	rec := record.Record{Schema: record.SchemaVersion, Key: p.Key, Instance: "test", Vaults: p.Vaults,
		Operations: p.Operations}
	for n := 1; n <= 2; n++ {
		at := time.Now().AddDate(0, 0, 2*n-5).Round(0)
		state := key.Superseded
		if n == 2 {
			state = key.Proven
		}
		rec.Generations = append(rec.Generations, record.Generation{
			Number: n, ID: key.ID(fmt.Sprintf("%032x", n)), Spec: p.Spec, Reason: "the schedule", Requester: "schedule",
			Fingerprint: key.Fingerprint("sha256:" + strings.Repeat("ab", 32)), Reserved: at, Pinned: at, Finished: at,
			Placements: []record.Placement{{
				Seq: n, Vault: p.Vaults[0].URL, VaultName: p.Vaults[0].Name, Attempt: key.ID(fmt.Sprintf("%032x", n)),
				State: state, At: at, Version: fmt.Sprintf("%032x", n), Created: at, ImportedAt: at,
				ProvenAt: time.Now().Round(0), Operations: p.Operations,
			}},
		})
	}
	return rec
}

// crowdHSM does not answer: nothing here measures what it would show.
type crowdHSM struct{ observe.HSM }

var errAway = errors.New("the HSM side is away")

func (crowdHSM) Inventory(context.Context) ([]key.Object, error)         { return nil, errAway }
func (crowdHSM) Find(context.Context, key.ID) ([]key.Object, error)      { return nil, errAway }
func (crowdHSM) CheckKEK(context.Context, key.KEK) (how string, e error) { return "configured", nil }

// crowdSeen is a vault that shows what the record has.
type crowdSeen struct {
	observe.Vault
	d   *Daemon
	url string
}

func (v crowdSeen) KEK(context.Context, string) (key.KEK, bool, error)   { return key.KEK{}, false, nil }
func (v crowdSeen) KEKVersions(context.Context) ([]key.Version, error)   { return nil, nil }
func (v crowdSeen) NativeRotation(context.Context, string) (bool, error) { return false, nil }
func (v crowdSeen) Deleted(context.Context, string) (bool, error)        { return false, nil }
func (v crowdSeen) ClockSkew() (time.Duration, bool)                     { return 0, true }
func (v crowdSeen) Sweep(context.Context, int) ([]key.Item, error)       { return nil, key.ErrTooManyPages }
func (v crowdSeen) Newest(ctx context.Context, name string) (key.Version, error) {
	all, err := v.Versions(ctx, name)
	return all[len(all)-1], err
}

func (v crowdSeen) Get(ctx context.Context, name, version string) (key.Version, error) {
	all, err := v.Versions(ctx, name)
	for _, one := range all {
		if one.ID == version {
			return one, err
		}
	}
	return key.Version{}, err
}

func (v crowdSeen) Versions(ctx context.Context, name string) (all []key.Version, err error) {
	rec, err := v.d.store.Load(ctx, name)
	for _, g := range record.Map(rec, shownGeneration, shownPlacement) {
		all = append(all, key.Version{ID: g.Placements[0].Version, Enabled: true, Created: g.Placements[0].Created,
			Operations: rec.Operations})
	}
	return all, err
}

func TestASmallCrowdIsWellAndEachKeyHasFourSeries(t *testing.T) {
	d := newCrowd(t, 60)
	d.showRecords(t.Context())
	s := d.Snapshot(status.Selection{Few: true})
	if s.Summary.Keys != 60 || s.Summary.States[status.StateOK] != 60 || len(s.Keys) != 0 {
		t.Errorf("the summary is %+v with %d keys", s.Summary, len(s.Keys))
	}
	families, err := d.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var series []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "key" && l.GetValue() == crowdKey(7) {
					series = append(series, f.GetName())
				}
			}
		}
	}
	if len(series) > 4 {
		t.Errorf("a quiet key has %d series, want at most 4: %v", len(series), series)
	}
}

// counted counts what is read of the records.
type counted struct {
	Store
	loads map[string]int
}

func (c *counted) Load(ctx context.Context, name string) (record.Record, error) {
	c.loads[name]++
	return c.Store.Load(ctx, name)
}

func TestOnlyRecordsThatChangedAreReadForASnapshot(t *testing.T) {
	d := newCrowd(t, 60)
	d.overview(t.Context())
	store := &counted{d.store, map[string]int{}}
	d.store = store
	d.overview(t.Context())
	d.showRecords(t.Context())
	if len(store.loads) != 0 {
		t.Errorf("records were read though nothing had changed: %v", store.loads)
	}
	rec, err := store.Store.Load(t.Context(), crowdKey(3))
	if err != nil {
		t.Fatal(err)
	}
	rec.Hold = &key.Hold{Code: key.HoldPaused, Reason: "moving house", By: "uid 0 (root)", Since: time.Now()}
	save(t, d, rec)
	s := d.Snapshot(status.Selection{Few: true, Brief: true})
	if fmt.Sprint(store.loads) != fmt.Sprintf("map[%s:1]", crowdKey(3)) || s.Summary.States[status.StateHeld] != 1 {
		t.Errorf("after one change: read %v, states %v", store.loads, s.Summary.States)
	}
}

// printed reports what one use of a measured thing costs.
func printed(b *testing.B, do func()) {
	b.Helper()
	b.ReportAllocs()
	do() // what is kept from the first use on is not measured
	before := cpu(b)
	for b.Loop() {
		do()
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/op")
}

// cpu is the time for which this process had a core, in which other programs' work does not show.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkTenThousandKeys measures what people and Prometheus ask of a daemon with 10,000 keys in 10 vaults.
func BenchmarkTenThousandKeys(b *testing.B) {
	d := newCrowd(b, 10_000)
	encode := func(sel status.Selection) func() {
		return func() {
			if _, err := json.Marshal(d.Snapshot(sel)); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("Overview", func(b *testing.B) {
		printed(b, func() { d.overview(b.Context()) })
		var heap runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&heap)
		b.ReportMetric(float64(heap.HeapAlloc)/(1<<20), "heap-MiB") // what the daemon keeps
	})
	b.Run("Status", func(b *testing.B) { printed(b, encode(status.Selection{Few: true})) })
	b.Run("StatusOfOneKey", func(b *testing.B) {
		printed(b, encode(status.Selection{Only: []string{crowdKey(77)}}))
	})
	b.Run("Page", func(b *testing.B) { printed(b, encode(status.Selection{Page: 100})) })
	b.Run("StatusOfAllKeys", func(b *testing.B) { printed(b, encode(status.Selection{})) })
	b.Run("Idle", func(b *testing.B) { printed(b, func() { d.showRecords(b.Context()) }) })
	b.Run("Scrape", func(b *testing.B) {
		scrape := func(coding string) *httptest.ResponseRecorder {
			answer, request := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil)
			request.Header.Set("Accept-Encoding", coding)
			promhttp.HandlerFor(d.reg, promhttp.HandlerOpts{}).ServeHTTP(answer, request)
			return answer
		}
		printed(b, func() { scrape("gzip") })
		b.ReportMetric(float64(strings.Count(scrape("identity").Body.String(), `{key="key-`))/10_000, "series/key")
	})
}

// The rule is the configuration's; the consent counts only for the very rule that it names.
func TestASnapshotShowsTheRetireRuleAndItsConsent(t *testing.T) {
	p := key.Policy{Key: "one", Retire: key.RetireRule{DisableAfter: 400 * 24 * time.Hour}}
	rec := record.Record{Key: "one"}
	want := status.RetireRule{DisableAfter: 400 * 86400, Pause: 86400}
	if r := shownRetireRule(p, rec); r == nil || *r != want {
		t.Errorf("without a consent: %+v, want %+v", r, want)
	}
	rec.Consent = &record.Consent{Rule: p.Retire, By: "uid 0 (root)"}
	if r := shownRetireRule(p, rec); r == nil || r.Consent == nil || r.Consent.By != "uid 0 (root)" {
		t.Errorf("with a consent: %+v", r)
	}
	p.Retire.DisableAfter /= 2
	if r := shownRetireRule(p, rec); r == nil || r.Consent != nil {
		t.Errorf("with a consent to another rule: %+v", r)
	}
	p.Retained = true
	if r := shownRetireRule(p, rec); r != nil {
		t.Errorf("a key that left the configuration: %+v", r)
	}
}

// What is kept of a key must not outlive the policy that it is of.
func TestASnapshotShowsThePolicyOfTheLastReload(t *testing.T) {
	d, path := newDaemon(t)
	save(t, d, oneRecord(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)))
	shown := func() status.Key { return d.Snapshot(status.Selection{}).Keys[0] }
	before := shown()
	edit(t, path, "0 3 1 * *", "0 4 1 * *")
	if err := d.Reload(t.Context(), "uid 0 (root)"); err != nil {
		t.Fatal(err)
	}
	if k := shown(); k.Schedule != "0 4 1 * *" || !k.NextRotation.Equal(before.NextRotation.Add(time.Hour)) {
		t.Errorf("after the reload: schedule %s, next rotation %s; before: %s", k.Schedule, k.NextRotation,
			before.NextRotation)
	}
	edit(t, path, "  one: {vaults: [weu], schedule: \"0 4 1 * *\"}", "  two: {vaults: [weu]}")
	if err := d.Reload(t.Context(), "uid 0 (root)"); err != nil {
		t.Fatal(err)
	}
	s := d.Snapshot(status.Selection{})
	if k, _ := s.Key("one"); !k.Retained || len(s.Keys) != 2 {
		t.Errorf("a key that left the configuration: %+v", k)
	}
}

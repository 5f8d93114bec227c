package health

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/sample"
)

// seriesOf lists the metrics that have a series of this key, once for each series.
func seriesOf(t *testing.T, reg *prometheus.Registry, name string) (found []string) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "key" && l.GetValue() == name {
					found = append(found, f.GetName())
				}
			}
		}
	}
	return found
}

func TestAQuietKeyHasOneSeriesHoweverManyVersionsItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 5, time.Now()))
		h, reg := w.health(t, nil)
		run(t, h, func() { wait(25 * time.Hour) })
		if found := seriesOf(t, reg, "k"); fmt.Sprint(found) != "[keyd_key_proven_timestamp_seconds]" {
			t.Errorf("a quiet key has the series %v", found)
		}
	})
}

// Nobody is left to say so but the metrics.
func TestAVersionThatIsNotProvenInTimeGetsASeriesEvenIfHealthHasStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 2, time.Now()))
		h, reg := w.health(t, nil)
		run(t, h, func() { wait(time.Minute) })
		last := sample.Time(w.times("k-v2")[0])
		time.Sleep(2*defaultNewest - time.Minute)
		if v, ok := value(t, reg, lastSuccess, ageNewest, "k", "weu"); ok {
			t.Errorf("a version that is not late yet was last proven at %v", v)
		}
		time.Sleep(time.Minute)
		if v, _ := value(t, reg, lastSuccess, ageNewest, "k", "weu"); v != last {
			t.Errorf("the late version was last proven at %v, want %v", v, last)
		}
		if v, ok := value(t, reg, lastSuccess, ageOlder, "k", "weu"); ok {
			t.Errorf("the older version, which is not late, was last proven at %v", v)
		}
		if v, _ := value(t, reg, oldestSuccess, ageNewest, "weu"); v != last {
			t.Errorf("the vault's oldest success is %v, want %v", v, last)
		}
	})
}

func TestARecordIsReadAgainOnlyAfterItChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 1, time.Now()))
		h, _ := w.health(t, nil)
		run(t, h, func() {
			wait(time.Hour)
			if w.reads != 1 {
				t.Errorf("a record that did not change was read %d times", w.reads)
			}
			w.save(func() {})
			for range 10 {
				h.Refresh()
			}
			wait(refreshPause)
			if w.reads != 2 {
				t.Errorf("after a change the record was read %d times in all, want 2", w.reads)
			}
		})
	})
}

func TestTheOverviewHasTheNewestVersionsAndOlderOnesInTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 4, time.Now()))
		w.fail = func(_, version string, _ proof.Leg) error {
			if version == "k-v2" {
				return because(key.KeyDisabled)
			}
			return nil
		}
		h, _ := w.health(t, nil)
		run(t, h, func() { wait(26 * time.Hour) })
		got := ""
		for _, p := range h.Overview()["k"] {
			got += fmt.Sprint(p.Version, " ", p.Failing, " ")
		}
		if got != "k-v4 false k-v2 true " {
			t.Errorf("the overview has %s", got)
		}
	})
}

// BenchmarkScrape makes the series of 10,000 keys with four versions each.
func BenchmarkScrape(b *testing.B) {
	h := New(Config{
		Clock: time.Now, Vaults: func(string) proof.Vault { return fakeVault{} },
	})
	now := time.Now()
	for i := range 10_000 {
		k := managed(fmt.Sprintf("key-%05d", i), weu, 4, now)
		h.track(now, KeyOf(k.Policy, 0), Subjects(KeyOf(k.Policy, 0), k.Record))
	}
	b.ReportAllocs()
	for b.Loop() {
		if n := len(h.collect()); n < 10_000 {
			b.Fatalf("%d series", n)
		}
	}
}

// BenchmarkProof is what a proof costs beside the proof itself, among 40,000 versions.
func BenchmarkProof(b *testing.B) {
	h := New(Config{Clock: time.Now, Vaults: func(string) proof.Vault { return fakeVault{} }})
	now := time.Now()
	for i := range 10_000 {
		k := managed(fmt.Sprintf("key-%05d", i), weu, 4, now)
		h.track(now, KeyOf(k.Policy, 0), Subjects(KeyOf(k.Policy, 0), k.Record))
	}
	q := h.vaults[weu]
	b.ReportAllocs()
	for b.Loop() {
		t := q.waiting[0]
		h.begin(t)
		now = t.due
		q.busy--
		t.running--
		t.last = t.last.ended(now, proof.Result{Outcome: key.Passed})
		h.Metrics.ended(t.Subject, t.last.Result, time.Millisecond)
		q.schedule(now, h.pace, t)
	}
}

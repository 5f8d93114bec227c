package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/sample"
)

// run lets h prove while f runs, and then stops h.
func run(t *testing.T, h *Health, f func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Run(ctx)
	}()
	f()
	cancel()
	<-done
}

// wait lets time pass and waits until the proofs that became due have ended.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// anyLabel stands for any value of a label.
const anyLabel = "*"

// value reads the series with these values of its labels, which are in the order of their names; ok is false if it does
// not exist.
func value(t *testing.T, reg *prometheus.Registry, name string, labels ...string) (v float64, ok bool) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			for i, l := range m.GetLabel() {
				if labels[i] != anyLabel && l.GetValue() != labels[i] {
					continue series
				}
			}
			return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
		}
	}
	return 0, false
}

const (
	lastResult  = "keyd_proof_last_result"
	lastSuccess = "keyd_proof_last_success_timestamp_seconds"
	proofsTotal = "keyd_proofs_total"

	oldestSuccess = "keyd_proof_oldest_success_timestamp_seconds"
)

func TestTheNewestIsProvenEveryFewMinutesAndOlderOnesDaily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 2, time.Now()))
		h, reg := w.health(t, nil)
		run(t, h, func() { wait(48 * time.Hour) })
		if n := len(w.times("k-v2")); n < 576 || n > 577 {
			t.Errorf("the newest was proven %d times in two days, want every 5 minutes", n)
		}
		if n := len(w.times("k-v1")); n != 2 {
			t.Errorf("the older was proven %d times in two days", n)
		}
		for _, age := range []string{ageNewest, ageOlder} {
			if _, ok := value(t, reg, lastResult, age, anyLabel, "k", anyLabel, "weu"); ok {
				t.Errorf("the %s is shown as failing", age)
			}
		}
	})
}

func TestOneLostAnswerIsNoAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 1, time.Now()))
		h, reg := w.health(t, nil)
		run(t, h, func() {
			wait(time.Minute)
			begun := len(w.times("k-v1"))
			w.do(func() {
				w.fail = func(string, string, proof.Leg) error {
					if len(w.proofs["k-v1"]) == begun+1 {
						return errors.New("connection reset")
					}
					return nil
				}
			})
			for range 600 {
				wait(time.Second)
				if _, failing := value(t, reg, lastResult, ageNewest, anyLabel, "k", anyLabel, "weu"); failing {
					t.Fatal("one inconclusive proof is shown as failing")
				}
			}
			times := w.times("k-v1")[begun:]
			if again := times[1].Sub(times[0]); again > 30*time.Second {
				t.Errorf("tried again after %s", again)
			}
		})
	})
}

func TestTwoInconclusiveProofsAreFailingAndNameLegAndReason(t *testing.T) {
	for leg, c := range map[proof.Leg]struct {
		err    error
		reason key.Reason
	}{
		proof.LegModulus: {because(key.ForbiddenByFirewall), key.ForbiddenByFirewall},
		proof.LegUnwrap:  {because(key.KeyDisabled), key.KeyDisabled},
		proof.LegWrap:    {errors.New("403 Forbidden"), key.OtherReason},
		proof.LegHSM:     {errors.New("403 Forbidden"), key.HSMFailed},
	} {
		t.Run(string(leg), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, managed("k", weu, 1, time.Now().Add(-time.Hour)))
				w.fail = func(_, _ string, at proof.Leg) error {
					if at == leg {
						return c.err
					}
					return nil
				}
				var log bytes.Buffer
				h, reg := w.health(t, func(cfg *Config) { cfg.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
				run(t, h, func() { wait(2 * time.Minute) })
				if v, ok := value(t, reg, lastResult, ageNewest, anyLabel, "k", string(c.reason), "weu"); !ok ||
					v != 0 {
					t.Errorf("%s is %v", lastResult, v)
				}
				if v, _ := value(
					t, reg, proofsTotal, string(leg), "inconclusive", string(c.reason), "weu",
				); v < 2 {
					t.Errorf("%s counts %v", proofsTotal, v)
				}
				r := h.Results("k")
				if len(r) != 1 || r[0].Leg != string(leg) || r[0].Outcome != key.Inconclusive ||
					r[0].Reason != c.reason ||
					!strings.Contains(r[0].Error, "403 Forbidden") {
					t.Errorf("results %+v", r)
				}
				if want := fmt.Sprintf("leg=%s reason=%s ", leg, c.reason); !strings.Contains(log.String(), want) {
					t.Errorf("%q is not in the log: %s", want, log.String())
				}
			})
		})
	}
}

// because is a vault's error that has a reason.
type because key.Reason

func (b because) Error() string      { return "403 Forbidden" }
func (b because) Reason() key.Reason { return key.Reason(b) }

func TestARefutedProofAlarmsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 1, time.Now()))
		var log bytes.Buffer
		h, reg := w.health(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		run(t, h, func() {
			wait(time.Minute)
			begun := len(w.times("k-v1"))
			w.do(func() { w.wrong["k-v1"] = true })
			for len(w.times("k-v1")) == begun {
				wait(time.Second)
			}
			if v, ok := value(t, reg, lastResult, ageNewest, "yes", "k", "refuted", "weu"); !ok || v != 0 {
				t.Error("not shown after the first refuted proof")
			}
		})
		if !strings.Contains(log.String(), "proof refuted") || !strings.Contains(log.String(), "leg=vault-unwrap") {
			t.Errorf("log: %s", log.String())
		}
	})
}

func TestTheOlderSeriesShowsTheOldestOfTheSuccesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 4, time.Now()))
		w.fail = func(_, version string, _ proof.Leg) error {
			if version == "k-v2" {
				return errors.New("disabled")
			}
			return nil
		}
		begun := time.Now()
		h, reg := w.health(t, func(c *Config) { c.Newest = time.Hour })
		run(t, h, func() { wait(36 * time.Hour) })
		if v, _ := value(t, reg, lastSuccess, ageOlder, "k", "weu"); v != sample.Time(begun) {
			t.Errorf(
				"%s is %v, want that of the version that has failed since %v",
				lastSuccess,
				v,
				sample.Time(begun),
			)
		}
		if v, ok := value(t, reg, lastResult, ageOlder, anyLabel, "k", anyLabel, "weu"); !ok || v != 0 {
			t.Errorf("%s is %v (%v)", lastResult, v, ok)
		}
	})
}

func TestAfterARestartAnOlderVersionIsNoAlarmUntilItsIntervalIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		month := time.Now().Add(-30 * 24 * time.Hour)
		w := newWorld(t, managed("k", weu, 2, month))
		h, reg := w.health(t, nil)
		run(t, h, func() {
			wait(0)
			if v, ok := value(t, reg, oldestSuccess, ageOlder, "weu"); ok {
				t.Errorf("%s is %v before the first proof", oldestSuccess, v)
			}
			if v, ok := value(t, reg, lastSuccess, ageOlder, "k", "weu"); ok {
				t.Errorf("%s is %v before the first proof", lastSuccess, v)
			}
			wait(24 * time.Hour)
			v, ok := value(t, reg, oldestSuccess, ageOlder, "weu")
			if !ok || v <= sample.Time(month) {
				t.Errorf("%s is %v after a day", oldestSuccess, v)
			}
		})
	})
}

func TestAVersionThatIsNoLongerNewestBecomesOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 1, time.Now()))
		h, _ := w.health(t, nil)
		run(t, h, func() {
			wait(10 * time.Minute)
			next := newWorld(t, managed("k", weu, 2, time.Now()))
			w.save(func() {
				w.keys = next.keys
				for i := range w.keys[0].Record.Generations {
					w.keys[0].Record.Generations[i].Fingerprint = w.print
				}
			})
			h.Refresh()
			before := len(w.times("k-v1"))
			wait(12 * time.Hour)
			if n := len(w.times("k-v1")) - before; n > 1 {
				t.Errorf("the former newest was proven %d times more in half a day", n)
			}
			r := h.Results("k")
			if len(r) != 2 || !r[0].Newest || r[0].Generation != 2 || r[1].Newest {
				t.Errorf("results %+v", r)
			}
		})
	})
}

func TestAHeldKeyIsStillProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := managed("k", weu, 1, time.Now())
		k.Record.Hold = &key.Hold{Code: key.HoldForeign}
		w := newWorld(t, k)
		h, _ := w.health(t, nil)
		run(t, h, func() { wait(10 * time.Minute) })
		if len(w.times("k-v1")) < 2 {
			t.Error("not proven while held")
		}
	})
}

func TestAVaultGoneFromTheConfigurationIsSkippedWithANote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 1, time.Now()))
		var log bytes.Buffer
		h, reg := w.health(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		run(t, h, func() {
			wait(time.Minute)
			w.do(func() { w.gone[weu] = true })
			h.Refresh()
			wait(time.Second)
			before := len(w.times("k-v1"))
			wait(time.Hour)
			if n := len(w.times("k-v1")); n != before {
				t.Errorf("proven %d times more", n-before)
			}
		})
		r := h.Results("k")
		if len(r) != 1 || r[0].Outcome != "" || !strings.Contains(r[0].Error, "not in the configuration") {
			t.Errorf("results %+v", r)
		}
		if _, ok := value(t, reg, lastResult, ageNewest, anyLabel, "k", anyLabel, "weu"); ok {
			t.Error("its series are still there")
		}
		if n := strings.Count(log.String(), "not in the configuration"); n != 1 {
			t.Errorf("noted %d times:\n%s", n, log.String())
		}
	})
}

func TestSeriesOfAForgottenKeyAreDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 2, time.Now()), managed("other", hsm, 1, time.Now()))
		h, reg := w.health(t, nil)
		run(t, h, func() {
			wait(time.Hour)
			w.do(func() { w.keys = w.keys[1:] })
			wait(time.Minute)
		})
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "key" && l.GetValue() == "k" {
						t.Errorf("%s still has key k", f.GetName())
					}
				}
			}
		}
		if len(h.Results("other")) != 1 {
			t.Error("the other key was forgotten too")
		}
	})
}

func TestAVaultThatHangsDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var keys []stored
		for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			keys = append(keys, managed(name, weu, 1, time.Now()))
		}
		w := newWorld(t, append(keys, managed("well", hsm, 1, time.Now()))...)
		h, _ := w.health(t, func(c *Config) {
			c.Parallel = 2
			vaults := c.Vaults
			c.Vaults = func(url string) proof.Vault {
				if url == weu {
					return hanging{fakeVault{w, url}}
				}
				return vaults(url)
			}
		})
		run(t, h, func() { wait(time.Hour) })
		if n := len(w.times("well-v1")); n < 12 {
			t.Errorf("the other vault's version was proven %d times in an hour", n)
		}
		if r := h.Results("a"); !strings.Contains(r[0].Error, "the proof did not end within 30s") {
			t.Errorf("results %+v", r)
		}
	})
}

type hanging struct{ fakeVault }

func (hanging) Get(ctx context.Context, _, _ string) (key.Version, error) {
	<-ctx.Done()
	return key.Version{}, ctx.Err()
}

func TestProofsInOneVaultAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var keys []stored
		for _, name := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
			keys = append(keys, managed(name, weu, 1, time.Now()))
		}
		w := newWorld(t, keys...)
		w.latency = 10 * time.Second
		h, _ := w.health(t, func(c *Config) { c.Parallel = 3 })
		run(t, h, func() { wait(time.Hour) })
		if w.most != 3 {
			t.Errorf("%d proofs were under way at once, want 3", w.most)
		}
		for _, k := range keys {
			if len(w.times(version(k.Policy.Key, 1))) < 12 {
				t.Errorf("key %s was left behind", k.Policy.Key)
			}
		}
	})
}

func TestProveNowProvesEveryVersionOfTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 3, time.Now().Add(-time.Hour)), managed("other", weu, 1, time.Now()))
		h, _ := w.health(t, nil)
		results, err := h.Prove(t.Context(), "k")
		if err != nil || len(results) != 3 {
			t.Fatalf("results %+v, %v", results, err)
		}
		for _, r := range results {
			if r.Outcome != key.Passed || !r.At.Equal(time.Now().Round(0)) {
				t.Errorf("result %+v", r)
			}
		}
		if len(w.times("other-v1")) != 0 {
			t.Error("another key was proven too")
		}
		if _, err := h.Prove(t.Context(), "unknown"); err == nil {
			t.Error("an unknown key gave no error")
		}
	})
}

func TestAProofCutShortIsNotAResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 1, time.Time{}))
		w.latency = 20 * time.Second
		h, reg := w.health(t, nil)
		run(t, h, func() {
			for len(w.times("k-v1")) == 0 {
				wait(time.Second)
			}
		})
		if r := h.Results("k"); !r[0].At.IsZero() {
			t.Errorf("results %+v", r)
		}
		if v, _ := value(t, reg, proofsTotal, "modulus", "inconclusive", "Other", "weu"); v != 0 {
			t.Errorf("%v counted", v)
		}
	})
}

func TestUnreadableRecordsDoNotStopProofs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 1, time.Now()))
		broken := false
		var log bytes.Buffer
		h, _ := w.health(t, func(c *Config) {
			keys := c.Keys
			c.Keys = func(ctx context.Context) ([]Key, error) {
				w.mu.Lock()
				unreadable := broken
				w.mu.Unlock()
				if unreadable {
					return nil, errors.New("input/output error")
				}
				return keys(ctx)
			}
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		run(t, h, func() {
			wait(time.Minute)
			w.do(func() { broken = true })
			before := len(w.times("k-v1"))
			wait(time.Hour)
			if len(w.times("k-v1")) < before+11 {
				t.Error("proofs stopped")
			}
		})
		if n := strings.Count(log.String(), "cannot read the records"); n != 1 {
			t.Errorf("logged %d times", n)
		}
	})
}

// An expired version no longer wraps. Nobody wraps with an older version; everybody wraps with the newest.
func TestAnExpiredVersionFailsOnlyWhereItIsNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 2, time.Now().Add(-time.Hour)))
		w.expires = time.Now().Add(-time.Hour)
		w.fail = func(_, _ string, at proof.Leg) error {
			if at == proof.LegWrap {
				return because(key.KeyExpired)
			}
			return nil
		}
		h, _ := w.health(t, nil)
		run(t, h, func() { wait(25 * time.Hour) })
		for _, r := range h.Results("k") {
			if r.Newest &&
				(r.Outcome != key.Inconclusive || r.Reason != key.KeyExpired || r.Leg != string(proof.LegWrap)) {
				t.Errorf("the newest: %+v", r)
			}
			if !r.Newest && (r.Outcome != key.Passed || r.At.IsZero()) {
				t.Errorf("the older one: %+v", r)
			}
		}
	})
}

// The person on call must know whether consumers can still read their data.
func TestAVersionThatFailsOnlyAtWrappingIsDistinguished(t *testing.T) {
	for leg, wrap := range map[proof.Leg]float64{proof.LegWrap: 1, proof.LegUnwrap: 0, proof.LegModulus: 0} {
		t.Run(string(leg), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, managed("k", weu, 1, time.Now().Add(-time.Hour)))
				broken := true
				w.fail = func(_, _ string, at proof.Leg) error {
					if at == leg && broken {
						return because(key.KeyNotYetValid)
					}
					return nil
				}
				h, reg := w.health(t, nil)
				shown := func(failing bool, wrap float64) {
					t.Helper()
					if _, ok := value(t, reg, lastResult, ageNewest, anyLabel, "k", anyLabel, "weu"); ok != failing {
						t.Errorf("last_result is shown: %v, want %v", ok, failing)
					}
					if v, _ := value(t, reg, "keyd_proof_wrap_failing", ageNewest, "k", "weu"); v != wrap {
						t.Errorf("wrap_failing %v, want %v", v, wrap)
					}
				}
				run(t, h, func() {
					wait(10 * time.Minute)
					shown(true, wrap)
					w.do(func() { broken = false })
					wait(10 * time.Minute)
					shown(false, 0)
				})
			})
		})
	}
}

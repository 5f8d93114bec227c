package azurefaults_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
)

// settle steps until a generation that was begun after the faults is finished, and
// then, with the schedule taken away, until nothing is under way. An import may be
// open for eleven minutes, and a failure's pause is five at most.
func (w *world) settle() {
	w.t.Helper()
	over := w.clock.now()
	w.stepUntil(func(_ rotate.Step, g *key.Generation) bool { return !g.Reserved.Before(over) && !g.Finished.IsZero() })
	w.policy.Schedule = nil
	w.stepUntil(func(s rotate.Step, g *key.Generation) bool { return s.Kind == rotate.Idle && !g.Finished.IsZero() })
}

// stepUntil steps for an hour at most, until the step and the latest generation
// are as wanted.
func (w *world) stepUntil(enough func(rotate.Step, *key.Generation) bool) {
	w.t.Helper()
	last := rotate.Step{}
	for end := w.clock.now().Add(time.Hour); w.clock.now().Before(end); {
		last = w.step()
		rec := w.record()
		if rec.Hold != nil {
			w.fail("the key is held (%s): %s", rec.Hold.Code, rec.Hold.Reason)
		}
		if g := rec.Latest(); g != nil && enough(last, g) {
			return
		}
	}
	w.fail("an hour after the fault the loop has not settled: %s (%s)", last.Kind, last.Why)
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s; what happened:\n%s", fmt.Sprintf(format, args...), strings.Join(w.events, "\n"))
}

// check compares the vaults, the token and the record, and counts what is lost or
// doubled.
func (w *world) check() {
	w.t.Helper()
	rec := w.record()
	lost, doubled := w.checkPairs(rec)
	for _, url := range urls {
		l, d := w.checkVault(rec, url)
		lost, doubled = lost+l, doubled+d
	}
	for _, g := range rec.Generations {
		for _, url := range urls {
			if p := g.In(url); p == nil || !p.Good() || p.ProvenAt.IsZero() {
				w.t.Errorf("generation %d is not proven in %s", g.Number, url)
				lost++
			}
		}
	}
	report, err := w.store.Verify(w.t.Context())
	if err != nil || !report.Consistent() {
		w.t.Errorf("the audit chain: %v %s", err, report)
	}
	figures.lost.Add(int64(lost))
	figures.doubled.Add(int64(doubled))
	if lost+doubled > 0 {
		w.fail("lost %d, doubled %d", lost, doubled)
	}
}

// checkPairs requires exactly one whole pair in the token for each generation.
func (w *world) checkPairs(rec key.Record) (lost, doubled int) {
	w.t.Helper()
	objects, err := w.hsm.Inventory(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, g := range rec.Generations {
		whole := slices.ContainsFunc(objects, func(o key.Object) bool { return o.ID == g.ID && o.Complete && isPair(o, g.Fingerprint) })
		if !whole {
			w.t.Errorf("generation %d has no whole pair in the token", g.Number)
			lost++
		}
	}
	if n := len(objects) - len(rec.Generations); n > 0 {
		w.t.Errorf("the token has %d pairs for %d generations", len(objects), len(rec.Generations))
		doubled += n
	}
	return lost, doubled
}

func isPair(o key.Object, want key.Fingerprint) bool {
	print, err := key.FingerprintOf(o.Public)
	return err == nil && print == want
}

// checkVault requires that a vault's versions are the recorded placements, one for
// each generation, and that each opens what was closed under it.
func (w *world) checkVault(rec key.Record, url string) (lost, doubled int) {
	w.t.Helper()
	recorded := map[string]key.Fingerprint{} // by version
	for _, g := range rec.Generations {
		for _, p := range g.Placements {
			if p.Vault != url || p.Version == "" {
				continue
			}
			recorded[p.Version] = g.Fingerprint
			if len(p.Aliases) > 0 {
				w.t.Errorf("generation %d has the aliases %v in %s", g.Number, p.Aliases, url)
				doubled += len(p.Aliases)
			}
		}
	}
	v := w.emu.Vault(strings.TrimPrefix(url, "https://"))
	material := map[key.Fingerprint]int{}
	for _, x := range v.Versions(keyName) {
		print, err := key.FingerprintOf(&rsa.PublicKey{N: x.N, E: x.E})
		if err != nil {
			w.t.Fatal(err)
		}
		if material[print]++; material[print] > 1 {
			w.t.Errorf("version %s in %s is a duplicate", x.ID, url)
			doubled++
		}
		if recorded[x.ID] != print || !x.Enabled {
			w.t.Errorf("version %s in %s: recorded as %q, is %q, enabled %t", x.ID, url, recorded[x.ID], print, x.Enabled)
			lost++
		}
		if err := opens(v, x); err != nil {
			w.t.Errorf("version %s in %s: %v", x.ID, url, err)
			lost++
		}
		delete(recorded, x.ID)
	}
	for id := range recorded {
		w.t.Errorf("version %s is recorded, and %s does not have it", id, url)
		lost++
	}
	return lost, doubled
}

// opens closes a data key as a consumer does, and has the vault open it.
func opens(v *emulator.Vault, x emulator.VersionInfo) error {
	dataKey := make([]byte, 32)
	_, _ = rand.Read(dataKey)
	closed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &rsa.PublicKey{N: x.N, E: x.E}, dataKey, nil)
	if err != nil {
		return err
	}
	opened, err := v.Unwrap(keyName, x.ID, "RSA-OAEP-256", closed)
	if err == nil && !slices.Equal(opened, dataKey) {
		err = fmt.Errorf("it opened a data key to something else")
	}
	return err
}

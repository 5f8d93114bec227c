package azurefaults_test

import (
	"fmt"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// No rule may disable anything sooner than after a day. So keyd makes a few generations on the day before the hour.
// All but the newest of them become due in the hour, one after the other. The newest of them is superseded in the
// hour itself, and so never due.
const (
	disableAfter = 24 * time.Hour
	untilDue     = time.Minute // from the hour's beginning until the first is due
	yesterdays   = 4           // generations
	yesterdayGap = 3 * time.Minute
)

// dueVersions are the versions in one vault that the retire rule makes due in the hour.
type dueVersions map[string]dueVersion

type dueVersion struct {
	at  time.Time            // when it is due
	was emulator.VersionInfo // before
}

// yesterday makes keyd create the generations of the day before, without faults.
func (w *world) yesterday() {
	w.t.Helper()
	w.configure(yesterdayGap)
	w.start()
	w.awaitSocket()
	w.await("the generations of the day before are made", 2*time.Hour, func(k status.Key) bool {
		return len(k.Generations) >= yesterdays && !k.Generations[yesterdays-1].Finished.IsZero()
	})
	w.must("retire", keyName, "--yes", "--reason", "as shown")
	w.stop()
	old := slices.DeleteFunc(w.record().Generations, func(g record.Generation) bool { return g.Deactivated.IsZero() })
	w.due = map[string]dueVersions{}
	for _, url := range urls {
		w.due[url] = w.dueIn(url, old)
	}
	w.pass(old[0].Deactivated.Add(disableAfter - untilDue).Sub(w.clock.Now()))
}

// awaitSocket waits a few minutes at most until the daemon answers.
func (w *world) awaitSocket() {
	w.t.Helper()
	for end := w.clock.Now().Add(10 * time.Minute); w.clock.Now().Before(end); w.tick() {
		if _, err := w.look(); err == nil {
			return
		}
	}
	w.fail("after ten minutes keyd cannot be asked")
}

// dueIn returns the versions of a vault that become due: those of the old generations.
// There is one version for each generation.
func (w *world) dueIn(url string, old []record.Generation) dueVersions {
	w.t.Helper()
	all := w.versions(url)
	if len(old) < yesterdays-1 || len(all) <= len(old) {
		w.t.Fatalf("%s has %d versions, and %d generations are old", url, len(all), len(old))
	}
	due := dueVersions{}
	for i, g := range old {
		// Since then it has been the newest in no vault.
		at := all[i+1].Created
		if g.Deactivated.After(at) {
			at = g.Deactivated
		}
		due[all[i].ID] = dueVersion{at.Add(disableAfter), all[i]}
	}
	return due
}

// versions returns the key's actual versions in the vault.
func (w *world) versions(url string) []emulator.VersionInfo {
	return w.emu.Vault(strings.TrimPrefix(url, "https://")).Versions(keyName)
}

// retired reports whether keyd has recorded every due version as disabled.
func (w *world) retired(made []status.Generation) bool {
	known := 0
	for _, g := range made {
		for _, p := range g.Placements {
			if _, due := w.due[p.Vault][p.Version]; due && p.State == key.Disabled {
				known++
			}
		}
	}
	return known == len(w.due[urls[0]])+len(w.due[urls[1]])
}

// disablings returns the disable requests that reached Azure since a moment.
func (w *world) disablings(since time.Time) []emulator.RequestLog {
	return slices.DeleteFunc(w.emu.Requests(),
		func(r emulator.RequestLog) bool { return r.Operation != update || r.Time.Before(since) })
}

// disablingUntried says which part of a fault no disabling of the hour has met, or "". If the vaults show changes
// late, keyd must look before they show a disabling.
func (w *world) disablingUntried(f *faults, begun time.Time) string {
	asked := w.disablings(begun.Add(-f.k.azure.Abs()))
	if f.k.still {
		return ""
	}
	if len(asked) == 0 {
		return "nothing was disabled"
	}
	for i, r := range f.k.rules {
		switch {
		case r.Operation == update && f.met(i) == 0:
			return fmt.Sprintf("no disabling met %+v", r)
		case r.Stale > 0 && (!w.lookedAfter(asked, vaultHost, r.Stale) || !w.lookedAfter(asked, hsmHost, r.Stale)):
			return "keyd never looked at a vault just after a disabling"
		}
	}
	if lag := f.k.set.replication; lag > 0 && !w.lookedAfter(asked, hsmHost, lag) {
		return "keyd never looked at the Managed HSM just after a disabling"
	}
	return ""
}

// lookedAfter reports whether the vault listed its versions within that time after it carried out one of the
// disablings.
func (w *world) lookedAfter(asked []emulator.RequestLog, host string, span time.Duration) bool {
	all := w.emu.Requests()
	return slices.ContainsFunc(asked, func(d emulator.RequestLog) bool {
		return d.Host == host && d.Status == http.StatusOK &&
			slices.ContainsFunc(all, func(r emulator.RequestLog) bool {
				after := r.Time.Sub(d.Time)
				return r.Host == host && r.Operation == "versions" && r.Status == http.StatusOK && after > 0 &&
					after < span
			})
	})
}

// prolong continues the faults after the hour, without rotations, until they have affected disablings too: rotations
// may have left no time for them.
func (w *world) prolong(f *faults, begun time.Time) {
	w.t.Helper()
	if w.disablingUntried(f, begun) == "" {
		return
	}
	w.rotateEvery(0)
	for since := time.Hour; since < 2*time.Hour &&
		w.disablingUntried(f, begun) != ""; since = w.clock.Now().Sub(begun) {
		f.turn(since)
		w.tick()
	}
	if untried := w.disablingUntried(f, begun); untried != "" {
		w.t.Errorf("%s, in two hours: it was not tried", untried)
	}
	w.rotateEvery(hourly())
}

// checkDisablings requires that the due versions are disabled in every vault and in the record, and otherwise
// unchanged; that no others are recorded as disabled; and that nobody requested to disable any other version, or one
// too early.
func (w *world) checkDisablings(rec record.Record, k kind) {
	w.t.Helper()
	for _, url := range urls {
		left := len(w.due[url])
		for _, x := range w.versions(url) {
			d, due := w.due[url][x.ID]
			if !due {
				continue
			}
			left--
			want := d.was
			want.Enabled = false
			if !reflect.DeepEqual(x, want) {
				w.t.Errorf("a version in %s that was due is %+v, want %+v", url, x, want)
			}
		}
		if left > 0 {
			w.t.Errorf("%d versions that were due are no more in %s", left, url)
		}
	}
	for _, g := range rec.Generations {
		for _, p := range g.Placements {
			if _, due := w.due[p.Vault][p.Version]; due != (p.State == key.Disabled) || !p.DisableBegun.IsZero() {
				w.t.Errorf("generation %d is recorded as %s in %s, its disabling begun at %q; due %t",
					g.Number, p.State, p.Vault, p.DisableBegun, due)
			}
		}
	}
	for _, r := range w.disablings(time.Time{}) {
		d, due := w.due["https://"+r.Host][path.Base(r.Path)]
		if !due || r.Time.Before(d.at.Add(-k.azure.Abs())) {
			w.t.Errorf("%s %s%s at %s; due %t, at %s", r.Method, r.Host, r.Path, r.Time, due, d.at)
		}
	}
}

package azurefaults_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/softhsm-test/effects"
)

// settle waits until a generation that began after the faults is finished. Then it removes the schedule and waits
// until nothing is under way and every due version is disabled. An import may be open for eleven minutes, and the
// pause after a failure lasts five at most.
func (w *world) settle() {
	w.t.Helper()
	over := w.clock.Now()
	w.await("a generation begun after the fault is finished", time.Hour, func(k status.Key) bool {
		// Not only the last one: if each takes longer than the schedule, the last one is never finished for long.
		return slices.ContainsFunc(k.Generations, func(g status.Generation) bool {
			return !g.Reserved.Before(over) && !g.Finished.IsZero()
		})
	})
	w.rotateEvery(0)
	w.await("nothing is under way, and what was due is disabled", time.Hour, func(k status.Key) bool {
		unfinished := slices.ContainsFunc(k.Generations, func(g status.Generation) bool { return g.Finished.IsZero() })
		return k.State == status.StateOK && k.Doing == "" && !unfinished && w.retired(k.Generations)
	})
}

// await waits, with a time limit, until the key is in the wanted state.
func (w *world) await(what string, patience time.Duration, enough func(status.Key) bool) {
	w.t.Helper()
	var last status.Key
	for end := w.clock.Now().Add(patience); w.clock.Now().Before(end); w.tick() {
		k, err := w.look()
		if err != nil {
			w.fail("keyd status: %v", err)
		}
		if k.Hold != nil {
			w.fail("the key is held (%s): %s", k.Hold.Code, k.Hold.Reason)
		}
		if last = k; len(k.Generations) > 0 && enough(k) {
			return
		}
	}
	w.fail("not within another %s: %s; the key is %s, waits for %q, failed with %q",
		patience, what, last.State, last.Waiting, last.Error)
}

// metric is one sample without labels.
var metric = regexp.MustCompile(`(?m)^(keyd_\w+) (\S+)$`)

var listening = regexp.MustCompile(`"Listening on","address":"([^"]+)"`)

// metrics returns the daemon's metrics.
func (w *world) metrics() string {
	w.t.Helper()
	at := listening.FindStringSubmatch(w.log())
	if at == nil {
		w.fail("the log does not say where metrics are served")
	}
	resp, err := http.Get("http://" + at[1] + "/metrics")
	if err != nil {
		w.fail("the metrics: %v", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.fail("the metrics: %v", err)
	}
	return string(text)
}

// unanswered returns how many requests to a vault ended without a whole answer.
var unanswered = regexp.MustCompile(`(?m)^keyd_vault_requests_total\{code="error",.*\} [1-9]`)

// checkDaemon requires that the HSM side never restarted, and that the audit chain is
// whole.
func (w *world) checkDaemon() {
	w.t.Helper()
	shown := map[string]string{}
	for _, m := range metric.FindAllStringSubmatch(w.metrics(), -1) {
		shown[m[1]] = m[2]
	}
	for name, want := range map[string]string{"keyd_hsm_restarts_total": "0", "keyd_hsm_up": "1",
		"keyd_store_healthy": "1"} {
		if shown[name] != want {
			w.t.Errorf("%s is %q, want %s", name, shown[name], want)
		}
	}
	if said := w.must("audit", "--verify"); !strings.Contains(said, "internally consistent") {
		w.t.Errorf("keyd audit --verify: %s", said)
	}
}

// check stops keyd, compares the vaults, the token, the record and the audit chain, and counts what is lost or
// duplicated.
func (w *world) check(k kind) {
	w.t.Helper()
	w.checkDaemon()
	w.stop()
	rec := w.record()
	objects := w.pairs()
	w.checkAudited(objects)
	lost, doubled := w.checkPairs(rec, objects)
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
	w.checkDisablings(rec, k)
	figures.lost.Add(int64(lost))
	figures.doubled.Add(int64(doubled))
	if lost+doubled > 0 {
		w.fail("lost %d, doubled %d", lost, doubled)
	}
}

// record returns the record that the stopped daemon left.
func (w *world) record() record.Record {
	w.t.Helper()
	s, err := bolt.Open(w.path("state"), w.clock.Now, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	rec, err := s.Load(w.t.Context(), keyName)
	if err := errors.Join(err, s.Close()); err != nil {
		w.t.Fatal(err)
	}
	return rec
}

// pairs lists the token's pairs through a `keyd hsm`.
func (w *world) pairs() []key.Object {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	sup := hsm.NewSupervisor(hsm.ChildConfig{
		Argv: []string{built.keyd, "hsm", "--config", w.path("keyd.yaml")},
		Env:  w.env, Stderr: io.Discard, Log: slog.New(slog.DiscardHandler),
	})
	var running sync.WaitGroup
	running.Go(func() { _ = sup.Run(ctx) })
	defer func() { cancel(); running.Wait() }()
	objects, err := sup.Client().Inventory(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return objects
}

// checkAudited requires that the audit chain records everything in the vaults and in the
// token, with an intent before it and a result after it.
func (w *world) checkAudited(objects []key.Object) {
	w.t.Helper()
	chain, err := effects.Read(w.must("audit", "--json", "--state", w.path("state")))
	if err != nil {
		w.fail("%v", err)
	}
	var vaults []effects.Vault
	for _, url := range urls {
		vaults = append(vaults, effects.In(w.emu.Vault(strings.TrimPrefix(url, "https://")), keyName))
	}
	var pairs []effects.Pair
	for _, o := range objects {
		pairs = append(pairs, effects.Pair{ID: string(o.ID), Pending: o.Label.Pending})
	}
	for _, line := range effects.Unrecorded(chain, vaults, pairs) {
		w.t.Error(line)
	}
}

// checkPairs requires exactly one whole pair in the token for each generation.
func (w *world) checkPairs(rec record.Record, objects []key.Object) (lost, doubled int) {
	w.t.Helper()
	for _, g := range rec.Generations {
		whole := slices.ContainsFunc(objects, func(o key.Object) bool {
			return o.ID == g.ID && o.Complete && o.Material.Matches(g.Fingerprint) == key.MatchYes
		})
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

// checkVault requires that a vault's versions are the recorded placements, one for each generation, that each opens
// what was wrapped under it, and that only due versions are disabled.
func (w *world) checkVault(rec record.Record, url string) (lost, doubled int) {
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
		m, err := key.FromRSA(&rsa.PublicKey{N: x.N, E: x.E})
		if err != nil {
			w.t.Fatal(err)
		}
		print := m.Fingerprint()
		if material[print]++; material[print] > 1 {
			w.t.Errorf("version %s in %s is a duplicate", x.ID, url)
			doubled++
		}
		if _, due := w.due[url][x.ID]; recorded[x.ID] != print || !x.Enabled && !due {
			w.t.Errorf("version %s in %s: recorded as %q, is %q, enabled %t",
				x.ID, url, recorded[x.ID], print, x.Enabled)
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

// opens wraps a data key as a consumer does, and makes the vault unwrap it.
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

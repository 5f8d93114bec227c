package trouble

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/vault"
)

// many is the world with this many keys, each in both vaults.
type many struct {
	status.Snapshot
	Evidence
}

func manyKeys(n int) *many {
	one := allWell()
	w := &many{one.Snapshot, one.Evidence}
	w.Newest, w.Older = 5*time.Minute, 24*time.Hour
	w.Keys, w.Looks = nil, map[string]*Look{}
	for i := range n {
		k := allWell()
		name := fmt.Sprintf("key-%02d", i)
		k.key().Name, k.policy.Key, k.rec.Key = name, name, name
		w.Keys = append(w.Keys, *k.key())
		w.Looks[name] = NewLook(k.policy, &k.rec, k.seen)
	}
	return w
}

// proofs changes every proof in a vault; "" means in each.
func (w *many) proofs(url string, change func(p *status.Proof)) {
	for i := range w.Keys {
		for j := range w.Keys[i].Proofs {
			if p := &w.Keys[i].Proofs[j]; url == "" || p.Vault == url {
				change(p)
			}
		}
	}
}

func fails(leg proof.Leg, why key.Reason) func(p *status.Proof) {
	return func(p *status.Proof) {
		p.Failing, p.Outcome, p.Leg, p.Reason, p.Error = true, key.Inconclusive, string(leg), why, "it says why"
		p.PassedAt = noon.Add(-time.Hour) // and so it is late, too
	}
}

func (w *many) look(name string, change func(seen *record.VaultSeen)) {
	l := w.Looks[name]
	seen := l.Seen.Vaults[weu]
	change(&seen)
	l.Seen.Vaults[weu] = seen
	rec := allWell().rec
	rec.Key = name
	w.Looks[name] = NewLook(key.Policy{Key: name, Vaults: l.Vaults}, &rec, l.Seen)
}

// With forty keys in two vaults, whatever keeps keyd from proving them is one problem, which counts them.
func TestOneCauseIsOneProblem(t *testing.T) {
	hsmDown := func(w *many) {
		w.HSM.Up, w.HSM.Error, w.HSM.Since = false, "connection refused", noon.Add(-time.Hour)
		w.proofs("", fails(proof.LegHSM, key.HSMFailed))
	}
	for _, c := range []struct {
		name     string
		trouble  func(w *many)
		runbook  string
		severity status.Severity
		effects  string
	}{
		{"the HSM is down", hsmDown, "keydhsmdown", warning, "80 versions could not be proven meanwhile"},
		{"and rotations and spares are late", func(w *many) {
			hsmDown(w)
			for i := range w.Keys {
				k := &w.Keys[i]
				k.NextRotation, k.Waiting = noon.Add(-2*time.Hour), "the HSM cannot be used: connection refused"
				k.Requests = []key.Request{{At: noon.Add(-3 * time.Hour)}}
				spare := status.Generation{SpareSince: noon.Add(-48 * time.Hour)}
				k.Spares = &status.Spares{Wanted: 1, Generations: []status.Generation{spare}}
			}
			w.Checkpoint = noon.Add(-48 * time.Hour)
		}, "keydhsmdown", warning, "80 versions could not be proven meanwhile; 40 keys wait for it"},
		{"the token refused the PIN", func(w *many) {
			w.HSM.Info.PIN, w.HSM.Info.PINRefused = key.PINRefused, true
			w.HSM.Info.Degraded = "the token refused the PIN"
			w.HSMLosses = 9
			w.proofs("", fails(proof.LegHSM, key.HSMFailed))
		}, "keydpinrefused", critical, "80 versions could not be proven meanwhile"},
		{"a locked PIN keeps the HSM side from working", func(w *many) {
			w.HSM.Info.PIN, w.HSM.Info.Degraded = key.PINLocked, "not logged in"
			w.proofs("", fails(proof.LegHSM, key.HSMFailed))
		}, "keydpinnearlylocked", critical, "80 versions could not be proven meanwhile"},
		{"a vault does not answer", func(w *many) {
			w.Vaults[0].Reachable, w.Vaults[0].Error, w.Vaults[0].Reason = false, "i/o timeout", key.NoAnswer
			w.proofs(weu, fails(proof.LegUnwrap, key.NoAnswer))
			w.Ready, w.Started = false, noon.Add(-time.Hour)
			for i := range w.Keys {
				w.Keys[i].Waiting, w.Keys[i].RotationSince = "vault contoso-weu is not ready", noon.Add(-5*time.Hour)
			}
		}, "keydvaultunreachable", warning, "40 versions could not be proven meanwhile; 40 keys wait for it"},
		{"a vault's firewall", func(w *many) {
			w.Vaults[0].Reachable, w.Vaults[0].Error, w.Vaults[0].Reason = false, "HTTP 403", key.ForbiddenByFirewall
			w.proofs(weu, fails(proof.LegUnwrap, key.ForbiddenByFirewall))
		}, "keydvaultunreachable", warning, "40 versions could not be proven meanwhile"},
		{"a vault lists keys, and forbids to unwrap", func(w *many) {
			w.proofs(weu, fails(proof.LegUnwrap, key.ForbiddenByRBAC))
		}, "keydversionsunproven", warning, ""},
		{"a vault throttles keyd", func(w *many) {
			w.Requests = map[string]Requests{"contoso-weu": {100, 60}}
			w.proofs(weu, fails(proof.LegUnwrap, key.Throttled))
		}, "keydvaultthrottled", warning, "40 versions could not be proven meanwhile"},
		{"keyd gets no token", func(w *many) {
			for i := range w.Vaults {
				w.Vaults[i].Reachable, w.Vaults[i].Error, w.Vaults[i].Reason = false, "no token", key.NoToken
			}
			w.proofs("", fails(proof.LegUnwrap, key.NoToken))
			w.Credential.NoTokens = []vault.NoToken{noToken(noon.Add(-time.Hour))}
		}, "keydsigninfailing", warning,
			"2 vaults cannot be used meanwhile; 80 versions could not be proven meanwhile"},
		{"keyd's certificate has ended", func(w *many) {
			w.Credential.Ends = noon.Add(-time.Hour)
			for i := range w.Vaults {
				w.Vaults[i].Reachable, w.Vaults[i].Error, w.Vaults[i].Reason = false, "no token", key.NoToken
			}
			w.proofs("", fails(proof.LegUnwrap, key.NoToken))
		}, "keydcertificateends", warning,
			"2 vaults cannot be used meanwhile; 80 versions could not be proven meanwhile"},
		{"the state cannot be written", func(w *many) {
			w.StoreErr = errors.New("no space left on device")
			for i := range w.Keys {
				w.Keys[i].State, w.Keys[i].Error = status.StateFailing, "reserve: no space left on device"
			}
		}, "keydstoreunhealthy", critical, "40 keys wait for it"},
		{"proofs come too late", func(w *many) {
			w.proofs(weu, func(p *status.Proof) { p.PassedAt = noon.Add(-time.Hour) })
		}, "keydproofstale", warning, ""},
		{"a vault has no purge protection", func(w *many) {
			for _, k := range w.Keys {
				w.look(k.Name, func(seen *record.VaultSeen) { seen.Versions[0].Recovery = "Recoverable+Purgeable" })
			}
		}, "drift-no-purge-protection", warning, ""},
		{"a vault's key exchange key was changed, and rotations wait", func(w *many) {
			for i, k := range w.Keys {
				w.look(k.Name, func(seen *record.VaultSeen) {
					seen.KEK = record.KEKSeen{Print: "sha256:other", Was: "sha256:kek", Err: errors.New("not trusted")}
				})
				w.Keys[i].NextRotation, w.Keys[i].Waiting = noon.Add(-2*time.Hour), "the KEK is not trusted"
			}
		}, "drift-kek-changed", warning, "40 keys wait for it"},
		{"the clocks differ, and rotations wait", func(w *many) {
			w.Vaults[0].ClockSkew = status.Seconds(10 * time.Minute)
			for i := range w.Keys {
				w.Keys[i].NextRotation, w.Keys[i].Waiting = noon.Add(-2*time.Hour), "the clocks differ"
			}
		}, "keydclockskew", warning, "40 keys wait for it"},
		{"a deleted key", func(w *many) {
			w.Keys[7].Hold = &key.Hold{Code: key.HoldKeyDeleted, Vault: weu, Reason: "it is soft-deleted"}
			w.look("key-07", func(seen *record.VaultSeen) { seen.Deleted, seen.Versions, seen.Newest = true, nil, "" })
			fails(proof.LegUnwrap, key.KeyNotFound)(&w.Keys[7].Proofs[0])
		}, "hold-key-deleted", critical, "1 version could not be proven meanwhile"},
		{"a disabled version", func(w *many) {
			w.look("key-07", func(seen *record.VaultSeen) { seen.Versions[0].Enabled = false })
			fails(proof.LegUnwrap, key.KeyDisabled)(&w.Keys[7].Proofs[0])
		}, "drift-newest-disabled", critical, "1 version could not be proven meanwhile"},
		{"an operation that was taken away is a warning, until a proof shows that data cannot be read", func(w *many) {
			w.look("key-07", func(seen *record.VaultSeen) {
				seen.Operations = seen.Operations.With("5be10a77", []key.Operation{key.WrapKey})
			})
			l := w.Looks["key-07"]
			l.Drifts = []plan.Drift{{Kind: plan.DriftOperations, Vault: l.Vaults[0],
				Text: "key-07 in vault contoso-weu: the operations were changed"}}
			fails(proof.LegUnwrap, key.OperationForbidden)(&w.Keys[7].Proofs[0])
		}, "drift-operations-changed", critical, "1 version could not be proven meanwhile"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := manyKeys(40)
			c.trouble(w)
			got := Find(w.Snapshot, w.Evidence)
			if len(got) != 1 {
				t.Fatalf("%d problems: %+v", len(got), got[:min(3, len(got))])
			}
			p := got[0]
			if p.Runbook != c.runbook || p.Severity != c.severity || strings.Join(p.Effects, "; ") != c.effects {
				t.Errorf("%s, %s, %q: %s; want %s, %s, %q", p.Severity, p.Runbook, p.Effects, p.Text, c.severity,
					c.runbook, c.effects)
			}
		})
	}
}

func TestACompromiseThatWaitsIsAProblemOfItsOwn(t *testing.T) {
	w := manyKeys(1)
	w.HSM.Up, w.HSM.Error = false, "connection refused"
	w.Keys[0].Requests = []key.Request{{At: noon.Add(-time.Hour), Compromise: true}}
	if got := runbooks(w); !slices.Equal(got, []string{"keydcompromisewaiting", "keydhsmdown"}) {
		t.Errorf("problems: %v", got)
	}
}

func runbooks(w *many) (all []string) {
	for _, p := range Find(w.Snapshot, w.Evidence) {
		all = append(all, p.Runbook)
	}
	return all
}

// A refuted proof is about the version, whatever else is wrong.
func TestARefutedVersionIsNeverCountedUnderAnotherCause(t *testing.T) {
	w := manyKeys(2)
	w.HSM.Up, w.HSM.Error = false, "connection refused"
	fails(proof.LegUnwrap, "")(&w.Keys[1].Proofs[0])
	w.Keys[1].Proofs[0].Outcome = key.WasRefuted
	if got := runbooks(w); !slices.Equal(got, []string{"keydunwrapfailing", "keydhsmdown"}) {
		t.Errorf("problems: %v", got)
	}
}

// The proofs that failed while the HSM was away follow within minutes. They must not look like new trouble.
func TestOnceTheHSMIsBackItsProofsHaveTime(t *testing.T) {
	w := manyKeys(40)
	w.HSM.Since = noon.Add(-time.Minute)
	w.proofs("", fails(proof.LegHSM, key.HSMFailed))
	w.proofs("", func(p *status.Proof) { p.At = noon.Add(-2 * time.Minute) })
	if got := runbooks(w); len(got) > 0 {
		t.Errorf("a minute after the HSM is back: %v", got)
	}
	w.proofs("", func(p *status.Proof) { p.At = noon })
	if got := runbooks(w); !slices.Equal(got, []string{"keydversionsunproven"}) {
		t.Errorf("proofs go on failing: %v", got)
	}
	w.HSM.Since = noon.Add(-time.Hour)
	w.proofs("", func(p *status.Proof) { p.At = noon.Add(-2 * time.Hour) })
	if got := runbooks(w); !slices.Equal(got, []string{"keydproofstale", "keydproofstale"}) { // one for each vault
		t.Errorf("no proof for an hour: %v", got)
	}
}

func TestAProblemNamesTheKeysThatItConcerns(t *testing.T) {
	w := manyKeys(3)
	w.HSM.Up, w.HSM.Error = false, "connection refused"
	for i := range w.Keys[1].Proofs {
		fails(proof.LegHSM, key.HSMFailed)(&w.Keys[1].Proofs[i])
	}
	got := Find(w.Snapshot, w.Evidence)
	if len(got) != 1 || !got[0].About("key-01") || got[0].About("key-02") {
		t.Errorf("problems: %+v", got)
	}
}

func TestAKeyWithACriticalProblemIsNotOK(t *testing.T) {
	w := manyKeys(3)
	w.look("key-01", func(seen *record.VaultSeen) { seen.Versions[0].Enabled = false })
	w.Problems = Find(w.Snapshot, w.Evidence)
	MarkKeys(&w.Snapshot)
	if w.Keys[0].State != status.StateOK || w.Keys[1].State != status.StateTrouble {
		t.Errorf("states %s and %s of a good key and one whose newest version is disabled", w.Keys[0].State,
			w.Keys[1].State)
	}
}

package trouble

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/vault"
)

const (
	weu  = "https://contoso-weu.vault.azure.net"
	mhsm = "https://contoso.managedhsm.azure.net"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// world is a daemon with one key in two vaults, all of it well, and what is known about it.
type world struct {
	status.Snapshot
	Evidence
	policy key.Policy
	rec    record.Record
	seen   *record.Observation
	fail   bool
	busy   Requests // of contoso-weu
}

func (w *world) key() *status.Key { return &w.Keys[0] }

func (w *world) problems() []status.Problem {
	w.Requests = map[string]Requests{"contoso-weu": w.busy, "contoso-hsm": {Sent: 100}}
	for _, k := range w.Keys {
		for i := range k.Proofs {
			k.Proofs[i].Failing = w.fail
		}
	}
	w.Newest, w.Older = 5*time.Minute, 24*time.Hour
	w.Looks = map[string]*Look{w.key().Name: NewLook(w.policy, &w.rec, w.seen)}
	return Find(w.Snapshot, w.Evidence)
}

func allWell() *world {
	vaults := []key.Vault{
		{Name: "contoso-weu", URL: weu, Kind: key.KeyVault}, {Name: "contoso-hsm", URL: mhsm, Kind: key.ManagedHSM},
	}
	w := &world{}
	w.At, w.Started, w.Ready = noon, noon.Add(-30*24*time.Hour), true
	w.HSM = status.HSM{Up: true, Since: w.Started, Info: key.HSMInfo{PIN: key.PINAccepted}}
	w.Checkpoint = noon.Add(-time.Hour)
	made := noon.Add(-20 * 24 * time.Hour)
	g := record.Generation{Number: 1, Fingerprint: "sha256:1", Reserved: made, Pinned: made, Finished: made}
	k := status.Key{Name: "sa-cmk-key", State: status.StateOK, LastRotation: made,
		NextRotation: noon.Add(70 * 24 * time.Hour)}
	seen := &record.Observation{At: noon, HSM: record.HSMSeen{Err: errors.New("not looked at")},
		Vaults: map[string]record.VaultSeen{}}
	for i, v := range vaults {
		w.Vaults = append(w.Vaults, status.Vault{Vault: v, Reachable: true, SeenAt: noon})
		g.Placements = append(
			g.Placements,
			record.Placement{Seq: i, Vault: v.URL, VaultName: v.Name, State: key.Proven,
				Version: "5be10a77", ProvenAt: made},
		)
		k.Vaults = append(k.Vaults, v.URL)
		k.Proofs = append(k.Proofs, status.Proof{Vault: v.URL, Version: "5be10a77", Generation: 1, Newest: true,
			Outcome: key.Passed, At: noon, PassedAt: noon})
		seen.Vaults[v.URL] = record.VaultSeen{
			Begun: noon, Newest: "5be10a77", Versions: []key.Version{{ID: "5be10a77", Enabled: true, Created: made}},
		}
	}
	w.Keys = []status.Key{k}
	w.policy, w.seen = key.Policy{Key: k.Name, Vaults: vaults}, seen
	w.rec = record.Record{Key: k.Name, Vaults: vaults, Generations: []record.Generation{g}}
	return w
}

// inWEU changes what the last look saw in contoso-weu.
func (w *world) inWEU(change func(seen *record.VaultSeen, newest *key.Version)) {
	seen := w.seen.Vaults[weu]
	change(&seen, &seen.Versions[0])
	w.seen.Vaults[weu] = seen
}

// underWay begins a second generation.
func (w *world) underWay(since time.Time) {
	w.key().RotationSince = since
	w.key().State, w.key().Waiting = status.StateRotating, "vault contoso-weu is not ready"
}

func (w *world) request(ago time.Duration, compromise bool) {
	w.key().Requests = []key.Request{{At: noon.Add(-ago), Compromise: compromise}, {At: noon, Compromise: compromise}}
}

// spareInMaking is a key that has one spare, and waits for another since a while.
func (w *world) spareInMaking(ago time.Duration) {
	w.key().Spares = &status.Spares{Wanted: 2, Ready: 1, Generations: []status.Generation{
		{Number: 2, SpareSince: noon.Add(-48 * time.Hour), Pinned: noon.Add(-47 * time.Hour)},
		{Number: 3, SpareSince: noon.Add(-ago)}}}
}

// example is one trouble, and the same a little less, which is none yet.
type example struct {
	runbook, name string
	key, vault    string // that the problem is about
	trouble       func(w *world)
	none          func(w *world) // nil: there is nothing smaller
}

// exposed is an enabled version of compromised material.
func exposed() []status.Exposed {
	return []status.Exposed{{Vault: weu, Version: "5be10a77", Generation: 1}}
}

const aKey, aVault = "sa-cmk-key", "contoso-weu"

func examples() []example {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	return append(append(consumerExamples(), hostExamples()...), []example{
		{"keydcompromisedenabled", "", aKey, aVault, func(w *world) { w.key().Exposed = exposed() },
			func(w *world) { w.key().Exposed = exposed(); w.request(time.Minute, true) }},
		{
			"keydstoreunhealthy",
			"",
			"",
			"",
			func(w *world) { w.StoreErr = errors.New("no space left on device") },
			nil,
		},
		{"keydconfigreloadfailed", "", "", "", func(w *world) {
			w.ReloadErr = errors.New("the configuration has mistakes; keyd keeps the old one:\nkeyd.yaml:8:1: …")
		}, nil},
		{
			"keydnotready", "", "", "", func(w *world) { w.Ready, w.Started = false, ago(16*time.Minute) },
			func(w *world) { w.Ready, w.Started = false, ago(14*time.Minute) },
		},
		{"keydhsmdown", "down", "", "", func(w *world) { w.HSM.Up, w.HSM.Error = false, "connection\nrefused" },
			func(w *world) { w.HSM = status.HSM{} }},
		{"keydhsmdown", "degraded", "", "", func(w *world) { w.HSM.Info.Degraded = "no mechanism to wrap by" }, nil},
		{"keydhsmdown", "crash loop", "", "", func(w *world) { w.HSMLosses = 6 }, func(w *world) { w.HSMLosses = 5 }},
		{"keydhsmconfigdiffers", "another", "", "", func(w *world) { w.HSM.Info.Config = "sha256:aa" },
			func(w *world) { w.HSM.Info.Config, w.Config = "sha256:aa", "sha256:aa" }},
		{"keydhsmconfigdiffers", "invalid", "", "", func(w *world) {
			w.HSM.Info.ConfigProblem = "the configuration has mistakes:\nkeyd.yaml:8:1: …"
		}, nil},
		{"keydpinrefused", "", "", "", func(w *world) {
			w.HSM.Info.PIN, w.HSM.Info.PINRefused, w.HSM.Info.Degraded = key.PINRefused, true,
				"the token refused the PIN"
		}, nil},
		{"keydpinnearlylocked", "final try", "", "", func(w *world) { w.HSM.Info.PIN = key.PINFinalTry }, nil},
		{"keydpinnearlylocked", "locked", "", "", func(w *world) { w.HSM.Info.PIN = key.PINLocked }, nil},
		{"keydpintrieslow", "", "", "", func(w *world) { w.HSM.Info.PIN = key.PINCountLow }, nil},
		{"keydpintochange", "", "", "", func(w *world) { w.HSM.Info.PIN = key.PINToChange }, nil},
		{
			"keydcheckpointstale", "", "", "", func(w *world) { w.Checkpoint = ago(26 * time.Hour) },
			func(w *world) { w.Checkpoint = ago(24 * time.Hour) },
		},
		{"keydauditbroken", "", "", "", func(w *world) { w.AuditBroken = "the audit chain is another" }, nil},
		{"keydsigninfailing", "", "", "", func(w *world) {
			w.Credential.NoTokens = []vault.NoToken{noToken(ago(time.Minute))}
		}, nil},
		{
			"keydvaultunreachable", "", "", aVault, func(w *world) {
				w.Vaults[0].Reachable, w.Vaults[0].Error = false, "i/o timeout"
			},
			func(w *world) { w.Vaults[0].Reachable = false }, // keyd has not looked at it yet
		},
		{
			"keydclockskew", "", "", aVault,
			func(w *world) { w.Vaults[0].ClockSkew = status.Seconds(-121 * time.Second) },
			func(w *world) { w.Vaults[0].ClockSkew = status.Seconds(119 * time.Second) },
		},
		{
			"keydkekwaiting", "", "", aVault, func(w *world) { w.waitingKEK(25 * time.Hour) },
			func(w *world) { w.waitingKEK(23 * time.Hour) },
		},
		{"keydproposalwaiting", "", aKey, "", func(w *world) { w.proposed(61 * time.Minute) },
			func(w *world) { w.proposed(59 * time.Minute) }},
		{"keydproposalwaiting", "of settings", "", "", func(w *world) { w.settingsWait(time.Second, "anna") }, nil},
		{"keydproposalwaiting", "of settings that nobody asks for", "", "",
			func(w *world) { w.settingsWait(time.Second, "") }, nil},
		{"keydproposalwaiting", "that nobody proposes", "", "", func(w *world) { w.Unapproved = 1 }, nil},
		{"keydvaultthrottled", "", "", aVault, func(w *world) { w.busy = Requests{100, 11} },
			func(w *world) { w.busy = Requests{100, 10} }},
		{"keydunwrapfailing", "", aKey, aVault, func(w *world) { w.failAt(proof.LegUnwrap, key.WasRefuted, "") }, nil},
		{"keydunwrapfailing", "refuted at wrapping", aKey, aVault, func(w *world) {
			w.failAt(proof.LegHSM, key.WasRefuted, "")
		}, nil},
		{"keydunwrapfailing", "the operation was taken away", aKey, aVault, func(w *world) {
			w.failAt(proof.LegUnwrap, key.Inconclusive, key.OperationForbidden)
		}, nil},
		{"keydversionsunproven", "", aKey, aVault, func(w *world) {
			w.failAt(proof.LegUnwrap, key.Inconclusive, key.ForbiddenByRBAC)
		}, nil},
		{"keydwrapfailing", "", aKey, aVault, func(w *world) {
			w.failAt(proof.LegWrap, key.Inconclusive, key.KeyNotYetValid)
		}, nil},
		{"keydwrapfailing", "a signing key", aKey, aVault, func(w *world) {
			w.failAt(proof.LegSign, key.Inconclusive, key.KeyExpired)
		}, nil},
		{"drift-not-yet-valid", "", aKey, aVault, func(w *world) {
			w.inWEU(func(_ *record.VaultSeen, newest *key.Version) { newest.NotBefore = noon.Add(time.Minute) })
		}, func(w *world) {
			w.inWEU(func(_ *record.VaultSeen, newest *key.Version) { newest.NotBefore = noon.Add(-time.Minute) })
		}},
		{
			"keydcertificateends", "soon", "", "", func(w *world) { w.Credential.Ends = noon.Add(13 * 24 * time.Hour) },
			func(w *world) { w.Credential.Ends = noon.Add(15 * 24 * time.Hour) },
		},
		{"keydcertificateends", "ended", "", "", func(w *world) { w.Credential.Ends = ago(time.Second) }, nil},
		{"keydcertificateends", "not usable", "", "", func(w *world) {
			w.Credential.Ends, w.Credential.Err = noon.Add(90*24*time.Hour),
				errors.New("certificate_file /etc/keyd/client.pem: it is empty")
		}, nil},
		{
			"keydproofstale", "newest", aKey, aVault,
			func(w *world) { w.key().Proofs[0].PassedAt = ago(21 * time.Minute) },
			func(w *world) { w.key().Proofs[0].PassedAt = ago(19 * time.Minute) },
		},
		{
			"keydproofstale", "older", aKey, aVault, func(w *world) {
				p := &w.key().Proofs[0]
				p.Newest, p.PassedAt = false, ago(49*time.Hour)
			},
			func(w *world) { p := &w.key().Proofs[0]; p.Newest, p.PassedAt = false, ago(47*time.Hour) },
		},
		{
			"keydproofstale", "after a start", aKey, aVault, func(w *world) {
				w.Started, w.key().Proofs[0].PassedAt = ago(21*time.Minute), ago(time.Hour)
			},
			func(w *world) { w.Started, w.key().Proofs[0].PassedAt = ago(time.Minute), ago(time.Hour) },
		},
		{
			"keydrotationoverdue", "", aKey, "", func(w *world) { w.key().NextRotation = ago(61 * time.Minute) },
			func(w *world) { w.key().NextRotation = ago(59 * time.Minute) },
		},
		{
			"keydrotationfailing", "a step", aKey, "", func(w *world) {
				w.key().State, w.key().Error = status.StateFailing, "sa-cmk-key: import: 403"
			},
			func(w *world) { w.key().Error = "sa-cmk-key: import: 403" }, // one failure
		},
		{
			"keydrotationfailing", "takes hours", aKey, "", func(w *world) { w.underWay(ago(121 * time.Minute)) },
			func(w *world) { w.underWay(ago(119 * time.Minute)) },
		},
		{
			"keydrequestwaiting", "", aKey, "", func(w *world) { w.request(61*time.Minute, false) },
			func(w *world) { w.request(59*time.Minute, false) },
		},
		{"keydrequestwaiting", "not while it is under way", aKey, "", func(w *world) {
			w.request(61*time.Minute,
				false)
		},
			func(w *world) {
				w.request(61*time.Minute, false)
				w.underWay(ago(time.Minute))
			}},
		{
			"keydcompromisewaiting", "", aKey, "", func(w *world) { w.request(31*time.Minute, true) },
			func(w *world) { w.request(29*time.Minute, true) },
		},
		{"keydcompromisewaiting", "under way", aKey, "", func(w *world) {
			w.request(31*time.Minute, true)
			w.underWay(ago(30 * time.Minute))
		}, nil},
		{"keydkeypartial", "", aKey, aVault, func(w *world) {
			w.rec.Generations[0].Placements = w.rec.Generations[0].Placements[1:]
			w.key().State, w.key().MissingFrom = status.StatePartial, []string{weu}
			w.inWEU(func(seen *record.VaultSeen, _ *key.Version) { seen.Versions, seen.Newest = nil, "" })
		}, nil},
		{"keydkeynotmade", "", aKey, "", func(w *world) {
			w.rec, w.seen.Vaults = record.Record{}, nil
			w.key().Proofs, w.key().State, w.key().Waiting = nil, status.StateNew, "vault contoso-weu is not ready"
		}, nil},
		{"keydrepointfailed", "", aKey, aVault, func(w *world) {
			w.moves(status.Move{State: status.MoveFailed, Vault: weu, Why: "HTTP 403"})
		}, func(w *world) { w.moves(status.Move{State: status.MoveRunning, Vault: weu}) }},
		{"keydrepointfailed", "a request lapsed", aKey, "", func(w *world) {
			w.moves(status.Move{State: status.MoveLapsed, Why: "the key was held"})
		}, func(w *world) { w.moves(status.Move{State: status.MoveWaits, Why: "the key is held"}) }},
		{"keydsparesmissing", "", aKey, "", func(w *world) { w.spareInMaking(25 * time.Hour) },
			func(w *world) { w.spareInMaking(23 * time.Hour) }},
		{"keydversionexpiressoon", "", aKey, aVault, func(w *world) { w.expiring(6 * 24 * time.Hour) },
			func(w *world) { w.expiring(90 * 24 * time.Hour) }},
		{"drift-version-expiring", "", aKey, aVault, func(w *world) { w.expiring(8 * 24 * time.Hour) }, nil},
		{
			"keydrotationpolicyunreadable", "", aKey, aVault, func(w *world) {
				w.inWEU(func(seen *record.VaultSeen, _ *key.Version) { seen.PolicyErr = errors.New("403") })
			}, nil,
		},
		{"drift-key-deleted", "", aKey, aVault, func(w *world) {
			w.inWEU(func(seen *record.VaultSeen, _ *key.Version) { seen.Deleted, seen.Versions = true, nil })
		}, nil},
		{"drift-versions-missing", "", aKey, aVault, func(w *world) {
			w.inWEU(func(seen *record.VaultSeen, _ *key.Version) { seen.Versions = nil })
		}, nil},
		{"drift-newest-disabled", "", aKey, aVault, func(w *world) {
			w.inWEU(func(_ *record.VaultSeen, newest *key.Version) { newest.Enabled = false })
		}, nil},
		{"drift-version-disabled", "", aKey, aVault, func(w *world) {
			w.inWEU(func(seen *record.VaultSeen, first *key.Version) {
				first.Enabled, seen.Newest = false, "aliased"
				seen.Versions = append(seen.Versions, key.Version{ID: "aliased", Enabled: true, Created: noon})
			})
			w.rec.Generations[0].Placements[0].Aliases = []string{"aliased"}
		}, nil},
		{"drift-foreign-version", "", aKey, aVault, func(w *world) {
			w.seen.HSM.Err = nil
			w.inWEU(func(seen *record.VaultSeen, _ *key.Version) {
				seen.Versions = append(seen.Versions, key.Version{ID: "foreign", Enabled: true, Created: noon})
				seen.Newest, seen.Material = "foreign", seen.Material.With("foreign", stranger())
			})
		}, nil},
		{"drift-native-rotation", "", aKey, aVault, func(w *world) {
			w.inWEU(func(seen *record.VaultSeen, _ *key.Version) { seen.NativeRotation = true })
		}, nil},
		{"hold-proof-refuted", "", aKey, aVault, func(w *world) {
			w.key().Hold = &key.Hold{Code: key.HoldRefuted, Vault: weu, Reason: "another modulus"}
		}, nil},
		{"hold-record-behind", "", aKey, "", func(w *world) {
			w.key().Hold = &key.Hold{Code: key.HoldRecordBehind, Reason: "the state is old"}
		}, nil},
		{"hold-paused", "", aKey, "", func(w *world) {
			w.key().Hold = &key.Hold{Code: key.HoldPaused, Reason: "maintenance"}
		}, nil},
	}...)
}

// failAt makes the proof in contoso-weu fail at a leg.
func (w *world) failAt(leg proof.Leg, outcome key.Outcome, why key.Reason) {
	w.fail, w.key().Proofs = true, w.key().Proofs[:1]
	p := &w.key().Proofs[0]
	p.Outcome, p.Leg, p.Reason, p.Error = outcome, string(leg), why, "HTTP 403"
}

// expiring sets the newest version's expiry date, as keyd does.
func (w *world) expiring(in time.Duration) {
	w.inWEU(func(_ *record.VaultSeen, newest *key.Version) { newest.Expires = noon.Add(in) })
	w.rec.Generations[0].Placements[0].Expires = noon.Add(in)
}

func TestEachTroubleIsAProblemInWords(t *testing.T) {
	if got := allWell().problems(); len(got) > 0 {
		t.Fatalf("all is well, and there are problems: %+v", got)
	}
	for _, c := range examples() {
		t.Run(c.runbook+" "+c.name, func(t *testing.T) {
			w := allWell()
			c.trouble(w)
			got := w.problems()
			if len(got) != 1 || got[0].Runbook != c.runbook {
				t.Fatalf("%+v, want one problem, of %s", got, c.runbook)
			}
			p := got[0]
			if p.Key != c.key || p.Vault != c.vault {
				t.Errorf("about key %q and vault %q, want %q and %q", p.Key, p.Vault, c.key, c.vault)
			}
			held := strings.HasPrefix(p.Runbook, "hold-")
			named := strings.Contains(p.Text, p.Key) && (held || strings.Contains(p.Text, p.Vault))
			if !named || strings.Contains(p.Text, "\n") {
				t.Errorf("does not name its key and its vault in one line: %q", p.Text)
			} else if p.Remedy == "" && !held { // each hold shows its own
				t.Errorf("no remedy for %q", p.Text)
			}
			if c.none == nil {
				return
			}
			w = allWell()
			c.none(w)
			if got := w.problems(); len(got) > 0 {
				t.Errorf("a little less of it is a problem, too: %+v", got)
			}
		})
	}
}

// A child of the daemon is not a service: no remedy may name a unit that does not exist.
func TestTheHSMRemedyNamesTheExistingUnit(t *testing.T) {
	named := regexp.MustCompile(`keyd-hsm\b`)
	found := 0
	for _, c := range examples() {
		for unit, other := range map[string]bool{"keyd-hsm": false, "keyd": true} {
			w := allWell()
			c.trouble(w)
			w.HSM.Unit = unit
			for _, p := range w.problems() {
				is := named.MatchString(p.Text + p.Remedy)
				if is && other {
					t.Errorf("where the HSM side is a child: %+v", p)
				}
				if is {
					found++
				}
			}
		}
	}
	if found < 4 {
		t.Errorf("%d problems name keyd-hsm, where it is a service", found)
	}
}

// systemd copies a credential when the service starts. keyd cannot see later changes to the original.
func TestARenewedCertificateNeedsARestartOnlyAsASystemdCredential(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for file, restart := range map[string]bool{dir + "/azure-certificate": true, "/etc/keyd/client.pem": false} {
		w := allWell()
		w.Credential = vault.CredentialState{Kind: vault.ClientCertificate, File: file, Ends: noon.Add(time.Hour)}
		got := w.problems()
		if len(got) != 1 || strings.Contains(got[0].Remedy, "systemctl restart keyd") != restart ||
			!strings.Contains(got[0].Text, file) {
			t.Errorf("%s: %+v", file, got)
		}
	}
}

// waitingKEK gives the vault a KEK in use, and one made some time ago that waits for approval.
func (w *world) waitingKEK(since time.Duration) {
	w.Vaults[0].KEKs = []status.KEK{
		{
			State:       key.KEKActive,
			Fingerprint: "sha256:aa",
			Made:        noon.Add(-48 * time.Hour),
			Used:        noon.Add(-48 * time.Hour),
		},
		{State: key.KEKMade, Fingerprint: "sha256:bb", Made: noon.Add(-since)},
	}
}

func TestAWaitingKEKComesWithItsPinLine(t *testing.T) {
	w := allWell()
	w.waitingKEK(25 * time.Hour)
	got := w.problems()
	if len(got) != 1 || !strings.Contains(got[0].Text, "sha256:bb") ||
		!strings.Contains(got[0].Remedy, `kek: {fingerprints: ["sha256:aa", "sha256:RESULT"]}`) {
		t.Errorf("problems: %+v", got)
	}
}

// stranger is material that no record has.
func stranger() key.Material {
	m, err := key.FromJWK(bytes.Repeat([]byte{0xff}, 256), []byte{1, 0, 1})
	if err != nil {
		panic(err)
	}
	return m
}

package plan

import (
	"errors"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

var (
	vaultNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	aVault   = key.VaultPolicy{Vault: key.Vault{Name: "weu", URL: "https://weu.vault.azure.net", Kind: key.KeyVault},
		KEK: "keyd-kek", Create: true}
)

// vaultCase is one vault's situation: changes to a record with one KEK in use, and to a look that shows that KEK.
type vaultCase struct {
	name   string
	change func(*VaultInput)
	want   Kind
	about  string // the version or the attempt
}

func vaultAgo(d time.Duration) record.Moment { return vaultMoment(vaultNow.Add(-d)) }

func vaultMoment(t time.Time) record.Moment { return record.Moment{Here: t, There: t} }

func kidOf(version string) string { return aVault.URL + "/keys/keyd-kek/" + version }

// shows adds a version to what the vault shows, as the newest.
func (in *VaultInput) shows(version, attempt, trust string, err error) {
	if in.Seen.Newest.KEK.Kid != "" {
		in.Seen.Others[in.Seen.Newest.KEK.Version()] = in.Seen.Newest
	}
	x := key.Version{ID: version, Enabled: true}
	if attempt != "" {
		x.Tags = map[string]string{key.TagAttempt: attempt}
	}
	in.Seen.Versions = append(in.Seen.Versions, x)
	in.Seen.Newest = record.KEKSeen{KEK: key.KEK{Kid: kidOf(version)}, Print: key.Fingerprint("print of " + version),
		Trust: trust, Err: err}
}

func (in *VaultInput) has(k record.KEK) { in.Record.KEKs = append(in.Record.KEKs, k) }

func keksIn(state key.KEKState, version string, begun time.Duration) record.KEK {
	return record.KEK{State: state, Attempt: key.ID("a" + version), Kid: kidOf(version),
		Fingerprint: key.Fingerprint("print of " + version),
		Begun:       vaultAgo(begun), Made: vaultAgo(begun), Used: vaultAgo(begun)}
}

// quietVault has one KEK in use that the vault shows.
func quietVault() VaultInput {
	in := VaultInput{Now: vaultNow, Policy: aVault, Record: &record.Vault{URL: aVault.URL}, Seen: &record.VaultLook{
		At: vaultNow, Others: map[string]record.KEKSeen{}, SkewSeen: true}}
	in.has(keksIn(key.KEKActive, "1", 48*time.Hour))
	in.shows("1", "a1", "first use", nil)
	return in
}

// rotatedVault has a second KEK in use, and the first one superseded so long ago.
func rotatedVault(in *VaultInput, superseded time.Duration) {
	in.Record.KEKs[0].State, in.Record.KEKs[0].Superseded = key.KEKSuperseded, vaultAgo(superseded)
	in.has(keksIn(key.KEKActive, "2", superseded))
	in.shows("2", "a2", key.TrustConfigured, nil)
}

func emptyVault(in *VaultInput) {
	in.Record.KEKs, in.Seen.Versions, in.Seen.Newest = nil, nil, record.KEKSeen{Absent: true}
}

func making(in *VaultInput, begun time.Duration) {
	in.has(record.KEK{State: key.KEKMaking, Attempt: "a2", Begun: vaultAgo(begun)})
}

func vaultCases() []vaultCase {
	refused := errors.New("not the one first used")
	ask := func(in *VaultInput) {
		in.Record.Request = &key.KEKRequest{ID: "q", Reason: "yearly", By: "uid 0 (root)"}
	}
	return []vaultCase{
		{"nobody has looked", func(in *VaultInput) { in.Seen = nil }, Look, ""},
		{"the vault cannot be seen", func(in *VaultInput) { in.Seen.Err = refused }, Wait, ""},
		{"nothing is due", func(*VaultInput) {}, Idle, ""},
		{"there is no KEK", emptyVault, CreateKEK, ""},
		{"there is none, and keyd may not make it", func(in *VaultInput) { emptyVault(in); in.Policy.Create = false },
			Idle, ""},
		{"one was begun a moment ago", func(in *VaultInput) { emptyVault(in); making(in, time.Minute) }, Wait, ""},
		{"one was begun, by the local clock long ago", func(in *VaultInput) {
			emptyVault(in)
			making(in, time.Hour)
			in.Record.KEKs[0].Begun.There = vaultNow.Add(-time.Minute)
		}, Wait, ""},
		{"one was begun, by the vault's clock long ago", func(in *VaultInput) {
			emptyVault(in)
			making(in, time.Hour)
			in.Record.KEKs[0].Begun.Here = vaultNow.Add(-time.Minute)
		}, Wait, ""},
		{"one was begun, and its time is over", func(in *VaultInput) { emptyVault(in); making(in, 4*time.Minute) },
			KEKVoid, "a2"},
		{"of a Managed HSM it is not over", func(in *VaultInput) {
			emptyVault(in)
			in.Policy.Kind = key.ManagedHSM
			making(in, 4*time.Minute)
		}, Wait, ""},
		{"one was begun, and shows by its tag", func(in *VaultInput) {
			making(in, time.Minute)
			in.shows("2", "a2",
				"", refused)
		}, KEKMade, "2"},
		{"one was begun, and a stranger's shows", func(in *VaultInput) {
			making(in, time.Minute)
			in.shows("2", "",
				"", refused)
		}, Wait, ""},
		{"one was given up, and shows after all", func(in *VaultInput) {
			making(in, time.Hour)
			in.Record.KEKs[1].State = key.KEKVoid
			in.shows("2", "a2", "", refused)
		}, KEKMade, "2"},
		{"an older keyd began one without a tag", func(in *VaultInput) {
			in.has(record.KEK{State: key.KEKMaking, Begun: vaultAgo(time.Minute)})
			in.shows("2", "", "", refused)
		}, KEKMade, "2"},
		{"one is gone that was made a moment ago", func(in *VaultInput) {
			emptyVault(in)
			in.has(keksIn(key.KEKActive, "1", time.Minute))
		}, Wait, ""},
		{"one is gone that was there for long", func(in *VaultInput) {
			emptyVault(in)
			in.has(keksIn(key.KEKActive,
				"1", time.Hour))
		}, CreateKEK, ""},

		{"the first one is trusted by first use", func(in *VaultInput) {
			emptyVault(in)
			in.Seen.Newest.Absent = false
			in.shows("1", "", "would be first use", nil)
		}, UseKEK, "1"},
		{"the first one is not the configured one", func(in *VaultInput) {
			emptyVault(in)
			in.Seen.Newest.Absent = false
			in.shows("1", "", "", refused)
		}, Idle, ""},
		{"a newer one is trusted by first use alone", func(in *VaultInput) { in.shows("2", "", "first use", nil) },
			Idle, ""},
		{"a newer one is not trusted", func(in *VaultInput) { in.shows("2", "", "", refused) }, Idle, ""},
		{"a newer one is configured, whoever made it", func(in *VaultInput) {
			in.shows("2", "", key.TrustConfigured,
				nil)
		}, UseKEK, "2"},
		{"keyd's own waits for approval", func(in *VaultInput) {
			in.has(keksIn(key.KEKMade, "2", time.Hour))
			in.shows("2", "a2", "", refused)
		}, Idle, ""},
		{"keyd's own is configured", func(in *VaultInput) {
			in.has(keksIn(key.KEKMade, "2", time.Hour))
			in.shows("2", "a2", key.TrustConfigured, nil)
		}, UseKEK, "2"},
		{"keyd's own is configured, below a stranger's", func(in *VaultInput) {
			in.has(keksIn(key.KEKMade, "2", time.Hour))
			in.shows("2", "a2", key.TrustConfigured, nil)
			in.shows("3", "", "", refused)
		}, UseKEK, "2"},

		{"a new one is asked for", ask, CreateKEK, ""},
		{"a new one is asked for, and keyd may not make it",
			func(in *VaultInput) { ask(in); in.Policy.Create = false }, Wait, ""},
		{"a new one is asked for while one waits", func(in *VaultInput) {
			ask(in)
			in.has(keksIn(key.KEKMade, "2", time.Hour))
			in.shows("2", "a2", "", refused)
		}, Idle, ""},
		{"a new one is asked for while one waits that somebody disabled", func(in *VaultInput) {
			ask(in)
			in.has(keksIn(key.KEKMade, "2", time.Hour))
			in.shows("2", "a2", "", refused)
			in.Seen.Versions[1].Enabled = false
		}, CreateKEK, ""},
		{"a new one is asked for while one waits that is gone", func(in *VaultInput) {
			ask(in)
			in.has(keksIn(key.KEKMade, "2", time.Hour))
		}, CreateKEK, ""},
		{"a new one is asked for while one waits that does not show yet", func(in *VaultInput) {
			ask(in)
			in.has(keksIn(key.KEKMade, "2", time.Minute))
		}, Idle, ""},
		{"a new one is asked for, and the one just made is unfit", func(in *VaultInput) {
			ask(in)
			making(in, time.Hour)
			in.Record.KEKs[1].State = key.KEKVoid
			in.shows("2", "a2", "", refused)
			in.Seen.Newest.Print = ""
		}, Wait, ""},
		{"a new one is asked for, and the one made long ago is unfit", func(in *VaultInput) {
			ask(in)
			making(in, 7*time.Hour)
			in.Record.KEKs[1].State = key.KEKVoid
			in.shows("2", "a2", "", refused)
			in.Seen.Newest.Print = ""
		}, CreateKEK, ""},
		{"a new one is due by the schedule", func(in *VaultInput) { in.Policy.Schedule = firesAfter(24 * time.Hour) },
			CreateKEK, ""},
		{"the schedule has not fired", func(in *VaultInput) { in.Policy.Schedule = firesAfter(72 * time.Hour) }, Idle,
			""},
		{"a new one is due by a clock that is wrong", func(in *VaultInput) {
			in.Policy.Schedule = firesAfter(24 * time.Hour)
			in.Seen.Skew = -6 * time.Minute
		}, Wait, ""},

		{"the old one may be needed yet", func(in *VaultInput) { rotatedVault(in, 12*time.Minute) }, Idle, ""},
		{"nothing needs the old one", func(in *VaultInput) { rotatedVault(in, 14*time.Minute) }, DisableKEK, "1"},
		{"this host may disable nothing", func(in *VaultInput) {
			rotatedVault(in, time.Hour)
			in.Policy.KeepOld = true
		}, Idle, ""},
		{"another instance has the same KEK, and may have pinned the old one", func(in *VaultInput) {
			rotatedVault(in, time.Hour)
			in.Record.Instance = "hq-1"
			in.Seen.Versions[1].Tags = map[string]string{key.TagInstance: "hq-2"}
		}, Idle, ""},
		{"of a Managed HSM something may", func(in *VaultInput) {
			in.Policy.Kind = key.ManagedHSM
			rotatedVault(in,
				14*time.Minute)
		}, Idle, ""},
		{"the old one is not keyd's", func(in *VaultInput) {
			rotatedVault(in,
				time.Hour)
			in.Record.KEKs[0].Found = true
		}, Idle, ""},
		{"the one in use is not trusted any more", func(in *VaultInput) {
			rotatedVault(in,
				time.Hour)
			in.Seen.Newest.Err = refused
		}, Idle, ""},
		{"the one in use is disabled", func(in *VaultInput) {
			rotatedVault(in,
				time.Hour)
			in.Seen.Versions[1].Enabled = false
		}, Idle, ""},
		{"the one in use is another than was recorded", func(in *VaultInput) {
			rotatedVault(in,
				time.Hour)
			in.Seen.Newest.Print = "other"
		}, Idle, ""},
		{"the clocks differ", func(in *VaultInput) { rotatedVault(in, time.Hour); in.Seen.Skew = 6 * time.Minute },
			Idle, ""},
		{"the vault's clock is not known", func(in *VaultInput) {
			rotatedVault(in,
				time.Hour)
			in.Seen.SkewSeen = false
		}, Idle, ""},
		{"disabling it was refused an hour ago", func(in *VaultInput) {
			rotatedVault(in, 8*time.Hour)
			in.Record.KEKs[0].DisableBegun = vaultAgo(time.Hour)
		}, Idle, ""},
		{"disabling it was refused long ago", func(in *VaultInput) {
			rotatedVault(in, 8*time.Hour)
			in.Record.KEKs[0].DisableBegun = vaultAgo(7 * time.Hour)
		}, DisableKEK, "1"},
		{"disabling it was cut short", func(in *VaultInput) {
			rotatedVault(in, time.Hour)
			in.Record.KEKs[0].State, in.Record.KEKs[0].DisableBegun = key.KEKDisabling, vaultAgo(time.Minute)
		}, DisableKEK, "1"},
		{"disabling it was cut short, and shows", func(in *VaultInput) {
			rotatedVault(in, time.Hour)
			in.Record.KEKs[0].State, in.Record.KEKs[0].DisableBegun = key.KEKDisabling, vaultAgo(time.Minute)
			in.Seen.Versions[0].Enabled = false
		}, KEKDisabled, "1"},
		{"disabling it was cut short, and did not happen", func(in *VaultInput) {
			rotatedVault(in, time.Hour)
			in.Record.KEKs[0].State, in.Record.KEKs[0].DisableBegun = key.KEKDisabling, vaultAgo(8*time.Minute)
		}, KEKDisableAborted, "1"},
	}
}

func TestAVaultsNextStep(t *testing.T) {
	for _, c := range vaultCases() {
		t.Run(c.name, func(t *testing.T) {
			in := quietVault()
			c.change(&in)
			s := NextForVault(in)
			if s.Kind != c.want || s.Vault != in.Policy.URL || c.about != "" && s.Version != c.about &&
				string(s.Attempt) != c.about {
				t.Errorf("%+v, want %s %s", s, c.want, c.about)
			}
			if !s.Acts() && s.Why == "" {
				t.Error("it does not say why")
			}
		})
	}
}

// A vault may list versions and fail to show the newest. What is due cannot be done then, and must not make the loop
// spin.
func TestAVaultWithDueWorkThatCannotContinueIsNotSteppedWithoutPause(t *testing.T) {
	in := quietVault()
	in.Policy.Schedule, in.Seen.Newest = firesAfter(24*time.Hour), record.KEKSeen{Absent: true}
	if s := NextForVault(in); s.Kind != Idle || !s.Until.After(in.Now) {
		t.Errorf("%s until %s, at %s", s.Kind, s.Until, in.Now)
	}
}

// firesAfter is a schedule that fires a fixed time after any moment.
type firesAfter time.Duration

func (a firesAfter) Next(t time.Time) time.Time { return t.Add(time.Duration(a)) }

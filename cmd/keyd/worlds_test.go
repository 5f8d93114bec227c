package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// at is a time relative to the moment of these worlds' snapshots.
func at(d time.Duration) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(d)
}

const (
	weu = "https://contoso-weu.vault.azure.net"
	mhs = "https://contoso.managedhsm.azure.net"
)

// worlds are the daemons that scripts can use.
func worlds() map[string]*world {
	all := map[string]*world{
		"empty":   {snap: empty()},
		"hosts":   {snap: hosts()},
		"healthy": {snap: healthy(), after: rotatedTo(3), checks: goodChecks(), steps: rotationSteps("sa-cmk-key")},
		"troubled": {
			snap:     troubled(),
			checks:   badChecks(),
			adoption: foreignFound(),
			steps:    heldSteps(),
			joined:   true,
		},
		"degraded":   {snap: degraded()},
		"away":       {snap: away()},
		"stopped":    {snap: stopped()},
		"unreadable": {snap: unreadable()},
		"readers":    {snap: healthy()},
		"strangers":  {snap: healthy()},
		"audited":    {snap: healthy(), entries: rotationEntries()},
		"refusing": {
			snap:     healthy(),
			adoption: foreignFound(),
			refusal:  &control.RefusedError{Text: "key sa-cmk-key is held (paused): storage migration"},
		},
		"finished": {snap: finished()},
		"mute":     {snap: healthy(), mute: true},
		"spent": {
			snap: healthy(),
			refusal: &control.RefusedError{
				Text: "key new-key has had its 10 rotations of the last 24 hours: the next is possible at " +
					"2026-03-01T13:00:00Z; a higher budget in the configuration allows it now",
			},
		},
		"slow":   {snap: healthy(), slow: true},
		"keks":   {snap: withKEKs(), joined: true},
		"spared": {snap: withSpares()},
		"used":   {snap: withConsumers()},

		"grouped": {snap: grouped(), steps: rotationSteps("sa-cmk-key")},

		"proposed": {snap: withProposals(), proposes: true},

		"setups": {snap: healthy(), checks: setups()},

		"crowded":      {snap: crowded(51, 52)},
		"crowded-well": {snap: crowded(0, 0)},
	}
	all["healthy"].report = control.AuditReport{Entries: 2, Head: "bb", Consistent: true}
	consented := healthy()
	consented.Keys[0].Retire = &status.RetireRule{DisableAfter: 400 * 86400, Pause: 86400,
		Consent: &status.Consent{At: at(-time.Hour), By: "uid 0 (root)", Reason: "as planned"}}
	all["consented"] = &world{snap: consented, consented: true}
	all["replaced"] = &world{snap: consented, replaced: true}
	all["healthy"].adoption = status.Adoption{Key: "sa-cmk-key"}
	all["troubled"].report = control.AuditReport{Entries: 2, Problem: "entry 2 does not follow from entry 1"}
	all["troubled"].backupErr = errDisk
	for _, w := range all {
		w.asked = make(chan struct{})
	}
	return all
}

func empty() status.Snapshot {
	return status.Snapshot{
		Version: "v1.0.0", Instance: "hq-1", At: at(0), Started: at(-3 * time.Minute),
		HSM: status.HSM{
			Up: true,
			Info: key.HSMInfo{
				Token:  "keyd",
				Model:  "SoftHSM v2",
				Serial: "e5f6",
				Wrap:   "CKM_AES_KEY_WRAP_PAD (0x210A)",
			},
		},
	}
}

// withSpares is healthy, with one of two spares ready.
func withSpares() status.Snapshot {
	s := healthy()
	for i := range s.Keys {
		if s.Keys[i].Name == "sa-cmk-key" {
			s.Keys[i].Spares = &status.Spares{Wanted: 2, Ready: 1, Generations: []status.Generation{
				{Number: 3, State: key.PreActivation, SpareSince: at(-time.Hour), Pinned: at(-time.Hour)},
				{Number: 4, State: key.PreActivation, SpareSince: at(0)}}}
		}
	}
	return s
}

// withKEKs is healthy, with a key exchange key that waits for approval in one vault and none yet in the other.
func withKEKs() status.Snapshot {
	s := healthy()
	kid := func(c string) string { return weu + "/keys/keyd-kek/" + strings.Repeat(c, 32) }
	print := func(c string) key.Fingerprint { return key.Fingerprint("sha256:" + strings.Repeat(c, 64)) }
	s.Vaults[0].KEK, s.Vaults[0].KEKPrint, s.Vaults[0].KEKTrust = kid("b"), print("b"), "first use"
	s.Vaults[0].KEKs = []status.KEK{
		{State: key.KEKDisabled, Kid: kid("a"), Fingerprint: print("a"), By: "keyd", Made: at(-900 * 24 * time.Hour),
			Used:       at(-900 * 24 * time.Hour),
			Superseded: at(-400 * 24 * time.Hour), Disabled: at(-399 * 24 * time.Hour), Trust: "configured"},
		{State: key.KEKActive, Kid: kid("b"), Fingerprint: print("b"), By: "keyd",
			Reason: "the vault has no key exchange key",
			Made:   at(-400 * 24 * time.Hour), Used: at(-400 * 24 * time.Hour), Trust: "first use"},
		{State: key.KEKMade, Kid: kid("c"), Fingerprint: print("c"), By: "uid 0 (root)", Reason: "yearly",
			Made: at(-3 * time.Hour)},
	}
	s.Vaults[0].KEKWaiting = "the key exchange key " + strings.Repeat("c",
		32) + " is not used: it is not the one that keyd first used"
	s.Vaults[0].KEKNext = at(300 * 24 * time.Hour)
	s.Vaults[1].KEKRequest = &key.KEKRequest{ID: request, At: at(-time.Minute), By: "uid 0 (root)", Reason: "yearly"}
	return s
}

func healthy() status.Snapshot {
	s := empty()
	s.Ready = true
	s.Vaults = []status.Vault{
		{
			Vault:     key.Vault{Name: "contoso-weu", URL: weu, Kind: key.KeyVault},
			Reachable: true,
			SeenAt:    at(-20 * time.Second),
		},
		{
			Vault:     key.Vault{Name: "contoso-hsm", URL: mhs, Kind: key.ManagedHSM},
			Reachable: true,
			SeenAt:    at(-2 * time.Minute),
		},
	}
	s.Keys = []status.Key{
		{
			Name: "sa-cmk-key", Spec: key.RSA4096, Schedule: "@every 720h", State: status.StateOK,
			Vaults:       []string{weu, mhs},
			LastRotation: at(-10 * 24 * time.Hour), NextRotation: at(20 * 24 * time.Hour),
			Generations: []status.Generation{
				generation(
					1,
					placed(weu, "contoso-weu", key.Superseded, 1),
					placed(mhs, "contoso-hsm", key.Superseded, 1),
				),
				generation(2, placed(weu, "contoso-weu", key.Proven, 2), placed(mhs, "contoso-hsm", key.Proven, 2)),
			},
			Proofs: []status.Proof{
				{Vault: weu, Version: version(1), Outcome: key.Passed, At: at(-5 * time.Hour)},
				{Vault: weu, Version: version(2), Newest: true, Outcome: key.Passed, At: at(-30 * time.Second)},
				{Vault: mhs, Version: version(2), Newest: true, Outcome: key.Passed, At: at(-90 * time.Second)},
			},
		},
		{Name: "cosmos", Spec: key.RSA3072, State: status.StateRetained, Retained: true, Vaults: []string{weu}},
		{Name: "new-key", Spec: key.RSA2048, State: status.StateNew, Vaults: []string{weu}, Doing: "generate"},
	}
	return s
}

// rotatedTo is healthy, once sa-cmk-key has this generation.
func rotatedTo(n int) *status.Snapshot {
	s := healthy()
	g := generation(n, placed(weu, "contoso-weu", key.Proven, 3), placed(mhs, "contoso-hsm", key.Proven, 4))
	g.Finished, g.Requests = at(time.Minute), []key.ID{request}
	s.Keys[0].Generations = append(s.Keys[0].Generations, g)
	return &s
}

// finished is healthy, once the rotation that a script requested has ended.
func finished() status.Snapshot {
	s := healthy()
	g := generation(1, placed(weu, "contoso-weu", key.Proven, 1))
	g.Finished, g.Requests = at(time.Minute), []key.ID{request}
	s.Keys[2].State, s.Keys[2].Generations = status.StateOK, []status.Generation{g}
	return s
}

func troubled() status.Snapshot {
	s := healthy()
	s.Problems = []status.Problem{
		{
			Severity: status.Critical,
			Key:      "sql-tde",
			Vault:    "contoso-weu",
			Text:     "a foreign version is newest",
			Remedy:   "find out who made it, then `keyd adopt sql-tde`",
		},
		{Severity: status.Warning, Text: "the HSM is down"},
	}
	s.HSM = status.HSM{Error: "the library ended with a signal; starting it again in 8 s"}
	s.Vaults[1].Reachable = false
	s.Vaults[1].Error = "403 Forbidden (ForbiddenByRbac)"
	held := s.Keys[0]
	held.Name, held.State = "sql-tde", status.StateHeld
	held.Hold = &key.Hold{
		Code:   key.HoldForeign,
		Reason: "contoso-weu holds a foreign version",
		Since:  at(-time.Hour),
		By:     "keyd",
	}
	held.Proofs = []status.Proof{
		{Vault: weu, Version: version(2), Newest: true, Outcome: key.Inconclusive, At: at(-time.Minute)},
	}
	s.Keys = append(s.Keys, held)
	return s
}

// degraded is healthy except for an HSM side that answers and cannot work.
func degraded() status.Snapshot {
	s := healthy()
	s.HSM.Since, s.HSM.SeenAt = at(-9*time.Minute), at(-4*time.Second)
	s.HSM.Info.Degraded = `not logged in to token "keyd": the token refused the PIN`
	return s
}

// away is healthy except for an HSM side that has ended.
func away() status.Snapshot {
	s := healthy()
	s.HSM.Up, s.HSM.Since, s.HSM.SeenAt = false, at(-30*time.Second), at(-40*time.Second)
	s.HSM.Error = `the HSM process ended: the module shows no token with label "keyd"`
	return s
}

func version(n byte) string {
	b := []byte("00000000000000000000000000000000")
	b[31] += n
	return string(b)
}

func placed(url, name string, state key.PlacementState, n byte) status.Placement {
	return status.Placement{
		Vault:      url,
		VaultName:  name,
		State:      state,
		Version:    version(n),
		ImportedAt: at(-10 * 24 * time.Hour),
		ProvenAt:   at(-6 * time.Hour),
	}
}

func generation(n int, placements ...status.Placement) status.Generation {
	return status.Generation{
		Number:      n,
		Spec:        key.RSA4096,
		State:       key.Active,
		Fingerprint: "sha256:0123456789abcdef",
		Reserved:    at(-10*24*time.Hour - time.Minute),
		Finished:    at(-10 * 24 * time.Hour),
		Placements:  placements,
	}
}

func goodChecks() []status.Check {
	return []status.Check{
		{Area: "hsm", Subject: "keyd", Name: "wrap self-test", Result: status.CheckOK},
		{
			Area:    "clock",
			Subject: "contoso-weu",
			Name:    "difference",
			Result:  status.CheckWarning,
			Detail:  "40 s",
			Remedy:  "run a time service",
		},
	}
}

func badChecks() []status.Check {
	return append(goodChecks(), status.Check{Area: "vault", Subject: "contoso-hsm", Name: "list versions",
		Result: status.CheckFailed, Detail: "403 ForbiddenByRbac", Remedy: "give keyd the role Managed HSM " +
			"Crypto User"})
}

func foreignFound() status.Adoption {
	return status.Adoption{
		Key: "sql-tde",
		Rebuild: []status.AdoptedGeneration{
			{
				Number:      3,
				Fingerprint: "sha256:0123456789abcdef",
				Versions:    map[string][]string{"contoso-weu": {version(3)}},
			},
		},
		Foreign:     map[string][]string{"contoso-weu": {version(9)}},
		Unknown:     []string{"who requested generation 3"},
		Consequence: "generation 4 would be imported over it",
		Token:       "t1",
	}
}

func rotationSteps(name string) []status.Event {
	step := func(s int, e status.Event) status.Event {
		e.At, e.Key, e.Generation = at(time.Duration(s)*time.Second), name, 3
		return e
	}
	return []status.Event{
		step(1, status.Event{Step: "generate", Phase: status.Begin}),
		step(3, status.Event{Step: "generate", Phase: status.Done, Elapsed: status.Seconds(1700 * time.Millisecond)}),
		step(
			4,
			status.Event{
				Step:    "import",
				Phase:   status.Done,
				Vault:   "contoso-weu",
				Version: version(3),
				Elapsed: status.Seconds(300 * time.Millisecond),
			},
		),
		step(5, status.Event{Step: "finish", Phase: status.Done, Requests: []key.ID{request}}),
	}
}

func heldSteps() []status.Event {
	return []status.Event{
		{
			At:         at(0),
			Key:        "sql-tde",
			Generation: 3,
			Step:       "hold",
			Phase:      status.Done,
			Vault:      "contoso-weu",
			Detail:     "a foreign version is newest",
		},
	}
}

// rotationEntries is the audit of one rotation, as the loop writes it.
func rotationEntries() []chain.Entry {
	const attempt, request, print = "ffeeddccbbaa99887766554433221100", "00112233445566778899aabbccddeeff",
		"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	var all []chain.Entry
	add := func(event chain.Event, actor string, fields ...string) {
		e := chain.Entry{
			Time:   at(time.Duration(len(all)) * time.Minute),
			Key:    "sa-cmk-key",
			Event:  event,
			Actor:  actor,
			Fields: map[string]string{"generation": "2"},
		}
		for i := 0; i < len(fields); i += 2 {
			e.Fields[fields[i]] = fields[i+1]
		}
		if event == "checkpoint signed" {
			e.Key = ""
			delete(e.Fields, "generation")
		}
		all = append(all, e)
	}
	add("rotation requested", "uid 1000 (alice)", "request", request, "reason", "yearly drill")
	add(
		"generation reserved",
		"uid 1000 (alice)",
		"id",
		attempt,
		"spec",
		"RSA-4096",
		"reason",
		"yearly drill",
		"requests",
		request,
	)
	add("id abandoned", "keyd", "id", attempt, "new_id", request)
	add("generation made", "keyd", "id", request)
	add(
		"generation pinned",
		"keyd",
		"id",
		request,
		"fingerprint",
		print,
		"hsm_manufacturer",
		"SoftHSM project",
		"hsm_model",
		"SoftHSM v2",
		"hsm_serial",
		"e5f6",
		"hsm_firmware",
		"2.6",
		"hsm_token",
		"keyd",
	)
	place := []string{
		"attempt",
		attempt,
		"vault",
		weu,
		"cause",
		"rotation",
		"kek",
		weu + "/keys/keyd-kek/00112233445566778899aabbccddeeff",
		"kek_fingerprint",
		print,
	}
	add("import intended", "keyd", append(place, "checkpoint", "4:"+print)...)
	add("imported", "keyd", append(place, "version", version(2))...)
	add(
		"proof passed",
		"keyd",
		append(place, "version", version(2), "checked", "modulus key-type vault-unwrap vault-wrap hsm-open")...)
	add("rotation finished", "keyd")
	add(
		"checkpoint signed",
		"keyd",
		"instance",
		"hq-1",
		"seq",
		"9",
		"head",
		print,
		"signed",
		"2026-03-01T12:09:00Z",
		"audit_key",
		print,
		"signature",
		"AAAA",
	)
	return all
}

// crowded has two thousand keys, of which some are held, each with so many problems in all.
func crowded(held, problems int) status.Snapshot {
	s := healthy()
	well := s.Keys[0]
	s.Keys = nil
	for i := range 2_000 {
		k := well
		k.Name = fmt.Sprintf("app-%05d", i)
		if i%30 == 7 && i/30 < held {
			k.State = status.StateHeld
			k.Hold = &key.Hold{Code: key.HoldPaused, Reason: "moving house", By: "uid 0 (root)", Since: at(-time.Hour)}
		}
		s.Keys = append(s.Keys, k)
	}
	for i := range problems {
		s.Problems = append(s.Problems, status.Problem{Severity: status.Warning, Key: fmt.Sprintf("app-%05d", 30*i+7),
			Text: "held (paused): moving house", Remedy: "keyd resume"})
	}
	return s
}

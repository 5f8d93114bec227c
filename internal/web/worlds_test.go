package web

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// The worlds that the page is tested with. Their clock is fixed.

var at = time.Date(2026, 11, 25, 9, 41, 0, 0, time.UTC)

const (
	weu  = "https://contoso-weu.vault.azure.net"
	mhsm = "https://contoso.managedhsm.azure.net"
)

func days(n float64) time.Duration { return time.Duration(n * 24 * float64(time.Hour)) }

// history is a day of slots: all good except those in changes.
func history(change map[int]status.Slot) *status.History {
	h := &status.History{Start: at.Truncate(15 * time.Minute).Add(-95 * 15 * time.Minute),
		Width: status.Seconds(15 * time.Minute), Slots: make([]status.Slot, 96), Bad: make([]float64, 96)}
	for i := range h.Slots {
		h.Slots[i] = status.SlotGood
		if s, ok := change[i]; ok {
			h.Slots[i] = s
		}
		if h.Slots[i] == status.SlotBad {
			h.Bad[i] = h.Width.Duration().Seconds()
			h.LastBad = h.Start.Add(time.Duration(i)*h.Width.Duration() + 10*time.Minute)
		}
	}
	return h
}

func goodHSM() status.HSM {
	return status.HSM{Up: true, Since: at.Add(-days(12)), History: history(nil), Info: key.HSMInfo{
		Module: "/usr/lib/vendor/libpkcs11.so", Library: "Vendor PKCS#11 3.2", Manufacturer: "Contoso",
		Model: "NetHSM 4", Serial: "0417-2231",
		Firmware: "4.8", Token: "keyd", Wrap: "CKM_RSA_AES_KEY_WRAP (0x1054)", Open: "CKM_RSA_PKCS_OAEP", Sessions: 8}}
}

func goodVault(name, url string, kind key.VaultKind) status.Vault {
	return status.Vault{Vault: key.Vault{Name: name, URL: url, Kind: kind}, Reachable: true,
		SeenAt: at.Add(-4 * time.Minute), KEK: url + "/keys/keyd-kek/0b1c",
		KEKPrint: "sha256:9f2c41d07a6be5530b1c9f2c41d07a6be5530b1c9f2c41d07a6be5530b1c9f2c", KEKTrust: "configured",
		History: history(nil)}
}

// generation is a generation that became active everywhere at a given time.
func generation(n int, active time.Time, state key.PlacementState) status.Generation {
	g := status.Generation{Number: n, Spec: "RSA-4096", State: key.Active, Requester: "schedule",
		Reserved: active.Add(-time.Minute), Pinned: active.Add(-50 * time.Second),
		Finished: active, Fingerprint: key.Fingerprint(fmt.Sprintf("sha256:%x", sha256.Sum256([]byte{byte(n)})))}
	for i, v := range []key.Vault{{Name: "contoso-weu", URL: weu}, {Name: "contoso-hsm", URL: mhsm}} {
		g.Placements = append(g.Placements,
			status.Placement{Vault: v.URL, VaultName: v.Name, State: state, Cause: key.CauseRotation,
				Version: fmt.Sprintf("%x", sha256.Sum256([]byte{byte(n), byte(i), 1}))[:32], ProvenAt: active,
				ImportedAt: active})
	}
	return g
}

// rotated is a key that was rotated this many times, at this interval, last at the given time.
func rotated(name string, n int, every time.Duration, last time.Time) status.Key {
	k := status.Key{Name: name, Spec: "RSA-4096", State: status.StateOK, Schedule: "0 3 1 */3 *", LastRotation: last,
		NextRotation: last.Add(every), Vaults: []string{weu, mhsm}}
	for i := range n {
		active := last.Add(-every * time.Duration(n-1-i))
		g := generation(i+1, active, key.Superseded)
		if i == n-1 {
			for j := range g.Placements {
				g.Placements[j].State = key.Proven
				k.Proofs = append(k.Proofs, status.Proof{Vault: g.Placements[j].Vault, Version: g.Placements[j].Version,
					Generation: g.Number, Newest: true,
					Outcome: key.Passed, At: at.Add(-3 * time.Minute), PassedAt: at.Add(-3 * time.Minute)})
			}
		} else {
			g.State, g.Deactivated = key.Deactivated, active.Add(every)
		}
		k.Generations = append(k.Generations, g)
	}
	return k
}

func nothing() status.Snapshot {
	return status.Snapshot{Version: "1.4.0", Instance: "hq-1", At: at, Started: at.Add(-days(12)), Ready: true,
		HSM: goodHSM()}
}

func threeKeys() status.Snapshot {
	s := nothing()
	s.Vaults = []status.Vault{goodVault("contoso-weu", weu, key.KeyVault),
		goodVault("contoso-hsm", mhsm, key.ManagedHSM)}
	s.Vaults[1].History = history(map[int]status.Slot{0: status.SlotUnknown, 1: status.SlotUnknown,
		2: status.SlotUnknown, 40: status.SlotBad, 41: status.SlotBad})
	s.Vaults[1].History.Bad[40], s.Vaults[1].History.Bad[41] = 240, 30
	s.Keys = []status.Key{
		rotated("disk-cmk-key", 2, days(180), at.Add(-days(31))),
		rotated("sa-cmk-key", 6, days(90), at.Add(-days(24))),
		rotated("sql-tde-key", 3, days(90), at.Add(-days(61))),
	}
	s.Keys[0].Consumers, s.Keys[1].Consumers = disks(s.Keys[0]), manyServices(s.Keys[1])
	return s
}

// rotatingNow is threeKeys while one of them is rotated.
func rotatingNow() (status.Snapshot, []status.Event) {
	s := threeKeys()
	k := &s.Keys[2]
	g := generation(4, time.Time{}, key.Proven)
	g.Reserved, g.Finished, g.Pinned = at.Add(-20*time.Second), time.Time{}, at.Add(-15*time.Second)
	g.Placements[0].ProvenAt = at.Add(-4 * time.Second)
	g.Placements = g.Placements[:1]
	k.Generations, k.State, k.Doing = append(k.Generations, g), status.StateRotating, "import"
	k.LastRotation, k.NextRotation = g.Reserved, g.Reserved.Add(days(90))
	const before = "sa-cmk-key" // its rotation is finished
	return s, []status.Event{
		event(-720, before, 6, "reserve", "", status.Done, 14*time.Millisecond),
		event(-700, before, 6, "generate", "", status.Done, 4100*time.Millisecond),
		event(-660, before, 6, "import", "contoso-weu", status.Done, 700*time.Millisecond),
		event(-600, before, 6, "prove", "contoso-weu", status.Done, 320*time.Millisecond),
		event(-540, before, 6, "finish", "", status.Done, 9*time.Millisecond),
		event(-20, k.Name, 4, "reserve", "", status.Done, 12*time.Millisecond),
		event(-16, k.Name, 4, "generate", "", status.Done, 3800*time.Millisecond),
		event(-15, k.Name, 4, "pin", "", status.Done, 95*time.Millisecond),
		event(-9, k.Name, 4, "import", "contoso-weu", status.Done, 640*time.Millisecond),
		event(-4, k.Name, 4, "prove", "contoso-weu", status.Done, 310*time.Millisecond),
		event(-1, k.Name, 4, "import", "contoso-hsm", status.Begin, 0),
	}
}

func event(seconds int, name string, generation int, step, vault string, phase status.Phase,
	took time.Duration) status.Event {
	return status.Event{At: at.Add(time.Duration(seconds) * time.Second), Key: name, Generation: generation, Step: step,
		Vault: vault, Phase: phase, Elapsed: status.Seconds(took), Detail: "SECRET-REASON"}
}

// manyKeys is n keys, a few of them in trouble.
func manyKeys(n int) status.Snapshot {
	s := threeKeys()
	s.Keys = nil
	for i := range n {
		k := rotated(fmt.Sprintf("app-%03d-cmk-key", i), 2+i%7, days(30+float64(i%5)*30),
			at.Add(-days(float64(i%29)+1)))
		s.Keys = append(s.Keys, k)
	}
	for _, i := range []int{41, 217} {
		if i < n {
			hold(&s, i, key.HoldForeign, "the newest version of "+s.Keys[i].Name+
				" in vault contoso-weu, 77ab0e, is not keyd's: versionless consumers follow it. Find out who made "+
				"it; to import over it: keyd adopt "+s.Keys[i].Name)
		}
	}
	if n > 300 {
		fail(&s, 300, "key app-300-cmk-key: import generation 5 in vault contoso-weu: 403 ForbiddenByRbac: give "+
			"keyd's identity the role Key Vault Crypto Officer")
	}
	return s
}

func hold(s *status.Snapshot, i int, code key.HoldCode, reason string) {
	k := &s.Keys[i]
	k.State, k.Hold = status.StateHeld, &key.Hold{Code: code, Reason: reason, Since: at.Add(-2 * time.Hour), By: "keyd"}
	severity := status.Critical
	if code == key.HoldPaused || code == key.HoldAdopted || code == key.HoldNameTaken {
		severity = status.Warning
		k.Hold.By = "uid 1000 (alice)"
	}
	s.Problems = append(s.Problems, status.Problem{Severity: severity, Key: k.Name, Runbook: "hold-" + string(code),
		Hold: k.Hold, Text: k.Name + " is held (" + string(code) + "): " + reason})
}

func fail(s *status.Snapshot, i int, err string) {
	s.Keys[i].State, s.Keys[i].Error = status.StateFailing, err
	s.Problems = append(s.Problems, status.Problem{Severity: status.Warning, Key: s.Keys[i].Name,
		Runbook: "keydrotationfailing", Text: err, Remedy: "keyd tries again by itself"})
}

// operatorsReason is text from an operator, which no page may show.
const operatorsReason = "SECRET-REASON: password of the change window is hunter2"

// everyTrouble has each state of a key, each code of a hold, each kind of drift, and every other problem that the
// daemon reports.
func everyTrouble() status.Snapshot {
	s := threeKeys()
	s.Keys = nil
	for _, code := range holdCodes() {
		s.Keys = append(s.Keys, rotated("held-"+string(code), 3, days(90), at.Add(-days(24))))
		reason := "generation 2 in vault contoso-weu is not what the record says: compare, then keyd resume"
		if code == key.HoldPaused {
			reason = operatorsReason
		}
		hold(&s, len(s.Keys)-1, code, reason)
	}
	add := func(name, state string, change func(*status.Key)) {
		k := rotated(name, 3, days(90), at.Add(-days(24)))
		k.State = state
		if change != nil {
			change(&k)
		}
		s.Keys = append(s.Keys, k)
	}
	add("well", status.StateOK, nil)
	add("new", status.StateNew,
		func(k *status.Key) { k.Generations, k.Proofs, k.Waiting = nil, nil, "vault contoso-weu is not ready" })
	add("rotating", status.StateRotating, func(k *status.Key) { k.Doing = "prove" })
	add("partial", status.StatePartial, func(k *status.Key) { k.Waiting = "vault contoso-hsm cannot be reached" })
	add("retained", status.StateRetained, func(k *status.Key) { k.Retained, k.NextRotation = true, time.Time{} })
	add("overdue", status.StateOK, func(k *status.Key) { k.NextRotation = at.Add(-days(3)) })
	add("on-request", status.StateOK, func(k *status.Key) { k.Schedule, k.NextRotation = "", time.Time{} })
	add("compromised", status.StateOK, func(k *status.Key) {
		k.Generations[1].State, k.Generations[1].Compromised = key.Compromised, at.Add(-days(50))
		k.Consumers = troubledUsers(*k)
	})
	add("suspended", status.StateOK, func(k *status.Key) {
		k.Generations[0].State = key.Suspended
		for i := range k.Generations[0].Placements {
			k.Generations[0].Placements[i].State, k.Generations[0].Placements[i].DisabledAt = key.Disabled,
				at.Add(-days(40))
		}
	})
	add("discarded", status.StateOK, func(k *status.Key) {
		k.Generations = append(k.Generations,
			status.Generation{Number: 4, State: key.Destroyed, Reserved: at.Add(-days(6)), Discarded: at.Add(-days(5))})
	})
	add("refuted", status.StateOK, func(k *status.Key) {
		k.Proofs[0].Outcome, k.Proofs[0].Leg, k.Proofs[0].Error = key.WasRefuted, "modulus",
			"the vault holds another modulus"
		k.Proofs[0].Failing = true
	})
	add("inconclusive", status.StateOK, func(k *status.Key) {
		k.Proofs[1].Outcome, k.Proofs[1].Leg, k.Proofs[1].Error = key.Inconclusive, "vault-unwrap",
			"429 Too Many Requests"
	})
	add("failing", status.StateFailing, nil)
	fail(&s, len(s.Keys)-1, "key failing: import generation 4 in vault contoso-weu: 403 ForbiddenByFirewall")
	s.Problems = append(s.Problems, otherProblems()...)
	slices.SortStableFunc(s.Problems,
		func(a, b status.Problem) int { return strings.Compare(string(a.Severity), string(b.Severity)) })
	s.HSM.Info.Degraded = "the token refused the PIN: it is not tried again until the credential changes"
	s.HSM.Info.Warnings = []string{"SoftHSM is for trying keyd out"}
	bad := map[int]status.Slot{90: status.SlotBad, 91: status.SlotBad, 92: status.SlotBad, 93: status.SlotBad,
		94: status.SlotBad, 95: status.SlotBad}
	s.HSM.History = history(bad)
	s.Vaults[0].KEKTrust = "refused: its fingerprint is not the configured one"
	s.Vaults[0].ClockSkew = status.Seconds(7 * time.Minute)
	s.Vaults[1].Reachable, s.Vaults[1].Error, s.Vaults[1].History = false, "dial tcp: i/o timeout", history(bad)
	return s
}

// hsmDown is threeKeys with the HSM side down, and a vault that keyd has not looked at.
func hsmDown() status.Snapshot {
	s := threeKeys()
	s.HSM = status.HSM{Since: at.Add(-9 * time.Minute),
		Error:   "dial unix /run/keyd-hsm/hsm.sock: connect: connection refused",
		History: history(map[int]status.Slot{95: status.SlotBad})}
	s.Vaults[1] = status.Vault{Vault: s.Vaults[1].Vault, History: new(status.History)}
	s.Problems = []status.Problem{{Severity: status.Critical, Runbook: "keydhsmdown",
		Text: "the HSM side is down: connection refused", Remedy: "systemctl status keyd-hsm; journalctl -u keyd-hsm",
		Effects: []string{"12 versions could not be proven meanwhile", "3 keys wait for it"}}}
	return s
}

func entries() []status.Entry {
	list := []status.Entry{}
	add := func(minutes int, name, what, who string, fields map[string]string) {
		if fields == nil {
			fields = map[string]string{}
		}
		fields["reason"], fields["id"] = operatorsReason, "00112233445566778899aabbccddeeff"
		list = append(list, status.Entry{Seq: uint64(4180 + len(list)),
			Time: at.Add(-time.Duration(minutes) * time.Minute), Key: name, Event: what, Actor: who, Fields: fields})
	}
	add(3000, "", "daemon started", "keyd", map[string]string{"version": "1.4.0"})
	add(2900, "", "configuration reloaded", "uid 0 (root)", map[string]string{"keys": "3", "vaults": "2"})
	add(12, "sa-cmk-key", "rotation requested", "uid 1000 (alice)", nil)
	add(12, "sa-cmk-key", "generation reserved", "uid 1000 (alice)", map[string]string{"generation": "6"})
	add(11, "sa-cmk-key", "generation pinned", "keyd", map[string]string{"generation": "6"})
	add(11, "sa-cmk-key", "import intended", "keyd",
		map[string]string{"generation": "6", "vault": weu, "cause": "rotation"})
	add(10, "sa-cmk-key", "imported", "keyd", map[string]string{"generation": "6", "vault": weu,
		"version": "5be10a77000000000000000000000000", "cause": "rotation"})
	add(10, "sa-cmk-key", "proof passed", "keyd",
		map[string]string{"generation": "6", "vault": weu, "version": "5be10a77000000000000000000000000",
			"cause": "rotation"})
	add(9, "sa-cmk-key", "rotation finished", "keyd", map[string]string{"generation": "6"})
	return list
}

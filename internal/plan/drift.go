package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// DriftKind is the closed set of the label "kind" of keyd_drift.
// docs/runbooks.md has a section for each.
type DriftKind string

// The kinds of drift.
const (
	DriftForeign        DriftKind = "foreign-version"
	DriftDeleted        DriftKind = "key-deleted"
	DriftNewestDisabled DriftKind = "newest-disabled"
	DriftDisabled       DriftKind = "version-disabled" // an older one, which keyd did not disable
	DriftLate           DriftKind = "disabling-late"   // of keyd's own, after keyd had given it up
	DriftEnabled        DriftKind = "version-enabled"  // one that the record has as disabled
	DriftMissing        DriftKind = "versions-missing"
	DriftOperations     DriftKind = "operations-changed"
	DriftExpiring       DriftKind = "version-expiring" // the newest, soon or already
	DriftExpiry         DriftKind = "expiry-changed"   // the date is not the one that keyd set
	DriftNotYetValid    DriftKind = "not-yet-valid"    // keyd never sets such a date
	DriftNativeRotation DriftKind = "native-rotation"
	DriftUnprotected    DriftKind = "no-purge-protection"
	DriftHSMMissing     DriftKind = "hsm-object-missing"
	DriftKEKChanged     DriftKind = "kek-changed"
	DriftKEKRefused     DriftKind = "kek-refused"
	DriftKEKMissing     DriftKind = "kek-missing"
	DriftNearLimit      DriftKind = "versions-near-limit"
)

// OfVault reports whether drift of this kind is about a vault as a whole, whichever of its keys shows it.
func (k DriftKind) OfVault() bool {
	switch k {
	case DriftUnprotected, DriftKEKChanged, DriftKEKRefused, DriftKEKMissing:
		return true
	}
	return false
}

// Drift is one difference between what was seen and what keyd recorded. keyd reports it and does not repair it.
type Drift struct {
	Kind   DriftKind
	Vault  key.Vault // zero: the HSM
	Text   string    // what is different, in words
	Remedy string
}

// Drifts compares one observation with the record. It makes no call.
func Drifts(in Input) (out []Drift) {
	if s, ok := in.missingPair(in.pairsThen()); ok && in.Seen.HSM.Err == nil {
		out = append(out, Drift{Kind: DriftHSMMissing, Text: s.Why,
			Remedy: fmt.Sprintf("put the pair back from the HSM's backup, then: keyd resume %s --reason …",
				in.Policy.Key)})
	}
	for _, v := range in.vaults() {
		d := drifter{in, v, &out}
		d.versions()
		d.placed()
		d.enabledAgain()
		d.late()
		d.kek()
	}
	return out
}

// pairsThen is the pairs that were pinned when the HSM's inventory was read.
func (in Input) pairsThen() []record.Pair {
	return slices.DeleteFunc(in.Record.Pairs(), func(p record.Pair) bool { return p.Pinned.After(in.Seen.HSM.Begun) })
}

// drifter collects the drift in one vault.
type drifter struct {
	Input
	v   visible
	out *[]Drift
}

func (d drifter) add(kind DriftKind, remedy, format string, args ...any) {
	*d.out = append(*d.out, Drift{kind, d.v.Vault, fmt.Sprintf(format, args...), remedy})
}

// versions adds what concerns the key in the vault as a whole.
func (d drifter) versions() {
	name := d.Policy.Key
	if d.v.seen.Deleted {
		d.add(DriftDeleted, fmt.Sprintf("az keyvault key recover %s --name %s", d.v.AzScope(), name),
			"key %s is soft-deleted in vault %s, and every version with it", name, d.v.Name)
	} else if s, missing := d.missingVersion(d.v); missing {
		d.add(DriftMissing, "find out whether it is the right vault, then: keyd adopt "+name, "%s", s.Why)
	}
	d.foreign()
	newest, ok := d.v.seen.Version(d.v.seen.Newest)
	if ok && !newest.Enabled && !d.disabledForHeir(newest.ID) {
		d.add(DriftNewestDisabled, enable(d.v.Vault, name, newest.ID),
			"the newest version of %s in vault %s, %s, is disabled: consumers that follow the key fail",
			name, d.v.Name, newest.ID)
	}
	if ok && newest.Purgeable() {
		d.add(DriftUnprotected, ProtectCommand(d.v.Vault),
			"vault %s has no purge protection: whoever may purge can destroy every version of a key at once",
			d.v.Name)
	}
	if ok && !newest.Expires.IsZero() && newest.Expires.Sub(d.Seen.At) < key.ExpiryNotice {
		d.add(DriftExpiring, fmt.Sprintf("keyd rotate --now %s --reason …; or give it time: az keyvault key "+
			"set-attributes %s --name %s --version %s --expires DATE", name, d.v.AzScope(), name, newest.ID),
			"the newest version of %s in vault %s, %s, expires at %s: from then on nobody can wrap with it", name,
			d.v.Name, newest.ID, newest.Expires.Format(time.RFC3339))
	}
	if d.v.seen.NativeRotation {
		d.add(DriftNativeRotation, fmt.Sprintf("az keyvault key rotation-policy update %s --name %s --value "+
			"'{\"lifetimeActions\":[]}'", d.v.AzScope(), name),
			"%s has a rotation policy of its own in vault %s, which cannot rotate imported material and would make "+
				"other material: remove it", name, d.v.Name)
	}
	if limit := d.v.Kind.MaxVersions(); limit > 0 && len(d.v.seen.Versions) >= limit-5 {
		d.add(DriftNearLimit, "give the key a new name in the configuration and repoint its consumers",
			"vault %s holds %d versions of %s, allows at most 100, and keyd begins no rotation at %d or more",
			d.v.Name, len(d.v.seen.Versions), name, limit)
	}
}

// disabledForHeir reports whether keyd disabled the newest version, or is just doing so, because another key has
// replaced this one. It never disables the newest version otherwise.
func (d drifter) disabledForHeir(version string) bool {
	at := d.Record.Versions(d.v.URL)[version]
	return d.Record.Replacement.Disabling() && at.Found() && (!slices.Contains(at.Enabled(), version) ||
		at.State == key.Disabling && mayBeDisabling(d.v, *at.Placement))
}

// foreign adds one version that neither the record nor the HSM has.
func (d drifter) foreign() {
	name := d.Policy.Key
	for _, x := range d.Record.Foreign(d.v.URL, d.v.seen.Versions) {
		material := d.v.seen.Material.Of(x.ID)
		if g, _ := d.Record.Owner(material.Fingerprint(), x); g != nil || d.origin(d.v.seen, x) != foreign {
			continue
		}
		what := "whose material is not from the HSM"
		if d.v.hides(x) {
			what = "which keyd does not know, and does not show its material"
		}
		d.add(DriftForeign, "find out who made it; to import over it: keyd adopt "+name,
			"vault %s holds version %s of %s, %s", d.v.Name, x.ID, name, what)
		return
	}
}

// placed adds what somebody changed in the versions that keyd imported.
func (d drifter) placed() {
	ours := d.Record.Versions(d.v.URL)
	var disabled, operations, expiry []string
	var early []key.Version
	for _, x := range d.v.seen.Versions {
		at := ours[x.ID]
		if !at.Found() {
			continue
		}
		// The people responsible may disable a compromised version, and keyd may be disabling one right now.
		begun := at.State == key.Disabling && mayBeDisabling(d.v, *at.Placement)
		if !x.Enabled && slices.Contains(at.Enabled(), x.ID) && !begun && x.ID != d.v.seen.Newest &&
			at.Generation.Compromised.IsZero() {
			disabled = append(disabled, x.ID)
		}
		if !x.Expires.Equal(at.Expires) {
			expiry = append(expiry, fmt.Sprintf("%s expires %s instead of %s", x.ID, date(x.Expires), date(at.Expires)))
		}
		if x.NotBefore.After(d.v.seen.There(d.Seen.At)) {
			early = append(early, x)
		}
		if has := d.v.seen.Operations.Of(x.ID); len(has) > 0 && len(at.Operations) > 0 &&
			!sameOperations(has, at.Operations) {
			change := fmt.Sprintf("%s has %s instead of %s", x.ID, list(has), list(at.Operations))
			operations = append(operations, change)
		}
	}
	if len(disabled) > 0 {
		d.add(DriftDisabled, enable(d.v.Vault, d.Policy.Key, disabled[0]),
			"%s in vault %s: somebody other than keyd disabled %s; what is encrypted under it cannot be read",
			d.Policy.Key, d.v.Name, strings.Join(disabled, ", "))
	}
	if len(expiry) > 0 {
		d.add(DriftExpiry, fmt.Sprintf("find out who changed it, then: az keyvault key set-attributes %s --name %s "+
			"--version VERSION --expires DATE", d.v.AzScope(), d.Policy.Key),
			"%s in vault %s: the expiry date was changed: version %s", d.Policy.Key, d.v.Name,
			strings.Join(expiry, "; "))
	}
	if len(early) > 0 {
		x := early[0]
		d.add(DriftNotYetValid, fmt.Sprintf("find out who set it, then: az keyvault key set-attributes %s --name %s "+
			"--version %s "+
			"--not-before 2020-01-01T00:00:00Z", d.v.AzScope(), d.Policy.Key, x.ID),
			"%s in vault %s: version %s has a start date (nbf), which keyd never sets: nobody can "+
				"wrap with it before %s",
			d.Policy.Key, d.v.Name, x.ID, date(x.NotBefore))
	}
	if len(operations) > 0 {
		d.add(DriftOperations, fmt.Sprintf("find out who changed it, then: az keyvault key set-attributes %s --name "+
			"%s --version VERSION --ops …", d.v.AzScope(), d.Policy.Key),
			"%s in vault %s: the operations were changed: version %s", d.Policy.Key, d.v.Name,
			strings.Join(operations, "; "))
	}
}

// enabledAgain adds the versions that are enabled although the record has them as disabled: somebody enabled them, or
// the record of keyd's own enabling was lost. Compromised ones are told of elsewhere.
func (d drifter) enabledAgain() {
	if near(d.v.seen.Begun, d.Record.LastDisabling.Here, StepTimeout+d.v.Kind.SettleTime()) {
		return // the vault may not show yet what keyd did
	}
	ours := d.Record.Versions(d.v.URL)
	var enabled []string
	for _, x := range d.v.seen.Versions {
		at := ours[x.ID]
		if at.Found() && x.Enabled && !slices.Contains(at.Enabled(), x.ID) && at.Generation.Compromised.IsZero() &&
			d.Record.AskedToEnable(at.Attempt, x.ID).IsZero() {
			enabled = append(enabled, x.ID)
		}
	}
	if len(enabled) > 0 {
		d.add(DriftEnabled, fmt.Sprintf("find out who did it; to leave it enabled: keyd enable %s %s --reason …; to "+
			"disable it again: az keyvault key set-attributes %s --name %[1]s --version %[2]s --enabled false",
			d.Policy.Key, enabled[0], d.v.AzScope()),
			"%s in vault %s: somebody enabled %s, which keyd's record has as disabled", d.Policy.Key, d.v.Name,
			strings.Join(enabled, ", "))
	}
}

// kek adds what became of the vault's KEK.
func (d drifter) kek() {
	kek, newer := d.v.seen.KEK, d.v.seen.Newer
	if newer.Print != "" && newer.Err != nil && key.ClassOf(newer.Err) == key.Refused {
		d.add(DriftKEKChanged, approveKEK,
			"vault %s has another key exchange key, %s, that keyd did not make: nothing is "+
				"wrapped for it: %v", d.v.Name, newer.Print, newer.Err)
	}
	switch {
	case kek.Absent:
		d.add(DriftKEKMissing, "find out who removed it; if it is soft-deleted, recover it",
			"vault %s no longer has the key exchange key that keyd used: %v", d.v.Name, kek.Err)
	case kek.Was != "" && kek.Print != "" && kek.Print != kek.Was:
		d.add(DriftKEKChanged, approveKEK,
			"the key exchange key of vault %s is %s and was %s: nothing is wrapped for it",
			d.v.Name, kek.Print, kek.Was)
	case kek.Err == nil || key.ClassOf(kek.Err) != key.Refused || key.ReasonOf(kek.Err).BeforeKeys():
	case kek.Print == "":
		d.add(DriftKEKRefused,
			"make a new version of it, name another one (kek.name), or give keyd its role, as the reason says",
			"keyd does not use the key exchange key of vault %s: %v", d.v.Name, kek.Err)
	default:
		d.add(DriftKEKRefused, approveKEK, "keyd does not use the key exchange key of vault %s: %v", d.v.Name,
			kek.Err)
	}
}

const approveKEK = "find out who made it; to use it, confirm its fingerprint with the vault's owner out of band, " +
	"pin it in kek.fingerprints, then: keyd reload"

func sameOperations(a, b []key.Operation) bool { return list(a) == list(b) }

func list(ops []key.Operation) string {
	var names []string
	for _, op := range slices.Sorted(slices.Values(ops)) {
		names = append(names, string(op))
	}
	return strings.Join(names, ", ")
}

func date(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

func enable(v key.Vault, name, version string) string {
	return fmt.Sprintf("find out who did it; to enable it: az keyvault key set-attributes %s --name %s --version %s "+
		"--enabled true", v.AzScope(), name, version)
}

// ProtectCommand returns the command that turns on a vault's purge protection.
func ProtectCommand(v key.Vault) string {
	if v.Kind == key.ManagedHSM {
		return fmt.Sprintf("az keyvault update-hsm %s --enable-purge-protection true", v.AzScope())
	}
	scope := strings.Replace(v.AzScope(), "--vault-name", "--name", 1)
	return fmt.Sprintf("az keyvault update %s --enable-purge-protection true", scope)
}

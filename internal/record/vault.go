package record

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Vault is keyd's stored intent and knowledge of one vault: its KEKs. It changes only by compare-and-swap on
// Revision.
type Vault struct {
	Schema   int    `json:"schema"`
	URL      string `json:"url"`
	Instance string `json:"instance"`
	// Revision is the store's: 0 for a record that was never saved.
	Revision uint64 `json:"-"`
	KEKs     []KEK  `json:"keks,omitempty"` // in the order in which they were begun
	// Request is a requested rotation that has not made its KEK yet.
	Request *key.KEKRequest `json:"request,omitempty"`
	// Proposals lists the acts that wait for a second operator.
	Proposals Proposals `json:"proposals,omitempty"`
}

// KEK is one key exchange key: one version of the vault's key with the configured name.
type KEK struct {
	State       key.KEKState    `json:"state"`
	Attempt     key.ID          `json:"attempt,omitempty"` // its tag in the vault; "" of one made elsewhere
	Kid         string          `json:"kid,omitempty"`     // with version
	Fingerprint key.Fingerprint `json:"fingerprint,omitempty"`
	// Found: others made it. keyd uses it once it is approved, and never disables it.
	Found  bool   `json:"found,omitempty"`
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"` // who requested it
	// Trust is why the HSM side trusted it when it was first used.
	Trust string `json:"trust,omitempty"`
	// The moments of its life; zero: not yet.
	Begun        Moment `json:"begun,omitzero"`
	Made         Moment `json:"made,omitzero"`
	Used         Moment `json:"used,omitzero"`
	Superseded   Moment `json:"superseded,omitzero"`
	DisableBegun Moment `json:"disable_begun,omitzero"`
	Disabled     Moment `json:"disabled,omitzero"`
}

// Moment is a time by the local clock and by the vault's. Somebody may set either clock.
type Moment struct {
	Here  time.Time `json:"here,omitzero"`
	There time.Time `json:"there,omitzero"` // zero: the vault's clock was not known
}

// IsZero reports whether the moment has not come.
func (m Moment) IsZero() bool { return m.Here.IsZero() && m.There.IsZero() }

// Passed reports whether at least d lies between m and now, by each clock that both moments know.
func (m Moment) Passed(now Moment, d time.Duration) bool {
	by := func(then, now time.Time) bool { return then.IsZero() || now.IsZero() || !now.Before(then.Add(d)) }
	return by(m.Here, now.Here) && by(m.There, now.There)
}

// Over reports whether an attempt that was begun at m, perhaps on another host, and that is open for d, is settled by
// what was looked at from now on. Where the vault's clock is not known, the two hosts' may differ.
func (m Moment) Over(now Moment, d time.Duration) bool {
	if m.There.IsZero() || now.There.IsZero() {
		d += key.MaxSkew
	}
	return m.Passed(now, d)
}

// Version is the KEK's version; "" while keyd does not know it.
func (k *KEK) Version() string { return key.VersionOf(k.Kid) }

// Active is the KEK that imports are wrapped for; nil for none.
func (v *Vault) Active() *KEK { return v.last(key.KEKActive) }

// Waiting is the newest KEK that was made and is not in use yet; nil for none.
func (v *Vault) Waiting() *KEK { return v.last(key.KEKMade) }

// Making is the KEK of which keyd does not know yet whether it was made; nil for none.
func (v *Vault) Making() *KEK { return v.last(key.KEKMaking) }

// Disabling is the KEK that keyd began to disable; nil for none.
func (v *Vault) Disabling() *KEK { return v.last(key.KEKDisabling) }

// Superseded lists keyd's own KEKs that are no longer in use and may be disabled. keyd may already have begun to
// disable one.
func (v *Vault) Superseded() (list []*KEK) {
	for i := range v.KEKs {
		if k := &v.KEKs[i]; (k.State == key.KEKSuperseded || k.State == key.KEKDisabling) && !k.Found {
			list = append(list, k)
		}
	}
	return list
}

func (v *Vault) last(state key.KEKState) *KEK {
	for i := range slices.Backward(v.KEKs) {
		if v.KEKs[i].State == state {
			return &v.KEKs[i]
		}
	}
	return nil
}

// KEK is the KEK with this version; nil if the record does not have it.
func (v *Vault) KEK(version string) *KEK {
	for i := range v.KEKs {
		if version != "" && v.KEKs[i].Version() == version {
			return &v.KEKs[i]
		}
	}
	return nil
}

// Attempt is the KEK that was begun under an attempt; nil for none.
func (v *Vault) Attempt(attempt key.ID) *KEK {
	for i := range v.KEKs {
		if attempt != "" && v.KEKs[i].Attempt == attempt {
			return &v.KEKs[i]
		}
	}
	return nil
}

// LastBegun is when keyd last began to make a KEK; zero for never.
func (v *Vault) LastBegun() (last Moment) {
	for i := range v.KEKs {
		if at := v.KEKs[i].Begun; !at.IsZero() {
			last = at
		}
	}
	return last
}

// LastMade is when the newest KEK was made or found, by the local clock; zero for never. The rotation schedule counts
// from it.
func (v *Vault) LastMade() (last time.Time) {
	for i := range v.KEKs {
		if at := v.KEKs[i].Made.Here; at.After(last) {
			last = at
		}
	}
	return last
}

// Clone is a deep copy.
func (v Vault) Clone() Vault {
	v.KEKs, v.Proposals = slices.Clone(v.KEKs), slices.Clone(v.Proposals)
	if v.Request != nil {
		q := *v.Request
		v.Request = &q
	}
	return v
}

// MakeKEK records that keyd is about to have a KEK made. That answers the pending request.
func (v *Vault) MakeKEK(now Moment, attempt key.ID, by, reason string) error {
	if k := v.Making(); k != nil {
		return fmt.Errorf("the record of %s has a key exchange key in the making: %s", v.URL, k.Attempt)
	}
	v.KEKs = append(v.KEKs, KEK{State: key.KEKMaking, Attempt: attempt, By: by, Reason: reason, Begun: now})
	return nil
}

// KEKMade records that the vault shows the KEK of an attempt, even of one that was given up. That answers the
// request. A KEK that appears after another came into use counts as superseded: it must not block the next.
func (v *Vault) KEKMade(now Moment, attempt key.ID, kid string, print key.Fingerprint) error {
	if v.KEK(key.VersionOf(kid)) != nil {
		return fmt.Errorf("the record of %s has the key exchange key %s already", v.URL, kid)
	}
	for i := range slices.Backward(v.KEKs) {
		k := &v.KEKs[i]
		if k.Attempt != attempt || k.State != key.KEKMaking && k.State != key.KEKVoid {
			continue
		}
		k.Kid, k.Fingerprint, k.Made = kid, print, now
		if slices.ContainsFunc(v.KEKs[i+1:], func(later KEK) bool { return later.State == key.KEKActive }) {
			k.State, k.Superseded = key.KEKSuperseded, now
			return nil
		}
		k.State, v.Request = key.KEKMade, nil
		return nil
	}
	return fmt.Errorf("the record of %s has no key exchange key in the making under %q", v.URL, attempt)
}

// KEKVoid records that the KEK in the making was not made, as far as anybody can tell. If it certainly was not made,
// its entry is dropped, because it cannot appear later.
func (v *Vault) KEKVoid(attempt key.ID, certain bool) error {
	for i := range v.KEKs {
		if k := &v.KEKs[i]; k.Attempt == attempt && k.State == key.KEKMaking {
			if k.State = key.KEKVoid; certain {
				v.KEKs = slices.Delete(v.KEKs, i, i+1)
			}
			return nil
		}
	}
	return fmt.Errorf("the record of %s has no key exchange key in the making under %q", v.URL, attempt)
}

// UseKEK makes a KEK the one that imports are wrapped for. A KEK that the record does not have was made by others.
func (v *Vault) UseKEK(now Moment, kid string, print key.Fingerprint, trust string) error {
	k := v.KEK(key.VersionOf(kid))
	switch {
	case kid == "" || print == "":
		return fmt.Errorf("a key exchange key of %s without id or fingerprint cannot be used", v.URL)
	case k == nil:
		v.KEKs = append(v.KEKs, KEK{State: key.KEKMade, Found: true, Kid: kid, Fingerprint: print, Begun: now,
			Made: now})
		k = &v.KEKs[len(v.KEKs)-1]
	case k.State != key.KEKMade && k.State != key.KEKSuperseded:
		return fmt.Errorf("the key exchange key %s is %s and cannot be taken into use", kid, k.State)
	case k.Fingerprint != print:
		return fmt.Errorf("the key exchange key %s has the fingerprint %s and the record says %s", kid, print,
			k.Fingerprint)
	}
	later := false
	for i := range v.KEKs {
		old := &v.KEKs[i]
		if later = later || old == k; old.State == key.KEKActive || old.State == key.KEKMade && !later {
			old.State, old.Superseded = key.KEKSuperseded, now
		}
	}
	k.State, k.Used, k.Trust, k.Superseded = key.KEKActive, now, trust, Moment{}
	return nil
}

// BeginDisablingKEK records that keyd is about to disable a superseded KEK.
func (v *Vault) BeginDisablingKEK(now Moment, version string) error {
	k, err := v.kek(version, key.KEKSuperseded, key.KEKDisabling)
	if err == nil {
		k.State, k.DisableBegun = key.KEKDisabling, now
	}
	return err
}

// KEKDisabled records that a KEK is disabled.
func (v *Vault) KEKDisabled(now Moment, version string) error {
	k, err := v.kek(version, key.KEKDisabling)
	if err == nil {
		k.State, k.Disabled = key.KEKDisabled, now
	}
	return err
}

// KEKStaysEnabled records that a KEK was not disabled after all.
func (v *Vault) KEKStaysEnabled(version string) error {
	k, err := v.kek(version, key.KEKDisabling)
	if err == nil {
		k.State = key.KEKSuperseded
	}
	return err
}

func (v *Vault) kek(version string, from ...key.KEKState) (*KEK, error) {
	k := v.KEK(version)
	switch {
	case k == nil:
		return nil, fmt.Errorf("the record of %s has no key exchange key of version %s", v.URL, version)
	case !slices.Contains(from, k.State):
		return nil, fmt.Errorf("the key exchange key %s is %s: this change is only possible from %v", k.Kid, k.State,
			from)
	}
	return k, nil
}

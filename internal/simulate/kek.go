package simulate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// modelKEK is one version of the key exchange key in a model vault.
type modelKEK struct {
	key.KEK
	id       string
	created  time.Time // by the vault's clock
	attempt  key.ID    // "" when a stranger made it
	tags     map[string]string
	landed   time.Time // true time
	disabled time.Time // true time; zero: enabled
	// left is when a record first said that another one is in use in its place; true time.
	left time.Time
}

func (k *modelKEK) print() key.Fingerprint { return k.Material.Fingerprint() }

// enabled reports whether the KEK was enabled at that time.
func (k *modelKEK) enabled(at time.Time) bool { return k.disabled.IsZero() || at.Before(k.disabled) }

// newestKEK is the one that landed last, whatever regions show; nil for none.
func (v *vault) newestKEK() *modelKEK {
	if len(v.keks) == 0 {
		return nil
	}
	return v.keks[len(v.keks)-1]
}

// shownKEKs is what the region knows that answers.
func (v *vault) shownKEKs() (shown []*modelKEK, at time.Time) {
	at = v.view()
	for _, k := range v.keks {
		if !k.landed.After(at) {
			shown = append(shown, k)
		}
	}
	return shown, at
}

func (v *vault) KEK(_ context.Context, version string) (kek key.KEK, present bool, err error) {
	err = v.call("KEK", func() error {
		shown, at := v.shownKEKs()
		for i, k := range shown {
			if k.id != version && (version != "" || i < len(shown)-1) {
				continue
			}
			if kek = k.KEK; !k.enabled(at) {
				kek.Material = key.Material{}
				return failed(key.Refused, "model: the KEK %s is disabled", k.id)
			}
			present = true
		}
		return nil
	})
	return kek, present, err
}

func (v *vault) KEKVersions(context.Context) (out []key.Version, err error) {
	err = v.call("KEKVersions", func() error {
		shown, at := v.shownKEKs()
		for _, k := range shown {
			out = append(out, key.Version{ID: k.id, Created: k.created, Enabled: k.enabled(at), Tags: k.tags})
		}
		v.w.rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		return nil
	})
	return out, err
}

func (v *vault) CreateKEK(ctx context.Context, after string, tags map[string]string) (kek key.KEK, err error) {
	attempt := key.ID(tags[key.TagAttempt])
	err = v.w.begins(ctx, effect{what: "the making of a KEK in " + v.Name,
		of: intent{chain.KEKIntended, attempt, v.URL}, within: plan.ImportTimeout})
	if err != nil {
		return kek, err
	}
	if !v.w.store.intents[intent{chain.KEKIntended, attempt, v.URL}] {
		v.w.violate("a key exchange key is made in %s before its intent is in the record", v.Name)
	}
	v.w.judgeInTime(intent{chain.KEKIntended, attempt, v.URL}, plan.ImportTimeout, "the making of a KEK")
	err = v.w.call(v.Name, &v.trouble, "CreateKEK", atImport, func() error {
		shown, _ := v.shownKEKs() // the client looks first
		newest := ""
		if len(shown) > 0 {
			newest = shown[len(shown)-1].id
		}
		if newest != after {
			return failed(key.Retry, "model: the newest KEK is %q, and not %q", newest, after)
		}
		kek = v.makeKEK(attempt, tags).KEK
		return nil
	}, nil, func() {
		v.w.later(v.w.between(time.Second, 150*time.Second), func() { v.makeKEK(attempt, tags) })
	})
	return kek, err
}

// makeKEK makes a KEK for keyd. Besides the first, keyd may make one for each request.
func (v *vault) makeKEK(attempt key.ID, tags map[string]string) *modelKEK {
	if newest := v.newestKEK(); newest != nil {
		lost := v.restored.After(newest.landed) && !v.propagated(newest.landed, v.restored)
		if v.wanted == 0 && !lost && !v.w.landsLate(intent{chain.KEKIntended, attempt, v.URL}) {
			v.w.violate("doubled: keyd makes a second KEK in %s", v.Name)
		}
		v.wanted = max(0, v.wanted-1)
	}
	k := v.newKEK(attempt, tags)
	if v.w.landsLate(intent{chain.KEKIntended, attempt, v.URL}) {
		return k // it displaces nothing, and nobody uses it
	}
	made := "the key exchange key " + k.id + " was made in " + v.Name
	v.w.store.owe(owing{effect: made, recordedBy: func(e chain.Entry,
		_ *record.Record) bool {
		return e.Fields["kek"] == k.Kid && (e.Event == chain.KEKMade || e.Event == chain.KEKUsed)
	}})
	return k
}

func (v *vault) newKEK(attempt key.ID, tags map[string]string) *modelKEK {
	v.count++
	id := fmt.Sprintf("%032x", v.count)
	k := &modelKEK{id: id, attempt: attempt, tags: tags, landed: v.w.now, created: v.now().Truncate(time.Second),
		KEK: key.KEK{
			Vault: v.URL, Kid: v.URL + "/keys/keyd-kek/" + id, Material: v.w.primes.draw(v.w.rnd, 2048).shown}}
	v.keks = append(v.keks, k)
	v.w.log("%s has the KEK %s, %s", v.Name, id[28:], k.print().Short())
	return k
}

func (v *vault) kekOf(kid string) *modelKEK {
	for _, k := range v.keks {
		if k.Kid == kid {
			return k
		}
	}
	return nil
}

func (v *vault) DisableKEK(ctx context.Context, version string) error {
	i := slices.IndexFunc(v.keks, func(k *modelKEK) bool { return k.id == version })
	if i >= 0 {
		err := v.w.begins(ctx, effect{"the disabling of KEK " + version,
			intent{chain.KEKDisableIntended, v.keks[i].attempt, v.URL}, plan.StepTimeout, func() {
				if v.w.hosts != nil {
					v.judgeDisableKEK(v.keks[i])
				}
			}})
		if err != nil {
			return err
		}
	}
	return v.call("DisableKEK", func() error {
		shown, _ := v.shownKEKs()
		i := slices.IndexFunc(shown, func(k *modelKEK) bool { return k.id == version })
		if i < 0 {
			return failed(key.Refused, "model: 404, no KEK %s", version)
		}
		k := shown[i]
		if v.w.hosts == nil {
			v.judgeDisableKEK(k)
		}
		if k.disabled.IsZero() {
			k.disabled = v.w.now
			v.w.log("%s: the KEK %s is disabled", v.Name, k.id[28:])
			v.w.store.owe(owing{effect: "the key exchange key " + k.id + " was disabled in " + v.Name,
				recordedBy: func(e chain.Entry, _ *record.Record) bool {
					return e.Event == chain.KEKDisabled && e.Fields["kek"] == k.Kid
				}})
		}
		return nil
	})
}

// judgeDisableKEK fails if keyd disables the KEK in use, one that it did not make, or one that an import may still
// need, by true time.
func (v *vault) judgeDisableKEK(k *modelKEK) {
	rec := v.w.store.vaults[v.URL]
	active := rec.Active()
	if active == nil || active.Kid == k.Kid {
		v.w.violate("the key exchange key %s of %s is disabled while it is in use", k.id, v.Name)
	}
	if !v.w.store.intents[intent{chain.KEKDisableIntended, k.attempt, v.URL}] {
		v.w.violate("the key exchange key %s of %s is disabled before its intent is in the record", k.id, v.Name)
	}
	if truth := v.kekOf(active.Kid); truth == nil || !truth.disabled.IsZero() {
		v.w.violate(
			"the key exchange key %s of %s is disabled although the one in use is disabled or gone",
			k.id,
			v.Name,
		)
	}
	needed := plan.StepTimeout + plan.KEKTime(v.Vault)
	if since := v.w.now.Sub(k.left); k.left.IsZero() || since < needed {
		v.w.violate(
			"the key exchange key %s of %s is disabled %s after it was superseded, and an import may still need it",
			k.id,
			v.Name,
			since,
		)
	}
}

// judgeVaultRecord compares what the record says of a vault with the truth.
func (w *World) judgeVaultRecord(was, is record.Vault, event chain.Event) {
	v := w.vault(is.URL)
	if q := was.Request; q != nil && is.Request == nil && event != chain.KEKMade {
		w.violate("the request for a new key exchange key of %s disappeared after %q", v.Name, event)
	}
	for _, k := range was.KEKs {
		if k.Kid != "" && is.KEK(k.Version()) == nil {
			w.violate("the key exchange key %s of %s is forgotten after %q", k.Kid, v.Name, event)
		}
	}
	active := is.Active()
	for _, k := range is.KEKs {
		truth := v.kekOf(k.Kid)
		switch {
		case k.Kid == "":
		case truth == nil || truth.print() != k.Fingerprint:
			w.violate("the record has the key exchange key %s, and %s does not", k.Kid, v.Name)
		case k.State == key.KEKDisabled && truth.disabled.IsZero():
			w.violate("the key exchange key %s of %s is recorded as disabled, and is not", k.Kid, v.Name)
		case k.State == key.KEKActive && k.Kid != active.Kid:
			w.violate("two key exchange keys are in use in %s", v.Name)
		case k.State == key.KEKSuperseded && truth.left.IsZero():
			truth.left = w.now
		case k.State == key.KEKActive:
			truth.left = time.Time{}
		}
	}
	if before := was.Active(); active != nil && (before == nil || before.Kid != active.Kid) && !w.hsm.maySee(*active,
		is.URL) {
		w.violate("the key exchange key %s of %s is taken into use, and nobody approved it", active.Kid, v.Name)
	}
}

// maySee reports whether pairs may be wrapped for a KEK: it was approved, or it is the first one used in the vault.
func (h *hsm) maySee(k record.KEK, url string) bool {
	return h.approved[k.Fingerprint] || h.trust[url] == "" && h.firstUse(url)
}

// judgeKEKs judges the KEKs of one vault in the end, when all is quiet.
func (w *World) judgeKEKs(v *vault) {
	rec := w.store.vaults[v.URL]
	active := rec.Active()
	if active == nil || rec.Making() != nil || rec.Disabling() != nil || rec.Waiting() != nil {
		w.violate("the key exchange keys of %s are not settled in the end: %+v", v.Name, rec.KEKs)
	}
	if rec.Request != nil {
		w.violate("%s has a request for a new key exchange key that nobody answered", v.Name)
	}
	if truth := v.kekOf(active.Kid); !truth.disabled.IsZero() {
		w.violate("the key exchange key that is in use in %s is disabled", v.Name)
	}
	for _, k := range rec.Superseded() {
		if truth := v.kekOf(k.Kid); truth.disabled.IsZero() {
			w.violate("the key exchange key %s of %s was superseded, and keyd never disabled it", k.Kid, v.Name)
		}
	}
}

// policy is what the configuration says of the vault's KEK.
func (v *vault) policy() key.VaultPolicy {
	return key.VaultPolicy{Vault: v.Vault, KEK: "keyd-kek", Create: true}
}

// stepVault calls StepVault once, and sets when the daemon steps the vault next, as the shell does.
func (d *daemon) stepVault(v *vault) {
	d.act(func() {
		t := d.turns[v.URL]
		d.w.result.Steps++
		d.w.judgePace(t)
		s, err := d.r.StepVault(d.ctx(), v.policy())
		var pause time.Duration
		switch {
		case err != nil:
			t.failures++
			pause = min(5*time.Minute, time.Second<<min(t.failures-1, 20))
			d.w.log("%s failed: %v", s.Kind, err)
		case s.Acts():
			t.failures = 0
		default:
			t.failures = 0
			until := d.clock().Add(d.look)
			if !s.Until.IsZero() && s.Until.Before(until) {
				until = s.Until
			}
			pause = max(until.Sub(d.clock()), time.Second)
		}
		t.wake = d.w.now.Add(pause)
		if s.Kind == plan.UseKEK && err == nil {
			for _, k := range d.w.keys {
				d.observer.Drop(k.policy.Key)
				d.poke(k)
			}
		}
		t.last = string(s.Kind) + ": " + s.Why
	})
}

// changeKEK lets a stranger make another KEK in a vault. The operator approves it some hours later.
func (w *World) changeKEK(v *vault) {
	if len(v.keks) == 0 {
		return
	}
	v.newKEK("", nil)
	w.log("%s has another KEK", v.Name)
	w.later(w.between(time.Hour, 10*time.Hour), func() { w.hsm.approve(v.newestKEK()) })
}

// requestKEK does what keyd kek rotate does.
func (w *World) requestKEK(v *vault) {
	d := w.console()
	if d == nil {
		return
	}
	d.act(func() {
		_, joined, err := d.r.RequestKEK(context.Background(), v.policy(), operatorName, "on request")
		w.log("kek rotate %s: joined %v %v", v.Name, joined, err)
		d.turns[v.URL].wake = w.now
	})
}

// attendKEKs has an operator approve, some hours later, each KEK that waits for approval.
func (w *World) attendKEKs() {
	for _, v := range w.vaults {
		rec := w.store.vaults[v.URL]
		if rec.Waiting() == nil || v.attended {
			continue
		}
		v.attended = true
		w.later(w.between(10*time.Minute, 10*time.Hour), func() {
			v.attended = false
			rec := w.store.vaults[v.URL]
			if k := rec.Waiting(); k != nil {
				w.hsm.approve(v.kekOf(k.Kid))
			}
		})
	}
}

// approve has the operator configure a KEK, beside the one before or in its place.
func (h *hsm) approve(k *modelKEK) {
	print := k.print()
	if named := h.named[k.Vault]; h.w.chance(2) && len(named) > 0 {
		h.named[k.Vault] = []key.Fingerprint{named[len(named)-1], print}
	} else {
		h.named[k.Vault] = []key.Fingerprint{print}
	}
	h.approved[print] = true
	h.w.log("the operator pins %v in %s", h.named[k.Vault], k.Vault)
}

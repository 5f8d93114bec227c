package simulate

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/byok"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
)

// replication is how long a region of a Managed HSM may not know what another one did.
const replication = 6 * time.Minute

// version is one version in a model vault.
type version struct {
	key.Version
	mat       *material // what it works with
	modulus   *material // what it shows
	landed    time.Time // true time
	attempt   key.ID    // "" for a foreign one
	foreign   bool
	late      bool      // keyd had given it up
	unwrapped bool      // it opened, or signed, something for keyd
	used      time.Time // when it last did
	meddled   bool      // disabled by a meddler
	retired   bool      // disabled by keyd, which judgeDisable has judged
	past      history[attributes]
}

// content is what a model vault has under one name.
type content struct {
	versions []*version // as they landed
	deleted  bool
	purged   time.Time     // last; zero: never
	past     history[bool] // of deleted
}

func (c *content) remove(now time.Time) {
	c.past.changed(now, c.deleted)
	c.deleted = true
}

// recover ends a soft-deletion.
func (v *vault) recover(name string) {
	if c := v.content(name); c.deleted {
		c.past.changed(v.w.now, true)
		c.deleted = false
	}
}

// vault is a model vault of either kind.
type vault struct {
	key.Vault
	w       *World
	trouble trouble
	keys    map[string]*content
	keks    []*modelKEK // as they landed
	wanted  int         // new KEKs that were asked for and have not landed
	// attended says that an operator will look at the KEK that waits for approval.
	attended bool
	list     listing       // how its list of keys is
	log      *auditLog     // nil: nobody uses its keys
	restored time.Time     // when the state was last lost
	skew     time.Duration // its clock minus true time
	damage   string        // of what is imported now: "", "modulus" or "private"
	answer   map[*daemon]time.Duration
	count    int
	landed   map[key.ID]bool // attempts
	// refused is when the vault last refused each daemon a look.
	refused map[*daemon]time.Time
}

func (w *World) newVault(v key.Vault) *vault {
	return &vault{
		Vault:   v,
		w:       w,
		keys:    map[string]*content{},
		answer:  map[*daemon]time.Duration{},
		landed:  map[key.ID]bool{},
		refused: map[*daemon]time.Time{},
	}
}

func (v *vault) content(name string) *content {
	if v.keys[name] == nil {
		v.keys[name] = &content{}
	}
	return v.keys[name]
}

func (v *vault) call(op string, effect func() error) error {
	return v.w.call(v.Name, &v.trouble, op, atVault, func() error {
		v.answer[v.w.acting] = v.now().Sub(v.w.acting.clock())
		return effect()
	}, nil, nil)
}

func (v *vault) now() time.Time { return v.w.now.Add(v.skew) }

// ClockSkew is the skew in the vault's last answer to this daemon.
func (v *vault) ClockSkew() (time.Duration, bool) {
	skew, known := v.answer[v.w.acting]
	return skew, known
}

func (v *vault) Import(ctx context.Context, r key.ImportRequest) (out key.Version, err error) {
	attempt := key.ID(r.Tags[key.TagAttempt])
	err = v.w.begins(ctx, effect{"the import of " + r.Key + " into " + v.Name,
		intent{chain.ImportIntended, attempt, v.URL}, plan.ImportTimeout, func() {
			v.w.judgeImport(v, r.Key, attempt)
			v.w.judgeExpiry(v, r, attempt)
		}})
	if err != nil {
		v.w.managed(r.Key).attempt(attempt).refused = true
		return out, err
	}
	v.w.judgeInTime(intent{chain.ImportIntended, attempt, v.URL}, plan.ImportTimeout, "the import "+string(attempt))
	v.w.managed(r.Key).attempt(attempt).sent = v.w.now
	land := func() error {
		x, err := v.land(r, attempt)
		if err == nil {
			out = x.Version
		}
		return err
	}
	err = v.w.call(v.Name, &v.trouble, "Import", atImport, land, nil, func() {
		v.w.later(v.landingTime(), func() { _, _ = v.land(r, attempt) })
	})
	if class := key.ClassOf(err); err != nil && (class == key.Retry || class == key.Refused) {
		v.w.managed(r.Key).attempt(attempt).refused = true
	}
	return out, err
}

// landingTime is how much later a PUT lands whose answer was lost: most times within
// keyd's settle time, and sometimes long after.
func (v *vault) landingTime() time.Duration {
	if v.w.chance(3) {
		return v.w.between(5*time.Minute, 20*time.Hour)
	}
	return v.w.between(time.Second, 150*time.Second)
}

// land makes the version of a PUT.
func (v *vault) land(r key.ImportRequest, attempt key.ID) (*version, error) {
	blob, err := byok.Parse(r.Blob)
	if err != nil {
		return nil, failed(key.Refused, "model: %v", err)
	}
	o := v.w.hsm.pair(key.ID(blob.Ciphertext[len(blob.Ciphertext)-32:]))
	if o == nil {
		return nil, failed(key.Refused, "model: the blob does not open")
	}
	if k := v.kekOf(blob.Kid); k == nil || !k.disabled.IsZero() {
		return nil, failed(key.Refused, "model: the KEK of the blob is disabled")
	}
	if v.content(r.Key).deleted {
		return nil, failed(key.Refused, "model: 409, %s is soft-deleted", r.Key)
	}
	x := v.add(r.Key, o.mat, r.Tags)
	x.Operations, x.Expires, x.attempt = r.Operations, r.Expires, attempt
	v.w.judgeLanding(v, r.Key, x)
	switch v.damage {
	case "modulus":
		x.mat = v.w.primes.draw(v.w.rnd, o.mat.pub.N.BitLen())
		x.modulus, x.Material = x.mat, x.mat.shown
	case "private":
		x.mat = v.w.primes.draw(v.w.rnd, o.mat.pub.N.BitLen())
	}
	v.w.result.Imports++
	v.oweImport(r.Key, x)
	return x, nil
}

// pair is what the HSM made under an id, even if somebody has removed it since.
func (h *hsm) pair(id key.ID) *object {
	if o := h.find(id); o != nil {
		return o
	}
	for _, o := range h.removed {
		if o.id == id {
			return o
		}
	}
	return nil
}

func (v *vault) add(name string, m *material, tags map[string]string) *version {
	v.count++
	x := &version{mat: m, modulus: m, landed: v.w.now, Version: key.Version{
		ID:      fmt.Sprintf("%016x%016x", v.w.rnd.Uint64(), v.count),
		Created: v.now().Truncate(time.Second), Enabled: true, Tags: tags, Kty: "RSA-HSM", Material: m.shown}}
	c := v.content(name)
	c.versions = append(c.versions, x)
	v.w.log("%s has version %s of %s, material %s", v.Name, x.ID[:6], name, m.print.Short())
	return x
}

// newest is the version that landed last, whatever regions show.
func (v *vault) newest(name string) *version {
	if c := v.content(name); len(c.versions) > 0 && !c.deleted {
		return c.versions[len(c.versions)-1]
	}
	return nil
}

// shown is what the region knows that answers. That of a Managed HSM may be behind.
func (v *vault) shown(name string) (out []*version, at time.Time) {
	c := v.content(name)
	if at = v.view(); c.past.at(at, c.deleted) {
		return nil, at
	}
	for _, x := range c.versions {
		if !x.landed.After(at) {
			out = append(out, x)
		}
	}
	return out, at
}

func (v *vault) Versions(_ context.Context, name string) (out []key.Version, err error) {
	v.judgePatience()
	defer func() { v.putOff(err) }()
	err = v.call("Versions", func() error {
		shown, at := v.shown(name)
		for _, x := range shown {
			seen := x.as(at)
			seen.Material, seen.Operations, seen.Kty = key.Material{}, nil, ""
			out = append(out, seen)
		}
		v.w.rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] }) // no order is promised
		return nil
	})
	return out, err
}

func (v *vault) Newest(_ context.Context, name string) (out key.Version, err error) {
	err = v.call("Newest", func() error {
		shown, at := v.shown(name)
		if len(shown) == 0 {
			return failed(key.Refused, "model: 404, no key %s", name)
		}
		out = shown[len(shown)-1].as(at)
		return nil
	})
	return out, err
}

func (v *vault) find(name, id string) (found *version, at time.Time, err error) {
	shown, at := v.shown(name)
	for _, x := range shown {
		if x.ID == id {
			return x, at, nil
		}
	}
	return nil, at, failed(key.Refused, "model: 404, no version %s", id)
}

func (v *vault) Get(_ context.Context, name, id string) (out key.Version, err error) {
	err = v.call("Get", func() error {
		x, at, err := v.find(name, id)
		if err == nil {
			out = x.as(at)
			out.Material = x.modulus.shown
		}
		return err
	})
	return out, err
}

func (v *vault) Deleted(_ context.Context, name string) (deleted bool, err error) {
	err = v.call("Deleted", func() error {
		c := v.content(name)
		deleted = c.past.at(v.view(), c.deleted)
		return nil
	})
	return deleted, err
}

func (v *vault) NativeRotation(context.Context, string) (on bool, err error) {
	return false, v.call("NativeRotation", func() error { return nil })
}

func (v *vault) Disable(ctx context.Context, name, id string) error {
	if err := v.w.begins(ctx, v.disabling(name, id)); err != nil {
		return err
	}
	return v.call("Disable", func() error {
		x, _, err := v.find(name, id)
		if err != nil {
			return err
		}
		if v.content(name).deleted { // which the region that showed it does not know yet
			return failed(key.Refused, "model: 409, key %s is deleted", name)
		}
		if v.w.hosts == nil {
			v.w.judgeDisable(v, name, x)
		}
		if x.Enabled { // if not, another daemon has just done it and recorded it
			v.oweDisabling(name, x)
			v.w.countRetired(name)
		}
		v.alter(x, func(is *key.Version) { is.Enabled = false })
		x.retired = true
		v.w.regret(name, id)
		return nil
	})
}

func (v *vault) Enable(ctx context.Context, name, id string) error {
	err := v.w.begins(ctx, v.enabling(name, id))
	if err != nil {
		return err
	}
	return v.call("Enable", func() error {
		x, _, err := v.find(name, id)
		if err != nil {
			return err
		}
		if v.content(name).deleted {
			return failed(key.Refused, "model: 409, key %s is deleted", name)
		}
		v.w.judgeEnable(v, name, x)
		v.oweEnabling(name, x)
		v.alter(x, func(is *key.Version) { is.Enabled = true })
		x.retired, x.meddled = false, false
		return nil
	})
}

func (v *vault) use(op, name, id string, f func(*version) error) error {
	return v.call(op, func() error {
		x, _, err := v.find(name, id)
		if err != nil {
			return err
		}
		if !x.Enabled {
			return failed(key.Refused, "model: 403, version %s is disabled", id)
		}
		return f(x)
	})
}

// expired refuses what nobody may do after the expiry date.
func (v *vault) expired(x *version) error {
	if !x.Expires.IsZero() && !v.now().Before(x.Expires) {
		return failed(key.Refused, "model: 403, version %s has expired", x.ID)
	}
	return nil
}

func (v *vault) Wrap(_ context.Context, name, id string, plain []byte) (out []byte, err error) {
	err = v.use("Wrap", name, id, func(x *version) error {
		if err := v.expired(x); err != nil {
			return err
		}
		out, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, x.modulus.pub, plain, nil)
		return err
	})
	return out, err
}

func (v *vault) Unwrap(_ context.Context, name, id string, ciphertext []byte) (out []byte, err error) {
	err = v.use("Unwrap", name, id, func(x *version) error {
		if out, err = x.mat.open(ciphertext); err != nil {
			out = []byte("not what was wrapped")
		}
		if err == nil {
			x.unwrapped, x.used = true, v.w.now
		}
		return nil
	})
	return out, err
}

func (v *vault) Encrypt(ctx context.Context, name, id string, plain []byte) ([]byte, error) {
	return v.Wrap(ctx, name, id, plain)
}

func (v *vault) Decrypt(ctx context.Context, name, id string, ciphertext []byte) ([]byte, error) {
	return v.Unwrap(ctx, name, id, ciphertext)
}

func (v *vault) Sign(_ context.Context, name, id string, digest []byte) (out []byte, err error) {
	err = v.use("Sign", name, id, func(x *version) error {
		if err := v.expired(x); err != nil {
			return err
		}
		out, x.unwrapped, x.used = x.mat.sign(digest), true, v.w.now
		return nil
	})
	return out, err
}

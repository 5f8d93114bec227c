package rotate_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/byok"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/observe"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/simulate"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/term"
)

// The model is a whole world in memory: an HSM, vaults, a store and a clock. Every call can be made to fail, with its
// effect or without.

const instance = "test-1"

type classError struct {
	text  string
	class key.Class
}

func (e *classError) Error() string    { return e.text }
func (e *classError) Class() key.Class { return e.class }

// fault is what can go wrong with a call.
type fault int

const (
	none fault = iota
	failBefore
	failBeforeAmbiguous
	failAfter
	crashBefore
	crashAfter
)

func (f fault) String() string {
	return [...]string{"none", "fail before", "fail before, ambiguous", "fail after", "crash before", "crash after"}[f]
}

type crash struct{ call string }

type world struct {
	tb    testing.TB
	now   time.Time
	rnd   *mathrand.Rand
	hsm   *modelHSM
	vault map[string]*modelVault
	store *modelStore
	calls []string
	// strike decides the fault of the n-th call, counted from 0.
	strike func(n int, call string) fault
	trace  []string
	pairs  int
	users  observe.Consumers // nil: nobody looks at them
	// repoint moves a consumer; nil: nobody does.
	repoint func(context.Context, rotate.Move) error
	// policies are those of other keys.
	policies []key.Policy
	// slept is how long the host was suspended, and prove says whether the daemon leads; nil: nobody else can.
	slept time.Duration
	prove func(context.Context) error
	// wrapped remembers what the vaults wrapped, so that opening it costs no private operation.
	wrapped map[string]secret
}

type secret struct {
	m     key.Material
	plain []byte
}

func newWorld(tb testing.TB, seed uint64, vaults ...key.Vault) *world {
	w := &world{
		tb:      tb,
		now:     time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		rnd:     mathrand.New(mathrand.NewPCG(seed, 1)),
		vault:   map[string]*modelVault{},
		wrapped: map[string]secret{},
	}
	w.hsm = &modelHSM{w: w, pairs: map[key.ID][]*pair{}}
	w.store = &modelStore{w: w, records: map[string]record.Record{}, vaults: map[string]record.Vault{}}
	for _, v := range vaults {
		w.vault[v.URL] = &modelVault{w: w, v: v, keys: map[string]*modelKey{}, kekFixed: true}
	}
	return w
}

// call runs one effect, with the fault that strikes it.
func (w *world) call(name string, effect func() error) error {
	n := len(w.calls)
	w.calls = append(w.calls, name)
	f := none
	if w.strike != nil {
		f = w.strike(n, name)
	}
	if f != none {
		w.trace = append(w.trace, fmt.Sprintf("%s call %d %s: %s", w.now.Format(time.TimeOnly), n, name, f))
	}
	switch f {
	case failBefore:
		return &classError{"model: " + name + " fails before its effect", key.Retry}
	case failBeforeAmbiguous:
		return &classError{"model: " + name + " fails before its effect", key.Ambiguous}
	case crashBefore:
		panic(crash{name})
	}
	err := effect()
	switch f {
	case failAfter:
		return &classError{"model: " + name + " fails after its effect", key.Ambiguous}
	case crashAfter:
		panic(crash{name})
	}
	return err
}

// strikeOnce makes a fault strike the first call of that name, and reports when it did.
func (w *world) strikeOnce(name string, f fault) *bool {
	struck := new(bool)
	w.strike = func(_ int, call string) fault {
		if call != name || *struck {
			return none
		}
		*struck = true
		return f
	}
	return struck
}

// rotator starts the daemon anew: it remembers nothing of an earlier one.
func (w *world) rotator() *rotate.Rotator {
	observer := observe.New(observe.Config{
		Instance: instance, Slow: 15 * time.Minute, HSM: w.hsm, Records: w.store,
		Clock: func() time.Time { return w.now }, Consumers: w.users,
		Vaults: func(url string) observe.Vault {
			if v, ok := w.vault[url]; ok {
				return v
			}
			return nil
		},
	})
	return rotate.New(rotate.Config{
		Instance: instance, Generator: "keyd test", HSM: w.hsm, Store: w.store, Observer: observer,
		Vaults: func(url string) rotate.Vault {
			if v, ok := w.vault[url]; ok {
				return v
			}
			return nil
		},
		Clock: func() time.Time { return w.now }, Random: rndReader{w.rnd}, Look: 15 * time.Minute,
		Repoint: w.repoint, Prove: w.prove, Policy: w.policyOf,
		Boot: func() time.Duration { return w.now.Sub(time.Time{}) + w.slept },
		Emit: func(e status.Event) {
			w.trace = append(w.trace, fmt.Sprintf("%s %s gen %d %s version %q %s %s %s", e.At.Format(time.TimeOnly),
				e.Step, e.Generation, e.Vault, e.Version, e.Phase, e.Detail, e.Error))
		},
	})
}

func (w *world) policyOf(name string) (key.Policy, bool) {
	for _, p := range w.policies {
		if key.SameName(p.Key, name) {
			return p, true
		}
	}
	return key.Policy{}, false
}

type rndReader struct{ r *mathrand.Rand }

func (r rndReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.r.Uint32())
	}
	return len(b), nil
}

// --- key pairs: those of the simulator, whose private operation is cheap

type material = simulate.Pair

var (
	primes = sync.OnceValue(simulate.NewPrimes)
	made   sync.Map // the pairs so far by their number, for all worlds
)

// pairOf is the pair with that number, the same one each time.
func pairOf(number int) *material {
	if m, ok := made.Load(number); ok {
		return m.(*material)
	}
	m, _ := made.LoadOrStore(number, primes().Pair(mathrand.New(mathrand.NewPCG(uint64(number), 2)), 2048))
	return m.(*material)
}

// materialOf is the pair's public half as the HSM and the vaults show it.
func materialOf(m *material) key.Material {
	out, err := key.FromRSA(&m.PublicKey)
	if err != nil {
		panic(err)
	}
	return out
}

// Numbers that no pair of a world gets.
const kekPair, foreignPair = -1, -2

// newPair makes a pair that differs from every earlier one of this world.
func (w *world) newPair() *material {
	w.pairs++
	return pairOf(w.pairs)
}

// --- HSM

type pair struct {
	label   key.Label
	private *material
	broken  bool // the private half is missing
	wrapped bool
}

type modelHSM struct {
	w         *world
	pairs     map[key.ID][]*pair
	generated map[key.ID]int
	known     []key.ID        // of each generation, in order
	late      map[key.ID]bool // what was not there when the audit chain began
	down      bool
	mayNot    error // of MayGenerate
	trust     map[string]key.Fingerprint
	pins      []key.Fingerprint // configured pins, besides trust on first use
	wraps     int
}

func (h *modelHSM) unavailable() error {
	if h.down {
		return &classError{"model: HSM down", key.Retry}
	}
	return nil
}

func (h *modelHSM) Describe(context.Context) (key.HSMInfo, error) {
	return key.HSMInfo{Manufacturer: "models", Model: "model", Serial: "1", Firmware: "2.0", Token: "test"}, nil
}

func (h *modelHSM) Inventory(context.Context) (out []key.Object, err error) {
	err = h.w.call("hsm.Inventory", func() error {
		for id := range h.pairs {
			out = append(out, h.under(id)...)
		}
		sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
		return h.unavailable()
	})
	return out, err
}

func (h *modelHSM) Find(_ context.Context, id key.ID) (out []key.Object, err error) {
	err = h.w.call("hsm.Find", func() error {
		out = h.under(id)
		return h.unavailable()
	})
	return out, err
}

func (h *modelHSM) under(id key.ID) (out []key.Object) {
	for _, p := range h.pairs[id] {
		o := key.Object{ID: id, Label: p.label, Complete: !p.broken, Material: materialOf(p.private)}
		o.Label.Pending, o.Late = !p.wrapped, h.late[id]
		if p.broken {
			o.Problem, o.Material = "one half is missing", key.UnreadableMaterial() // as the real one
		}
		out = append(out, o)
	}
	return out
}

func (h *modelHSM) NewID(context.Context) (key.ID, error) { return key.NewID(rndReader{h.w.rnd}) }

func (h *modelHSM) MayGenerate(context.Context, string, int, key.Spec) error { return h.mayNot }

func (h *modelHSM) Generate(
	_ context.Context, id key.ID, name string, number int, spec key.Spec, known key.ID,
) error {
	return h.w.call("hsm.Generate", func() error {
		if err := h.unavailable(); err != nil {
			return err
		}
		if known != "" && len(h.pairs[known]) == 0 {
			return &classError{fmt.Sprintf("model: the token does not have %s", known), key.Fatal}
		}
		if h.generated == nil {
			h.generated = map[key.ID]int{}
		}
		h.generated[id]++
		h.known = append(h.known, known)
		h.pairs[id] = append(h.pairs[id], &pair{label: key.Label{Instance: instance, Key: name, Number: number},
			private: h.w.newPair()})
		return nil
	})
}

func (h *modelHSM) one(id key.ID) (*pair, error) {
	if err := h.unavailable(); err != nil {
		return nil, err
	}
	if len(h.pairs[id]) != 1 || h.pairs[id][0].broken {
		return nil, &classError{fmt.Sprintf("model: %d pairs under %s", len(h.pairs[id]), id), key.Refused}
	}
	return h.pairs[id][0], nil
}

func (h *modelHSM) PublicKey(_ context.Context, id key.ID) (m key.Material, err error) {
	err = h.w.call("hsm.PublicKey", func() error {
		p, err := h.one(id)
		if err == nil {
			m = materialOf(p.private)
		}
		return err
	})
	return m, err
}

func (h *modelHSM) CheckKEK(_ context.Context, kek key.KEK) (how string, err error) {
	err = h.w.call("hsm.CheckKEK", func() error {
		how, err = h.trusts(kek)
		return err
	})
	return how, err
}

func (h *modelHSM) trusts(kek key.KEK) (string, error) {
	print := kek.Material.Fingerprint()
	if slices.Contains(h.pins, print) {
		return key.TrustConfigured, nil
	}
	switch h.trust[kek.Vault] {
	case "":
		return "would be first use", nil
	case print:
		return "first use", nil
	}
	return "", &classError{"model: KEK changed", key.Refused}
}

// WrapFor returns the private key's number in the clear, and the model's vault reads it back. Only the model may do
// that.
func (h *modelHSM) WrapFor(_ context.Context, id key.ID, kek key.KEK) (blob []byte, err error) {
	err = h.w.call("hsm.WrapFor", func() error {
		p, err := h.one(id)
		if err != nil {
			return err
		}
		if _, err := h.trusts(kek); err != nil {
			return err
		}
		if h.trust == nil {
			h.trust = map[string]key.Fingerprint{}
		}
		h.trust[kek.Vault] = kek.Material.Fingerprint()
		p.wrapped = true
		h.wraps++
		blob = append(bytes.Repeat([]byte{0xEE}, 600), []byte(id)...)
		return nil
	})
	return blob, err
}

func (h *modelHSM) Opens(_ context.Context, id key.ID, ciphertext []byte, sum [32]byte) (yes bool, err error) {
	err = h.w.call("hsm.Opens", func() error {
		p, err := h.one(id)
		if err != nil {
			return err
		}
		was, ok := h.w.wrapped[string(ciphertext)]
		if !ok { // closed with the public key
			plain, err := p.private.Open(ciphertext)
			yes = err == nil && sha256.Sum256(plain) == sum
			return nil
		}
		yes = was.m == materialOf(p.private) && sha256.Sum256(was.plain) == sum
		return nil
	})
	return yes, err
}

func (h *modelHSM) Destroy(_ context.Context, id key.ID) error {
	return h.w.call("hsm.Destroy", func() error {
		if err := h.unavailable(); err != nil {
			return err
		}
		for _, p := range h.pairs[id] {
			if p.wrapped {
				h.w.tb.Errorf("asked to destroy a pair that was wrapped: %s", id)
				return &classError{"model: wrapped", key.Refused}
			}
		}
		delete(h.pairs, id)
		return nil
	})
}

// --- vault

type modelVersion struct {
	key.Version
	private *material // the key it unwraps with
	foreign bool
}

type modelKey struct {
	versions []*modelVersion // by creation
	deleted  bool
	native   bool // the vault has a rotation policy of its own
}

type modelVault struct {
	w           *world
	v           key.Vault
	keys        map[string]*modelKey
	kek         *key.KEK  // the newest
	oldKEKs     []key.KEK // newest first
	kekTags     map[string]map[string]string
	kekOff      map[string]bool // disabled, by version
	kekFixed    bool
	down        bool
	forbid      string        // an operation that answers 403
	policyLimit time.Duration // the time limit of the last request for the rotation policy
	importLimit time.Duration // the time limit of the last import
	skew        time.Duration
	swap        bool // imports keep the modulus but unwrap with other material
	software    bool // imports become software keys
	backwards   bool // listings come in reverse order
	count       int
	imports     int
	disabled    []string
}

func (v *modelVault) key(name string) *modelKey {
	if v.keys[name] == nil {
		v.keys[name] = &modelKey{}
	}
	return v.keys[name]
}

func (v *modelVault) do(op string, effect func() error) error {
	return v.w.call(v.v.Name+"."+op, func() error {
		if v.down {
			return &classError{"model: vault " + v.v.Name + " down", key.Retry}
		}
		if v.forbid == op {
			return &classError{"model: forbidden", key.Refused}
		}
		return effect()
	})
}

func (v *modelVault) KEK(_ context.Context, version string) (kek key.KEK, present bool, err error) {
	err = v.do("KEK", func() error {
		for _, k := range v.allKEKs() {
			if version != "" && k.Version() != version {
				continue
			}
			kek, present = k, true
			if v.kekOff[k.Version()] {
				kek.Material = key.Material{}
				return &classError{"model: the KEK is disabled", key.Refused}
			}
			return nil
		}
		return nil
	})
	return kek, present && err == nil, err
}

// allKEKs lists every version of the KEK, newest first.
func (v *modelVault) allKEKs() (all []key.KEK) {
	if v.kek != nil {
		all = append(all, *v.kek)
	}
	return append(all, v.oldKEKs...)
}

func (v *modelVault) KEKVersions(context.Context) (out []key.Version, err error) {
	err = v.do("KEKVersions", func() error {
		for _, k := range v.allKEKs() {
			out = append(out, key.Version{ID: k.Version(), Enabled: !v.kekOff[k.Version()],
				Tags: v.kekTags[k.Version()]})
		}
		return nil
	})
	return out, err
}

func (v *modelVault) CreateKEK(_ context.Context, after string, tags map[string]string) (kek key.KEK, err error) {
	err = v.do("CreateKEK", func() error {
		newest := ""
		if v.kek != nil {
			newest = v.kek.Version()
		}
		if newest != after {
			return &classError{"model: the newest KEK is another", key.Retry}
		}
		kek = v.newKEK(tags)
		return nil
	})
	return kek, err
}

func (v *modelVault) newKEK(tags map[string]string) key.KEK {
	shown := materialOf(pairOf(kekPair))
	if v.kek != nil {
		v.oldKEKs = append([]key.KEK{*v.kek}, v.oldKEKs...)
		shown = materialOf(v.w.newPair())
	}
	v.count++
	id := fmt.Sprintf("%032x", 0xa00000+v.count)
	v.kek = &key.KEK{Vault: v.v.URL, Kid: v.v.URL + "/keys/keyd-kek/" + id, Material: shown}
	if v.kekTags == nil {
		v.kekTags, v.kekOff = map[string]map[string]string{}, map[string]bool{}
	}
	v.kekTags[id] = tags
	return *v.kek
}

func (v *modelVault) DisableKEK(_ context.Context, version string) error {
	return v.do("DisableKEK", func() error {
		v.kekOff[version] = true
		return nil
	})
}

func (v *modelVault) Import(ctx context.Context, r key.ImportRequest) (out key.Version, err error) {
	if until, ok := ctx.Deadline(); ok {
		v.importLimit = time.Until(until)
	}
	err = v.do("Import", func() error {
		blob, err := byok.Parse(r.Blob)
		if err != nil {
			return &classError{err.Error(), key.Refused}
		}
		id := key.ID(blob.Ciphertext[len(blob.Ciphertext)-32:])
		pairs := v.w.hsm.pairs[id]
		if len(pairs) != 1 {
			return &classError{"model: bad blob", key.Refused}
		}
		x := v.add(r.Key, pairs[0].private, r.Tags)
		x.Operations, x.Expires = r.Operations, r.Expires
		if v.software {
			x.Kty = "RSA"
		}
		if v.swap {
			x.private = v.w.newPair()
			x.Material = materialOf(x.private)
		}
		v.imports++
		out = x.Version
		return nil
	})
	return out, err
}

func (v *modelVault) add(name string, private *material, tags map[string]string) *modelVersion {
	v.count++
	x := &modelVersion{private: private, Version: key.Version{
		ID:      fmt.Sprintf("%032x", uint64(v.count)+v.w.rnd.Uint64()<<16),
		Created: v.w.now.Add(v.skew).Truncate(time.Second),
		Enabled: true, Tags: tags, Kty: "RSA-HSM", Material: materialOf(private)}}
	k := v.key(name)
	k.versions = append(k.versions, x)
	return x
}

func (v *modelVault) addForeign(name string) string {
	x := v.add(name, v.w.newPair(), nil)
	x.foreign = true
	return x.ID
}

func (v *modelVault) Versions(_ context.Context, name string) (out []key.Version, err error) {
	err = v.do("Versions", func() error {
		k := v.key(name)
		if k.deleted {
			return nil
		}
		for _, x := range k.versions {
			shown := x.Version
			shown.Material, shown.Operations, shown.Kty = key.Material{}, nil, ""
			out = append(out, shown)
		}
		sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
		if v.backwards {
			slices.Reverse(out)
		}
		return nil
	})
	return out, err
}

func (v *modelVault) Sweep(context.Context, int) (out []key.Item, err error) {
	err = v.do("Sweep", func() error {
		for name, k := range v.keys {
			if n := len(k.versions); n > 0 && !k.deleted {
				item := key.ItemOf(k.versions[n-1].Version)
				item.Name = name
				out = append(out, item)
			}
		}
		return nil
	})
	return out, err
}

func (v *modelVault) Newest(_ context.Context, name string) (out key.Version, err error) {
	err = v.do("Newest", func() error {
		k := v.key(name)
		if k.deleted || len(k.versions) == 0 {
			return &classError{"model: not found", key.Refused}
		}
		out = k.versions[len(k.versions)-1].Version
		return nil
	})
	return out, err
}

func (v *modelVault) find(name, version string) (*modelVersion, error) {
	for _, x := range v.key(name).versions {
		if x.ID == version && !v.key(name).deleted {
			return x, nil
		}
	}
	return nil, &classError{"model: no version " + version, key.Refused}
}

func (v *modelVault) Get(_ context.Context, name, version string) (out key.Version, err error) {
	err = v.do("Get", func() error {
		x, err := v.find(name, version)
		if err == nil {
			out = x.Version
		}
		return err
	})
	return out, err
}

func (v *modelVault) Deleted(_ context.Context, name string) (deleted bool, err error) {
	err = v.do("Deleted", func() error { deleted = v.key(name).deleted; return nil })
	return deleted, err
}

func (v *modelVault) NativeRotation(ctx context.Context, name string) (on bool, err error) {
	if until, ok := ctx.Deadline(); ok {
		v.policyLimit = time.Until(until)
	}
	err = v.do("NativeRotation", func() error { on = v.key(name).native; return nil })
	return on, err
}

func (v *modelVault) Disable(_ context.Context, name, version string) error {
	return v.do("Disable", func() error {
		x, err := v.find(name, version)
		if err != nil {
			return err
		}
		x.Enabled = false
		v.disabled = append(v.disabled, version)
		return nil
	})
}

func (v *modelVault) Enable(_ context.Context, name, version string) error {
	return v.do("Enable", func() error {
		x, err := v.find(name, version)
		if err != nil {
			return err
		}
		x.Enabled = true
		return nil
	})
}

func (v *modelVault) ClockSkew() (time.Duration, bool) { return v.skew, true }

func (v *modelVault) Wrap(_ context.Context, name, version string, plain []byte) (out []byte, err error) {
	err = v.do("Wrap", func() error {
		x, err := v.find(name, version)
		if err != nil {
			return err
		}
		if err := v.expired(x); err != nil {
			return err
		}
		pub, _ := x.Material.RSA()
		if out, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, plain, nil); err == nil {
			v.w.wrapped[string(out)] = secret{x.Material, bytes.Clone(plain)}
		}
		return err
	})
	return out, err
}

func (v *modelVault) Unwrap(_ context.Context, name, version string, c []byte) (out []byte, err error) {
	err = v.do("Unwrap", func() error {
		x, err := v.find(name, version)
		if err != nil {
			return err
		}
		if !x.Enabled {
			return &classError{"model: disabled", key.Refused}
		}
		out, err = x.private.Open(c)
		return err
	})
	return out, err
}

func (v *modelVault) Encrypt(ctx context.Context, n, ver string, p []byte) ([]byte, error) {
	return v.Wrap(ctx, n, ver, p)
}

func (v *modelVault) Decrypt(ctx context.Context, n, ver string, c []byte) ([]byte, error) {
	return v.Unwrap(ctx, n, ver, c)
}

func (v *modelVault) Sign(_ context.Context, name, version string, digest []byte) (out []byte, err error) {
	err = v.do("Sign", func() error {
		x, err := v.find(name, version)
		if err != nil {
			return err
		}
		if err := v.expired(x); err != nil {
			return err
		}
		out = x.private.Sign(digest)
		return nil
	})
	return out, err
}

func (v *modelVault) expired(x *modelVersion) error {
	if !x.Expires.IsZero() && !v.w.now.Add(v.skew).Before(x.Expires) {
		return &classError{"model: expired", key.Refused}
	}
	return nil
}

// --- store

type modelStore struct {
	w       *world
	records map[string]record.Record
	vaults  map[string]record.Vault // by URL
	entries []chain.Entry
}

func (s *modelStore) Load(_ context.Context, name string) (rec record.Record, err error) {
	err = s.w.call("store.Load", func() error {
		var ok bool
		if rec, ok = s.records[name]; !ok {
			rec = record.Record{Key: name, Schema: record.SchemaVersion}
		}
		rec = rec.Clone()
		return nil
	})
	return rec, err
}

// leading is what the daemon that leads acts under.
func leading(ctx context.Context) context.Context { return term.With(ctx, term.Epoch{Number: 1}) }

// permits refuses what only the daemon that leads records, as a store of several hosts does.
func (s *modelStore) permits(ctx context.Context, entries []chain.Entry) error {
	for _, e := range entries {
		if _, leads := term.Of(ctx); !leads && !e.Event.Anybodys() {
			return fmt.Errorf("model: %q needs an epoch", e.Event)
		}
	}
	return nil
}

func (s *modelStore) Save(
	ctx context.Context,
	rec record.Record,
	entries ...chain.Entry,
) (out record.Record, err error) {
	err = s.w.call("store.Save "+string(entries[0].Event), func() error {
		if err := s.permits(ctx, entries); err != nil {
			return err
		}
		if s.records[rec.Key].Revision != rec.Revision {
			return &classError{"model: conflict", key.Retry}
		}
		rec.Revision++
		s.records[rec.Key] = roundTrip(s.w.tb, rec)
		s.entries = append(s.entries, entries...)
		out = rec.Clone()
		return nil
	})
	return out, err
}

func (s *modelStore) SaveTogether(ctx context.Context, recs []record.Record, entries [][]chain.Entry) error {
	return s.w.call("store.SaveTogether "+string(entries[0][0].Event), func() error {
		if err := s.permits(ctx, slices.Concat(entries...)); err != nil {
			return err
		}
		for _, rec := range recs {
			if s.records[rec.Key].Revision != rec.Revision {
				return &classError{"model: conflict", key.Retry}
			}
		}
		for i, rec := range recs {
			rec.Revision++
			s.records[rec.Key] = roundTrip(s.w.tb, rec)
			s.entries = append(s.entries, entries[i]...)
		}
		return nil
	})
}

func (s *modelStore) Names(context.Context) (names []string, err error) {
	err = s.w.call("store.Names", func() error {
		names = slices.Sorted(maps.Keys(s.records))
		return nil
	})
	return names, err
}

func (s *modelStore) LoadVault(_ context.Context, url string) (rec record.Vault, err error) {
	err = s.w.call("store.LoadVault", func() error {
		var ok bool
		if rec, ok = s.vaults[url]; !ok {
			rec = record.Vault{URL: url, Schema: record.SchemaVersion}
		}
		rec = rec.Clone()
		return nil
	})
	return rec, err
}

func (s *modelStore) SaveVault(ctx context.Context, rec record.Vault, entries ...chain.Entry) (out record.Vault,
	err error) {
	err = s.w.call("store.SaveVault "+string(entries[0].Event), func() error {
		if err := s.permits(ctx, entries); err != nil {
			return err
		}
		if s.vaults[rec.URL].Revision != rec.Revision {
			return &classError{"model: conflict", key.Retry}
		}
		rec.Revision++
		s.vaults[rec.URL] = rec.Clone()
		s.entries = append(s.entries, entries...)
		out = rec.Clone()
		return nil
	})
	return out, err
}

// roundTrip goes through JSON, as the real store does.
func roundTrip(tb testing.TB, rec record.Record) record.Record {
	b, err := json.Marshal(rec)
	if err != nil {
		tb.Fatal(err)
	}
	var out record.Record
	if err := json.Unmarshal(b, &out); err != nil {
		tb.Fatal(err)
	}
	out.Revision = rec.Revision
	return out
}

// --- driving

// settle steps a key until nothing is due, the key is held, or it has taken more steps than any recovery needs. After
// a crash it starts the daemon anew.
func (w *world) settle(p key.Policy) plan.Step {
	const most = 400
	r := w.rotator()
	failures := 0
	for range most {
		step, err := w.step(r, p)
		switch {
		case err != nil && errors.As(err, new(crashed)):
			r = w.rotator()
		case err != nil:
			failures++
			w.now = w.now.Add(time.Second << min(failures, 6))
		case step.Kind == plan.Idle:
			return step
		case step.Acts():
			failures = 0
		case step.Until.IsZero():
			w.tb.Fatalf("a wait without an end: %s\n%s", step.Why, w.story())
		default:
			w.now = later(w.now.Add(time.Second), step.Until)
		}
	}
	w.tb.Fatalf("not at rest after %d steps:\n%s", most, w.story())
	return plan.Step{}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

type crashed struct{ crash }

func (c crashed) Error() string { return "crashed at " + c.call }

func (w *world) step(r *rotate.Rotator, p key.Policy) (s plan.Step, err error) {
	defer func() {
		if v := recover(); v != nil {
			c, ok := v.(crash)
			if !ok {
				panic(v)
			}
			err = crashed{c}
		}
	}()
	for _, v := range p.Vaults {
		for range 3 { // a vault that fails does not block the key's step
			s, err := r.StepVault(leading(context.Background()), vaultPolicy(v))
			if err != nil || !s.Acts() {
				break
			}
			if s.Kind == plan.UseKEK {
				r.Observer.Drop(p.Key) // as the loop does
			}
		}
	}
	return r.StepKey(leading(context.Background()), p)
}

func vaultPolicy(v key.Vault) key.VaultPolicy {
	return key.VaultPolicy{Vault: v, KEK: "keyd-kek", Create: true}
}

func (w *world) story() string {
	return strings.Join(w.trace[max(0, len(w.trace)-80):], "\n")
}

// record is the stored record, which went through JSON when it was saved.
func (w *world) record(name string) record.Record { return w.store.records[name].Clone() }

// check asserts the invariants that always hold.
func (w *world) check(p key.Policy) {
	w.tb.Helper()
	rec := w.record(p.Key)
	for id, n := range w.hsm.generated {
		if n > 1 {
			w.tb.Errorf("C_GenerateKeyPair was called %d times for %s", n, id)
		}
	}
	for i, g := range rec.Generations {
		if g.Number != i+1 {
			w.tb.Errorf("generation %d stands at place %d", g.Number, i)
		}
		if g.Fingerprint != "" && len(w.hsm.pairs[g.ID]) != 1 {
			w.tb.Errorf("the HSM has %d pairs of pinned generation %d", len(w.hsm.pairs[g.ID]), g.Number)
		}
	}
	for _, v := range w.vault {
		if len(v.disabled) > 0 && p.Retire.Never() {
			w.tb.Errorf("vault %s: disabled %v without a retire rule", v.v.Name, v.disabled)
		}
	}
}

// checkDone asserts what holds after a key has come to rest without a hold: its latest generation is newest in every
// vault, nothing is duplicated or orphaned, and every version still unwraps.
func (w *world) checkDone(p key.Policy, generations, duplicates int) {
	w.tb.Helper()
	w.check(p)
	rec := w.record(p.Key)
	if rec.Hold != nil {
		w.tb.Fatalf("held: %s\n%s", rec.Hold.Reason, w.story())
	}
	if len(rec.Generations) != generations {
		w.tb.Fatalf("%d generations, want %d\n%s", len(rec.Generations), generations, w.story())
	}
	total := 0
	for _, pairs := range w.hsm.pairs {
		total += len(pairs)
	}
	if total != generations+len(rec.Spares) {
		w.tb.Errorf("%d pairs in the HSM for %d generations and %d spares\n%s", total, generations, len(rec.Spares),
			w.story())
	}
	extra := 0
	for _, v := range p.Vaults {
		mv := w.vault[v.URL]
		versions := mv.key(p.Key).versions
		extra += len(versions) - generations
		last := rec.Generations[generations-1]
		newest := versions[len(versions)-1]
		if newest.Material.Matches(last.Fingerprint) != key.MatchYes {
			w.tb.Errorf("vault %s: the newest version is not generation %d\n%s", v.Name, last.Number, w.story())
		}
		for _, x := range versions {
			if !x.Enabled {
				w.tb.Errorf("vault %s: version %s is disabled", v.Name, x.ID)
			}
			accounted := slices.ContainsFunc(rec.Generations, func(g record.Generation) bool {
				return slices.ContainsFunc(g.Placements, func(at record.Placement) bool {
					return at.Vault == v.URL && (at.Version == x.ID || slices.Contains(at.Aliases, x.ID))
				})
			})
			if !accounted {
				w.tb.Errorf("vault %s: version %s is in no record\n%s", v.Name, x.ID, w.story())
			}
		}
	}
	if extra != duplicates {
		w.tb.Errorf("%d duplicate versions, want %d\n%s", extra, duplicates, w.story())
	}
	for _, g := range rec.Generations {
		if g.Finished.IsZero() {
			w.tb.Errorf("generation %d is not finished", g.Number)
		}
	}
}

// survey looks the way keyd check does.
func survey(r *rotate.Rotator, ctx context.Context, p key.Policy, rec record.Record) *record.Observation {
	return r.Observer.(*observe.Observer).Survey(ctx, p, rec)
}

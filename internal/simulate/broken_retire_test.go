package simulate

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
)

var brokenRetirements = []breakage{
	{
		name:   "a retire rule takes effect without consent",
		first:  2,
		caught: `is disabled, and no consent of an operator to the rule stands$`,
		breaks: everyStore(func(s *store) rotate.Store { return &consentingStore{s} }),
		world:  retiringWorld,
	},
	{
		name:   "a consent covers what it does not list",
		first:  2,
		caught: `is disabled, and the operator's consent does not list it$`,
		breaks: editedStore(chain.RetireConsented, func(rec *record.Record) {
			rec.Consent.Versions, rec.Consent.At = nil, rec.Consent.At.Add(-1000*time.Hour)
		}),
		world: retiringWorld,
	},
	{
		name:   "an adoption leaves the consent standing",
		caught: `^the record of \S+ has a consent to the retire rule after "adopted"$`,
		breaks: keepConsent(chain.Adopted),
		world:  retiringWorld,
	},
	{
		name:   "an enabled version may be disabled again at once",
		first:  12,
		caught: `^the record of \S+ has a consent to the retire rule after "enabling intended"$`,
		breaks: keepConsent(chain.EnableIntended),
		world:  retiringWorld,
	},
	{
		name:   "a consent outlives its rule",
		first:  6,
		caught: `^the consent to the rule \{[^}]+\} of \S+ stands after ".*", and the rule is`,
		breaks: everyStore(func(s *store) rotate.Store { return &blindStore{s} }),
		world:  retiringWorld,
	},
	{
		name:   "an old copy of the state brings its consent back",
		first:  45,
		caught: `is disabled, and no consent of an operator to the rule stands$`,
		breaks: func(w *World, c Parts) Parts {
			c.Seal = func(context.Context) error { return nil }
			return c
		},
		world: func(w *World) {
			retiringWorld(w)
			if !w.restoring {
				w.restoring = true
				w.later(30*time.Hour, w.backup)
				w.later(50*time.Hour, func() { w.soon = append(w.soon, w.restore) })
			}
		},
	},
	{
		name:   "there is no pause between two disablings",
		caught: `is disabled \S+ after version \w+ was, and the rule says \S+$`,
		breaks: editedStore("", func(rec *record.Record) { rec.LastDisabling = record.Moment{} }),
		world:  retiringWorld,
	},
	{
		name:   "the newest version counts as proven because it was once",
		caught: `is disabled, and the newest was not proven in the same step$`,
		breaks: everyVault(func(_ *World, v Vault) Vault { return &provenVault{v, v.(*vault)} }),
		world:  retiringWorld,
	},
	{
		name:   "the HSM is not asked about the newest version",
		caught: `is disabled, and the newest was not proven in the same step$`,
		breaks: everyHSM(func(w *World, h HSM) HSM { return &recallingHSM{h, w} }),
		world:  retiringWorld,
	},
	{
		name:   "a version is enabled before its intent is saved",
		first:  17,
		caught: `^version \w+ of \S+ in \S+ is enabled before its intent is in the record$`,
		breaks: lazyStore(chain.EnableIntended),
		world:  retiringWorld,
	},
	{
		name:  "the audit lacks the result of enabling",
		first: 12,
		caught: `^(version \w+ of \S+ was enabled in \S+, and no audit entry has the result|` +
			`the request to enable version \w+ of \S+ is gone after "noted")$`,
		breaks: unsaid(chain.Enabled),
		world:  retiringWorld,
	},
	{
		name:   "a request to enable a version is forgotten",
		first:  12,
		caught: `^the record of \S+ lacks the request to enable version \w+$`,
		breaks: editedStore(chain.EnableIntended, func(rec *record.Record) { rec.Enabling = nil }),
		world:  retiringWorld,
	},
}

// retiringWorld has a retire rule for every key, short enough that something is disabled in every run.
func retiringWorld(w *World) {
	rule := key.RetireRule{DisableAfter: 2 * time.Hour, Pause: 3 * time.Hour, NoConsumers: true}
	for _, k := range w.keys {
		if k.home.Retire != rule { // a later start changes nothing
			k.home.Retire, k.home.Consumers, k.home.Workspaces, k.home.Discover = rule, nil, nil, false
			w.resources = nil
			k.policy = k.home
		}
	}
}

// consentingStore reads every record as if an operator had consented to a rule of the simulation.
type consentingStore struct{ *store }

func (s *consentingStore) Load(ctx context.Context, name string) (record.Record, error) {
	rec, err := s.store.Load(ctx, name)
	if k := s.w.managed(name); err == nil && !k.policy.Retire.Never() && rec.Consent == nil {
		rec.Consent = &record.Consent{Rule: k.policy.Retire}
	}
	return rec, err
}

func (s *consentingStore) Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error) {
	if s.records[rec.Key].Consent == nil && entries[0].Event != chain.RetireConsented {
		rec = rec.Clone()
		rec.Consent = nil
	}
	return s.store.Save(ctx, rec, entries...)
}

// keepConsent saves one kind of event with the consent that there was before.
func keepConsent(event chain.Event) breaks {
	return everyStore(func(s *store) rotate.Store { return &keepingStore{s, event} })
}

type keepingStore struct {
	*store
	event chain.Event
}

func (s *keepingStore) Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error) {
	if entries[0].Event == s.event {
		rec = rec.Clone()
		before := s.records[rec.Key].Clone()
		rec.Consent = before.Consent
		entries = slices.DeleteFunc(slices.Clone(entries), func(e chain.Entry) bool {
			return e.Event == chain.RetireConsentEnded
		})
	}
	return s.store.Save(ctx, rec, entries...)
}

// blindStore reads every consent as one to the present rule.
type blindStore struct{ *store }

func (s *blindStore) Load(ctx context.Context, name string) (record.Record, error) {
	rec, err := s.store.Load(ctx, name)
	if rec.Consent != nil {
		rec.Consent.Rule = s.w.managed(name).policy.Retire
	}
	return rec, err
}

func (s *blindStore) Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error) {
	was := s.records[rec.Key].Consent
	if rec.Consent != nil && was != nil && entries[0].Event != chain.RetireConsented {
		rec = rec.Clone()
		rec.Consent.Rule = was.Rule
	}
	return s.store.Save(ctx, rec, entries...)
}

// provenVault unwraps and signs with a version that once did by what is known of it.
type provenVault struct {
	Vault
	truth *vault
}

func (v *provenVault) Unwrap(ctx context.Context, name, id string, ciphertext []byte) ([]byte, error) {
	if x := v.truth.byID(name, id); x != nil && x.unwrapped {
		return x.mat.open(ciphertext)
	}
	return v.Vault.Unwrap(ctx, name, id, ciphertext)
}

func (v *provenVault) Decrypt(ctx context.Context, name, id string, ciphertext []byte) ([]byte, error) {
	return v.Unwrap(ctx, name, id, ciphertext)
}

func (v *provenVault) Sign(ctx context.Context, name, id string, digest []byte) ([]byte, error) {
	if x := v.truth.byID(name, id); x != nil && x.unwrapped {
		return x.mat.sign(digest), nil
	}
	return v.Vault.Sign(ctx, name, id, digest)
}

// recallingHSM says that it opens what a pair once opened.
type recallingHSM struct {
	HSM
	w *World
}

func (h *recallingHSM) Opens(ctx context.Context, id key.ID, ciphertext []byte, sum [sha256.Size]byte) (bool, error) {
	rec := h.w.proving(id)
	if o := h.w.hsm.find(id); o != nil && !o.opened.IsZero() && rec {
		return true, nil
	}
	return h.HSM.Opens(ctx, id, ciphertext, sum)
}

// proving reports whether no placement of a pair's generation waits for a proof.
func (w *World) proving(id key.ID) bool {
	for _, rec := range w.store.records {
		for _, g := range rec.Generations {
			if g.ID == id && slices.ContainsFunc(g.Placements, func(p record.Placement) bool {
				return p.State == key.Imported
			}) {
				return false
			}
		}
	}
	return true
}

// insistingVault unwraps and wraps by what is known of a version, once the vault refuses that.
type insistingVault struct {
	Vault
	truth *vault
}

func (v *insistingVault) Unwrap(ctx context.Context, name, id string, ciphertext []byte) ([]byte, error) {
	out, err := v.Vault.Unwrap(ctx, name, id, ciphertext)
	if x := v.truth.byID(name, id); err != nil && x != nil && x.unwrapped {
		x.used = v.truth.w.now
		return x.mat.open(ciphertext)
	}
	return out, err
}

func (v *insistingVault) Wrap(ctx context.Context, name, id string, plain []byte) ([]byte, error) {
	out, err := v.Vault.Wrap(ctx, name, id, plain)
	if x := v.truth.byID(name, id); err != nil && x != nil && x.unwrapped {
		return rsa.EncryptOAEP(sha256.New(), rand.Reader, x.modulus.pub, plain, nil)
	}
	return out, err
}

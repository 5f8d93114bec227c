package simulate

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
)

// Loops that are broken on purpose. Each must be caught, or the simulator's
// silence about the real one would mean nothing.
var broken = []struct {
	name   string
	breaks func(w *World, c rotate.Config) rotate.Config
	caught string // part of the sentence
}{
	{"an import is repeated blindly", everyVault(func(v rotate.Vault) rotate.Vault { return &blindVault{v} }), "doubled"},
	{"an import comes before its intent is saved", lazyStore("import intended"), "without its intent"},
	{"an import comes before the pin is saved", everyStore(func(s *store) rotate.Store { return &pinlessStore{s, map[string]key.Record{}} }), "before its fingerprint is in a record"},
	{"a generation comes before its intent is saved", lazyStore("generation intended"), "without its intent"},
	{"a destruction comes before its intent is saved", lazyStore("destruction intended"), "without its intent"},
	{"a pair is generated twice under one id", everyHSM(func(w *World, h rotate.HSM) rotate.HSM { return &eagerHSM{h} }), "a second time for CKA_ID"},
	{"the older version is disabled before the new one is proven", everyVault(func(v rotate.Vault) rotate.Vault { return &hastyVault{v} }), "is disabled"},
	{"compare-and-swap is forgotten", everyStore(func(s *store) rotate.Store { return &forcefulStore{s} }), ""},
	{"a save is answered and forgotten", everyStore(func(s *store) rotate.Store { return &forgetfulStore{s, map[string]bool{}} }), ""},
	{"a refuted version is not rolled back", damaged(editedStore("proof refuted", func(rec *key.Record) {
		for _, g := range rec.Generations {
			for _, p := range g.Placements {
				if p.State == key.Refuted && !p.Lifted {
					rec.Hold = &key.Hold{Code: key.HoldRefuted, Vault: p.Vault, Reason: "refuted", By: "keyd"}
				}
			}
		}
	})), "could have been put back"},
	{"an import is given up before its settle time", editedStore("import intended", func(rec *key.Record) {
		for i := range rec.Generations {
			for j := range rec.Generations[i].Placements {
				if p := &rec.Generations[i].Placements[j]; p.State == key.Intended {
					p.Deadline = p.Deadline.Add(-15 * time.Minute)
				}
			}
		}
	}), "before its settle time"},
	{"a lost answer to an import counts as no", everyVault(func(v rotate.Vault) rotate.Vault { return &sureVault{v} }), ""},
	{"a proof is taken for granted", editedStore("imported", func(rec *key.Record) {
		for i := range rec.Generations {
			for j := range rec.Generations[i].Placements {
				if p := &rec.Generations[i].Placements[j]; p.State == key.Imported {
					p.State = key.Proven
				}
			}
		}
	}), "was not proven"},
	{"a listing that fails counts as empty", everyVault(func(v rotate.Vault) rotate.Vault { return &blankVault{v} }), ""},
	{"foreign versions are overlooked", everyVault(func(v rotate.Vault) rotate.Vault { return &narrowVault{Vault: v} }), "without consent"},
	{"a changed KEK is trusted", everyHSM(func(w *World, h rotate.HSM) rotate.HSM { return &trustingHSM{h, w} }), "nobody approved"},
	{"the sweeper goes by the pending mark alone", everyHSM(func(w *World, h rotate.HSM) rotate.HSM { return &sweepingHSM{h} }), "is destroyed"},
	{"the retire rule counts from too early", func(w *World, c rotate.Config) rotate.Config {
		for _, k := range w.keys {
			k.home.Retire.DisableAfter = 60 * time.Hour
			k.policy = k.home
		}
		return editedStore("", func(rec *key.Record) {
			for i := range rec.Generations {
				g := &rec.Generations[i]
				if !g.Deactivated.IsZero() {
					g.Deactivated = w.begun.Add(-30 * 24 * time.Hour)
				}
				for j := range g.Placements {
					g.Placements[j].Created = time.Time{}
				}
			}
		})(w, c)
	}, "and the rule says"},
	{"the newest version is disabled too", everyVault(func(v rotate.Vault) rotate.Vault { return &thoroughVault{v} }), "is disabled"},
	{"the second vault's import is left out", everyVault(func(v rotate.Vault) rotate.Vault { return &deafVault{v} }), ""},
	{"a hold lifts itself", editedStore("", func(rec *key.Record) { rec.Hold = nil }), ""},
	{"an aliased duplicate is not recorded", droppedStore("duplicate version adopted"), ""},
}

// caughtBy is the seed that catches what others take long to: it is tried first.
var caughtBy = map[string]uint64{
	"a destruction comes before its intent is saved": 2,
	"a pair is generated twice under one id":         2,
	"foreign versions are overlooked":                2,
	"an aliased duplicate is not recorded":           8,
}

func TestABrokenLoopIsCaught(t *testing.T) {
	const enough = 150 // seeds, after which it should have been
	primes := NewPrimes()
	for _, b := range broken {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			first := max(caughtBy[b.name], 1)
			for n := range uint64(enough) {
				seed := 1 + (first-1+n)%enough
				r := primes.Run(seed, Options{Break: b.breaks, Rate: 0.05})
				if r.Failure == "" || !strings.Contains(r.Failure, b.caught) {
					continue
				}
				t.Logf("seed %d: %s", seed, r.Failure)
				return
			}
			t.Errorf("not caught by %d seeds", enough)
		})
	}
}

// damaged has every vault damage what it imports after two days.
func damaged(breaks func(*World, rotate.Config) rotate.Config) func(*World, rotate.Config) rotate.Config {
	return func(w *World, c rotate.Config) rotate.Config {
		w.later(48*time.Hour, func() {
			for _, v := range w.vaults {
				v.damage = "private"
			}
		})
		return breaks(w, c)
	}
}

func everyVault(wrap func(rotate.Vault) rotate.Vault) func(*World, rotate.Config) rotate.Config {
	return func(_ *World, c rotate.Config) rotate.Config {
		find := c.Vaults
		c.Vaults = func(url string) rotate.Vault {
			if v := find(url); v != nil {
				return wrap(v)
			}
			return nil
		}
		return c
	}
}

func everyHSM(wrap func(*World, rotate.HSM) rotate.HSM) func(*World, rotate.Config) rotate.Config {
	return func(w *World, c rotate.Config) rotate.Config {
		c.HSM = wrap(w, c.HSM)
		return c
	}
}

func everyStore(wrap func(*store) rotate.Store) func(*World, rotate.Config) rotate.Config {
	return func(w *World, c rotate.Config) rotate.Config {
		c.Store = wrap(w.store)
		return c
	}
}

type blindVault struct{ rotate.Vault }

func (v *blindVault) Import(ctx context.Context, r key.ImportRequest) (key.Version, error) {
	x, err := v.Vault.Import(ctx, r)
	if err != nil {
		return v.Vault.Import(ctx, r)
	}
	return x, nil
}

type sureVault struct{ rotate.Vault }

func (v *sureVault) Import(ctx context.Context, r key.ImportRequest) (key.Version, error) {
	x, err := v.Vault.Import(ctx, r)
	if err != nil {
		return x, failed(key.Retry, "%v", err)
	}
	return x, nil
}

type deafVault struct{ rotate.Vault }

func (v *deafVault) Versions(context.Context, string) ([]key.Version, error) { return nil, nil }

type blankVault struct{ rotate.Vault }

func (v *blankVault) Versions(ctx context.Context, name string) ([]key.Version, error) {
	versions, _ := v.Vault.Versions(ctx, name)
	return versions, nil
}

// hastyVault disables all older versions as soon as a new one is there.
type hastyVault struct{ rotate.Vault }

func (v *hastyVault) Import(ctx context.Context, r key.ImportRequest) (key.Version, error) {
	x, err := v.Vault.Import(ctx, r)
	if err != nil {
		return x, err
	}
	older, err := v.Versions(ctx, r.Key)
	for _, y := range older {
		if y.ID != x.ID {
			_ = v.Disable(ctx, r.Key, y.ID)
		}
	}
	return x, err
}

// thoroughVault disables the newest version with an older one.
type thoroughVault struct{ rotate.Vault }

func (v *thoroughVault) Disable(ctx context.Context, name, id string) error {
	if x, err := v.Newest(ctx, name); err == nil {
		_ = v.Vault.Disable(ctx, name, x.ID)
	}
	return v.Vault.Disable(ctx, name, id)
}

// narrowVault shows only versions with keyd's tags.
type narrowVault struct{ rotate.Vault }

func (v *narrowVault) Versions(ctx context.Context, name string) ([]key.Version, error) {
	versions, err := v.Vault.Versions(ctx, name)
	return slices.DeleteFunc(versions, func(x key.Version) bool { return x.Tags[key.TagInstance] == "" }), err
}

func (v *narrowVault) Newest(ctx context.Context, name string) (newest key.Version, err error) {
	versions, err := v.Versions(ctx, name)
	for _, x := range versions {
		if !x.Created.Before(newest.Created) {
			newest = x
		}
	}
	return newest, err
}

type eagerHSM struct{ rotate.HSM }

func (h *eagerHSM) Generate(ctx context.Context, id key.ID, name string, number int, spec key.Spec) error {
	if err := h.HSM.Generate(ctx, id, name, number, spec); err != nil {
		return h.HSM.Generate(ctx, id, name, number, spec)
	}
	return nil
}

type trustingHSM struct {
	rotate.HSM
	w *World
}

func (h *trustingHSM) CheckKEK(context.Context, key.KEK) (string, error) { return "surely", nil }

func (h *trustingHSM) WrapFor(ctx context.Context, id key.ID, kek key.KEK) ([]byte, error) {
	h.w.hsm.trust[kek.Vault], _ = key.FingerprintOf(kek.Public)
	return h.HSM.WrapFor(ctx, id, kek)
}

// sweepingHSM destroys what was never wrapped whenever it looks.
type sweepingHSM struct{ rotate.HSM }

func (h *sweepingHSM) Inventory(ctx context.Context) ([]key.Object, error) {
	objects, err := h.HSM.Inventory(ctx)
	for _, o := range objects {
		if o.Label.Pending {
			_ = h.Destroy(ctx, o.ID)
		}
	}
	return objects, err
}

// forcefulStore saves over whatever is there.
type forcefulStore struct{ *store }

func (s *forcefulStore) Save(ctx context.Context, rec key.Record, entries ...key.Entry) (key.Record, error) {
	rec.Revision = s.records[rec.Key].Revision
	return s.store.Save(ctx, rec, entries...)
}

// forgetfulStore answers one save of each kind and key without doing it.
type forgetfulStore struct {
	*store
	forgot map[string]bool
}

func (s *forgetfulStore) Save(ctx context.Context, rec key.Record, entries ...key.Entry) (key.Record, error) {
	if id := rec.Key + entries[0].Event; s.w.chance(10) && !s.forgot[id] {
		s.forgot[id] = true
		return rec, nil
	}
	return s.store.Save(ctx, rec, entries...)
}

// lazyStore keeps one kind of save back until the next save of that key.
func lazyStore(event string) func(*World, rotate.Config) rotate.Config {
	return everyStore(func(s *store) rotate.Store { return &backStore{s, event, map[string]key.Record{}} })
}

type backStore struct {
	*store
	event string
	kept  map[string]key.Record
}

func (s *backStore) Load(ctx context.Context, name string) (key.Record, error) {
	if rec, ok := s.kept[name]; ok {
		return rec.Clone(), nil
	}
	return s.store.Load(ctx, name)
}

func (s *backStore) Save(ctx context.Context, rec key.Record, entries ...key.Entry) (key.Record, error) {
	if entries[0].Event == s.event {
		s.kept[rec.Key] = rec.Clone()
		return rec, nil
	}
	rec, err := s.store.Save(ctx, rec, entries...)
	delete(s.kept, rec.Key)
	return rec, err
}

// pinlessStore keeps a pin back until the generation is in a vault.
type pinlessStore struct {
	*store
	whole map[string]key.Record
}

func (s *pinlessStore) Load(ctx context.Context, name string) (key.Record, error) {
	rec, err := s.store.Load(ctx, name)
	if whole, ok := s.whole[name]; ok && err == nil && whole.Revision == rec.Revision {
		return whole.Clone(), nil
	}
	return rec, err
}

func (s *pinlessStore) Save(ctx context.Context, rec key.Record, entries ...key.Entry) (key.Record, error) {
	whole := rec.Clone()
	rec = rec.Clone()
	for i := range rec.Generations {
		if g := &rec.Generations[i]; !slices.ContainsFunc(g.Placements, func(p key.Placement) bool { return p.Version != "" }) {
			g.Fingerprint = ""
		}
	}
	saved, err := s.store.Save(ctx, rec, entries...)
	if err != nil {
		return rec, err
	}
	whole.Revision = saved.Revision
	s.whole[rec.Key] = whole.Clone()
	return whole, nil
}

// editedStore changes what is saved with an event; "" is every event.
func editedStore(event string, edit func(*key.Record)) func(*World, rotate.Config) rotate.Config {
	return everyStore(func(s *store) rotate.Store { return &editStore{s, event, edit} })
}

type editStore struct {
	*store
	event string
	edit  func(*key.Record)
}

func (s *editStore) Save(ctx context.Context, rec key.Record, entries ...key.Entry) (key.Record, error) {
	if s.event == "" || entries[0].Event == s.event {
		rec = rec.Clone()
		s.edit(&rec)
	}
	return s.store.Save(ctx, rec, entries...)
}

// droppedStore answers one kind of save without doing it.
func droppedStore(event string) func(*World, rotate.Config) rotate.Config {
	return everyStore(func(s *store) rotate.Store { return &dropStore{s, event} })
}

type dropStore struct {
	*store
	event string
}

func (s *dropStore) Save(ctx context.Context, rec key.Record, entries ...key.Entry) (key.Record, error) {
	if entries[0].Event == s.event {
		return rec, nil
	}
	return s.store.Save(ctx, rec, entries...)
}

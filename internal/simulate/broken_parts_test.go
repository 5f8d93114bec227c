package simulate

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
)

// breaks replaces parts of a daemon by broken ones.
type breaks func(*World, Parts) Parts

func everyVault(wrap func(*World, Vault) Vault) breaks {
	return func(w *World, c Parts) Parts {
		find := c.Vaults
		c.Vaults = func(url string) Vault {
			if v := find(url); v != nil {
				return wrap(w, v)
			}
			return nil
		}
		return c
	}
}

func everyHSM(wrap func(*World, HSM) HSM) breaks {
	return func(w *World, c Parts) Parts {
		c.HSM = wrap(w, c.HSM)
		return c
	}
}

func everyStore(wrap func(*store) rotate.Store) breaks {
	return func(w *World, c Parts) Parts {
		c.Store = oneByOne{wrap(w.store)}
		return c
	}
}

// oneByOne saves together what a broken store saves one by one, so that it is broken there, too.
type oneByOne struct{ rotate.Store }

func (s oneByOne) SaveTogether(ctx context.Context, recs []record.Record, entries [][]chain.Entry) error {
	for i, rec := range recs {
		if _, err := s.Save(ctx, rec, entries[i]...); err != nil {
			return err
		}
	}
	return nil
}

type blindVault struct{ Vault }

func (v *blindVault) Import(ctx context.Context, r key.ImportRequest) (key.Version, error) {
	x, err := v.Vault.Import(ctx, r)
	if err != nil {
		return v.Vault.Import(ctx, r)
	}
	return x, nil
}

type sureVault struct{ Vault }

func (v *sureVault) Import(ctx context.Context, r key.ImportRequest) (key.Version, error) {
	x, err := v.Vault.Import(ctx, r)
	if err != nil {
		return x, failed(key.Retry, "%v", err)
	}
	return x, nil
}

// emptyVault shows no version of any key.
type emptyVault struct{ Vault }

func (v *emptyVault) Versions(context.Context, string) ([]key.Version, error) { return nil, nil }

// trustingVault takes the vault's list of keys for a complete listing: while an item stays as it was, it lists what it
// listed last.
type trustingVault struct {
	Vault
	items  map[string]key.Item
	listed map[string][]key.Version
}

func trusting(w *World, c Parts) Parts {
	known := map[string]*trustingVault{}
	return everyVault(func(_ *World, v Vault) Vault {
		url := v.(*vault).URL
		if known[url] == nil {
			known[url] = &trustingVault{v, map[string]key.Item{}, map[string][]key.Version{}}
		}
		return known[url]
	})(w, c)
}

func (v *trustingVault) Versions(ctx context.Context, name string) ([]key.Version, error) {
	items, err := v.Sweep(ctx, 1)
	if err != nil {
		return v.Vault.Versions(ctx, name)
	}
	i := slices.IndexFunc(items, func(x key.Item) bool { return x.Name == name })
	if i >= 0 && v.listed[name] != nil && items[i].Same(v.items[name]) {
		return v.listed[name], nil
	}
	listed, err := v.Vault.Versions(ctx, name)
	if err == nil && i >= 0 {
		v.items[name], v.listed[name] = items[i], listed
	}
	return listed, err
}

// absentVault takes it for a complete listing that the vault's list of keys lacks a key that keyd never put there.
type absentVault struct {
	Vault
	w *World
}

func (v *absentVault) Versions(ctx context.Context, name string) ([]key.Version, error) {
	rec := v.w.store.records[name]
	if rec.Untouched(v.Vault.(*vault).URL) {
		items, err := v.Sweep(ctx, 1)
		if err == nil && !slices.ContainsFunc(items, func(x key.Item) bool { return x.Name == name }) {
			return nil, nil
		}
	}
	return v.Vault.Versions(ctx, name)
}

type blankVault struct{ Vault }

func (v *blankVault) Versions(ctx context.Context, name string) ([]key.Version, error) {
	versions, _ := v.Vault.Versions(ctx, name)
	return versions, nil
}

// hastyVault disables all older versions as soon as a new one is there.
type hastyVault struct {
	Vault
	w *World
}

func (v *hastyVault) Import(ctx context.Context, r key.ImportRequest) (key.Version, error) {
	x, err := v.Vault.Import(ctx, r)
	if err != nil {
		return x, err
	}
	older, err := v.Versions(ctx, r.Key)
	for _, y := range older {
		if y.ID != x.ID {
			v.w.intendToDisable(v.Vault, r.Key, y.ID)
			_ = v.Disable(ctx, r.Key, y.ID)
		}
	}
	return x, err
}

// thoroughVault disables the newest version with an older one.
type thoroughVault struct {
	Vault
	w *World
}

func (v *thoroughVault) Disable(ctx context.Context, name, id string) error {
	if x, err := v.Newest(ctx, name); err == nil {
		v.w.intendToDisable(v.Vault, name, x.ID)
		_ = v.Vault.Disable(ctx, name, x.ID)
	}
	return v.Vault.Disable(ctx, name, id)
}

// intendToDisable puts the intent into the audit, so that a judge does not catch the broken
// loop by its absence.
func (w *World) intendToDisable(in Vault, name, id string) {
	rec, url := w.store.records[name], in.(*vault).URL
	if g, _ := holderOf(&rec, url, id); g != nil {
		w.store.intents[intent{chain.DisableIntended, g.ID, url}] = true
	}
}

// narrowVault shows only versions with keyd's tags.
type narrowVault struct{ Vault }

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

// pressedVault does not show the class of an error: keyd does not see that it was refused for now.
type pressedVault struct{ Vault }

func (v *pressedVault) Versions(ctx context.Context, name string) ([]key.Version, error) {
	versions, err := v.Vault.Versions(ctx, name)
	if err != nil {
		err = errors.New(err.Error())
	}
	return versions, err
}

// rosyVault shows every version as enabled.
type rosyVault struct{ Vault }

func (v *rosyVault) Versions(ctx context.Context, name string) ([]key.Version, error) {
	versions, err := v.Vault.Versions(ctx, name)
	for i := range versions {
		versions[i].Enabled = true
	}
	return versions, err
}

// timelessVault never shows when a version expires.
type timelessVault struct{ Vault }

func (v *timelessVault) Versions(ctx context.Context, name string) ([]key.Version, error) {
	versions, err := v.Vault.Versions(ctx, name)
	for i := range versions {
		versions[i].Expires = time.Time{}
	}
	return versions, err
}

// hidingVault never shows a version that landed late.
type hidingVault struct {
	Vault
	truth *vault
}

func (v *hidingVault) Versions(ctx context.Context, name string) ([]key.Version, error) {
	versions, err := v.Vault.Versions(ctx, name)
	return slices.DeleteFunc(versions, func(x key.Version) bool { return v.truth.byID(name, x.ID).late }), err
}

func (v *hidingVault) Newest(ctx context.Context, name string) (key.Version, error) {
	x, err := v.Vault.Newest(ctx, name)
	for _, y := range v.truth.content(name).versions {
		if err == nil && !y.late && v.truth.byID(name, x.ID).late {
			x = y.Version
		}
	}
	return x, err
}

type eagerHSM struct{ HSM }

func (h *eagerHSM) Generate(
	ctx context.Context, id key.ID, name string, number int, spec key.Spec, known key.ID,
) error {
	if err := h.HSM.Generate(ctx, id, name, number, spec, known); err != nil {
		return h.HSM.Generate(ctx, id, name, number, spec, known)
	}
	return nil
}

// trustingHSM wraps for the newest KEK, whoever made it.
type trustingHSM struct {
	HSM
	w *World
}

func (h *trustingHSM) WrapFor(ctx context.Context, id key.ID, kek key.KEK) ([]byte, error) {
	newest := h.w.vault(kek.Vault).newestKEK()
	h.w.hsm.trust[kek.Vault] = newest.print()
	delete(h.w.hsm.named, kek.Vault)
	return h.HSM.WrapFor(ctx, id, newest.KEK)
}

// pliantHSM says that every KEK is configured.
type pliantHSM struct{ HSM }

func (h *pliantHSM) CheckKEK(context.Context, key.KEK) (string, error) {
	return key.TrustConfigured, nil
}

// hurriedStore says that each superseded KEK was superseded a day earlier.
type hurriedStore struct{ *store }

func (s *hurriedStore) LoadVault(ctx context.Context, url string) (record.Vault, error) {
	rec, err := s.store.LoadVault(ctx, url)
	for i := range rec.KEKs {
		if k := &rec.KEKs[i]; k.State == key.KEKSuperseded {
			k.Superseded = record.Moment{Here: k.Superseded.Here.Add(-24 * time.Hour)}
		}
	}
	return rec, err
}

// impatientStore says that keyd began to make each KEK a day earlier.
type impatientStore struct{ *store }

func (s *impatientStore) LoadVault(ctx context.Context, url string) (record.Vault, error) {
	rec, err := s.store.LoadVault(ctx, url)
	for i := range rec.KEKs {
		rec.KEKs[i].Begun = record.Moment{Here: rec.KEKs[i].Begun.Here.Add(-24 * time.Hour)}
	}
	return rec, err
}

// sweptVault disables the KEK in use together with the one before.
type sweptVault struct {
	Vault
	w *World
}

func (v *sweptVault) DisableKEK(ctx context.Context, version string) error {
	for url, rec := range v.w.store.vaults {
		if k := rec.KEK(version); k != nil && v.Vault.(*vault).URL == url {
			_ = v.Vault.DisableKEK(ctx, rec.Active().Version())
		}
	}
	return v.Vault.DisableKEK(ctx, version)
}

// sweepingHSM destroys, at each look, every pair that was never wrapped.
type sweepingHSM struct{ HSM }

func (h *sweepingHSM) Inventory(ctx context.Context) ([]key.Object, error) {
	objects, err := h.HSM.Inventory(ctx)
	for _, o := range objects {
		if o.Label.Pending {
			_ = h.Destroy(ctx, o.ID)
		}
	}
	return objects, err
}

// credulousHSM says that it opens whatever it is given.
type credulousHSM struct{ HSM }

func (h *credulousHSM) Opens(context.Context, key.ID, []byte, [sha256.Size]byte) (bool, error) {
	return true, nil
}

// blurredHSM shows every new pair as half a pair at first.
type blurredHSM struct {
	HSM
	seen map[key.ID]bool
}

func (h *blurredHSM) Inventory(ctx context.Context) ([]key.Object, error) {
	objects, err := h.HSM.Inventory(ctx)
	return h.blur(objects), err
}

func (h *blurredHSM) Find(ctx context.Context, id key.ID) ([]key.Object, error) {
	objects, err := h.HSM.Find(ctx, id)
	return h.blur(objects), err
}

func (h *blurredHSM) blur(objects []key.Object) []key.Object {
	objects = slices.Clone(objects) // the model keeps its list
	for i := range objects {
		if o := &objects[i]; o.Label.Pending && !h.seen[o.ID] {
			h.seen[o.ID], o.Complete = true, false
		}
	}
	return objects
}

// lenientStore reads a record without its hold.
type lenientStore struct{ *store }

func (s *lenientStore) Load(ctx context.Context, name string) (record.Record, error) {
	rec, err := s.store.Load(ctx, name)
	rec.Hold = nil
	return rec, err
}

// wearingHSM loses a pair after one use.
type wearingHSM struct {
	HSM
	w *World
}

func (h *wearingHSM) Opens(ctx context.Context, id key.ID, ciphertext []byte, sum [sha256.Size]byte) (bool, error) {
	yes, err := h.HSM.Opens(ctx, id, ciphertext, sum)
	h.w.hsm.take(id)
	return yes, err
}

// forcefulStore saves whatever the revision is.
type forcefulStore struct{ *store }

func (s *forcefulStore) Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error) {
	rec.Revision = s.records[rec.Key].Revision
	return s.store.Save(ctx, rec, entries...)
}

// forgetfulStore confirms one save of each kind and key, and does not keep it.
type forgetfulStore struct {
	*store
	forgot map[string]bool
}

func (s *forgetfulStore) Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error) {
	if id := rec.Key + string(entries[0].Event); s.w.chance(10) && !s.forgot[id] {
		s.forgot[id] = true
		return rec, nil
	}
	return s.store.Save(ctx, rec, entries...)
}

// lazyStore delays one kind of save until the next save of that key.
func lazyStore(event chain.Event) breaks {
	return everyStore(func(s *store) rotate.Store { return &backStore{s, event, map[string]record.Record{}} })
}

type backStore struct {
	*store
	event chain.Event
	kept  map[string]record.Record
}

func (s *backStore) Load(ctx context.Context, name string) (record.Record, error) {
	if rec, ok := s.kept[name]; ok {
		return rec.Clone(), nil
	}
	return s.store.Load(ctx, name)
}

func (s *backStore) Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error) {
	if entries[0].Event == s.event {
		s.kept[rec.Key] = rec.Clone()
		return rec, nil
	}
	rec, err := s.store.Save(ctx, rec, entries...)
	delete(s.kept, rec.Key)
	return rec, err
}

// pinlessStore saves a pin only once the generation is in a vault.
type pinlessStore struct {
	*store
	whole map[string]record.Record
}

func (s *pinlessStore) Load(ctx context.Context, name string) (record.Record, error) {
	rec, err := s.store.Load(ctx, name)
	if whole, ok := s.whole[name]; ok && err == nil && whole.Revision == rec.Revision {
		return whole.Clone(), nil
	}
	return rec, err
}

func (s *pinlessStore) Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error) {
	whole := rec.Clone()
	rec = rec.Clone()
	for i := range rec.Generations {
		if g := &rec.Generations[i]; !slices.ContainsFunc(
			g.Placements,
			func(p record.Placement) bool { return p.Version != "" },
		) {
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

// editedStore changes the record that keyd saves with an event; "" is every event.
func editedStore(event chain.Event, edit func(*record.Record)) breaks {
	return everyStore(func(s *store) rotate.Store { return &editStore{s, event, edit, func(*chain.Entry) {}} })
}

// editedEntry changes the audit entry of an event.
func editedEntry(event chain.Event, edit func(*chain.Entry)) breaks {
	return everyStore(func(s *store) rotate.Store { return &editStore{s, event, func(*record.Record) {}, edit} })
}

type editStore struct {
	*store
	event  chain.Event
	record func(*record.Record)
	entry  func(*chain.Entry)
}

func (s *editStore) Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error) {
	if s.event == "" || entries[0].Event == s.event {
		rec, entries = rec.Clone(), slices.Clone(entries)
		s.record(&rec)
		entries[0].Fields = maps.Clone(entries[0].Fields)
		s.entry(&entries[0])
	}
	return s.store.Save(ctx, rec, entries...)
}

func (s *editStore) SaveVault(ctx context.Context, rec record.Vault, entries ...chain.Entry) (record.Vault, error) {
	if entries[0].Event == s.event {
		entries = slices.Clone(entries)
		entries[0].Fields = maps.Clone(entries[0].Fields)
		s.entry(&entries[0])
	}
	return s.store.SaveVault(ctx, rec, entries...)
}

// droppedStore confirms one kind of save, and does not keep it.
func droppedStore(event chain.Event) breaks {
	return everyStore(func(s *store) rotate.Store { return &dropStore{s, event} })
}

type dropStore struct {
	*store
	event chain.Event
}

func (s *dropStore) Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error) {
	if entries[0].Event == s.event {
		return rec, nil
	}
	return s.store.Save(ctx, rec, entries...)
}

package simulate

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// store is the model store. It judges every change that it is given.
type store struct {
	w       *World
	trouble trouble
	records map[string]record.Record
	vaults  map[string]record.Vault // by URL
	// intents has every effect whose intent was saved at any time.
	intents map[intent]bool
	owed    []owing // effects without a recorded result
}

// intent is an event of the audit chain with the id that it is about.
type intent struct {
	event chain.Event
	id    key.ID // CKA_ID or attempt
	vault string // URL; "" of what concerns the HSM alone
}

func newStore(w *World) *store {
	return &store{w: w, records: map[string]record.Record{}, vaults: map[string]record.Vault{},
		intents: map[intent]bool{}}
}

func (s *store) call(op string, effect func() error) error {
	return s.w.call("store", &s.trouble, op, always, effect, nil, nil)
}

func (s *store) Load(_ context.Context, name string) (rec record.Record, err error) {
	err = s.call("Load", func() error {
		rec = s.load(name)
		return nil
	})
	return rec, err
}

func (s *store) Names(context.Context) (names []string, err error) {
	err = s.call("Names", func() error {
		names = slices.Sorted(maps.Keys(s.records))
		return nil
	})
	return names, err
}

func (s *store) load(name string) record.Record {
	rec, ok := s.records[name]
	if !ok {
		return record.Record{Key: name, Schema: record.SchemaVersion}
	}
	return rec.Clone()
}

func (s *store) Save(_ context.Context, rec record.Record, entries ...chain.Entry) (out record.Record, err error) {
	s.judgeEntries(rec, entries)
	err = s.call("Save "+string(entries[0].Event), func() error {
		if err := s.unchanged(rec); err != nil {
			return err
		}
		out = s.put(rec, entries)
		return nil
	})
	if err == nil {
		s.w.standStill(entries[0].Event)
	}
	return out, err
}

// SaveTogether saves several records, or none.
func (s *store) SaveTogether(_ context.Context, recs []record.Record, entries [][]chain.Entry) error {
	for i, rec := range recs {
		s.judgeEntries(rec, entries[i])
	}
	return s.call("SaveTogether "+string(entries[0][0].Event), func() error {
		for _, rec := range recs {
			if err := s.unchanged(rec); err != nil {
				return err
			}
		}
		for i, rec := range recs {
			s.put(rec, entries[i])
		}
		return nil
	})
}

func (s *store) judgeEntries(rec record.Record, entries []chain.Entry) {
	if len(entries) == 0 || entries[0].Event == "" || entries[0].Actor == "" || entries[0].Time.IsZero() {
		s.w.violate("the record of %s is changed without an audit entry that says what, when and by whom", rec.Key)
	}
}

func (s *store) unchanged(rec record.Record) error {
	if s.records[rec.Key].Revision != rec.Revision {
		return failed(key.Retry, "model: the record of %s was changed meanwhile", rec.Key)
	}
	return nil
}

func (s *store) put(rec record.Record, entries []chain.Entry) record.Record {
	rec.Revision++
	s.keep(s.copy(rec), entries)
	return rec
}

// keep replaces a record by one that was saved, judges the change, and notes what its entries say.
func (s *store) keep(saved record.Record, entries []chain.Entry) {
	was := s.records[saved.Key]
	s.w.judgeChange(was, saved, entries)
	s.records[saved.Key] = saved
	if s.w.opts.Saved != nil {
		s.w.opts.Saved(saved.Clone(), entries)
	}
	for _, e := range entries {
		for _, id := range []string{e.Fields["id"], e.Fields["attempt"]} {
			s.intend(intent{e.Event, key.ID(id), e.Fields["vault"]})
		}
		s.crossOff(e, &saved)
	}
}

func (s *store) LoadVault(_ context.Context, url string) (rec record.Vault, err error) {
	err = s.call("LoadVault", func() error {
		var ok bool
		if rec, ok = s.vaults[url]; !ok {
			rec = record.Vault{URL: url, Schema: record.SchemaVersion}
		}
		rec = rec.Clone()
		return nil
	})
	return rec, err
}

func (s *store) SaveVault(_ context.Context, rec record.Vault, entries ...chain.Entry) (out record.Vault, err error) {
	if len(entries) == 0 || entries[0].Event == "" || entries[0].Actor == "" || entries[0].Time.IsZero() {
		s.w.violate("the record of %s is changed without an audit entry that says what, when and by whom", rec.URL)
	}
	err = s.call("SaveVault "+string(entries[0].Event), func() error {
		was := s.vaults[rec.URL]
		if was.Revision != rec.Revision {
			return failed(key.Retry, "model: the record of %s was changed meanwhile", rec.URL)
		}
		rec.Revision++
		s.keepVault(rec, entries)
		out = rec
		return nil
	})
	if err == nil {
		s.w.standStill(entries[0].Event)
	}
	return out, err
}

// keepVault is keep for the record of a vault.
func (s *store) keepVault(rec record.Vault, entries []chain.Entry) {
	was := s.vaults[rec.URL]
	s.w.judgeVaultRecord(was, rec, entries[0].Event)
	if was.Request == nil && rec.Request != nil {
		s.w.vault(rec.URL).wanted++ // also when the answer is lost, or its reader dies
	}
	s.vaults[rec.URL] = rec.Clone()
	for _, e := range entries {
		s.intend(intent{e.Event, key.ID(e.Fields["attempt"]), rec.URL})
		s.crossOffVault(e)
	}
}

func (s *store) intend(of intent) {
	s.intents[of] = true
	s.w.stills.at[of] = s.w.now
	s.w.hosts.intended(of)
}

// copy copies a record through JSON, as the real store does, one time in eight. It takes
// longer than all the rest.
func (s *store) copy(rec record.Record) record.Record {
	if s.w.plain || !s.w.chance(8) {
		return rec.Clone()
	}
	b, err := json.Marshal(rec)
	if err != nil {
		panic(err)
	}
	var out record.Record
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	out.Revision = rec.Revision
	return out
}

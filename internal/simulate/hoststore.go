package simulate

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
	"github.com/keyd-project/keyd/internal/term"
)

// open opens the real shared store of a host on the engine.
func (h *host) open() (err error) {
	h.directly(func() {
		h.store, err = shared.Open(context.Background(), h.wire, shared.Options{Dir: h.disk, Host: h.d.name,
			Now: h.d.clock, CallTime: time.Hour, Flush: func(*os.File) error { return nil },
			Pause: func(context.Context, time.Duration) { h.hs.w.pass(time.Second) }})
	})
	return err
}

// directly makes calls of the engine between two steps: they fail only while the engine is out of order or cut off.
func (h *host) directly(f func()) {
	w := h.hs.w
	defer h.uses()()
	was, acting := h.hs.direct, w.acting
	h.hs.direct, w.acting = true, h.d
	defer func() { h.hs.direct, w.acting = was, acting }()
	f()
}

// The host is the store of its daemon. A refused epoch ends its term.

// uses begins a call of the store, in the middle of which the process does nothing else; done ends it.
func (h *host) uses() (done func()) {
	run := h.runs
	h.busy++
	return func() {
		if h.runs == run {
			h.busy--
		}
	}
}

// calls is uses for what the daemon's loop calls, unless its process was ended: the store is the next one's.
func (h *host) calls() (done func()) {
	h.hs.w.alive()
	return h.uses()
}

func (h *host) Load(ctx context.Context, name string) (record.Record, error) {
	defer h.calls()()
	return h.store.Load(ctx, name)
}

func (h *host) Names(ctx context.Context) ([]string, error) {
	defer h.calls()()
	return h.store.Names(ctx)
}

func (h *host) LoadVault(ctx context.Context, url string) (record.Vault, error) {
	defer h.calls()()
	return h.store.LoadVault(ctx, url)
}

func (h *host) Save(ctx context.Context, r record.Record, entries ...chain.Entry) (record.Record, error) {
	h.hs.w.store.judgeEntries(r, entries)
	defer h.calls()()
	h.saving = []record.Record{r}
	if strings.HasSuffix(string(entries[0].Event), "intended") && h.hs.oneIn(25) {
		h.hs.lag(time.Minute) // which loses the intent of an effect that is about to begin
	}
	lost := h.hs.w.result.Lost
	r, err := h.store.Save(ctx, r, entries...)
	h.judgeAsked(err, entries)
	if err == nil && lost == h.hs.w.result.Lost {
		h.judgeOwn(r.Key, r.Revision, entries)
	}
	return r, h.refused(ctx, err)
}

func (h *host) SaveTogether(ctx context.Context, recs []record.Record, entries [][]chain.Entry) error {
	defer h.calls()()
	h.saving = recs
	err := h.store.SaveTogether(ctx, recs, entries)
	h.judgeAsked(err, slices.Concat(entries...))
	return h.refused(ctx, err)
}

func (h *host) SaveVault(ctx context.Context, r record.Vault, entries ...chain.Entry) (record.Vault, error) {
	defer h.calls()()
	r, err := h.store.SaveVault(ctx, r, entries...)
	h.judgeAsked(err, entries)
	return r, h.refused(ctx, err)
}

func (h *host) refused(ctx context.Context, err error) error {
	if e, ok := term.Of(ctx); ok && errors.Is(err, stored.ErrEpoch) {
		h.lose(e, "the store refuses its epoch")
	}
	return err
}

// wire is the engine as one host reaches it.
type wire struct{ h *host }

var _ stored.Engine = (*wire)(nil)

func (e *wire) Name() string { return "the model store" }

func (e *wire) Close() error { return nil }

// call makes a call of the engine, as it is at that moment.
func (e *wire) call(op string, writes bool, f func(m *storetest.Memory) error) error {
	hs := e.h.hs
	w := hs.w
	var refused error
	do := func() error {
		refused = f(hs.engine)
		return nil
	}
	var err error
	switch down := w.now.Before(w.store.trouble.until) && !w.calm; {
	case hs.unreachable("store") != nil:
		err = hs.unreachable("store")
	case hs.direct && down:
		err = failed(key.Retry, "model: the store is out of order")
	case hs.direct:
		err = do()
	default:
		w.alive()
		err = w.call("store", &w.store.trouble, op, always, do, nil, nil)
		w.alive()
	}
	if err == nil {
		return refused
	}
	return &stored.EngineError{Engine: "model", Doing: op, Err: err,
		Ambiguous: writes && key.ClassOf(err) == key.Ambiguous}
}

func (e *wire) Tip(ctx context.Context) (at stored.Tip, err error) {
	err = e.call("Tip", false, func(m *storetest.Memory) (err error) { at, err = m.Tip(ctx); return err })
	return at, err
}

func (e *wire) Record(ctx context.Context, name string) (value []byte, at stored.Tip, err error) {
	err = e.call("Record", false, func(m *storetest.Memory) (err error) {
		value, at, err = m.Record(ctx, name)
		return err
	})
	return value, at, err
}

func (e *wire) Heads(ctx context.Context) (heads map[string]stored.Head, at stored.Tip, err error) {
	err = e.call("Heads", false, func(m *storetest.Memory) (err error) { heads, at, err = m.Heads(ctx); return err })
	return heads, at, err
}

func (e *wire) Entries(ctx context.Context, from uint64, limit int) (found []chain.Linked, err error) {
	err = e.call("Entries", false, func(m *storetest.Memory) (err error) {
		found, err = m.Entries(ctx, from, limit)
		return err
	})
	if e.h.hs.byNumber && limit == 1 && len(found) == 1 && found[0].Seq == e.h.doubt.Seq {
		found[0] = e.h.doubt
	}
	return found, err
}

func (e *wire) Commit(ctx context.Context, c stored.Change) error {
	err := e.call("Commit "+string(c.Entries[0].Event), true, func(m *storetest.Memory) error {
		made := c
		if amend := e.h.hs.amend; amend != nil {
			made = amend(c)
		}
		err := m.Commit(ctx, made)
		if err == nil {
			e.h.hs.committed(e.h, c)
		}
		return err
	})
	if err == nil {
		e.h.sees(c)
	}
	if key.ClassOf(err) == key.Ambiguous {
		e.h.doubt = c.Entries[len(c.Entries)-1]
		if e.h.hs.oneIn(2) {
			e.h.hs.rival()
		}
	}
	return err
}

// rival has an operator ask for something on another host, so that another entry takes the place of a lost one.
func (hs *hosts) rival() {
	w := hs.w
	if w.overtaking || w.calm || hs.direct {
		return
	}
	w.overtaking = true
	was := w.acting
	defer func() { w.overtaking, w.acting = false, was }()
	w.requestRotation(w.keys[hs.rnd.IntN(len(w.keys))], false)
}

func (e *wire) Blob(ctx context.Context, name string) (value []byte, err error) {
	err = e.call("Blob", false, func(m *storetest.Memory) (err error) { value, err = m.Blob(ctx, name); return err })
	return value, err
}

func (e *wire) Blobs(ctx context.Context, prefix string) (names []string, err error) {
	err = e.call("Blobs", false, func(m *storetest.Memory) (err error) {
		names, err = m.Blobs(ctx, prefix)
		return err
	})
	return names, err
}

func (e *wire) PutBlob(ctx context.Context, b stored.Blob) error {
	return e.call("PutBlob", true, func(m *storetest.Memory) error {
		err := m.PutBlob(ctx, b)
		if hs := e.h.hs; err == nil && b.Name == "halt" {
			hs.halted = time.Time{}
			if len(b.Value) > 0 {
				hs.halted = hs.w.now
				hs.w.log("all hosts are stopped: %s", b.Value)
			}
		}
		return err
	})
}

func (e *wire) Lease(ctx context.Context) (l stored.Lease, err error) {
	err = e.call("Lease", false, func(m *storetest.Memory) (err error) { l, err = m.Lease(ctx); return err })
	return l, err
}

func (e *wire) Take(
	ctx context.Context, holder string, nonce [16]byte, ttl time.Duration,
) (l stored.Lease, err error) {
	err = e.call("Take", true, func(m *storetest.Memory) (err error) {
		was, _ := m.Lease(ctx)
		if l, err = m.Take(ctx, holder, nonce, ttl); err == nil {
			e.h.hs.ends(was)
		}
		return err
	})
	return l, err
}

func (e *wire) Renew(ctx context.Context, epoch term.Epoch, ttl time.Duration) (l stored.Lease, err error) {
	err = e.call(
		"Renew",
		true,
		func(m *storetest.Memory) (err error) { l, err = m.Renew(ctx, epoch, ttl); return err },
	)
	return l, err
}

func (e *wire) Release(ctx context.Context, epoch term.Epoch) error {
	return e.call("Release", true, func(m *storetest.Memory) error {
		was, _ := m.Lease(ctx)
		err := m.Release(ctx, epoch)
		if err == nil && was.Epoch == epoch {
			e.h.hs.ends(was)
		}
		return err
	})
}

func (e *wire) Seal(context.Context, string) error { return errors.ErrUnsupported }

func (e *wire) Sealed(context.Context) (string, error) { return "", nil }

func (e *wire) Warnings(context.Context) ([]string, error) { return nil, nil }

// committed has the model store, which the judges know, follow the engine.
func (hs *hosts) committed(h *host, c stored.Change) {
	hs.judgeCommit(h, c)
	s := hs.w.store
	for _, changed := range c.Records {
		var entries []chain.Entry
		for _, l := range c.Entries {
			if l.Key == changed.Name {
				entries = append(entries, l.Entry)
			}
		}
		r, err := stored.ParseRecord(changed.Name, changed.Value)
		if err != nil {
			hs.w.violate("the record of %s is not what a store writes: %v", changed.Name, err)
		}
		if stored.IsVault(changed.Name) {
			var rec record.Vault
			decode(r, &rec)
			rec.Revision = r.Revision
			s.keepVault(rec, entries)
			continue
		}
		rec := h.decoded(changed.Name, r)
		rec.Revision = r.Revision
		s.keep(rec, entries)
	}
}

// decoded is the record in what is saved. Seven times in eight it is the one that the daemon gave to the store: to
// decode it takes longer than all the rest.
func (h *host) decoded(name string, r stored.Record) (rec record.Record) {
	for _, given := range h.saving {
		if given.Key == name && !h.hs.oneIn(8) {
			return given.Clone()
		}
	}
	decode(r, &rec)
	return rec
}

func decode(r stored.Record, rec any) {
	if err := json.Unmarshal(r.Body, rec); err != nil {
		panic(err)
	}
}

package simulate

import (
	"context"
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

var brokenHosts = []breakage{
	{
		name:   "saves have no epoch",
		caught: `^\S+ saves ".*" under epoch \S+, and \S+ is in force$`,
		breaks: breached(func(hs *hosts) {
			hs.amend = func(c stored.Change) stored.Change { c.Epoch = nil; return c }
		}),
	},
	{
		name:   "an epoch counts by its number alone",
		caught: `^\S+ saves ".*" under epoch (\d+)-\S+, and (\d+)-\S+ is in force$`,
		breaks: breached(func(hs *hosts) {
			hs.amend = func(c stored.Change) stored.Change {
				l, _ := hs.engine.Lease(context.Background())
				if c.Epoch != nil && c.Epoch.Number == l.Epoch.Number {
					c.Epoch = &l.Epoch
				}
				return c
			}
		}),
		world: knobs(func(hs *hosts) { hs.doze = true }),
	},
	{
		name:   "a host takes a lost save for its own by its number",
		first:  24,
		caught: `^forked: \S+ takes entry \d+ for its own ".*", and the chain has another$`,
		breaks: breached(func(hs *hosts) { hs.byNumber = true }),
	},
	{
		name:   "keyd trusts its lease, and checks no deadline",
		first:  2,
		caught: `^\S+ begins .* (after its deadline|after its save without leading)$`,
		breaks: unchecked,
	},
	{
		name:   "a successor does not wait for an open import",
		first:  3,
		caught: `is given up \S+ after it was intended, before its settle time was over$`,
		breaks: func(_ *World, c Parts) Parts {
			c.Store = &rashStore{c.Store, map[key.ID]bool{}}
			return c
		},
	},
	{
		name:  "a leader trusts the inventory that it read in an earlier term",
		first: 3,
		caught: `^(C_GenerateKeyPair is called a second time for CKA_ID|` +
			`doubled: the whole pair of \S+ under \w+ is given up, and another is made)`,
		breaks: staleInventory(),
	},
	{
		name:   "a leader without an HSM does not hand over",
		caught: `^(the rotation of \S+ is overdue|\S+ has no finished generation|\S+ is still held|\S+ has a request)`,
		breaks: breached(func(hs *hosts) { hs.proud = true }),
	},
	{
		name:   "a consent stands although the store lost changes",
		first:  17,
		caught: `is disabled, and no consent of an operator to the rule stands$`,
		breaks: breached(func(hs *hosts) { hs.credulous = true }),
		world:  retiringWorld,
	},
	{
		name:   "a host accepts by itself a store that lost what it saw",
		first:  2,
		caught: `^\S+ (saves ".*"|begins .*), and its store lost what it saw$`,
		breaks: breached(func(hs *hosts) { hs.trusting = true }),
	},
	{
		name:   "nobody undoes a disabling that comes late",
		first:  2,
		caught: `^version \w+ of \S+ in \S+ was disabled late, and nobody undid it$`,
		breaks: everyVault(func(w *World, v Vault) Vault { return &deafVault{v, v.(*vault)} }),
		world:  lingering,
	},
}

func TestABrokenHostIsCaught(t *testing.T) {
	const enough = 40
	primes := NewPrimes()
	for _, b := range brokenHosts {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			caught, others := regexp.MustCompile(b.caught), map[string]int{}
			for n := range uint64(enough) {
				seed := 1 + (max(b.first, 1)-1+n)%enough
				opts := b.options(true)
				opts.OneHost, opts.SeveralHosts = false, true
				r := primes.Run(seed, opts)
				if !caught.MatchString(r.Failure) {
					others[r.Failure]++
					continue
				}
				t.Logf("seed %d: %s", seed, r.Failure)
				opts = b.options(false)
				opts.OneHost, opts.SeveralHosts = false, true
				if r := primes.Run(seed, opts); r.Failure != "" {
					t.Errorf("seed %d: sound hosts fail, too: %s", seed, r.Failure)
				}
				return
			}
			t.Errorf("not caught by %d seeds; other failures: %s", enough, fmt.Sprint(others))
		})
	}
}

// breached breaks the hosts themselves.
func breached(set func(*hosts)) breaks {
	return func(w *World, c Parts) Parts {
		set(w.hosts)
		return c
	}
}

// knobs is breached for what sound hosts must bear.
func knobs(set func(*hosts)) func(*World) { return func(w *World) { set(w.hosts) } }

// unchecked has every effect look as if its intent had just been saved.
func unchecked(w *World, c Parts) Parts {
	c = everyVault(func(w *World, v Vault) Vault { return &uncheckedVault{v, w} })(w, c)
	return everyHSM(func(w *World, h HSM) HSM { return &uncheckedHSM{h, w} })(w, c)
}

func timeless(ctx context.Context) context.Context {
	now := term.Instant{Wall: time.Unix(0, 0)}
	return term.WithEffect(ctx, term.Effect{Saved: now, Deadline: now.Add(time.Hour),
		Clock: func() term.Instant { return now }})
}

type uncheckedVault struct {
	Vault
	w *World
}

func (v *uncheckedVault) Import(ctx context.Context, r key.ImportRequest) (key.Version, error) {
	return v.Vault.Import(timeless(ctx), r)
}

type uncheckedHSM struct {
	HSM
	w *World
}

func (h *uncheckedHSM) Generate(
	ctx context.Context, id key.ID, name string, number int, spec key.Spec, known key.ID,
) error {
	return h.HSM.Generate(timeless(ctx), id, name, number, spec, known)
}

func (h *uncheckedHSM) WrapFor(ctx context.Context, id key.ID, kek key.KEK) ([]byte, error) {
	return h.HSM.WrapFor(timeless(ctx), id, kek)
}

// rashStore shows an import that another process began as if its deadline were long over.
type rashStore struct {
	rotate.Store
	own map[key.ID]bool
}

func (s *rashStore) Save(ctx context.Context, r record.Record, entries ...chain.Entry) (record.Record, error) {
	eachIn(&r, key.Intended, func(p *record.Placement) { s.own[p.Attempt] = s.own[p.Attempt] || p.Version == "" })
	return s.Store.Save(ctx, r, entries...)
}

func (s *rashStore) Load(ctx context.Context, name string) (record.Record, error) {
	r, err := s.Store.Load(ctx, name)
	r = r.Clone()
	eachIn(&r, key.Intended, func(p *record.Placement) {
		if !s.own[p.Attempt] {
			p.Deadline, p.VaultAt = p.Deadline.Add(-15*time.Minute), time.Time{}
		}
	})
	return r, err
}

// staleInventory has each host know of its own pairs only, besides those that it saw at first.
func staleInventory() breaks {
	known := map[*daemon]*staleHSM{}
	return func(w *World, c Parts) Parts {
		h := c.Store.(*host)
		if known[h.d] == nil {
			known[h.d] = &staleHSM{own: map[key.ID]bool{}}
		}
		known[h.d].HSM = c.HSM
		c.HSM = known[h.d]
		return c
	}
}

type staleHSM struct {
	HSM
	own  map[key.ID]bool
	seen []key.Object
}

func (h *staleHSM) Generate(
	ctx context.Context, id key.ID, name string, number int, spec key.Spec, known key.ID,
) error {
	h.own[id] = true
	return h.HSM.Generate(ctx, id, name, number, spec, known)
}

func (h *staleHSM) Inventory(ctx context.Context) (out []key.Object, err error) {
	all, err := h.HSM.Inventory(ctx)
	if h.seen == nil {
		h.seen = all
	}
	for _, o := range all {
		if h.has(o.ID) {
			out = append(out, o)
		}
	}
	return out, err
}

func (h *staleHSM) has(id key.ID) bool {
	for _, o := range h.seen {
		if o.ID == id {
			return true
		}
	}
	return h.own[id]
}

func (h *staleHSM) Find(ctx context.Context, id key.ID) ([]key.Object, error) {
	if !h.has(id) {
		return nil, nil
	}
	return h.HSM.Find(ctx, id)
}

func (h *staleHSM) Opens(ctx context.Context, id key.ID, c []byte, sum [sha256.Size]byte) (bool, error) {
	return h.HSM.Opens(ctx, id, c, sum)
}

// deafVault shows what keyd disabled as enabled.
type deafVault struct {
	Vault
	truth *vault
}

func (v *deafVault) Versions(ctx context.Context, name string) ([]key.Version, error) {
	versions, err := v.Vault.Versions(ctx, name)
	for i := range versions {
		if x := v.truth.byID(name, versions[i].ID); x != nil && x.retired {
			versions[i].Enabled = true
		}
	}
	return versions, err
}

// lingering has the first disabling land 40 minutes after its check. Nobody consents to another one.
func lingering(w *World) {
	hs := w.hosts
	if hs.linger != nil {
		return
	}
	w.inhabited, hs.lease = true, 5*time.Minute
	for _, d := range w.daemons {
		d.look = 5 * time.Minute
	}
	for _, k := range w.keys {
		k.home.Retire = key.RetireRule{DisableAfter: time.Hour, NoConsumers: true, Pause: time.Hour}
		k.home.Consumers, k.home.Discover, k.home.Workspaces = nil, false, nil
		k.policy = k.home
	}
	w.resources = nil
	done := false
	hs.linger = func(what string) bool {
		if done || !strings.HasPrefix(what, "the disabling of version") {
			return false
		}
		done = true
		w.later(10*time.Second, func() {
			for _, k := range w.keys {
				k.home.Retire = key.RetireRule{NoConsumers: true}
				k.policy = k.home
			}
			w.reloadAll()
		})
		return true
	}
}

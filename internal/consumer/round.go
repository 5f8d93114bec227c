package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
)

// parallel is how many resources keyd asks at once for one key.
const parallel = 4

// round is one look at the consumers of one key or of many. It asks each resource, and searches for each vault, once.
type round struct {
	client        *Client
	subscriptions []string // to search
	at            time.Time

	lacking  lacking
	seen     memo[answer]
	searched memo[searched]
	scope    memo[scope]
}

// answer is what a resource showed.
type answer struct {
	sights []sight
	err    error
}

// searched is what a search for one vault found, and what it could not see.
type searched struct {
	found  []found
	unseen []string
}

// scope is where keyd can search: in these subscriptions, and why not in all of them.
type scope struct{ subscriptions, unseen []string }

// memo makes each value once. The zero value is ready.
type memo[V any] struct {
	mu   sync.Mutex
	made map[string]func() V
}

func (m *memo[V]) get(name string, create func() V) V {
	m.mu.Lock()
	if m.made == nil {
		m.made = map[string]func() V{}
	}
	once, ok := m.made[name]
	if !ok {
		once = sync.OnceValue(create)
		m.made[name] = once
	}
	m.mu.Unlock()
	return once()
}

// ask looks at a resource.
func (r *round) ask(ctx context.Context, id string) answer {
	return r.seen.get(strings.ToLower(id), func() answer {
		look, understood := adapters[service.TypeOf(id)]
		if !understood {
			return answer{err: errNotUnderstood}
		}
		ctx, births := withBirths(ctx)
		sights, err := look(ctx, r.client, id)
		return answer{births.give(sights), r.lacking.note(err)}
	})
}

// ErrOwnKey says that a consumer that the configuration names is under no customer-managed key.
var ErrOwnKey = errors.New("it encrypts under the service's own key")

// errNotUnderstood says that keyd has no adapter for a type of resource.
var errNotUnderstood = errors.New("keyd does not understand resources of this type, " +
	"so it counts as a user of every version")

// search finds who names a vault.
func (r *round) search(ctx context.Context, v key.Vault) searched {
	return r.searched.get(v.URL, func() searched {
		where := r.scope.get("", func() scope { return r.searchable(ctx) })
		s := searched{unseen: slices.Clone(where.unseen)}
		if len(where.subscriptions) == 0 {
			return s
		}
		var err error
		s.found, err = search(ctx, r.client, where.subscriptions, strings.TrimPrefix(v.URL, "https://"))
		if r.lacking.note(err) != nil {
			s.unseen = append(s.unseen, err.Error())
		}
		return s
	})
}

// searchable is where keyd can search.
func (r *round) searchable(ctx context.Context) (s scope) {
	if len(r.subscriptions) == 0 {
		return scope{unseen: []string{"azure.subscriptions names no subscription to search"}}
	}
	shown, err := visible(ctx, r.client)
	if r.lacking.note(err) != nil {
		return scope{unseen: []string{err.Error()}}
	}
	for _, id := range r.subscriptions {
		if !shown[strings.ToLower(id)] {
			s.unseen = append(s.unseen, fmt.Sprintf("subscription %s is not shown to keyd's identity: %s", id,
				readerCommand("/subscriptions/"+id)))
			continue
		}
		s.subscriptions = append(s.subscriptions, id)
		switch whole, err := readsAll(ctx, r.client, id); {
		case err != nil:
			s.unseen = append(s.unseen, err.Error())
		case !whole:
			s.unseen = append(s.unseen, fmt.Sprintf("keyd's identity may not read everything in subscription %s, and "+
				"a search leaves out the rest: %s", id, readerCommand("/subscriptions/"+id)))
		}
	}
	return s
}

// target is a resource to look at for a key.
type target struct {
	id         string
	configured bool
	found      *found     // by a search now
	known      *foundOnce // found earlier
	answer     answer
}

// usage looks at everybody who uses a key: those that the configuration names, those that a search finds, and those
// that one found earlier.
func (r *round) usage(ctx context.Context, p key.Policy, earlier []foundOnce) (record.Usage, []*target) {
	u := record.Usage{At: r.at}
	targets := map[string]*target{}
	at := func(id string) *target {
		t, ok := targets[strings.ToLower(id)]
		if !ok {
			t = &target{id: id}
			targets[strings.ToLower(id)] = t
		}
		return t
	}
	for _, c := range p.Consumers {
		at(c.ID).configured = true
	}
	if p.Discover {
		for _, v := range p.Vaults {
			s := r.search(ctx, v)
			for _, f := range s.found {
				at(f.id).found = &f
			}
			for _, why := range s.unseen {
				if !slices.Contains(u.Unseen, why) {
					u.Unseen = append(u.Unseen, why)
				}
			}
		}
	}
	for _, f := range earlier {
		at(f.ID).known = &f
	}
	all := sorted(targets)
	var g errgroup.Group
	g.SetLimit(parallel)
	for _, t := range all {
		g.Go(func() error { t.answer = r.ask(ctx, t.id); return nil })
	}
	_ = g.Wait() // each answer has its own error
	for _, t := range all {
		for _, c := range t.shown(p, r.at) {
			u.Consumers = add(u.Consumers, c)
		}
	}
	return u, all
}

// add adds a consumer, unless it is there already: a child may be named itself, besides its parent.
func add(all []record.ConsumerSeen, c record.ConsumerSeen) []record.ConsumerSeen {
	for i, have := range all {
		if strings.EqualFold(have.ID, c.ID) && have.Service == c.Service && have.Vault == c.Vault &&
			have.Key == c.Key && have.Asked == c.Asked && have.Uses == c.Uses && (have.Err == nil) == (c.Err == nil) {
			all[i].Configured = have.Configured || c.Configured
			return all
		}
	}
	return append(all, c)
}

func sorted(targets map[string]*target) (all []*target) {
	for _, t := range targets {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *target) int {
		return strings.Compare(strings.ToLower(a.id), strings.ToLower(b.id))
	})
	return all
}

// shown is what a resource shows of a key. What is configured always shows something: where it is set to another key,
// and nothing of it is set to this one, it shows that. Of a resource that is not configured only what concerns the key
// is shown. Of one that is configured or was found earlier, what went to the key that replaces this one is shown, too.
func (t *target) shown(p key.Policy, at time.Time) (all []record.ConsumerSeen) {
	if t.answer.err != nil {
		if !t.configured && !t.mayConcern(p, at) {
			return nil
		}
		if !t.configured && t.known != nil && isGone(t.id, t.answer.err) {
			return []record.ConsumerSeen{t.unknown(t.known.gone())}
		}
		return []record.ConsumerSeen{t.unknown(t.answer.err)}
	}
	ours := t.concerns(p)
	for i, s := range t.answer.sights {
		itself := t.configured && i == 0
		replaced := (t.configured || t.known != nil) && s.ofHeir(p)
		if !itself && !replaced && !s.concerns(p) {
			continue
		}
		c := s.shown(p)
		c.Configured = t.configured && (s.concerns(p) || replaced || !ours)
		if c.Configured && s.key == (keyRef{}) && c.Err == nil {
			c.Err = trouble(s.id, "set it to the key, or take it out of consumers: in keyd's configuration",
				"%w, and not under %s", ErrOwnKey, p.Key)
		}
		all = append(all, c)
	}
	if len(all) == 0 && t.known != nil && t.known.counts(p, at) {
		all = append(all, t.unknown(t.known.left()))
	}
	return all
}

// mayConcern reports whether a resource that keyd cannot see may use a policy's key.
func (t *target) mayConcern(p key.Policy, at time.Time) bool {
	if t.found != nil && t.found.mentions(p.Key) {
		return true
	}
	return t.known != nil && (!isGone(t.id, t.answer.err) || t.known.counts(p, at))
}

// concerns reports whether anything of the resource is set to a policy's key.
func (t *target) concerns(p key.Policy) bool {
	return slices.ContainsFunc(t.answer.sights, func(s sight) bool { return s.concerns(p) })
}

// hidden reports whether a resource that may use a policy's key is there, and cannot be seen.
func (t *target) hidden(p key.Policy, at time.Time) bool {
	return t.answer.err != nil && t.mayConcern(p, at) && (t.known == nil || !isGone(t.id, t.answer.err))
}

// unknown is a consumer of which keyd does not know what it uses.
func (t *target) unknown(err error) record.ConsumerSeen {
	name := service.TypeOf(t.id)
	if s, ok := service.Of(t.id); ok {
		name = s.Name
	}
	if errors.Is(err, errNotUnderstood) && !t.configured {
		err = fmt.Errorf("found, not understood: %w", err)
	}
	return record.ConsumerSeen{ID: t.id, Service: name, Configured: t.configured, Err: err}
}

// isGone reports whether Resource Manager itself said that there is no resource with an id. It also answers 404 where
// it does not know the form that keyd asks for, and where a part of the resource or another resource is not there.
func isGone(id string, err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Status != http.StatusNotFound || e.part || !strings.EqualFold(e.ID, id) {
		return false
	}
	return slices.ContainsFunc([]string{"ResourceNotFound", "ResourceGroupNotFound", "NotFound"}, func(c string) bool {
		return strings.EqualFold(c, e.Code)
	})
}

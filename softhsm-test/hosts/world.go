package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/status"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
	"github.com/keyd-project/keyd/softhsm-test/fasttime"
)

// patience is the time limit for a condition on a busy machine, and tick how often it is looked at.
const (
	patience = 10 * time.Minute
	tick     = 50 * time.Millisecond
)

var vaultNames = map[string]string{"weu": "contoso-weu.vault.azure.net", "neu": "contoso-neu.vault.azure.net"}

const kekName = "keyd-kek"

// world is three hosts with one store, one token and one Azure.
type world struct {
	ctx      context.Context
	dir      string
	keyd     string // the program
	net      *network
	token    *softhsmtest.Token
	azure    *emulator.Emulator
	proxy    *toxiproxy.Proxy // between the hosts and Azure
	name     string           // of the engine
	engine   engine
	hosts    []*host
	clock    atomic.Pointer[fasttime.Clock]
	keys     []string
	most     int                 // keys of the story about many
	rotating int                 // keys that rotate in other stories, in turn
	turn     int                 // the one that rotates next
	pins     map[string][]string // of each vault
	policies map[string]string   // what the configuration says of a key, where it is not what it says of most
	replaced int                 // keys that others have replaced
	wanted   map[string]int      // how many generations each key must have
	seen     uint64              // calls to Azure that were judged already
}

func newWorld(ctx context.Context, work string, number int, engine string, o options) (w *world, err error) {
	w = &world{ctx: ctx, name: engine, dir: filepath.Join(work, engine[:1]), keyd: o.keyd, most: o.keys,
		pins: map[string][]string{}, policies: map[string]string{}, wanted: map[string]int{}}
	w.clock.Store(&fasttime.Clock{Since: time.Now(), Factor: o.factor})
	if o.sample {
		w.most = 12
	}
	w.rotating = 6
	if o.demo {
		w.rotating = 1
	}
	for i := range w.rotating {
		w.keys = append(w.keys, fmt.Sprint("key-", i+1))
	}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		return w, err
	}
	if w.net, err = newNetwork(number); err != nil {
		return w, err
	}
	if err := w.makeAzure(); err != nil {
		return w, err
	}
	tokens := w.path("hsm")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		return w, err
	}
	if w.token, err = softhsmtest.Create(tokens, "keyd-hosts", "12345678"); err != nil {
		return w, err
	}
	// A typed nil would be an engine.
	if engine == "postgres" {
		p, err := newPostgres(w.dir, w.net.here(storeLAN))
		if w.engine = p; err != nil {
			return w, err
		}
	} else {
		e, err := newEtcd(w.dir, w.net.here(storeLAN))
		if w.engine = e; err != nil {
			return w, err
		}
	}
	return w, w.makeHosts()
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// reload has hosts read their configuration.
func (w *world) reload(hosts ...*host) error {
	for _, h := range hosts {
		if _, err := h.command("reload", "--socket", h.path("keyd.sock")); err != nil {
			return err
		}
	}
	return nil
}

// eventually waits until a condition holds.
func (w *world) eventually(what string, cond func() bool) error {
	return eventually(what, func() (bool, error) { return cond(), w.ctx.Err() })
}

func eventually(what string, cond func() (bool, error)) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(tick) {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %s", what, patience)
		}
	}
}

// leader is the host that leads, with what it shows; nil if none says so now.
func (w *world) leader() (*host, status.Snapshot) {
	for _, h := range w.hosts {
		if s, err := h.look(); err == nil && s.Hosts != nil && s.Hosts.Leads() {
			return h, s
		}
	}
	return nil, status.Snapshot{}
}

// leaderLast are the hosts, the followers first.
func (w *world) leaderLast() []*host {
	l, _ := w.leader()
	order := slices.DeleteFunc(slices.Clone(w.hosts), func(h *host) bool { return h == l })
	if l != nil {
		order = append(order, l)
	}
	return order
}

// awaitLeader waits until a host leads, other than those.
func (w *world) awaitLeader(except ...*host) (l *host, err error) {
	err = w.eventually("another host leads", func() bool {
		l, _ = w.leader()
		return l != nil && !slices.Contains(except, l)
	})
	return l, err
}

// arm has the next process that passes the point die there; with "stop " before it, stand still. Whoever leads passes
// those of a rotation.
func (w *world) arm(point string) error {
	return replace(w.path("kill"), point)
}

// struck waits until a host is in the state in which the kill point leaves it.
func (w *world) struck(point string, state func(*host) bool) (h *host, err error) {
	err = w.eventually("the leader passes "+point, func() bool {
		i := slices.IndexFunc(w.hosts, state)
		if i >= 0 {
			h = w.hosts[i]
		}
		return h != nil
	})
	return h, err
}

// rotate asks a host for the rotation of the keys. A request of which it is not known whether it was taken may be
// repeated: then the two are one.
func (w *world) rotate(keys ...string) error {
	before, why := map[string]int{}, ""
	err := w.eventually("a host takes the request", func() bool {
		why = ""
		for _, h := range w.hosts {
			s, err := h.look()
			if err != nil {
				why += "\nhost " + h.name + ": " + err.Error()
				continue
			}
			for _, k := range keys {
				if now, ok := s.Key(k); ok && before[k] == 0 {
					before[k] = finished(now)
				}
			}
			ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
			_, err = h.client().Rotate(ctx, control.RotateOptions{Keys: keys, Reason: "a test of several hosts"})
			cancel()
			if err == nil {
				return true
			}
			why += "\nhost " + h.name + ": " + err.Error()
		}
		return false
	})
	if err != nil {
		err = fmt.Errorf("%w: %s", err, why)
	}
	for _, k := range keys {
		w.wanted[k] = max(w.wanted[k], before[k]+1)
	}
	return err
}

// finished counts the generations that are. One that is under way may be the answer to another request, too.
func finished(k status.Key) (n int) {
	for _, g := range k.Generations {
		if !g.Finished.IsZero() {
			n++
		}
	}
	return n
}

// next is a key that rotates in a story.
func (w *world) next() string {
	w.turn++
	return w.keys[w.turn%w.rotating]
}

// settle waits until every rotation that was asked for is done.
func (w *world) settle() error {
	why := "no host leads"
	err := w.eventually("every rotation is done", func() bool {
		l, s := w.leader()
		switch {
		case w.ctx.Err() != nil:
		case l == nil:
			why = "no host leads"
		default:
			why = w.undone(s)
		}
		return why == ""
	})
	if err != nil {
		err = fmt.Errorf("%w: %s", err, why)
	}
	return err
}

// undone says which rotation is not done; "": all are.
func (w *world) undone(s status.Snapshot) string {
	for _, name := range w.keys {
		if k, ok := s.Key(name); !ok || k.Retained {
			return "the leader does not have key " + name
		}
	}
	for _, k := range s.Keys {
		n := len(k.Generations)
		if n < w.wanted[k.Name] || len(k.Requests) > 0 || k.Generations[n-1].Finished.IsZero() ||
			k.State != status.StateOK && k.State != status.StateRetained {
			return fmt.Sprintf("%s has %d generations of %d, %d requests, state %s; %s %s %s", k.Name, n,
				w.wanted[k.Name], len(k.Requests), k.State, k.Doing, k.Waiting, k.Error)
		}
	}
	return ""
}

// calm undoes what a story did to the hosts.
func (w *world) calm() (err error) {
	for _, h := range w.hosts {
		err = errors.Join(err, w.net.heal(h.name))
		if !h.runs() {
			err = errors.Join(err, h.start())
		}
	}
	return err
}

// explain is the end of each host's log.
func (w *world) explain() string {
	var b strings.Builder
	for _, h := range w.hosts {
		text, _ := os.ReadFile(h.path("keyd.log"))
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Fprintf(
			&b,
			"the end of the log of host %s:\n%s\n",
			h.name,
			strings.Join(lines[max(0, len(lines)-25):], "\n"),
		)
	}
	return b.String()
}

func (w *world) close() (err error) {
	for _, h := range w.hosts {
		if h.runs() {
			h.kill()
		}
	}
	if w.engine != nil {
		err = w.engine.close()
	}
	if w.proxy != nil {
		w.proxy.Stop()
	}
	if w.azure != nil {
		if escapes := w.azure.Escapes(); len(escapes) > 0 {
			err = errors.Join(err, fmt.Errorf("calls would have left the machine: %v", escapes))
		}
		err = errors.Join(err, w.azure.Close())
	}
	return err
}

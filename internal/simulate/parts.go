package simulate

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/observe"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

// HSM is all that a daemon needs of its HSM side.
type HSM interface {
	rotate.HSM
	observe.HSM
}

// Vault is all that a daemon needs of a vault.
type Vault interface {
	rotate.Vault
	observe.Vault
}

// Parts are what a daemon is built from. Tests of the simulator break them.
type Parts struct {
	HSM    HSM
	Vaults func(url string) Vault
	Store  rotate.Store
	Emit   func(status.Event)
	Seal   func(context.Context) error
	// Consumers looks at those who use the keys.
	Consumers observe.Consumers
	Repoint   func(context.Context, rotate.Move) error
	// Clock and Boot are the clocks by which the loop acts.
	Clock func() time.Time
	Boot  func() time.Duration
}

// build makes the daemon from its parts.
func (d *daemon) build(p Parts) {
	d.consumers = p.Consumers
	d.observer = observe.New(observe.Config{Instance: instance, HSM: p.HSM, Records: p.Store, Clock: d.clock,
		Slow: d.look, Consumers: p.Consumers,
		Vaults: func(url string) observe.Vault {
			if v := p.Vaults(url); v != nil {
				return v
			}
			return nil
		}})
	c := rotate.Config{
		Instance: instance, Generator: "keyd simulated", HSM: p.HSM, Store: p.Store, Observer: d.observer,
		Vaults: func(url string) rotate.Vault {
			if v := p.Vaults(url); v != nil {
				return v
			}
			return nil
		},
		Clock: p.Clock, Boot: p.Boot, Random: d.w, Look: d.look, Emit: p.Emit, Seal: p.Seal, Repoint: p.Repoint,
		Policy: func(name string) (key.Policy, bool) { return d.shell.Policy(name) },
	}
	if d.host != nil {
		c.Prove = d.host.prove
	}
	d.r = rotate.New(c)
}

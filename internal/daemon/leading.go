package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/leader"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/term"
)

// A daemon has two lives. While it leads, it does all that acts or proves; a term of it begins as a process does. While
// it follows, it shows what the leader published, and takes requests into the records.

// makeElector makes what decides whether this host leads. From here on the store is watched for a term that is over.
func (d *Daemon) makeElector() {
	_, d.alone = d.store.(*bolt.Store)
	d.shared, _ = d.store.(*shared.Store)
	d.hosts.reported = leader.Report{Host: d.host, Run: rand.Text()}
	d.elector = leader.New(leader.Config{
		Store: d.store, Host: d.host, TTL: d.lease, Boot: term.Boottime, Random: rand.Reader, May: d.mayLead,
		Changed: d.leaderChanged, Logger: d.log,
	})
	d.store = ledStore{d.store, d.elector.Refused}
}

// otherHosts is what the keeper needs to know of other hosts with the same token; nil: there are none.
func (d *Daemon) otherHosts(cfg *config.Config) *audit.Hosts {
	if d.alone {
		return nil
	}
	return &audit.Hosts{Generate: cfg.HSM.GenerateTimeout, Prove: d.elector.Prove}
}

// hostName is this host's name among those of the instance.
func hostName() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "localhost"
}

// lead does what only the leader does, until its term ends.
func (d *Daemon) lead(ctx context.Context) error {
	d.recordTerm(ctx)
	d.restart(ctx)
	defer d.keepEvidence(ctx)()
	looked := make(chan struct{})
	d.loop.WhenLooked(func() {
		d.nowReady("keyd has looked at every vault")
		close(looked)
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { d.loop.Run(ctx); return nil })
	g.Go(func() error { d.keeper.Run(ctx); return nil })
	g.Go(func() error { return d.probe(ctx, looked) })
	g.Go(func() error { d.consumers.Run(ctx); return nil })
	g.Go(func() error { d.keepMetrics(ctx); return nil })
	if !d.alone {
		g.Go(func() error { d.publish(ctx); return nil })
	}
	return g.Wait()
}

// leadOnce does what is due, and ends.
func (d *Daemon) leadOnce(ctx context.Context) error {
	d.recordTerm(ctx)
	d.restart(ctx)
	defer d.keepEvidence(ctx)()
	d.loop.WhenLooked(func() { d.nowReady("keyd has looked at every vault") })
	err := d.loop.RunOnce(ctx)
	_ = d.keeper.CatchUp(ctx) // CatchUp logged it, and the next run tries again
	return err
}

// restart has a term begin as a process does: whoever led before may have changed everything. What an earlier term of
// this process saw is shown until then.
func (d *Daemon) restart(ctx context.Context) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	d.observer.Restart()
	d.loop.Restart()
	d.consumers.Restart()
	d.logs.Restart()
	if !d.alone {
		d.setPolicies(ctx)
	}
}

// recordTerm records who leads from now on. Where one host has the store to itself, its start says so already.
func (d *Daemon) recordTerm(ctx context.Context) {
	if d.alone {
		return
	}
	epoch, _ := term.Of(ctx)
	err := d.store.Append(ctx, chain.Entry{Event: chain.LeaderChanged, Actor: "keyd", Fields: map[string]string{
		"host": d.host, "epoch": epoch.String(), "version": d.opts.Version}})
	if err != nil {
		d.log.Error("who leads now could not be recorded", "error", err.Error())
	}
	if err := d.doubt(ctx); err != nil {
		d.log.Error("whether the store lost changes is not known, or consents do not end yet; keyd tries again, and "+
			"disables nothing before", "error", err.Error())
	}
}

// leads reports whether this host leads, as far as it knows.
func (d *Daemon) leads() bool { return d.elector.State().Leads }

// inCharge reports whether what this host knows is what there is to show: it leads, no other can, or none does and it
// was the last.
func (d *Daemon) inCharge() bool {
	s := d.elector.State()
	return d.alone || s.Leads || s.Known() && s.Lease.Holder == d.host && d.leader(s) == ""
}

// under has what an operator asked for done in this host's term, or says where to ask for it.
func (d *Daemon) under(ctx context.Context) (context.Context, error) {
	s := d.elector.State()
	switch {
	case s.Leads:
		return term.With(ctx, s.Lease.Epoch), nil
	case d.alone:
		return ctx, nil // the term is about to begin
	case s.Lease.Left > 0 && s.Lease.Holder != d.host:
		return ctx, &control.RefusedError{Text: "host " + s.Lease.Holder + " leads, and only the leader does this: " +
			"give the command there"}
	}
	return ctx, &control.RefusedError{
		Text: "no host leads now, and only the leader does this: try again in a minute; " +
			"keyd status says who leads",
	}
}

// headMissing reports whether a store lacks the last entry that this host saw in it.
func headMissing(s Store) bool {
	var missing *shared.HeadMissing
	return errors.As(s.Healthy(), &missing)
}

// leaderChanged hears that something changed about who leads. It must not block.
func (d *Daemon) leaderChanged() {
	select {
	case d.ledAnew <- struct{}{}:
	default:
	}
	d.touch()
}

// whileInCharge are the metrics of the instance. Only one host exports them: so a problem of a key is one problem,
// however many hosts are scraped.
type whileInCharge struct {
	*prometheus.Registry
	inCharge func() bool
}

// Collect is part of prometheus.Collector.
func (m whileInCharge) Collect(ch chan<- prometheus.Metric) {
	if m.inCharge() {
		m.Registry.Collect(ch)
	}
}

// ledStore has a term end as soon as the store refuses a write of it.
type ledStore struct {
	Store
	refused func(ctx context.Context, err error) error
}

func (s ledStore) Save(ctx context.Context, r record.Record, entries ...chain.Entry) (record.Record, error) {
	saved, err := s.Store.Save(ctx, r, entries...)
	return saved, s.refused(ctx, err)
}

func (s ledStore) SaveTogether(ctx context.Context, recs []record.Record, entries [][]chain.Entry) error {
	return s.refused(ctx, s.Store.SaveTogether(ctx, recs, entries))
}

func (s ledStore) SaveVault(ctx context.Context, r record.Vault, entries ...chain.Entry) (record.Vault, error) {
	saved, err := s.Store.SaveVault(ctx, r, entries...)
	return saved, s.refused(ctx, err)
}

func (s ledStore) SaveSettings(ctx context.Context, r record.Settings, entries, others []chain.Entry) error {
	return s.refused(ctx, s.Store.SaveSettings(ctx, r, entries, others))
}

func (s ledStore) Append(ctx context.Context, entries ...chain.Entry) error {
	return s.refused(ctx, s.Store.Append(ctx, entries...))
}

func (s ledStore) SaveLedger(ctx context.Context, name string, blob []byte) error {
	return s.refused(ctx, s.Store.SaveLedger(ctx, name, blob))
}

func (s ledStore) PutStatus(ctx context.Context, name string, blob []byte) error {
	return s.refused(ctx, s.Store.PutStatus(ctx, name, blob))
}

// Package daemon puts keyd together: it makes every room, starts them, reloads their configuration, and stops them in
// reverse order. Its rule: it is the only place that knows every room, and it decides nothing about keys.
package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/health"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/leader"
	"github.com/keyd-project/keyd/internal/login"
	"github.com/keyd-project/keyd/internal/observe"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/term"
	"github.com/keyd-project/keyd/internal/vault"
	"github.com/keyd-project/keyd/internal/web"
)

// Options are what the command line passes to the daemon.
type Options struct {
	ConfigPath string
	Version    string
	Once       bool // end as soon as nothing is due
	Logger     *slog.Logger
	// HSMCommand starts the HSM side as a child: program and arguments. The daemon does not use it if the
	// configuration names keyd-hsm's socket.
	HSMCommand []string
	Reload     <-chan struct{} // each value asks for a reload, as SIGHUP does

	host string // this host's name; "": the system's
}

// Daemon is one running keyd.
type Daemon struct {
	opts    Options
	log     *slog.Logger
	started time.Time
	reg     *prometheus.Registry
	led     *prometheus.Registry // what only the leader exports
	metrics *metrics

	host    string        // this host's name
	lease   time.Duration // how long a lease holds
	alone   bool          // no other host has the store
	elector *leader.Elector
	ledAnew chan struct{} // has room for one word that something changed about who leads
	hosts   hosts
	boot    func() time.Duration // term.Boottime, or a test's
	proving sync.Mutex           // held while health runs

	store    Store
	shared   *shared.Store // the same; nil where one host has the state
	hsm      *hsm.Client
	sup      *hsm.Supervisor // nil if the HSM side is a service of its own
	observer *observe.Observer
	rotator  *rotate.Rotator
	loop     *rotate.Loop
	keeper   *audit.Keeper
	health   *health.Health
	hub      *hub
	// histories has what looks and proofs showed during the last day.
	histories *health.Histories
	standings *standings
	// consumers knows who uses the keys, and usersShown are the metrics of it.
	consumers  *consumer.Watcher
	usersShown *usersMetrics
	control    *control.Server
	web        *web.Server
	// changed has room for one word that something changed that a status line may show.
	changed chan struct{}
	// news has room for the same word, for what the other hosts show.
	news chan struct{}
	// hsmAgain has room for one word that the HSM side is to be looked at again.
	hsmAgain chan struct{}

	reading    reading    // at the start
	reloading  sync.Mutex // allows one reload at a time
	mu         sync.RWMutex
	cfg        *config.Config // what keyd acts on
	unapproved unapproved     // what of the files it does not act on
	azure
	limits    *vault.Limits
	vaultSeen *vault.Metrics
	// budget bounds the calls to Resource Manager, over reloads.
	budget        *consumer.Budget
	consumersSeen *consumer.Metrics
	logs          *consumer.Evidence
	hsmSeen       hsmState
	rights        *hsm.Rights               // by the daemon's own reading of the configuration
	readyAt       atomic.Pointer[time.Time] // nil: keyd has not looked at every vault yet, and follows nobody
	refused       error                     // by the last reload; nil if it succeeded
}

// Run runs keyd. It returns when ctx ends and everything has stopped, or with the error that kept keyd from starting.
func Run(ctx context.Context, o Options) error {
	cfg, err := config.Load(o.ConfigPath)
	if err != nil {
		return err
	}
	if err := CheckStart(cfg); err != nil {
		return err
	}
	spareMemory(len(cfg.Policies))
	d, err := build(o, cfg)
	if err != nil {
		return err
	}
	return errors.Join(d.run(ctx), d.store.Close())
}

// build makes every room, on the store of the configuration. Nothing runs yet, and nothing is sent.
func build(o Options, file *config.Config) (*Daemon, error) {
	return buildOn(o, file, func(reg prometheus.Registerer) (Store, error) {
		return openStore(context.Background(), file, reg)
	})
}

func buildOn(o Options, file *config.Config, open func(prometheus.Registerer) (Store, error)) (*Daemon, error) {
	d := &Daemon{
		opts:      o,
		log:       o.Logger,
		started:   time.Now(),
		hub:       newHub(),
		histories: health.NewHistories(),
		standings: newStandings(),
		changed:   make(chan struct{}, 1),
		news:      make(chan struct{}, 1),
		hsmAgain:  make(chan struct{}, 1),
		host:      cmp.Or(o.host, file.Host, hostName()),
		lease:     file.Store.Lease,
		ledAnew:   make(chan struct{}, 1),
		boot:      term.Boottime,
	}
	var err error
	if d.rights, err = rightsOf(file); err != nil {
		return nil, err
	}
	d.reg, d.led = prometheus.NewRegistry(), prometheus.NewRegistry()
	d.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	d.metrics = newMetrics(d.reg, d.led, o.Version)
	d.usersShown = newUsersMetrics(d.led, d.started, d.vaultNames)
	d.vaultSeen = vault.NewMetrics(d.reg)
	d.limits = vault.NewLimits()
	if d.store, err = open(d.reg); err != nil {
		return nil, forAPerson(file, "state_dir", err)
	}
	d.makeElector()
	newHostMetrics(d.reg, d.led, d)
	if err := d.begin(file); err != nil {
		return nil, errors.Join(err, d.store.Close())
	}
	cfg := d.cfg
	d.vaultSeen.Credential(d.cred.Reread())
	d.makeHSM(cfg)
	d.keeper = audit.NewKeeper(audit.Config{
		Instance: cfg.Instance, Chain: d.store, Signer: d.hsm, Clock: time.Now, Logger: d.log,
		Metrics: audit.NewMetrics(d.led), Accepted: d.breakAccepted, Hosts: d.otherHosts(cfg),
	})
	d.observer = observe.New(observe.Config{
		Instance: cfg.Instance, HSM: basedHSM{d.pinnedHSM(), audit.NewBase(d.store, d.hsm, time.Now)}, Records: d.store,
		Vaults: d.observeVault, Consumers: d.consumers, Clock: time.Now,
		Metrics: observe.NewMetrics(d.led), Slow: cfg.Health.Look,
	})
	d.rotator = rotate.New(rotate.Config{
		Instance: cfg.Instance, Generator: "keyd " + o.Version, HSM: d.pinnedHSM(), Store: d.store,
		Observer: d.observer,
		Vaults:   d.rotateVault, Clock: time.Now, Random: rand.Reader, Look: cfg.Health.Look,
		Emit: d.happened, Logger: d.log, Metrics: rotate.NewMetrics(d.led),
		Mark: d.keeper.Mark, Attest: d.attest, Seal: d.seal, Approvals: d.approvals, Settings: d.store,
		Repoint: d.moveConsumer, Policy: func(name string) (key.Policy, bool) { return d.loop.Policy(name) },
	})
	if !d.alone {
		d.rotator.Prove = d.elector.Prove
	}
	d.loop = rotate.NewLoop(d.rotator, max(2, cfg.HSM.Sessions))
	d.health = health.New(d.healthConfig(cfg))
	policies, err := d.policies(context.Background(), cfg)
	if err != nil {
		return nil, errors.Join(err, d.store.Close())
	}
	d.limit(cfg)
	warnOfTestRoot(cfg, d.log)
	d.loop.SetVaults(cfg.VaultPolicies())
	d.loop.SetPolicies(policies)
	d.reg.MustRegister(whileInCharge{d.led, d.inCharge})
	return d, nil
}

// begin finds out what of the files keyd acts on, and makes its clients in Azure.
func (d *Daemon) begin(file *config.Config) (err error) {
	ctx := context.Background()
	if err := checkNames(ctx, d.store, file.Policies); err != nil {
		return err
	}
	if d.reading, err = d.judge(ctx, file); err != nil {
		return err
	}
	d.cfg = d.reading.acts
	d.note(d.reading)
	d.makeConsumers()
	if d.azure, err = d.makeAzure(d.cfg); err == nil {
		d.consumers.Use(d.resources, d.cfg.Azure.Subscriptions)
	}
	return err
}

// run starts what build made, in the order in which the rooms need each other. It ends everything when ctx ends or
// one of them fails.
func (d *Daemon) run(ctx context.Context) error {
	if err := d.recordStart(ctx); err != nil {
		d.log.Error("the start could not be recorded", "error", err.Error())
	}
	g, ctx := errgroup.WithContext(ctx)
	// The HSM side outlives the loop, so that a running step can finish.
	hsmCtx, stopHSM := context.WithCancel(context.WithoutCancel(ctx))
	hsmDone := make(chan struct{})
	go func() {
		defer close(hsmDone)
		if d.sup != nil {
			_ = d.sup.Run(hsmCtx)
		}
	}()
	defer func() { stopHSM(); <-hsmDone; d.hsm.Close() }()

	if d.opts.Once {
		g.Go(func() error { d.watchHSM(ctx); return nil })
		return d.elector.Run(ctx, d.leadOnce)
	}
	if err := d.listen(ctx, g); err != nil {
		return err
	}
	g.Go(func() error { return d.elector.Run(ctx, d.lead) })
	g.Go(func() error { d.watchHSM(ctx); return nil })
	g.Go(func() error { d.notify(ctx); return nil })
	g.Go(func() error { d.watchLeader(ctx); return nil })
	if !d.alone {
		g.Go(func() error { d.watchHosts(ctx); return nil })
		g.Go(func() error { d.probeVaults(ctx); return nil })
		g.Go(func() error { d.keepProving(ctx); return nil })
	}
	g.Go(func() error { d.reloadOnSignal(ctx); return nil })
	g.Go(func() error { d.watchCredential(ctx); return nil })
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	d.recordStop(err)
	return err
}

func (d *Daemon) recordStop(err error) {
	fields := map[string]string{}
	if !d.alone {
		fields["host"] = d.host
	}
	if err != nil {
		fields["error"] = err.Error()
	}
	if e := d.store.Append(context.Background(), chain.Entry{Event: chain.DaemonStopped, Actor: "keyd",
		Fields: fields}); e != nil {
		d.log.Error("the stop could not be recorded", "error", e.Error())
	}
}

// listen opens the control socket and the web listener, and serves on both.
func (d *Daemon) listen(ctx context.Context, g *errgroup.Group) error {
	auth, err := authoriser(d.cfg)
	if err != nil {
		return err
	}
	d.control = control.NewServer(d, auth, d.log, d.reg)
	d.control.FindLogins(login.Of)
	if d.cfg.Store.Shared() {
		d.control.OnHost(d.cfg.Host)
	}
	l, err := control.Listen(d.cfg.Control.Socket, readers(d.cfg.Control.Group))
	if err != nil {
		return forAPerson(d.cfg, "control.socket", fmt.Errorf("open the control socket: %w", err))
	}
	d.web, err = web.New(d.webConfig())
	if err != nil {
		return errors.Join(err, l.Close())
	}
	g.Go(func() error { return d.control.Serve(ctx, l) })
	g.Go(func() error { return d.web.Serve(ctx) })
	return nil
}

// authoriser decides who may read and act over the control socket.
func authoriser(cfg *config.Config) (control.Authoriser, error) {
	return control.Rules{Self: uint32(os.Getuid()), Readers: readers(cfg.Control.Group),
		Operators: cfg.Control.Operators}.Authoriser()
}

// admit has the control socket admit others from now on.
func (d *Daemon) admit(auth control.Authoriser) {
	if d.control == nil { // not opened yet
		return
	}
	d.control.Admit(auth)
	if err := control.GiveTo(d.cfg.Control.Socket, readers(d.cfg.Control.Group)); err != nil {
		d.log.Error("the control socket keeps the group that it had", "error", err.Error())
	}
}

// nowReady tells everybody that keyd can work, and why: the first time that it can. The loop calls it before it looks
// at quiet keys.
func (d *Daemon) nowReady(why string) {
	now := time.Now()
	if !d.readyAt.CompareAndSwap(nil, &now) {
		return
	}
	d.metrics.ready.Set(1)
	d.log.Info("ready: " + why)
	_, _ = sd.SdNotify(false, sd.SdNotifyReady)
	d.touch()
}

func (d *Daemon) config() *config.Config {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.cfg
}

// Ready reports whether keyd has looked at every vault once, or follows a leader, and so can work. Trouble with a key
// or a vault does not make it unready.
func (d *Daemon) Ready() (ok bool, why string) {
	if d.readyAt.Load() == nil {
		return false, "the first look at every vault is not completed"
	}
	return true, ""
}

// Stuck names the loop that has stopped turning; "" if none has.
func (d *Daemon) Stuck() string {
	if name := d.loop.Stuck(time.Now()); name != "" && d.leads() {
		return "the loop is stuck at key " + name
	}
	return ""
}

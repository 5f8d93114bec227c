package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/daemon"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// planned is what plan shows.
type planned struct {
	Plan    []status.Planned `json:"plan"`
	Changes []change         `json:"changes"` // with --config
	Firings []firings        `json:"firings"` // with --config
	Slower  []slower         `json:"slower"`  // with --config
	// SecondOperator lists the changes of settings that need one; with --config.
	SecondOperator []string `json:"second_operator"`
	// Retire is what retire rules disable once somebody consents to them; with --config.
	Retire []status.Retirement `json:"retire"`
}

// slower is a vault whose versions keyd could not prove as often as configured.
type slower struct {
	Vault string `json:"vault"`
	What  string `json:"what"`
}

// change is one difference between the running configuration and a new one.
type change struct {
	Key  string `json:"key"`
	What string `json:"what"`
}

func (a *app) plan() *cobra.Command {
	var newConfig, explain string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show the next step of every key, and what a new configuration would change",
		Long: `plan shows what the daemon would do next with every key, and why. It changes nothing.
With --config, it first checks that configuration as the daemon would, with the files, users and paths
that it names, and shows every mistake (exit 2).
It notes where the vaults' limits do not allow as many proofs as the configuration wants. Then it shows
the next three firings of each key's schedule, in the schedule's time zone and in UTC, and, if the daemon
answers, what differs from the configuration that runs, which settings a second operator must approve,
and the versions that a retire rule to which nobody has consented would disable, each with its date.
With --explain, it shows each rule by which the daemon decides, in their order, and what it says
about that key: nothing, a step, or "not asked", because an earlier rule has answered.`,
		Example: "  keyd plan\n  keyd plan --explain sa-cmk-key\n  keyd plan --config /etc/keyd/keyd.yaml.new",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if explain != "" && newConfig != "" {
				return usagef("--explain asks the daemon, and --config a file: use one of them")
			}
			if explain != "" {
				return a.explain(cmd.Context(), explain, time.Now())
			}
			if err := checkHostZone(); err != nil {
				return err
			}
			if newConfig != "" {
				return a.planConfig(cmd.Context(), newConfig)
			}
			return a.planNow(cmd.Context(), planned{}, time.Now())
		},
	}
	cmd.Flags().StringVar(&newConfig, "config", "", "a new configuration to check and to compare")
	cmd.Flags().StringVar(&explain, "explain", "", "a key, for which to show what each rule says")
	return a.jsonFlag(cmd)
}

func (a *app) planConfig(ctx context.Context, path string) error {
	c, err := config.Load(path)
	if err != nil {
		return err
	}
	unseen, err := daemon.CheckPlanned(c)
	if err != nil {
		return err
	}
	for _, what := range unseen {
		a.note("Not checked: %s.", what)
	}
	good := fmt.Sprintf("%s is good: %s in %s.", path,
		words.Count(len(c.Policies), "key"), words.Count(len(c.Vaults), "vault"))
	snap, err := a.client().Snapshot(ctx, status.Selection{})
	if errors.Is(err, control.ErrUnreachable) {
		return a.planStopped(ctx, c, good)
	}
	if err != nil {
		return err
	}
	if err := checkNames(snap.Keys, c.Policies); err != nil {
		return err
	}
	a.note("%s", good)
	slower := a.slower(c)
	changes := changesBetween(snap.Keys, c.Policies)
	if len(changes) == 0 {
		a.note("It changes no key.")
	}
	retire, err := a.retirements(ctx, snap, c.Policies)
	if err != nil {
		return err
	}
	waits, err := a.secondOperator(ctx, c)
	if err != nil {
		return err
	}
	return a.planNow(ctx, planned{Changes: changes, Firings: firingsOf(c.Policies, snap, snap.At), Slower: slower,
		SecondOperator: waits, Retire: retire}, snap.At)
}

// slower notes where a configuration wants more proofs than the vaults' limits allow.
func (a *app) slower(c *config.Config) (list []slower) {
	for _, f := range c.Slower() {
		a.note("%s.", f)
		a.note("  %s.", f.Remedy())
		list = append(list, slower{f.Vault.Name, f.String()})
	}
	return list
}

// planStopped shows what can be said without a daemon.
func (a *app) planStopped(ctx context.Context, c *config.Config, good string) error {
	unseen, err := daemon.CheckStopped(ctx, c)
	if err != nil {
		return err
	}
	a.note("%s", good)
	a.note("The daemon cannot be reached, so there is nothing to compare it with.")
	if unseen != nil {
		a.note("Its names were not compared with the records: %v.", unseen)
	}
	p := planned{Firings: firingsOf(c.Policies, status.Snapshot{}, time.Now()), Slower: a.slower(c)}
	return a.show(p, func(w io.Writer, s style) {
		if len(p.Firings) > 0 {
			writeFirings(w, s, p.Firings)
		}
	})
}

// checkNames refuses the names that a reload would refuse because of the records.
func checkNames(records []status.Key, wanted []key.Policy) error {
	placed := map[string]bool{}
	for _, k := range records {
		placed[k.Name] = k.AnyPlaced()
	}
	var refused []error
	for _, p := range wanted {
		refused = append(refused, key.CheckCase(p.Key, placed))
	}
	return errors.Join(refused...)
}

func (a *app) planNow(ctx context.Context, p planned, now time.Time) error {
	var err error
	if p.Plan, err = a.client().Plan(ctx); err != nil {
		return err
	}
	return a.show(p, func(w io.Writer, s style) { writePlan(w, s, p, now) })
}

func changesBetween(running []status.Key, wanted []key.Policy) []change {
	var changes []change
	before := map[string]status.Key{}
	for _, k := range running {
		before[k.Name] = k
		left := !slices.ContainsFunc(wanted, func(p key.Policy) bool { return p.Key == k.Name })
		if left && !k.Retained {
			changes = append(
				changes,
				change{k.Name, "is removed: it would be retained, neither rotated nor disabled, and still proved"},
			)
		}
	}
	for _, p := range wanted {
		old, known := before[p.Key]
		switch {
		case !known:
			changes = append(changes, change{p.Key, "is new: its first generation would be made and imported"})
		case old.Retained:
			changes = append(changes, change{p.Key, "is back: its rotation would resume"})
		default:
			changes = append(changes, policyChanges(old, p)...)
		}
	}
	return changes
}

func policyChanges(old status.Key, p key.Policy) []change {
	var changes []change
	note := func(what, before, after string) {
		if before != after {
			changes = append(changes, change{p.Key, fmt.Sprintf("%s: %s → %s", what, orNone(before), orNone(after))})
		}
	}
	var urls []string
	for _, v := range p.Vaults {
		urls = append(urls, v.URL)
	}
	note("spec", string(old.Spec), string(p.Spec))
	note("schedule", old.Schedule, p.ScheduleText)
	note("labels", strings.Join(old.Labels, ", "), strings.Join(p.Labels, ", "))
	note("vaults", strings.Join(old.Vaults, ", "), strings.Join(urls, ", "))
	return changes
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func writePlan(w io.Writer, s style, p planned, now time.Time) {
	if len(p.Firings) > 0 {
		writeFirings(w, s, p.Firings)
	}
	if len(p.Changes) > 0 {
		fmt.Fprintln(w, s.bold("What the new configuration changes"))
		t := s.table()
		for _, c := range p.Changes {
			t.add(plain(c.Key, c.What)...)
		}
		t.write(w, "  ")
	}
	writeSecondOperator(w, s, p.SecondOperator)
	writeRetirements(w, s, p.Retire)
	if len(p.Changes)+len(p.Firings)+len(p.SecondOperator) > 0 {
		fmt.Fprintln(w, s.bold("What the daemon does next, by its current configuration"))
	}
	if len(p.Plan) == 0 {
		fmt.Fprintln(w, "There are no keys.")
		return
	}
	t := s.table()
	t.title(s, "KEY", "NEXT STEP", "DUE", "WHY")
	for _, step := range p.Plan {
		due := "–"
		if !step.At.IsZero() {
			due = when(now, step.At)
		}
		t.add(plain(step.Key, stepText(step), due, step.Why)...)
	}
	t.write(w, "")
}

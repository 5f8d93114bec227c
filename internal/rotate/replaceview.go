package rotate

import (
	"context"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// view is a replacement as a person sees it: one that has begun, or one that is foreseen.
type view struct {
	in      plan.Input
	refused string // why it must not begin
}

// Replacement shows how far the replacement of a key is, or what would follow from one that has not begun. It changes
// nothing.
func (r *Rotator) Replacement(ctx context.Context, p key.Policy, want Replacing) (status.Replacement, error) {
	rec, err := r.load(ctx, p.Key)
	if err != nil {
		return status.Replacement{}, err
	}
	if rec.Replacement == nil && want.With == "" {
		return status.Replacement{}, refuse(
			"key %s is not replaced by another one: keyd replace %s --with NEWKEY",
			p.Key,
			p.Key,
		)
	}
	var v view
	if rec.Replacement != nil {
		v, err = r.viewOf(ctx, p, &rec)
	} else if v, err = r.foreseen(ctx, p, &rec, want); err == nil && v.refused != "" {
		err = refuse("%s", v.refused)
	}
	if err != nil {
		return status.Replacement{}, err
	}
	return v.shown(rec.Replacement == nil), nil
}

func (r *Rotator) foreseen(ctx context.Context, p key.Policy, rec *record.Record, want Replacing) (view, error) {
	name := want.With
	if policy, known := r.policyOf(name); known {
		name = policy.Key
	}
	heir, err := r.load(ctx, name)
	if err != nil {
		return view{}, err
	}
	return r.foresee(p, rec, &heir, want)
}

// Input is what the plan goes by now: the last look, and the key that replaces this one.
func (r *Rotator) Input(ctx context.Context, p key.Policy, rec *record.Record) (plan.Input, error) {
	by, err := r.newKey(ctx, rec)
	return r.input(withHeir(p, by), rec, r.Observer.Last(p.Key), by), err
}

// viewOf is the view of a replacement that has begun, by the last look.
func (r *Rotator) viewOf(ctx context.Context, p key.Policy, rec *record.Record) (view, error) {
	in, err := r.Input(ctx, p, rec)
	if err != nil {
		return view{}, err
	}
	in.Seen = withUsers(in.Seen, r.Observer.Users(p))
	return view{in: in}, nil
}

// withUsers is what was seen of a key (nil: nothing yet), with the last look at those who use it.
func withUsers(o *record.Observation, users record.Usage) *record.Observation {
	var seen record.Observation
	if o != nil {
		seen = *o
	}
	seen.Usage = users
	return &seen
}

// beginDigest is of what a person is shown before the first step.
func (v view) beginDigest() string {
	x := v.in.Record.Replacement
	return sumOf([]string{v.in.Policy.Key, x.With, x.Vault, v.listed()})
}

// disableDigest is of what a person is shown before the consent to disable.
func (v view) disableDigest() string {
	texts := []string{v.in.Policy.Key, v.in.Record.Replacement.With, plan.ReplaceRule(v.in.Policy).Watched}
	for _, x := range v.in.Record.Replaceable() {
		texts = append(texts, x.Vault+" "+x.Version)
	}
	return sumOf(texts)
}

// listed lists the consumers with where each is or goes.
func (v view) listed() string {
	var texts []string
	for _, l := range v.in.Leaving() {
		texts = append(texts, fmt.Sprintf("%s %s %s", l.ID, l.State, l.Target.URL))
	}
	return strings.Join(byID(texts), "; ")
}

// forbidsConsent says why nobody may consent yet to disable the old key; "": one may.
func (v view) forbidsConsent() string {
	rec, p := v.in.Record, v.in.Policy
	x := rec.Replacement
	switch {
	case x == nil:
		return fmt.Sprintf("key %s is not replaced by another one: keyd replace %s --with NEWKEY", p.Key, p.Key)
	case x.Disabling():
		return fmt.Sprintf(
			"%s consented already, at %s: keyd replace %s --status",
			x.Consent.By,
			words.Moment(x.Consent.At),
			p.Key,
		)
	case rec.Hold != nil:
		return fmt.Sprintf("key %s is held (%s): %s", p.Key, rec.Hold.Code, rec.Hold.Reason)
	case rec.Repointing != nil:
		return fmt.Sprintf("consumer %s is not moved to the end: keyd replace %s --status",
			service.NameOf(rec.Repointing.Consumer), p.Key)
	case rec.Stage(p).UnderWay() || len(rec.Requests) > 0:
		return fmt.Sprintf("a rotation of key %s is under way: consent once it is finished", p.Key)
	case v.in.NewKey == nil:
		return fmt.Sprintf("key %s is not in the configuration any more: put it back, then: keyd reload", x.With)
	case v.in.Seen.Usage.Err != nil || !v.in.Seen.Usage.At.After(x.LastMove()) &&
		(plan.Input{Policy: p, Seen: v.in.Seen}).AsksUsers():
		return fmt.Sprintf("keyd has not seen who uses key %s since the last move: try again in a minute", p.Key)
	}
	for _, l := range v.in.Leaving() {
		if l.State != plan.LeavingWorks {
			return fmt.Sprintf(
				"%s %s is not seen to work under %s: %s",
				l.Service,
				service.NameOf(l.ID),
				x.With,
				l.Why,
			)
		}
	}
	return ""
}

// shown is the view for people and programs.
func (v view) shown(foreseen bool) status.Replacement {
	in, x := v.in, v.in.Record.Replacement
	s := status.Replacement{Key: in.Policy.Key, With: x.With, Consumers: []status.ReplacedConsumer{},
		Versions: []status.ReplacedVersion{}, Done: x.Done, Vault: v.vaultName(x.Vault)}
	if !foreseen {
		s.Begun, s.By, s.Reason = x.At, x.By, x.Reason
	}
	if f := in.Record.Repointing; f != nil && !f.Open() && f.NewKey != "" {
		s.Failed = fmt.Sprintf("%s: %s", service.NameOf(f.Consumer), f.Failed)
	}
	for _, l := range in.Leaving() {
		s.Consumers = append(s.Consumers, v.consumer(l))
	}
	for _, r := range in.Record.Replaceable() {
		s.Versions = append(s.Versions, status.ReplacedVersion{Vault: in.Record.VaultName(in.Policy, r.Vault),
			Generation: r.Generation.Number, Version: r.Version})
	}
	if c := x.Consent; c != nil {
		s.Consent = &status.Consent{At: c.At, By: c.By, Reason: c.Reason, Digest: c.Digest}
	}
	s.Digest = v.disableDigest()
	if foreseen {
		s.Digest, s.Notes = v.beginDigest(), v.notes()
	}
	s.MayConsent = !foreseen && v.forbidsConsent() == ""
	s.Waiting = plan.ReplacedWaits(in)
	s.Steps = v.steps(s)
	return s
}

func (v view) consumer(l plan.Leaving) status.ReplacedConsumer {
	return status.ReplacedConsumer{ID: l.ID, Name: service.NameOf(l.ID), Service: l.Service, State: string(l.State),
		From: v.in.Record.VaultName(v.in.Policy, l.Vault), To: l.Target.Name, ToURL: l.Target.URL, Version: l.Version,
		Why: l.Why}
}

func (v view) vaultName(url string) string {
	if v.in.NewKey == nil || url == "" {
		return url
	}
	return v.in.NewKey.Record.VaultName(v.in.NewKey.Policy, url)
}

// notes are what a person should know before the first step: above all who cannot leave their vault.
func (v view) notes() (notes []string) {
	x := v.in.Record.Replacement
	for _, l := range v.in.Leaving() {
		s, _ := service.Of(l.ID)
		stays := s.OneVault && l.Target.URL != "" && x.Vault != "" && l.Target.URL != x.Vault
		switch {
		case stays:
			notes = append(
				notes,
				fmt.Sprintf("%s %s cannot leave vault %s, and goes to key %s there: that vault is not "+
					"the clean one", l.Service, service.NameOf(l.ID), l.Target.Name, x.With),
			)
		case l.State != plan.LeavingNext && l.State != plan.LeavingWorks:
			notes = append(notes, fmt.Sprintf("keyd does not move %s %s: %s", l.Service, service.NameOf(l.ID), l.Why))
		}
	}
	if _, same := v.in.Policy.Vault(x.Vault); same {
		notes = append(
			notes,
			fmt.Sprintf("vault %s holds the old key, too: it is not a clean vault", v.vaultName(x.Vault)),
		)
	}
	for _, u := range v.in.Seen.Usage.Unseen {
		notes = append(notes, "the search for consumers did not see everything: "+u)
	}
	return notes
}

// The steps of a replacement, in their order.
const (
	stepNewKey  = "the new key is active"
	stepMoved   = "the consumers are set to it"
	stepWorks   = "each of them is seen to work under it"
	stepConsent = "you consent to disable the old key"
	stepQuiet   = "nobody can need the old key"
	stepDone    = "the versions of the old key are disabled"
)

func (v view) steps(s status.Replacement) []status.ReplaceStep {
	waits, moving, works := v.in.NewKeyWaits(), v.left(plan.LeavingNext, plan.LeavingByHand, plan.LeavingUnseen,
		plan.LeavingElse), v.left(plan.LeavingMoved)
	if s.Failed != "" {
		moving = "a move failed: " + s.Failed
	}
	if works == "" {
		works = moving
	}
	steps := []status.ReplaceStep{
		{Step: stepNewKey, Done: waits == "", Left: waits},
		{Step: stepMoved, Done: moving == "", Left: moving},
		{Step: stepWorks, Done: works == "", Left: works},
	}
	consent := status.ReplaceStep{Step: stepConsent, Done: s.Consent != nil}
	if !consent.Done {
		if consent.Left = "it comes after the steps before it"; s.MayConsent {
			consent.Left = "keyd replace " + s.Key + " --disable --reason …"
		}
	}
	quiet := status.ReplaceStep{Step: stepQuiet, Done: !s.Done.IsZero(), Left: s.Waiting}
	if s.Consent == nil {
		quiet.Left = plan.ReplacedQuiet(v.in)
	}
	quiet.Done = quiet.Done || quiet.Left == "" && works == ""
	done := status.ReplaceStep{Step: stepDone, Done: !s.Done.IsZero()}
	if !done.Done {
		done.Left = words.Count(len(s.Versions), "version") + " to disable"
	}
	return append(steps, consent, quiet, done)
}

// left names the consumers in some states; "": there are none.
func (v view) left(states ...plan.LeavingState) string {
	var names []string
	for _, l := range v.in.Leaving() {
		for _, s := range states {
			if l.State == s {
				names = append(names, fmt.Sprintf("%s (%s)", service.NameOf(l.ID), s))
			}
		}
	}
	return strings.Join(names, ", ")
}

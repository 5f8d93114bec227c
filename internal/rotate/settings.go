package rotate

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/record"
)

// SettingsStore keeps the guarded settings that are in force.
type SettingsStore interface {
	LoadSettings(ctx context.Context) (record.Settings, error)
	// SaveSettings saves the record with its entries, and the others, which are about keys, vaults and keyd itself, in
	// one transaction. It compares revisions as Save does.
	SaveSettings(ctx context.Context, rec record.Settings, entries, others []chain.Entry) error
	Append(ctx context.Context, entries ...chain.Entry) error
}

// Settings are the guarded settings of a configuration's files.
type Settings struct {
	// InForce is what is kept of them once they are in force; nil: no change of them needs a second operator.
	InForce json.RawMessage
	Files   string // digest of the files
	Digest  string // of the guarded settings
	Changes string // what they change, by value, for people
}

func (s Settings) act() key.Act {
	return key.Act{Kind: key.ActConfigure, Reason: "the configuration's files have other settings",
		Arguments: map[string]string{"settings": s.Digest}, Effects: s.Changes}
}

// KeepSettings records that the settings are in force, together with the entries, and ends the proposal of others. An
// entry says who permitted it if a second operator should have; nil: the files change nothing that is guarded.
func (r *Rotator) KeepSettings(ctx context.Context, s Settings, permitted *chain.Entry, others []chain.Entry) error {
	return r.changeSettings(ctx, others, func(rec *record.Settings) ([]chain.Entry, error) {
		var entries []chain.Entry
		if permitted != nil {
			entries = append(entries, *permitted)
		}
		for _, p := range rec.Proposals {
			entries = append(entries, proposalEnded(chain.ProposalWithdrawn, "keyd", p,
				"the files have other settings now, and nothing in them waits"))
		}
		if len(entries) == 0 && slices.Equal(rec.InForce, s.InForce) {
			return nil, nil
		}
		return append(entries, keep(rec, s)), nil
	})
}

// keep puts the settings into force.
func keep(rec *record.Settings, s Settings) chain.Entry {
	rec.Proposals, rec.InForce = nil, s.InForce
	return chain.Entry{Event: chain.SettingsKept, Actor: "keyd", Fields: map[string]string{"settings": s.Digest,
		"files": s.Files}}
}

// ProposeSettings has the settings wait for a second operator. The files as they are wait only once, and by may be
// nobody that keyd knows: then nobody can approve them before an operator asks for them, too.
func (r *Rotator) ProposeSettings(
	ctx context.Context,
	s Settings,
	by key.Person,
	others []chain.Entry,
) (p key.Proposal,
	err error) {
	rules := r.settingsRules(s)
	if identified(by, rules) != nil {
		by = key.Person{Actor: by.Actor}
	}
	err = r.changeSettings(ctx, others, func(rec *record.Settings) ([]chain.Entry, error) {
		state, err := rec.State()
		if err != nil {
			return nil, err
		}
		entries := dropOver(&rec.Proposals, r.now())
		for _, old := range rec.Proposals {
			sum, err := old.Sum(state, rules.Config)
			if err == nil && sum == old.Digest && (old.By.Known() || !by.Known()) {
				p = old
				return entries, nil
			}
			entries = append(entries, proposalEnded(chain.ProposalWithdrawn, "keyd", old,
				"the files were read again, and it was proposed anew"))
		}
		rec.Proposals = nil
		g := &gate{r: r, by: by}
		proposed, err := g.add(&rec.Proposals, state, s.act(), rules)
		if err != nil {
			return nil, err
		}
		p = *g.proposed
		return append(entries, proposed), nil
	})
	return p, err
}

// ApproveSettings puts proposed settings into force, if a second operator may approve them and the files are still
// those that were proposed.
func (r *Rotator) ApproveSettings(ctx context.Context, s Settings, id key.ID, by key.Person, reason string,
	others []chain.Entry) error {
	g := &gate{r: r, by: by, approves: id, reason: reason}
	return r.changeSettings(ctx, others, func(rec *record.Settings) ([]chain.Entry, error) {
		state, err := rec.State()
		if err != nil {
			return nil, err
		}
		entries, err := g.approve(&rec.Proposals, state, s.act(), r.settingsRules(s))
		if err != nil {
			return nil, err
		}
		return append(entries, keep(rec, s)), nil
	})
}

// WithdrawSettings is Withdraw for a proposal about settings.
func (r *Rotator) WithdrawSettings(ctx context.Context, id key.ID, actor, reason string) error {
	return r.changeSettings(ctx, nil, func(rec *record.Settings) ([]chain.Entry, error) {
		return withdraw(&rec.Proposals, id, actor, reason)
	})
}

// EndOldSettingsProposals is EndOldProposals for settings.
func (r *Rotator) EndOldSettingsProposals(ctx context.Context) error {
	return r.changeSettings(ctx, nil, func(rec *record.Settings) ([]chain.Entry, error) {
		return dropOver(&rec.Proposals, r.now()), nil
	})
}

// settingsRules are the rules in force, for a proposal about files with this digest.
func (r *Rotator) settingsRules(s Settings) key.Approvals {
	rules := r.approvals()
	rules.Config = s.Files
	return rules
}

// changeSettings is change for the settings. Without entries from f, only the others are recorded.
func (r *Rotator) changeSettings(ctx context.Context, others []chain.Entry,
	f func(*record.Settings) ([]chain.Entry, error)) error {
	var err error
	for range changeTries {
		var rec record.Settings
		if rec, err = r.Settings.LoadSettings(ctx); err != nil {
			return err
		}
		entries, ferr := f(&rec)
		if ferr != nil {
			return ferr
		}
		if len(entries) == 0 {
			return r.Settings.Append(context.WithoutCancel(ctx), others...)
		}
		for i := range entries {
			entries[i].Time = r.now()
		}
		event := string(entries[0].Event)
		killpoint.At("save-before " + event)
		if err = r.Settings.SaveSettings(context.WithoutCancel(ctx), rec, entries, others); err == nil {
			killpoint.At("save-after " + event)
			return nil
		}
		if !changedMeanwhile(err) {
			return fmt.Errorf("keyd did not record the settings of the configuration: %w", err)
		}
	}
	return fmt.Errorf("keyd did not record the settings of the configuration, because other changes came first %d "+
		"times: try again: %w", changeTries, err)
}

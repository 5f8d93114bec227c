package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/words"
)

// reading is a configuration as its files have it, and what of it keyd acts on. They differ in guarded settings while a
// change of those waits for a second operator.
type reading struct {
	file, acts *config.Config
	changes    []string    // of guarded settings, a line each, which wait or which root accepted
	root       *acceptance // root's order to act on the files as they are; nil: none is needed
}

// waits reports whether settings of the files wait for a second operator.
func (rd reading) waits() bool { return len(rd.changes) > 0 && rd.root == nil }

// judge finds out what of the files is in force. It changes nothing.
func (d *Daemon) judge(ctx context.Context, file *config.Config) (reading, error) {
	rd := reading{file: file, acts: file}
	was, kept, err := d.inForce(ctx, file)
	if err == nil && !kept {
		return rd, nil
	}
	var under *config.Config
	if err == nil {
		under, err = file.Under(was)
	}
	if err == nil {
		for _, c := range under.Guarded().Changes(file.Guarded()) {
			rd.changes = append(rd.changes, c.Lines()...)
		}
		if len(rd.changes) == 0 {
			return rd, nil
		}
	}
	order, orderErr := acceptedByRoot(file)
	if orderErr != nil {
		d.log.Error("keyd does not follow root's order to accept the settings", "error", orderErr.Error())
	}
	switch {
	case order != nil:
		if err != nil {
			rd.changes = []string{"what was in force is not known: " + err.Error()}
		}
		rd.root = order
		return rd, nil
	case err != nil:
		return rd, err
	}
	rd.acts = under
	return rd, nil
}

// inForce returns the guarded settings of which a change needs a second operator; kept is false if none does.
func (d *Daemon) inForce(ctx context.Context, file *config.Config) (f config.InForce, kept bool, err error) {
	rec, err := d.store.LoadSettings(ctx)
	if err != nil {
		return f, false, err
	}
	if rec.InForce != nil {
		if f, err = config.DecodeInForce(rec.InForce); err != nil {
			return f, false, unknownSettings(file, err)
		}
		return f, true, nil
	}
	if now := d.config(); now != nil { // the disk may have refused to keep them
		return now.InForce(), len(now.Approvals.Acts) > 0, nil
	}
	last, err := lastConfig(ctx, d.store)
	if err != nil || last == "" || last == file.Guarded().Digest() {
		return f, false, err
	}
	was, err := recordedConfig(ctx, d.store)
	if err == nil && was.NeedsApproval() {
		err = unknownSettings(
			file,
			errors.New("the audit has their digests, and the state does not have the settings"),
		)
	}
	return f, false, err
}

// unknownSettings keeps keyd from acting on files that nobody has approved.
func unknownSettings(cfg *config.Config, err error) error {
	return config.Problems{
		cfg.Mistake("approvals", "put the configuration back as it was when keyd last ran; or, as root, "+
			"have keyd act on the files as they are, which the audit keeps: keyd accept-settings --reason …",
			"a change of the settings needs a second operator, and keyd cannot tell what changed: %v", err),
	}
}

// settings is what the rotator needs to know of the files.
func (rd reading) settings() (rotate.Settings, error) {
	s := rotate.Settings{Files: rd.file.Digest(), Digest: rd.file.Guarded().Digest(),
		Changes: strings.Join(rd.changes, "\n")}
	var err error
	if len(rd.file.Approvals.Acts) > 0 {
		s.InForce, err = rd.file.InForce().Encode()
	}
	return s, err
}

// recordSettings records what of the files is in force, and what waits, together with the other entries.
func (d *Daemon) recordSettings(ctx context.Context, rd reading, by key.Person, others []chain.Entry) error {
	s, err := rd.settings()
	if err != nil {
		return err
	}
	if rd.waits() {
		p, err := d.rotator.ProposeSettings(ctx, s, by, others)
		if err != nil {
			return err
		}
		return waitingSettings(rd, p)
	}
	var permitted *chain.Entry
	if rd.root != nil {
		permitted = rd.root.entry(s.Changes)
		d.log.Warn("root has accepted settings that needed a second operator", "reason", rd.root.Reason,
			"changes", strings.Join(rd.changes, "; "))
	}
	if err := d.rotator.KeepSettings(ctx, s, permitted, others); err != nil {
		return err
	}
	if rd.root != nil {
		if err := os.Remove(acceptanceFile(rd.file.StateDir)); err != nil {
			d.log.Warn("root's order is used, and could not be removed", "error", err.Error())
		}
	}
	return nil
}

// shownChanges is how many changes the answer to a reload lists.
const shownChanges = 20

// waitingSettings tells whoever reloaded what does not take effect yet.
func waitingSettings(rd reading, p key.Proposal) error {
	lines := []string{fmt.Sprintf("a second operator must approve %s; the rest of the configuration is in force",
		words.Count(len(rd.changes), "setting"))}
	for i, line := range rd.changes {
		if i == shownChanges {
			lines = append(lines, fmt.Sprintf("  and %d more: keyd approvals shows them all", len(rd.changes)-i))
			break
		}
		lines = append(lines, "  "+line)
	}
	ends := words.Moment(p.Until)
	if p.By.Known() {
		lines = append(lines, fmt.Sprintf("They wait until %s as a proposal of %s. Another person runs: keyd approve "+
			"%s --reason …", ends, p.By.Actor, p.ID))
	} else {
		lines = append(lines, fmt.Sprintf("They wait until %s as proposal %s, and keyd does not know who asks for "+
			"them. An operator who wants them runs keyd reload under their own user; another person then approves",
			ends, p.ID))
	}
	return &control.ProposedError{Text: strings.Join(lines, "\n")}
}

// person is who is behind a reload: nobody that keyd knows if it came by a signal.
func (d *Daemon) person(ctx context.Context, actor string) key.Person {
	if a := control.ActorOf(ctx); a != (control.Actor{}) {
		return d.personOf(a)
	}
	return key.Person{Actor: actor}
}

// approveSettings puts proposed settings into force.
func (d *Daemon) approveSettings(ctx context.Context, id key.ID, by key.Person, reason string) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	file, err := d.load()
	if err != nil {
		return err
	}
	if file.Digest() != d.config().Digest() {
		return &control.RefusedError{
			Text: "the configuration's files have changed since keyd read them: keyd reload " +
				"reads them again, and proposes what they change",
		}
	}
	rd, err := d.judge(ctx, file)
	if err != nil {
		return err
	}
	s, err := rd.settings()
	if err != nil {
		return err
	}
	rd.acts = file
	next, err := d.prepare(ctx, rd)
	if err != nil {
		return err
	}
	if err := d.rotator.ApproveSettings(ctx, s, id, by, reason, d.reloadEntries(by.Actor, rd)); err != nil {
		return refusal(err)
	}
	rd.changes = nil
	next.reading = rd
	d.use(next)
	d.log.Warn("settings approved by a second operator are in force", "actor", by.Actor, "proposal", string(id))
	return nil
}

// unapproved is what of the files keyd does not act on, a line each, and since when.
type unapproved struct {
	changes []string
	since   time.Time
}

// note keeps what keyd does not act on.
func (d *Daemon) note(rd reading) {
	switch {
	case !rd.waits():
		d.unapproved = unapproved{}
	case len(d.unapproved.changes) == 0:
		d.unapproved.since = time.Now()
		fallthrough
	default:
		d.unapproved.changes = rd.changes
	}
}

// notInForce is what of the files keyd does not act on now.
func (d *Daemon) notInForce() unapproved {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.unapproved
}

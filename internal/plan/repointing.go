package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/words"
)

const (
	// RepointTimeout is how long after it was recorded a move may still be sent.
	RepointTimeout = 3 * time.Minute
	// RepointTime is how long after that record the service may take until it shows what came of a move. It leaves
	// room for the clocks of two hosts to differ by key.MaxSkew.
	RepointTime = 30 * time.Minute
	// repointUnseen is how long keyd tries to see a consumer again whose repointing is open.
	repointUnseen = 24 * time.Hour
	// RepointAsked is how long a request counts: who asked for a move did not ask for those after later rotations.
	RepointAsked = 24 * time.Hour
	// repointPoll is how often keyd looks at the consumers meanwhile.
	repointPoll = time.Minute
)

// repointing moves consumers that do not follow by themselves to the newest version.
func repointing(in Input) (Step, bool) {
	open := in.Record.Repointing
	if open.Open() {
		return in.openRepointing(*open)
	}
	if open != nil || in.Record.Replacement != nil { // one failed, or they go to another key
		return Step{}, false
	}
	for _, w := range in.wanted() {
		if s, ok := in.repoint(w); ok {
			return s, true
		}
	}
	return Step{}, false
}

// wanted is a consumer that keyd is to move.
type wanted struct {
	id    string
	asked time.Time // by an operator; zero: the configuration says it
}

// lapsed reports whether an operator's request counts no more.
func (w wanted) lapsed(now time.Time) bool {
	return !w.asked.IsZero() && !near(now, w.asked, RepointAsked)
}

// wanted lists the consumers that keyd is to move: first those that an operator asked for, then those that the
// configuration says keyd moves.
func (in Input) wanted() (list []wanted) {
	for _, q := range in.Record.RepointRequests {
		list = append(list, wanted{q.Consumer, q.At})
	}
	for _, c := range in.Policy.Consumers {
		named := func(w wanted) bool { return sameID(w.id, c.ID) }
		if c.Follow == key.FollowKeyd && !slices.ContainsFunc(list, named) {
			list = append(list, wanted{id: c.ID})
		}
	}
	return list
}

// repoint moves one consumer, if it shows an older version than the newest in its vault, and nothing is wrong with
// that. A request ends with the move, when there is nothing to move, or after RepointAsked.
func (in Input) repoint(w wanted) (Step, bool) {
	s, why := in.moveOf(w)
	switch {
	case w.lapsed(in.Now):
		return Step{Kind: RepointLapsed, Consumer: w.id, Why: fmt.Sprintf("%s, and a request counts for %s",
			cmp.Or(why, "keyd could not do it before"), words.Exactly(RepointAsked))}, true
	case s.Kind == RepointMet && w.asked.IsZero():
		return Step{}, false
	}
	return s, s.Kind != ""
}

// moveOf is the next step for one consumer: its move, the end of a request that has nothing to move, or a wait for
// another look. Without a step it says what is in the way of the move.
func (in Input) moveOf(w wanted) (s Step, why string) {
	if in.Record.Stage(in.Policy).Phase != record.Finished {
		return s, "a rotation is under way"
	}
	if since := later(in.Record.Latest().Finished, in.Record.LastRepoint); !in.Seen.Usage.At.After(since) {
		// What was seen before the rotation, or before the last move, does not show who is left behind.
		return in.awaitUsers(fmt.Sprintf("keyd looks again which version consumer %s uses", w.id)), ""
	}
	if s, why = in.moveSeen(w.id); s.Kind == RepointMet && in.Seen.Usage.At.Before(w.asked) {
		return in.awaitUsers(fmt.Sprintf("keyd looks whether consumer %s has to be moved", w.id)), ""
	}
	return s, why
}

// moveSeen is moveOf by what the last look showed of a consumer.
func (in Input) moveSeen(id string) (s Step, why string) {
	if err := in.Seen.Usage.Err; err != nil {
		return s, fmt.Sprintf("keyd cannot see it: %v", err)
	}
	met, stuck := Step{}, false
	for _, seen := range in.Seen.Usage.Of(id) {
		s, w := in.moveFrom(seen)
		switch counts := seen.Err != nil || in.isOurs(seen); {
		case s.Kind == Repoint:
			return s, ""
		case s.Kind == RepointMet:
			met = s
		case counts || why == "":
			why, stuck = w, stuck || counts
		}
	}
	if met.Kind == RepointMet && !stuck {
		return met, ""
	}
	return s, cmp.Or(why, "keyd has not seen it yet")
}

// isOurs reports whether a consumer is set to the key in one of its vaults.
func (in Input) isOurs(seen record.ConsumerSeen) bool {
	_, ours := in.Policy.Vault(seen.Vault)
	return ours && strings.EqualFold(seen.Key, in.Policy.Key)
}

// moveFrom is moveSeen for one key of a consumer.
func (in Input) moveFrom(seen record.ConsumerSeen) (s Step, why string) {
	s = Step{Kind: RepointMet, Vault: seen.Vault, Consumer: seen.ID}
	vault, _ := in.Policy.Vault(seen.Vault)
	switch {
	case seen.Err != nil:
		return Step{}, fmt.Sprintf("keyd cannot see it: %v", seen.Err)
	case !in.isOurs(seen):
		return Step{}, fmt.Sprintf("it is set to key %s in %s", seen.Key, cmp.Or(vault.Name, seen.Vault, "no vault"))
	case seen.Asked == "":
		s.Why = "it is set to no version"
		return s, ""
	}
	v := visible{vault, in.shown(vault)}
	last := in.Record.NewestIn(vault.URL)
	switch why, _ := in.forbidsIn(Retiring{}, v); {
	case v.seen.Err != nil:
		return Step{}, fmt.Sprintf("vault %s cannot be seen: %v", v.Name, v.seen.Err)
	case last.Found() && sameID(seen.Asked, v.seen.Newest):
		s.Why, s.Version = "it is set to the newest version already", v.seen.Newest
		return s, ""
	case why != "":
		return Step{}, why
	}
	return Step{Kind: Repoint, Generation: last.Generation.Number, Vault: vault.URL, Version: v.seen.Newest,
		Consumer: seen.ID, From: seen.Asked,
		Why: fmt.Sprintf("it is set to version %s, and does not follow by itself", seen.Asked)}, ""
}

// openRepointing settles a repointing by what the consumer shows. What nobody can see holds up nothing but the next
// repointing.
func (in Input) openRepointing(open record.Repointing) (Step, bool) {
	s := Step{Vault: open.Vault, Version: open.Version, Consumer: open.Consumer, NewKey: open.NewKey,
		NewVault: open.NewVault}
	moved, set, shown := in.whereIs(open)
	switch {
	case moved:
		s.Kind, s.Why = RepointDone, "the consumer shows the version"
	case shown && !near(in.Now, open.At, RepointTime):
		s.Kind, s.Why = RepointFailed, fmt.Sprintf("after %s it still shows %s", RepointTime, set)
	case !near(in.Now, open.At, repointUnseen):
		s.Kind, s.Why = RepointFailed, fmt.Sprintf("keyd could not see what came of it for %s", repointUnseen)
	default:
		return in.awaitUsers(fmt.Sprintf("keyd moves consumer %s to version %s", open.Consumer, open.Version)), true
	}
	return s, true
}

// whereIs says whether a consumer uses the version to which keyd moves it, and what it is set to in that vault. shown
// is false if nobody has seen it since.
func (in Input) whereIs(open record.Repointing) (moved bool, set string, shown bool) {
	usage := in.Seen.Usage
	if !usage.At.After(open.At) || usage.Err != nil {
		return false, "", false
	}
	if open.NewKey != "" {
		return in.whereFrom(open)
	}
	set, behind := "no version of the key", false
	for _, c := range usage.Of(open.Consumer) {
		if c.Err != nil {
			return false, "", false
		}
		if shown = true; c.Vault != open.Vault || c.Asked == "" {
			continue
		}
		set = fmt.Sprintf("version %q", c.Asked)
		if c.Uses == "" {
			set += ", and not that it uses it"
		}
		behind = behind || sameID(c.Asked, open.From)
		moved = moved || (sameID(c.Asked, open.Version) && sameID(c.Uses, open.Version))
	}
	return moved && !behind, set, shown
}

// whereFrom is whereIs for a consumer that goes to the key that replaces this one.
func (in Input) whereFrom(open record.Repointing) (moved bool, set string, shown bool) {
	set, behind := "another key", false
	for _, c := range in.Seen.Usage.Of(open.Consumer) {
		if c.Err != nil {
			return false, "", false
		}
		shown = true
		switch {
		case c.Vault == open.Vault && key.SameName(c.Key, in.Policy.Key) && sameID(c.Asked, open.From):
			set, behind = "key "+c.Key, true
		case c.Vault == open.NewVault && key.SameName(c.Key, open.NewKey):
			uses := sameID(c.Uses, open.Version) || open.From == "" && c.Follows && c.Uses == ""
			if moved = moved || uses; !uses {
				set = "key " + c.Key + ", and not that it uses its version"
			}
		}
	}
	return moved && !behind, set, shown
}

// awaitUsers waits for another look at those who use the key, which keyd does not make more often than every minute.
func (in Input) awaitUsers(why string) Step {
	return Step{Kind: Wait, Why: why, Until: in.Now.Add(repointPoll),
		AsksUsers: !in.usersSeenNow() && in.older(in.Seen.Usage.At, repointPoll)}
}

// staleForRepoint: see Stale.
func (in Input) staleForRepoint(s Step, p *Parts) {
	if !in.usersSeenNow() {
		p.Usage = true
		return // the consumer may have moved since
	}
	if s.NewKey != "" {
		in.staleForNewKey(s.NewVault, p)
		return
	}
	p.vault(in, s.Vault)
	if seen, ok := in.asked(s.Vault); ok && (!in.provenNow(seen) || seen.Proof.At.Before(in.Since)) {
		p.Proofs = append(p.Proofs, s.Vault)
	}
}

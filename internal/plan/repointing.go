package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

const (
	// RepointTimeout is how long after it was recorded a move may still be sent.
	RepointTimeout = 3 * time.Minute
	// RepointTime is how long after that record the service may take until it shows what came of a move. It leaves
	// room for the clocks of two hosts to differ by key.MaxSkew.
	RepointTime = 30 * time.Minute
	// repointUnseen is how long keyd tries to see a consumer again whose repointing is open.
	repointUnseen = 24 * time.Hour
	// repointAsked is how long a request counts: who asked for a move did not ask for those after later rotations. A
	// request for a consumer that is on the newest version already stays in the record.
	repointAsked = 24 * time.Hour
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
	for _, id := range in.toRepoint() {
		if s, ok := in.repoint(id); ok {
			return s, true
		}
	}
	return Step{}, false
}

// toRepoint lists the consumers that keyd is to move: first those that an operator asked for, then those that the
// configuration says keyd moves.
func (in Input) toRepoint() (ids []string) {
	for _, q := range in.Record.RepointRequests {
		if near(in.Now, q.At, repointAsked) {
			ids = append(ids, q.Consumer)
		}
	}
	for _, c := range in.Policy.Consumers {
		if c.Follow == key.FollowKeyd {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// repoint moves one consumer, if it shows an older version than the newest in its vault, and nothing is wrong with
// that.
func (in Input) repoint(id string) (Step, bool) {
	if in.Record.Stage(in.Policy).Phase != record.Finished {
		return Step{}, false
	}
	if since := later(in.Record.Latest().Finished, in.Record.LastRepoint); !in.Seen.Usage.At.After(since) {
		// What was seen before the rotation, or before the last move, does not show who is left behind.
		return in.awaitUsers(fmt.Sprintf("keyd looks again which version consumer %s uses", id))
	}
	for _, seen := range in.Seen.Usage.Of(id) {
		if s, ok := in.repointFrom(seen); ok {
			return s, true
		}
	}
	return Step{}, false
}

func (in Input) repointFrom(seen record.ConsumerSeen) (Step, bool) {
	vault, ours := in.Policy.Vault(seen.Vault)
	if seen.Err != nil || !ours || !strings.EqualFold(seen.Key, in.Policy.Key) || seen.Asked == "" {
		return Step{}, false
	}
	v := visible{vault, in.shown(vault)}
	last := in.Record.NewestIn(vault.URL)
	if v.seen.Err != nil || !last.Found() || sameID(seen.Asked, v.seen.Newest) {
		return Step{}, false
	}
	if why, _ := in.forbidsIn(Retiring{}, v); why != "" {
		return Step{}, false
	}
	return Step{Kind: Repoint, Generation: last.Generation.Number, Vault: vault.URL, Version: v.seen.Newest,
		Consumer: seen.ID, From: seen.Asked,
		Why: fmt.Sprintf("it is set to version %s, and does not follow by itself", seen.Asked)}, true
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
		return in.awaitUsers(fmt.Sprintf("keyd moves consumer %s to version %s", open.Consumer, open.Version))
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
func (in Input) awaitUsers(why string) (Step, bool) {
	return Step{Kind: Wait, Why: why, Until: in.Now.Add(repointPoll),
		AsksUsers: !in.usersSeenNow() && in.older(in.Seen.Usage.At, repointPoll)}, true
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

package rotate

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/record"
)

// need is something outside keyd that many keys share. Of the keys that wait for it, one tries again at short intervals
// and wakes the others once it succeeds. The vault's own step and the daemon wake them too, when they see it first.
type need struct {
	kind needKind
	url  string // of the vault
}

type needKind int

const (
	needHSM   needKind = iota // the HSM answers
	needVault                 // the vault answers
	needKEK                   // the vault has a key exchange key that keyd may use
)

// needed is what the loop knows of a need.
type needed struct {
	missing bool      // the last look that could show it did not
	scout   *job      // the key that tries again for all
	at      time.Time // when the scout does
	found   time.Time // when a key's look last found it after another had not
	back    time.Time // when the vault's own step or the daemon last saw it
}

// foundPause is the least time between two wakings by keys that found the same need met. Otherwise a key that alone
// cannot find it would be stepped after every look of the others.
const foundPause = 30 * time.Second

func (l *Loop) needed(n need) *needed {
	if l.needs[n] == nil {
		l.needs[n] = &needed{}
	}
	return l.needs[n]
}

// keySeen notes which needs the newest look at a key found met and which not.
func (l *Loop) keySeen(j *job) {
	o := l.r.Observer.Last(j.id)
	if o == nil {
		return
	}
	j.pos.Looked = true
	if j.seen == any(o) {
		return
	}
	found, lacks := findings(*j.policy, o)
	j.seen, j.lacks = o, lacks
	for _, n := range lacks {
		l.needed(n).missing = true
		if back := l.needs[n].back; o.At.Before(back) && back.Before(l.r.Clock()) {
			j.woken = &wake{j.work, true} // the look began before it was back
		}
	}
	for _, n := range found {
		l.found(n)
	}
}

// findings lists the needs that a look at a key found met and those that it did not. It leaves out a vault whose error
// concerns this key alone.
func findings(p key.Policy, o *record.Observation) (found, lacks []need) {
	note := func(there bool, n need) {
		if there {
			found = append(found, n)
		} else {
			lacks = append(lacks, n)
		}
	}
	note(o.HSM.Err == nil, need{kind: needHSM})
	for _, v := range p.Vaults {
		seen, included := o.Vaults[v.URL]
		if !included || seen.Unconfigured {
			continue
		}
		if seen.Err == nil || silent(seen.Err) {
			note(seen.Err == nil, need{needVault, v.URL})
		}
		if seen.Err == nil {
			note(seen.KEK.Err == nil, need{needKEK, v.URL})
		}
	}
	return found, lacks
}

// silent reports whether an error means that the vault did not answer. Then it answers for no other key either.
func silent(err error) bool {
	return key.ClassOf(err) == key.Retry || errors.Is(err, context.DeadlineExceeded)
}

// found notes that a key's look found a need met, for which others may wait.
func (l *Loop) found(n need) {
	known, now := l.needs[n], l.r.Clock()
	if known == nil || !known.missing || now.Sub(known.found).Abs() < foundPause {
		return
	}
	known.found = now
	l.isBack(n)
}

// isBack wakes the keys and the vault that wait for a need which is met now.
func (l *Loop) isBack(n need) {
	known := l.needed(n)
	known.missing, known.scout = false, nil
	for _, j := range l.keys {
		if j.pos.Step.Kind == plan.Wait && slices.Contains(j.lacks, n) {
			l.wake(j, wake{j.work, true})
		}
	}
	if j := l.vaults[n.url]; j != nil && slices.Contains(j.lacks, n) {
		l.wake(j, wake{priority.Due, true})
	}
}

// tries reports whether a key that waits until then tries again by itself. It need not while each of its needs has
// another scout.
func (l *Loop) tries(j *job, now, then time.Time) bool {
	if j.pos.Step.Kind != plan.Wait || j.pos.Step.Attempt != "" || len(j.lacks) == 0 {
		return true
	}
	itself := false
	for _, n := range j.lacks {
		known := l.needed(n)
		if other := known.scout; other != nil && other != j && known.at.After(now) {
			continue
		}
		known.scout, known.at, itself = j, then, true
	}
	return itself
}

// HSMBack tells the loop that the HSM answers again, or for the first time.
func (l *Loop) HSMBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := need{kind: needHSM}
	l.needed(n).back = l.r.Clock()
	l.r.Observer.AskAgain()
	l.found(n)
	for _, j := range l.vaults {
		l.wake(j, wake{priority.Due, true}) // the HSM side says which key exchange keys it trusts
	}
}

// vaultSeen notes whether the newest look at a vault shows that it answers.
func (l *Loop) vaultSeen(j *job) {
	if !j.pos.Looked {
		j.pos.Looked = true
		l.unlooked--
		l.noteLooked()
	}
	if j.pos.Err == nil && j.pos.Step.Kind == plan.UseKEK {
		l.kekUsed(j)
	}
	o := l.r.Observer.LastVault(j.id)
	if o == nil || j.seen == any(o) {
		return
	}
	n := need{needVault, j.id}
	j.seen, j.lacks = o, nil
	switch {
	case o.Err == nil:
		if l.needed(n).missing {
			l.r.Observer.AskAgain()
		}
		l.needed(n).back = o.At
		l.isBack(n)
	case silent(o.Err):
		j.lacks = []need{n}
		l.needed(n).missing = true
	}
}

// kekUsed has every key of a vault stepped once a key exchange key was taken into use there. Those that waited for it
// go on in the class of their work, and the others only look.
func (l *Loop) kekUsed(vault *job) {
	for _, j := range l.keys {
		if _, has := j.policy.Vault(vault.id); !has {
			continue
		}
		c := priority.Look
		if j.pos.Step.Kind == plan.Wait {
			c = j.work
		}
		l.wake(j, wake{c, true})
	}
	*l.needed(need{needKEK, vault.id}) = needed{}
}

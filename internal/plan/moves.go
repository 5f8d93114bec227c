package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
)

// MoveState is how far the moving of a consumer is.
type MoveState string

// The states of a move.
const (
	MoveRunning MoveState = "running" // it began, and keyd does not know yet what came of it
	MoveWaits   MoveState = "waiting" // it has not begun
	MoveFailed  MoveState = "failed"  // keyd moves no other consumer of the key until an operator asks again
	MoveLapsed  MoveState = "lapsed"  // an operator's request was too old before keyd could carry it out
)

// Bad reports whether keyd does not go on by itself.
func (s MoveState) Bad() bool { return s == MoveFailed || s == MoveLapsed }

// Move is the moving of one consumer to the newest version, before it has ended well.
type Move struct {
	Consumer string // its resource id
	State    MoveState
	Since    time.Time // the state, or of one that waits: when By asked for it
	By       string    // who asked for it; "": the configuration says so
	Vault    string    // URL; "": not known
	From, To string    // versions; "": not known
	NewKey   string    // where it goes if another key replaces this one
	Why      string    // it waits, failed or lapsed
}

// Moves lists the moves of a key that have not ended well, as the record and the last look show them.
func Moves(in Input) (list []Move) {
	if in.Policy.Retained {
		return nil
	}
	if open := in.Record.Repointing; open != nil {
		m := Move{Consumer: open.Consumer, State: MoveRunning, Since: open.At, By: in.askedBy(open.Consumer),
			Vault: open.Vault, From: open.From, To: open.Version, NewKey: open.NewKey, Why: open.Failed}
		if !open.Open() {
			m.State = MoveFailed
		}
		list = append(list, m)
	}
	if in.Record.Replacement != nil { // nobody goes to another version of this key
		return list
	}
	for _, w := range in.wanted() {
		if m, waits := in.waitingMove(w); waits && !has(list, w.id) {
			list = append(list, m)
		}
	}
	for _, l := range in.Record.RepointLapses {
		named := func(c key.Consumer) bool { return sameID(c.ID, l.Consumer) }
		if slices.ContainsFunc(in.Policy.Consumers, named) && !has(list, l.Consumer) {
			list = append(list, Move{Consumer: l.Consumer, State: MoveLapsed, Since: l.Lapsed, By: l.By, Why: l.Why})
		}
	}
	return list
}

func has(list []Move, id string) bool {
	return slices.ContainsFunc(list, func(m Move) bool { return sameID(m.Consumer, id) })
}

func (in Input) askedBy(id string) string {
	for _, q := range in.Record.RepointRequests {
		if sameID(q.Consumer, id) {
			return q.By
		}
	}
	return ""
}

// waitingMove is the move of one consumer that keyd is to move. A consumer that nobody asked for waits only where it is
// seen on an older version: of others something else is wrong.
func (in Input) waitingMove(w wanted) (m Move, waits bool) {
	m = Move{Consumer: w.id, State: MoveWaits, Since: w.asked, By: in.askedBy(w.id)}
	if in.Seen == nil {
		m.Why = "keyd has not looked at the key yet"
		return m, !w.asked.IsZero()
	}
	s, why := in.moveOf(w)
	if s.Kind == RepointMet {
		return m, false
	}
	behind := in.behind(w.id)
	m.Vault, m.From, m.To = behind.Vault, behind.Asked, in.Seen.Vaults[behind.Vault].Newest
	switch open := in.Record.Repointing; {
	case in.Record.Hold != nil:
		m.Why = "the key is held: " + in.Record.Hold.Reason
	case open.Open():
		m.Why = "keyd moves consumer " + service.NameOf(open.Consumer) + " first"
	case open != nil:
		m.Why = "keyd could not move consumer " + service.NameOf(open.Consumer)
	case w.lapsed(in.Now):
		m.Why = fmt.Sprintf("it lapses: an operator asked for it more than %s ago", RepointAsked)
	case why != "":
		m.Why = why
	default:
		m.Why = "it is next"
		if s.Kind == Wait {
			m.Why = s.Why
		}
	}
	return m, behind.ID != "" || !w.asked.IsZero()
}

// behind is what was seen of a consumer that is set to an older version than the newest in its vault; the zero value:
// it was not seen so.
func (in Input) behind(id string) record.ConsumerSeen {
	for _, seen := range in.Seen.Usage.Of(id) {
		newest := in.Seen.Vaults[seen.Vault].Newest
		if seen.Err == nil && in.isOurs(seen) && seen.Asked != "" && newest != "" && !sameID(seen.Asked, newest) {
			return seen
		}
	}
	return record.ConsumerSeen{}
}

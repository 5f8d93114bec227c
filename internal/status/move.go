package status

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/words"
)

// MoveState is how far the moving of a consumer is.
type MoveState string

// The states of a move that has not ended well.
const (
	MoveRunning MoveState = "running" // it began, and keyd does not know yet what came of it
	MoveWaits   MoveState = "waiting" // it has not begun
	MoveFailed  MoveState = "failed"  // keyd moves no other consumer of the key until an operator asks again
	MoveLapsed  MoveState = "lapsed"  // an operator's request counts no more
)

// Move is the moving of one consumer to the newest version of the key.
type Move struct {
	Consumer string    `json:"consumer"` // its resource id
	Name     string    `json:"name"`     // the last name in it
	State    MoveState `json:"state"`
	Since    time.Time `json:"since,omitzero"` // the state; of one that waits: when an operator asked for it
	By       string    `json:"by,omitempty"`   // who asked for it; "": the configuration says so
	Vault    string    `json:"vault,omitempty"`
	From     string    `json:"from,omitempty"` // versions; "": not known
	To       string    `json:"to,omitempty"`
	NewKey   string    `json:"new_key,omitempty"` // where it goes if another key replaces this one
	Why      string    `json:"why,omitempty"`     // it waits, failed or lapsed
	Command  string    `json:"command,omitempty"` // what has keyd try again, once the cause is mended
}

// Bad reports whether keyd does not go on by itself.
func (m Move) Bad() bool { return m.State == MoveFailed || m.State == MoveLapsed }

// Words says what comes of it.
func (m Move) Words() string {
	to := "the newest version"
	if m.To != "" {
		to = "version " + m.To
	}
	if m.NewKey != "" {
		to = "key " + m.NewKey
	}
	switch m.State {
	case MoveRunning:
		return fmt.Sprintf("%s is moved to %s, since %s", m.Name, to, words.Moment(m.Since))
	case MoveFailed:
		return fmt.Sprintf("%s could not be moved to %s: %s", m.Name, to, m.Why)
	case MoveLapsed:
		return fmt.Sprintf("%s was not moved, and the request of %s lapsed at %s: %s", m.Name, m.By,
			words.Moment(m.Since), m.Why)
	}
	text := fmt.Sprintf("%s waits to be moved to %s: %s", m.Name, to, m.Why)
	if m.By != "" {
		text += fmt.Sprintf(" (%s asked for it at %s)", m.By, words.Moment(m.Since))
	}
	return text
}

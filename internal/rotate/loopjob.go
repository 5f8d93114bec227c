package rotate

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
)

// job is one key's or one vault's part of the loop.
type job struct {
	id      string           // the key's name or the vault's URL
	ofVault bool             // it steps the vault, and not a key
	policy  *key.Policy      // of a key
	vault   *key.VaultPolicy // of a vault
	pos     Position

	// class is the class of its next turn, and work that of its unfinished work, also while it waits. Without work it
	// is Look.
	class, work priority.Class
	begun       uint64    // its place among the keys that have begun something; 0: it has not
	due         time.Time // its next turn
	lacks       []need    // those that its last look did not find met
	seen        any       // its last look

	woken *wake              // it was woken during a step, of its own or of a job of that name that has left the loop
	stop  context.CancelFunc // of the step under way

	in      *jobs // where the queue has it, and at which place
	at      int
	arrival uint64

	done    bool // RunOnce is done with it: nothing is due, or it failed with err
	err     error
	waiting time.Time // since when it waits, in RunOnce
}

// wake is how a job was woken.
type wake struct {
	class priority.Class
	fresh bool // what the last look did not find may be there now
}

package consumer

import (
	"sync/atomic"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// signInPause is how often keyd looks again at all consumers while sign-ins for vaults work and those for them may not.
const signInPause = 5 * time.Minute

// lacking is whether anything could not be asked for want of a token.
type lacking struct{ token atomic.Bool }

// note keeps why something could not be asked, and returns it.
func (l *lacking) note(err error) error {
	if key.ReasonOf(err) == key.NoToken {
		l.token.Store(true)
	}
	return err
}

// SignInWorks has the watcher look again soon at consumers that it could not ask for want of a token. Its caller knows
// that keyd gets tokens now, and may say so often.
func (w *Watcher) SignInWorks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tokenless && w.cfg.Clock().Sub(w.began) >= signInPause {
		w.again()
	}
}

// looked keeps whether a look lacked a token. One at all keys shows that none does.
func (w *Watcher) looked(r *round, all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokenless = r.lacking.token.Load() || w.tokenless && !all
}

// again begins the next look at all keys at once.
func (w *Watcher) again() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

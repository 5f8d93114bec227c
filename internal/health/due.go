package health

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
)

const (
	// startSpread is the time over which health spreads the first proofs of the newest versions after a start.
	startSpread = time.Minute
	// retryPause is the pause between the first failure and the next try. Each further failure doubles it, up to the
	// interval of the newest versions.
	retryPause = 30 * time.Second
	// failingAfter is how many inconclusive proofs in a row make a subject failing. One lost request must not raise
	// an alarm.
	failingAfter = 2
)

// Last sums up the proofs of a subject so far.
type Last struct {
	Seen     time.Time // when the subject was first seen
	At       time.Time // end of the last proof; zero: none yet
	Passed   time.Time // end of the last one that passed; zero: none yet
	Result   proof.Result
	Failures int // proofs in a row that did not pass
}

// Failing reports whether the subject deserves an alarm: at once after a refuted proof, and after failingAfter
// inconclusive proofs in a row.
func (l Last) Failing() bool {
	return l.Result.Outcome == key.WasRefuted || l.Failures >= failingAfter
}

// WrapFailing reports whether the subject fails only because the vault does not wrap or sign.
func (l Last) WrapFailing() bool {
	return l.Failing() && l.Result.Outcome == key.Inconclusive && l.Result.Leg.Closes()
}

// ended returns l updated with one more proof.
func (l Last) ended(at time.Time, r proof.Result) Last {
	l.At, l.Result = at, r
	if r.Outcome == key.Passed {
		l.Passed, l.Failures = at, 0
	} else {
		l.Failures++
	}
	return l
}

// tracked is a subject with its proofs so far and its place in the queue of its vault.
type tracked struct {
	Subject
	last    Last
	draw    uint64    // of its identity: its fixed place in every interval
	due     time.Time // when to prove it next
	running int       // proofs under way
	queued  int       // its index in the queue; -1 while it is not in there
	gone    bool      // keyd no longer proves it
}

func newTracked(s Subject, seen time.Time) *tracked {
	sum := sha256.Sum256([]byte(s.Key + "\x00" + s.Vault + "\x00" + s.Version))
	return &tracked{Subject: s, last: Last{Seen: seen}, draw: binary.BigEndian.Uint64(sum[:]), queued: -1}
}

// dueAt is when to prove a subject next. Each subject has a fixed phase in its interval, drawn from its identity. So
// proofs spread evenly however many keys there are, and a restart does not delay the daily proofs.
func (t *tracked) dueAt(now time.Time, pace Pace) time.Time {
	l, interval := t.last, pace.of(t.Subject)
	switch {
	case l.Seen.After(now) || l.At.After(now):
		return now // the clock went back, so the earlier times do not count
	case l.At.IsZero() && t.Newest:
		return l.Seen.Add(t.phase(min(startSpread, interval)))
	case l.At.IsZero():
		return t.nextPhase(l.Seen, interval)
	}
	at := t.nextPhase(l.At, interval)
	if l.Failures > 0 {
		if retry := l.At.Add(backoff(l.Failures, pace.Newest)); retry.Before(at) {
			return retry
		}
	}
	return at
}

func backoff(failures int, limit time.Duration) time.Duration {
	return min(retryPause<<min(failures-1, 20), max(limit, retryPause))
}

// phase is the subject's fixed offset in [0, interval).
func (t *tracked) phase(interval time.Duration) time.Duration {
	return time.Duration(t.draw % uint64(interval))
}

// nextPhase is the first time after a time that lies the subject's phase after a multiple of interval. Multiples count
// from the zero time.
func (t *tracked) nextPhase(after time.Time, interval time.Duration) time.Time {
	start := after.Truncate(interval).Add(t.phase(interval))
	if !start.After(after) {
		return start.Add(interval)
	}
	return start
}

package health

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
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
	Failures int  // proofs in a row that did not pass
	Busy     bool // a proof is under way
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

// Due returns the subjects to prove now, the most overdue first. wake is when the next of the others becomes due; it
// is zero when there is none. Due leaves out subjects whose proof is under way.
//
// Each subject has a fixed phase in its interval, drawn from its identity. So proofs spread evenly however many keys
// there are, and a restart does not delay the daily proofs.
func Due(now time.Time, pace Pace, subjects []Subject, last map[ID]Last) (next []Subject, wake time.Time) {
	type dated struct {
		s  Subject
		at time.Time
	}
	var due []dated
	for _, s := range subjects {
		l := last[s.ID()]
		if l.Busy {
			continue
		}
		at := dueAt(now, pace, s, l)
		if !at.After(now) {
			due = append(due, dated{s, at})
		} else if wake.IsZero() || at.Before(wake) {
			wake = at
		}
	}
	slices.SortStableFunc(due, func(a, b dated) int { return a.at.Compare(b.at) })
	for _, d := range due {
		next = append(next, d.s)
	}
	return next, wake
}

func dueAt(now time.Time, pace Pace, s Subject, l Last) time.Time {
	interval := pace.of(s)
	switch {
	case l.Seen.After(now) || l.At.After(now):
		return now // the clock went back, so the earlier times do not count
	case l.At.IsZero() && s.Newest:
		return l.Seen.Add(phase(s, min(startSpread, interval)))
	case l.At.IsZero():
		return nextPhase(l.Seen, s, interval)
	}
	at := nextPhase(l.At, s, interval)
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
func phase(s Subject, interval time.Duration) time.Duration {
	sum := sha256.Sum256([]byte(s.Key + "\x00" + s.Vault + "\x00" + s.Version))
	return time.Duration(binary.BigEndian.Uint64(sum[:]) % uint64(interval))
}

// nextPhase is the first time after t that lies the subject's phase after a multiple of interval. Multiples count
// from the zero time.
func nextPhase(t time.Time, s Subject, interval time.Duration) time.Time {
	start := t.Truncate(interval).Add(phase(s, interval))
	if !start.After(t) {
		return start.Add(interval)
	}
	return start
}

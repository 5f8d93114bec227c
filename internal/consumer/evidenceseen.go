package consumer

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// review is what a reading showed of a vault by itself, without the ledger. A ledger can be forged by whoever can write
// keyd's state. So before a disabling keyd asks the workspace again for all the time that counts, as far back as the
// workspace keeps its log.
type review struct {
	at    time.Time     // when the reading began
	back  time.Duration // how far back it read; 0: only what was new
	since time.Time     // from here on the log shows keyd's identity without a long pause; zero: it does not
	first time.Time     // of all rows about the vault
	// beats has the first and the last call of keyd's identity in each hour that has one.
	beats map[int64]span
}

// longestReview is how old a review may be that a disabling goes by. What came since was read hourly.
const longestReview = time.Hour

func newReview(at time.Time, back time.Duration) *review {
	return &review{at: at, back: back, beats: map[int64]span{}}
}

// saw notes a row about the vault.
func (r *review) saw(at time.Time, mine bool) {
	if r.first.IsZero() || at.Before(r.first) {
		r.first = at
	}
	if !mine {
		return
	}
	hour := at.Unix() / 3600
	r.beats[hour] = r.beats[hour].with(at)
}

// covers reports whether the review still answers for that much time.
func (r review) covers(now time.Time, back time.Duration) bool {
	return r.back >= back && !now.Before(r.at) && now.Sub(r.at) < longestReview
}

// then is the review that counts after a later reading. One of new rows only leaves the one before it as it is.
func (r review) then(later review, end time.Time) review {
	if later.back == 0 {
		return r
	}
	later.since = later.unbroken(end)
	later.beats = nil
	return later
}

// unbroken is the beginning of the last stretch of calls of keyd's identity that has no long pause, if it reaches end.
func (r review) unbroken(end time.Time) (since time.Time) {
	next := end
	hour := end.Unix() / 3600
	for pause := int64(0); pause <= int64(longestQuiet/time.Hour)+1; hour-- {
		b, ok := r.beats[hour]
		if !ok {
			pause++
			continue
		}
		if next.Sub(b.Last) > longestQuiet {
			return since
		}
		since, next, pause = b.First, b.First, 0
	}
	return since
}

// seen is what the log shows of a key.
func (k *vaultLog) seen(name string, v key.Vault) record.LogSeen {
	l := k.ledger
	from, until, missing, first := l.stretch()
	uses := l.Keys[strings.ToLower(name)]
	s := record.LogSeen{From: from, Until: until, Asked: k.review.since}
	if uses != nil && !uses.Since.IsZero() {
		s.Uses, s.Worked = uses.times()
		s.From = later(s.From, uses.Since)
	}
	// If the workspace has older rows of this vault, and none of keyd's there, then the ledger is wrong.
	r := k.review
	if !r.first.IsZero() && r.first.Before(r.since.Add(-longestQuiet)) {
		s.From = later(s.From, r.since)
	}
	if s.Until.Before(s.From) { // nothing of that time counts
		s.From, s.Until = time.Time{}, time.Time{}
	}
	if err := k.trouble(name, s, missing, first); err != nil {
		s.Err = fmt.Errorf("the log of the vault %s: %w", v.Name, err)
	}
	return s
}

// trouble is why keyd does not trust the log now.
func (k *vaultLog) trouble(name string, s record.LogSeen, missing int, first ownCall) error {
	switch {
	case k.err != nil:
		return k.err
	case s.Uses == nil || k.ledger.Asked.IsZero():
		return fmt.Errorf("keyd has not read about %s yet", name)
	case s.Until.IsZero() && missing > 0:
		return fmt.Errorf("it lacks %d calls of keyd's, the first a %s of %s/%s at %s: does the vault send its audit "+
			"log (category AuditEvent) to the workspace %s, and is this machine's clock right? "+
			"Look: `az monitor diagnostic-settings list --resource VAULT_ID`, `keyd check`",
			missing, first.Operation, first.Key, first.Version, first.Begun.Format(time.RFC3339), k.ledger.Workspace)
	case s.Until.IsZero():
		return fmt.Errorf("it shows no call of keyd's since keyd reads about %s; the first comes up to %s after a "+
			"proof, and keyd looks again by itself", name, logDelay+logEvery)
	case k.review.back > 0 && k.review.since.IsZero():
		return errors.New("it shows no calls of keyd's up to now, although keyd's ledger says so; keyd looks again " +
			"by itself")
	}
	return nil
}

// times are the last uses, and those that prove something, by version and caller.
func (k *keyUses) times() (last map[string]map[string]time.Time, worked map[string]map[string]record.Span) {
	last, worked = map[string]map[string]time.Time{}, map[string]map[string]record.Span{}
	for version, callers := range k.Uses {
		last[version] = map[string]time.Time{}
		for caller, s := range callers {
			last[version][caller] = s.Last
		}
	}
	for version, callers := range k.Worked {
		worked[version] = map[string]record.Span{}
		for caller, s := range callers {
			worked[version][caller] = record.Span(s)
		}
	}
	return last, worked
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// later keeps the zero time.
func later(a, b time.Time) time.Time {
	if !a.IsZero() && b.After(a) {
		return b
	}
	return a
}

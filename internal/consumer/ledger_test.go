package consumer

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// retiring is the bench's policy with a rule that goes by the log.
func (b *logBench) retiring(unusedFor time.Duration) key.Policy {
	p := b.policies[0]
	p.Retire = key.RetireRule{DisableAfter: time.Hour, UnusedFor: unusedFor}
	return p
}

// asked is what keyd sees when it asks again before a disabling.
func (b *logBench) asked(t *testing.T, unusedFor time.Duration) record.LogSeen {
	t.Helper()
	return b.evidence.Logs(t.Context(), b.retiring(unusedFor), b.now)[logVaultURL]
}

func TestAfterARestartKeydKnowsItsCallsFromBeforeAndTheStretch(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 4*time.Hour)
	b.proof(logV1) // not in the log yet
	b.evidence.keepCalls(t.Context())
	b.restart()
	b.now = b.now.Add(15 * time.Minute)
	b.pass(t, 2*time.Hour-15*time.Minute)
	wantSeen(t, b.seen(t), logStart, b.now.Add(-30*time.Minute))
	wantUses(t, b.seen(t), map[string]map[string]time.Time{})
}

// A crash loses which calls keyd made since the ledger was saved. Their rows count as uses: that only delays.
func TestCallsThatACrashLostCountAsUses(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 4*time.Hour)
	e := b.proof(logV1)
	b.restart()
	b.now = b.now.Add(15 * time.Minute)
	b.pass(t, 2*time.Hour-15*time.Minute)
	wantUses(t, b.seen(t), map[string]map[string]time.Time{logV1: {keydID: e.at}})
}

func TestBeforeItsFirstCallKeydSeesNothing(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 4*time.Hour)
	b.restart()
	b.queries = nil
	s := b.asked(t, 24*time.Hour)
	if s.Err == nil || !strings.Contains(s.Err.Error(), "since its start") || len(b.queries) != 0 {
		t.Errorf("%v after %d queries", s.Err, len(b.queries))
	}
	b.proof(logV2)
	b.asked(t, 24*time.Hour)
	if len(b.queries) == 0 {
		t.Error("after the first call keyd does not read")
	}
}

func TestAnOldLedgerThatIsPutBackShowsAGap(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 24*time.Hour)
	old := b.ledgers[logVaultURL]
	b.pass(t, 24*time.Hour)
	b.ledgers[logVaultURL] = old
	b.restart()
	resumed := b.now
	b.pass(t, 3*time.Hour)
	if s := b.seen(t); !s.From.Equal(resumed) {
		t.Errorf("the log is seen from %s, want from the restart at %s", s.From, resumed)
	}
}

// What keyd called before its first call that it knows is before the time of which it says anything.
func TestADamagedLedgerIsBegunAnew(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 4*time.Hour)
	b.ledgers[logVaultURL] = []byte("damaged")
	b.restart()
	resumed := b.now
	b.pass(t, 3*time.Hour)
	wantSeen(t, b.seen(t), resumed, b.now.Add(-30*time.Minute))
	wantUses(t, b.seen(t), map[string]map[string]time.Time{})
}

// Whoever can write keyd's state can take a use out of the ledger. The workspace still has it.
func TestAUseThatSomebodyTookOutOfTheLedgerIsFoundBeforeADisabling(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 24*time.Hour)
	use := b.use(logV1)
	b.pass(t, 5*24*time.Hour)
	forge(t, b, func(l *ledger) {
		delete(l.Keys[logKey].Uses, logV1)
		l.Forgotten = b.now
		l.Calls[0] = ownCall{ID: use.request, Operation: use.operation, Key: logKey, Version: logV1, Caller: storageID,
			Begun: use.at, Ended: use.at, Must: true} // as if the storage account were keyd
	})
	b.proof(logV2)
	b.now = b.now.Add(30 * time.Minute)
	s := b.asked(t, 7*24*time.Hour)
	if s.Err != nil || !s.Uses[logV1][storageID].Equal(use.at) {
		t.Errorf("%v; the use of %s is not found: %v", s.Err, use.at, s.Uses)
	}
}

func TestAStretchThatOnlyAForgedLedgerHasDoesNotCount(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 12*time.Hour)
	b.now = b.now.Add(24 * time.Hour) // keyd stands still, or the vault's log is off
	b.use(logV1)
	resumed := b.now
	b.pass(t, 12*time.Hour)
	forge(t, b, func(l *ledger) { l.From = logStart })
	b.pass(t, 3*time.Hour)
	if s := b.asked(t, 7*24*time.Hour); s.Err != nil || s.From.Before(resumed) {
		t.Errorf("%v; the log is seen from %s, want from %s", s.Err, s.From, resumed)
	}
}

func TestCallsThatOnlyAForgedLedgerHasDoNotCount(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 12*time.Hour)
	for range 40 { // the vault's log is off
		b.proof(logV2, lost)
		b.now = b.now.Add(15 * time.Minute)
	}
	b.read(t)
	forge(t, b, func(l *ledger) {
		for i := range l.Calls {
			l.Calls[i].Seen[resourceLog.number] = l.Calls[i].Begun
		}
	})
	b.proof(logV2, lost)
	b.now = b.now.Add(15 * time.Minute)
	s := b.asked(t, 7*24*time.Hour)
	if s.Err == nil || !strings.Contains(s.Err.Error(), "shows no calls of keyd's up to now") {
		t.Errorf("%v; the log is seen from %s until %s", s.Err, s.From, s.Until)
	}
}

// Whoever can write keyd's state and stole keyd's identity must not hide what they do with it later.
func TestInsiderAForgedLedgerHidesNothingThatIsStillToCome(t *testing.T) {
	for name, change := range map[string]func(l *ledger, stolen logEntry){
		"keyd forgot its calls of all time": func(l *ledger, _ logEntry) { l.Forgotten = l.Asked.AddDate(100, 0, 0) },
		"keyd has made the call already": func(l *ledger, stolen logEntry) {
			l.Calls = append(l.Calls, ownCall{ID: stolen.request, Operation: stolen.operation, Key: logKey,
				Version: logV1, Caller: keydID, Begun: l.Asked, Ended: l.Asked.AddDate(100, 0, 0)})
		},
	} {
		b := newLogBench(t)
		b.pass(t, 12*time.Hour)
		stolen := logEntry{request: "eeeeeeee-0000-4000-8000-000000000001", operation: "KeyUnwrap"}
		forge(t, b, func(l *ledger) { change(l, stolen) })
		b.pass(t, 2*time.Hour)
		use := b.use(logV1, func(e *logEntry) { e.caller, e.request = keydID, stolen.request })
		b.pass(t, 2*time.Hour)
		if s := b.asked(t, 7*24*time.Hour); s.Err != nil || !s.Uses[logV1][keydID].Equal(use.at) {
			t.Errorf("%s: %v; the use of %s is not found: %v", name, s.Err, use.at, s.Uses)
		}
	}
}

// forge changes the ledger in the store, and starts keyd anew.
func forge(t *testing.T, b *logBench, change func(*ledger)) {
	t.Helper()
	l, err := decodeLedger(b.ledgers[logVaultURL])
	if err != nil {
		t.Fatal(err)
	}
	change(l)
	if b.ledgers[logVaultURL], err = l.encode(); err != nil {
		t.Fatal(err)
	}
	b.restart()
}

// What rests on the ledger alone is said, for the entry of the disabling.
func TestTheLedgerFillsInWhatTheWorkspaceNoLongerHas(t *testing.T) {
	b := newLogBench(t)
	b.keeps = 3 * 24 * time.Hour
	b.pass(t, 24*time.Hour)
	use := b.use(logV1)
	b.pass(t, 9*24*time.Hour)
	s := b.asked(t, 7*24*time.Hour)
	if s.Err != nil {
		t.Fatal(s.Err)
	}
	wantSeen(t, s, logStart, b.now.Add(-30*time.Minute))
	wantUses(t, s, map[string]map[string]time.Time{logV1: {storageID: use.at}})
	kept := b.now.Add(-b.keeps)
	if s.Asked.Before(kept) || s.Asked.After(kept.Add(time.Hour)) {
		t.Errorf("the workspace itself showed it from %s, want from about %s", s.Asked, kept)
	}
}

func TestARowThatComesAfterKeydReadItsHourIsFoundBeforeADisabling(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 24*time.Hour)
	use := b.use(logV1, func(e *logEntry) { e.late = 4 * time.Hour })
	b.pass(t, 6*time.Hour)
	wantUses(t, b.seen(t), map[string]map[string]time.Time{})
	s := b.asked(t, 7*24*time.Hour)
	wantUses(t, s, map[string]map[string]time.Time{logV1: {storageID: use.at}})
}

func TestAskingAgainTakesFewQueriesAndIsSharedByAllKeys(t *testing.T) {
	b := newLogBench(t)
	b.policies = append(b.policies, logPolicy("another"))
	b.pass(t, 24*time.Hour)
	b.now = b.now.Add(time.Minute)
	b.queries = nil
	if s := b.asked(t, 60*24*time.Hour); s.Err != nil {
		t.Fatal(s.Err)
	}
	first := len(b.queries)
	other := b.policies[1]
	other.Retire = key.RetireRule{DisableAfter: time.Hour, UnusedFor: 60 * 24 * time.Hour}
	if s := b.evidence.Logs(t.Context(), other, b.now)[logVaultURL]; s.Err != nil {
		t.Fatal(s.Err)
	}
	if len(b.queries) != first {
		t.Errorf("%d queries more for another key", len(b.queries)-first)
	}
	// Sixty days by weeks that begin on Mondays, then an hour and a begun one, and the table that is not there.
	if first != 10+2+1 {
		t.Errorf("%d queries: %s", first, strings.Join(b.queries, "\n"))
	}
}

func TestWhoeverCutsTheAskingShortSeesNothing(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 24*time.Hour)
	b.now = b.now.Add(10 * time.Minute)
	for name, after := range map[string]int{"at once": 0, "after some pieces": 3} {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		b.fail = func(string) *http.Response {
			if n++; n > after {
				cancel()
				return logAnswer(http.StatusServiceUnavailable, "")
			}
			return nil
		}
		s := b.evidence.Logs(ctx, b.retiring(60*24*time.Hour), b.now)[logVaultURL]
		cancel()
		if s.Err == nil {
			t.Errorf("%s: the log is seen from %s until %s", name, s.From, s.Until)
		}
		b.now = b.now.Add(2 * time.Minute)
	}
	b.fail = nil
	if s := b.asked(t, 60*24*time.Hour); s.Err != nil || !s.From.Equal(logStart) {
		t.Errorf("afterwards: %v, seen from %s", s.Err, s.From)
	}
}

func TestAnotherWorkspaceBeginsAnew(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 12*time.Hour)
	l, err := decodeLedger(b.ledgers[logVaultURL])
	if err != nil {
		t.Fatal(err)
	}
	l.Calls = nil // each of them has arrived
	l.begin("99999999-2222-3333-4444-555555555555")
	if from, until, _, _ := l.stretch(); !from.IsZero() || !until.IsZero() {
		t.Errorf("the other workspace is seen from %s until %s", from, until)
	}
}

func TestATimeThatKeydCouldNotReadEndsTheStretch(t *testing.T) {
	arrived := func(at time.Time) ownCall {
		return ownCall{Begun: at, Ended: at, Must: true, Seen: [2]time.Time{at}}
	}
	for unread, want := range map[time.Duration]time.Time{
		-time.Minute: logStart, time.Minute: logStart.Add(20 * time.Minute),
	} {
		l := &ledger{Asked: logStart.Add(15 * time.Minute)}
		for i := range 3 {
			l.Calls = append(l.Calls, arrived(logStart.Add(time.Duration(i)*10*time.Minute)))
		}
		l.skip(l.Asked.Add(unread))
		l.read(logStart.Add(15*time.Minute), logStart.Add(time.Hour))
		if from, _, _, _ := l.stretch(); !from.Equal(want) {
			t.Errorf("with %s that nobody read the log is seen from %s, want %s", unread, from, want)
		}
	}
}

func TestALedgerStaysSmall(t *testing.T) {
	k := &keyUses{Since: logStart}
	for i := range 3 * mostLogVersions {
		r := logRow{at: logStart.Add(time.Duration(i)), version: strings.Repeat("v", i+1), caller: storageID}
		k.use(r)
	}
	last := logStart.Add(3*mostLogVersions - 1)
	if len(k.Uses) > mostLogVersions+1 || !k.Uses[""][storageID].Last.Equal(last) {
		t.Errorf("%d versions, the last use of any version at %s", len(k.Uses), k.Uses[""][storageID].Last)
	}
	for i := range 3 * mostLogCallers {
		k.use(logRow{at: logStart.Add(time.Duration(i)), version: "v", caller: strings.Repeat("c", i+1)})
	}
	if n := len(k.Uses["v"]); n > mostLogCallers+1 || k.Uses["v"][""].Last.IsZero() {
		t.Errorf("%d callers, the last use of an unknown one at %s", n, k.Uses["v"][""].Last)
	}

	l := &ledger{Asked: logStart}
	for i := range mostOwnCalls + 10 {
		at := logStart.Add(time.Duration(i-mostOwnCalls) * time.Millisecond)
		l.Calls = append(l.Calls, ownCall{Begun: at, Ended: at, Must: true})
	}
	l.From, l.Until = logStart.Add(-time.Hour), logStart.Add(-time.Minute)
	l.settle()
	if len(l.Calls) != mostOwnCalls || !l.From.IsZero() {
		t.Errorf("%d calls, seen from %s although keyd forgot calls that did not arrive", len(l.Calls), l.From)
	}
}

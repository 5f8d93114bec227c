package consumer

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

func TestALogIsSeenFromKeydsFirstCallToItsLast(t *testing.T) {
	for _, forms := range [][]logForm{{resourceLog}, {sharedLog}, {sharedLog, resourceLog}} {
		var names []string
		for _, f := range forms {
			names = append(names, f.table)
		}
		t.Run(strings.Join(names, " and "), func(t *testing.T) {
			b := newLogBench(t, forms...)
			b.pass(t, 5*time.Hour)
			s := b.seen(t)
			wantSeen(t, s, logStart, logStart.Add(4*time.Hour+30*time.Minute))
			wantUses(t, s, map[string]map[string]time.Time{})
		})
	}
}

func TestUsesAreKeptByVersionAndCallerWithTheLastTime(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, time.Hour)
	first := b.use(logV1).at
	b.pass(t, time.Hour)
	last := b.use(logV1).at
	refused := b.use(logV1, func(e *logEntry) {
		e.caller, e.status = "cccccccc-0000-0000-0000-000000000003", http.StatusForbidden
	}).at
	versionless := b.use("", func(e *logEntry) { e.operation = "KeyWrap" }).at
	nobody := b.use(logV2, func(e *logEntry) { e.caller = "" }).at
	// Other keys and other vaults are none of the key's.
	b.use(logV1, func(e *logEntry) { e.uri = logVaultURL + "/keys/other/" + logV1 + "/unwrapkey" })
	b.pass(t, 2*time.Hour)
	wantUses(t, b.seen(t), map[string]map[string]time.Time{
		logV1: {storageID: last, "cccccccc-0000-0000-0000-000000000003": refused},
		logV2: {"": nobody},
		"":    {storageID: versionless},
	})
	if got := b.seen(t).Worked[logV1][storageID]; !got.First.Equal(first) || !got.Last.Equal(last) {
		t.Errorf("the uses that worked were %v, want from %s to %s", got, first, last)
	}
}

func TestARowThatNamesNoKeyCountsForEveryKey(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, time.Hour)
	at := b.use(logV1, func(e *logEntry) { e.uri = "" }).at
	b.pass(t, 2*time.Hour)
	wantUses(t, b.seen(t), map[string]map[string]time.Time{"": {storageID: at}})
}

func TestAMissingCallOfKeydsEndsTheStretchThatIsSeen(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 2*time.Hour)
	b.proof(logV1, lost)
	gap := b.now
	b.now = b.now.Add(15 * time.Minute)
	b.pass(t, 6*time.Hour-15*time.Minute)
	wantSeen(t, b.seen(t), gap.Add(15*time.Minute), gap.Add(5*time.Hour+30*time.Minute))
}

func TestARowThatComesLateClosesTheGap(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 2*time.Hour)
	b.proof(logV1, lateBy(20*time.Hour))
	b.now = b.now.Add(15 * time.Minute)
	b.pass(t, 20*time.Hour-15*time.Minute)
	if s := b.seen(t); !s.From.After(logStart.Add(2 * time.Hour)) {
		t.Errorf("seen from %s although a call is missing", s.From)
	}
	b.pass(t, 2*time.Hour)
	wantSeen(t, b.seen(t), logStart, b.now.Add(-30*time.Minute))
}

func TestARowThatNeverComesIsAGapForEver(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 2*time.Hour)
	gap := b.proof(logV1, lost).at
	b.now = b.now.Add(15 * time.Minute)
	b.pass(t, logPatience+5*time.Hour-15*time.Minute)
	wantSeen(t, b.seen(t), gap.Add(15*time.Minute-time.Second), b.now.Add(-30*time.Minute))
	b.log(logEntry{gap, 0, "KeyUnwrap", logVaultURL + "/keys/" + logKey + "/" + logV1 + "/unwrapkey", keydID,
		b.entries[8].request, 200}) // much too late
	b.pass(t, 2*time.Hour)
	wantSeen(t, b.seen(t), gap.Add(15*time.Minute-time.Second), b.now.Add(-30*time.Minute))
}

func TestAFailedCallOfKeydsMayBeInTheLogOrNot(t *testing.T) {
	for name, change := range map[string]func(*logEntry){
		"it is": func(e *logEntry) { e.status = http.StatusTooManyRequests }, "it is not": lost,
	} {
		t.Run(name, func(t *testing.T) {
			b := newLogBench(t)
			b.pass(t, time.Hour)
			e := b.proof(logV1, change)
			call := b.evidence.own.fresh[logVaultURL]
			call[len(call)-1].Must = false // as the answer 429 makes it
			if e.request != call[len(call)-1].ID {
				t.Fatal("that is another call")
			}
			b.now = b.now.Add(15 * time.Minute)
			b.pass(t, 3*time.Hour-15*time.Minute)
			wantSeen(t, b.seen(t), logStart, b.now.Add(-30*time.Minute))
			wantUses(t, b.seen(t), map[string]map[string]time.Time{})
		})
	}
}

func TestAPauseWithoutCallsIsNotSeen(t *testing.T) {
	for pause, seenThrough := range map[time.Duration]bool{longestQuiet: true, longestQuiet + 15*time.Minute: false} {
		b := newLogBench(t)
		b.pass(t, 2*time.Hour)
		last := b.now.Add(-15 * time.Minute)
		b.now = last.Add(pause)
		resumed := b.now
		b.pass(t, 3*time.Hour)
		want := logStart
		if !seenThrough {
			want = resumed
		}
		if s := b.seen(t); !s.From.Equal(want) {
			t.Errorf("after a pause of %s the log is seen from %s, want %s", pause, s.From, want)
		}
	}
}

// Somebody who can read the log can copy an id, and somebody who can use keyd's identity can send it.
func TestAnotherCallUnderAnIDOfKeydsCountsAsUse(t *testing.T) {
	copies := map[string]func(*logEntry){
		"by another identity": func(e *logEntry) { e.caller = storageID; e.at = e.at.Add(time.Second) },
		"a second time":       func(e *logEntry) { e.at = e.at.Add(time.Second) },
		"much later":          func(e *logEntry) { e.at = e.at.Add(10 * time.Minute) },
		"with another operation": func(e *logEntry) {
			e.operation, e.uri = "KeyDecrypt", strings.Replace(e.uri, "unwrapkey", "decrypt", 1)
		},
		"with another version": func(e *logEntry) { e.uri = strings.Replace(e.uri, logV1, logV2, 1) },
		"with no version":      func(e *logEntry) { e.uri = strings.Replace(e.uri, "/"+logV1, "", 1) },
		"without any id":       func(e *logEntry) { e.request = "" },
	}
	for name, change := range copies {
		t.Run(name, func(t *testing.T) {
			b := newLogBench(t)
			b.pass(t, time.Hour)
			e := b.proof(logV1)
			b.now = b.now.Add(15 * time.Minute)
			change(&e)
			b.log(e)
			b.pass(t, 3*time.Hour-15*time.Minute)
			version := logV1
			switch name {
			case "with another version":
				version = logV2
			case "with no version":
				version = ""
			}
			wantUses(t, b.seen(t), map[string]map[string]time.Time{version: {e.caller: e.at}})
			wantSeen(t, b.seen(t), logStart, b.now.Add(-30*time.Minute))
		})
	}
}

func TestARowThatIsThereTwiceIsOneCall(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, time.Hour)
	b.log(b.proof(logV1))
	b.now = b.now.Add(15 * time.Minute)
	b.pass(t, 3*time.Hour-15*time.Minute)
	wantUses(t, b.seen(t), map[string]map[string]time.Time{})
}

func TestACallWithoutATokenIsKeydsOnlyIfTheVaultRefusedIt(t *testing.T) {
	for status, want := range map[int]bool{http.StatusUnauthorized: true, http.StatusOK: false} {
		b := newLogBench(t)
		b.pass(t, time.Hour)
		e := b.proof(logV1, func(e *logEntry) { e.caller, e.status = "", status })
		call := &b.evidence.own.fresh[logVaultURL][len(b.evidence.own.fresh[logVaultURL])-1]
		call.Caller, call.Must = "", false
		b.now = b.now.Add(15 * time.Minute)
		b.pass(t, 3*time.Hour-15*time.Minute)
		uses := map[string]map[string]time.Time{}
		if !want {
			uses[logV1] = map[string]time.Time{"": e.at}
		}
		wantUses(t, b.seen(t), uses)
	}
}

func TestWithAWrongClockKeydSeesNothing(t *testing.T) {
	for _, off := range []time.Duration{key.MaxSkew + 2*time.Second, -24 * time.Hour, 24 * time.Hour} {
		b := newLogBench(t)
		for range 20 {
			b.proof(logV2, func(e *logEntry) { e.at = e.at.Add(off) })
			b.now = b.now.Add(15 * time.Minute)
		}
		b.read(t)
		s := b.evidence.Last(b.policies[0])[logVaultURL]
		if s.Err == nil || !s.From.IsZero() || !strings.Contains(s.Err.Error(), "clock") {
			t.Errorf("off by %s: seen from %s, error %v", off, s.From, s.Err)
		}
	}
}

func TestWithinTheAllowedSkewKeydKnowsItsCalls(t *testing.T) {
	for _, off := range []time.Duration{key.MaxSkew, -key.MaxSkew} {
		b := newLogBench(t)
		for range 20 {
			b.proof(logV2, func(e *logEntry) { e.at = e.at.Add(off) })
			b.now = b.now.Add(15 * time.Minute)
		}
		b.read(t)
		wantUses(t, b.seen(t), map[string]map[string]time.Time{})
	}
}

func TestOneQueryAnHourServesAllKeysOfAWorkspace(t *testing.T) {
	b := newLogBench(t)
	for _, name := range []string{"one", "two", "three"} {
		b.policies = append(b.policies, logPolicy(name))
	}
	b.restart()
	b.pass(t, 5*time.Hour)
	b.queries = nil
	b.pass(t, time.Hour)
	// The new hour up to a quarter of an hour ago, and the one before again for rows that come late. The table that is
	// not there is asked for once each time, because it may come.
	want := []string{
		"AzureDiagnostics 2026-03-02T11:00:00Z 2026-03-02T12:00:00Z",
		"AZKVAuditLogs 2026-03-02T11:00:00Z 2026-03-02T12:00:00Z",
		"AZKVAuditLogs 2026-03-02T12:00:00Z 2026-03-02T13:00:00Z",
		"AZKVAuditLogs 2026-03-02T13:00:00Z 2026-03-02T13:45:00Z",
	}
	if strings.Join(b.queries, "\n") != strings.Join(want, "\n") {
		t.Errorf("queries\n%s\nwant\n%s", strings.Join(b.queries, "\n"), strings.Join(want, "\n"))
	}
	for _, p := range b.policies {
		if s := b.evidence.Last(p)[logVaultURL]; s.Err != nil || s.From.IsZero() {
			t.Errorf("%s: seen from %s, %v", p.Key, s.From, s.Err)
		}
	}
}

func TestAKeyThatIsNewIsSeenOnlyFromWhenKeydReadAboutIt(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 48*time.Hour)
	b.policies = append(b.policies, logPolicy("new"))
	p := b.policies[1]
	if s := b.evidence.Last(p)[logVaultURL]; s.Err == nil {
		t.Errorf("seen from %s before keyd read about it", s.From)
	}
	b.pass(t, 3*time.Hour)
	s := b.evidence.Last(p)[logVaultURL]
	if s.Err != nil || s.From.Before(logStart.Add(46*time.Hour)) {
		t.Errorf("seen from %s, %v", s.From, s.Err)
	}
}

func TestKeydTrustsNoLogOfAManagedHSM(t *testing.T) {
	b := newLogBench(t)
	p := logPolicy(logKey)
	p.Vaults[0].Kind = key.ManagedHSM
	b.policies = []key.Policy{p}
	s := b.evidence.Logs(t.Context(), p, b.now)[logVaultURL]
	if s.Err == nil || !strings.Contains(s.Err.Error(), "Managed HSM") || len(b.queries) != 0 {
		t.Errorf("%v after %d queries", s.Err, len(b.queries))
	}
}

// A service that is refused the new version goes on with the old one, and keyd's own identity proves nothing for a
// consumer that shares it. Both still count as uses.
func TestARefusedUseAndOneByKeydsIdentityProveNothing(t *testing.T) {
	const other = "dddddddd-0000-0000-0000-000000000004"
	b := newLogBench(t)
	b.pass(t, time.Hour)
	at := b.use(logV2).at
	b.use(logV2, func(e *logEntry) { e.caller, e.status = other, http.StatusForbidden })
	b.use(logV2, func(e *logEntry) { e.caller = keydID }) // as after a crash that lost what keyd knew of its call
	b.use(logV2, func(e *logEntry) { e.uri = "" })
	b.pass(t, 2*time.Hour)
	s := b.seen(t)
	wantUses(t, s, map[string]map[string]time.Time{"": {storageID: at},
		logV2: {storageID: at, other: at, keydID: at}})
	if len(s.Worked) != 1 || len(s.Worked[logV2]) != 1 || !s.Worked[logV2][storageID].First.Equal(at) {
		t.Errorf("proofs: %v", s.Worked)
	}
}

package consumer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// account is a Cosmos DB account that uses a version of cmk.
func account(id, version string) string {
	return `{"id":"` + id + `",` + identity + `,"properties":{"keyVaultKeyUri":"WEU/keys/cmk",
		"keyVaultKeyUriVersion":"` + version + `","defaultIdentity":"SystemAssignedIdentity"}}`
}

// accounts are the ids of n Cosmos DB accounts.
func accounts(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("%sMicrosoft.DocumentDB/databaseAccounts/c%d", group, i))
	}
	return ids
}

// ledger is a ledger in memory.
type ledger struct {
	mu    sync.Mutex
	blobs map[string][]byte
	saves int
	err   error // of every call
}

func (l *ledger) LoadLedger(_ context.Context, name string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.blobs[name], l.err
}

func (l *ledger) SaveLedger(_ context.Context, name string, blob []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.blobs == nil {
		l.blobs = map[string][]byte{}
	}
	l.blobs[name] = blob
	l.saves++
	return l.err
}

// clock is a clock that a test sets.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func TestEachResourceIsAskedOnceAnHourForAllKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := accounts(3)
		c := newCloud(nil)
		for _, id := range ids {
			c.set(id, account(id, newID))
		}
		one, two := cmk(ids...), cmk(ids[2])
		two.Key = "other"
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		w := watcher(t, c, consumer.Config{Clock: time.Now, Policies: func() []key.Policy {
			return []key.Policy{one, two, {Key: "without consumers"}}
		}})
		go w.Run(ctx)
		synctest.Wait()
		if calls := c.sent(); len(calls) != 3 {
			t.Errorf("at the start keyd sent %q", calls)
		}
		if at := w.Last("cmk").At; !at.Equal(time.Now()) || w.Last("other").At != at {
			t.Errorf("seen at %s and %s", at, w.Last("other").At)
		}
		for range 3 {
			time.Sleep(time.Hour)
			synctest.Wait()
			if calls := c.sent(); len(calls) != 3 {
				t.Errorf("in an hour keyd sent %q", calls)
			}
		}
		if u := w.Last("without consumers"); !u.At.IsZero() {
			t.Errorf("keyd looked at nobody: %+v", u)
		}
	})
}

func TestLooksAreSpreadOverHalfAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(nil)
		var keys []key.Policy
		for i, id := range accounts(10) {
			c.set(id, account(id, newID))
			p := cmk(id)
			p.Key = fmt.Sprintf("k%d", i)
			keys = append(keys, p)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go watcher(t, c, consumer.Config{Clock: time.Now, Policies: func() []key.Policy { return keys }}).Run(ctx)
		synctest.Wait()
		c.sent()
		time.Sleep(time.Hour) // the second round has begun
		var each []int
		for range 10 {
			synctest.Wait()
			each = append(each, len(c.sent()))
			time.Sleep(3 * time.Minute)
		}
		if diff := cmp.Diff([]int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, each); diff != "" {
			t.Errorf("calls in each three minutes (-want +got):\n%s", diff)
		}
	})
}

// Vaults are asked every few minutes, so they show first that sign-ins work again. What keyd could not ask before for
// want of a token must not stay a problem until the hour is over.
func TestAfterASignInWorksAgainConsumersAreLookedAtAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := accounts(1)[0]
		c := newCloud(map[string]string{id: account(id, newID)})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		token := &failingToken{err: errors.New("the sign-in failed")}
		client, err := consumer.NewClient(consumer.ClientConfig{Credential: token, Transport: c,
			Budget: consumer.NewBudget(1e6, 1e6)})
		must(t, err)
		w := consumer.NewWatcher(consumer.Config{Clock: time.Now, Logger: slog.New(slog.DiscardHandler),
			Policies: func() []key.Policy { return []key.Policy{cmk(id)} }})
		w.Use(client, nil)
		go w.Run(ctx)
		seen := func() key.Reason {
			synctest.Wait()
			return key.ReasonOf(w.Last("cmk").Consumers[0].Err)
		}
		time.Sleep(4 * time.Minute) // the SDK tries again
		if why := seen(); why != key.NoToken {
			t.Fatalf("%q: %v", why, w.Last("cmk").Consumers[0].Err)
		}
		asked := w.Last("cmk").At
		if w.SignInWorks(); seen() != key.NoToken || w.Last("cmk").At != asked {
			t.Error("keyd looks again although it has just looked")
		}
		token.err = nil
		time.Sleep(time.Minute)
		if w.SignInWorks(); seen() != "" {
			t.Errorf("keyd does not look again: %v", w.Last("cmk").Consumers[0].Err)
		}
		asked = w.Last("cmk").At
		time.Sleep(10 * time.Minute)
		if w.SignInWorks(); seen() != "" || w.Last("cmk").At != asked {
			t.Error("keyd looks again although it sees all")
		}
	})
}

// failingToken is a credential whose sign-ins fail.
type failingToken struct{ err error }

func (f *failingToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if f.err != nil {
		return azcore.AccessToken{}, f.err
	}
	return azcore.AccessToken{Token: "secret", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestANewConfigurationIsLookedAtAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := accounts(2)
		c := newCloud(map[string]string{ids[0]: account(ids[0], newID), ids[1]: account(ids[1], newID)})
		policies := []key.Policy{cmk(ids[0])}
		var mu sync.Mutex
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		w := watcher(t, c, consumer.Config{Clock: time.Now, Policies: func() []key.Policy {
			mu.Lock()
			defer mu.Unlock()
			return policies
		}})
		go w.Run(ctx)
		time.Sleep(time.Minute)
		mu.Lock()
		policies = []key.Policy{cmk(ids...)}
		mu.Unlock()
		w.Use(clientOf(t, c), nil)
		synctest.Wait()
		if n := len(w.Last("cmk").Consumers); n != 2 {
			t.Errorf("keyd sees %d consumers", n)
		}
		mu.Lock()
		policies = []key.Policy{{Key: "cmk"}}
		mu.Unlock()
		w.Use(clientOf(t, c), nil)
		synctest.Wait()
		if u := w.Last("cmk"); !u.At.IsZero() {
			t.Errorf("keyd still shows %+v", u)
		}
	})
}

func TestSinceIsWhatTheServiceSaysOrWhenKeydFirstSawIt(t *testing.T) {
	at := &clock{today}
	s := samples()["storage account"]
	c := newCloud(s.answers)
	c.set(storage+"/encryptionScopes", `{"value":[]}`)
	shows := func(version, rotated string) {
		c.set(
			storage,
			replace(t, s.answers[storage], "cmk/NEW", "cmk/"+version, "2026-11-20T08:30:00.0000000Z", rotated),
		)
	}
	w := watcher(t, c, consumer.Config{Clock: at.Now})
	for _, step := range []struct {
		what, version, rotated string
		after                  time.Duration
		since                  time.Time
		left                   map[string]time.Time
	}{
		{"the service says since when", oldID, "2026-11-20T08:30:00Z", 0, rotated, nil},
		{"the service says a time in the future", oldID, "2026-12-20T08:30:00Z", time.Hour, today, nil},
		{"a rotation that the service shows in time", newID, "2026-11-30T13:30:00Z", time.Hour,
			today.Add(90 * time.Minute), map[string]time.Time{oldID: today.Add(2 * time.Hour)}},
		{"a rotation back, at a time when keyd saw the other version", oldID, "2026-11-20T08:30:00Z", time.Hour,
			today.Add(3 * time.Hour), map[string]time.Time{newID: today.Add(3 * time.Hour)}},
		{"and again", newID, "2026-11-30T15:10:00Z", time.Hour, today.Add(190 * time.Minute),
			map[string]time.Time{oldID: today.Add(4 * time.Hour)}},
	} {
		at.now = at.now.Add(step.after)
		shows(step.version, step.rotated)
		got := w.Look(t.Context(), cmk(storage)).Consumers[0]
		if !got.Since.Equal(step.since) {
			t.Errorf("%s: since %s, want %s (%v)", step.what, got.Since, step.since, got.Err)
		}
		if diff := cmp.Diff(step.left, got.Left); diff != "" {
			t.Errorf("%s: left (-want +got):\n%s", step.what, diff)
		}
	}
}

// A look may take long. What it showed may have begun as late as at its end.
func TestAVersionIsNotDatedBeforeItWasSeen(t *testing.T) {
	at := &clock{today}
	c := newCloud(map[string]string{cosmos: account(cosmos, oldID)})
	w := watcher(t, c, consumer.Config{Clock: at.Now})
	w.Look(t.Context(), cmk(cosmos))
	c.set(cosmos, account(cosmos, newID))
	c.hook = func(*http.Request) *http.Response { at.now = at.now.Add(20 * time.Minute); return nil }
	u := w.Look(t.Context(), cmk(cosmos))
	got, end := u.Consumers[0], today.Add(20*time.Minute)
	if !u.At.Equal(today) || !got.Since.Equal(end) || !got.Left[oldID].Equal(end) {
		t.Errorf("seen at %s, since %s, left %v", u.At, got.Since, got.Left)
	}
}

func TestARestartForgetsNothingAndSavesOnlyChanges(t *testing.T) {
	at := &clock{today}
	kept := &ledger{}
	c := newCloud(map[string]string{cosmos: account(cosmos, oldID)})
	look := func(w *consumer.Watcher) record.ConsumerSeen {
		at.now = at.now.Add(time.Hour)
		return w.Look(t.Context(), cmk(cosmos)).Consumers[0]
	}
	w := watcher(t, c, consumer.Config{Clock: at.Now, Ledgers: kept})
	look(w)
	look(w)
	c.set(cosmos, account(cosmos, newID))
	look(w)
	w = watcher(t, c, consumer.Config{Clock: at.Now, Ledgers: kept})
	got := look(w)
	moved := today.Add(3 * time.Hour)
	if !got.Since.Equal(moved) || !got.Left[oldID].Equal(moved) {
		t.Errorf("since %s, left %v; want %s", got.Since, got.Left, moved)
	}
	if kept.saves != 2 {
		t.Errorf("saved %d times", kept.saves)
	}
}

// A resource that was deleted and made again may have been restored from a backup under a version that it left long
// ago. Whatever shows that it was made again, its time begins anew: retire.backups counts from then.
func TestAResourceThatWasMadeAgainBeginsAnew(t *testing.T) {
	const born = `,"systemData":{"createdAt":"2026-01-01T00:00:00Z"}}`
	made := func(body, from, to string) string { return strings.Replace(body, from, to, 1) }
	now := strings.TrimSuffix(account(cosmos, newID), "}") + born
	for name, c := range map[string]struct {
		between, after string // what Azure shows; "": it says that there is no such resource
		again          bool
	}{
		"it is the same":              {now, now, false},
		"it was made later":           {now, made(now, "2026-01-01", "2026-11-30"), true},
		"it has another identity":     {now, made(now, `"SYSTEM"`, `"USER"`), true},
		"it was not there":            {"", now, true},
		"it does not say when":        {now, made(now, `"createdAt"`, `"other"`), false},
		"it could not be seen":        {"{", now, false},
		"it was set to another key":   {made(now, "keys/cmk", "keys/two"), now, true},
		"it was on the service's own": {made(now, "WEU/keys/cmk", ""), now, true},
	} {
		t.Run(name, func(t *testing.T) {
			at, kept := &clock{today}, &ledger{}
			cloud := newCloud(nil)
			cloud.set(cosmos, strings.Replace(now, newID, oldID, 1))
			look := func() record.ConsumerSeen {
				at.now = at.now.Add(time.Hour)
				w := watcher(t, cloud, consumer.Config{Clock: at.Now, Ledgers: kept}) // keyd starts anew each time
				return w.Look(t.Context(), cmk(cosmos)).Consumers[0]
			}
			look()
			cloud.set(cosmos, now)
			left := look().Left[oldID]
			if cloud.set(cosmos, c.between); c.between == "" {
				cloud.remove(cosmos)
			}
			look()
			cloud.set(cosmos, c.after)
			seen := look()
			if got := seen.Anew; got.Equal(at.now) != c.again || got.IsZero() == c.again {
				t.Errorf("began anew at %s: %+v", got, seen)
			}
			if got := seen.Left[oldID]; !got.Equal(left) {
				t.Errorf("left at %s, and before that at %s", got, left)
			}
			if c.again != seen.Since.Equal(at.now) {
				t.Errorf("uses the version since %s", seen.Since)
			}
			if again := look().Anew; !again.Equal(seen.Anew) {
				t.Errorf("the next look dates it anew: %s", again)
			}
		})
	}
}

// A consumer may go from one vault of the key to another, and back. Which version it left when is known in both.
func TestAVersionInAnotherVaultIsLeft(t *testing.T) {
	at, kept := &clock{today}, &ledger{}
	c := newCloud(nil)
	look := func(in, version string) record.ConsumerSeen {
		at.now = at.now.Add(time.Hour)
		c.set(cosmos, strings.Replace(account(cosmos, version), "WEU", in, 1))
		w := watcher(t, c, consumer.Config{Clock: at.Now, Ledgers: kept})
		return w.Look(t.Context(), cmk(cosmos)).Consumers[0]
	}
	look(weu, oldID)
	there := look(neu, newID)
	if !there.Left[oldID].Equal(at.now) {
		t.Errorf("in the other vault: left %v", there.Left)
	}
	if later := look(neu, newID); !later.Left[oldID].Equal(there.Left[oldID]) {
		t.Errorf("the next look dates it anew: %v", later.Left)
	}
	if back := look(weu, oldID); len(back.Left) != 1 || !back.Left[newID].Equal(at.now) || !back.Since.Equal(at.now) {
		t.Errorf("back again: since %s, left %v", back.Since, back.Left)
	}
}

// What a consumer used while it did not show it is not known, so its time begins anew.
func TestAVersionThatWasHiddenBeginsAnew(t *testing.T) {
	at := &clock{today}
	c := newCloud(nil)
	w := watcher(t, c, consumer.Config{Clock: at.Now})
	for _, shown := range []string{oldID, "", newID} {
		at.now = at.now.Add(time.Hour)
		c.set(cosmos, account(cosmos, shown))
		got := w.Look(t.Context(), cmk(cosmos)).Consumers[0]
		if since := got.Since; shown != "" && !since.Equal(at.now) || shown == "" && !since.IsZero() ||
			len(got.Left) > 0 {
			t.Errorf("version %q: since %s, left %v", shown, since, got.Left)
		}
	}
}

func TestALedgerThatCannotBeReadIsSaid(t *testing.T) {
	c := newCloud(map[string]string{cosmos: account(cosmos, newID)})
	for name, kept := range map[string]*ledger{
		"an error": {err: errors.New("disk gone")}, "broken": {blobs: map[string][]byte{"consumers/cmk": []byte("{")}},
	} {
		u := watcher(t, c, consumer.Config{Ledgers: kept}).Look(t.Context(), cmk(cosmos))
		if u.Err == nil || u.At.IsZero() {
			t.Errorf("%s: %+v", name, u)
		}
	}
}

// Whoever can write keyd's state must not have keyd end at each start.
func TestInsiderAnEditedLedgerOfConsumersIsSaid(t *testing.T) {
	c := newCloud(map[string]string{cosmos: account(cosmos, newID)})
	for name, blob := range map[string]string{
		"an empty standing": `{"standings":{"` + strings.ToLower(cosmos+" "+weu) + `/keys/cmk":null}}`,
		"an empty find":     `{"found":{"` + strings.ToLower(cosmos) + `":null}}`,
	} {
		kept := &ledger{blobs: map[string][]byte{"consumers/cmk": []byte(blob)}}
		u := watcher(t, c, consumer.Config{Ledgers: kept}).Look(t.Context(), cmk(cosmos))
		if u.Err == nil || !strings.Contains(u.Err.Error(), "backup") {
			t.Errorf("%s: %+v", name, u)
		}
	}
}

func TestALogIsReadWhereThereIsAWorkspace(t *testing.T) {
	c := newCloud(nil)
	seen := map[string]record.LogSeen{weu: {From: today}}
	w := watcher(t, c, consumer.Config{
		Logs: func(_ context.Context, p key.Policy, now time.Time) map[string]record.LogSeen {
			if p.Key != "cmk" || !now.Equal(today) {
				t.Errorf("asked about %s at %s", p.Key, now)
			}
			return seen
		},
	})
	p := cmk()
	p.Workspaces = map[string]string{weu: "w"}
	if diff := cmp.Diff(record.Usage{At: today, Logs: seen}, w.Look(t.Context(), p)); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(record.Usage{}, w.Look(t.Context(), cmk())); diff != "" {
		t.Errorf("a key about which nobody is asked (-want +got):\n%s", diff)
	}
}

func TestALookThatIsCutShortShowsNothing(t *testing.T) {
	c := newCloud(map[string]string{cosmos: account(cosmos, newID)})
	w := watcher(t, c, consumer.Config{})
	first := w.Look(t.Context(), cmk(cosmos))
	ctx, stop := context.WithCancel(t.Context())
	c.hook = func(*http.Request) *http.Response { stop(); return nil }
	if u := w.Look(ctx, cmk(cosmos)); u.Err == nil || len(u.Consumers) > 0 {
		t.Errorf("%+v", u)
	}
	if diff := cmp.Diff(first, w.Last("cmk")); diff != "" {
		t.Errorf("the last look (-want +got):\n%s", diff)
	}
}

func TestWhatIsUnseenIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	c := newCloud(nil)
	w := consumer.NewWatcher(consumer.Config{
		Clock: func() time.Time { return today }, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	w.Use(clientOf(t, c), nil)
	for range 3 {
		w.Look(t.Context(), cmk(cosmos))
	}
	c.set(cosmos, account(cosmos, newID))
	for range 3 {
		w.Look(t.Context(), cmk(cosmos))
	}
	if n := strings.Count(log.String(), "\n"); n != 2 ||
		!strings.Contains(log.String(), "keyd does not see all consumers") ||
		!strings.Contains(log.String(), "keyd sees all consumers again") {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}

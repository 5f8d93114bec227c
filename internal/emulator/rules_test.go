package emulator_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/keyd-project/keyd/internal/emulator"
)

func TestALostAnswerToAnImportDependsOnWhenItIsLost(t *testing.T) {
	for mode, versions := range map[emulator.DropMode]int{emulator.DropBeforeCommit: 0, emulator.DropAfterCommit: 1} {
		e := start(t, emulator.Options{})
		c := newClient(t, e, premium)
		b := newTransfer(t, createKEK(t, c), generate(t))
		rule := e.Fail(emulator.Rule{Operation: "import", Key: "k", Count: 1, Drop: mode})
		_, err := c.ImportKey(t.Context(), "k", importParameters(b.blob(t)), nil)
		var response *azcore.ResponseError
		if err == nil || errors.As(err, &response) {
			t.Errorf("mode %d: the client got an answer: %v", mode, err)
		}
		if got := len(e.Vault(premium).Versions("k")); got != versions || rule.Hits() != 1 {
			t.Errorf("mode %d: %d versions, want %d; %d hits", mode, got, versions, rule.Hits())
		}
		if _, err := c.ImportKey(t.Context(), "k", importParameters(b.blob(t)), nil); err != nil {
			t.Errorf("mode %d: a count of one hit twice: %v", mode, err)
		}
	}
}

func TestAChallengeUsesUpNoRule(t *testing.T) {
	e := start(t, emulator.Options{})
	rule := e.Fail(emulator.Rule{Host: premium, Count: 1, Status: 403, Inner: "ForbiddenByRbac"})
	do(t, e, "GET", "https://"+premium+"/keys?api-version=7.6", nil, "")
	if rule.Hits() != 0 {
		t.Error("a call without a token met the rule")
	}
	_, err := newClient(t, e, premium).GetKey(t.Context(), "k", "", nil)
	wantError(t, err, 403, "Forbidden", "ForbiddenByRbac")
}

func TestARefusalHasTheServicesShape(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	for _, test := range []struct {
		rule  emulator.Rule
		code  string
		after string
	}{
		{emulator.Rule{Status: 429}, "Throttled", "1"},
		{emulator.Rule{Status: 429, RetryAfter: 1500 * time.Millisecond}, "Throttled", "2"},
		{emulator.Rule{Status: 429, NoRetryAfter: true}, "Throttled", ""},
		{emulator.Rule{Status: 503}, "ServiceUnavailable", ""},
		{emulator.Rule{Status: 409, Code: "Conflict", Inner: "ObjectIsBeingDeleted"}, "Conflict", ""},
	} {
		active := e.Fail(test.rule)
		_, err := c.GetKey(t.Context(), "k", "", nil)
		active.Clear()
		wantError(t, err, test.rule.Status, test.code, test.rule.Inner)
		var response *azcore.ResponseError
		if errors.As(err, &response); response.RawResponse.Header.Get("Retry-After") != test.after {
			t.Errorf("%+v: Retry-After %q", test.rule, response.RawResponse.Header.Get("Retry-After"))
		}
	}
}

func TestARuleHitsOnlyWhatItNames(t *testing.T) {
	e := start(t, emulator.Options{})
	a, b := newClient(t, e, premium), newClient(t, e, managedHSM)
	for _, host := range []string{premium, managedHSM} {
		foreign(t, e, host, "one")
		foreign(t, e, host, "two")
	}
	e.Fail(emulator.Rule{Host: premium, Method: "GET", Operation: "get", Key: "one", Status: 500})
	_, err := a.GetKey(t.Context(), "one", "", nil)
	wantError(t, err, 500, "InternalServerError", "")
	if _, err := a.GetKey(t.Context(), "two", "", nil); err != nil {
		t.Errorf("another key: %v", err)
	}
	if _, err := b.GetKey(t.Context(), "one", "", nil); err != nil {
		t.Errorf("another host: %v", err)
	}
	if ids, _ := listVersions(t, a, "one"); len(ids) != 1 {
		t.Error("another operation did not work")
	}
	e.ClearFailures()
	if _, err := a.GetKey(t.Context(), "one", "", nil); err != nil {
		t.Errorf("after clearing: %v", err)
	}
}

func TestARuleEndsAtItsTime(t *testing.T) {
	c := newClock()
	e := start(t, emulator.Options{Now: c.Now})
	client := newClient(t, e, premium)
	e.Fail(emulator.Rule{Status: 403, Until: c.Now().Add(time.Minute)})
	_, err := client.GetKey(t.Context(), "k", "", nil)
	wantError(t, err, 403, "Forbidden", "")
	c.advance(time.Minute)
	_, err = client.GetKey(t.Context(), "k", "", nil)
	wantError(t, err, 404, "KeyNotFound", "")
}

func TestAProbabilityHitsSomeCallsAndTheSeedDecidesWhich(t *testing.T) {
	pattern := func() (s string) {
		e := start(t, emulator.Options{Seed: 7})
		c := newClient(t, e, premium)
		e.Fail(emulator.Rule{Probability: 0.5, Status: 503})
		for range 20 {
			_, err := c.GetKey(t.Context(), "k", "", nil)
			var response *azcore.ResponseError
			if !errors.As(err, &response) {
				t.Fatal(err)
			}
			s += map[int]string{503: "x", 404: "."}[response.StatusCode]
		}
		return s
	}
	one, two := pattern(), pattern()
	if one != two || !strings.Contains(one, "x") || !strings.Contains(one, ".") {
		t.Errorf("patterns %s and %s", one, two)
	}
}

func TestADamagedAnswerComesAfterTheEffect(t *testing.T) {
	for name, rule := range map[string]emulator.Rule{
		"truncated": {Operation: "import", Truncate: true},
		"garbage":   {Operation: "import", Garbage: true},
	} {
		e := start(t, emulator.Options{})
		c := newClient(t, e, premium)
		b := newTransfer(t, createKEK(t, c), generate(t))
		e.Fail(rule)
		if _, err := c.ImportKey(t.Context(), "k", importParameters(b.blob(t)), nil); err == nil {
			t.Errorf("%s: the client took the answer", name)
		}
		if got := len(e.Vault(premium).Versions("k")); got != 1 {
			t.Errorf("%s: %d versions", name, got)
		}
	}
}

func TestATokenRuleHitsTheIdentityEndpoint(t *testing.T) {
	e := start(t, emulator.Options{})
	rule := e.Fail(emulator.Rule{Operation: "token", Status: 400})
	if _, err := newClient(t, e, premium).GetKey(t.Context(), "k", "", nil); err == nil || rule.Hits() != 1 {
		t.Errorf("error %v, %d hits", err, rule.Hits())
	}
}

func TestAConnectRuleCutsTheNetwork(t *testing.T) {
	e := start(t, emulator.Options{})
	rule := e.Fail(emulator.Rule{Operation: "connect", Host: premium, Drop: emulator.DropBeforeCommit})
	if _, err := newClient(t, e, premium).GetKey(t.Context(), "k", "", nil); err == nil {
		t.Error("the vault was reached")
	}
	if rule.Hits() == 0 {
		t.Error("the rule was not met")
	}
	_, err := newClient(t, e, managedHSM).GetKey(t.Context(), "k", "", nil)
	wantError(t, err, 404, "KeyNotFound", "")
}

func TestSkewIsAddedToTheDateHeader(t *testing.T) {
	c := newClock()
	e := start(t, emulator.Options{Now: c.Now})
	e.Fail(emulator.Rule{SkewDate: time.Hour})
	header := http.Header{"Authorization": {"Bearer " + token(t, managedIdentity(t, e), "https://vault.azure.net")}}
	res, _ := do(t, e, "GET", "https://"+premium+"/keys?api-version=7.6", header, "")
	if got, want := res.Header.Get("Date"), c.Now().Add(time.Hour).UTC().Format(http.TimeFormat); got != want {
		t.Errorf("Date %s, want %s", got, want)
	}
}

func TestAnAbandonedCallStillTakesEffect(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	b := newTransfer(t, createKEK(t, c), generate(t))
	rule := e.Fail(emulator.Rule{Operation: "import", Hold: true}) // it goes on only after the client has gone
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		poll(t, func() bool { return rule.Hits() == 1 })
		cancel()
	}()
	if _, err := c.ImportKey(ctx, "k", importParameters(b.blob(t)), nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	rule.Clear()
	if !poll(t, func() bool { return len(e.Vault(premium).Versions("k")) == 1 }) {
		t.Error("the import never took effect")
	}
}

func TestAHeldCallGoesOnWhenItsRuleEnds(t *testing.T) {
	for name, end := range map[string]func(*emulator.Emulator, *emulator.ActiveRule){
		"cleared by itself": func(_ *emulator.Emulator, rule *emulator.ActiveRule) { rule.Clear() },
		"cleared with all":  func(e *emulator.Emulator, _ *emulator.ActiveRule) { e.ClearFailures() },
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, emulator.Options{})
			c := newClient(t, e, premium)
			foreign(t, e, premium, "k")
			rule := e.Fail(emulator.Rule{Operation: "get", Count: 1, Hold: true})
			got := make(chan error, 1)
			go func() { _, err := c.GetKey(t.Context(), "k", "", nil); got <- err }()
			poll(t, func() bool { return rule.Hits() == 1 })
			// A call after it is answered before it.
			if _, err := c.GetKey(t.Context(), "k", "", nil); err != nil {
				t.Errorf("a count of one holds two: %v", err)
			}
			select {
			case err := <-got:
				t.Errorf("the held call is over before its rule: %v", err)
			default:
			}
			end(e, rule)
			if err := <-got; err != nil {
				t.Errorf("the held call: %v", err)
			}
			log := e.Requests()
			if first, last := log[len(log)-2], log[len(log)-1]; first.Delay != 0 || last.Delay == 0 {
				t.Errorf("the log has delays of %v and %v, want none and some", first.Delay, last.Delay)
			}
			rule.Clear() // twice does no harm
		})
	}
}

func TestClosingEndsAHeldCall(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	rule := e.Fail(emulator.Rule{Operation: "get", Hold: true})
	got := make(chan error, 1)
	go func() { _, err := c.GetKey(t.Context(), "k", "", nil); got <- err }()
	poll(t, func() bool { return rule.Hits() == 1 })
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; err == nil {
		t.Error("a call was answered by an emulator that was closed")
	}
}

// poll waits until f holds; after a minute it reports an error.
func poll(t *testing.T, f func() bool) bool {
	deadline := time.Now().Add(time.Minute)
	for !f() {
		if time.Now().After(deadline) {
			t.Error("waited in vain")
			return false
		}
		time.Sleep(2 * time.Millisecond)
	}
	return true
}

func TestARuleIsReadFromText(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	got, err := emulator.ParseRule("host=h,op=import,key=k,count=2,status=429,no-retry-after,for=1m,delay=20ms,hold,"+
		"drop=after", now)
	want := emulator.Rule{
		Host: "h", Operation: "import", Key: "k", Count: 2, Status: 429, NoRetryAfter: true,
		Until: now.Add(time.Minute), Delay: 20 * time.Millisecond, Hold: true, Drop: emulator.DropAfterCommit,
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "op=import", "status=200", "what=1,status=500", "drop=never", "count=x,status=500",
		"op=imprt,status=500"} {
		if _, err := emulator.ParseRule(bad, now); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseRule(f *testing.F) {
	f.Add("op=import,count=1,drop=after")
	f.Add("status=429,retry-after=2s,probability=0.1")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := emulator.ParseRule(s, time.Unix(0, 0))
		if err == nil && r == (emulator.Rule{}) {
			t.Errorf("%q reads as a rule that does nothing", s)
		}
	})
}

func TestARejectedTokenComesWithAFreshChallenge(t *testing.T) {
	e := start(t, emulator.Options{})
	header := http.Header{"Authorization": {"Bearer " + token(t, managedIdentity(t, e), "https://vault.azure.net")}}
	e.Fail(emulator.Rule{Status: 401})
	res, _ := do(t, e, "GET", "https://"+premium+"/keys?api-version=7.6", header, "")
	if res.StatusCode != 401 || !strings.Contains(res.Header.Get("WWW-Authenticate"), "authorization=") {
		t.Errorf("%d, challenge %q", res.StatusCode, res.Header.Get("WWW-Authenticate"))
	}
}

func TestAnExpiredTokenIsNotAccepted(t *testing.T) {
	e := start(t, emulator.Options{})
	rule := e.Fail(emulator.Rule{Operation: "token", Expired: true})
	_, err := newClient(t, e, premium).GetKey(t.Context(), "k", "", nil)
	wantError(t, err, 401, "Unauthorized", "")
	rule.Clear()
	_, err = newClient(t, e, premium).GetKey(t.Context(), "k", "", nil)
	wantError(t, err, 404, "KeyNotFound", "")
}

func TestAStaleListShowsThePast(t *testing.T) {
	c := newClock()
	e := start(t, emulator.Options{Now: c.Now})
	client := newClient(t, e, premium)
	foreign(t, e, premium, "k")
	c.advance(time.Minute)
	foreign(t, e, premium, "k")
	rule := e.Fail(emulator.Rule{Operation: "versions", Stale: 30 * time.Second})
	if ids, _ := listVersions(t, client, "k"); len(ids) != 1 {
		t.Errorf("the stale list has %d versions", len(ids))
	}
	if newest, err := client.GetKey(t.Context(), "k", "", nil); err != nil ||
		newest.Key.KID.Version() != e.Vault(premium).Versions("k")[1].ID {
		t.Errorf("another operation is stale too: %v", err)
	}
	c.advance(30 * time.Second)
	if ids, _ := listVersions(t, client, "k"); len(ids) != 2 {
		t.Errorf("after its time the list has %d versions", len(ids))
	}
	rule.Clear()
}

func TestWrongJSONIsJSON(t *testing.T) {
	e := start(t, emulator.Options{})
	header := http.Header{"Authorization": {"Bearer " + token(t, managedIdentity(t, e), "https://vault.azure.net")}}
	e.Fail(emulator.Rule{WrongJSON: true})
	res, body := do(t, e, "GET", "https://"+premium+"/keys?api-version=7.6", header, "")
	if res.StatusCode != 200 || !strings.HasPrefix(body, "{") || strings.Contains(body, "nextLink") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestSkewCreatedShiftsTheTimesOfVersions(t *testing.T) {
	e := start(t, emulator.Options{})
	client := newClient(t, e, premium)
	foreign(t, e, premium, "k")
	e.Fail(emulator.Rule{SkewCreated: -time.Hour})
	got, err := client.GetKey(t.Context(), "k", "", nil)
	if want := e.Vault(premium).Versions("k")[0].Created.Add(-time.Hour); err != nil ||
		!got.Attributes.Created.Equal(want) {
		t.Errorf("created %v, want %v: %v", got.Attributes.Created, want, err)
	}
}

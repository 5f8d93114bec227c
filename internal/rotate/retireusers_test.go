package rotate_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

const storageID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/stcmkdemo"

// account is a storage account that uses the key, and whoever looks at it.
type account struct {
	w     *world
	uses  string
	since time.Time
	looks int
	last  record.Usage
	more  int // other accounts that use the same version
}

func (c *account) Look(context.Context, key.Policy) record.Usage {
	c.looks++
	c.last = record.Usage{
		At: c.w.now,
		Consumers: []record.ConsumerSeen{{ID: storageID, Configured: true, Vault: weu.URL,
			Key: policy(weu).Key, Uses: c.uses, Since: c.since, Follows: true}},
	}
	for i := range c.more {
		other := c.last.Consumers[0]
		other.ID, other.Configured = fmt.Sprintf("%s%02d", storageID, i), false
		c.last.Consumers = append(c.last.Consumers, other)
	}
	return c.last
}

func (c *account) Last(string) record.Usage { return c.last }

// dueWith has a key with a version to disable now, an operator's consent, and a storage account that uses a version.
func dueWith(t *testing.T, number int) (*world, key.Policy, *account) {
	t.Helper()
	w, _, p := rotatedOnly(t, weu)
	c := &account{w: w, since: w.now}
	for _, g := range w.record(p.Key).Generations[:number] {
		c.uses = g.Placements[0].Version
	}
	w.users = c
	p.Consumers = []key.Consumer{{ID: storageID}}
	p.Retire = key.RetireRule{DisableAfter: time.Hour}
	w.consentToRetire(p)
	w.now = w.now.Add(48 * time.Hour)
	return w, p, c
}

func TestAVersionIsDisabledOnlyOnceItsConsumersHaveLeftIt(t *testing.T) {
	w, p, c := dueWith(t, 1)
	if s := w.settle(p); s.Kind != plan.Idle || !strings.Contains(s.Why, "storage account stcmkdemo uses version") {
		t.Errorf("keyd does %s: %s", s.Kind, s.Why)
	}
	wantDisabled(t, w, "while the account uses it", 0)
	c.uses, c.since = w.record(p.Key).Generations[1].Placements[0].Version, w.now
	w.now = w.now.Add(23 * time.Hour)
	w.settle(p)
	wantDisabled(t, w, "before the safe time is over", 0)
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	wantDisabled(t, w, "after the safe time", 1)
	for _, e := range w.store.entries {
		want := storageID + " uses " + c.uses + " since " + c.since.Format(time.RFC3339)
		if e.Event == chain.DisableIntended && (e.Fields["consumers"] != want ||
			e.Fields["users_seen"] != w.now.Format(time.RFC3339)) {
			t.Errorf("the entry says %q as of %q, want %q", e.Fields["consumers"], e.Fields["users_seen"], want)
		}
	}
}

// The last look saw nobody on the version. Since then the account has gone back to it.
func TestWhatALookSawEarlierDisablesNothing(t *testing.T) {
	w, p, c := dueWith(t, 2)
	c.Look(t.Context(), p)
	w.now = w.now.Add(time.Minute)
	c.uses = w.record(p.Key).Generations[0].Placements[0].Version
	w.settle(p)
	wantDisabled(t, w, "after the account came back", 0)
}

// A key may wait for a consumer for years. Each look costs calls to Azure.
func TestWhileAConsumerIsInTheWayItIsAskedOnceAnHour(t *testing.T) {
	w, p, c := dueWith(t, 1)
	r := w.rotator()
	for minute := range 181 {
		if _, err := w.step(r, p); err != nil {
			t.Fatal(err)
		}
		if want := 1 + minute/60; c.looks != want {
			t.Fatalf("after %d minutes keyd asked %d times, want %d", minute, c.looks, want)
		}
		w.now = w.now.Add(time.Minute)
	}
}

func TestADisablingAsksThoseWhoUseTheKeyOnce(t *testing.T) {
	w, p, c := dueWith(t, 2)
	w.settle(p)
	wantDisabled(t, w, "with nobody on it", 1)
	if c.looks != 1 {
		t.Errorf("keyd asked %d times", c.looks)
	}
}

// An entry of the audit chain stays small, however many there are.
func TestTheEntryOfADisablingListsFiftyConsumersAtMost(t *testing.T) {
	w, p, c := dueWith(t, 2)
	c.more = 60
	w.settle(p)
	wantDisabled(t, w, "with nobody on it", 1)
	for _, e := range w.store.entries {
		if text := e.Fields["consumers"]; e.Event == chain.DisableIntended &&
			(strings.Count(text, storageID) != 50 || !strings.HasSuffix(text, "; and 11 more")) {
			t.Errorf("the entry lists %d, and ends %q", strings.Count(text, storageID), text[len(text)-40:])
		}
	}
}

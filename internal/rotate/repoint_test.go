package rotate_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
)

const (
	firstAI  = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/ai-1"
	secondAI = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/ai-2"
)

// pinnedAccounts are AI accounts that are set to a version, and whoever looks at them and moves them.
type pinnedAccounts struct {
	w     *world
	set   map[string]string
	last  record.Usage
	moves []string
}

func (c *pinnedAccounts) Look(context.Context, key.Policy) record.Usage {
	c.last = record.Usage{At: c.w.now}
	for _, id := range []string{firstAI, secondAI} {
		c.last.Consumers = append(c.last.Consumers, record.ConsumerSeen{ID: id, Configured: true, Vault: weu.URL,
			Key: policy(weu).Key, Asked: c.set[id], Uses: c.set[id]})
	}
	return c.last
}

func (c *pinnedAccounts) Last(string) record.Usage { return c.last }

// move is what the service does.
func (c *pinnedAccounts) move(_ context.Context, m rotate.Move) error {
	return c.w.call("azure.Repoint", func() error {
		if c.set[m.Consumer] != m.From || m.Vault != weu || m.Key != policy(weu).Key {
			return fmt.Errorf("model: %+v, and the account is set to %s", m, c.set[m.Consumer])
		}
		c.set[m.Consumer] = m.Version
		c.moves = append(c.moves, m.Consumer)
		return nil
	})
}

// leftBehind has a key with two generations, and two accounts that are set to the first.
func leftBehind(t *testing.T) (*world, key.Policy, *pinnedAccounts, string) {
	t.Helper()
	w, _, p := rotatedOnly(t, weu)
	versions := w.record(p.Key).Generations
	first, newest := versions[0].Placements[0].Version, versions[1].Placements[0].Version
	c := &pinnedAccounts{w: w, set: map[string]string{firstAI: first, secondAI: first}}
	w.users, w.repoint = c, c.move
	for _, id := range []string{firstAI, secondAI} {
		p.Consumers = append(p.Consumers, key.Consumer{ID: id, Follow: key.FollowKeyd})
	}
	return w, p, c, newest
}

// repointings lists the entries about consumers, each with the last part of the consumer's id.
func (w *world) repointings() (list []string) {
	for _, e := range w.store.entries {
		switch e.Event {
		case chain.RepointIntended, chain.Repointed, chain.RepointVoid, chain.RepointFailed, chain.RepointMet,
			chain.RepointLapsed:
			list = append(list, string(e.Event)+" "+e.Fields["consumer"][len(firstAI)-4:])
		}
	}
	return list
}

func TestConsumersThatDoNotFollowAreMovedOneAfterTheOther(t *testing.T) {
	w, p, c, newest := leftBehind(t)
	w.settle(p)
	if c.set[firstAI] != newest || c.set[secondAI] != newest {
		t.Errorf("set to %v, want %s\n%s", c.set, newest, w.story())
	}
	want := []string{"repointing intended ai-1", "consumer repointed ai-1", "repointing intended ai-2",
		"consumer repointed ai-2"}
	if diff := cmp.Diff(want, w.repointings()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	if len(c.moves) != 2 {
		t.Errorf("moved %v", c.moves)
	}
}

// Whatever becomes of the call, the service is asked at most once for each intent in the audit, and what the account
// shows decides what is recorded.
func TestAMoveWhoseAnswerIsLostIsLookedUpAndNotRepeated(t *testing.T) {
	for f, c := range map[fault]struct {
		moved bool
		want  []string // about the first account
	}{
		failAfter:           {true, []string{"repointing intended ai-1", "consumer repointed ai-1"}},
		crashAfter:          {true, []string{"repointing intended ai-1", "consumer repointed ai-1"}},
		failBeforeAmbiguous: {false, []string{"repointing intended ai-1", "repointing failed ai-1"}},
		crashBefore:         {false, []string{"repointing intended ai-1", "repointing failed ai-1"}},
		failBefore: {true, []string{"repointing intended ai-1", "repointing did not happen ai-1",
			"repointing intended ai-1", "consumer repointed ai-1"}},
	} {
		t.Run(f.String(), func(t *testing.T) {
			w, p, accounts, newest := leftBehind(t)
			w.strikeOnce("azure.Repoint", f)
			begun := w.now
			w.settle(p)
			if got := accounts.set[firstAI] == newest; got != c.moved {
				t.Errorf("moved %v\n%s", got, w.story())
			}
			about := slices.DeleteFunc(w.repointings(), func(e string) bool { return strings.HasSuffix(e, "ai-2") })
			if diff := cmp.Diff(c.want, about); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if second := accounts.set[secondAI] == newest; second != c.moved {
				t.Errorf("the second account moved: %v", second)
			}
			if took := w.now.Sub(begun); !c.moved && took < plan.RepointTime {
				t.Errorf("given up after %s", took)
			}
		})
	}
}

func TestARefusedMoveStopsTheOthersUntilAnOperatorAsksAgain(t *testing.T) {
	w, p, c, newest := leftBehind(t)
	w.repoint = func(context.Context, rotate.Move) error {
		return &classError{"model: 403, no right to write the account", key.Refused}
	}
	w.settle(p)
	w.now = w.now.Add(24 * time.Hour)
	w.settle(p)
	if len(w.repointings()) != 2 || len(c.moves) != 0 {
		t.Errorf("%v, moved %v", w.repointings(), c.moves)
	}
	if failed := w.record(p.Key).Repointing; failed.Open() || !strings.Contains(failed.Failed, "403") {
		t.Errorf("the record has %+v", failed)
	}
	w.repoint = c.move
	if err := w.rotator().AskRepoint(t.Context(), p, alice, "the right was missing", nil); err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	if c.set[firstAI] != newest || c.set[secondAI] != newest || len(w.record(p.Key).RepointRequests) != 0 {
		t.Errorf("set to %v, want %s\n%s", c.set, newest, w.story())
	}
}

// An operator may ask for any consumer that the configuration names, also for one that keyd does not move by itself.
func TestAnOperatorNamesAConsumerByTheLastPartOfItsID(t *testing.T) {
	w, p, c, newest := leftBehind(t)
	p.Consumers[0].Follow, p.Consumers[1].Follow = key.FollowService, key.FollowService
	r := w.rotator()
	for want, names := range map[string][]string{"has no consumer ai-3": {"ai-3"}, "no consumer that keyd moves": nil} {
		if err := r.AskRepoint(t.Context(), p, alice, "a slip", names); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", names, err)
		}
	}
	if err := r.AskRepoint(t.Context(), p, alice, "by hand", []string{"AI-2"}); err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	if c.set[secondAI] != newest || c.set[firstAI] == newest {
		t.Errorf("set to %v, want only the second at %s\n%s", c.set, newest, w.story())
	}
}

// A request never ends without an entry that says how.
func TestARequestToMoveAConsumerEndsWithAnEntry(t *testing.T) {
	ask := func(w *world, p key.Policy) {
		if err := w.rotator().AskRepoint(t.Context(), p, "uid 7", "a test", []string{"ai-1"}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("nothing to move", func(t *testing.T) {
		w, p, c, newest := leftBehind(t)
		p.Consumers[0].Follow, p.Consumers[1].Follow = key.FollowService, key.FollowService
		c.set[firstAI] = newest
		ask(w, p)
		w.settle(p)
		if diff := cmp.Diff([]string{"repointing not needed ai-1"}, w.repointings()); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
	t.Run("not in time", func(t *testing.T) {
		w, p, c, _ := leftBehind(t)
		p.Consumers[0].Follow, p.Consumers[1].Follow = key.FollowService, key.FollowService
		ask(w, p)
		w.now = w.now.Add(plan.RepointAsked)
		w.settle(p)
		if diff := cmp.Diff([]string{"repointing request lapsed ai-1"}, w.repointings()); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if rec := w.record(p.Key); len(rec.RepointRequests) != 0 || len(rec.RepointLapses) != 1 || len(c.moves) != 0 {
			t.Errorf("requests %v, lapsed %v, moved %v", rec.RepointRequests, rec.RepointLapses, c.moves)
		}
	})
}

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
	"github.com/keyd-project/keyd/internal/status"
)

const followerID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/st-1"

// estate is an AI account that is set to a version and a storage account that follows, under one key or the other.
type estate struct {
	w    *world
	at   map[string]setting
	last record.Usage
}

// setting is what a resource is set to. It uses the version.
type setting struct {
	key, version string
	follows      bool
	since        time.Time
}

func (e *estate) Look(context.Context, key.Policy) record.Usage {
	e.last = record.Usage{At: e.w.now}
	for _, id := range []string{firstAI, followerID} {
		s := e.at[id]
		c := record.ConsumerSeen{
			ID:         id,
			Service:    "resource",
			Configured: true,
			Vault:      weu.URL,
			Key:        s.key,
			Uses:       s.version,
			Follows:    s.follows,
			Since:      s.since,
		}
		if !s.follows {
			c.Asked = s.version
		}
		e.last.Consumers = append(e.last.Consumers, c)
	}
	return e.last
}

func (e *estate) Last(string) record.Usage { return e.last }

// move is what the services do.
func (e *estate) move(_ context.Context, m rotate.Move) error {
	return e.w.call("azure.Repoint", func() error {
		have := e.at[m.Consumer]
		if have.key != m.Key || m.NewKey == "" || m.NewVault != weu || have.follows != (m.From == "") {
			return fmt.Errorf("model: %+v, and the resource has %+v", m, have)
		}
		e.at[m.Consumer] = setting{m.NewKey, m.Version, have.follows, e.w.now}
		return nil
	})
}

// compromised has a key with two generations and two consumers, and another key with one generation.
func compromised(t *testing.T) (*world, key.Policy, *estate) {
	t.Helper()
	w, _, p := rotatedOnly(t, weu)
	next := policy(weu)
	next.Key, next.Schedule = "sa-cmk-key-2", nil
	w.settle(next)
	newest := w.record(p.Key).Generations[1].Placements[0].Version
	e := &estate{w: w, at: map[string]setting{
		firstAI:    {p.Key, newest, false, w.now},
		followerID: {p.Key, newest, true, w.now},
	}}
	for id := range e.at {
		p.Consumers = append(p.Consumers, key.Consumer{ID: id, Follow: key.FollowService})
	}
	w.policies = []key.Policy{p, next}
	w.users, w.repoint = e, e.move
	return w, p, e
}

// begin has an operator begin the replacement, as it is shown.
func (w *world) begin(p key.Policy) status.Replacement {
	w.tb.Helper()
	w.users.Look(w.tb.Context(), p)
	r := w.rotator()
	w.look(r, p)
	want := rotate.Replacing{With: "SA-CMK-KEY-2"}
	shown, err := r.Replacement(w.tb.Context(), p, want)
	if err == nil {
		want.Digest = shown.Digest
		err = r.Replace(w.tb.Context(), p, alice, "the backup was stolen", want)
	}
	if err != nil {
		w.tb.Fatal(err)
	}
	return shown
}

// look makes the rotator look at the key and at the one that replaces it.
func (w *world) look(r *rotate.Rotator, p key.Policy) {
	for _, x := range append(slices.Clone(w.policies), p) {
		r.Observer.Observe(w.tb.Context(), x, w.record(x.Key))
	}
}

// consentToDisable has an operator consent to disable the old key, as it is shown.
func (w *world) consentToDisable(p key.Policy) error {
	w.tb.Helper()
	w.now = w.now.Add(time.Minute)
	w.users.Look(w.tb.Context(), p)
	r := w.rotator()
	w.look(r, p)
	shown, err := r.Replacement(w.tb.Context(), p, rotate.Replacing{})
	if err != nil {
		return err
	}
	return r.ConsentToDisable(w.tb.Context(), p, alice, "all of them work", shown.Digest)
}

// enabled tells which versions of the key are enabled, oldest first.
func (w *world) enabled(p key.Policy) (all []bool) {
	for _, v := range w.vault[weu.URL].keys[strings.ToLower(p.Key)].versions {
		all = append(all, v.Enabled)
	}
	return all
}

// passDays lets days pass, in each of which keyd is at rest for a while.
func (w *world) passDays(p key.Policy, n int) (last plan.Step) {
	for range n {
		w.now = w.now.Add(25 * time.Hour)
		last = w.settle(p)
	}
	return last
}

func (w *world) entriesOf(p key.Policy, events ...chain.Event) (list []string) {
	for _, e := range w.store.entries {
		if e.Key == p.Key && slices.Contains(events, e.Event) {
			list = append(list, string(e.Event))
		}
	}
	return list
}

func TestANewProcessKnowsWhichKeyReplacesAnotherBeforeItsFirstStep(t *testing.T) {
	w, p, _ := compromised(t)
	if heir, err := w.rotator().Heir(t.Context(), p.Key); heir != nil || err != nil {
		t.Errorf("before the replacement: %+v, %v", heir, err)
	}
	w.begin(p)
	heir, err := w.rotator().Heir(t.Context(), p.Key) // a new one, which has made no step
	if err != nil || !heir.Has("sa-cmk-key-2", weu.URL) {
		t.Errorf("after it began: %+v, %v", heir, err)
	}
}

func TestAKeyIsReplacedAndDisabledLast(t *testing.T) {
	w, p, e := compromised(t)
	shown := w.begin(p)
	if len(shown.Consumers) != 2 || shown.Consumers[0].State != "to move" || len(shown.Versions) != 2 {
		t.Errorf("%+v", shown)
	}
	w.settle(p)
	newest := w.record("sa-cmk-key-2").Generations[0].Placements[0].Version
	for id, follows := range map[string]bool{firstAI: false, followerID: true} {
		if s := e.at[id]; s.key != "sa-cmk-key-2" || s.version != newest || s.follows != follows {
			t.Errorf("%s has %+v\n%s", id, s, w.story())
		}
	}
	w.passDays(p, 3)
	if got := w.enabled(p); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("without consent, enabled are %v", got)
	}
	if err := w.consentToDisable(p); err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	if got := w.enabled(p); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("an AI account may need the old key for 30 days; enabled are %v\n%s", got, w.story())
	}
	w.passDays(p, 40)
	if got := w.enabled(p); !slices.Equal(got, []bool{false, false}) {
		t.Errorf("in the end, enabled are %v\n%s", got, w.story())
	}
	if rec := w.record(p.Key); rec.Replacement.Done.IsZero() || rec.Hold != nil {
		t.Errorf("the record has %+v, hold %v", rec.Replacement, rec.Hold)
	}
	want := []string{"replacement begun", "repointing intended", "consumer repointed", "repointing intended",
		"consumer repointed", "disabling of a replaced key consented to", "disabling intended", "disabled",
		"disabling intended", "disabled", "key replaced"}
	got := w.entriesOf(p, chain.ReplaceBegun, chain.RepointIntended, chain.Repointed, chain.ReplaceConsented,
		chain.DisableIntended, chain.Disabled, chain.Replaced)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if s := w.passDays(p, 3); s.Kind != plan.Idle || !strings.Contains(s.Why, "has replaced the key") {
		t.Errorf("%s: %s", s.Kind, s.Why)
	}
}

// What came of a move whose answer was lost is looked up. It is never sent twice.
func TestAMoveToTheNewKeyWhoseAnswerIsLostIsLookedUp(t *testing.T) {
	for f, moved := range map[fault]bool{failAfter: true, crashAfter: true, failBefore: true,
		failBeforeAmbiguous: false, crashBefore: false} {
		t.Run(f.String(), func(t *testing.T) {
			w, p, e := compromised(t)
			w.begin(p)
			w.strikeOnce("azure.Repoint", f)
			w.settle(p)
			if got := e.at[firstAI].key != p.Key && e.at[followerID].key != p.Key; got != moved {
				t.Errorf("moved: %v\n%s", got, w.story())
			}
			if moved {
				return
			}
			if failed := w.record(p.Key).Repointing; failed == nil || failed.Open() {
				t.Fatalf("the record has %+v", failed)
			}
			if err := w.rotator().Replace(t.Context(), p, alice, "again", rotate.Replacing{}); err != nil {
				t.Fatal(err)
			}
			w.settle(p)
			if e.at[firstAI].key == p.Key || e.at[followerID].key == p.Key {
				t.Errorf("not moved: %v\n%s", e.at, w.story())
			}
		})
	}
}

func TestNobodyConsentsBeforeAllConsumersWorkUnderTheNewKey(t *testing.T) {
	w, p, e := compromised(t)
	w.begin(p)
	want := func(why string) {
		t.Helper()
		if err := w.consentToDisable(p); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q", err, why)
		}
	}
	want("is not seen to work under sa-cmk-key-2")
	w.repoint = func(context.Context, rotate.Move) error {
		return &classError{"model: 403, no right to write", key.Refused}
	}
	w.settle(p)
	want("consumer ai-1 is not moved to the end")
	w.repoint = e.move
	if err := w.rotator().Replace(t.Context(), p, alice, "the right is there", rotate.Replacing{}); err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	w.passDays(p, 3)
	if err := w.consentToDisable(p); err != nil {
		t.Error(err)
	}
}

// Somebody sets a consumer back to the old key after the consent.
func TestAConsumerThatComesBackKeepsTheOldKeyEnabled(t *testing.T) {
	w, p, e := compromised(t)
	w.begin(p)
	w.settle(p)
	w.passDays(p, 3)
	if err := w.consentToDisable(p); err != nil {
		t.Fatal(err)
	}
	newest := w.record(p.Key).Generations[1].Placements[0].Version
	e.at[followerID] = setting{p.Key, newest, true, w.now}
	s := w.passDays(p, 40)
	if got := w.enabled(p); !slices.Equal(got, []bool{true, true}) || !strings.Contains(s.Why, "st-1 is not seen") {
		t.Errorf("enabled are %v; %s", got, s.Why)
	}
}

func TestAReplacementThatIsStoppedDisablesNothing(t *testing.T) {
	w, p, _ := compromised(t)
	w.begin(p)
	w.settle(p)
	w.passDays(p, 3)
	if err := w.consentToDisable(p); err != nil {
		t.Fatal(err)
	}
	if err := w.rotator().StopReplace(t.Context(), p, alice, "a false alarm"); err != nil {
		t.Fatal(err)
	}
	w.passDays(p, 40)
	if got := w.enabled(p); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("enabled are %v\n%s", got, w.story())
	}
	rec := w.record(p.Key)
	if at := rec.NewestIn(weu.URL); at.State != key.Proven || !at.Generation.Deactivated.IsZero() {
		t.Errorf("the newest is %s", at.State)
	}
	if left := w.record("sa-cmk-key-2").Inherits; len(left) != 2 {
		t.Errorf("the new key inherits %v", left)
	}
}

func TestANewKeyThatIsNotConfiguredIsRefusedWithWhatToWrite(t *testing.T) {
	w, p, _ := compromised(t)
	w.users.Look(t.Context(), p)
	_, err := w.rotator().Replacement(t.Context(), p, rotate.Replacing{With: "other"})
	if reason, refused := rotate.IsRefused(err); !refused ||
		!strings.Contains(reason, "  other:\n    spec: RSA-2048\n") {
		t.Errorf("%v", err)
	}
}

package rotate_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
)

const daemonUID = 998

var (
	anna = key.Person{Actor: "uid 1 (anna)", UID: 1, Login: "anna"}
	bob  = key.Person{Actor: "uid 2 (bob)", UID: 2, Login: "bob"}
)

func as(t *testing.T, p key.Person) context.Context { return rotate.WithPerson(t.Context(), p) }

// twoPeople is a rotator that asks for a second operator for every act.
func twoPeople(w *world) (*rotate.Rotator, *key.Approvals) {
	rules := &key.Approvals{Acts: key.ActKinds, Wait: 24 * time.Hour, Self: daemonUID, Config: "sha256:aa"}
	r := w.rotator()
	r.Approvals = func() key.Approvals { return *rules }
	return r, rules
}

// proposed is the one proposal that an act became.
func proposed(t *testing.T, err error) key.Proposal {
	t.Helper()
	e := new(rotate.ProposedError)
	if !errors.As(err, &e) || len(e.Proposals) != 1 {
		t.Fatalf("%v, want one proposal", err)
	}
	return e.Proposals[0]
}

func wantRefused(t *testing.T, why string, err error) {
	t.Helper()
	if reason, refused := rotate.IsRefused(err); !refused || !strings.Contains(reason, why) {
		t.Errorf("%v, want a refusal: %s", err, why)
	}
}

// refuted is a key that is held because its only version was refuted.
func refuted(t *testing.T) (*world, key.Policy) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.vault[weu.URL].swap = true
	w.settle(p)
	if hold := w.record(p.Key).Hold; hold == nil || hold.Code != key.HoldRefuted {
		t.Fatalf("hold %+v, want %s", hold, key.HoldRefuted)
	}
	return w, p
}

// Each act, asked for by one operator, changes nothing but the list of proposals. It happens when a second approves it.
func TestEveryActThatNeedsTwoOperatorsWaitsForTheSecond(t *testing.T) {
	for kind, c := range map[key.ActKind]struct {
		world func(t *testing.T) (*world, key.Policy)
		ask   func(ctx context.Context, w *world, r *rotate.Rotator, p key.Policy) error
		event chain.Event // what the act records
	}{
		key.ActResume: {refuted, func(ctx context.Context, _ *world, r *rotate.Rotator, p key.Policy) error {
			return r.Resume(ctx, p.Key, anna.Actor, "it was a fault of the network")
		}, chain.KeyResumed},
		key.ActCompromise: {func(t *testing.T) (*world, key.Policy) {
			w, _, p := rotatedOnly(t, weu)
			return w, p
		}, func(ctx context.Context, _ *world, r *rotate.Rotator, p key.Policy) error {
			_, _, err := r.Request(ctx, p, rotate.Wanted{Actor: anna.Actor, Reason: "incident", Compromise: true})
			return err
		}, chain.RotationRequested},
		key.ActRetire: {func(t *testing.T) (*world, key.Policy) {
			w, _, p := rotatedOnly(t, weu)
			p.Retire = key.RetireRule{DisableAfter: time.Hour, NoConsumers: true}
			return w, p
		}, func(ctx context.Context, w *world, r *rotate.Rotator, p key.Policy) error {
			return r.ConsentToRetire(ctx, p, anna.Actor, "as planned", w.retirement(p).Digest)
		}, chain.RetireConsented},
		key.ActEnable: {func(t *testing.T) (*world, key.Policy) {
			w, _, p := due(t)
			w.settle(p)
			return w, p
		}, func(ctx context.Context, w *world, r *rotate.Rotator, p key.Policy) error {
			return r.AskEnable(ctx, p, anna.Actor, "it is needed", w.vault[weu.URL].disabled[0])
		}, chain.EnableIntended},
		key.ActAdopt: {func(t *testing.T) (*world, key.Policy) {
			w, _, p := rotatedOnly(t, weu)
			clear(w.store.records)
			w.now = w.now.Add(time.Hour)
			w.settle(p)
			return w, p
		}, func(ctx context.Context, _ *world, r *rotate.Rotator, p key.Policy) error {
			shown, err := r.Adoption(ctx, p, false)
			if err != nil {
				return err
			}
			return r.Adopt(ctx, p, anna.Actor, "disk lost", shown.Token)
		}, chain.Adopted},
	} {
		t.Run(string(kind), func(t *testing.T) {
			w, p := c.world(t)
			r, _ := twoPeople(w)
			before, err := w.record(p.Key).State()
			if err != nil {
				t.Fatal(err)
			}
			had := w.saved(c.event)
			x := proposed(t, c.ask(as(t, anna), w, r, p))
			after, _ := w.record(p.Key).State()
			if after != before || w.saved(c.event) != had || w.saved(chain.Proposed) != 1 {
				t.Fatalf("the act happened before its approval\n%s", w.story())
			}
			if x.Kind != kind || x.Key != p.Key || !reflect.DeepEqual(x.By, anna) || x.Effects == "" {
				t.Errorf("the proposal is %+v", x)
			}
			wantRefused(t, "is proposed already", c.ask(as(t, bob), w, r, p))
			if err := r.Approve(t.Context(), p, x.ID, bob, "I agree"); err != nil {
				t.Fatal(err)
			}
			n := len(w.store.entries)
			if last := w.store.entries; last[n-1].Event == chain.Approved || w.saved(chain.Approved) != 1 ||
				w.saved(c.event) != had+1 {
				t.Errorf("want the approval and then the act in the chain\n%s", w.story())
			}
			for _, e := range w.store.entries {
				if e.Event == chain.Approved && (e.Actor != bob.Actor || e.Fields["asked_by"] != anna.Actor ||
					e.Fields["digest"] != x.Digest) || e.Event == c.event && e.Actor == bob.Actor {
					t.Errorf("the entry is %+v", e)
				}
			}
			if left := w.record(p.Key).Proposals; len(left) > 0 {
				t.Errorf("the proposal is still there: %+v", left)
			}
			wantRefused(t, "no proposal", r.Approve(t.Context(), p, x.ID, bob, "again"))
		})
	}
}

func TestAKEKIsRequestedByTwoOperators(t *testing.T) {
	w := newWorld(t, 1, weu)
	w.settle(policy(weu))
	r, _ := twoPeople(w)
	p := vaultPolicy(weu)
	_, _, err := r.RequestKEK(as(t, anna), p, anna.Actor, "yearly")
	x := proposed(t, err)
	if w.vaultRecord(weu).Request != nil {
		t.Fatal("it was requested before the approval")
	}
	if err := r.ApproveKEK(t.Context(), p, x.ID, bob, "I agree"); err != nil {
		t.Fatal(err)
	}
	if q := w.vaultRecord(weu).Request; q == nil || q.By != anna.Actor || len(w.vaultRecord(weu).Proposals) > 0 {
		t.Errorf("the request is %+v\n%s", q, w.story())
	}
}

func TestInsiderCannotApproveTheirOwnProposal(t *testing.T) {
	w, p := refuted(t)
	r, _ := twoPeople(w)
	x := proposed(t, r.Resume(as(t, anna), p.Key, anna.Actor, "fixed"))
	for who, by := range map[string]key.Person{
		"the one who asked":              anna,
		"under another user by sudo":     {Actor: "uid 2 (bob)", UID: 2, Login: "anna"},
		"with another login, by su":      {Actor: "uid 1 (anna)", UID: 1, Login: "bob"},
		"root, whose login is not known": {Actor: "uid 0 (root)"},
		"root, by sudo of the asker":     {Actor: "uid 0 (root)", Login: "anna"},
		"the daemon":                     {Actor: "uid 998 (keyd)", UID: daemonUID, Login: "keyd"},
		"nobody":                         {},
	} {
		if err := r.Approve(t.Context(), p, x.ID, by, "I agree"); err == nil || w.record(p.Key).Hold == nil {
			t.Errorf("%s approved it", who)
		}
	}
	if err := r.Approve(t.Context(), p, x.ID, key.Person{Actor: "uid 0 (root)", Login: "bob"}, "by sudo"); err != nil {
		t.Errorf("root whose login is another person's: %v", err)
	}
}

// Whoever hides behind root could ask as root, and approve under their own user.
func TestWhoAsksMustBeKnown(t *testing.T) {
	w, p := refuted(t)
	r, _ := twoPeople(w)
	for who, by := range map[string]key.Person{
		"root":       {Actor: "uid 0 (root)"},
		"the daemon": {Actor: "uid 998 (keyd)", UID: daemonUID, Login: "keyd"},
	} {
		err := r.Resume(as(t, by), p.Key, by.Actor, "fixed")
		if _, refused := rotate.IsRefused(err); !refused {
			t.Errorf("%s: %v, want a refusal", who, err)
		}
	}
	_, refused := rotate.IsRefused(r.Resume(t.Context(), p.Key, "somebody", "fixed"))
	if rec := w.record(p.Key); !refused || rec.Hold == nil || len(rec.Proposals) > 0 {
		t.Errorf("somebody who did not come over the socket: %+v", rec.Proposals)
	}
}

// The approval is for what was shown, and for nothing that has changed since.
func TestInsiderGetsNoApprovalAfterAnythingHasChanged(t *testing.T) {
	for what, change := range map[string]func(w *world, rules *key.Approvals, p *key.Policy){
		"the configuration": func(_ *world, rules *key.Approvals, _ *key.Policy) { rules.Config = "sha256:bb" },
		"the record": func(w *world, _ *key.Approvals, p *key.Policy) {
			rec := w.record(p.Key)
			rec.Hold.Reason = "another"
			w.store.records[p.Key] = rec
		},
		"the hold, which is another": func(w *world, _ *key.Approvals, p *key.Policy) {
			rec := w.record(p.Key)
			rec.Hold = &key.Hold{Code: key.HoldPaused, Reason: "audit"}
			w.store.records[p.Key] = rec
		},
		"the reason, in the store": func(w *world, _ *key.Approvals, p *key.Policy) {
			rec := w.record(p.Key)
			rec.Proposals[0].Reason = "another"
			w.store.records[p.Key] = rec
		},
		"who asked, in the store": func(w *world, _ *key.Approvals, p *key.Policy) {
			rec := w.record(p.Key)
			rec.Proposals[0].By.UID, rec.Proposals[0].By.Login = 7, "carl"
			w.store.records[p.Key] = rec
		},
		"the time":  func(w *world, _ *key.Approvals, _ *key.Policy) { w.now = w.now.Add(24 * time.Hour) },
		"the clock": func(w *world, _ *key.Approvals, _ *key.Policy) { w.now = w.now.Add(-time.Hour) },
	} {
		t.Run(what, func(t *testing.T) {
			w, p := refuted(t)
			r, rules := twoPeople(w)
			x := proposed(t, r.Resume(as(t, anna), p.Key, anna.Actor, "fixed"))
			change(w, rules, &p)
			if _, refused := rotate.IsRefused(r.Approve(t.Context(), p, x.ID, bob, "I agree")); !refused {
				t.Error("it was approved")
			}
			if w.record(p.Key).Hold == nil {
				t.Error("the hold is gone")
			}
		})
	}
}

// Otherwise a key that changes could never be helped.
func TestAProposalThatCannotBeApprovedAnyMoreIsReplacedByANewOne(t *testing.T) {
	w, p := refuted(t)
	r, rules := twoPeople(w)
	first := proposed(t, r.Resume(as(t, anna), p.Key, anna.Actor, "fixed"))
	rules.Config = "sha256:bb"
	second := proposed(t, r.Resume(as(t, anna), p.Key, anna.Actor, "fixed"))
	if list := w.record(p.Key).Proposals; len(list) != 1 || list[0].ID != second.ID || first.ID == second.ID {
		t.Errorf("the proposals are %+v", list)
	}
	if n := w.saved(chain.ProposalWithdrawn); n != 1 {
		t.Errorf("%d entries say that the first ended, want 1", n)
	}
}

func TestAnOperatorWithdrawsAProposalAndTimeEndsOne(t *testing.T) {
	w, p := refuted(t)
	r, _ := twoPeople(w)
	x := proposed(t, r.Resume(as(t, anna), p.Key, anna.Actor, "fixed"))
	if err := r.Withdraw(t.Context(), p.Key, x.ID, bob.Actor, "not yet"); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "no proposal", r.Approve(t.Context(), p, x.ID, bob, "I agree"))
	proposed(t, r.Resume(as(t, anna), p.Key, anna.Actor, "fixed"))
	if err := r.EndOldProposals(t.Context(), p.Key); err != nil || len(w.record(p.Key).Proposals) != 1 {
		t.Errorf("%v: it ended before its time", err)
	}
	w.now = w.now.Add(24 * time.Hour)
	if err := r.EndOldProposals(t.Context(), p.Key); err != nil {
		t.Fatal(err)
	}
	if len(w.record(p.Key).Proposals) != 0 || w.saved(chain.ProposalWithdrawn) != 1 ||
		w.saved(chain.ProposalExpired) != 1 {
		t.Errorf("want one withdrawn and one expired\n%s", w.story())
	}
}

// A hold of another cause is lifted by one operator, also where resuming after a refuted proof takes two.
func TestOtherHoldsAreLiftedByOneOperator(t *testing.T) {
	w, _, p := rotatedOnly(t, weu)
	r, _ := twoPeople(w)
	if err := r.Pause(as(t, anna), p.Key, anna.Actor, "audit"); err != nil {
		t.Fatal(err)
	}
	if err := r.Resume(as(t, anna), p.Key, anna.Actor, "done"); err != nil {
		t.Error(err)
	}
	if _, _, err := r.Request(as(t, anna), p, rotate.Wanted{Actor: anna.Actor, Reason: "drill"}); err != nil {
		t.Errorf("a rotation without a compromise: %v", err)
	}
}

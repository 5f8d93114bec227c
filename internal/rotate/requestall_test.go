package rotate_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
)

// twoKeys are two keys that were made an hour ago.
func twoKeys(t *testing.T) (w *world, policies []key.Policy, wanted []rotate.Wanted) {
	w = newWorld(t, 1, weu)
	for _, name := range []string{"first", "second"} {
		p := policy(weu)
		p.Key = name
		w.settle(p)
		policies = append(policies, p)
		wanted = append(wanted, rotate.Wanted{Actor: "uid 0 (root)", Reason: "drill"})
	}
	w.now = w.now.Add(time.Hour)
	return w, policies, wanted
}

func TestRequestsForSeveralKeysAreRecordedTogether(t *testing.T) {
	w, policies, wanted := twoKeys(t)
	asked, err := w.rotator().RequestAll(t.Context(), policies, wanted)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range policies {
		if got := w.record(p.Key).Requests; len(got) != 1 || got[0].ID != asked[i].ID {
			t.Errorf("%s has the requests %+v, want %s", p.Key, got, asked[i].ID)
		}
	}
}

func TestARefusedRequestForOneOfSeveralKeysRecordsNothing(t *testing.T) {
	w, policies, wanted := twoKeys(t)
	policies[1].Budget = 1
	before := len(w.store.entries)
	_, err := w.rotator().RequestAll(t.Context(), policies, wanted)
	if reason, refused := rotate.IsRefused(err); !refused || !strings.Contains(reason, "second") {
		t.Fatalf("%v, want a refusal that names the second key", err)
	}
	if got := w.record("first").Requests; len(got) != 0 || len(w.store.entries) != before {
		t.Errorf("the first key has the requests %+v, and the audit %d new entries", got, len(w.store.entries)-before)
	}
}

func TestARefusalNamesEveryKeyThatIsRefused(t *testing.T) {
	w, policies, wanted := twoKeys(t)
	policies[0].Budget, policies[1].Budget = 1, 1
	_, err := w.rotator().RequestAll(t.Context(), policies, wanted)
	if reason, _ := rotate.IsRefused(err); !strings.Contains(reason, "first") || !strings.Contains(reason, "second") {
		t.Errorf("%v", err)
	}
}

// rivalStore changes the second key just before the requests are saved.
type rivalStore struct {
	rotate.Store
	rival func()
}

func (s *rivalStore) SaveTogether(ctx context.Context, recs []record.Record, entries [][]chain.Entry) error {
	if rival := s.rival; rival != nil {
		s.rival = nil
		rival()
	}
	return s.Store.SaveTogether(ctx, recs, entries)
}

func TestAKeyThatIsHeldWhileTheRequestsAreRecordedRefusesThemAll(t *testing.T) {
	w, policies, wanted := twoKeys(t)
	r := w.rotator()
	r.Store = &rivalStore{r.Store, func() {
		if err := r.Pause(t.Context(), "second", "uid 0 (root)", "maintenance"); err != nil {
			t.Fatal(err)
		}
	}}
	_, err := r.RequestAll(t.Context(), policies, wanted)
	if _, refused := rotate.IsRefused(err); !refused {
		t.Errorf("%v, want a refusal", err)
	}
	if got := w.record("first").Requests; len(got) != 0 {
		t.Errorf("the first key has the requests %+v", got)
	}
}

// smallStore takes one record in a change.
type smallStore struct {
	rotate.Store
	saved func(name string) // called after each
}

type tooMuchError struct{}

func (tooMuchError) Error() string    { return "too much for one change" }
func (tooMuchError) TooMuch() bool    { return true }
func (tooMuchError) Class() key.Class { return key.Refused }

func (s *smallStore) SaveTogether(ctx context.Context, recs []record.Record, entries [][]chain.Entry) error {
	if len(recs) > 1 {
		return tooMuchError{}
	}
	err := s.Store.SaveTogether(ctx, recs, entries)
	if err == nil && s.saved != nil {
		s.saved(recs[0].Key)
	}
	return err
}

func TestRequestsThatOneChangeCannotHoldAreRecordedInParts(t *testing.T) {
	w, policies, wanted := twoKeys(t)
	r := w.rotator()
	r.Store = &smallStore{Store: r.Store}
	asked, err := r.RequestAll(t.Context(), policies, wanted)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range policies {
		if got := w.record(p.Key).Requests; len(got) != 1 || got[0].ID != asked[i].ID {
			t.Errorf("%s has the requests %+v, want %s", p.Key, got, asked[i].ID)
		}
	}
	policies[1].Budget = 1
	w.now = w.now.Add(time.Hour)
	wanted[0].Without = []string{weu.URL} // otherwise the two requests are one
	if _, err := r.RequestAll(t.Context(), policies, wanted); err == nil || len(w.record("first").Requests) != 1 {
		t.Errorf("%v; a refusal records nothing, in no part", err)
	}
}

func TestRequestsOfWhichALaterPartFailsSayWhichAreRecorded(t *testing.T) {
	w, policies, wanted := twoKeys(t)
	r := w.rotator()
	r.Store = &smallStore{Store: r.Store, saved: func(string) {
		if err := w.rotator().Pause(t.Context(), "second", "uid 0 (root)", "maintenance"); err != nil {
			t.Fatal(err)
		}
	}}
	_, err := r.RequestAll(t.Context(), policies, wanted)
	var partly *rotate.PartlyError
	if !errors.As(err, &partly) || !slices.Equal(partly.Recorded, []string{"first"}) ||
		!slices.Equal(partly.Left, []string{"second"}) || !strings.Contains(err.Error(), "maintenance") {
		t.Errorf("%v", err)
	}
	if len(w.record("first").Requests) != 1 || len(w.record("second").Requests) != 0 {
		t.Errorf("the keys have the requests %+v and %+v", w.record("first").Requests, w.record("second").Requests)
	}
}

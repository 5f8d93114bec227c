package observe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

const (
	sweptURL = "https://contoso-weu.vault.azure.net"
	firstID  = "00000000000000000000000000000001"
	secondID = "00000000000000000000000000000002"
	slow     = 15 * time.Minute
)

// sweptVault is a vault with one version of one key and a list of its own making.
type sweptVault struct {
	Vault
	now     *time.Time
	older   []key.Version
	version key.Version // the newest
	list    func() ([]key.Item, error)
	calls   []string
}

func (v *sweptVault) called(name string) { v.calls = append(v.calls, name) }

func (v *sweptVault) Versions(context.Context, string) ([]key.Version, error) {
	v.called("Versions")
	return append(slices.Clone(v.older), v.version), nil
}

func (v *sweptVault) Newest(context.Context, string) (key.Version, error) {
	v.called("Newest")
	return v.version, nil
}

func (v *sweptVault) NativeRotation(context.Context, string) (bool, error) { return false, nil }

func (v *sweptVault) Get(context.Context, string, string) (key.Version, error) { return v.version, nil }

func (v *sweptVault) KEKVersions(context.Context) ([]key.Version, error) { return nil, nil }

func (v *sweptVault) KEK(context.Context, string) (key.KEK, bool, error) {
	return key.KEK{}, false, nil
}

func (v *sweptVault) ClockSkew() (time.Duration, bool) { return 0, true }

func (v *sweptVault) Sweep(context.Context, int) ([]key.Item, error) {
	v.called("Sweep")
	return v.list()
}

type noHSM struct{ HSM }

func (noHSM) Inventory(context.Context) ([]key.Object, error)         { return nil, nil }
func (noHSM) Find(context.Context, key.ID) ([]key.Object, error)      { return nil, nil }
func (noHSM) CheckKEK(context.Context, key.KEK) (how string, _ error) { return "", nil }

type noRecords struct{}

func (noRecords) LoadVault(context.Context, string) (record.Vault, error) { return record.Vault{}, nil }

// swept is an observer of the vault, with all that was seen of the key at one look.
func newSwept(t *testing.T) (o *Observer, v *sweptVault, look func() []string) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	v = &sweptVault{now: &now, version: key.Version{ID: firstID, Enabled: true,
		Created: now.Add(-time.Hour)}}
	v.list = func() ([]key.Item, error) { return []key.Item{v.item()}, nil }
	o = New(Config{HSM: noHSM{}, Records: noRecords{}, Vaults: func(string) Vault { return v },
		Clock: func() time.Time { return now }, Slow: slow})
	p := key.Policy{Key: "sa-cmk-key", Vaults: []key.Vault{{Name: "weu", URL: sweptURL}}}
	rec := record.Record{Key: p.Key}
	for _, id := range []string{firstID, secondID} {
		rec.Accept(sweptURL, id) // not keyd's, and consented to: nothing drifts
	}
	look = func() []string {
		v.calls = nil
		o.Observe(t.Context(), p, rec)
		now = now.Add(slow)
		return v.calls
	}
	look()
	return o, v, look
}

func (v *sweptVault) item() key.Item {
	item := key.ItemOf(v.version)
	item.Name = "SA-CMK-key" // a vault may show a name in another case
	return item
}

func wantCalls(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: the calls are %v, want %v", what, got, want)
	}
}

func TestAKeyWhoseItemIsAsTheLastLookSawItIsNotAsked(t *testing.T) {
	_, v, look := newSwept(t)
	wantCalls(t, "a quiet look", look(), "Sweep")
	v.version.Enabled = false
	wantCalls(t, "somebody changed the newest version", look(), "Sweep", "Versions", "Newest")
	v.version.Enabled = true
	look()
	wantCalls(t, "a quiet look again", look(), "Sweep")
}

func TestAnAbsentItemMakesKeydAskTheKey(t *testing.T) {
	_, v, look := newSwept(t)
	v.list = func() ([]key.Item, error) { return nil, nil }
	for range 2 {
		wantCalls(t, "the list lacks the key", look(), "Sweep", "Versions", "Newest")
	}
}

// Which version's attributes a list shows is not promised. What stays as it was at the last look counts as unchanged.
func TestAnItemThatShowsAnotherVersionIsComparedWithItself(t *testing.T) {
	_, v, look := newSwept(t)
	other := v.item()
	other.Created = other.Created.Add(-time.Hour)
	v.list = func() ([]key.Item, error) { return []key.Item{other}, nil }
	wantCalls(t, "the first look at such a list", look(), "Sweep", "Versions", "Newest")
	wantCalls(t, "it did not change", look(), "Sweep")
	other.Enabled = false
	wantCalls(t, "it changed", look(), "Sweep", "Versions", "Newest")
}

func TestAVaultWhoseListDoesNotFollowAnImportIsAskedKeyByKey(t *testing.T) {
	o, v, look := newSwept(t)
	old := v.item()
	v.list = func() ([]key.Item, error) { return []key.Item{old}, nil }
	look()
	before := v.version
	v.older = []key.Version{before}
	v.version.ID, v.version.Created = secondID, v.now.Add(-slow)
	o.Learn(record.Learnt{Key: "sa-cmk-key", Vault: sweptURL, Version: v.version})
	part := o.Last("sa-cmk-key").Vaults[sweptURL]
	part.NewestAt = v.now.Add(-slow) // the end of the rotation asked for it
	o.Last("sa-cmk-key").Vaults[sweptURL] = part
	if len(part.Versions) != 2 || part.Versions[0].ID != before.ID || part.Newest != v.version.ID {
		t.Fatalf("after the import keyd knows %+v", part)
	}
	wantCalls(t, "the list is as it was", look(), "Sweep", "Versions", "Newest")
	for range 3 {
		wantCalls(t, "key by key", look(), "Versions")
	}
}

func TestAVaultThatRefusesItsListIsAskedKeyByKey(t *testing.T) {
	for name, err := range map[string]error{
		"roles on single keys":     &kekError{key.Refused, "403"},
		"more pages than keys":     fmt.Errorf("the list: %w", key.ErrTooManyPages),
		"it does not answer today": &kekError{key.Retry, "503"},
	} {
		_, v, look := newSwept(t)
		v.list = func() ([]key.Item, error) { return nil, err }
		wantCalls(t, name, look(), "Sweep", "Versions")
		again := []string{"Versions"}
		if name == "it does not answer today" {
			again = []string{"Sweep", "Versions"}
		}
		wantCalls(t, name+", the next look", look(), again...)
	}
}

// The list may hide what it likes: every eight hours the versions are listed, and every two days all is asked for.
func TestWhatAListHidesIsFoundAllTheSame(t *testing.T) {
	_, _, look := newSwept(t)
	listed, whole := 0, 0
	for range 2 * 24 * 4 {
		switch calls := look(); {
		case slices.Contains(calls, "Newest"):
			whole++
		case slices.Contains(calls, "Versions"):
			listed++
		}
	}
	if listed != 5 || whole != 1 {
		t.Errorf("in two days the versions were listed %d times, and all was asked for %d times", listed, whole)
	}
}

// A list that fails says nothing of single keys: imports and looks go on.
func TestAListThatFailsDoesNotKeepKeydFromTheVault(t *testing.T) {
	o, v, look := newSwept(t)
	v.list = func() ([]key.Item, error) { return nil, &kekError{key.Retry, "503"} }
	for range 3 {
		if calls := look(); !slices.Contains(calls, "Versions") {
			t.Errorf("the calls are %v", calls)
		}
		if err := o.Last("sa-cmk-key").Vaults[sweptURL].Err; err != nil {
			t.Errorf("the vault counts as silent: %v", err)
		}
	}
}

// What a step taught is not lost, and does not panic, when a look that failed was put in between.
func TestAnImportIsLearntIntoALookThatFailed(t *testing.T) {
	o, v, _ := newSwept(t)
	o.cache.put("sa-cmk-key", &record.Observation{Vaults: map[string]record.VaultSeen{
		sweptURL: {Err: errors.New("no answer")}}})
	o.Learn(record.Learnt{Key: "sa-cmk-key", Vault: sweptURL, Version: v.version})
	if part := o.Last("sa-cmk-key").Vaults[sweptURL]; part.Err == nil || part.Acted {
		t.Errorf("%+v", part)
	}
}

// A key that is new to a vault costs it no call before the first import, which asks for the listing.
func TestAKeyThatKeydNeverPutInAVaultIsNotAskedForWhileTheListLacksIt(t *testing.T) {
	_, v, _ := newSwept(t)
	p := key.Policy{Key: "new-key", Vaults: []key.Vault{{Name: "weu", URL: sweptURL}}}
	rec := record.Record{Key: p.Key}
	o := New(Config{HSM: noHSM{}, Records: noRecords{}, Vaults: func(string) Vault { return v },
		Clock: func() time.Time { return *v.now }, Slow: slow})
	observe := func() record.VaultSeen {
		v.calls = nil
		return o.Observe(t.Context(), p, rec).Vaults[sweptURL]
	}
	o.Expect([]key.Policy{p})
	if part := observe(); !part.Unlisted || part.Err != nil {
		t.Errorf("at the first look: %+v", part)
	}
	wantCalls(t, "the first look at the vault", v.calls, "Sweep")
	if part := observe(); !part.Unlisted {
		t.Errorf("at the second look: %+v", part)
	}
	wantCalls(t, "the second look, by the same list", v.calls)

	v.calls = nil
	part := o.Refresh(t.Context(), p, rec, plan.Parts{Listings: []string{sweptURL}}).Vaults[sweptURL]
	if part.Unlisted || len(part.Versions) != 1 {
		t.Errorf("the listing shows %+v", part)
	}
	wantCalls(t, "the listing before an import", v.calls, "Versions", "Newest")
	if part := observe(); part.Unlisted {
		t.Errorf("what a listing showed counts no more: %+v", part)
	}
}

func TestAKeyThatTheListShowsIsAskedFor(t *testing.T) {
	_, v, _ := newSwept(t)
	p := key.Policy{Key: "sa-cmk-key", Vaults: []key.Vault{{Name: "weu", URL: sweptURL}}}
	o := New(Config{HSM: noHSM{}, Records: noRecords{}, Vaults: func(string) Vault { return v },
		Clock: func() time.Time { return *v.now }, Slow: slow})
	o.Expect([]key.Policy{p})
	v.calls = nil
	if part := o.Observe(t.Context(), p, record.Record{Key: p.Key}).Vaults[sweptURL]; part.Unlisted {
		t.Errorf("%+v", part)
	}
	wantCalls(t, "the first look", v.calls, "Sweep", "Versions", "Newest")
}

// A daemon that runs for years sees many keys come and go.
func TestNothingIsKeptOfAKeyThatLeft(t *testing.T) {
	o, v, look := newSwept(t)
	look()
	o.cache.putShown(sweptURL, v.version.ID, "sa-cmk-key", shown{})
	o.cache.putShown(sweptURL, v.version.ID, "other", shown{})
	o.Forget("sa-cmk-key")
	if len(o.cache.shown) != 1 || len(o.cache.facts) != 0 || len(o.cache.empty) != 0 || o.Last("sa-cmk-key") != nil {
		t.Errorf("kept: %d versions, %d facts, %d empty", len(o.cache.shown), len(o.cache.facts), len(o.cache.empty))
	}
	if _, known := o.cache.shownOf(sweptURL, v.version.ID, "other"); !known {
		t.Error("what another key's version showed is forgotten, too")
	}
}

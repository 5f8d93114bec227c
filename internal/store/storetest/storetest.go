// Package storetest is the contract of a store, as tests that any backend runs. Its rule: it uses a backend only as
// the backend's users do.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// Backend is what a store does for keyd.
type Backend interface {
	Load(ctx context.Context, name string) (record.Record, error)
	Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error)
	SaveTogether(ctx context.Context, recs []record.Record, entries [][]chain.Entry) error
	Names(ctx context.Context) ([]string, error)
	Revisions(ctx context.Context) (map[string]uint64, error)
	LoadVault(ctx context.Context, url string) (record.Vault, error)
	SaveVault(ctx context.Context, rec record.Vault, entries ...chain.Entry) (record.Vault, error)
	LoadSettings(ctx context.Context) (record.Settings, error)
	SaveSettings(ctx context.Context, rec record.Settings, entries, others []chain.Entry) error
	Append(ctx context.Context, entries ...chain.Entry) error
	Head(ctx context.Context) (seq uint64, hash chain.Hash, err error)
	Audit(ctx context.Context, from uint64, fn func(chain.Linked) error) error
	Recent(ctx context.Context, n int) ([]chain.Linked, error)
	Verify(ctx context.Context) (chain.Report, error)
	LoadLedger(ctx context.Context, name string) ([]byte, error)
	SaveLedger(ctx context.Context, name string, blob []byte) error
	Leadership
}

// Opened is an empty backend.
type Opened struct {
	Backend
	// Reopen closes the backend, and opens what it wrote as another process would.
	Reopen func(t *testing.T) Backend
}

// Run runs the contract; open makes a fresh, empty backend each time.
func Run(t *testing.T, open func(t *testing.T) Opened) {
	contract := map[string]func(*testing.T, Opened){
		"an absent record loads empty at revision 0":      absent,
		"what was saved is loaded":                        roundTrip,
		"a change to a loaded record changes no other":    apart,
		"a stale revision conflicts and changes nothing":  conflict,
		"a record is created once":                        createdOnce,
		"one key gets no second record in another case":   otherCase,
		"a change needs an audit entry":                   needsEntry,
		"an entry of another key is refused":              otherKey,
		"revisions grow and are never used again":         revisions,
		"revisions tell which record has changed":         changed,
		"entries keep their order":                        order,
		"every racing change is applied exactly once":     race,
		"a cancelled context changes nothing":             cancelled,
		"several records change together or not at all":   together,
		"the record of a vault is kept as that of a key":  vaultRoundTrip,
		"a vault's stale revision conflicts":              vaultConflict,
		"a vault and a key do not share a record":         vaultApart,
		"the settings are kept with entries about others": settings,

		"a write under an epoch needs it to be in force":     epochs,
		"a write without an epoch is anybody's":              anybody,
		"a term begins, is renewed and ends":                 terms,
		"a new term follows the last one after a restart":    nextTerm,
		"a status is kept, listed, removed and not in chain": statuses,

		"a ledger is kept as it was saved last":    ledger,
		"a ledger is unknown to chain and records": ledgerApart,
		"a ledger that is too large is refused":    ledgerBound,

		"entries have numbers without gaps and are linked":    chained,
		"the last entry of a change covers its record":        covered,
		"the chain is read from any number on":                auditFrom,
		"the last entries are read alone":                     recent,
		"a chain as it was written verifies":                  verified,
		"what is refused appends nothing":                     refusals,
		"a store that is opened again goes on where it ended": reopened,
	}
	for name, check := range contract {
		t.Run(name, func(t *testing.T) { check(t, open(t)) })
	}
}

func entry(event chain.Event) chain.Entry {
	return chain.Entry{Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Event: event, Actor: "keyd"}
}

func otherCase(t *testing.T, b Opened) {
	saved := mustSave(t, b, mustLoad(t, b, "Foo-Key"), entry("made"))
	_, err := b.Save(t.Context(), mustLoad(t, b, "foo-key"), entry("made"))
	var refused *key.CaseError
	if !errors.As(err, &refused) || refused.Record != "Foo-Key" || key.ClassOf(err) != key.Refused {
		t.Errorf("%v, want it refused because of Foo-Key", err)
	}
	mustSave(t, b, saved, entry("changed"))
	wantEvents(t, b, "made", "changed")
}

func mustLoad(t *testing.T, b Backend, name string) record.Record {
	t.Helper()
	rec, err := b.Load(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func mustSave(t *testing.T, b Backend, rec record.Record, entries ...chain.Entry) record.Record {
	t.Helper()
	saved, err := b.Save(t.Context(), rec, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

func wantEvents(t *testing.T, b Backend, want ...string) {
	t.Helper()
	var got []string
	for _, e := range linked(t, b) {
		got = append(got, string(e.Event))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("audit entries (-want +got):\n%s", diff)
	}
}

func absent(t *testing.T, b Opened) {
	want := record.Record{Schema: record.SchemaVersion, Key: "k"}
	if diff := cmp.Diff(want, mustLoad(t, b, "k")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func roundTrip(t *testing.T, b Opened) {
	at := time.Date(2026, 3, 1, 2, 0, 0, 123456789, time.UTC)
	rec := mustLoad(t, b, "k")
	rec.Instance = "hq-1"
	place(t, &rec, at)
	rec.Hold = &key.Hold{Code: key.HoldPaused, Since: at, By: "uid 0 (root)"}
	rec.Known = map[string][]string{"https://v.vault.azure.net": {"x"}}
	saved := mustSave(t, b, rec, entry("generation reserved"))
	if saved.Revision == 0 {
		t.Error("the saved record has revision 0")
	}
	if diff := cmp.Diff(saved, mustLoad(t, b, "k")); diff != "" {
		t.Errorf("loaded is not what was saved (-saved +loaded):\n%s", diff)
	}
	rec.Revision = saved.Revision
	if diff := cmp.Diff(rec, saved); diff != "" {
		t.Errorf("Save changed more than the revision (-asked +saved):\n%s", diff)
	}
	names, err := b.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"k"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

// place gives the record one generation with one placement and its alias.
func place(t *testing.T, rec *record.Record, at time.Time) {
	t.Helper()
	const id, attempt = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
	g, err := rec.Reserve(at, key.Policy{Spec: key.RSA4096}, record.Reservation{ID: id, Reason: "a test",
		Requester: "keyd"})
	if err == nil {
		_, err = rec.Pin(at, g.Number, "sha256:aa")
	}
	if err == nil {
		err = rec.Intend(1, record.Placement{Attempt: attempt, Vault: "https://v.vault.azure.net", At: at})
	}
	if err == nil {
		err = rec.Land(at, attempt, key.Version{ID: "v1", Created: at})
	}
	if err == nil {
		err = rec.Alias(at, attempt, record.FoundVersion{Version: key.Version{ID: "a"}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func conflict(t *testing.T, b Opened) {
	old := mustSave(t, b, mustLoad(t, b, "k"), entry("first"))
	newer := old.Clone()
	newer.Instance = "newer"
	newer = mustSave(t, b, newer, entry("second"))

	old.Instance = "stale"
	_, err := b.Save(t.Context(), old, entry("third"))
	wantRetry(t, err)
	if diff := cmp.Diff(newer, mustLoad(t, b, "k")); diff != "" {
		t.Errorf("the conflict changed the record (-want +got):\n%s", diff)
	}
	wantEvents(t, b, "first", "second")
}

func createdOnce(t *testing.T, b Opened) {
	first, second := mustLoad(t, b, "k"), mustLoad(t, b, "k")
	mustSave(t, b, first, entry("first"))
	_, err := b.Save(t.Context(), second, entry("second"))
	wantRetry(t, err)

	never := record.Record{Schema: record.SchemaVersion, Key: "other", Revision: 7}
	_, err = b.Save(t.Context(), never, entry("third"))
	wantRetry(t, err)
	wantEvents(t, b, "first")
}

func wantRetry(t *testing.T, err error) {
	t.Helper()
	if err == nil || key.ClassOf(err) != key.Retry {
		t.Fatalf("got error %v (%v), want one of class retry", err, key.ClassOf(err))
	}
}

func needsEntry(t *testing.T, b Opened) {
	if _, err := b.Save(t.Context(), mustLoad(t, b, "k")); err == nil {
		t.Error("a record was saved without an audit entry")
	}
	if got := mustLoad(t, b, "k").Revision; got != 0 {
		t.Errorf("the record is at revision %d, want 0", got)
	}
}

func otherKey(t *testing.T, b Opened) {
	e := entry("first")
	e.Key = "other"
	if _, err := b.Save(t.Context(), mustLoad(t, b, "k"), e); err == nil {
		t.Error("a record was saved with an entry of another key")
	}
	wantEvents(t, b)
}

func revisions(t *testing.T, b Opened) {
	rec := mustLoad(t, b, "k")
	for range 5 {
		saved := mustSave(t, b, rec, entry("a"), entry("b"))
		if saved.Revision <= rec.Revision {
			t.Fatalf("revision %d after %d", saved.Revision, rec.Revision)
		}
		rec = saved
	}
}

func order(t *testing.T, b Opened) {
	rec := mustSave(t, b, mustLoad(t, b, "k"), entry("1"), entry("2"))
	if err := b.Append(t.Context(), entry("3"), entry("4")); err != nil {
		t.Fatal(err)
	}
	mustSave(t, b, rec, entry("5"))
	wantEvents(t, b, "1", "2", "3", "4", "5")
}

func race(t *testing.T, b Opened) {
	const workers, each = 8, 5
	var group sync.WaitGroup
	failures := make(chan error, workers)
	for w := range workers {
		group.Go(func() {
			for i := range each {
				if err := addRequest(t.Context(), b, fmt.Sprintf("%d-%d", w, i)); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	seen := map[string]bool{}
	for _, q := range mustLoad(t, b, "k").Requests {
		if seen[q.Reason] {
			t.Errorf("change %s was applied twice", q.Reason)
		}
		seen[q.Reason] = true
	}
	if len(seen) != workers*each {
		t.Errorf("%d changes were applied, want %d", len(seen), workers*each)
	}
	if n := len(linked(t, b)); n != workers*each {
		t.Errorf("%d audit entries, want one for each of %d changes", n, workers*each)
	}
}

// addRequest does what every writer does: load, change, save, and start over after a conflict.
func addRequest(ctx context.Context, b Opened, reason string) error {
	for {
		rec, err := b.Load(ctx, "k")
		if err != nil {
			return err
		}
		rec.Requests = append(rec.Requests, key.Request{Reason: reason})
		_, err = b.Save(ctx, rec, entry(chain.Event("request "+reason)))
		if err == nil {
			return nil
		}
		if key.ClassOf(err) != key.Retry {
			return fmt.Errorf("change %s: %w", reason, err)
		}
	}
}

func cancelled(t *testing.T, b Opened) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Save(ctx, record.Record{Schema: record.SchemaVersion, Key: "k"}, entry("first"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Save: %v, want the context's error", err)
	}
	if err := b.Append(ctx, entry("second")); !errors.Is(err, context.Canceled) {
		t.Errorf("Append: %v, want the context's error", err)
	}
	wantEvents(t, b)
}

const vaultURL = "https://v.vault.azure.net"

func mustLoadVault(t *testing.T, b Opened) record.Vault {
	t.Helper()
	rec, err := b.LoadVault(t.Context(), vaultURL)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func vaultRoundTrip(t *testing.T, b Opened) {
	rec := mustLoadVault(t, b)
	if diff := cmp.Diff(record.Vault{Schema: record.SchemaVersion, URL: vaultURL}, rec); diff != "" {
		t.Errorf("absent (-want +got):\n%s", diff)
	}
	at := record.Moment{Here: time.Date(2026, 3, 1, 2, 0, 0, 123456789, time.UTC), There: time.Date(2026, 3, 1, 2, 0,
		1, 0, time.UTC)}
	rec.Instance = "hq-1"
	rec.Request = &key.KEKRequest{ID: "q", At: at.Here, By: "uid 0 (root)", Reason: "yearly"}
	if err := rec.MakeKEK(at, "a", "keyd", "first"); err != nil {
		t.Fatal(err)
	}
	saved, err := b.SaveVault(t.Context(), rec, entry(chain.KEKIntended))
	if err != nil || saved.Revision == 0 {
		t.Fatalf("revision %d, %v", saved.Revision, err)
	}
	if diff := cmp.Diff(saved, mustLoadVault(t, b)); diff != "" {
		t.Errorf("loaded is not what was saved (-saved +loaded):\n%s", diff)
	}
	wantEvents(t, b, string(chain.KEKIntended))
}

func vaultConflict(t *testing.T, b Opened) {
	rec := mustLoadVault(t, b)
	if _, err := b.SaveVault(t.Context(), rec, entry("one")); err != nil {
		t.Fatal(err)
	}
	_, err := b.SaveVault(t.Context(), rec, entry("two"))
	if key.ClassOf(err) != key.Retry {
		t.Errorf("%v, want an error of class retry", err)
	}
	if _, err := b.SaveVault(t.Context(), mustLoadVault(t, b)); err == nil {
		t.Error("a change without an entry was saved")
	}
	wantEvents(t, b, "one")
}

func vaultApart(t *testing.T, b Opened) {
	mustSave(t, b, mustLoad(t, b, "k"), entry("of the key"))
	rec := mustLoadVault(t, b)
	if _, err := b.SaveVault(t.Context(), rec, entry("of the vault")); err != nil {
		t.Fatal(err)
	}
	names, err := b.Names(t.Context())
	if diff := cmp.Diff([]string{"k"}, names); diff != "" || err != nil {
		t.Errorf("%v, names (-want +got):\n%s", err, diff)
	}
	rec = mustLoadVault(t, b)
	rec.URL = "k"
	if _, err := b.SaveVault(t.Context(), rec, entry("confused")); err == nil {
		t.Error("a vault's record took the place of a key's")
	}
}

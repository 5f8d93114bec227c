package storetest

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// MaxLedger is the size of the largest ledger that a backend must take, in bytes; it refuses a larger one.
const MaxLedger = 4 << 20

func wantLedger(t *testing.T, b Backend, name string, want []byte) {
	t.Helper()
	got, err := b.LoadLedger(t.Context(), name)
	if err != nil || !bytes.Equal(got, want) || (got == nil) != (want == nil) {
		t.Errorf("the ledger of %s is %q, %v; want %q", name, got, err, want)
	}
}

func ledger(t *testing.T, b Opened) {
	wantLedger(t, b, vaultURL, nil)
	for _, blob := range []string{"first", "second"} {
		if err := b.SaveLedger(t.Context(), vaultURL, []byte(blob)); err != nil {
			t.Fatal(err)
		}
	}
	wantLedger(t, b, vaultURL, []byte("second"))
	wantLedger(t, b, "another", nil)
	reopened := b.Reopen(t)
	wantLedger(t, reopened, vaultURL, []byte("second"))
}

func ledgerApart(t *testing.T, b Opened) {
	if err := b.SaveLedger(t.Context(), vaultURL, []byte("seen")); err != nil {
		t.Fatal(err)
	}
	if rec := mustLoadVault(t, b); rec.Revision != 0 {
		t.Errorf("the vault has a record at revision %d because it has a ledger", rec.Revision)
	}
	names, err := b.Names(t.Context())
	if diff := cmp.Diff([]string(nil), names); diff != "" || err != nil {
		t.Errorf("%v, names (-want +got):\n%s", err, diff)
	}
	wantEvents(t, b)
	if r, err := b.Verify(t.Context()); err != nil || !r.Consistent() || r.Entries != 0 || r.Records != 0 {
		t.Errorf("%v, %v; want an empty chain", r, err)
	}
}

func ledgerBound(t *testing.T, b Opened) {
	if err := b.SaveLedger(t.Context(), "k", []byte("small")); err != nil {
		t.Fatal(err)
	}
	if err := b.SaveLedger(t.Context(), "k", make([]byte, MaxLedger+1)); err == nil {
		t.Error("a ledger without bounds was saved")
	}
	wantLedger(t, b, "k", []byte("small"))
	if err := b.SaveLedger(t.Context(), "", nil); err == nil {
		t.Error("a ledger without a name was saved")
	}
}

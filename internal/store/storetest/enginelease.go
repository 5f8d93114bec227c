package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/store/stored"
)

func wantBlobs(t *testing.T, e stored.Engine, prefix string, want ...string) {
	t.Helper()
	got, err := e.Blobs(t.Context(), prefix)
	if len(got)+len(want) > 0 && !cmp.Equal(want, got) || err != nil {
		t.Errorf("the blobs with prefix %q: %q, %v; want %q", prefix, got, err, want)
	}
}

func put(t *testing.T, e stored.Engine, name, value string) {
	t.Helper()
	if err := e.PutBlob(t.Context(), stored.Blob{Name: name, Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
}

func wantBlob(t *testing.T, e stored.Engine, name, want string) {
	t.Helper()
	got, err := e.Blob(t.Context(), name)
	if string(got) != want || (got == nil) != (want == "") || err != nil {
		t.Errorf("the blob %q is %q, %v; want %q", name, got, err, want)
	}
}

func engineBlobs(t *testing.T, e *engines) {
	other := e.another(t)
	put(t, e, "host/b", "1")
	put(t, other, "host/b", "2")
	put(t, e, "host/a", "3")
	put(t, e, "halt", "4")
	wantBlob(t, e, "host/b", "2")
	wantBlob(t, e, "host/", "")
	wantBlobs(t, other, "host/", "host/a", "host/b")
	wantBlobs(t, other, "", "halt", "host/a", "host/b")
	put(t, other, "host/a", "")
	wantBlob(t, e, "host/a", "")
	wantBlobs(t, e, "host/", "host/b")
	put(t, e, "never was", "")
	if got := tip(t, e); got != (stored.Tip{}) {
		t.Errorf("blobs moved the chain to %+v", got)
	}
}

func engineBlobBytes(t *testing.T, e *engines) {
	odd := "https://v.example/ä%_\\'\" \U0001f511"
	put(t, e, odd, "\x00\xff\n\\x00")
	wantBlob(t, e, odd, "\x00\xff\n\\x00")
	for _, name := range []string{"a_b", "axb", "a%b", "a\\b", "A_b"} {
		put(t, e, name, "1")
	}
	wantBlobs(t, e, "a_", "a_b")
	wantBlobs(t, e, "a%", "a%b")
	wantBlobs(t, e, "a\\", "a\\b")
	wantBlobs(t, e, "https://v.example/ä%", odd)
}

func engineBlobEpoch(t *testing.T, e *engines) {
	lease := take(t, e, "one", 1)
	guarded := stored.Blob{Name: "proofs", Value: []byte("true"), Epoch: &lease.Epoch}
	if err := e.PutBlob(t.Context(), guarded); err != nil {
		t.Fatal(err)
	}
	for what, epoch := range foreign(lease.Epoch) {
		err := e.PutBlob(t.Context(), stored.Blob{Name: "proofs", Value: []byte("false"), Epoch: &epoch})
		wantRefused(t, what, err, stored.ErrEpoch)
	}
	wantBlob(t, e, "proofs", "true")
	if err := e.Release(t.Context(), lease.Epoch); err != nil {
		t.Fatal(err)
	}
	take(t, e, "two", 2)
	wantRefused(t, "the term before", e.PutBlob(t.Context(), guarded), stored.ErrEpoch)
}

func engineLease(t *testing.T, e *engines) {
	other := e.another(t)
	first := take(t, e, "one", 1)
	if first.Epoch.Number == 0 || first.Epoch.Nonce != [16]byte{1} || first.Holder != "one" {
		t.Errorf("took %+v", first)
	}
	if first.Left <= 0 || first.Left > time.Hour || first.Since.IsZero() || first.Now.Before(first.Since) {
		t.Errorf("%s are left, since %s, and it is %s", first.Left, first.Since, first.Now)
	}
	_, err := other.Take(t.Context(), "two", [16]byte{2}, time.Hour)
	wantRefused(t, "a lease that another host holds", err, stored.ErrHeld)
	seen := must[stored.Lease](t)(other.Lease(t.Context()))
	if seen.Epoch != first.Epoch || seen.Holder != "one" || !seen.Since.Equal(first.Since) ||
		seen.Now.Before(first.Now) || seen.Left > first.Left {
		t.Errorf("the other handle sees %+v, want %+v a moment later", seen, first)
	}
	// A daemon that was restarted begins a new term: it does not know what the one before it had under way.
	again := take(t, other, "one", 3)
	if again.Epoch.Number != first.Epoch.Number+1 || again.Epoch.Nonce != [16]byte{3} {
		t.Errorf("the holder took %+v after %+v", again.Epoch, first.Epoch)
	}
	c := noting(t, stored.Tip{}, "late")
	c.Epoch = &first.Epoch
	wantRefused(t, "a change of the term before", e.Commit(t.Context(), c), stored.ErrEpoch)
}

func engineTakeRace(t *testing.T, e *engines) {
	handles := []stored.Engine{e, e.another(t), e.another(t)}
	leases, errs := make([]stored.Lease, len(handles)), make([]error, len(handles))
	var group sync.WaitGroup
	for i, handle := range handles {
		group.Go(func() {
			// A conflict of which the engine says that nothing happened is no answer yet.
			for hopeless := time.Now().Add(patience); ; {
				leases[i], errs[i] = handle.Take(t.Context(), fmt.Sprint("host-", i), [16]byte{byte(i + 1)}, time.Hour)
				var engine *stored.EngineError
				if !errors.As(errs[i], &engine) || engine.Ambiguous || time.Now().After(hopeless) {
					return
				}
			}
		})
	}
	group.Wait()
	now, winners := must[stored.Lease](t)(e.Lease(t.Context())), 0
	for i, err := range errs {
		if err == nil {
			winners++
			if leases[i].Epoch != now.Epoch || now.Holder != fmt.Sprint("host-", i) {
				t.Errorf("host %d took %+v, and the lease is %+v", i, leases[i], now)
			}
			continue
		}
		wantRefused(t, fmt.Sprint("host ", i), err, stored.ErrHeld)
	}
	if winners != 1 {
		t.Errorf("%d hosts took the lease, want 1", winners)
	}
}

func engineRenew(t *testing.T, e *engines) {
	first := take(t, e, "one", 1)
	longer, err := e.Renew(t.Context(), first.Epoch, 3*time.Hour)
	if err != nil || longer.Left <= 2*time.Hour || longer.Left > 3*time.Hour || longer.Epoch != first.Epoch ||
		longer.Holder != "one" || !longer.Since.Equal(first.Since) {
		t.Errorf("renewed %+v to %+v, %v", first, longer, err)
	}
	for what, epoch := range foreign(first.Epoch) {
		_, err := e.Renew(t.Context(), epoch, 9*time.Hour)
		wantRefused(t, what, err, stored.ErrEpoch)
	}
	if now := must[stored.Lease](t)(e.Lease(t.Context())); now.Left > 3*time.Hour || now.Epoch != first.Epoch {
		t.Errorf("a refused renewal made it %+v", now)
	}
}

func engineRelease(t *testing.T, e *engines) {
	other, first := e.another(t), take(t, e, "one", 1)
	for what, epoch := range foreign(first.Epoch) {
		if err := e.Release(t.Context(), epoch); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := other.Take(t.Context(), "two", [16]byte{2}, time.Hour)
	wantRefused(t, "a lease of which others were released", err, stored.ErrHeld)
	if err := e.Release(t.Context(), first.Epoch); err != nil {
		t.Fatal(err)
	}
	if now := must[stored.Lease](t)(e.Lease(t.Context())); now.Left > 0 || now.Epoch != first.Epoch {
		t.Errorf("released, it is %+v", now)
	}
	_, err = e.Renew(t.Context(), first.Epoch, time.Hour)
	wantRefused(t, "the renewal of a released lease", err, stored.ErrEpoch)
	inForce := noting(t, stored.Tip{}, "the last words of a term")
	inForce.Epoch = &first.Epoch
	commit(t, e, inForce)
	if second := take(t, other, "two", 2); second.Epoch.Number != first.Epoch.Number+1 || second.Holder != "two" {
		t.Errorf("took %+v after %+v", second, first)
	}
}

// engineExpiry waits until another host may lead, however slow the machine is: it requires only that this comes.
func engineExpiry(t *testing.T, e *engines) {
	other := e.another(t)
	first := must[stored.Lease](t)(e.Take(t.Context(), "one", [16]byte{1}, time.Second))
	var second stored.Lease
	err := stored.ErrHeld
	for deadline := time.Now().Add(time.Minute); errors.Is(err, stored.ErrHeld) && time.Now().Before(deadline); {
		second, err = other.Take(t.Context(), "two", [16]byte{2}, time.Hour)
		time.Sleep(20 * time.Millisecond) // asks not too often; the deadline is what counts
	}
	if err != nil {
		t.Fatal(err)
	}
	if second.Epoch.Number != first.Epoch.Number+1 {
		t.Errorf("%+v was followed by %+v", first, second)
	}
	_, err = e.Renew(t.Context(), first.Epoch, time.Hour)
	wantRefused(t, "the renewal of a lease that is over", err, stored.ErrEpoch)
}

package etcd

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/softhsm-test/etcdtest"
)

// etcd makes some of the changes of which it says that it was full: those that were on their way together. An error
// must tell them from those that it did not make.
func TestAFullEtcdTakesNothingAndGivesEverything(t *testing.T) {
	t.Parallel()
	in := etcdtest.Start(t, etcdtest.Options{Args: []string{"--quota-backend-bytes=16777216"}})
	c := fresh(t, in)
	c.Quota = 16 << 20
	e := open(t, c)
	commit(t, e, noting(t, stored.Tip{}, "noted", 1))
	lease, err := e.Take(t.Context(), "one", [16]byte{1}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	value, errs := bytes.Repeat([]byte("x"), stored.MaxBlob), map[string]error{}
	for full := false; !full; { // etcd learns its size only every 100 ms: some rounds may go beyond its quota
		if len(errs) > 400 {
			t.Fatal("400 MiB do not fill 16")
		}
		full = fillTogether(t, e, value, errs)
	}
	kept, err := e.Blobs(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range errs {
		if there := slices.Contains(kept, name); there != (err == nil) {
			t.Errorf("blob %s is there: %t, and keeping it: %v", name, there, err)
		}
		if err != nil && !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Errorf("blob %s: %v", name, err)
		}
	}
	at := tipOf(t, e)
	err = e.Commit(t.Context(), noting(t, at, "noted", 1))
	wantFailed(t, err, false)
	if !contains(err, "etcdctl alarm disarm") {
		t.Errorf("%v does not say what to do", err)
	}
	if _, err := e.Renew(t.Context(), lease.Epoch, time.Minute); err != nil {
		t.Errorf("the leader of a full etcd must stay: %v", err)
	}
	if _, err = e.Take(t.Context(), "one", [16]byte{2}, time.Minute); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("took the lease of a full etcd: %v", err)
	}
	wantFailed(t, err, false)
	wantWarning(t, e, "NOSPACE")
	wantWarning(t, e, "of 16 MiB")
	clean(t, e, in)
	commit(t, e, noting(t, at, "noted", 1))
	if warnings, err := e.Warnings(t.Context()); err != nil || len(warnings) > 0 {
		t.Errorf("warnings of an etcd that was cleaned: %q, %v", warnings, err)
	}
}

// fillTogether keeps some blobs at once, and reports whether etcd said that it is full.
func fillTogether(t *testing.T, e *Engine, value []byte, errs map[string]error) (full bool) {
	t.Helper()
	var group sync.WaitGroup
	var mu sync.Mutex
	first := len(errs)
	for i := range 8 {
		name := fmt.Sprint(first + i)
		group.Go(func() {
			err := e.PutBlob(t.Context(), stored.Blob{Name: name, Value: value})
			mu.Lock()
			defer mu.Unlock()
			errs[name], full = err, full || err != nil
		})
	}
	group.Wait()
	return full
}

// clean does what the error and the warnings say.
func clean(t *testing.T, e *Engine, in *etcdtest.Cluster) {
	t.Helper()
	r, err := e.client.Delete(t.Context(), e.key("blob/"), clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.client.Compact(t.Context(), r.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.client.Defragment(t.Context(), in.Members[0].URL); err != nil {
		t.Fatal(err)
	}
	if _, err := e.client.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
}

package etcd

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/softhsm-test/etcdtest"
)

// with is a change of so many new records, each of so many bytes.
func with(t *testing.T, records, size int) stored.Change {
	t.Helper()
	c := noting(t, stored.Tip{}, "noted", 1)
	for i := range records {
		name := fmt.Sprint("key-", i)
		c.Records = append(c.Records, stored.Changed{Name: name,
			Value: stored.NewRecord(name, 1, bytes.Repeat([]byte("x"), size)).Encode()})
	}
	return c
}

func TestWhatEtcdDoesNotTakeIsRefusedBeforeItIsSent(t *testing.T) {
	c := fresh(t, running)
	var sent atomic.Int64
	c.dial = intercept(func(_ context.Context, req any, invoke func() error) error {
		if _, ok := req.(*pb.TxnRequest); ok {
			sent.Add(1)
		}
		return invoke()
	})
	e := open(t, c)
	before := sent.Load()
	for want, do := range map[string]func() error{
		"etcd takes at most 1572864": func() error { return e.Commit(t.Context(), with(t, 2, 800<<10)) },
		"more operations than etcd":  func() error { return e.Commit(t.Context(), with(t, 200, 100)) },
		"no entry for the chain":     func() error { return e.Commit(t.Context(), stored.Change{}) },
		"cut short": func() error {
			damaged := with(t, 1, 1)
			damaged.Records[0].Value = nil
			return e.Commit(t.Context(), damaged)
		},
		"the store keeps at most 1048576": func() error {
			return e.PutBlob(t.Context(), stored.Blob{Name: "b", Value: make([]byte, stored.MaxBlob+1)})
		},
	} {
		err := do()
		wantFailed(t, err, false)
		if !contains(err, want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if n := sent.Load() - before; n != 0 {
		t.Errorf("%d transactions were sent", n)
	}
	commit(t, e, with(t, 1, 1400<<10))
	if n := sent.Load() - before; n != 1 {
		t.Errorf("a save sent %d transactions, want 1", n)
	}
}

func TestEndpointsOfTwoEtcdsAreRefused(t *testing.T) {
	c := fresh(t, running)
	c.Endpoints = append(c.Endpoints, etcdtest.Start(t, etcdtest.Options{}).Endpoints()...)
	if _, err := Open(t.Context(), c); !contains(err, "members of different clusters") {
		t.Errorf("opened: %v", err)
	}
}

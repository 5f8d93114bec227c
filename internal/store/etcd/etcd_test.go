package etcd

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
	"github.com/keyd-project/keyd/softhsm-test/etcdtest"
)

var _ stored.Engine = (*Engine)(nil)

// running is one etcd for all tests that do it no harm. Each of them has a prefix of its own.
var running *etcdtest.Cluster

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "keyd-etcd-")
	if err == nil {
		running, err = etcdtest.Run(dir, etcdtest.Options{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	running.Close()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

var prefixes atomic.Int64

// fresh is the configuration of a store that was just made, in an etcd.
func fresh(t *testing.T, in *etcdtest.Cluster) Config {
	t.Helper()
	c := Config{Endpoints: in.Endpoints(), Prefix: fmt.Sprintf("/keyd/%d/", prefixes.Add(1)), CAFile: in.Files.CA,
		CertificateFile: in.Files.Certificate, KeyFile: in.Files.Key}
	if err := Init(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t *testing.T, c Config) *Engine {
	t.Helper()
	e, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestContract(t *testing.T) {
	storetest.RunEngine(t, func(t *testing.T) storetest.Handles {
		c := fresh(t, running)
		return func(t *testing.T) stored.Engine {
			e, err := Open(context.WithoutCancel(t.Context()), c)
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
	})
}

func TestAStoreIsMadeOnceAndOpenedOnlyThen(t *testing.T) {
	c := fresh(t, running)
	unmade := c
	unmade.Prefix += "other/"
	if _, err := Open(t.Context(), unmade); err == nil || !strings.Contains(err.Error(), "keyd store init") {
		t.Errorf("opened a store that nobody made: %v", err)
	}
	if err := Init(t.Context(), c); err != nil {
		t.Errorf("made again: %v", err)
	}
	e := open(t, c)
	if _, err := e.client.Put(t.Context(), c.Prefix+"format", "2"); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"opened": func() error { _, err := Open(t.Context(), c); return err }(), "made": Init(t.Context(), c),
	} {
		if err == nil || !strings.Contains(err.Error(), `"2"`) {
			t.Errorf("%s a store of a later version: %v", what, err)
		}
	}
}

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

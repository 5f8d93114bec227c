package etcd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/softhsm-test/etcdtest"
)

const password = "correct horse battery staple"

func passwordFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// users has etcd know root, and keyd, which may use one prefix. Both have the same password.
func users(t *testing.T, admin *clientv3.Client, prefix string) {
	t.Helper()
	ctx := t.Context()
	for _, step := range []func() error{
		func() error { _, err := admin.RoleAdd(ctx, "root"); return err },
		func() error { _, err := admin.UserAdd(ctx, "root", password); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := admin.RoleAdd(ctx, "keyd"); return err },
		func() error {
			_, err := admin.RoleGrantPermission(ctx, "keyd", prefix, clientv3.GetPrefixRangeEnd(prefix),
				clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := admin.UserAdd(ctx, "keyd", password); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "keyd", "keyd"); return err },
		func() error { _, err := admin.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// The name in keyd's certificate is that of a user, too: keyd.
func TestAUserOrACertificateSaysWhoKeydIs(t *testing.T) {
	t.Parallel()
	in := etcdtest.Start(t, etcdtest.Options{TLS: true})
	byCertificate := fresh(t, in)
	others := byCertificate
	others.Prefix = "/others/"
	admin := open(t, byCertificate)
	if w, err := admin.listsUsers(t.Context()); err != nil || len(w) != 1 || !strings.Contains(w[0], "auth enable") {
		t.Errorf("authentication is off, and it warns of %q, %v", w, err)
	}
	users(t, admin.client, byCertificate.Prefix)

	byPassword := byCertificate
	byPassword.User, byPassword.PasswordFile = "keyd", passwordFile(t, password+"\n")
	for name, c := range map[string]Config{"certificate": byCertificate, "password": byPassword} {
		e := open(t, c)
		commit(t, e, noting(t, tipOf(t, e), "noted", 200)) // in nested transactions
		lead(t, e, name)
		if w, err := e.Warnings(t.Context()); err != nil || len(w) > 0 {
			t.Errorf("by %s: it warns of %q, %v", name, w, err)
		}
		if w, err := e.listsUsers(t.Context()); err != nil || len(w) > 0 {
			t.Errorf("by %s: it warns of %q, %v", name, w, err)
		}
		c.Prefix = others.Prefix
		if err := Init(t.Context(), c); !contains(err, "grant-permission ROLE --prefix=true readwrite /others/") {
			t.Errorf("by %s: made a store under another prefix: %v", name, err)
		}
	}
	root := byPassword
	root.User = "root"
	if w, err := open(t, root).listsUsers(t.Context()); err != nil || len(w) != 1 {
		t.Errorf("root is not warned of: %q, %v", w, err)
	}

	wrong := byPassword
	wrong.PasswordFile = passwordFile(t, "not "+password)
	if _, err := Open(t.Context(), wrong); !contains(err, "check password_file") || contains(err, password) {
		t.Errorf("opened by a wrong password: %v", err)
	}
}

// lead has a host lead, renew its lease and release it.
func lead(t *testing.T, e *Engine, holder string) {
	t.Helper()
	l, err := e.Take(t.Context(), holder, [16]byte{1}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if now, err := e.Lease(t.Context()); err != nil || now.Left <= 0 {
		t.Errorf("%s: the lease is %+v, %v", holder, now, err)
	}
	for _, ttl := range []time.Duration{time.Minute, time.Hour} {
		if _, err := e.Renew(t.Context(), l.Epoch, ttl); err != nil {
			t.Errorf("%s: %v", holder, err)
		}
	}
	if err := e.Release(t.Context(), l.Epoch); err != nil {
		t.Errorf("%s: %v", holder, err)
	}
}

// A member forgets the tokens of passwords when it starts again.
func TestASaveAfterAMembersRestartSignsInAgain(t *testing.T) {
	t.Parallel()
	in := etcdtest.Start(t, etcdtest.Options{})
	c := fresh(t, in)
	users(t, open(t, c).client, c.Prefix)
	c.User, c.PasswordFile = "keyd", passwordFile(t, password)
	e := open(t, c)
	lease, err := e.Take(t.Context(), "one", [16]byte{1}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, do := range []func() error{
		func() error { _, err := e.Tip(t.Context()); return err },
		func() error { return e.Commit(t.Context(), noting(t, stored.Tip{}, "noted", 1)) },
		func() error { _, err := e.Renew(t.Context(), lease.Epoch, time.Hour); return err },
	} {
		in.Members[0].Stop()
		if err := in.Members[0].Start(); err != nil {
			t.Fatal(err)
		}
		if err := do(); err != nil {
			t.Error(err)
		}
	}
}

func TestAnUntrustedMemberIsNamedWithTheReason(t *testing.T) {
	t.Parallel()
	in, other := etcdtest.Start(t, etcdtest.Options{TLS: true}), etcdtest.Start(t, etcdtest.Options{TLS: true})
	c := fresh(t, in)
	c.CAFile = other.Files.CA
	wantUnopened(t, c, "certificate signed by unknown authority")
	wantUnopened(t, Config{Endpoints: c.Endpoints, Prefix: c.Prefix, CAFile: in.Files.CA}, "no member could be reached")
}

// wantUnopened requires that a store cannot be opened, and that the error says why as soon as there was time to see it.
func wantUnopened(t *testing.T, c Config, why string) {
	t.Helper()
	for c.patience = 250 * time.Millisecond; c.patience <= time.Minute; c.patience *= 2 {
		_, err := Open(t.Context(), c)
		if contains(err, why) {
			return
		}
		if err == nil {
			t.Fatalf("opened, want an error with %q", why)
		}
		t.Log(err)
	}
	t.Errorf("no error says %q", why)
}

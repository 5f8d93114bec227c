package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/postgres"
)

func TestAURLThatIsNotSafeIsRefusedAndNeverShown(t *testing.T) {
	t.Setenv("PGSSLMODE", "require") // nothing of the environment counts
	for url, want := range map[string]string{
		"mysql://keyd@localhost/keyd":                             "does not begin with postgres://",
		"postgres://localhost/keyd":                               "names no user",
		"postgres://keyd@/keyd":                                   "names no host",
		"postgres://keyd:hunter2@localhost/keyd":                  "holds a password",
		"postgres://keyd:hunter2%zz@localhost/keyd":               "holds a password",
		"postgres://keyd:hunt@er2@localhost/keyd":                 "holds a password",
		"postgres://keyd@localhost/keyd?password=hunter2":         "holds a password",
		"postgres://keyd@localhost/keyd?passfile=hunter2":         `"passfile", which keyd does not take`,
		"postgres://keyd@localhost:hunter2/keyd":                  "cannot be read",
		"postgres://keyd@a%zz,hunter2/keyd":                       "cannot be read",
		"postgres://keyd@localhost/keyd?x=%zz":                    "cannot be read",
		"postgres://keyd@localhost,127.0.0.1/keyd":                "target_session_attrs=read-write",
		"postgres://keyd@localhost/keyd?target_session_attrs=any": "target_session_attrs=read-write",
		"postgres://keyd@db1/keyd?sslmode=disable":                "sslmode=verify-full",
		"postgres://keyd@db1/keyd?sslmode=require":                "sslmode=verify-full",

		"postgres://keyd@localhost/keyd?options=-c%20fsync%3Doff":                         `"options", which`,
		"postgres://keyd@localhost,[::1]:9/keyd?target_session_attrs=read-write":          "a port for some hosts only",
		"postgres://keyd@localhost,db/keyd?target_session_attrs=read-write&sslmode=allow": "sslmode=verify-full",
	} {
		_, err := postgres.Open(postgres.Options{URL: url})
		var p *postgres.Problem
		if !errors.As(err, &p) || p.Remedy == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a problem that says %q", url, err, want)
		}
		wantNoSecret(t, err, "hunter2")
	}
}

// wantNoSecret looks at all that an error can be made to show.
func wantNoSecret(t *testing.T, err error, secret string) {
	t.Helper()
	for e := err; e != nil; e = errors.Unwrap(e) {
		if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, secret) {
			t.Errorf("an error shows the password: %s", text)
		}
	}
}

func TestAURLThatIsSafeIsTaken(t *testing.T) {
	t.Setenv("PGSSLROOTCERT", "/nowhere") // nor does it here
	for url, name := range map[string]string{
		"postgres://keyd@db1/keyd":                                             "PostgreSQL at db1",
		"postgresql://keyd@db1:6432/keyd?sslmode=verify-full":                  "PostgreSQL at db1:6432",
		"postgres://keyd@db1:5432,db2:99/keyd?target_session_attrs=read-write": "PostgreSQL at db1,db2:99",
		"postgres://keyd@[2001:db8::1]:99/keyd":                                "PostgreSQL at [2001:db8::1]:99",
		"postgres://keyd@localhost/keyd?sslmode=disable":                       "PostgreSQL at localhost",
		"postgres://keyd@[::1]/keyd":                                           "PostgreSQL at ::1",
		"postgres://keyd@/keyd?host=/run/postgresql":                           "PostgreSQL at /run/postgresql",
	} {
		e, err := postgres.Open(postgres.Options{URL: url})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if e.Name() != name {
			t.Errorf("%s is called %q, want %q", url, e.Name(), name)
		}
		must(t, e.Close())
	}
}

func TestTheServerProvesWhoItIs(t *testing.T) {
	s := server(t)
	other, _ := selfSigned(t)
	o := options(s.URL(daemon, tables) + "?sslmode=verify-full")
	o.CAFile = file(t, one.ca)
	_, err := open(t, o).Tip(t.Context())
	must(t, err)

	wrong := o
	wrong.CAFile = file(t, other)
	_, err = open(t, wrong).Tip(t.Context())
	wantConnectRefused(t, "another authority", err, "certificate")
	wrong = o
	wrong.URL = strings.Replace(o.URL, "127.0.0.1", "localhost", 1)
	_, err = open(t, wrong).Tip(t.Context())
	wantConnectRefused(t, "another name", err, "certificate")
	wrong = o
	wrong.CAFile = "/nowhere"
	if _, err := postgres.Open(wrong); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("no authority: %v", err)
	}
}

func wantConnectRefused(t *testing.T, what string, err error, want string) {
	t.Helper()
	wantCertain(t, what, err)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want an error that says %q", what, err, want)
	}
	wantNoSecret(t, err, secret)
}

func TestWhatTheServerRefusesIsSaidWithARemedyAndWithoutThePassword(t *testing.T) {
	s := server(t)
	o := options(s.URL(daemon, "nowhere"))
	_, err := open(t, o).Tip(t.Context())
	wantConnectRefused(t, "no such database", err, "create the database")

	const mistyped = "mistyped-horse-battery"
	o = options(s.URL(daemon, tables))
	o.Password = func() (string, error) { return mistyped, nil }
	_, err = open(t, o).Tip(t.Context())
	wantConnectRefused(t, "a wrong password", err, "store.postgres.password_file")
	wantNoSecret(t, err, mistyped)
	_, _, err = postgres.Init(t.Context(), o)
	wantNoSecret(t, err, mistyped)
	if err == nil || !strings.Contains(err.Error(), "store.postgres.password_file") {
		t.Errorf("a wrong password for Init: %v", err)
	}

	o.Password = func() (string, error) { return "", errors.New("the file is gone") }
	_, err = open(t, o).Tip(t.Context())
	wantConnectRefused(t, "no password", err, "the file is gone")

	o = options("postgres://keyd@127.0.0.1:1/keyd")
	_, err = open(t, o).Tip(t.Context())
	wantConnectRefused(t, "no server", err, "PostgreSQL at 127.0.0.1:1")
	if key.ClassOf(err) != key.Retry {
		t.Errorf("%v is not retried", err)
	}
}

// A password that was changed counts at the next connect.
func TestThePasswordIsAskedForAtEachConnect(t *testing.T) {
	s, now := server(t), "wrong"
	o := options(s.URL(daemon, tables))
	o.Password = func() (string, error) { return now, nil }
	e := open(t, o)
	if _, err := e.Tip(t.Context()); err == nil {
		t.Fatal("a wrong password is taken")
	}
	now = secret
	_, err := e.Tip(t.Context())
	must(t, err)
}

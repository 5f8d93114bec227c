package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/store/move"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/softhsm-test/etcdtest"
	"github.com/keyd-project/keyd/softhsm-test/postgrestest"
)

const ofOneHost = `instance: test
state_dir: %[1]s/state
hsm: {module: /usr/lib/softhsm/libsofthsm2.so, token: keyd, pin_file: hsm-pin}
azure: {credential: managed-identity}
control: {socket: %[1]s/keyd.sock}
web: {listen: "127.0.0.1:0"}
`

// configured writes the configuration of a host, which has this section store; "" for a file.
func configured(t *testing.T, name, section string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf(ofOneHost, dir)
	if section != "" {
		text += "host: " + name + "\nstore: " + section + "\n"
	}
	path := filepath.Join(dir, "keyd.yaml")
	write(t, path, text)
	return path
}

// On real engines, one of each kind; each test has a database or a prefix of its own.
func TestAStoreForSeveralHosts(t *testing.T) {
	tests := map[string]func(t *testing.T, section string){
		"belongs to the instance that made it":       belongsToItsInstance,
		"is moved to and back":                       takesTheState,
		"is not used before a copy into it is whole": isNotUsedBeforeItIsWhole,
	}
	t.Run("postgres", func(t *testing.T) {
		s := postgrestest.Start(t, postgrestest.Options{Auth: "scram-sha-256"})
		sql(t, s, "postgres", "CREATE ROLE keyd LOGIN PASSWORD 'k'")
		sql(t, s, "postgres", "CREATE ROLE owner LOGIN PASSWORD 'o'")
		for name, test := range tests {
			t.Run(name, func(t *testing.T) { test(t, onPostgres(t, s, "keyd")) })
		}
		t.Run("that lost changes is accepted by root", func(t *testing.T) { isAccepted(t, s) })
		t.Run("is not owned by the daemon's role", func(t *testing.T) { isOwnedByAnother(t, s) })
	})
	t.Run("etcd", func(t *testing.T) {
		c := etcdtest.Start(t, etcdtest.Options{})
		n := 0
		for name, test := range tests {
			n++
			section := fmt.Sprintf("{etcd: {endpoints: [%q], prefix: /keyd/%d}}", c.Endpoints()[0], n)
			t.Run(name, func(t *testing.T) { test(t, section) })
		}
	})
}

// onPostgres is the section store for a new database.
func onPostgres(t *testing.T, s *postgrestest.Server, owner string) string {
	t.Helper()
	sql(t, s, "postgres", "DROP DATABASE IF EXISTS keyd")
	sql(t, s, "postgres", "CREATE DATABASE keyd OWNER "+owner)
	password := filepath.Join(t.TempDir(), "password")
	write(t, password, "k\n")
	return fmt.Sprintf("{postgres: {url: %q, synchronous: off, password_file: %s}}", s.URL("keyd", "keyd"), password)
}

func sql(t *testing.T, s *postgrestest.Server, database, statements string) {
	t.Helper()
	if _, err := s.SQL(database, statements); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, path string) *config.Config {
	t.Helper()
	return must[*config.Config](t)(config.Load(path))
}

// starts makes a daemon and records its start, as another host would.
func starts(t *testing.T, path string) *Daemon {
	t.Helper()
	d, err := build(Options{ConfigPath: path, Version: "1.2.3", Logger: slog.New(slog.DiscardHandler),
		HSMCommand: []string{"false"}}, load(t, path))
	if err != nil {
		t.Fatal(err)
	}
	started(t, d)
	return d
}

func wantError(t *testing.T, want string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

func belongsToItsInstance(t *testing.T, section string) {
	t.Helper()
	ctx, path := t.Context(), configured(t, "hq-a", section)
	_, err := openStore(ctx, load(t, path), nil)
	wantError(t, "keyd store init", err)

	made := must[StoreMade](t)(InitStore(ctx, path, InitAs{}))
	if !made.New || made.Instance != "test" {
		t.Errorf("%+v", made)
	}
	if again := must[StoreMade](t)(InitStore(ctx, path, InitAs{})); again.New || again.From != again.To {
		t.Errorf("again: %+v", again)
	}
	text := must[[]byte](t)(os.ReadFile(path))
	other := configured(t, "hq-b", section)
	write(t, other, strings.Replace(string(text), "instance: test", "instance: other", 1))
	_, err = InitStore(ctx, other, InitAs{})
	wantError(t, `this is the store of instance "test"`, err)
	_, err = openStore(ctx, load(t, other), nil)
	wantError(t, `this is the store of instance "test"`, err)
}

func takesTheState(t *testing.T, section string) {
	t.Helper()
	ctx, alone := t.Context(), configured(t, "", "")
	if err := starts(t, alone).store.Close(); err != nil {
		t.Fatal(err)
	}
	there := configured(t, "hq-a", section)
	_, err := CopyStore(ctx, alone, there)
	wantError(t, "keyd store init", err)
	must[StoreMade](t)(InitStore(ctx, there, InitAs{}))
	done, err := CopyStore(ctx, alone, there)
	if err != nil || done.Entries == 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	_, err = openStore(ctx, load(t, alone), nil)
	wantError(t, "its state was moved to "+storeName(load(t, there)), err)

	d := starts(t, there)
	s := must[StoreStatus](t)(ReadStore(ctx, there))
	if s.Entries <= done.Entries || s.Leader != nil || len(s.Faults()) > 0 || s.Instance != "test" {
		t.Errorf("%+v", s)
	}
	a := must[*StateAudit](t)(OpenStateAudit(ctx, there))
	if r := must[control.AuditReport](t)(a.VerifyAudit(ctx)); !r.Consistent || r.Entries != s.Entries {
		t.Errorf("%+v", r)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup.db")
	f := must[*os.File](t)(os.Create(backup))
	if err := d.Backup(ctx, "uid 0 (root)", f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b := must[*StateAudit](t)(OpenStateAudit(ctx, backup))
	if r := must[control.AuditReport](t)(b.VerifyAudit(ctx)); !r.Consistent ||
		r.Entries != s.Entries+1 { // the backup is in the audit
		t.Errorf("the backup: %+v", r)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}

	if back := must[move.Done](t)(CopyStore(ctx, there, alone)); back.Entries != s.Entries+1 {
		t.Errorf("%d entries came back, of %d", back.Entries, s.Entries+1)
	}
	if err := starts(t, alone).store.Close(); err != nil {
		t.Fatal(err)
	}
	if s := must[StoreStatus](t)(ReadStore(ctx, there)); len(s.Faults()) != 1 {
		t.Errorf("the store still takes changes: %+v", s)
	}
	_, err = CopyStore(ctx, alone, there)
	wantError(t, "Copy into an empty store", err)
}

func isNotUsedBeforeItIsWhole(t *testing.T, section string) {
	t.Helper()
	ctx, path := t.Context(), configured(t, "hq-a", section)
	must[StoreMade](t)(InitStore(ctx, path, InitAs{}))
	e := must[stored.Engine](t)(openEngine(ctx, load(t, path)))
	if err := side(e, "x").Begin(ctx); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := openStore(ctx, load(t, path), nil)
	wantError(t, "run the same keyd store copy again", err)
	if s := must[StoreStatus](t)(ReadStore(ctx, path)); !s.Copying || len(s.Faults()) != 1 {
		t.Errorf("%+v", s)
	}
}

// A promoted standby that missed commits looks like this.
func isAccepted(t *testing.T, s *postgrestest.Server) {
	t.Helper()
	ctx, path := t.Context(), configured(t, "hq-a", onPostgres(t, s, "keyd"))
	must[StoreMade](t)(InitStore(ctx, path, InitAs{}))
	d := starts(t, path)
	wantRefused(t, "there is nothing to accept", d.AcceptStore(ctx, "uid 0 (root)", "x"))
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "there is nothing to accept", AcceptStopped(ctx, path, "x"))
	sql(t, s, "keyd", "DELETE FROM keyd.record; DELETE FROM keyd.entry; UPDATE keyd.head SET seq = 0, hash = "+
		"decode(repeat('00', 32), 'hex')")

	if status := must[StoreStatus](t)(ReadStore(ctx, path)); len(status.Faults()) > 0 {
		t.Errorf("%+v", status)
	}
	opened := must[Store](t)(openStore(ctx, load(t, path), nil))
	if err := opened.Healthy(); err == nil {
		t.Error("a store without what this host saw is called healthy")
	}
	if err := opened.Close(); err != nil {
		t.Fatal(err)
	}
	status := must[StoreStatus](t)(ReadStore(ctx, path))
	if len(status.Faults()) != 1 || status.Halt == nil || status.Halt.Host != "hq-a" {
		t.Errorf("%+v", status)
	}
	if err := AcceptStopped(ctx, path, "the disks are gone"); err != nil {
		t.Fatal(err)
	}
	d = starts(t, path)
	defer d.store.Close()
	if err := d.store.Healthy(); err != nil {
		t.Error(err)
	}
	entries := must[[]string](t)(reasons(ctx, d.store))
	if len(entries) != 1 || entries[0] != "the disks are gone" {
		t.Errorf("the audit has %q", entries)
	}
}

func reasons(ctx context.Context, s Store) (found []string, err error) {
	entries, err := s.Recent(ctx, 100)
	for _, e := range entries {
		if e.Event == "store accepted" {
			found = append(found, e.Fields["reason"])
		}
	}
	return found, err
}

func isOwnedByAnother(t *testing.T, s *postgrestest.Server) {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	write(t, filepath.Join(dir, "owner"), "o\n")
	write(t, filepath.Join(dir, "keyd"), "k\n")
	path := configured(t, "hq-a", onPostgres(t, s, "owner"))
	_, err := InitStore(ctx, path, InitAs{User: "owner", PasswordFile: filepath.Join(dir, "keyd")})
	wantError(t, "password authentication failed", err)
	made, err := InitStore(ctx, path, InitAs{User: "owner", PasswordFile: filepath.Join(dir, "owner")})
	if err != nil || made.Role != "keyd" || !made.New {
		t.Fatalf("%+v, %v", made, err)
	}
	_, err = openStore(ctx, load(t, path), nil)
	wantError(t, "permission denied", err)
	sql(t, s, "keyd", made.Grants)
	if err := starts(t, path).store.Close(); err != nil {
		t.Fatal(err)
	}
	warnings := strings.Join(must[StoreStatus](t)(ReadStore(ctx, path)).Warnings, "\n")
	if strings.Contains(warnings, "may change and remove audit entries") {
		t.Error(warnings)
	}
}

// Without it keyd would begin anew, as if it had no keys, when the section store is lost.
func TestAHostThatHadAStoreForSeveralDoesNotBeginAStateOfItsOwn(t *testing.T) {
	ctx, path := t.Context(), configured(t, "", "")
	cfg := load(t, path)
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(cfg.StateDir, "seen-head"), "")
	_, err := openStore(ctx, cfg, nil)
	wantError(t, "put store: back into the configuration", err)
	if err := os.Remove(filepath.Join(cfg.StateDir, "seen-head")); err != nil {
		t.Fatal(err)
	}
	if err := must[Store](t)(openStore(ctx, cfg, nil)).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAPasswordIsOneLineOfAFileThatNobodyElseCanChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	for text, want := range map[string]string{"secret\n": "", "secret": "", "": "must hold one " +
		"line", "a\nb\n": "must hold " +
		"one line"} {
		write(t, path, text)
		got, err := readPassword(path, uint32(os.Geteuid()))
		if want == "" && (err != nil || got != "secret") {
			t.Errorf("%q is %q, %v", text, got, err)
		}
		if want != "" {
			wantError(t, want, err)
		}
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := readPassword(path, uint32(os.Geteuid()))
	wantError(t, "is writable by group or others", err)
}

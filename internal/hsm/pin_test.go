package hsm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

const spyModule = "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so"

// spied makes the child use its module through OpenSC's pkcs11-spy, which writes
// every call to a file.
func spied(t *testing.T, tok *softhsmtest.Token, c *child) (env []string, log func() string) {
	t.Helper()
	if _, err := os.Stat(spyModule); err != nil {
		t.Fatalf("%v: install it with: apt-get install opensc", err)
	}
	c.Config.Module = spyModule
	out := filepath.Join(t.TempDir(), "spy.log")
	return []string{"PKCS11SPY=" + tok.Module, "PKCS11SPY_OUTPUT=" + out}, func() string {
		b, err := os.ReadFile(out)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(b)
	}
}

func writePIN(t *testing.T, tok *softhsmtest.Token, pin string) {
	t.Helper()
	if err := writeDurable(tok.PINFile, []byte(pin+"\n")); err != nil {
		t.Fatal(err)
	}
}

func TestARefusedPINIsTriedOnceAcrossRestarts(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	c := newChild(t, tok)
	env, log := spied(t, tok, &c)
	writePIN(t, tok, "wrong")
	for range 3 {
		r := start(t, tok, c, env...)
		info, err := r.Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(info.Degraded, "PIN") || !strings.Contains(info.Degraded, "CKR_PIN_INCORRECT") {
			t.Errorf("degraded says %q", info.Degraded)
		}
		wantCode(t, r.Generate(t.Context(), newID(t), "sa-cmk-key", 1, key.RSA2048), PINRefused, key.Refused)
		r.stop()
	}
	if n := strings.Count(log(), ": C_Login\n"); n != 1 {
		t.Errorf("the PIN was tried %d times, want once", n)
	}
}

func TestANewPINIsTriedWithoutARestart(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	c := newChild(t, tok)
	env, log := spied(t, tok, &c)
	writePIN(t, tok, "wrong")
	r := start(t, tok, c, env...)
	if info, err := r.Describe(t.Context()); err != nil || info.Degraded == "" {
		t.Fatalf("a wrong PIN: %+v, %v", info, err)
	}
	pid := r.sup.PID()
	writePIN(t, tok, tok.PIN)
	info, err := r.Describe(t.Context())
	if err != nil || info.Degraded != "" {
		t.Fatalf("after the right PIN: %+v, %v", info, err)
	}
	if r.sup.PID() != pid {
		t.Error("the HSM process was restarted")
	}
	if n := strings.Count(log(), ": C_Login\n"); n != 2 {
		t.Errorf("%d logins, want one for each PIN", n)
	}
	r.generate(t)
}

func TestPINMemory(t *testing.T) {
	right, wrong := []byte("1234"), []byte("4321")
	fresh := func(t *testing.T) *pinMemory {
		t.Helper()
		m := newPINMemory(t.TempDir(), "serial")
		m.now = func() time.Time { return time.Unix(1700000000, 0) }
		return m
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a refused PIN is not tried again, another one is", func(t *testing.T) {
		m := fresh(t)
		must(t, m.begin(wrong))
		must(t, m.end(pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)))
		if err := m.begin(wrong); err == nil {
			t.Error("the refused PIN may be tried again")
		}
		must(t, m.begin(right))
	})
	t.Run("another token may be tried with it", func(t *testing.T) {
		m := fresh(t)
		must(t, m.begin(wrong))
		must(t, m.end(pkcs11.Error(pkcs11.CKR_PIN_LOCKED)))
		m.serial = "another"
		must(t, m.begin(wrong))
	})
	t.Run("success and unrelated failures are forgotten", func(t *testing.T) {
		m := fresh(t)
		for _, answer := range []error{nil, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR), nil} {
			must(t, m.begin(right))
			must(t, m.end(answer))
		}
	})
	t.Run("dying in the login twice is the end", func(t *testing.T) {
		m := fresh(t)
		must(t, m.begin(right))
		must(t, m.begin(right))
		if err := m.begin(right); err == nil {
			t.Error("a third login without an answer is allowed, and tokens lock at the third")
		}
	})
	t.Run("a damaged note stops the login", func(t *testing.T) {
		m := fresh(t)
		must(t, os.WriteFile(m.path, []byte(`{"tries":`), 0o600))
		if err := m.begin(right); err == nil || !strings.Contains(err.Error(), m.path) {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("the note does not hold the PIN", func(t *testing.T) {
		m := fresh(t)
		must(t, m.begin([]byte("very-secret-pin")))
		data, err := os.ReadFile(m.path)
		must(t, err)
		if strings.Contains(string(data), "very-secret-pin") {
			t.Error("it does")
		}
	})
}

func TestPINFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		credential    bool
		want          string // "" for an error
	}{
		{"plain", "1234", 0o600, false, "1234"},
		{"one newline goes", "1234\n", 0o400, false, "1234"},
		{"only one newline goes", "1234\n\n", 0o600, false, "1234\n"},
		{"others can read", "1234", 0o640, false, ""},
		{"a credential may be 0440", "1234", 0o440, true, "1234"},
		{"empty", "\n", 0o600, false, ""},
		{"too long", strings.Repeat("1", maxPIN+1), 0o600, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := pinFile{path: write("pin", c.content, c.mode), credential: c.credential}.read()
			if string(got) != c.want || (err == nil) != (c.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "1234") {
				t.Errorf("the error holds the PIN: %v", err)
			}
		})
	}
}

func TestFindPIN(t *testing.T) {
	for _, c := range []struct {
		name, dir, want string
		credential      bool
	}{
		{"/etc/keyd/pin", "", "/etc/keyd/pin", false},
		{"hsm-pin", "/run/credentials/keyd-hsm.service", "/run/credentials/keyd-hsm.service/hsm-pin", true},
		{"/run/credentials/x/pin", "/run/credentials/x/", "/run/credentials/x/pin", true},
		{"hsm-pin", "", "", false},
		{"../pin", "/run/credentials/x", "", false},
		{"", "/run/credentials/x", "", false},
	} {
		got, err := findPIN(c.name, c.dir)
		if got.path != c.want || got.credential != c.credential || (err == nil) != (c.want != "") {
			t.Errorf("findPIN(%q, %q) = %+v, %v", c.name, c.dir, got, err)
		}
	}
}

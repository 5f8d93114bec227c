package hsm

import (
	"errors"
	"fmt"
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

// spied makes the child use its module through OpenSC's pkcs11-spy, which logs every call to a file.
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
		wantCode(t, r.Generate(t.Context(), newID(t), "sa-cmk-key", 1, key.RSA2048, ""), PINRefused, key.Refused)
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

// If the file holds characters that nobody can type, the file is wrong, not the PIN. keyd does not ask the token, so
// no try is lost, and reads the file again after an operator fixes it.
func TestAPINThatCannotBeTypedNeverReachesTheToken(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	c := newChild(t, tok)
	env, log := spied(t, tok, &c)
	for content, want := range map[string]string{
		tok.PIN + "\r\n":   fmt.Sprintf("byte %d is a carriage return (0x0d)", len(tok.PIN)+1),
		tok.PIN + "\n\n":   fmt.Sprintf("byte %d is a newline (0x0a)", len(tok.PIN)+1),
		"\n" + tok.PIN:     "byte 1 is a newline (0x0a)",
		"\ufeff" + tok.PIN: "byte order mark",
		tok.PIN + "\x00":   "a NUL",
	} {
		if err := writeDurable(tok.PINFile, []byte(content)); err != nil {
			t.Fatal(err)
		}
		r := start(t, tok, c, env...)
		info, err := r.Describe(t.Context())
		if err != nil || !strings.Contains(info.Degraded, want) || info.PINRefused || info.PIN != key.PINUnknown {
			t.Errorf("%+v, %v; want degraded to say %q", info, err, want)
		}
		if !strings.Contains(info.Degraded, "read -rsp") || strings.Contains(info.Degraded, tok.PIN) {
			t.Errorf("degraded lacks the command that writes the file, or holds the PIN: %s", info.Degraded)
		}
		r.stop()
	}
	if n := strings.Count(log(), ": C_Login\n"); n != 0 {
		t.Fatalf("the token was asked %d times", n)
	}
	r := start(t, tok, c, env...)
	if _, err := r.Describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	writePIN(t, tok, tok.PIN)
	if info, err := r.Describe(t.Context()); err != nil || info.Degraded != "" {
		t.Errorf("after the file was mended: %+v, %v", info, err)
	}
}

func TestTheErrorMentionsASpaceAfterARefusedPIN(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	writePIN(t, tok, tok.PIN+" ")
	c := newChild(t, tok)
	want := fmt.Sprintf("byte %d of it, the last, is a space", len(tok.PIN)+1)
	for range 2 { // at the second start keyd does not ask the token
		r := start(t, tok, c)
		if info, err := r.Describe(t.Context()); err != nil || !info.PINRefused ||
			!strings.Contains(info.Degraded, want) {
			t.Errorf("%+v, %v; want the PIN refused, and %q", info, err, want)
		}
		r.stop()
	}
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

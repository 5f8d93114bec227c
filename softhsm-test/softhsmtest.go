// Package softhsmtest makes throw-away PKCS#11 tokens for tests and demos. Its
// rule: real parts only; a missing SoftHSM is a failure, never a skip.
//
// SoftHSM reads SOFTHSM2_CONF when a process calls C_Initialize, so a token is
// best used by a child process that is started with Environ.
//
// To run the same tests on another module, such as a vendor's HSM, set
// KEYD_TEST_MODULE to its library, KEYD_TEST_TOKEN to the label of a token and
// KEYD_TEST_PIN to its user PIN: New then hands out that token.
package softhsmtest

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const installHint = "install it with: apt-get install softhsm2"

// Token is a token and what a program needs to use it.
type Token struct {
	Module  string // path of the PKCS#11 library
	Label   string
	PIN     string
	PINFile string // holds PIN and a newline, mode 0600
	Conf    string // softhsm2.conf; "" for a module named by KEYD_TEST_MODULE
	dir     string
	soPIN   string
}

// New makes a token with a random label and PIN in a directory that ends with
// the test.
func New(tb testing.TB) *Token {
	tb.Helper()
	if module := os.Getenv("KEYD_TEST_MODULE"); module != "" {
		return external(tb, module)
	}
	tok, err := Create(tb.TempDir(), "keyd-"+randomHex(4), randomPIN())
	if err != nil {
		tb.Fatal(err)
	}
	return tok
}

func external(tb testing.TB, module string) *Token {
	tb.Helper()
	tok := &Token{
		Module: module,
		Label:  os.Getenv("KEYD_TEST_TOKEN"),
		PIN:    os.Getenv("KEYD_TEST_PIN"),
		dir:    tb.TempDir(),
	}
	if tok.Label == "" || tok.PIN == "" {
		tb.Fatal("KEYD_TEST_MODULE is set: set KEYD_TEST_TOKEN and KEYD_TEST_PIN too")
	}
	if err := tok.writePIN(); err != nil {
		tb.Fatal(err)
	}
	return tok
}

// Create makes a SoftHSM token in dir, which must exist and belong to nothing
// else: softhsm2.conf, the tokens directory and the PIN file "pin".
func Create(dir, label, pin string) (*Token, error) {
	if strings.Contains(dir, "#") {
		return nil, fmt.Errorf("SoftHSM cannot use %s: in softhsm2.conf a # begins a comment", dir)
	}
	module, err := findModule()
	if err != nil {
		return nil, err
	}
	tok := &Token{Module: module, Label: label, PIN: pin, Conf: filepath.Join(dir, "softhsm2.conf"), dir: dir}
	if err := os.Mkdir(tok.tokens(), 0o700); err != nil {
		return nil, fmt.Errorf("make the token directory: %w", err)
	}
	if err := errors.Join(tok.writeConf(), tok.writePIN()); err != nil {
		return nil, err
	}
	tok.soPIN = randomPIN()
	return tok, tok.initialise("--free")
}

// Wipe initialises the token again, as an operator may do by mistake: its label and PIN stay, every object is gone,
// and no process that uses it is notified. A test that wipes does not apply to a token named by KEYD_TEST_MODULE, and
// is skipped.
func (t *Token) Wipe(tb testing.TB) {
	tb.Helper()
	if t.Conf == "" {
		tb.Skip("does not apply: the token of KEYD_TEST_MODULE is not wiped")
	}
	if err := t.initialise("--token", t.Label); err != nil {
		tb.Fatal(err)
	}
}

// AddTwin makes one more token with the same label and PIN. A test that needs it does not apply to a token named by
// KEYD_TEST_MODULE, whose slots others share, and is skipped.
func (t *Token) AddTwin(tb testing.TB) {
	tb.Helper()
	if t.Conf == "" {
		tb.Skip("does not apply: no token is added beside the one of KEYD_TEST_MODULE")
	}
	if err := t.initialise("--free"); err != nil {
		tb.Fatal(err)
	}
}

// Restore puts back the files of a copy, as an operator does with a backup. No process may use the token meanwhile: a
// library keeps what it has read.
func (t *Token) Restore(tb testing.TB, from *Token) {
	tb.Helper()
	if err := errors.Join(os.RemoveAll(t.tokens()), os.CopyFS(t.tokens(), os.DirFS(from.tokens()))); err != nil {
		tb.Fatalf("restore the token: %v", err)
	}
}

// initialise runs softhsm2-util on the slot that which names.
func (t *Token) initialise(which ...string) error {
	args := append([]string{"--init-token", "--label", t.Label, "--pin", t.PIN, "--so-pin", t.soPIN}, which...)
	cmd := exec.Command("softhsm2-util", args...)
	cmd.Env = append(os.Environ(), t.Environ()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("softhsm2-util --init-token: %w: %s (%s)", err, bytes.TrimSpace(out), installHint)
	}
	return nil
}

// SOPIN is the security officer's PIN, "" for a token named by KEYD_TEST_MODULE.
func (t *Token) SOPIN() string { return t.soPIN }

// Tool runs OpenSC's pkcs11-tool on the token's module, as an operator does.
func (t *Token) Tool(args ...string) (output []byte, err error) {
	cmd := exec.Command("pkcs11-tool", append([]string{"--module", t.Module}, args...)...)
	cmd.Env = append(os.Environ(), t.Environ()...)
	return cmd.CombinedOutput()
}

// Copy copies the token's files, so that a test can kill one copy at will. It must not run while a process logs in to
// the token. A test that copies does not apply to a token named by KEYD_TEST_MODULE, and is skipped.
func (t *Token) Copy(tb testing.TB) *Token {
	tb.Helper()
	if t.Conf == "" {
		tb.Skip("does not apply: the token of KEYD_TEST_MODULE cannot be copied")
	}
	c := *t
	c.dir = tb.TempDir()
	c.Conf = filepath.Join(c.dir, "softhsm2.conf")
	if err := os.CopyFS(c.tokens(), os.DirFS(t.tokens())); err != nil {
		tb.Fatalf("copy the token: %v", err)
	}
	if err := errors.Join(c.writeConf(), c.writePIN()); err != nil {
		tb.Fatal(err)
	}
	return &c
}

// Environ is what a process needs in its environment to see the token.
func (t *Token) Environ() []string {
	if t.Conf == "" {
		return nil
	}
	return []string{"SOFTHSM2_CONF=" + t.Conf}
}

func (t *Token) tokens() string { return filepath.Join(t.dir, "tokens") }

func (t *Token) writeConf() error {
	conf := "directories.tokendir = " + t.tokens() +
		"\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
	return os.WriteFile(t.Conf, []byte(conf), 0o600)
}

func (t *Token) writePIN() error {
	t.PINFile = filepath.Join(t.dir, "pin")
	return os.WriteFile(t.PINFile, []byte(t.PIN+"\n"), 0o600)
}

func findModule() (string, error) {
	places := []string{
		"/usr/lib/softhsm/libsofthsm2.so",
		"/usr/lib64/pkcs11/libsofthsm2.so",
		"/usr/local/lib/softhsm/libsofthsm2.so",
	}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("SoftHSM is not here (looked for %v): %s", places, installHint)
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

func randomPIN() string {
	n, err := rand.Int(rand.Reader, big.NewInt(1e12))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return fmt.Sprintf("%012d", n)
}

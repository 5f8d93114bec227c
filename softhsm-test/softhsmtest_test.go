package softhsmtest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

func slots(t *testing.T, tok *softhsmtest.Token) string {
	t.Helper()
	cmd := exec.Command("softhsm2-util", "--show-slots")
	cmd.Env = append(os.Environ(), tok.Environ()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("show slots: %v: %s", err, out)
	}
	return string(out)
}

func TestTokensAreSeparate(t *testing.T) {
	dirA, dirB := t.TempDir(), t.TempDir()
	a, err := softhsmtest.Create(dirA, "token-a", "1234")
	if err != nil {
		t.Fatal(err)
	}
	b, err := softhsmtest.Create(dirB, "token-b", "5678")
	if err != nil {
		t.Fatal(err)
	}
	if out := slots(t, a); !strings.Contains(out, "token-a") || strings.Contains(out, "token-b") {
		t.Errorf("slots of the first token:\n%s", out)
	}
	if out := slots(t, b); !strings.Contains(out, "token-b") {
		t.Errorf("slots of the second token:\n%s", out)
	}
}

func TestPINFileIsPrivate(t *testing.T) {
	tok, err := softhsmtest.Create(t.TempDir(), "token", "1234")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(tok.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the PIN file has mode %v", info.Mode())
	}
	if b, _ := os.ReadFile(tok.PINFile); string(b) != "1234\n" {
		t.Errorf("the PIN file does not hold the PIN and a newline")
	}
}

func TestCopyIsTheSameToken(t *testing.T) {
	tok, err := softhsmtest.Create(t.TempDir(), "token", "1234")
	if err != nil {
		t.Fatal(err)
	}
	c := tok.Copy(t)
	if c.Conf == tok.Conf || c.PINFile == tok.PINFile {
		t.Error("the copy shares files with its original")
	}
	if out := slots(t, c); !strings.Contains(out, "token") {
		t.Errorf("slots of the copy:\n%s", out)
	}
}

func TestAWipedTokenKeepsItsLabelAndPIN(t *testing.T) {
	dir := t.TempDir()
	tok, err := softhsmtest.Create(dir, "token-w", "1234")
	if err != nil {
		t.Fatal(err)
	}
	tool := func(args ...string) string {
		cmd := exec.Command("pkcs11-tool",
			append([]string{"--module", tok.Module, "--token-label", tok.Label, "--login", "--pin", tok.PIN},
				args...)...)
		cmd.Env = append(os.Environ(), tok.Environ()...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("pkcs11-tool %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	tool("--keygen", "--key-type", "AES:32", "--label", "soon-gone")
	if out := tool("--list-objects"); !strings.Contains(out, "soon-gone") {
		t.Fatalf("the object was not made:\n%s", out)
	}
	tok.Wipe(t)
	if out := tool("--list-objects"); strings.Contains(out, "soon-gone") {
		t.Errorf("the object is still there:\n%s", out)
	}
}

func TestADirectoryWhoseNameSoftHSMCannotReadIsRefused(t *testing.T) {
	_, err := softhsmtest.Create(t.TempDir()+"/world#01", "token", "1234")
	if err == nil || !strings.Contains(err.Error(), "# begins a comment") {
		t.Errorf("Create in a directory with a # answers %v", err)
	}
}

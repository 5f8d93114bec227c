package measure

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

func TestALibrarysCallsAndTheirTimeAreCountedByName(t *testing.T) {
	tok := softhsmtest.New(t)
	l, err := NewLibrary("../faultmodule", t.TempDir(), tok.Module)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "other"} {
		cmd := exec.Command("pkcs11-tool", "--module", l.Module, "--token-label", tok.Label, "--login",
			"--pin", tok.PIN, "--keypairgen", "--key-type", "rsa:2048")
		cmd.Env = slices.Concat(os.Environ(), tok.Environ(), l.Environ(name))
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("pkcs11-tool: %v: %s", err, said)
		}
	}
	calls, err := l.Calls("one")
	if err != nil || calls["C_GenerateKeyPair"] != 1 || calls["C_Login"] != 1 {
		t.Errorf("%v, %v", calls, err)
	}
	processor, clock, err := l.Spent("one", "C_GenerateKeyPair")
	if err != nil || processor == 0 || clock < processor/2 {
		t.Errorf("a generation took %s of the processor and %s by the clock: %v", processor, clock, err)
	}
	if calls, err := l.Calls("nobody"); err != nil || len(calls) != 0 {
		t.Errorf("of a process that never ran: %v, %v", calls, err)
	}
}

func TestWhatCameAfterLeavesOutWhatCameBefore(t *testing.T) {
	before, after := Kinds{"get": 2, "list": 1}, Kinds{"get": 5, "list": 1, "wrap": 1}
	d := after.Minus(before)
	if len(d) != 2 || d["get"] != 3 || d["wrap"] != 1 || d.Sum() != 4 {
		t.Errorf("%v", d)
	}
	if after["get"] != 5 {
		t.Error("the later counts were changed")
	}
}

func TestAProcessShowsWhatItUsed(t *testing.T) {
	begun, err := ProcessOf(os.Getpid())
	if err != nil || begun.Own == 0 || begun.Memory < begun.Own || begun.Highest < begun.Memory {
		t.Fatalf("%+v, %v", begun, err)
	}
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); {
		now, err := ProcessOf(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if now.Processor > begun.Processor {
			return
		}
	}
	t.Error("ten seconds of work show in no processor time")
}

func TestWhatAnEndedHSMSideUsedIsNotForgotten(t *testing.T) {
	cmd := exec.Command("sh", "-c", "head -c 300M /dev/zero | sha256sum; sleep 60 & wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() }()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // the sum, at the end of the first two children
		t.Fatal(err)
	}
	const little = 50 * time.Millisecond // more than sleep uses, and less than the sum
	var s Sides
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if s, err = Keyd(cmd.Process.Pid); err == nil && s.HSM.Processor > little {
			return
		}
	}
	t.Errorf("%+v, %v", s, err)
}

func TestAProcessWithoutAnHSMSideIsNotKeyd(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if s, err := Keyd(cmd.Process.Pid); err == nil {
		t.Errorf("%+v", s)
	}
}

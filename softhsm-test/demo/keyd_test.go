package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// On a busy machine a short demo ends while keyd is still being started.
func TestAKeydThatHadNotBegunNeedNotEndCleanly(t *testing.T) {
	for log, clean := range map[string]bool{"": true, `{"msg":"starting"}`: false} {
		w := &world{dir: t.TempDir()}
		if err := os.WriteFile(filepath.Join(w.dir, "keyd.log"), []byte(log), 0o600); err != nil {
			t.Fatal(err)
		}
		k := &keyd{world: w, cmd: exec.Command("sleep", "60"), ended: make(chan struct{})}
		if err := k.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			k.err = k.cmd.Wait()
			close(k.ended)
		}()
		if err := k.stop(false, nil); (err == nil) != clean {
			t.Errorf("after the log %q the end is %v", log, err)
		}
	}
}

// A command gets a group of its own only after it has begun, so a Ctrl-C may reach it first.
func TestACtrlCThatReachesACommandFirstCutsTheDemoShort(t *testing.T) {
	program := filepath.Join(t.TempDir(), "keyd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nkill -INT $$\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(errCutShort) })
	k := &keyd{world: &world{dir: t.TempDir()}, program: program}
	if _, err := k.do(ctx, "status"); !errors.Is(err, errCutShort) {
		t.Error(err)
	}
}

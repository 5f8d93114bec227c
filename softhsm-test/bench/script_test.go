package bench_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	scripts = 6 // single rotations by each
	inARow  = 10
)

// BenchmarkScript compares rotations by keyd with those by the script that an operator writes: of one key, and of ten.
func BenchmarkScript(b *testing.B) {
	for b.Loop() {
		w := newWorld(b)
		w.start("RSA-2048", inARow)
		w.settle()
		w.byScript() // once, so that files are in memory, as keyd's are
		var keyd, script span
		for range scripts {
			script.add(w.byScript())
			keyd.add(w.byCommand(w.keys[0]))
			w.refill(w.untilQuiet())
		}
		var tenByScript span
		for range inARow {
			tenByScript.add(w.byScript())
		}
		ten := w.byCommand(w.keys...)
		printed("rotations, RSA-2048, by the clock", "script", []compared{
			faster("one", keyd.all/scripts, script.all/scripts),
			faster("one, without making the pair", keyd.rest()/scripts, script.rest()/scripts),
			faster(fmt.Sprintf("%d keys", inARow), ten.all, tenByScript.all),
		})
	}
	b.ReportMetric(0, "ns/op")
}

// span is how long rotations took, and how long of it pairs were made.
type span struct{ all, making time.Duration }

func (s *span) add(more span) { s.all, s.making = s.all+more.all, s.making+more.making }

func (s *span) rest() time.Duration { return s.all - s.making }

func faster(what string, keyd, script time.Duration) compared {
	c := times(what, keyd, script, "5 at least")
	c.ratio = script.Seconds() / keyd.Seconds()
	return c
}

// byScript rotates a key of the script's own.
func (w *world) byScript() span {
	w.b.Helper()
	script, err := filepath.Abs("rotate.sh")
	if err != nil {
		w.b.Fatal(err)
	}
	cmd := exec.Command(script, w.dir)
	cmd.Env = slices.Concat(w.env, []string{"MODULE=" + w.token.Module, "TOKEN=" + w.token.Label,
		"PINFILE=" + w.token.PINFile, "VAULT=https://" + vaultHost, "KEK=" + kekName, "KEY=script-key"})
	var errs bytes.Buffer
	cmd.Stderr = &errs
	began := time.Now()
	said, err := cmd.Output()
	took := time.Since(began)
	made, parseErr := strconv.ParseInt(strings.TrimSpace(string(said)), 10, 64)
	if err != nil || parseErr != nil {
		w.b.Fatalf("rotate.sh: %v: %s%s", err, said, &errs)
	}
	return span{took, time.Duration(made)}
}

// byCommand rotates keys as an operator does who waits for the command.
func (w *world) byCommand(keys ...string) span {
	w.b.Helper()
	_, before, err := w.library.Spent("keyd", generator)
	if err != nil {
		w.b.Fatal(err)
	}
	cmd := exec.Command(program("keyd"), slices.Concat([]string{"rotate", "--now", "--yes", "--reason", "benchmark",
		"--socket", w.path("keyd.sock")}, keys)...)
	began := time.Now()
	if said, err := cmd.CombinedOutput(); err != nil {
		w.b.Fatalf("keyd rotate: %v: %s", err, said)
	}
	took := time.Since(began)
	_, after, err := w.library.Spent("keyd", generator)
	if err != nil {
		w.b.Fatal(err)
	}
	return span{took, after - before}
}

package e2e_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/softhsm-test/rights"
)

// onDisk is a world whose state directory is a small file system of its own. It rotates every few seconds and proves
// every second.
type onDisk struct{ *world }

func newOnDisk(t *testing.T, mount func(*world)) *onDisk {
	t.Helper()
	rights.ToMount(t)
	w := newWorld(t, func(s *settings) { s.schedule, s.newest = "@every 5s", time.Second })
	if err := os.Mkdir(w.path("state"), 0o700); err != nil {
		t.Fatal(err)
	}
	mount(w)
	t.Cleanup(func() {
		if w.daemon != nil {
			if t.Failed() {
				t.Logf("keyd's log:\n%s", w.daemon.log)
			}
			w.kill()
		}
		if err := syscall.Unmount(w.path("state"), 0); err != nil {
			t.Errorf("unmount the state: %v", err)
		}
	})
	return &onDisk{w}
}

// onTmpfs mounts a small file system in memory for the state.
func onTmpfs(w *world) {
	w.t.Helper()
	if err := syscall.Mount("tmpfs", w.path("state"), "tmpfs", 0, "size=256k,mode=0700"); err != nil {
		w.t.Fatalf("mount a tmpfs for the state: %v", err)
	}
}

// metric is one sample without labels, -1 if there is none.
func (w *world) metric(name string) float64 {
	w.t.Helper()
	at := listening.FindStringSubmatch(w.daemon.log.String())
	if at == nil {
		return -1
	}
	res, err := http.Get("http://" + at[1] + "/metrics")
	if err != nil {
		return -1
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return -1
	}
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(rest, 64)
			if err != nil {
				w.t.Fatal(err)
			}
			return v
		}
	}
	return -1
}

func (w *onDisk) await(what string, cond func() bool) {
	w.t.Helper()
	if err := poll(patience, cond, w.daemon.ended); err != nil {
		w.t.Fatalf("waiting until %s: %v", what, err)
	}
}

// suffers requires a clear metric and error, no new generation, and continued proofs
// while the disk fails. broken is the text of the error.
func (w *onDisk) suffers(broken string) {
	w.t.Helper()
	w.await("the metric shows the disk fault", func() bool { return w.metric("keyd_store_healthy") == 0 })
	w.await("the log names the disk fault", func() bool { return strings.Contains(w.daemon.log.String(), broken) })
	generations := len(w.key().Generations)
	since := time.Now()
	w.wait("proofs go on", func(_ status.Snapshot, k status.Key) bool { return provenAfter(k, since) })
	a := w.cli("rotate", "--now", keyName, "--reason", "on a broken disk", "--timeout", "60s")
	if a.code == 0 || !strings.Contains(a.stderr+a.stdout, broken) {
		w.t.Errorf("rotate on a broken disk: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
	if n := len(w.key().Generations); n > generations+1 {
		w.t.Errorf("%d generations were made on a broken disk", n-generations)
	}
}

func provenAfter(k status.Key, since time.Time) bool {
	return slices.ContainsFunc(k.Proofs, func(p status.Proof) bool { return p.PassedAt.After(since) })
}

// recovers requires that rotation continues by itself, and that nothing was lost or
// doubled.
func (w *onDisk) recovers() {
	w.t.Helper()
	n := len(w.key().Generations)
	w.waitGeneration(n + 1)
	w.await("the metric shows that the disk works again", func() bool { return w.metric("keyd_store_healthy") == 1 })
	w.set.schedule = "" // no rotation begins while the test counts
	w.configure()
	w.must("reload")
	w.wait("nothing is under way", func(_ status.Snapshot, k status.Key) bool {
		return k.State == status.StateOK && !slices.ContainsFunc(k.Generations,
			func(g status.Generation) bool { return g.Finished.IsZero() })
	})
	report((&faulty{w.world}).harm(len(w.key().Generations)))
}

func TestFaultFullDiskStopsNewWorkAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newOnDisk(t, onTmpfs)
	w.start()
	w.waitGeneration(1)
	w.seal()
	w.fill()
	w.suffers("no space left on device")
	if err := os.Remove(w.path("state/ballast")); err != nil {
		t.Fatal(err)
	}
	w.recovers()
}

// fill uses up the free space of the state's file system, until keyd cannot write.
func (w *onDisk) fill() {
	w.t.Helper()
	f, err := os.OpenFile(w.path("state/ballast"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for {
		if _, err := f.Write(make([]byte, 4096)); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestFaultDiskThatFailsToWriteOrFlushStopsOnlyNewWork(t *testing.T) {
	notInTheSample(t)
	for _, fault := range []struct{ name, call, inject, words string }{
		{"flush", "fdatasync", "error=EIO", "input/output error"},
		{"write", "pwrite64", "error=EROFS", "read-only file system"},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			w := newOnDisk(t, onTmpfs)
			w.start()
			w.waitGeneration(1)
			w.seal()
			mend := w.inject(fault.call, fault.inject)
			w.suffers(fault.words)
			mend()
			w.recovers()
		})
	}
}

// inject makes a system call on the state fail until mend is called.
func (w *onDisk) inject(call, fault string) (mend func()) {
	w.t.Helper()
	var out syncBuffer
	tracer := exec.Command("strace", "-f", "-p", fmt.Sprint(w.daemon.cmd.Process.Pid), "-P", w.path("state/keyd.db"),
		"-e", "trace="+call, "-e", "inject="+call+":"+fault)
	tracer.Stderr = &out
	if err := tracer.Start(); err != nil {
		w.t.Fatalf("strace: %v (install it with: apt-get install strace)", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- tracer.Wait() }()
	mended := false
	mend = func() {
		if !mended {
			mended = true
			_ = tracer.Process.Signal(syscall.SIGINT)
			<-ended
		}
	}
	w.t.Cleanup(mend)
	if err := poll(patience, func() bool { return strings.Contains(out.String(), "attached") }, nil); err != nil {
		w.t.Fatalf("strace does not attach: %s", out.String())
	}
	return mend
}

// endsWith requires that `keyd run` ends by itself with code 1 and these words, and sends nothing to Azure.
func (w *world) endsWith(words ...string) {
	w.t.Helper()
	asked := len(w.emu.Requests())
	a := w.command("run", "--config", w.path("keyd.yaml"))
	if a.code != 1 {
		w.t.Errorf("keyd run: exit %d", a.code)
	}
	w.wantContains(a.stderr, words...)
	if n := len(w.emu.Requests()) - asked; n > 0 {
		w.t.Errorf("Azure was asked %d times all the same", n)
	}
}

func TestFaultDamagedStateIsReportedAndNeverGuessedAt(t *testing.T) {
	t.Parallel()
	w := rotated(t, nil)
	w.stop()
	path := w.path("state/keyd.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(whole, []byte("rotation finished")) {
		t.Fatal("the state has no entry of the rotation")
	}
	for name, damaged := range map[string][]byte{
		"cut short":       whole[:5*os.Getpagesize()],
		"empty":           {},
		"a bit of a page": flipped(whole, 20),
		// Free pages may have it too, and hold nothing that counts.
		"a bit of a text": bytes.ReplaceAll(whole, []byte("rotation finished"), []byte("sotation finished")),
	} {
		w.write("state/keyd.db", string(damaged))
		t.Logf("%s: %s", name, w.wantDamaged())
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, damaged) {
			t.Errorf("%s: the damaged file was changed: %v", name, err)
		}
	}
	for name, meddle := range map[string]func(audit *bbolt.Bucket) error{
		"an entry removed":           func(audit *bbolt.Bucket) error { return audit.Delete(entry(3)) },
		"the last entries removed":   func(audit *bbolt.Bucket) error { return cut(audit, 3) },
		"two entries in other order": swap,
	} {
		w.write("state/keyd.db", string(whole))
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error { return meddle(tx.Bucket([]byte("audit"))) })
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		said := w.wantDamaged()
		w.wantContains(said, "NOT consistent")
		t.Logf("%s: %s", name, said)
	}
	w.write("state/keyd.db", string(whole))
	a := w.command("audit", "--verify", "--state", w.path("state"))
	if a.code != 0 {
		t.Errorf("audit --verify of the whole file: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
	w.wantContains(a.stdout, "internally consistent")
	w.wantContains(w.command("audit", "--state", path, "--key", keyName).stdout, "rotation finished")
	w.wantUntouched()
}

// wantDamaged requires that keyd neither starts nor calls the chain consistent, and returns the output of `keyd audit
// --verify`.
func (w *world) wantDamaged() string {
	w.t.Helper()
	w.endsWith("the state in "+w.path("state/keyd.db")+" is damaged", "keyd backup")
	a := w.command("audit", "--verify", "--state", w.path("state"))
	if a.code != 1 || strings.Contains(a.stdout, "internally consistent") {
		w.t.Errorf("audit --verify: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
	return a.stdout + a.stderr
}

func entry(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// cut removes the last n entries.
func cut(audit *bbolt.Bucket, n int) error {
	for range n {
		last, _ := audit.Cursor().Last()
		if err := audit.Delete(last); err != nil {
			return err
		}
	}
	return nil
}

func swap(audit *bbolt.Bucket) error {
	one, other := bytes.Clone(audit.Get(entry(4))), bytes.Clone(audit.Get(entry(5)))
	return errors.Join(audit.Put(entry(4), other), audit.Put(entry(5), one))
}

func flipped(b []byte, at int) []byte {
	c := bytes.Clone(b)
	c[at] ^= 1
	return c
}

func TestFaultOldCopyOfTheStateLosesNoKeyAndAdoptBringsItUpToDate(t *testing.T) {
	t.Parallel()
	w := rotated(t, func(s *settings) { s.vaults = []string{"weu", "mhsm"} })
	w.stop()
	old, err := os.ReadFile(w.path("state/keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	w.start()
	w.waitGeneration(1)
	w.must("rotate", "--now", keyName, "--reason", "after the copy", "--timeout", "80s")
	w.seal()
	w.stop()
	w.loseChain()
	if err := os.WriteFile(filepath.Join(w.path("state"), "keyd.db"), old, 0o600); err != nil {
		t.Fatal(err)
	}

	w.start()
	w.waitHold(key.HoldUnreserved)
	w.acceptHead("an old copy was restored")
	w.wantVersions(2)
	w.wantContains(w.must("adopt", keyName), "reserved by nobody", "left alone")
	w.wantContains(w.must("adopt", keyName, "--unreserved"), "generation 2", w.versions("weu")[1],
		w.versions("mhsm")[1], "keyd does not know")
	w.must("adopt", keyName, "--unreserved", "--yes", "--reason", "an old copy was restored")
	w.waitHold(key.HoldAdopted)
	w.must("resume", keyName, "--reason", "compared with the vaults")
	w.wait("the key is well again", func(_ status.Snapshot, k status.Key) bool { return k.State == status.StateOK })
	w.must("rotate", "--now", keyName, "--reason", "rotation goes on", "--timeout", "80s")
	w.seal()
	w.wantContains(w.must("audit", "--verify"), "internally consistent")
	w.wantVersions(3)
	report((&faulty{w}).harm(3))
}

package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/move"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

var movedAt = move.Order{Host: "hq-a", Now: time.Now}

// stateOf is a state directory whose file has keys records, each saved twice, and a ledger.
func stateOf(t *testing.T, keys int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	s := must[*bolt.Store](t)(bolt.Open(dir, time.Now, nil))
	for range 2 {
		for i := range keys {
			rec, err := s.Load(t.Context(), fmt.Sprintf("k%d", i))
			if err == nil {
				_, err = s.Save(t.Context(), rec, chain.Entry{Event: chain.KeyResumed, Actor: "a"},
					chain.Entry{Event: chain.KeyHeld, Actor: "b"})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	err := errors.Join(s.Append(t.Context(), chain.Entry{Event: chain.DaemonStopped, Actor: "keyd"}),
		s.SaveLedger(t.Context(), "uses", make([]byte, stored.MaxBlob)), s.Close())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func inMemory() *storetest.Memory { return storetest.NewMemory(time.Now) }

// moved is an engine with the content of a file.
func moved(t *testing.T, keys int) *storetest.Memory {
	t.Helper()
	m := inMemory()
	s := must[*bolt.Store](t)(bolt.OpenToMove(stateOf(t, keys)))
	must[move.Done](t)(move.Move(t.Context(), leavingFile{s, "file"}, side(m, "memory"), movedAt))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return m
}

// side is an engine as a target.
func side(e stored.Engine, name string) movedEngine { return movedEngine{e, name} }

// leaving is an engine as a source.
func leaving(t *testing.T, m *storetest.Memory, name string) leavingEngine {
	t.Helper()
	s, done, err := readShared(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := done(); err != nil {
			t.Error(err)
		}
	})
	return leavingEngine{side(m, name), s}
}

// content is all that a store has, as sums of its bytes.
type content struct{ text strings.Builder }

func (c *content) Entry(l chain.Linked) error {
	fmt.Fprintf(&c.text, "%d %x\n", l.Seq, sha256.Sum256(stored.EncodeEntry(l)))
	return nil
}

func (c *content) Record(name string, value []byte) error {
	fmt.Fprintf(&c.text, "%s %x\n", name, sha256.Sum256(value))
	return nil
}

func (c *content) Ledger(name string, value []byte) error { return c.Record(name, value) }

func contentOf(t *testing.T, w stored.Walker) string {
	t.Helper()
	c := &content{}
	if err := w.Walk(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c.text.String()
}

func TestAStateMovesToAnEngineAndBackByteForByte(t *testing.T) {
	const keys = 150 // more records than one change may have
	dir, there := stateOf(t, keys), inMemory()
	from := must[*bolt.Store](t)(bolt.OpenToMove(dir))
	was := contentOf(t, from)
	done := must[move.Done](t)(move.Move(t.Context(), leavingFile{from, "old"}, side(there, "memory"), movedAt))
	if contentOf(t, leaving(t, there, "memory")) != was {
		t.Error("the engine has other bytes")
	}
	if done.Records != keys || done.Entries != 4*keys+1 || done.To != "memory" {
		t.Errorf("%+v", done)
	}
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := bolt.Open(dir, time.Now, nil)
	var sealed *bolt.SealedError
	if !errors.As(err, &sealed) || !strings.Contains(sealed.Why, "was moved to memory by keyd store copy on hq-a") {
		t.Errorf("the old state still opens: %v", err)
	}
	if err := bolt.Check(dir); !errors.As(err, &sealed) {
		t.Errorf("keyd plan would not see it: %v", err)
	}
	if err := bolt.CheckLeft(dir); err != nil {
		t.Errorf("keyd would not start on the new store: %v", err)
	}

	back := must[*bolt.Arriving](t)(bolt.Arrive(dir))
	must[move.Done](t)(move.Move(t.Context(), leaving(t, there, "memory"), arrivingFile{back, "the file " + dir},
		movedAt))
	s := must[*bolt.Store](t)(bolt.Open(dir, time.Now, nil))
	if contentOf(t, s) != was {
		t.Error("the file has other bytes")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if why := must[string](t)(there.Sealed(t.Context())); !strings.Contains(why, "moved to the file "+dir) {
		t.Errorf("the engine still takes changes: %q", why)
	}
	if kept, _ := filepath.Glob(filepath.Join(dir, "keyd.db.sealed-*")); len(kept) != 1 {
		t.Errorf("the sealed file is not kept: %v", kept)
	}
	if err := bolt.CheckLeft(dir); err == nil {
		t.Error("keyd would start on another store beside a state in use")
	}
}

// cut fails the n-th call.
type cut struct{ left int }

var errCut = errors.New("cut short")

func (c *cut) now() error {
	if c.left--; c.left == 0 {
		return errCut
	}
	return nil
}

// cutEngine is an engine that is cut short. A change may have been made all the same.
type cutEngine struct {
	stored.Engine
	*cut
}

func (e cutEngine) Heads(ctx context.Context) (map[string]stored.Head, stored.Tip, error) {
	if err := e.now(); err != nil {
		return nil, stored.Tip{}, err
	}
	return e.Engine.Heads(ctx)
}

func (e cutEngine) Entries(ctx context.Context, from uint64, limit int) ([]chain.Linked, error) {
	if err := e.now(); err != nil {
		return nil, err
	}
	return e.Engine.Entries(ctx, from, limit)
}

func (e cutEngine) Commit(ctx context.Context, c stored.Change) error {
	if err := e.now(); err != nil {
		return err
	}
	return errors.Join(e.Engine.Commit(ctx, c), e.now())
}

func (e cutEngine) PutBlob(ctx context.Context, b stored.Blob) error {
	if err := e.now(); err != nil {
		return err
	}
	return errors.Join(e.Engine.PutBlob(ctx, b), e.now())
}

func (e cutEngine) Seal(ctx context.Context, why string) error {
	if err := e.now(); err != nil {
		return err
	}
	return errors.Join(e.Engine.Seal(ctx, why), e.now())
}

func TestAMoveThatWasCutShortAnywhereIsRepeated(t *testing.T) {
	ctx := t.Context()
	full := moved(t, 3)
	was := contentOf(t, leaving(t, full, "old"))
	for n := 1; ; n++ {
		source, there, c := full.Clone(), inMemory(), &cut{}
		from, to := leaving(t, source, "old"), side(cutEngine{there, c}, "new")
		from.Engine = cutEngine{source, c}
		c.left = n
		_, err := move.Move(ctx, from, to, movedAt)
		if c.left > 0 {
			if n < 20 {
				t.Errorf("only %d calls were cut short", n-1)
			}
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatalf("call %d: %v", n, err)
		}
		closed := must[string](t)(source.Sealed(ctx)) != ""
		if !closed && checkWhole(ctx, there) == nil && must[stored.Tip](t)(there.Tip(ctx)).Seq > 0 {
			t.Fatalf("call %d: both stores take changes", n)
		}
		c.left = 0 // nothing is cut any more
		if _, err := move.Move(ctx, from, to, movedAt); err != nil {
			t.Fatalf("call %d: the repeated move: %v", n, err)
		}
		if contentOf(t, leaving(t, there, "new")) != was {
			t.Fatalf("call %d: the copy has other bytes", n)
		}
		if err := checkWhole(ctx, there); err != nil {
			t.Errorf("call %d: %v", n, err)
		}
		if must[string](t)(source.Sealed(ctx)) == "" {
			t.Errorf("call %d: the old store still takes changes", n)
		}
	}
}

// busy has somebody else change the store just before it is closed.
type busy struct {
	leavingEngine
	change func()
}

func (b busy) Seal(ctx context.Context, why string) error {
	b.change()
	return b.leavingEngine.Seal(ctx, why)
}

func TestWhatFollowersWriteMeanwhileMovesToo(t *testing.T) {
	source, there := moved(t, 3), inMemory()
	from := leaving(t, source, "old")
	late := func() {
		tip := must[stored.Tip](t)(source.Tip(t.Context()))
		value, _, err := source.Record(t.Context(), "k1")
		if err != nil {
			t.Fatal(err)
		}
		was := must[stored.Head](t)(stored.ParseHead("k1", value))
		r := stored.NewRecord("k1", tip.Seq+1, value[stored.HeadSize:])
		l := must[chain.Linked](t)(chain.Append(tip.Seq, tip.Hash, chain.Entry{Event: chain.KeyPaused, Actor: "c",
			Key: "k1", Time: time.Now()}, r.Sum.String()))
		if err := source.Commit(t.Context(), stored.Change{Tip: tip, Entries: []chain.Linked{l},
			Records: []stored.Changed{{Name: "k1", Was: was, Value: r.Encode()}}}); err != nil {
			t.Fatal(err)
		}
	}
	must[move.Done](t)(move.Move(t.Context(), busy{from, late}, side(there, "new"), movedAt))
	if contentOf(t, leaving(t, there, "new")) != contentOf(t, from) {
		t.Error("the copy has other bytes")
	}
}

func TestAMoveIsRefused(t *testing.T) {
	full := moved(t, 2)
	closed := func(m *storetest.Memory) *storetest.Memory {
		if err := m.Seal(t.Context(), "its state was moved to x by keyd store copy"); err != nil {
			t.Fatal(err)
		}
		return m
	}
	led, twice := full.Clone(), full.Clone()
	must[stored.Lease](t)(led.Take(t.Context(), "hq-b", [16]byte{1}, time.Hour))
	for name, c := range map[string]struct {
		from, to *storetest.Memory
		toName   string
		want     string
	}{
		"into the same place":         {full.Clone(), inMemory(), "old", "name two"},
		"into itself by another name": {twice, twice, "new", "new is the same store as old"},
		"of nothing":                  {inMemory(), inMemory(), "new", "has nothing in it"},
		"into another chain":          {full.Clone(), moved(t, 1), "new", "has audit entries that old does not have"},
		"into a store that was closed": {full.Clone(), closed(inMemory()), "new", "takes no changes any more: " +
			"its state"},
		"of one that moved elsewhere": {closed(full.Clone()), inMemory(), "new", "Copy from there"},
		"while a daemon leads":        {led, inMemory(), "new", "run systemctl stop keyd on every host first"},
		"while a daemon leads over yet": {full.Clone(), led.Clone(), "new", "run systemctl stop keyd on every " +
			"host first"},
	} {
		t.Run(name, func(t *testing.T) {
			before := must[string](t)(c.from.Sealed(t.Context()))
			_, err := move.Move(t.Context(), leaving(t, c.from, "old"), side(c.to, c.toName), movedAt)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if after := must[string](t)(c.from.Sealed(t.Context())); after != before {
				t.Errorf("the old store was closed: %s", after)
			}
		})
	}
}

func TestAStateInUseIsNotReplaced(t *testing.T) {
	dir := stateOf(t, 1)
	if _, err := bolt.Arrive(dir); err == nil || !strings.Contains(err.Error(), "a state in use") {
		t.Errorf("%v", err)
	}
}

// keyd would begin a new state where it finds none.
func TestAFileThatArrivesIsNeverMissingMeanwhile(t *testing.T) {
	dir, there := stateOf(t, 1), inMemory()
	from := must[*bolt.Store](t)(bolt.OpenToMove(dir))
	must[move.Done](t)(move.Move(t.Context(), leavingFile{from, "old"}, side(there, "memory"), movedAt))
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	for n := range 2 { // the second time, the sealed file has its second name already
		back := must[*bolt.Arriving](t)(bolt.Arrive(dir))
		if err := back.Fill(t.Context(), leaving(t, there, "memory")); err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, ".keyd.db.copy")
		if err := errors.Join(os.Remove(copied), os.Mkdir(copied, 0o700)); err != nil { // which takes no file's name
			t.Fatal(err)
		}
		if err := back.Finish(t.Context()); err == nil {
			t.Fatal("the move went on")
		}
		var sealed *bolt.SealedError
		if _, err := bolt.Open(dir, time.Now, nil); !errors.As(err, &sealed) {
			t.Errorf("try %d: keyd would start: %v", n+1, err)
		}
		if err := os.Remove(copied); err != nil {
			t.Fatal(err)
		}
	}
	back := must[*bolt.Arriving](t)(bolt.Arrive(dir))
	must[move.Done](t)(move.Move(t.Context(), leaving(t, there, "memory"), arrivingFile{back, "the file " + dir},
		movedAt))
	if err := must[*bolt.Store](t)(bolt.Open(dir, time.Now, nil)).Close(); err != nil {
		t.Fatal(err)
	}
	if kept, _ := filepath.Glob(filepath.Join(dir, "keyd.db.sealed-*")); len(kept) != 1 {
		t.Errorf("the sealed file is not kept: %v", kept)
	}
}

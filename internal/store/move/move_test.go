package move

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

var order = Order{Host: "hq-a", Now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}

// dirOf is a state directory whose file has keys records, saved in turn, and a ledger.
func dirOf(t *testing.T, keys int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	s, err := bolt.Open(dir, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
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
	err = errors.Join(s.Append(t.Context(), chain.Entry{Event: chain.DaemonStopped, Actor: "keyd"}),
		s.SaveLedger(t.Context(), "uses", []byte("noted")), s.Close())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func memory() *storetest.Memory { return storetest.NewMemory(time.Now) }

// content is all that a side has, as bytes.
func content(t *testing.T, s Side) string {
	t.Helper()
	ctx := t.Context()
	var b strings.Builder
	entries, err := s.Entries(ctx, 1, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range entries {
		fmt.Fprintf(&b, "%d %q\n", l.Seq, stored.EncodeEntry(l))
	}
	heads, _, err := s.Heads(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(heads)) {
		value, _, err := s.Record(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %q\n", name, value)
	}
	ledgers, err := s.Ledgers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(ledgers)) {
		fmt.Fprintf(&b, "%s %q\n", name, ledgers[name])
	}
	return b.String()
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

// inMemory is an engine with the content of a file.
func inMemory(t *testing.T, keys int) *storetest.Memory {
	t.Helper()
	m := memory()
	from := must[Side](t)(OldFile(dirOf(t, keys)))
	must[Done](t)(Copy(t.Context(), from, Engine(m, "memory"), order))
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAStateMovesToAnEngineAndBackByteForByte(t *testing.T) {
	const keys = 150 // more records than one change may have
	dir, there := dirOf(t, keys), memory()
	from := must[Side](t)(OldFile(dir))
	was := content(t, from)
	done := must[Done](t)(Copy(t.Context(), from, Engine(there, "memory"), order))
	if content(t, Engine(there, "memory")) != was {
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
	if !errors.As(err, &sealed) || !strings.Contains(sealed.Why, "its state was moved to memory by keyd store "+
		"copy on hq-a") {
		t.Errorf("the old state still opens: %v", err)
	}
	if err := bolt.Check(dir); !errors.As(err, &sealed) {
		t.Errorf("keyd plan would not see it: %v", err)
	}

	back := must[Target](t)(NewFile(dir))
	must[Done](t)(Copy(t.Context(), Engine(there, "memory"), back, order))
	s := must[*bolt.Store](t)(bolt.Open(dir, time.Now, nil))
	defer s.Close()
	if r := must[chain.Report](t)(s.Verify(t.Context())); !r.Consistent() || r.Records != keys {
		t.Errorf("the file is %s", r)
	}
	if blob := must[[]byte](t)(s.LoadLedger(t.Context(), "uses")); string(blob) != "noted" {
		t.Errorf("its ledger is %q", blob)
	}
	if why := must[string](t)(there.Sealed(t.Context())); !strings.Contains(why, "moved to the file "+dir) {
		t.Errorf("the engine still takes changes: %q", why)
	}
	if kept, _ := filepath.Glob(filepath.Join(dir, "keyd.db.sealed-*")); len(kept) != 1 {
		t.Errorf("the sealed file is not kept: %v", kept)
	}
}

// cut fails the n-th call of a side.
type cut struct {
	Target
	left *int
}

var errCut = errors.New("cut short")

func (c cut) now() error {
	if *c.left--; *c.left == 0 {
		return errCut
	}
	return nil
}

func (c cut) Tip(ctx context.Context) (stored.Tip, error) {
	if err := c.now(); err != nil {
		return stored.Tip{}, err
	}
	return c.Target.Tip(ctx)
}

func (c cut) Entries(ctx context.Context, from uint64, limit int) ([]chain.Linked, error) {
	if err := c.now(); err != nil {
		return nil, err
	}
	return c.Target.Entries(ctx, from, limit)
}

func (c cut) Heads(ctx context.Context) (map[string]stored.Head, stored.Tip, error) {
	if err := c.now(); err != nil {
		return nil, stored.Tip{}, err
	}
	return c.Target.Heads(ctx)
}

// Commit fails after it was made, too: an answer that was lost.
func (c cut) Commit(ctx context.Context, x stored.Change) error {
	if err := c.now(); err != nil {
		return err
	}
	return errors.Join(c.Target.Commit(ctx, x), c.now())
}

func (c cut) PutLedger(ctx context.Context, name string, value []byte) error {
	return errors.Join(c.Target.PutLedger(ctx, name, value), c.now())
}

func (c cut) Seal(ctx context.Context, why string) error {
	if err := c.now(); err != nil {
		return err
	}
	return errors.Join(c.Target.Seal(ctx, why), c.now())
}

func (c cut) Finish(ctx context.Context) error {
	if err := c.now(); err != nil {
		return err
	}
	return errors.Join(c.Target.Finish(ctx), c.now())
}

func TestACopyThatWasCutShortAnywhereIsRepeated(t *testing.T) {
	for n := 1; ; n++ {
		source, there := inMemory(t, 3), memory()
		was := content(t, Engine(source, "old"))
		left := n
		from, to := cut{Engine(source, "old"), &left}, cut{Engine(there, "new"), &left}
		_, err := Copy(t.Context(), from, to, order)
		if left > 0 {
			if n < 20 {
				t.Errorf("only %d calls were cut short", n-1)
			}
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatalf("call %d: %v", n, err)
		}
		sealed := must[string](t)(source.Sealed(t.Context())) != ""
		if !sealed && Unfinished(t.Context(), there) == nil && must[stored.Tip](t)(there.Tip(t.Context())).Seq > 0 {
			t.Fatalf("call %d: both stores take changes", n)
		}
		left = 0 // nothing is cut any more
		if _, err := Copy(t.Context(), from, to, order); err != nil {
			t.Fatalf("call %d: the repeated copy: %v", n, err)
		}
		if content(t, Engine(there, "new")) != was {
			t.Fatalf("call %d: the copy has other bytes", n)
		}
		if err := Unfinished(t.Context(), there); err != nil {
			t.Errorf("call %d: %v", n, err)
		}
		if must[string](t)(source.Sealed(t.Context())) == "" {
			t.Errorf("call %d: the old store still takes changes", n)
		}
	}
}

// busy has somebody else change the store just before it is closed.
type busy struct {
	Target
	change func()
}

func (b busy) Seal(ctx context.Context, why string) error {
	b.change()
	return b.Target.Seal(ctx, why)
}

func TestWhatFollowersWriteMeanwhileIsCopiedToo(t *testing.T) {
	source, there := inMemory(t, 3), memory()
	late := func() {
		tip := must[stored.Tip](t)(source.Tip(t.Context()))
		value, _, err := source.Record(t.Context(), "k1")
		if err != nil {
			t.Fatal(err)
		}
		was := must[stored.Head](t)(stored.ParseHead("k1", value))
		r := stored.NewRecord("k1", tip.Seq+1, value[stored.HeadSize:])
		l := must[chain.Linked](t)(chain.Append(tip.Seq, tip.Hash, chain.Entry{Event: chain.KeyPaused, Actor: "c", Key: "k1",
			Time: order.Now}, r.Sum.String()))
		if err := source.Commit(t.Context(), stored.Change{Tip: tip, Entries: []chain.Linked{l},
			Records: []stored.Changed{{Name: "k1", Was: was, Value: r.Encode()}}}); err != nil {
			t.Fatal(err)
		}
	}
	must[Done](t)(Copy(t.Context(), busy{Engine(source, "old"), late}, Engine(there, "new"), order))
	if content(t, Engine(there, "new")) != content(t, Engine(source, "old")) {
		t.Error("the copy has other bytes")
	}
}

func TestACopyIsRefused(t *testing.T) {
	full := func(t *testing.T) Target { return Engine(inMemory(t, 2), "old") }
	for name, c := range map[string]struct {
		from func(t *testing.T) Target
		to   func(t *testing.T) Target
		want string
	}{
		"into the same place": {full, func(t *testing.T) Target { return Engine(memory(), "old") }, "name two"},
		"of nothing":          {func(t *testing.T) Target { return Engine(memory(), "old") }, nil, "has nothing in it"},
		"into another chain": {full, func(t *testing.T) Target { return Engine(inMemory(t, 1), "new") },
			"has audit entries that old does not have"},
		"into a store that was closed": {full, func(t *testing.T) Target {
			m := memory()
			return Engine(m, "new"+closed(t, m, "its state was moved to x by keyd store copy"))
		}, "new takes no changes any more: its state was moved to x"},
		"of a store that was moved elsewhere": {func(t *testing.T) Target {
			m := inMemory(t, 1)
			return Engine(m, "old"+closed(t, m, "its state was moved to x by keyd store copy"))
		}, nil, "Copy from there"},
		"while a daemon leads": {func(t *testing.T) Target {
			m := inMemory(t, 1)
			must[stored.Lease](t)(m.Take(t.Context(), "hq-b", [16]byte{1}, time.Hour))
			return Engine(m, "old")
		}, nil, "run systemctl stop keyd on every host first"},
		"of a damaged store": {func(t *testing.T) Target {
			m := inMemory(t, 1)
			m.Damage(func(records map[string][]byte, _ []chain.Linked) {
				records["k0"] = append(records["k0"], ' ')
			})
			return Engine(m, "old")
		}, nil, "does not match its checksum"},
	} {
		t.Run(name, func(t *testing.T) {
			to := Engine(memory(), "new")
			if c.to != nil {
				to = c.to(t)
			}
			from := c.from(t)
			before := must[string](t)(from.Sealed(t.Context()))
			_, err := Copy(t.Context(), from, to, order)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if after := must[string](t)(from.Sealed(t.Context())); after != before {
				t.Errorf("the old store was closed: %s", after)
			}
		})
	}
}

func closed(t *testing.T, m *storetest.Memory, why string) string {
	t.Helper()
	if err := m.Seal(t.Context(), why); err != nil {
		t.Fatal(err)
	}
	return ""
}

func TestAStateInUseIsNotReplaced(t *testing.T) {
	dir := dirOf(t, 1)
	if _, err := NewFile(dir); err == nil || !strings.Contains(err.Error(), "a state in use") {
		t.Errorf("%v", err)
	}
}

func TestAnEngineIsBackedUpAsAStateFile(t *testing.T) {
	m := inMemory(t, 3)
	path := filepath.Join(t.TempDir(), "backup.db")
	if err := Backup(t.Context(), Engine(m, "memory"), path); err != nil {
		t.Fatal(err)
	}
	s := must[*bolt.Store](t)(bolt.OpenReadOnly(path))
	defer s.Close()
	if r := must[chain.Report](t)(s.Verify(t.Context())); !r.Consistent() || r.Records != 3 {
		t.Errorf("the backup is %s", r)
	}
	if rec := must[record.Record](t)(s.Load(t.Context(), "k1")); rec.Revision == 0 {
		t.Error("it has no record")
	}
	if err := Backup(t.Context(), Engine(m, "memory"), path); !errors.Is(err, os.ErrExist) {
		t.Errorf("a file was replaced: %v", err)
	}
	if why := must[string](t)(m.Sealed(t.Context())); why != "" {
		t.Errorf("a backup closed the store: %s", why)
	}
}

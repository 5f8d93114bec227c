package vault_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/term"
	"github.com/keyd-project/keyd/internal/vault"
)

// lateAt is the context of an effect whose process stands still for an hour before the clocks are read the nth time.
func lateAt(ctx context.Context, n int) context.Context {
	now, asked := term.Instant{Wall: time.Now(), Boot: time.Hour}, 0
	return term.WithEffect(ctx, term.Effect{What: "the change", Saved: now, Deadline: now.Add(time.Minute),
		Clock: func() term.Instant {
			if asked++; asked == n {
				now = now.Add(time.Hour)
			}
			return now
		}})
}

// The clocks are read before a change is sent, before its first byte is written, and before its last one.
func TestAChangeNeverReachesTheVaultWholeAfterItsDeadline(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(context.Context, *vault.Client, key.ImportRequest, string) error{
		"import": func(ctx context.Context, c *vault.Client, r key.ImportRequest, _ string) error {
			_, err := c.Import(ctx, r)
			return err
		},
		"create a key exchange key": func(ctx context.Context, c *vault.Client, _ key.ImportRequest, _ string) error {
			kek, _, err := c.KEK(ctx, "")
			if err == nil {
				_, err = c.CreateKEK(ctx, kek.Version(), nil)
			}
			return err
		},
		"disable": func(ctx context.Context, c *vault.Client, _ key.ImportRequest, version string) error {
			return c.Disable(ctx, keyName, version)
		},
		"enable": func(ctx context.Context, c *vault.Client, _ key.ImportRequest, version string) error {
			return c.Enable(ctx, keyName, version)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, profiles()[0], emulator.Options{})
			c, kek := b.ready(t)
			v := mustImport(t, c, kek)
			before := b.changes()
			for n := 1; n <= 3; n++ {
				err := change(lateAt(t.Context(), n), c, request(t, kek, material()), v.ID)
				wantClass(t, err, key.Retry, "the change: its deadline was over")
			}
			if n := b.changes() - before; n > 0 {
				t.Errorf("%d changes reached the vault", n)
			}
			if err := change(lateAt(t.Context(), 4), c, request(t, kek, material()), v.ID); err != nil {
				t.Errorf("in time: %v", err)
			}
			if n := b.changes() - before; n != 1 {
				t.Errorf("%d changes reached the vault in time, want 1", n)
			}
		})
	}
}

// changes counts the changes that the vault carried out.
func (b *bench) changes() (n int) {
	for _, r := range b.Requests() {
		switch r.Operation {
		case "import", "create", "update":
			if r.Status == http.StatusOK {
				n++
			}
		}
	}
	return n
}

func TestAQuestionHasNoDeadline(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	c, _ := b.ready(t)
	if _, err := c.Versions(lateAt(t.Context(), 1), keyName); err != nil {
		t.Error(err)
	}
}

// A change whose answer was lost may have happened. That the next try comes too late does not alter it.
func TestALateTryLeavesAnEarlierOneAmbiguous(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	c, kek := b.ready(t)
	v := mustImport(t, c, kek)
	b.Fail(emulator.Rule{Operation: "update", Drop: emulator.DropAfterCommit, Count: 1})
	wantClass(t, c.Disable(lateAt(t.Context(), 4), keyName, v.ID), key.Ambiguous)
}

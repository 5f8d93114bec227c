package vault_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// named makes keys in the emulator, through Microsoft's own client.
func (b *bench) named(t *testing.T, n int) {
	t.Helper()
	c, err := azkeys.NewClient(b.vault.URL, b.cred, &azkeys.ClientOptions{
		ClientOptions: azcore.ClientOptions{Transport: vault.HTTPClient(b.Transport())},
	})
	for i := 0; err == nil && i < n; i++ {
		_, err = c.CreateKey(t.Context(), fmt.Sprintf("key-%02d", i),
			azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM)}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// lists counts the answered requests for a page of the list of keys.
func (b *bench) lists() (n int) {
	for _, r := range b.Requests() {
		if r.Operation == "list" && r.Status == http.StatusOK {
			n++
		}
	}
	return n
}

func TestASweepTellsOfEveryKeyAtAFractionOfACallEach(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c, kek := b.ready(t)
		v := mustImport(t, c, kek)
		b.named(t, 58)
		items, err := c.Sweep(t.Context(), 60)
		if err != nil || len(items) != 60 { // with the key exchange key
			t.Fatalf("%d items, %v", len(items), err)
		}
		i := slices.IndexFunc(items, func(x key.Item) bool { return x.Name == keyName })
		if i < 0 || !items[i].Same(key.ItemOf(v)) {
			t.Errorf("the imported version is %+v, and the list shows %+v", key.ItemOf(v), items[max(i, 0)])
		}
		if n := b.lists(); n > 7 {
			t.Errorf("60 keys took %d pages", n)
		}
	})
}

func TestASweepGivesUpAListThatIsTooLong(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		b.named(t, 60)
		if _, err := b.client(t).Sweep(t.Context(), 2); !errors.Is(err, key.ErrTooManyPages) {
			t.Errorf("it answers %v", err)
		}
		if n := b.lists(); n != 2 {
			t.Errorf("it asked for %d pages", n)
		}
	})
}

func TestASweepIsRefusedWhereRolesAreOnSingleKeys(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	b.Fail(emulator.Rule{Operation: "list", Status: http.StatusForbidden, Code: "Forbidden", Inner: "ForbiddenByRbac"})
	_, err := b.client(t).Sweep(t.Context(), 10)
	wantClass(t, err, key.Refused, "list the vault's keys")
}

// What the list shows is not promised: keyd takes what there is.
func TestASweepTakesAListAsItIs(t *testing.T) {
	t.Parallel()
	for _, kind := range []emulator.KeyList{emulator.OldestListed, emulator.BareListed, emulator.ShuffledListed,
		emulator.GappyListed} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, profiles()[0], emulator.Options{KeyList: kind})
			c, kek := b.ready(t)
			first, second := mustImport(t, c, kek), mustImport(t, c, kek)
			b.named(t, 30)
			items, err := c.Sweep(t.Context(), 40)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(items, func(x key.Item) bool { return x.Name == keyName })
			switch kind {
			case emulator.OldestListed:
				if !items[i].Same(key.ItemOf(first)) {
					t.Errorf("%+v, want %+v", items[i], key.ItemOf(first))
				}
			case emulator.BareListed:
				if !items[i].Same(key.Item{}) {
					t.Errorf("%+v", items[i])
				}
			case emulator.ShuffledListed:
				if !items[i].Same(key.ItemOf(second)) || len(items) != 32 ||
					slices.IsSortedFunc(items, func(a, b key.Item) int { return strings.Compare(a.Name, b.Name) }) {
					t.Errorf("%d items, %+v", len(items), items[i])
				}
			case emulator.GappyListed:
				if len(items) >= 32 {
					t.Errorf("%d items: none is missing", len(items))
				}
			}
		})
	}
}

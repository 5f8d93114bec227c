package vault_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

func TestTheKEKIsMadeOnceWhenAbsent(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c := b.client(t, func(cfg *vault.Config) { cfg.KEKBits = 0 })
		if _, present, err := c.KEK(t.Context(), ""); present || err != nil {
			t.Fatalf("present %t, %v", present, err)
		}
		first, err := c.CreateKEK(t.Context(), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if first.Material.Spec().Bits() != vault.DefaultKEKBits || first.Vault != b.vault.URL ||
			!strings.HasPrefix(first.Kid, b.vault.URL+"/keys/"+kekName+"/") {
			t.Errorf("made %+v", first)
		}
		inside := b.inside.Versions(kekName)
		if len(inside) != 1 || inside[0].Kty != "RSA-HSM" || len(inside[0].KeyOps) != 1 ||
			inside[0].KeyOps[0] != "import" {
			t.Errorf("the vault holds %+v", inside)
		}
		_, err = c.CreateKEK(t.Context(), "", nil)
		wantClass(t, err, key.Refused, "the newest version is", first.Version())
		if n := len(b.inside.Versions(kekName)); n != 1 {
			t.Errorf("%d versions of the KEK", n)
		}
	})
}

func TestANewVersionOfTheKEKIsMadeAfterTheNewestAndTheOldOneDisabled(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c, old := b.ready(t)
		tags := map[string]string{key.TagAttempt: "a1"}
		next, err := c.CreateKEK(t.Context(), old.Version(), tags)
		if err != nil || next.Version() == old.Version() || next.Material == old.Material {
			t.Fatalf("made %+v, %v", next, err)
		}
		listed, err := c.KEKVersions(t.Context())
		if err != nil || len(listed) != 2 || !slices.ContainsFunc(listed, func(v key.Version) bool {
			return v.ID == next.Version() && v.Tags[key.TagAttempt] == "a1"
		}) {
			t.Errorf("listed %+v, %v", listed, err)
		}
		for _, kek := range []key.KEK{old, next} {
			got, present, err := c.KEK(t.Context(), kek.Version())
			if err != nil || !present || got.Kid != kek.Kid || got.Material != kek.Material {
				t.Errorf("%s: got %+v, %v", kek.Kid, got, err)
			}
		}
		if err := c.DisableKEK(t.Context(), old.Version()); err != nil {
			t.Fatal(err)
		}
		got, _, err := c.KEK(t.Context(), old.Version())
		wantClass(t, err, key.Refused, "disabled")
		if got.Kid != old.Kid {
			t.Errorf("a KEK that cannot be used is called %q", got.Kid)
		}
		if _, _, err := c.KEK(t.Context(), next.Version()); err != nil {
			t.Error(err)
		}
	})
}

func TestTheNewestVersionOfTheKEKCounts(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c, old := b.ready(t)
		id, err := b.inside.ReplaceKEK(kekName)
		if err != nil {
			t.Fatal(err)
		}
		got, present, err := c.KEK(t.Context(), "")
		if err != nil || !present || !strings.HasSuffix(got.Kid, "/"+id) || got.Material == old.Material {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestAnAbsentKEKIsNotMadeWithoutPermission(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c := b.client(t, func(cfg *vault.Config) { cfg.CreateKEK = false })
		_, err := c.CreateKEK(t.Context(), "", nil)
		wantClass(t, err, key.Refused, "kek.create is false", "az keyvault key create", "--ops import")
		if keys := b.inside.Keys(); len(keys) != 0 {
			t.Errorf("the vault has %v", keys)
		}
	})
}

func TestAKEKThatCannotBeTrustedIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil  func(*emulator.Vault) error
		change func(*vault.Config)
		want   string
	}{
		"another operation": {func(v *emulator.Vault) error {
			return v.SetKeyOps(kekName, "", "import",
				"unwrapKey")
		}, nil, "must have import and no other"},
		"no operation": {func(v *emulator.Vault) error { return v.SetKeyOps(kekName, "") }, nil,
			"must have import and no other"},
		"disabled": {func(v *emulator.Vault) error { return v.SetEnabled(kekName, "", false) }, nil,
			"disabled"},
		"expired": {func(v *emulator.Vault) error {
			return v.SetValidity(kekName, "", time.Time{}, time.Now().Add(-time.Hour))
		}, nil, "expired"},
		"too small": {func(*emulator.Vault) error { return nil }, func(cfg *vault.Config) { cfg.KEKBits = 4096 },
			"it has 2048 bits, the configuration asks for 4096"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, profiles()[0], emulator.Options{})
			b.ready(t)
			if err := c.spoil(b.inside); err != nil {
				t.Fatal(err)
			}
			client := b.client(t)
			if c.change != nil {
				client = b.client(t, c.change)
			}
			_, _, err := client.KEK(t.Context(), "")
			wantClass(t, err, key.Refused, "contoso-weu", kekName, c.want)
		})
	}
}

func TestAKEKOfAnotherTypeIsRefused(t *testing.T) {
	t.Parallel()
	c := says(bundle(t, func(b map[string]any) { b["key"].(map[string]any)["kty"] = "RSA" })).client(t)
	_, _, err := c.KEK(t.Context(), "")
	wantClass(t, err, key.Refused, "it is of type RSA, a KEK must be RSA-HSM")
}

func TestADeletedKEKIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c, _ := b.ready(t)
		if err := b.inside.DeleteKey(kekName); err != nil {
			t.Fatal(err)
		}
		_, err := c.CreateKEK(t.Context(), "", nil)
		wantClass(t, err, key.Refused, "soft-deleted", "az keyvault key recover", kekName)
	})
}

func TestALostAnswerToMakingTheKEKMakesNoSecond(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	c := b.client(t)
	b.Fail(emulator.Rule{Operation: "create", Count: 1, Drop: emulator.DropAfterCommit})
	_, err := c.CreateKEK(t.Context(), "", nil)
	wantClass(t, err, key.Ambiguous, "create key exchange key")
	if _, _, err := c.KEK(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if n := len(b.inside.Versions(kekName)); n != 1 {
		t.Errorf("%d versions of the KEK", n)
	}
}

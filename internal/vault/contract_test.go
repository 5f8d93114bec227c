package vault_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

func TestAnImportedKeyIsTheOneThatWasWrapped(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c, kek := b.ready(t)
		r := request(t, kek, material())
		v, err := c.Import(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if v.Material != shown() || !v.Enabled || v.Kty != "RSA-HSM" || !maps.Equal(v.Tags, r.Tags) {
			t.Errorf("imported as %+v", v)
		}
		if inside := b.inside.Versions(keyName); len(inside) != 1 || inside[0].ID != v.ID ||
			inside[0].N.Cmp(material().N) != 0 {
			t.Errorf("the vault holds %+v", inside)
		}
		for name, get := range map[string]func() (key.Version, error){
			"newest":     func() (key.Version, error) { return c.Newest(t.Context(), keyName) },
			"by version": func() (key.Version, error) { return c.Get(t.Context(), keyName, v.ID) },
		} {
			got, err := get()
			if err != nil || got.ID != v.ID || !got.Created.Equal(v.Created) || got.Material != v.Material {
				t.Errorf("%s: got %+v, %v", name, got, err)
			}
			if slices.Sort(got.Operations); !slices.Equal(
				got.Operations, []key.Operation{key.UnwrapKey, key.WrapKey},
			) {
				t.Errorf("%s: operations %v", name, got.Operations)
			}
		}
	})
}

func TestWrapAndUnwrapAreRSAOAEP256(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c, kek := b.ready(t)
		v := mustImport(t, c, kek)
		secret := []byte("a secret of the proof")

		cipher, err := c.Wrap(t.Context(), keyName, v.ID, secret)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := rsa.DecryptOAEP(sha256.New(), nil, material(), cipher, nil); err != nil ||
			!bytes.Equal(plain, secret) {
			t.Errorf("what the vault wrapped opens as %q, %v", plain, err)
		}
		cipher, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, &material().PublicKey, secret, nil)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := c.Unwrap(t.Context(), keyName, v.ID, cipher); err != nil || !bytes.Equal(plain, secret) {
			t.Errorf("the vault unwraps %q, %v", plain, err)
		}
		_, err = c.Decrypt(t.Context(), keyName, v.ID, cipher)
		wantClass(t, err, key.Refused, "decrypt with key "+keyName)
	})
}

func TestAnImportCarriesItsExpiryDateAndReadsItBack(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c, kek := b.ready(t)
		r := request(t, kek, material())
		r.Expires = time.Now().Add(90 * 24 * time.Hour).UTC().Truncate(time.Second)
		v, err := c.Import(t.Context(), r)
		if err != nil || !v.Expires.Equal(r.Expires) {
			t.Fatalf("%v, %v, want %v", v.Expires, err, r.Expires)
		}
		listed, err := c.Versions(t.Context(), keyName)
		if err != nil || len(listed) != 1 || !listed[0].Expires.Equal(r.Expires) {
			t.Errorf("listed %+v, %v", listed, err)
		}
		// An expired version still unwraps, but no longer wraps.
		if err := b.inside.SetValidity(keyName, v.ID, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		_, err = c.Wrap(t.Context(), keyName, v.ID, []byte("secret"))
		if key.ReasonOf(err) != key.KeyExpired {
			t.Errorf("wrapping with an expired version: %v", err)
		}
		cipher, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &material().PublicKey, []byte("secret"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Unwrap(t.Context(), keyName, v.ID, cipher); err != nil {
			t.Error(err)
		}
	})
}

func TestAVersionThatIsNotValidYetIsReportedWithARemedy(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c, kek := b.ready(t)
		v := mustImport(t, c, kek)
		if !v.NotBefore.IsZero() {
			t.Errorf("an import of keyd's is valid from %v on", v.NotBefore)
		}
		from := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
		if err := b.inside.SetValidity(keyName, v.ID, from, time.Time{}); err != nil {
			t.Fatal(err)
		}
		listed, err := c.Versions(t.Context(), keyName)
		if err != nil || len(listed) != 1 || !listed[0].NotBefore.Equal(from) {
			t.Errorf("listed %+v, %v, want it valid from %v on", listed, err, from)
		}
		_, err = c.Wrap(t.Context(), keyName, v.ID, []byte("secret"))
		wantClass(
			t, err, key.Refused, "KeyNotYetValid", "still unwraps",
			"--version "+v.ID+" --not-before 2020-01-01T00:00:00Z",
		)
		if strings.Contains(err.Error(), "role") {
			t.Errorf("a role is no remedy: %v", err)
		}
	})
}

func TestKeysWithOtherOperationsUseThose(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c, kek := b.ready(t)
		r := request(t, kek, material())
		r.Operations = []key.Operation{key.Encrypt, key.Decrypt, key.Sign, key.Verify}
		v, err := c.Import(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		secret := []byte("secret")
		cipher, err := c.Encrypt(t.Context(), keyName, v.ID, secret)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := c.Decrypt(t.Context(), keyName, v.ID, cipher); err != nil || !bytes.Equal(plain, secret) {
			t.Errorf("decrypted %q, %v", plain, err)
		}
		digest := sha256.Sum256(secret)
		signature, err := c.Sign(t.Context(), keyName, v.ID, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		if err := rsa.VerifyPKCS1v15(&material().PublicKey, crypto.SHA256, digest[:], signature); err != nil {
			t.Error(err)
		}
		if valid, err := c.Verify(t.Context(), keyName, v.ID, digest[:], signature); err != nil || !valid {
			t.Errorf("verified %t, %v", valid, err)
		}
		signature[0] ^= 1
		if valid, err := c.Verify(t.Context(), keyName, v.ID, digest[:], signature); err != nil || valid {
			t.Errorf("a spoilt signature verified %t, %v", valid, err)
		}
	})
}

// addEC makes the first version as an EC key, which is faster to make than RSA; all later versions are EC too.
func (b *bench) addEC(t *testing.T) (version string) {
	t.Helper()
	c, err := azkeys.NewClient(b.vault.URL, b.cred, &azkeys.ClientOptions{
		ClientOptions: policy.ClientOptions{Transport: vault.HTTPClient(b.Transport())},
	})
	if err != nil {
		t.Fatal(err)
	}
	ecHSM := azkeys.KeyTypeECHSM
	made, err := c.CreateKey(t.Context(), keyName, azkeys.CreateKeyParameters{Kty: &ecHSM}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made.Key.KID.Version()
}

func TestAListingIsCompleteAndInOrderOfTime(t *testing.T) {
	t.Parallel()
	for _, v := range profiles() {
		t.Run(string(v.Kind), func(t *testing.T) {
			t.Parallel()
			clock := newClock()
			b := newBench(t, v, emulator.Options{Now: clock.Now})
			c := b.client(t)
			made := []string{b.addEC(t)}
			for i := range 56 { // three pages of a vault, six of a Managed HSM
				if i%2 == 0 { // and two versions in each second
					clock.advance(time.Second)
				}
				id, err := b.inside.AddForeignVersion(keyName)
				if err != nil {
					t.Fatal(err)
				}
				made = append(made, id)
			}
			got, err := c.Versions(t.Context(), keyName)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(made) {
				t.Fatalf("%d versions, want %d", len(got), len(made))
			}
			for i, v := range got {
				if !slices.Contains(made, v.ID) {
					t.Errorf("version %s was never made", v.ID)
				}
				if i > 0 &&
					(v.Created.Before(got[i-1].Created) || v.Created.Equal(got[i-1].Created) && v.ID < got[i-1].ID) {
					t.Errorf("version %d is out of order", i)
				}
			}
		})
	}
}

func TestAVaultWithoutTheKey(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c := b.client(t)
		if got, err := c.Versions(t.Context(), "unknown"); err != nil || len(got) != 0 {
			t.Errorf("listed %v, %v", got, err)
		}
		if deleted, err := c.Deleted(t.Context(), "unknown"); err != nil || deleted {
			t.Errorf("deleted %t, %v", deleted, err)
		}
		_, err := c.Newest(t.Context(), "unknown")
		wantClass(t, err, key.Refused, "get newest version of key unknown", b.vault.Name)
		if !vault.IsNotFound(err) {
			t.Errorf("IsNotFound is false for %v", err)
		}
	})
}

func TestADisabledVersionIsListedAndDoesNotUnwrap(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c, kek := b.ready(t)
		v := mustImport(t, c, kek)
		cipher, err := c.Wrap(t.Context(), keyName, v.ID, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Disable(t.Context(), keyName, v.ID); err != nil {
			t.Fatal(err)
		}
		got, err := c.Versions(t.Context(), keyName)
		if err != nil || len(got) != 1 || got[0].Enabled || len(got[0].Tags) != 1 {
			t.Errorf("listed %+v, %v", got, err)
		}
		_, err = c.Unwrap(t.Context(), keyName, v.ID, cipher)
		wantClass(t, err, key.Refused, "KeyDisabled", "az keyvault key set-attributes", v.ID)
		if err := c.Enable(t.Context(), keyName, v.ID); err != nil {
			t.Fatal(err)
		}
		if opened, err := c.Unwrap(t.Context(), keyName, v.ID, cipher); err != nil || string(opened) != "x" {
			t.Errorf("enabled again, it unwraps %q, %v", opened, err)
		}
	})
}

func TestADeletedKeyIsRecognisedAndComesBack(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c, kek := b.ready(t)
		v := mustImport(t, c, kek)
		if err := b.inside.DeleteKey(keyName); err != nil {
			t.Fatal(err)
		}
		if deleted, err := c.Deleted(t.Context(), keyName); err != nil || !deleted {
			t.Errorf("deleted %t, %v", deleted, err)
		}
		if got, err := c.Versions(t.Context(), keyName); err != nil || len(got) != 0 {
			t.Errorf("listed %v, %v", got, err)
		}
		_, err := c.Import(t.Context(), request(t, kek, material()))
		wantClass(
			t, err, key.Refused, "ObjectIsDeletedButRecoverable", "az keyvault key recover --", "--name "+keyName,
		)
		if err := c.Recover(t.Context(), keyName); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Versions(t.Context(), keyName); err != nil || len(got) != 1 || got[0].ID != v.ID {
			t.Errorf("listed %+v, %v", got, err)
		}
	})
}

func TestPurgeProtectionIsReadFromTheKey(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c, kek := b.ready(t)
		mustImport(t, c, kek)
		got, err := c.PurgeProtected(t.Context(), keyName)
		if want := b.vault.Kind == key.ManagedHSM; err != nil || got != want {
			t.Errorf("got %t, %v; want %t", got, err, want)
		}
	})
}

func TestOperationsOnMaterialAlwaysNameTheirVersion(t *testing.T) {
	t.Parallel()
	c := says(`{}`).client(t)
	for name, err := range map[string]error{
		"get":     second(c.Get(t.Context(), keyName, "")),
		"wrap":    second(c.Wrap(t.Context(), keyName, "", []byte("x"))),
		"unwrap":  second(c.Unwrap(t.Context(), keyName, "", []byte("x"))),
		"encrypt": second(c.Encrypt(t.Context(), keyName, "", []byte("x"))),
		"decrypt": second(c.Decrypt(t.Context(), keyName, "", []byte("x"))),
		"sign":    second(c.Sign(t.Context(), keyName, "", []byte("x"))),
		"verify":  second(c.Verify(t.Context(), keyName, "", nil, nil)),
		"disable": c.Disable(t.Context(), keyName, ""),
		"enable":  c.Enable(t.Context(), keyName, ""),
	} {
		t.Run(name, func(t *testing.T) { wantClass(t, err, key.Refused, "names no version") })
	}
}

func TestClockSkewFollowsTheDateHeader(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	c := b.client(t)
	if _, known := c.ClockSkew(); known {
		t.Error("known before the first answer")
	}
	b.Fail(emulator.Rule{SkewDate: 10 * time.Minute})
	if _, err := c.Versions(t.Context(), keyName); err != nil {
		t.Fatal(err)
	}
	skew, known := c.ClockSkew()
	if !known || (skew-10*time.Minute).Abs() > 10*time.Second {
		t.Errorf("skew %s, known %t", skew, known)
	}
}

// Recordings of a Managed HSM have no Date header. Then keyd does not know the vault's clock, and says so.
func TestTheClockOfAManagedHSMWithoutDateIsUnknown(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[1], emulator.Options{HSMWithoutDate: true})
	c, kek := b.ready(t)
	mustImport(t, c, kek)
	if v, err := c.Versions(t.Context(), keyName); err != nil || len(v) != 1 {
		t.Errorf("%v, %v", v, err)
	}
	if skew, known := c.ClockSkew(); known {
		t.Errorf("its clock is known to be off by %s", skew)
	}
}

func second[T any](_ T, err error) error { return err }

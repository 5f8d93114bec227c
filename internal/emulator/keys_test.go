package emulator_test

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
)

func parameters(alg azkeys.EncryptionAlgorithm, value []byte) azkeys.KeyOperationParameters {
	return azkeys.KeyOperationParameters{Algorithm: &alg, Value: value}
}

func createSoftware(t *testing.T, c *azkeys.Client, name string) azkeys.KeyBundle {
	t.Helper()
	res, err := c.CreateKey(t.Context(), name, azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeRSA)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res.KeyBundle
}

// A foreign version is the quick way to an RSA-HSM key.
func foreign(t *testing.T, e *emulator.Emulator, host, name string) string {
	t.Helper()
	id, err := e.Vault(host).AddForeignVersion(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func listVersions(t *testing.T, c *azkeys.Client, name string) (ids []string, pages int) {
	t.Helper()
	for pager := c.NewListKeyPropertiesVersionsPager(name, nil); pager.More(); pages++ {
		page, err := pager.NextPage(t.Context())
		must(t, err)
		for _, item := range page.Value {
			ids = append(ids, item.KID.Version())
		}
	}
	return ids, pages
}

func TestEachProfileHoldsItsOwnKeyTypes(t *testing.T) {
	e := start(t, emulator.Options{})
	for _, test := range []struct {
		host string
		kty  azkeys.KeyType
		fits bool
	}{
		{premium, azkeys.KeyTypeRSA, true}, {premium, azkeys.KeyTypeRSAHSM, true},
		{standard, azkeys.KeyTypeRSA, true}, {standard, azkeys.KeyTypeRSAHSM, false},
		{managedHSM, azkeys.KeyTypeRSA, true}, {managedHSM, azkeys.KeyTypeRSAHSM, true},
		{premium, azkeys.KeyTypeEC, true}, {premium, azkeys.KeyTypeECHSM, true}, {premium, azkeys.KeyTypeOctHSM, false},
		{standard, azkeys.KeyTypeEC, true}, {standard, azkeys.KeyTypeECHSM, false},
		{standard, azkeys.KeyTypeOctHSM, false},
		{managedHSM, azkeys.KeyTypeEC, true}, {managedHSM, azkeys.KeyTypeECHSM, true},
		{managedHSM, azkeys.KeyTypeOctHSM, true},
		{premium, azkeys.KeyTypeOct, false}, {managedHSM, azkeys.KeyTypeOct, true},
	} {
		_, err := newClient(t, e, test.host).CreateKey(t.Context(), "k", azkeys.CreateKeyParameters{Kty: &test.kty},
			nil)
		if test.fits && err != nil {
			t.Errorf("%s %s: %v", test.host, test.kty, err)
		}
		if !test.fits {
			wantError(t, err, 400, "BadParameter", "")
		}
	}
}

func TestASoftwareKeyIsImportedInPlainToAKeyVault(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, standard)
	key := generate(t)
	jwk := plainRSA(key)
	jwk.Kty = ptr(azkeys.KeyTypeRSA)
	res, err := c.ImportKey(t.Context(), "soft", azkeys.ImportKeyParameters{Key: &jwk}, nil)
	must(t, err)
	if res.Key.D != nil || publicKey(res.KeyBundle).N.Cmp(key.N) != 0 {
		t.Errorf("answer: %+v", res.Key)
	}
}

func TestAPutOnAnExistingNameMakesTheNewestVersion(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	kek := createKEK(t, c)
	_, one := importNew(t, c, kek, "k")
	_, two := importNew(t, c, kek, "K") // names are case-insensitive
	got, err := c.GetKey(t.Context(), "k", "", nil)
	must(t, err)
	if got.Key.KID.Version() != two.Key.KID.Version() {
		t.Error("versionless GET does not give the newest")
	}
	got, err = c.GetKey(t.Context(), "k", one.Key.KID.Version(), nil)
	must(t, err)
	if got.Key.KID.Version() != one.Key.KID.Version() {
		t.Error("GET with a version gives another")
	}
}

func TestListsArePagedAsInEachProfile(t *testing.T) {
	e := start(t, emulator.Options{})
	for _, host := range []string{premium, managedHSM} {
		c := newClient(t, e, host)
		kek := createKEK(t, c)
		b := newTransfer(t, kek, generate(t))
		for range 30 {
			_, err := c.ImportKey(t.Context(), "k", importParameters(b.blob(t)), nil)
			must(t, err)
		}
		var created []string
		for _, v := range e.Vault(host).Versions("k") {
			created = append(created, v.ID)
		}
		ids, pages := listVersions(t, c, "k")
		want, wantPages := created, 3
		if host == premium {
			want, wantPages = slices.Sorted(slices.Values(created)), 3
		}
		if !slices.Equal(ids, want) || pages != wantPages {
			t.Errorf("%s: %d ids in %d pages, want %d in %d, in the profile's order",
				host, len(ids), pages, len(want), wantPages)
		}
	}
}

func TestTheLastPageEndsAsEachProfileDoes(t *testing.T) {
	e := start(t, emulator.Options{})
	for host, ending := range map[string]string{premium: `{"value":[],"nextLink":null}`, managedHSM: `{"value":[]}`} {
		audience := "https://" + host[strings.Index(host, ".")+1:]
		header := http.Header{"Authorization": {"Bearer " + token(t, managedIdentity(t, e), audience)}}
		if res, body := do(t, e, "GET", "https://"+host+"/keys/absent/versions?api%2Dversion=7.6", header,
			""); res.StatusCode != 200 || body != ending {
			t.Errorf("%s: %d %s", host, res.StatusCode, body)
		}
	}
}

func TestOnlyKnownAPIVersionsAreServed(t *testing.T) {
	e := start(t, emulator.Options{})
	header := http.Header{"Authorization": {"Bearer " + token(t, managedIdentity(t, e), "https://vault.azure.net")}}
	for query, want := range map[string]int{
		"": 400, "?api-version=7.2": 400, "?api-version=7.3": 200, "?api-version=7.4": 200, "?api-version=7.5": 200,
		"?api-version=7.6": 200, "?api-version=2025-07-01": 200,
	} {
		if res, _ := do(t, e, "GET", "https://"+premium+"/keys"+query, header, ""); res.StatusCode != want {
			t.Errorf("%q: %d, want %d", query, res.StatusCode, want)
		}
	}
}

func TestADisabledNewestVersionBreaksVersionlessUse(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	old := foreign(t, e, premium, "k")
	newest := foreign(t, e, premium, "k")
	_, err := c.UpdateKey(t.Context(), "k", newest,
		azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: ptr(false)}}, nil)
	must(t, err)
	_, err = c.WrapKey(t.Context(), "k", "", parameters(azkeys.EncryptionAlgorithmRSAOAEP256, []byte("x")), nil)
	wantError(t, err, 403, "Forbidden", "KeyDisabled")
	if _, err = c.WrapKey(t.Context(), "k", old, parameters(azkeys.EncryptionAlgorithmRSAOAEP256, []byte("x")),
		nil); err != nil {
		t.Errorf("the older version: %v", err)
	}
}

func TestDatesBlockWrappingButNeverUnwrapping(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	foreign(t, e, premium, "k")
	wrapped, err := c.WrapKey(t.Context(), "k", "", parameters(azkeys.EncryptionAlgorithmRSAOAEP256, []byte("x")), nil)
	must(t, err)
	hour := time.Hour
	for inner, bounds := range map[string][2]time.Time{
		"KeyExpired":     {{}, time.Now().Add(-hour)},
		"KeyNotYetValid": {time.Now().Add(hour), {}},
	} {
		must(t, e.Vault(premium).SetValidity("k", "", bounds[0], bounds[1]))
		_, err = c.WrapKey(t.Context(), "k", "", parameters(azkeys.EncryptionAlgorithmRSAOAEP256, []byte("x")), nil)
		wantError(t, err, 403, "Forbidden", inner)
		_, err := c.UnwrapKey(t.Context(), "k", "", parameters(azkeys.EncryptionAlgorithmRSAOAEP256, wrapped.Result),
			nil)
		if err != nil {
			t.Errorf("%s: %v", inner, err)
		}
	}
}

func TestEachAlgorithmUndoesItself(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	createSoftware(t, c, "k")
	for _, alg := range []azkeys.EncryptionAlgorithm{azkeys.EncryptionAlgorithmRSAOAEP,
		azkeys.EncryptionAlgorithmRSAOAEP256, azkeys.EncryptionAlgorithmRSA15} {
		enc, err := c.Encrypt(t.Context(), "k", "", parameters(alg, []byte("secret")), nil)
		must(t, err)
		dec, err := c.Decrypt(t.Context(), "k", "", parameters(alg, enc.Result), nil)
		must(t, err)
		if !bytes.Equal(dec.Result, []byte("secret")) {
			t.Errorf("%s: %q", alg, dec.Result)
		}
	}
	digest := sha256.Sum256([]byte("message"))
	for _, alg := range []azkeys.SignatureAlgorithm{azkeys.SignatureAlgorithmRS256, azkeys.SignatureAlgorithmPS256} {
		sig, err := c.Sign(t.Context(), "k", "", azkeys.SignParameters{Algorithm: &alg, Value: digest[:]}, nil)
		must(t, err)
		for _, good := range []bool{true, false} {
			if !good {
				sig.Result[9] ^= 1
			}
			res, err := c.Verify(t.Context(), "k", "",
				azkeys.VerifyParameters{Algorithm: &alg, Digest: digest[:], Signature: sig.Result}, nil)
			must(t, err)
			if *res.Value != good {
				t.Errorf("%s: verify says %v", alg, *res.Value)
			}
		}
	}
}

func TestAnUpdateReplacesWhatItNamesAndNothingElse(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	_, key := importNew(t, c, createKEK(t, c), "k")
	_, err := c.UpdateKey(t.Context(), "k", key.Key.KID.Version(),
		azkeys.UpdateKeyParameters{Tags: map[string]*string{"a": ptr("b")}}, nil)
	must(t, err)
	info := e.Vault(premium).Versions("k")[0]
	if len(info.Tags) != 1 || info.Tags["a"] != "b" || !info.Enabled || len(info.KeyOps) != 2 {
		t.Errorf("after: %+v", info)
	}
	tags := map[string]*string{}
	for _, name := range strings.Split("abcdefghijklmnop", "") {
		tags[name] = ptr("")
	}
	_, err = c.UpdateKey(t.Context(), "k", "", azkeys.UpdateKeyParameters{Tags: tags}, nil)
	wantError(t, err, 400, "BadParameter", "")
}

func TestADeletedNameIsTakenUntilRecoveredOrPurged(t *testing.T) {
	c := newClock()
	e := start(t, emulator.Options{Now: c.Now, DeletionDelay: 5 * time.Second})
	for _, host := range []string{premium, managedHSM} {
		client := newClient(t, e, host)
		id := foreign(t, e, host, "k")
		create := func() error {
			_, err := client.CreateKey(t.Context(), "k", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeRSAHSM)},
				nil)
			return err
		}
		_, err := client.DeleteKey(t.Context(), "k", nil)
		must(t, err)
		_, err = client.GetKey(t.Context(), "k", "", nil)
		wantError(t, err, 404, "KeyNotFound", "")
		if host == premium {
			wantError(t, create(), 409, "Conflict", "ObjectIsBeingDeleted")
			_, err = client.GetDeletedKey(t.Context(), "k", nil)
			wantError(t, err, 404, "KeyNotFound", "")
			c.advance(5 * time.Second)
		}
		wantError(t, create(), 409, "Conflict", "ObjectIsDeletedButRecoverable")
		_, err = client.GetDeletedKey(t.Context(), "k", nil)
		must(t, err)
		_, err = client.RecoverDeletedKey(t.Context(), "k", nil)
		must(t, err)
		if host == premium {
			_, err = client.GetKey(t.Context(), "k", "", nil)
			wantError(t, err, 404, "KeyNotFound", "")
			wantError(t, create(), 409, "Conflict", "ObjectIsBeingRecovered")
			c.advance(5 * time.Second)
		}
		if v := e.Vault(host).Versions("k"); len(v) != 1 || v[0].ID != id {
			t.Errorf("%s: recovered %+v", host, v)
		}
		must(t, e.Vault(host).DeleteKey("k"))
		_, err = client.PurgeDeletedKey(t.Context(), "k", nil)
		must(t, err)
		if err := create(); err != nil {
			t.Errorf("%s: after purge: %v", host, err)
		}
	}
}

func TestPurgeProtectionShowsAndHolds(t *testing.T) {
	e := start(t, emulator.Options{})
	for host, level := range map[string]string{premium: "Recoverable+Purgeable", protected: "Recoverable"} {
		foreign(t, e, host, "k")
		res, err := newClient(t, e, host).GetKey(t.Context(), "k", "", nil)
		must(t, err)
		if *res.Attributes.RecoveryLevel != level {
			t.Errorf("%s: %s", host, *res.Attributes.RecoveryLevel)
		}
	}
	must(t, e.Vault(protected).DeleteKey("k"))
	_, err := newClient(t, e, protected).PurgeDeletedKey(t.Context(), "k", nil)
	wantError(t, err, 403, "Forbidden", "")
}

func TestAManagedHSMKeyHasAtMostAHundredVersions(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, managedHSM)
	b := newTransfer(t, createKEK(t, c), generate(t))
	for range 100 {
		_, err := c.ImportKey(t.Context(), "k", importParameters(b.blob(t)), nil)
		must(t, err)
	}
	_, err := c.ImportKey(t.Context(), "k", importParameters(b.blob(t)), nil)
	wantError(t, err, 400, "BadParameter", "")
}

func TestReadsOfAReplicatedHSMLagBehindWrites(t *testing.T) {
	c := newClock()
	e := start(t, emulator.Options{Now: c.Now, ReplicationDelay: time.Minute})
	client := newClient(t, e, managedHSM)
	foreign(t, e, managedHSM, "k")
	_, err := client.GetKey(t.Context(), "k", "", nil)
	wantError(t, err, 404, "KeyNotFound", "")
	c.advance(time.Minute)
	_, err = client.GetKey(t.Context(), "k", "", nil)
	must(t, err)
	newest := foreign(t, e, managedHSM, "k")
	if ids, _ := listVersions(t, client, "k"); slices.Contains(ids, newest) {
		t.Error("the listing does not lag")
	}
}

func TestMeddledVersionsRefuteAProof(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	v := e.Vault(premium)
	id := foreign(t, e, premium, "k")
	before := v.Versions("k")[0].N
	wrapped, err := c.WrapKey(t.Context(), "k", id, parameters(azkeys.EncryptionAlgorithmRSAOAEP256, []byte("x")), nil)
	must(t, err)

	must(t, v.SwapModulus("k", id))
	if v.Versions("k")[0].N.Cmp(before) == 0 {
		t.Error("SwapModulus left the modulus")
	}
	must(t, v.GarbleUnwrap("k", id))
	res, err := c.UnwrapKey(t.Context(), "k", id, parameters(azkeys.EncryptionAlgorithmRSAOAEP256, wrapped.Result), nil)
	must(t, err)
	if string(res.Result) == "x" {
		t.Error("GarbleUnwrap left the plaintext")
	}
	shown := v.Versions("k")[0].N
	must(t, v.SwapMaterial("k", id))
	if v.Versions("k")[0].N.Cmp(shown) != 0 {
		t.Error("SwapMaterial changed the modulus")
	}
	_, err = c.UnwrapKey(t.Context(), "k", id, parameters(azkeys.EncryptionAlgorithmRSAOAEP256, wrapped.Result), nil)
	wantError(t, err, 400, "BadParameter", "")
}

func TestANativeRotationPolicyShows(t *testing.T) {
	e := start(t, emulator.Options{})
	foreign(t, e, premium, "k")
	must(t, e.Vault(premium).SetNativeRotation("k", true))
	res, err := newClient(t, e, premium).GetKeyRotationPolicy(t.Context(), "k", nil)
	must(t, err)
	if got := *res.LifetimeActions[0].Action.Type; got != azkeys.KeyRotationPolicyActionRotate {
		t.Errorf("action %s", got)
	}
}

func TestTheDateHeaderIsTheEmulatorsClock(t *testing.T) {
	c := newClock()
	c.advance(-72 * time.Hour)
	e := start(t, emulator.Options{Now: c.Now})
	res, _ := do(t, e, "GET", "https://"+premium+"/keys", nil, "")
	if got := res.Header.Get("Date"); got != c.Now().UTC().Format(http.TimeFormat) {
		t.Errorf("Date: %s", got)
	}
}

func TestADeletedKeyIsPurgedAtTheEndOfItsTime(t *testing.T) {
	clock := newClock()
	e := startVaults(t, emulator.Options{Now: clock.Now, TokenLifetime: 365 * 24 * time.Hour},
		emulator.VaultConfig{Host: premium, RecoverableDays: 7, PurgeProtection: true})
	c := newClient(t, e, premium)
	foreign(t, e, premium, "k")
	_, err := c.DeleteKey(t.Context(), "k", nil)
	must(t, err)
	clock.advance(7*24*time.Hour - time.Second)
	_, err = c.GetDeletedKey(t.Context(), "k", nil)
	must(t, err)
	clock.advance(time.Second)
	_, err = c.RecoverDeletedKey(t.Context(), "k", nil)
	wantError(t, err, 404, "KeyNotFound", "")
	foreign(t, e, premium, "k")
	if n := len(e.Vault(premium).Versions("k")); n != 1 {
		t.Errorf("the new key has %d versions", n)
	}
}

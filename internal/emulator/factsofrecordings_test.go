package emulator_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

const (
	notFoundInVault = "A key with (name/id) %s was not found in this key vault. If you recently deleted this key you " +
		"may be able to recover it using the correct recovery command. For help resolving this issue, please see " +
		"https://go.microsoft.com/fwlink/?linkid=2125182"
	someVersion = "0123456789abcdef0123456789abcdef"
)

// message returns the message without a Managed HSM's activity id.
func (r reply) message() string {
	text, _ := r.at("error", "message").(string)
	text, _, _ = strings.Cut(text, " (Activity ID: ")
	return text
}

// wordFacts are the services' messages about a mistake.
func wordFacts() []fact {
	said := func(t *testing.T, r reply, status int, want string) {
		t.Helper()
		if r.status != status || r.message() != want {
			t.Errorf("got %d %q\nwant %d %q", r.status, r.message(), status, want)
		}
	}
	return []fact{
		{"the words of 401, without a token", func(t *testing.T) {
			w := newWorld(t)
			_, body := doBy(t, w.by, "GET", "https://"+premium+"/keys?api-version=7.6", nil, "")
			want := `{"error":{"code":"Unauthorized","message":"AKV10000: Request is missing a Bearer or PoP token."}}`
			if body != want {
				t.Error(body)
			}
		}},
		{"the words of 404: a vault names the key, and MHSM its URL; a deleted key is called so", func(t *testing.T) {
			w := newWorld(t)
			hsm := "Key not found: https://" + managedHSM
			for _, c := range []struct{ method, path, vault, hsm string }{
				{"GET", "/keys/k/", fmt.Sprintf(notFoundInVault, "k"), hsm + "/keys/k"},
				{"GET", "/keys/k/" + someVersion, fmt.Sprintf(notFoundInVault, "k/"+someVersion),
					hsm + "/keys/k/" + someVersion},
				{"PATCH", "/keys/k/" + someVersion, fmt.Sprintf(notFoundInVault, "k"), hsm + "/keys/k"},
				{"DELETE", "/keys/k", fmt.Sprintf(notFoundInVault, "k"), hsm + "/keys/k"},
				{"POST", "/keys/k/rotate", fmt.Sprintf(notFoundInVault, "k"), "Key not found: " + hsm + "/keys/k"},
				{"GET", "/deletedkeys/k", "Deleted Key not found: k", hsm + "/deletedkeys/k"},
				{"POST", "/deletedkeys/k/recover", fmt.Sprintf(notFoundInVault, "k"), hsm + "/deletedkeys/k"},
			} {
				said(t, w.do(c.method, premium, c.path, "{}"), 404, c.vault)
				said(t, w.do(c.method, managedHSM, c.path, "{}"), 404, c.hsm)
			}
		}},
		{"the words for a name that is none, and for a key that is none", func(t *testing.T) {
			w := newWorld(t)
			said(t, w.do("POST", premium, "/keys/key%21@/create", ecHSM), 400,
				"The request URI contains an invalid name: key!@")
			said(t, w.do("POST", managedHSM, "/keys/key%21@/create", ecHSM), 400, "Invalid key identifier or name")
			said(t, w.do("PUT", premium, "/keys/k", `{"key":{}}`), 400,
				`The property "key" must be a valid JsonWebKey object.`)
			said(t, w.do("PUT", managedHSM, "/keys/k", `{"key":{}}`), 400, "JSON Web Key: kty is missing")
			said(t, w.do("POST", premium, "/keys/k/create", `{"kty":"oct-HSM"}`), 400,
				"Property  has invalid value\r\n")
		}},
	}
}

// answerFacts are answers of the services that no document describes.
func answerFacts() []fact {
	return []fact{
		{"A vault's own RSA-HSM keys have e AAEAAQ; imported and software keys AQAB", func(t *testing.T) {
			w := newWorld(t)
			_, imported := importNew(t, newClient(t, w.Emulator, premium),
				createKEK(t, newClient(t, w.Emulator, premium)), "byok")
			if !bytes.Equal(imported.Key.E, []byte{1, 0, 1}) {
				t.Errorf("imported: %x", imported.Key.E)
			}
			for where, want := range map[string]string{premium + " RSA-HSM": "AAEAAQ", premium + " RSA": "AQAB",
				managedHSM + " RSA-HSM": "AQAB"} {
				host, kty, _ := strings.Cut(where, " ")
				if r := w.do("POST", host, "/keys/"+kty+"/create", `{"kty":"`+kty+`"}`); r.at("key", "e") != want {
					t.Errorf("%s: %v", where, r.at("key", "e"))
				}
			}
		}},
		{"a software key's n is shown as it was imported, an HSM key's without zeros before it", func(t *testing.T) {
			w := newWorld(t)
			k := plainRSA(generate(t))
			b64 := base64.RawURLEncoding.EncodeToString
			n := b64(append([]byte{0}, k.N...))
			body := fmt.Sprintf(`{"key":{"kty":"%%s","n":%q,"e":"AQAB","d":%q,"p":%q,"q":%q,"dp":%q,"dq":%q,"qi":%q}}`,
				n, b64(k.D), b64(k.P), b64(k.Q), b64(k.DP), b64(k.DQ), b64(k.QI))
			for kty, want := range map[string]string{"RSA": n, "RSA-HSM": b64(k.N)} {
				if r := w.do("PUT", premium, "/keys/"+kty, fmt.Sprintf(body, kty)); r.at("key", "n") != want {
					t.Errorf("%s: %s", kty, r.text)
				}
			}
		}},
		{"PATCH with empty tags answers with tags", func(t *testing.T) {
			w := newWorld(t)
			for _, host := range []string{premium, managedHSM} {
				if made := w.do("POST", host, "/keys/k/create", ecHSM); made.json["tags"] != nil {
					t.Errorf("%s, without tags: %s", host, made.text)
				}
				r := w.do("PATCH", host, "/keys/k/", `{"tags":{}}`)
				if tags, ok := r.json["tags"].(map[string]any); !ok || len(tags) != 0 {
					t.Errorf("%s: %s", host, r.text)
				}
			}
		}},
		{"An oct-HSM key's operations include deriveKey, unless some are named", func(t *testing.T) {
			w := newWorld(t)
			for body, want := range map[string]bool{`{"kty":"oct-HSM"}`: true,
				`{"kty":"oct-HSM","key_ops":["encrypt"]}`: false} {
				r := w.do("POST", managedHSM, "/keys/k/create", body)
				if strings.Contains(r.text, "deriveKey") != want {
					t.Errorf("%s: %s", body, r.text)
				}
			}
		}},
		{"P-256K keys sign ES256K", func(t *testing.T) {
			w := newWorld(t)
			digest := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
			for _, host := range []string{premium, managedHSM} {
				r := w.do("POST", host, "/keys/k/create", `{"kty":"EC-HSM","crv":"P-256K"}`)
				if r.at("key", "crv") != "P-256K" {
					t.Fatal(r.text)
				}
				s := w.do("POST", host, "/keys/k//sign", `{"alg":"ES256K","value":"`+digest+`"}`)
				ask := func(digest string) any {
					return w.do("POST", host, "/keys/k//verify", fmt.Sprintf(`{"alg":"ES256K","digest":%q,"value":%q}`,
						digest, s.at("value"))).at("value")
				}
				if other := strings.Repeat("B", len(digest)-1) + "A"; ask(digest) != true || ask(other) != false {
					t.Errorf("%s: %s", host, s.text)
				}
			}
		}},
		{"Rotation policy: a vault has a notice, no id and null attributes, MHSM an empty id", func(t *testing.T) {
			w := newWorld(t)
			for host, want := range map[string]string{
				premium: `{"lifetimeActions":[{"trigger":{"timeBeforeExpiry":"P30D"},"action":{"type":"Notify"}}],` +
					`"attributes":null}`,
				managedHSM: `{"attributes":{"expiryTime":"","created":0,"updated":0},"id":""}`,
			} {
				w.create(host, "k", ecHSM)
				if r := w.do("GET", host, "/keys/k/rotationpolicy", ""); r.text != want {
					t.Errorf("%s: %s", host, r.text)
				}
			}
		}},
		{"Rotation policy: to a rotation alone a vault adds a notice; MHSM keeps what it was given",
			func(t *testing.T) {
				w := newWorld(t)
				for host, want := range map[string]string{premium: "[Rotate Notify]", managedHSM: "[rotate]"} {
					w.create(host, "k", ecHSM)
					r := w.do("PUT", host, "/keys/k/rotationpolicy",
						`{"attributes":{"expiryTime":"P90D"},"lifetimeActions":[{"action":{"type":"rotate"},`+
							`"trigger":{"timeBeforeExpiry":"P30D"}}]}`)
					var types []any
					for _, a := range r.at("lifetimeActions").([]any) {
						types = append(types, reply{json: a.(map[string]any)}.at("action", "type"))
					}
					if fmt.Sprint(types) != want {
						t.Errorf("%s: %s", host, r.text)
					}
				}
			}},
		{"release_policy and exportable are kept; an immutable policy stays: AKV.SKR.1020", func(t *testing.T) {
			w := newWorld(t)
			for _, host := range []string{premium, managedHSM} {
				made := w.do("POST", host, "/keys/k/create", `{"kty":"EC-HSM","attributes":{"exportable":true},`+
					`"release_policy":{"data":"e30","immutable":true}}`)
				if made.at("attributes", "exportable") != true || made.at("release_policy", "data") != "e30" ||
					made.at("release_policy", "immutable") != true {
					t.Errorf("%s: %s", host, made.text)
				}
				r := w.do("PATCH", host, "/keys/k/", `{"release_policy":{"data":"e301","immutable":true}}`)
				if want := "AKV.SKR.1020: Immutable Key Release Policy cannot be modified."; r.status != 400 ||
					r.message() != want {
					t.Errorf("%s: %s", host, r.text)
				}
				if r := w.do("POST", host, "/keys/k//release", `{"target":"an attestation"}`); r.status != 200 ||
					strings.Count(r.at("value").(string), ".") != 2 {
					t.Errorf("%s: %s", host, r.text)
				}
				w.create(host, "bound", ecHSM)
				w.do("POST", host, "/keys/bound//release", `{"target":"an attestation"}`).is(t, 403, "Forbidden",
					"KeyOperationForbidden")
			}
		}},
		{"A backup is restored under its name with all versions, where the name is free", func(t *testing.T) {
			backedUpAndRestored(t)
		}},
		{"MHSM gives 1 to 128 random bytes", func(t *testing.T) {
			w := newWorld(t)
			for count, status := range map[int]int{1: 200, 128: 200, 129: 400, 0: 400, -1: 400} {
				r := w.do("POST", managedHSM, "/rng", fmt.Sprintf(`{"count":%d}`, count))
				text, _ := r.at("value").(string)
				if b, _ := base64.RawURLEncoding.DecodeString(text); r.status != status ||
					status == 200 && len(b) != count {
					t.Errorf("%d: %s", count, r.text)
				}
			}
			w.do("POST", premium, "/rng", `{"count":1}`).is(t, 400, "BadParameter", "")
		}},
		{"A vault with RBAC names the role assignment and its cache in headers", func(t *testing.T) {
			const id = "x-ms-keyvault-rbac-assignment-id"
			w := newWorld(t)
			if r := w.do("GET", premium, "/keys", ""); r.header.Get(id) != "" {
				t.Errorf("without roles: %v", r.header)
			}
			e := startVaults(t, emulator.Options{}, emulator.VaultConfig{
				Host: premium, Access: emulator.RoleBased,
				Roles: []emulator.RoleAssignment{{Identity: "someone-with-a-role", Role: emulator.CryptoUser}},
			})
			tok := token(t, managedIdentityOf(t, e, "someone-with-a-role"), "https://vault.azure.net")
			res, _ := do(t, e, "GET", "https://"+premium+"/keys?api-version=7.6", bearer(tok), "")
			if len(res.Header.Get(id)) != 36 || res.Header.Get("x-ms-keyvault-rbac-cache") == "" {
				t.Errorf("with roles: %v", res.Header)
			}
		}},
		{"Whether MHSM sends a Date is contradictory: recordings of 2022 have none", func(t *testing.T) {
			for _, without := range []bool{false, true} {
				w := newWorld(t, func(o *emulator.Options) { o.HSMWithoutDate = without })
				for _, host := range []string{premium, managedHSM} {
					_, given := w.do("GET", host, "/keys", "").header["Date"]
					if given == (without && host == managedHSM) {
						t.Errorf("%s: a Date is given: %v", host, given)
					}
				}
			}
		}},
		{"MHSM answers the link to a next page though it has no api-version", func(t *testing.T) {
			w := newWorld(t)
			for range 12 {
				w.create(managedHSM, "k", ecHSM)
			}
			first := w.do("GET", managedHSM, "/keys/k/versions", "")
			res, body := doBy(t, w.by, "GET", first.at("nextLink").(string), bearer(w.token(managedHSM)), "")
			if res.StatusCode != 200 || strings.Contains(first.at("nextLink").(string), "api-version") {
				t.Errorf("%d %s", res.StatusCode, body)
			}
		}},
		{"A vault recovers and purges asynchronously, too", func(t *testing.T) {
			w := newWorld(t, func(o *emulator.Options) { o.DeletionDelay = time.Minute })
			w.create(premium, "k", ecHSM)
			backup := w.do("POST", premium, "/keys/k/backup", "").text
			step := func(method, path string) {
				t.Helper()
				if r := w.do(method, premium, path, ""); r.status > 204 {
					t.Errorf("%s %s: %s", method, path, r.text)
				}
			}
			step("DELETE", "/keys/k")
			w.clock.advance(time.Minute)
			step("POST", "/deletedkeys/k/recover")
			w.do("GET", premium, "/keys/k/", "").is(t, 404, "KeyNotFound", "")
			w.clock.advance(time.Minute)
			step("GET", "/keys/k/")
			step("DELETE", "/keys/k")
			w.clock.advance(time.Minute)
			step("DELETE", "/deletedkeys/k")
			w.do("GET", premium, "/deletedkeys/k", "").is(t, 404, "KeyNotFound", "")
			w.do("POST", premium, "/keys/restore", backup).is(t, 409, "Conflict", "")
			w.clock.advance(time.Minute)
			if r := w.do("POST", premium, "/keys/restore", backup); r.status != 200 {
				t.Error(r.text)
			}
		}},
	}
}

func backedUpAndRestored(t *testing.T) {
	t.Helper()
	w := newWorld(t)
	for _, host := range []string{premium, managedHSM} {
		for _, body := range []string{`{"kty":"RSA-HSM"}`, `{"kty":"EC-HSM","crv":"P-256K"}`} {
			w.create(host, "k", body)
		}
		before, _ := w.list(host, "/keys/k/versions")
		backup := w.do("POST", host, "/keys/k/backup", "").text
		w.do("POST", host, "/keys/restore", backup).is(t, 409, "Conflict", "")
		w.do("DELETE", host, "/keys/k", "")
		w.do("POST", host, "/keys/restore", backup).is(t, 409, "Conflict", "")
		w.do("DELETE", host, "/deletedkeys/k", "")
		if r := w.do("POST", host, "/keys/restore", backup); r.status != 200 {
			t.Fatalf("%s: %s", host, r.text)
		}
		after, _ := w.list(host, "/keys/k/versions")
		for i := range before {
			if i >= len(after) || before[i]["kid"] != after[i]["kid"] {
				t.Errorf("%s: %v became %v", host, before, after)
			}
		}
		other, code := managedHSM, "MalformedBackupBlob"
		if host == managedHSM {
			other, code = premium, "Malformed backup blob"
		}
		w.do("POST", other, "/keys/restore", backup).is(t, 400, code, "")
		w.do("POST", other, "/keys/restore", `{"value":"AAAA"}`).is(t, 400, code, "")
	}
}

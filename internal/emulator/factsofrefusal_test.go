package emulator_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

// refusalFacts are more facts about errors, and about what is served and refused.
func refusalFacts() []fact {
	return []fact{
		{`Errors {"error":{"code","message","innererror":{"code"}}}`, func(t *testing.T) {
			w := newWorld(t)
			w.create(premium, "k", `{"kty":"RSA-HSM","key_ops":`+wrapOps+`}`)
			r := w.do("POST", premium, "/keys/k//sign", `{"alg":"RS256","value":"`+digest+`"}`)
			e, _ := r.at("error").(map[string]any)
			inner, _ := e["innererror"].(map[string]any)
			if len(r.json) != 1 || len(e) != 3 || len(inner) != 1 || e["message"] == "" {
				t.Error(r.text)
			}
		}},
		{"MHSM: the outer code of ForbiddenByRbac is AccessDenied", func(t *testing.T) {
			e := startVaults(t, emulator.Options{},
				emulator.VaultConfig{Host: managedHSM, Profile: emulator.ManagedHSM, Access: emulator.RoleBased})
			_, err := newClient(t, e, managedHSM).GetKey(t.Context(), "k", "", nil)
			wantError(t, err, 403, "AccessDenied", "ForbiddenByRbac")
		}},
		{"403 Forbidden with inner KeyDisabled", func(t *testing.T) {
			w := newWorld(t)
			for _, host := range []string{premium, managedHSM} {
				w.create(host, "k", rsaHSM)
				w.do("PATCH", host, "/keys/k/", `{"attributes":{"enabled":false}}`)
				for _, r := range w.using(host, "k") {
					r.is(t, 403, "Forbidden", "KeyDisabled")
				}
			}
		}},
		{"409 Conflict with ObjectIsBeingDeleted, then ObjectIsDeletedButRecoverable", func(t *testing.T) {
			w := newWorld(t, func(o *emulator.Options) { o.DeletionDelay = 3 * time.Second })
			w.create(premium, "k", ecHSM)
			w.do("DELETE", premium, "/keys/k", "")
			w.do("POST", premium, "/keys/k/create", ecHSM).is(t, 409, "Conflict", "ObjectIsBeingDeleted")
			w.clock.advance(3 * time.Second)
			w.do("POST", premium, "/keys/k/create", ecHSM).is(t, 409, "Conflict", "ObjectIsDeletedButRecoverable")
		}},
		{"429 Throttled says VaultRequestTypeLimitReached", func(t *testing.T) {
			w := newWorld(t, func(o *emulator.Options) { o.ServiceLimits = true })
			for range 10 {
				w.create(premium, "k", ecHSM)
			}
			r := w.do("POST", premium, "/keys/k/create", ecHSM)
			r.is(t, 429, "Throttled", "")
			if !strings.Contains(r.text, "VaultRequestTypeLimitReached") {
				t.Error(r.text)
			}
		}},
		{"RSA-OAEP-256 is the recommended algorithm: every RSA key has it, in every profile", func(t *testing.T) {
			w := newWorld(t)
			value := base64.RawURLEncoding.EncodeToString([]byte("a data key"))
			for host, kty := range map[string]string{premium: "RSA-HSM", standard: "RSA", managedHSM: "RSA-HSM"} {
				version := w.create(host, "k", `{"kty":"`+kty+`"}`)
				wrapped := w.do("POST", host, "/keys/k/"+version+"/wrapkey",
					`{"alg":"RSA-OAEP-256","value":"`+value+`"}`)
				opened := w.do("POST", host, "/keys/k/"+version+"/unwrapkey",
					`{"alg":"RSA-OAEP-256","value":"`+wrapped.at("value").(string)+`"}`)
				if opened.at("value") != value {
					t.Errorf("%s: %s", host, opened.text)
				}
			}
		}},
		{"Attestation, HS256 to HS512 and CKM_AES_KEY_WRAP[_PAD] came with 7.6", func(t *testing.T) {
			w := newWorld(t)
			id := w.create(managedHSM, "k", `{"kty":"oct-HSM"}`)
			for _, c := range []struct{ method, path, body string }{
				{"GET", "/keys/k/" + id + "/attestation", ""},
				{"POST", "/keys/k/" + id + "/sign", `{"alg":"HS256","value":"` + digest + `"}`},
				{"POST", "/keys/k/" + id + "/sign", `{"alg":"HS512","value":"` + digest + `"}`},
				{"POST", "/keys/k/" + id + "/wrapkey", `{"alg":"CKM_AES_KEY_WRAP","value":"` + digest + `"}`},
				{"POST", "/keys/k/" + id + "/wrapkey", `{"alg":"CKM_AES_KEY_WRAP_PAD","value":"AA"}`},
			} {
				for version, status := range map[string]int{"7.4": 400, "7.5": 400, "7.6": 200, "2025-07-01": 200} {
					res, text := doBy(t, w.by, c.method, "https://"+managedHSM+c.path+"?api-version="+version,
						bearer(w.token(managedHSM)), c.body)
					if res.StatusCode != status || status == 400 && !strings.Contains(text, `"BadParameter"`) {
						t.Errorf("%s %s by %s: %d %s", c.path, c.body, version, res.StatusCode, text)
					}
				}
			}
		}},
		{"API versions 7.3, 7.4, 7.5, 7.6 and 2025-07-01 are served, others refused", func(t *testing.T) {
			w := newWorld(t)
			for version, status := range map[string]int{
				"7.4": 200, "7.5": 200, "7.6": 200, "2025-07-01": 200, "7.3": 200, "7.2": 400, "7.7": 400,
				"7.4-preview.1": 400, "": 400,
			} {
				for _, host := range []string{premium, managedHSM} {
					res, body := do(t, w.Emulator, "GET", "https://"+host+"/keys?api-version="+version,
						bearer(w.token(host)), "")
					if res.StatusCode != status || status == 400 && !strings.Contains(body, `"BadParameter"`) {
						t.Errorf("%s %q: %d %s", host, version, res.StatusCode, body)
					}
				}
			}
		}},
	}
}

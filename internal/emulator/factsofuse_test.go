package emulator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
)

const digest = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" // 32 zero bytes

// using lists the answer of each operation on an RSA key, in the order of use: a later operation opens what an
// earlier one made.
func (w *world) using(host, name string) map[string]reply {
	post := func(op, body string) reply { return w.do("POST", host, "/keys/"+name+"//"+op, body) }
	return map[string]reply{
		"encrypt": post("encrypt", `{"alg":"RSA-OAEP-256","value":"AA"}`),
		"wrapKey": post("wrapkey", `{"alg":"RSA-OAEP-256","value":"AA"}`),
		"sign":    post("sign", `{"alg":"RS256","value":"`+digest+`"}`),
	}
}

// opening undoes what using did.
func (w *world) opening(host, name string, made map[string]reply) map[string]reply {
	post := func(op, body string) reply { return w.do("POST", host, "/keys/"+name+"//"+op, body) }
	return map[string]reply{
		"decrypt":   post("decrypt", fmt.Sprintf(`{"alg":"RSA-OAEP-256","value":%q}`, made["encrypt"].at("value"))),
		"unwrapKey": post("unwrapkey", fmt.Sprintf(`{"alg":"RSA-OAEP-256","value":%q}`, made["wrapKey"].at("value"))),
		"verify": post("verify", fmt.Sprintf(`{"alg":"RS256","digest":%q,"value":%q}`,
			digest, made["sign"].at("value"))),
	}
}

func useFacts() []fact {
	return []fact{
		{"exp/nbf block encrypt/wrap/sign but NOT decrypt/unwrap/verify", func(t *testing.T) {
			w := newWorld(t)
			for _, host := range []string{premium, managedHSM} {
				w.create(host, "k", rsaHSM)
				made := w.using(host, "k")
				now := w.clock.Now().Unix()
				for inner, dates := range map[string]string{
					"KeyExpired":     fmt.Sprintf(`"exp":%d,"nbf":%d`, now, now-9),
					"KeyNotYetValid": fmt.Sprintf(`"exp":%d,"nbf":%d`, now+9, now+1),
				} {
					w.do("PATCH", host, "/keys/k/", `{"attributes":{`+dates+`}}`)
					for op, r := range w.using(host, "k") {
						if r.is(t, 403, "Forbidden", inner); t.Failed() {
							t.Fatalf("%s %s", host, op)
						}
					}
					for op, r := range w.opening(host, "k", made) {
						if r.status != 200 {
							t.Errorf("%s %s: %s", host, op, r.text)
						}
					}
				}
			}
		}},
		{"Only enabled=false blocks unwrap", func(t *testing.T) {
			w := newWorld(t)
			w.create(premium, "k", rsaHSM)
			made := w.using(premium, "k")
			w.do("PATCH", premium, "/keys/k/", `{"attributes":{"enabled":false}}`)
			for _, r := range w.opening(premium, "k", made) {
				r.is(t, 403, "Forbidden", "KeyDisabled")
			}
		}},
		{"GET of a disabled version answers 200 with enabled false", func(t *testing.T) {
			w := newWorld(t)
			for _, host := range []string{premium, managedHSM} {
				id := w.create(host, "k", ecHSM)
				w.do("PATCH", host, "/keys/k/", `{"attributes":{"enabled":false}}`)
				for _, path := range []string{"/keys/k/", "/keys/k/" + id} {
					if r := w.do("GET", host, path, ""); r.status != 200 || r.at("attributes", "enabled") != false {
						t.Errorf("%s%s: %s", host, path, r.text)
					}
				}
			}
		}},
		{"Unwrap always with an explicit version", func(t *testing.T) {
			w := newWorld(t)
			old := w.create(premium, "k", rsaHSM)
			value := fmt.Sprintf(`{"alg":"RSA-OAEP-256","value":%q}`, w.using(premium, "k")["wrapKey"].at("value"))
			w.create(premium, "k", rsaHSM)
			w.do("POST", premium, "/keys/k//unwrapkey", value).is(t, 400, "BadParameter", "")
			if r := w.do("POST", premium, "/keys/k/"+old+"/unwrapkey", value); r.status != 200 ||
				r.at("value") != "AA" {
				t.Error(r.text)
			}
		}},
		{"Native autorotation cannot be used for imported keys", func(t *testing.T) {
			e := start(t, emulator.Options{})
			for _, host := range []string{premium, managedHSM} {
				c := newClient(t, e, host)
				importNew(t, c, createKEK(t, c), "byok")
				_, err := c.RotateKey(t.Context(), "byok", nil)
				wantError(t, err, 400, "BadParameter", "")
			}
		}},
		{"a native Rotate policy on a BYOK key is a mistake to alarm on", func(t *testing.T) {
			e := start(t, emulator.Options{})
			c := newClient(t, e, premium)
			importNew(t, c, createKEK(t, c), "byok")
			_, err := c.UpdateKeyRotationPolicy(t.Context(), "byok",
				azkeys.KeyRotationPolicy{LifetimeActions: []*azkeys.LifetimeAction{{
					Action:  &azkeys.LifetimeActionType{Type: ptr(azkeys.KeyRotationPolicyActionRotate)},
					Trigger: &azkeys.LifetimeActionTrigger{TimeBeforeExpiry: ptr("P30D")},
				}}}, nil)
			must(t, err)
			shown, err := c.GetKeyRotationPolicy(t.Context(), "byok", nil)
			must(t, err)
			if *shown.LifetimeActions[0].Action.Type != azkeys.KeyRotationPolicyActionRotate {
				t.Error("the policy does not show")
			}
		}},
	}
}

func deletionFacts() []fact {
	return []fact{
		{"Versions cannot be deleted one by one; deleting a key deletes all its versions", func(t *testing.T) {
			w := newWorld(t)
			ids := []string{w.create(premium, "k", ecHSM), w.create(premium, "k", ecHSM)}
			if r := w.do("DELETE", premium, "/keys/k/"+ids[0], ""); r.status < 400 {
				t.Errorf("one version: %d", r.status)
			}
			w.do("DELETE", premium, "/keys/k", "")
			for _, id := range ids {
				w.do("GET", premium, "/keys/k/"+id, "").is(t, 404, "KeyNotFound", "")
			}
		}},
		{"Vault delete is asynchronous (404/409 for seconds), MHSM's is immediate", func(t *testing.T) {
			w := newWorld(t, func(o *emulator.Options) { o.DeletionDelay = 3 * time.Second })
			for host, immediate := range map[string]bool{premium: false, managedHSM: true} {
				w.create(host, "k", ecHSM)
				w.do("DELETE", host, "/keys/k", "")
				if got := w.do("GET", host, "/deletedkeys/k", "").status; (got == 200) != immediate {
					t.Errorf("%s: deleted key %d", host, got)
				}
				again := w.do("POST", host, "/keys/k/create", ecHSM)
				if immediate {
					again.is(t, 409, "Conflict", "ObjectIsDeletedButRecoverable")
				} else {
					again.is(t, 409, "Conflict", "ObjectIsBeingDeleted")
				}
				w.clock.advance(3 * time.Second)
				if got := w.do("GET", host, "/deletedkeys/k", "").status; got != 200 {
					t.Errorf("%s: seconds later %d", host, got)
				}
			}
		}},
		{"Soft delete is always on; retention 7–90 days", func(t *testing.T) {
			for days, works := range map[int]bool{0: true, 7: true, 90: true, 6: false, 91: false} {
				e, err := emulator.Start(emulator.Options{Vaults: []emulator.VaultConfig{{Host: premium,
					RecoverableDays: days}}})
				if (err == nil) != works {
					t.Errorf("%d days: %v", days, err)
				}
				if err == nil {
					must(t, e.Close())
				}
			}
			w := newWorld(t)
			w.create(premium, "k", ecHSM)
			r := w.do("DELETE", premium, "/keys/k", "")
			if got := r.json["scheduledPurgeDate"].(float64) - r.json["deletedDate"].(float64); got != 90*24*3600 {
				t.Errorf("kept for %v seconds", got)
			}
			if items, _ := w.list(premium, "/deletedkeys"); len(items) != 1 {
				t.Errorf("deleted keys: %v", items)
			}
		}},
		{"a recoveryLevel containing Purgeable means NO purge protection", func(t *testing.T) {
			w := newWorld(t)
			for host, purgeable := range map[string]bool{premium: true, protected: false} {
				r := w.do("POST", host, "/keys/k/create", ecHSM)
				if strings.Contains(r.at("attributes", "recoveryLevel").(string), "Purgeable") != purgeable {
					t.Error(r.text)
				}
				w.do("DELETE", host, "/keys/k", "")
				if got := w.do("DELETE", host, "/deletedkeys/k", "").status; (got == 204) != purgeable {
					t.Errorf("%s: purge %d", host, got)
				}
			}
		}},
		{"Backup fails past 500 versions", func(t *testing.T) {
			w := newWorld(t)
			for n := range 501 {
				if n == 500 {
					if r := w.do("POST", premium, "/keys/k/backup", ""); r.status != 200 {
						t.Error(r.text)
					}
				}
				w.create(premium, "k", ecHSM)
			}
			w.do("POST", premium, "/keys/k/backup", "").is(t, 400, "BadParameter", "")
		}},
	}
}

func hsmFacts() []fact {
	return []fact{
		{"MHSM differs: host and audience managedhsm.azure.net", func(t *testing.T) {
			w := newWorld(t)
			if r := w.do("POST", managedHSM, "/keys/k/create", ecHSM); !strings.HasPrefix(r.at("key", "kid").(string),
				"https://"+managedHSM+"/keys/k/") {
				t.Error(r.text)
			}
			w.tokens[managedHSM] = w.token(premium)
			r := w.do("GET", managedHSM, "/keys", "")
			if r.status != 401 ||
				!strings.Contains(r.header.Get("WWW-Authenticate"), `resource="https://managedhsm.azure.net"`) {
				t.Errorf("with a vault's token: %d %v", r.status, r.header)
			}
		}},
		{"MHSM differs: kty only *-HSM; RSA, EC and oct are taken for them", func(t *testing.T) {
			w := newWorld(t)
			for _, kty := range []string{"RSA", "EC", "oct"} {
				for _, asked := range []string{kty, kty + "-HSM"} {
					if r := w.do("POST", managedHSM, "/keys/k/create", `{"kty":"`+asked+`"}`); r.status != 200 ||
						r.at("key", "kty") != kty+"-HSM" {
						t.Errorf("%s: %s", asked, r.text)
					}
				}
			}
		}},
		{"MHSM differs: key_ops order random", func(t *testing.T) {
			w := newWorld(t)
			orders := map[string]map[string]bool{}
			for _, host := range []string{premium, managedHSM} {
				w.create(host, "k", rsaHSM)
				orders[host] = map[string]bool{}
				for range 40 {
					orders[host][fmt.Sprint(w.do("GET", host, "/keys/k/", "").at("key", "key_ops"))] = true
				}
			}
			if len(orders[premium]) != 1 || len(orders[managedHSM]) < 2 {
				t.Errorf("%d orders in a vault, %d in a Managed HSM", len(orders[premium]), len(orders[managedHSM]))
			}
		}},
		{"MHSM differs: exportable always present; a vault's answers have it since 7.5", func(t *testing.T) {
			w := newWorld(t)
			for _, host := range []string{managedHSM, premium} {
				made := w.do("POST", host, "/keys/k/create", ecHSM)
				read := w.do("GET", host, "/keys/k/", "")
				versions, _ := w.list(host, "/keys/k/versions")
				keys, _ := w.list(host, "/keys")
				for where, at := range map[string]any{
					"made": made.at("attributes"), "read": read.at("attributes"), "in the list": keys[0]["attributes"],
					"in the list of versions": versions[0]["attributes"],
					"deleted":                 w.do("DELETE", host, "/keys/k", "").at("attributes"),
				} {
					if at.(map[string]any)["exportable"] != false {
						t.Errorf("%s, %s: %v", host, where, at)
					}
				}
			}
		}},
		{"MHSM differs: its headers, and an activity id in the messages", func(t *testing.T) {
			w := newWorld(t)
			vault, hsm := w.do("GET", premium, "/keys/k/", ""), w.do("GET", managedHSM, "/keys/k/", "")
			if vault.header.Get("X-Ms-Keyvault-Service-Version") == "" || hsm.header.Get("X-Ms-Server-Latency") == "" ||
				hsm.header.Get("X-Ms-Keyvault-Service-Version") != "" {
				t.Errorf("vault %v\nMHSM %v", vault.header, hsm.header)
			}
			for _, r := range []reply{vault, hsm} {
				if r.header.Get("X-Ms-Keyvault-Region") == "" || r.header.Get("X-Ms-Request-Id") == "" {
					t.Errorf("%v", r.header)
				}
			}
			id := "(Activity ID: " + hsm.header.Get("X-Ms-Request-Id") + ")"
			if !strings.Contains(hsm.text, id) || strings.Contains(vault.text, "Activity") {
				t.Errorf("%s\n%s", vault.text, hsm.text)
			}
		}},
		{"Standard-SKU vaults have no HSM keys", func(t *testing.T) {
			w := newWorld(t)
			w.do("POST", standard, "/keys/k/create", rsaHSM).is(t, 400, "BadParameter", "")
			w.do("POST", standard, "/keys/k/create", ecHSM).is(t, 400, "BadParameter", "")
			if got := w.Vault(standard).Keys(); len(got) != 0 {
				t.Error(got)
			}
		}},
	}
}

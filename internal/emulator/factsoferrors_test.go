package emulator_test

import (
	"crypto/rand"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

func errorFacts() []fact {
	return []fact{
		{"401 Unauthorized (MHSM: empty body)", func(t *testing.T) {
			w := newWorld(t)
			for _, host := range []string{premium, managedHSM} {
				w.tokens[host] = "none"
				r := w.do("GET", host, "/keys", "")
				if host == premium {
					r.is(t, 401, "Unauthorized", "")
				} else if r.status != 401 || r.text != "" {
					t.Errorf("%d %q", r.status, r.text)
				}
			}
		}},
		{"404 KeyNotFound", func(t *testing.T) {
			newWorld(t).do("GET", premium, "/keys/k/", "").is(t, 404, "KeyNotFound", "")
		}},
		{"403 Forbidden with inner KeyOperationForbidden", func(t *testing.T) {
			w := newWorld(t)
			ops := []string{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}
			for _, host := range []string{premium, managedHSM} {
				w.create(host, "k", rsaHSM)
				made := w.using(host, "k")
				for _, forbidden := range ops {
					others := slices.DeleteFunc(slices.Clone(ops), func(op string) bool { return op == forbidden })
					w.do("PATCH", host, "/keys/k/", `{"key_ops":["`+strings.Join(others, `","`)+`"]}`)
					replies := w.using(host, "k")
					maps.Copy(replies, w.opening(host, "k", made))
					for op, r := range replies {
						if op == forbidden {
							r.is(t, 403, "Forbidden", "KeyOperationForbidden")
						} else if r.status != 200 {
							t.Errorf("%s, when %s is forbidden: %s", op, forbidden, r.text)
						}
					}
				}
			}
		}},
		{"403 Forbidden with inner ForbiddenByRbac, ForbiddenByPolicy, ForbiddenByFirewall", func(t *testing.T) {
			for inner, c := range map[string]emulator.VaultConfig{
				"ForbiddenByRbac":     {Access: emulator.RoleBased},
				"ForbiddenByPolicy":   {Access: emulator.PolicyBased},
				"ForbiddenByFirewall": {Firewall: &emulator.Firewall{TrustedServices: true}},
			} {
				c.Host = premium
				e := startVaults(t, emulator.Options{}, c)
				_, err := newClient(t, e, premium).GetKey(t.Context(), "k", "", nil)
				wantError(t, err, 403, "Forbidden", inner)
			}
		}},
		{"400 BadParameter", func(t *testing.T) {
			newWorld(t).do("POST", premium, "/keys/k/create", `{"kty":"OKP"}`).is(t, 400, "BadParameter", "")
		}},
		{"429 Throttled, sometimes with NO Retry-After", func(t *testing.T) {
			w := newWorld(t)
			for _, rule := range []emulator.Rule{{Status: 429}, {Status: 429, NoRetryAfter: true}} {
				active := w.Fail(rule)
				r := w.do("GET", premium, "/keys", "")
				r.is(t, 429, "Throttled", "")
				if (r.header.Get("Retry-After") == "") != rule.NoRetryAfter {
					t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
				}
				active.Clear()
			}
		}},
		{"403 right after a role assignment is normal for a minute or more", func(t *testing.T) {
			clock, id := newClock(), rand.Text()
			e := startVaults(t, emulator.Options{Now: clock.Now, RoleDelay: time.Minute},
				emulator.VaultConfig{Host: premium, Access: emulator.RoleBased})
			foreign(t, e, premium, "k")
			c := clientAs(t, e, premium, id)
			must(t, e.Vault(premium).Assign(emulator.RoleAssignment{Identity: id, Role: emulator.CryptoUser}))
			_, err := c.GetKey(t.Context(), "k", "", nil)
			wantError(t, err, 403, "Forbidden", "ForbiddenByRbac")
			clock.advance(time.Minute)
			_, err = c.GetKey(t.Context(), "k", "", nil)
			must(t, err)
		}},
		{"MHSM uses its own local RBAC scopes (/, /keys, /keys/<n>)", func(t *testing.T) {
			rolesReachAsFarAsTheirScopes(t)
			for _, scope := range []string{"/subscriptions/s", "/keys/n/version", "keys"} {
				e, err := emulator.Start(emulator.Options{Vaults: []emulator.VaultConfig{{
					Host: managedHSM, Profile: emulator.ManagedHSM, Access: emulator.RoleBased,
					Roles: []emulator.RoleAssignment{{Identity: "i", Role: emulator.CryptoUser, Scope: scope}},
				}}})
				if err == nil {
					t.Errorf("%s is taken", scope)
					must(t, e.Close())
				}
			}
		}},
	}
}

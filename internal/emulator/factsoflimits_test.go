package emulator_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

func limitFacts() []fact {
	limited := func(o *emulator.Options) { o.ServiceLimits = true }
	// through counts how many of n calls the limits let through. Those must succeed.
	through := func(t *testing.T, n int, call func() reply) (passed int) {
		t.Helper()
		for range n {
			switch r := call(); r.status {
			case 200:
				passed++
			case 429:
			default:
				t.Fatal(r.text)
			}
		}
		return passed
	}
	const wrapping = `{"alg":"RSA-OAEP-256","value":"AA"}`
	big := func(t *testing.T, w *world, host string) {
		importBig(t, newClient(t, w.Emulator, host))
		w.clock.advance(10 * time.Second)
	}
	return []fact{
		{"vault, RSA-4096 HSM: 250 operations / 10 s over all operations, GET included", func(t *testing.T) {
			w := newWorld(t, limited)
			big(t, w, premium)
			gets := through(t, 200, func() reply { return w.do("GET", premium, "/keys/big/", "") })
			lists := through(t, 60, func() reply { return w.do("GET", premium, "/keys/big/versions", "") })
			if gets != 200 || lists != 50 {
				t.Errorf("%d and %d went through", gets, lists)
			}
		}},
		{"vault: create 10 / 10 s", func(t *testing.T) {
			w := newWorld(t, limited)
			if n := through(t, 12, func() reply { return w.do("POST", premium, "/keys/k/create", ecHSM) }); n != 10 {
				t.Errorf("%d went through", n)
			}
		}},
		{"MHSM: Get 1,100/s", func(t *testing.T) {
			w := newWorld(t, limited)
			w.create(managedHSM, "k", ecHSM)
			if n := through(t, 1110, func() reply { return w.do("GET", managedHSM, "/keys/k/", "") }); n != 1100 {
				t.Errorf("%d went through", n)
			}
		}},
		{"MHSM RSA-4096: ~160 unwrap/s", func(t *testing.T) {
			w := newWorld(t, limited)
			big(t, w, managedHSM)
			wrapped := w.do("POST", managedHSM, "/keys/big//wrapkey", wrapping).at("value")
			body := fmt.Sprintf(`{"alg":"RSA-OAEP-256","value":%q}`, wrapped)
			n := through(t, 165, func() reply { return w.do("POST", managedHSM, "/keys/big//unwrapkey", body) })
			if n != 160 {
				t.Errorf("%d went through", n)
			}
		}},
		{"MHSM RSA-4096: ~1900 wrap/s", func(t *testing.T) {
			w := newWorld(t, limited)
			big(t, w, managedHSM)
			n := through(t, 1905, func() reply { return w.do("POST", managedHSM, "/keys/big//wrapkey", wrapping) })
			if n != 1900 {
				t.Errorf("%d went through", n)
			}
		}},
		{"MHSM: 1 create/s", func(t *testing.T) {
			w := newWorld(t, limited)
			if n := through(t, 3, func() reply { return w.do("POST", managedHSM, "/keys/k/create", ecHSM) }); n != 1 {
				t.Errorf("%d went through", n)
			}
		}},
		{"MHSM: at most 100 versions per key", func(t *testing.T) {
			w := newWorld(t)
			for range 100 {
				w.create(managedHSM, "k", ecHSM)
			}
			w.do("POST", managedHSM, "/keys/k/create", ecHSM).is(t, 400, "BadParameter", "")
		}},
		{"Multi-region MHSM writes take up to 6 minutes to replicate: read after write is not safe",
			func(t *testing.T) {
				w := newWorld(t, func(o *emulator.Options) { o.ReplicationDelay = 6 * time.Minute })
				w.create(managedHSM, "k", ecHSM)
				w.do("GET", managedHSM, "/keys/k/", "").is(t, 404, "KeyNotFound", "")
				w.clock.advance(6 * time.Minute)
				if r := w.do("GET", managedHSM, "/keys/k/", ""); r.status != 200 {
					t.Errorf("after six minutes: %s", r.text)
				}
			}},
	}
}

package e2e_test

import (
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/status"
)

// spied is a world whose token is watched by OpenSC's pkcs11-spy. The spy's log
// shows the PIN, and ends with the world.
func spied(t *testing.T, change func(*settings)) *world {
	t.Helper()
	spy := spyModule(t)
	w := newWorld(t, func(s *settings) {
		// One session: otherwise the spy mixes its entries of simultaneous calls.
		s.module, s.timeouts = spy, ", sessions: 1"
		if change != nil {
			change(s)
		}
	})
	w.env = append(w.env, "PKCS11SPY="+w.token.Module, "PKCS11SPY_OUTPUT="+w.path("spy.log"))
	return w
}

func spyModule(t *testing.T) string {
	t.Helper()
	for _, place := range []string{"/usr/lib/*/pkcs11-spy.so", "/usr/lib/*/pkcs11/pkcs11-spy.so",
		"/usr/lib64/pkcs11-spy.so"} {
		if found, _ := filepath.Glob(place); len(found) > 0 {
			return found[0]
		}
	}
	t.Fatal("pkcs11-spy is not here: install it with: apt-get install opensc")
	return ""
}

func (w *world) spyLog() string {
	w.t.Helper()
	b, err := os.ReadFile(w.path("spy.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func TestUnderTheSpyNothingSensitiveIsReadAndNothingGoesToAnUntrustedKEK(t *testing.T) {
	t.Parallel()
	w := spied(t, nil)
	w.start()
	w.waitGeneration(1)
	w.must("rotate", "--now", keyName, "--reason", "under the spy")
	trusted := w.vault["weu"].Versions("keyd-kek")[0].N
	if _, err := w.vault["weu"].ReplaceKEK("keyd-kek"); err != nil {
		t.Fatal(err)
	}
	swapped := w.vault["weu"].Versions("keyd-kek")[1].N
	w.must("rotate", "--now", keyName, "--reason", "beside a swapped KEK")
	w.wait("the swapped KEK is refused", func(s status.Snapshot, _ status.Key) bool {
		return slices.ContainsFunc(s.Problems, func(p status.Problem) bool {
			return p.Runbook == "drift-kek-changed" && strings.Contains(p.Text, "nothing is wrapped")
		})
	})
	w.stop()

	log := w.spyLog()
	sensitive := regexp.MustCompile(`CKA_(PRIVATE_EXPONENT|PRIME_1|PRIME_2|EXPONENT_1|EXPONENT_2|COEFFICIENT|VALUE)\s`)
	if found := sensitive.FindString(log); found != "" {
		t.Errorf("the sensitive attribute %s was asked for", found)
	}
	if strings.Contains(log, modulusLine(swapped)) {
		t.Error("the swapped KEK reached the token")
	}
	wraps := wrapsOfGenerations(t, log)
	if len(wraps) == 0 {
		t.Error("the log shows no wrap, so it cannot show a wrong one")
	}
	for _, modulus := range wraps {
		if modulus != modulusLine(trusted) {
			t.Errorf("something was wrapped to the KEK %s, which is not the trusted one", modulus)
		}
	}
}

// wrapsOfGenerations follows every C_WrapKey after the first generation existed (earlier ones are the self-test of a
// throw-away key) back to the public key for which it was wrapped. It returns the first line of that key's modulus,
// or "" if there is none.
func wrapsOfGenerations(t *testing.T, log string) (moduli []string) {
	t.Helper()
	under := map[string]string{} // handle: the modulus to which it leads
	generations := 0
	for _, call := range regexp.MustCompile(`(?m)^\d+: C_`).Split(log, -1) {
		name, _, _ := strings.Cut(call, "\n")
		switch name {
		case "GenerateKeyPair":
			labels := strings.ReplaceAll(call, " ", "")
			if strings.Contains(call, "CKA_TOKEN             True") && !strings.Contains(labels, "keyd-audit/") &&
				!strings.Contains(labels, "keyd-selftest/") {
				generations++
			}
		case "CreateObject":
			under[field(call, "[out] *phObject")] = lineAfter(call, "CKA_MODULUS ")
		case "GenerateKey":
			delete(under, field(call, "[out] hKey"))
		case "WrapKey":
			kek := under[field(call, "[in] hWrappingKey")]
			if _, known := under[field(call, "[in] hKey")]; !known && strings.Contains(call, "CKM_RSA_PKCS_OAEP") {
				under[field(call, "[in] hKey")] = kek // an AES key, which leads to the key for which it was wrapped
			}
			if generations > 0 {
				moduli = append(moduli, kek)
			}
		}
	}
	if generations != 3 {
		t.Errorf("the log shows %d generations, not 3", generations)
	}
	return moduli
}

// field returns the value of "NAME = VALUE" in one call of the spy's log.
func field(call, name string) string {
	_, rest, _ := strings.Cut(call, name+" = ")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(value)
}

func lineAfter(call, attribute string) string {
	_, rest, _ := strings.Cut(call, attribute)
	_, rest, _ = strings.Cut(rest, "\n")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)[:len("00000000  ")+16*3-1]
}

// modulusLine is how the spy prints the first 16 bytes of a modulus.
func modulusLine(n *big.Int) string { return "00000000  " + fmt.Sprintf("% X", n.Bytes()[:16]) }

func TestAWrongPINIsTriedOnceAcrossRestartsUntilItIsCorrected(t *testing.T) {
	t.Parallel()
	w := spied(t, nil)
	w.writePIN("000000")
	for range 3 {
		w.start()
		w.wait("status says that the PIN was refused", func(s status.Snapshot, _ status.Key) bool {
			return s.HSM.Info.Degraded != ""
		})
		w.wantContains(w.must("status"), "PIN", w.token.PINFile, "not tried again")
		w.stop()
	}
	if n := w.logins(); n != 1 {
		t.Errorf("the wrong PIN was tried %d times, not once", n)
	}
	w.start()
	w.wait("the daemon runs again", func(s status.Snapshot, _ status.Key) bool { return s.HSM.Info.Degraded != "" })
	w.writePIN(w.token.PIN)
	w.must("rotate", "--now", keyName, "--no-wait", "--reason", "the PIN is right now")
	w.waitGeneration(1)
	if n := w.logins(); n != 2 {
		t.Errorf("there were %d logins, not the wrong one and the right one", n)
	}
	if strings.Contains(w.daemon.log.String(), w.token.PIN) {
		t.Error("the PIN is in keyd's log")
	}
}

func (w *world) logins() int { return strings.Count(w.spyLog(), ": C_Login\n") }

// writePIN replaces the PIN file as an operator's editor does.
func (w *world) writePIN(pin string) {
	w.t.Helper()
	next := w.token.PINFile + ".new"
	if err := os.WriteFile(next, []byte(pin+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(next, w.token.PINFile); err != nil {
		w.t.Fatal(err)
	}
}

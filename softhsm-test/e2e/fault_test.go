package e2e_test

import (
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// everyFault is set by `make faults`; `make test` runs a sample.
var everyFault = flag.Bool("every-fault", false, "run every fault, not only a sample")

// notInTheSample ends a test that takes long and that only `make faults` runs.
func notInTheSample(t *testing.T) {
	t.Helper()
	if !*everyFault {
		t.Skip("not in the sample: make faults runs it")
	}
}

// libraryFault is one fault of a vendor's library during a requested rotation.
type libraryFault struct {
	name   string
	sample bool // `make test` runs it too
	// rules are set while the key is well and before the rotation is requested.
	rules func(*faulty) []string
	at    string // the function that the fault strikes
	// shows is in `keyd status --json` for as long as the fault lasts; "" for a fault that strikes once.
	shows string
	// logs is text that the log contains by then or soon. Unless it contains restarted, the HSM side must survive the
	// fault without a new process.
	logs []string
}

func once(function, action string) func(*faulty) []string {
	return func(f *faulty) []string { return []string{f.next(function, action)} }
}

func always(rules ...string) func(*faulty) []string {
	return func(*faulty) []string { return rules }
}

const restarted = "the HSM process ended"

func libraryFaults() []libraryFault {
	return []libraryFault{
		{name: "a generation hangs", sample: true, at: "C_GenerateKeyPair",
			rules: once("C_GenerateKeyPair", "before hang"),
			logs:  []string{"a PKCS#11 call did not return within 8s", restarted}},
		{name: "a generation hangs when the pair is made", at: "C_GenerateKeyPair",
			rules: once("C_GenerateKeyPair", "after hang"),
			logs:  []string{"a PKCS#11 call did not return within 8s", restarted}},
		{name: "a generation answers with an error when the pair is made", sample: true, at: "C_GenerateKeyPair",
			rules: once("C_GenerateKeyPair", "after rv 0x6"),
			logs:  []string{"CKR_FUNCTION_FAILED", restarted}},
		{name: "a generation answers with an error that says nothing of the device", at: "C_GenerateKeyPair",
			rules: once("C_GenerateKeyPair", "after rv 0x2"),
			logs:  []string{"CKR_HOST_MEMORY"}},
		{name: "a generation fails", at: "C_GenerateKeyPair",
			rules: once("C_GenerateKeyPair", "before rv 0x6"),
			logs:  []string{"CKR_FUNCTION_FAILED", restarted}},
		{name: "the library aborts when the pair is made", at: "C_GenerateKeyPair",
			rules: once("C_GenerateKeyPair", "after abort"),
			logs:  []string{"SIGABRT", restarted}},
		{name: "the library has a segmentation fault", sample: true, at: "C_Decrypt",
			rules: once("C_Decrypt", "before segv"),
			logs:  []string{"SIGSEGV", restarted}},
		{name: "a decryption hangs", at: "C_Decrypt",
			rules: once("C_Decrypt", "before hang"),
			logs:  []string{"a PKCS#11 call did not return within 3s", restarted}},
		{name: "every decryption hangs", at: "C_Decrypt",
			rules: always("C_Decrypt * before hang"),
			shows: "no HSM process runs",
			logs:  []string{"a PKCS#11 call did not return within", restarted, "the HSM side is down"}},
		{name: "general errors until the library is loaded again", at: "C_FindObjectsInit",
			rules: once("C_FindObjectsInit", "before stick 0x5"),
			logs:  []string{"CKR_GENERAL_ERROR", restarted}},
		{name: "the login is lost", at: "C_DecryptInit",
			rules: once("C_DecryptInit", "before rv 0x101"),
			logs:  []string{"CKR_USER_NOT_LOGGED_IN", restarted}},
		{name: "the token is taken out", at: "C_GetTokenInfo",
			rules: always("C_GetTokenInfo * before rv 0xE0", "C_OpenSession * before rv 0xE0",
				"C_FindObjectsInit * before rv 0x32", "C_DecryptInit * before rv 0x32",
				"C_GenerateKeyPair * before rv 0x32"),
			shows: "CKR_TOKEN_NOT_PRESENT",
			logs:  []string{"CKR_DEVICE_REMOVED", restarted, "the HSM side is down"}},
		{name: "a private key cannot be wrapped", at: "C_WrapKey",
			rules: always("C_WrapKey * before rv 0x6A"),
			shows: "the token does not allow it",
			logs:  []string{"CKR_KEY_UNEXTRACTABLE"}},
		{name: "a wrap fails", at: "C_WrapKey",
			rules: once("C_WrapKey", "before rv 0x30"),
			logs:  []string{"CKR_DEVICE_ERROR", restarted}},
		{name: "a session is lost", at: "C_DecryptInit",
			rules: once("C_DecryptInit", "before rv 0xB3"),
			logs:  []string{"a session was lost, and another one does its work", "CKR_SESSION_HANDLE_INVALID"}},
		{name: "an object's handle is lost", sample: true, at: "C_GetAttributeValue",
			rules: once("C_GetAttributeValue", "before rv 0x82"),
			logs:  []string{"CKR_OBJECT_HANDLE_INVALID"}},
		{name: "a key's handle is lost", at: "C_DecryptInit",
			rules: once("C_DecryptInit", "before rv 0x60"),
			logs:  []string{"CKR_KEY_HANDLE_INVALID"}},
		// Slow calls that end in time leave no trace but the time they took.
		{name: "every call is slow", at: "C_GetAttributeValue",
			rules: always("* * before sleep 20")},
	}
}

// report prints the effect of one fault; `make faults` adds these lines up.
func report(lost, doubled int) {
	fmt.Printf("faults: 1 tried, lost %d, doubled %d\n", lost, doubled)
}

// After every fault keyd does what is due, the network side stays up meanwhile and reports the fault, and nothing is
// lost or duplicated.
func TestFaultyLibraryLosesAndDuplicatesNothing(t *testing.T) {
	t.Parallel()
	for _, fault := range libraryFaults() {
		if !fault.sample && !*everyFault {
			continue
		}
		t.Run(strings.ReplaceAll(fault.name, "'", ""), func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t, nil)
			f.start()
			f.waitGeneration(1)
			f.seal()
			child := childOf(f.daemon.cmd.Process.Pid)

			struck := f.struck(fault.at)
			f.misbehave(fault.rules(f)...)
			f.must("rotate", "--now", keyName, "--no-wait", "--reason", "while the library misbehaves")
			f.await("the fault strikes", func() bool { return f.struck(fault.at) > struck })
			if fault.shows != "" {
				f.waitShown(fault.shows)
			}
			f.wantUp()
			f.await("the log says what happened", func() bool { return f.logged(fault.logs) })
			f.misbehave()

			f.waitGeneration(2)
			f.wantUp()
			stays := !slices.Contains(fault.logs, restarted)
			if same := childOf(f.daemon.cmd.Process.Pid) == child; same != stays {
				t.Errorf("the HSM side is the same process: %v, want %v", same, stays)
			}
			f.seal()
			report(f.harm(2))
		})
	}
}

// await polls until cond holds.
func (f *faulty) await(what string, cond func() bool) {
	f.t.Helper()
	if err := poll(patience, cond, f.daemon.ended); err != nil {
		f.t.Fatalf("waiting until %s: %v", what, err)
	}
}

func (f *faulty) logged(parts []string) bool {
	log := f.daemon.log.String()
	for _, p := range parts {
		if !strings.Contains(log, p) {
			return false
		}
	}
	return true
}

// waitShown waits until `keyd status` shows the text.
func (f *faulty) waitShown(text string) {
	f.t.Helper()
	f.wait("status shows "+text, func(s status.Snapshot, _ status.Key) bool {
		shown, err := json.Marshal(s)
		return err == nil && strings.Contains(string(shown), text)
	})
}

var listening = regexp.MustCompile(`"Listening on","address":"([^"]+)"`)

// wantUp requires that the network side's loop turns and that it can work, whatever the HSM does.
func (f *faulty) wantUp() {
	f.t.Helper()
	at := listening.FindStringSubmatch(f.daemon.log.String())
	if at == nil {
		f.t.Fatalf("the log does not say where metrics are served:\n%s", f.daemon.log)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, page := range []string{"/healthz", "/readyz", "/metrics"} {
		resp, err := client.Get("http://" + at[1] + page)
		if err != nil {
			f.t.Errorf("%s: %v", page, err)
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			f.t.Errorf("%s answers %s", page, resp.Status)
		}
	}
}

// harm stops the daemon, requires that its audit chain records every effect, and counts what was lost and duplicated
// when n generations were due: data that no longer unwraps, missing pairs and versions, and surplus ones.
func (f *faulty) harm(n int) (lost, doubled int) {
	f.t.Helper()
	if a := f.cli("audit", "--verify"); a.code != 0 {
		f.t.Errorf("keyd audit --verify: %s%s", a.stdout, a.stderr)
	}
	k := f.key()
	f.stop()
	for at, s := range f.sealed {
		plain, err := f.vault[at.vault].Unwrap(keyName, at.version, "RSA-OAEP-256", s.ciphertext)
		if err != nil || sha256.Sum256(plain) != s.sum {
			lost++
		}
	}
	versions := len(f.versions("weu"))
	lost, doubled = lost+max(0, n-versions), doubled+max(0, versions-n)

	whole := map[key.ID]int{}
	pairs := f.pairs()
	f.wantAudited(pairs)
	for _, o := range pairs {
		if o.Complete && !o.Label.Pending {
			whole[o.ID]++
		}
	}
	for _, g := range k.Generations {
		if whole[g.ID] == 0 {
			lost++
		}
	}
	doubled += max(0, len(pairs)-n)
	if lost+doubled > 0 || len(k.Generations) != n {
		f.t.Errorf("lost %d, doubled %d; %d generations, want %d; versions %v; pairs %+v",
			lost, doubled, len(k.Generations), n, f.versions("weu"), pairs)
	}
	return lost, doubled
}

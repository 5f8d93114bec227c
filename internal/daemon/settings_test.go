package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
)

const (
	weuURL    = "https://weu-keyd-test.vault.azure.net"
	neuURL    = "https://neu-keyd-test.vault.azure.net"
	sub       = "6f1d3b6c-8a2e-4d0f-9b7c-5a3e1d0f2b4c"
	otherPin  = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	approvals = "approvals: {acts: [kek], wait: 8h}\n"
)

// guarded is a configuration of which a change needs a second operator.
const guarded = `instance: test
state_dir: %[1]s/state
hsm: {module: /usr/lib/softhsm/libsofthsm2.so, token: keyd, pin_file: hsm-pin}
azure: {credential: managed-identity}
vaults:
  weu: {url: ` + weuURL + `, kek: {fingerprint: "` + anyPin + `", schedule: "@every 300d"}}
  neu: {url: ` + neuURL + `}
  mhsm: {url: https://mhsm-keyd-test.managedhsm.azure.net, kek: {partition_root: "` + anyPin + `"}}
keys:
  one: {vaults: [weu], schedule: "0 3 1 * *", consumers: none, retire: {disable_after: 8760h}}
control: {socket: %[1]s/keyd.sock, operators: [1001, 1002]}
` + approvals + `web: {listen: "127.0.0.1:0"}
`

var (
	anna = control.Actor{UID: 1001, Name: "anna", Login: "anna"}
	bob  = control.Actor{UID: 1002, Name: "bob", Login: "bob"}
)

// guardedChanges has a change of each guarded setting.
var guardedChanges = map[string][2]string{
	"a root for tests":       {"pin_file: hsm-pin", "pin_file: hsm-pin, test_attestation_root: " + testRoot()},
	"a pin":                  {anyPin + `", sch`, otherPin + `", sch`},
	"the trust in first use": {neuURL + "}", neuURL + ", kek: {trust: first-use}}"},
	"a partition root":       {`{partition_root: "` + anyPin, `{partition_root: "` + otherPin},
	"attestation": {
		`{partition_root: "` + anyPin + `"`,
		`{attestation: off, fingerprint: "` + anyPin + `"`,
	},
	"the name of a KEK":          {neuURL + "}", neuURL + ", kek: {name: another}}"},
	"a vault of a key":           {"one: {vaults: [weu]", "one: {vaults: [weu, neu]"},
	"a vault that a key loses":   {"one: {vaults: [weu]", "one: {vaults: [neu]"},
	"a new key":                  {"keys:\n", "keys:\n  two: {vaults: [weu]}\n"},
	"a key that is removed":      {"  one: {vaults", "  other: {vaults"},
	"a new vault":                {"keys:\n", "  sea: {url: https://sea-keyd-test.vault.azure.net}\nkeys:\n"},
	"a vault that is removed":    {"  neu: {url: " + neuURL + "}\n", ""},
	"another vault of that name": {neuURL, "https://evil-keyd-test.vault.azure.net"},
	"a retire rule":              {"disable_after: 8760h", "disable_after: 24h"},
	"the subscriptions":          {"managed-identity", "managed-identity, subscriptions: [" + sub + "]"},
	"a workspace":                {neuURL + "}", neuURL + ", evidence: {workspace: " + sub + "}}"},
	"a consumer": {"consumers: none", "consumers: [/subscriptions/" + sub +
		"/resourceGroups/r/providers/Microsoft.Storage/storageAccounts/s]"},
	"a retire rule's pause":     {"disable_after: 8760h", "disable_after: 8760h, pause: 1h"},
	"an operator":               {"[1001, 1002]", "[1001, 1002, 1003]"},
	"an operator who leaves":    {"[1001, 1002]", "[1001]"},
	"who is who":                {"keys:\n", "host: here\npeople: {anna: {here: 1001}}\nkeys:\n"},
	"the group":                 {"operators: [", "group: daemon, operators: ["},
	"the acts":                  {"acts: [kek]", "acts: [adopt]"},
	"how long a proposal waits": {"wait: 8h", "wait: 1m"},
	"approvals":                 {approvals, ""},
}

func testRoot() string {
	path, _ := filepath.Abs("../attest/testdata/made/root.pem") // a wrong one fails the test
	return path
}

// Otherwise a setting that somebody guards later would take effect at once.
func TestEachGuardedSettingHasACaseThatChangesIt(t *testing.T) {
	source, err := os.ReadFile("../config/guarded.go")
	if err != nil {
		t.Fatal(err)
	}
	_, path := newDaemonOf(t, guarded)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	was, changed := settingsOf(t, path), map[string]bool{}
	for _, c := range guardedChanges {
		write(t, path, strings.Replace(string(text), c[0], c[1], 1))
		for _, change := range was.Changes(settingsOf(t, path)) {
			for name := range change.Values {
				changed[name] = true
			}
		}
	}
	names := regexp.MustCompile(`"([a-z]+\.[a-z_.]+)":?[\] ,]`).FindAllStringSubmatch(string(source), -1)
	for _, m := range names {
		if !changed[m[1]] {
			t.Errorf("no case changes %s", m[1])
		}
	}
	if len(names) < 15 {
		t.Errorf("only %d settings were found", len(names))
	}
}

// as is the context of a request by this person.
func as(t *testing.T, a control.Actor) context.Context { return control.WithActor(t.Context(), a) }

// inForce is a daemon that has started with the guarded configuration.
func inForce(t *testing.T) (*Daemon, string) {
	t.Helper()
	d, path := newDaemonOf(t, guarded)
	started(t, d)
	return d, path
}

// again is the daemon after a restart.
func again(t *testing.T, d *Daemon, path string) *Daemon {
	t.Helper()
	next, err := restart(t, d, path)
	if err != nil {
		t.Fatal(err)
	}
	started(t, next)
	return next
}

func restart(t *testing.T, d *Daemon, path string) (*Daemon, error) {
	t.Helper()
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	next, err := build(
		Options{ConfigPath: path, Version: "1.2.3", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			HSMCommand: []string{"false"}},
		cfg,
	)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := next.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return next, nil
}

// waiting is the one proposal that waits.
func waiting(t *testing.T, d *Daemon) key.Proposal {
	t.Helper()
	list := d.proposals(t.Context(), nil)
	if len(list) != 1 || list[0].Kind != key.ActConfigure {
		t.Fatalf("%+v wait, want one change of the settings", list)
	}
	return list[0]
}

func wantNoneWaiting(t *testing.T, d *Daemon) {
	t.Helper()
	if list := d.proposals(t.Context(), nil); len(list) > 0 {
		t.Errorf("%+v wait", list)
	}
}

func wantProposed(t *testing.T, err error) {
	t.Helper()
	if e := new(control.ProposedError); !errors.As(err, &e) {
		t.Fatalf("%v, want it to wait", err)
	}
}

func wantRefused(t *testing.T, why string, err error) {
	t.Helper()
	if e := new(control.RefusedError); !errors.As(err, &e) || !strings.Contains(e.Text, why) {
		t.Errorf("%v, want a refusal: %s", err, why)
	}
}

// wantInForce requires that the daemon acts on these settings.
func wantInForce(t *testing.T, d *Daemon, want config.Guarded) {
	t.Helper()
	if changes := want.Changes(d.config().Guarded()); len(changes) > 0 {
		t.Errorf("keyd acts on other settings: %+v", changes)
	}
}

func count(t *testing.T, d *Daemon, event chain.Event) (n int) {
	t.Helper()
	if err := d.store.Audit(t.Context(), 1, func(e chain.Linked) error {
		if e.Event == event {
			n++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func settingsOf(t *testing.T, path string) config.Guarded {
	t.Helper()
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Guarded()
}

// One operator changes the files and reloads: nothing of it is in force before another person approves it, all of it
// after that, and a restart changes neither.
func TestInsiderChangesNoGuardedSettingByAReload(t *testing.T) {
	for what, change := range guardedChanges {
		t.Run(what, func(t *testing.T) {
			d, path := inForce(t)
			was := d.config().Guarded()
			edit(t, path, change[0], change[1])
			wantProposed(t, d.Reload(as(t, anna), anna.String()))
			wantInForce(t, d, was)
			d = again(t, d, path)
			wantInForce(t, d, was)
			p := waiting(t, d)
			wantRefused(t, "another person must approve", d.Approve(as(t, anna), p.ID, "it is fine"))
			sudo := control.Actor{UID: bob.UID, Name: bob.Name, Login: "anna"}
			wantRefused(t, "another person must approve", d.Approve(as(t, sudo), p.ID, "it is fine"))
			wantInForce(t, d, was)
			if err := d.Approve(as(t, bob), p.ID, "anna called me"); err != nil {
				t.Fatal(err)
			}
			wantInForce(t, d, settingsOf(t, path))
			wantNoneWaiting(t, d)
			if n := count(t, d, chain.Approved); n != 1 {
				t.Errorf("%d approvals in the chain, want 1", n)
			}
			d = again(t, d, path)
			wantInForce(t, d, settingsOf(t, path))
			wantNoneWaiting(t, d)
			was = d.config().Guarded()
			recorded, err := recordedConfig(t.Context(), d.store)
			if err != nil || len(recorded.Changes(was)) > 0 {
				t.Errorf("the chain adds up to other settings: %+v (%v)", recorded.Changes(was), err)
			}
		})
	}
}

// One operator changes the files and restarts, or sends a signal: nobody can tell who it was. So it waits for two.
func TestInsiderChangesNoGuardedSettingByARestart(t *testing.T) {
	for what, change := range guardedChanges {
		t.Run(what, func(t *testing.T) {
			d, path := inForce(t)
			was := d.config().Guarded()
			edit(t, path, change[0], change[1])
			d = again(t, d, path)
			wantInForce(t, d, was)
			first := waiting(t, d)
			for _, who := range []control.Actor{anna, bob} {
				wantRefused(t, "does not know who asked", d.Approve(as(t, who), first.ID, "it is fine"))
			}
			wantProposed(t, d.Reload(t.Context(), "signal"))
			if p := waiting(t, d); p.ID != first.ID {
				t.Error("a signal made another proposal of the same files")
			}
			wantProposed(t, d.Reload(as(t, anna), anna.String()))
			p := waiting(t, d)
			wantRefused(t, "another person must approve", d.Approve(as(t, anna), p.ID, "it is fine"))
			wantInForce(t, d, was)
			if err := d.Approve(as(t, bob), p.ID, "anna called me"); err != nil {
				t.Fatal(err)
			}
			wantInForce(t, d, settingsOf(t, path))
		})
	}
}

func TestTheRestOfTheFilesIsInForceAtOnce(t *testing.T) {
	d, path := inForce(t)
	edit(t, path, "0 3 1 * *", "0 4 1 * *")
	edit(t, path, "@every 300d", "@every 200d")
	edit(t, path, anyPin+`", sch`, otherPin+`", sch`)
	wantProposed(t, d.Reload(as(t, anna), anna.String()))
	v, _ := d.config().Vault(weuURL)
	p, _ := d.loop.Policy("one")
	if p.ScheduleText != "0 4 1 * *" || v.KEK.ScheduleText != "@every 200d" || v.KEK.Fingerprints[0] != anyPin {
		t.Errorf("the schedule is %s, the KEK %+v", p.ScheduleText, v.KEK)
	}
}

// What the files no longer have is still there, whole, after a restart.
func TestAKeyAndAVaultThatTheFilesLoseStayAsTheyWere(t *testing.T) {
	d, path := inForce(t)
	edit(t, path, "  one: {vaults: [weu], schedule: \"0 3 1 * *\", consumers: none, retire: {disable_after: 8760h}}\n",
		"  two: {vaults: [neu]}\n")
	edit(t, path, "  weu: {url: "+weuURL+", kek: {fingerprint: \""+anyPin+"\", schedule: \"@every 300d\"}}\n", "")
	d = again(t, d, path)
	p, known := d.loop.Policy("one")
	v, there := d.config().Vault(weuURL)
	next := time.Date(2026, 3, 2, 0, 0, 0, 0, time.Local)
	if !known || p.Retained || p.Schedule == nil || p.Schedule.Next(next).IsZero() ||
		p.Retire.DisableAfter != 8760*time.Hour {
		t.Errorf("the key is %+v", p)
	}
	if !there || v.KEK.Schedule == nil || d.client(weuURL) == nil {
		t.Errorf("the vault is %+v", v)
	}
	if _, known := d.loop.Policy("two"); known {
		t.Error("the new key is in force")
	}
}

func TestAnotherChangeTakesTheProposalsPlace(t *testing.T) {
	d, path := inForce(t)
	edit(t, path, "disable_after: 8760h", "disable_after: 24h")
	wantProposed(t, d.Reload(as(t, anna), anna.String()))
	first := waiting(t, d)
	edit(t, path, "disable_after: 24h", "disable_after: 48h")
	wantRefused(t, "have changed", d.Approve(as(t, bob), first.ID, "anna called me"))
	wantProposed(t, d.Reload(as(t, anna), anna.String()))
	second := waiting(t, d)
	if second.ID == first.ID || !strings.Contains(second.Effects, "disable_after 48h0m0s") {
		t.Errorf("what waits is %+v", second)
	}
	if e := new(control.UsageError); !errors.As(d.Approve(as(t, bob), first.ID, "anna called me"), &e) {
		t.Error("the first can still be approved")
	}
	if err := d.Approve(as(t, bob), second.ID, "anna called me"); err != nil {
		t.Error(err)
	}
}

// Also a change that is not guarded: the digest is of the files.
func TestNoProposalOutlivesAChangeOfTheFiles(t *testing.T) {
	d, path := inForce(t)
	edit(t, path, "disable_after: 8760h", "disable_after: 24h")
	wantProposed(t, d.Reload(as(t, anna), anna.String()))
	first := waiting(t, d)
	edit(t, path, "keys:\n", "# a comment\nkeys:\n")
	wantProposed(t, d.Reload(as(t, anna), anna.String()))
	if second := waiting(t, d); second.ID == first.ID || second.Digest == first.Digest {
		t.Error("the proposal is the same")
	}
}

func TestAChangeThatIsTakenBackWaitsForNobody(t *testing.T) {
	d, path := inForce(t)
	was := d.config().Guarded()
	edit(t, path, "disable_after: 8760h", "disable_after: 24h")
	wantProposed(t, d.Reload(as(t, anna), anna.String()))
	edit(t, path, "disable_after: 24h", "disable_after: 8760h")
	if err := d.Reload(as(t, anna), anna.String()); err != nil {
		t.Fatal(err)
	}
	wantNoneWaiting(t, d)
	wantInForce(t, d, was)
	if n := count(t, d, chain.ProposalWithdrawn); n != 1 || len(d.notInForce().changes) > 0 {
		t.Errorf("%d entries that it was withdrawn, and %v is not in force", n, d.notInForce())
	}
}

func TestSettingsThatNobodyApprovesStayOut(t *testing.T) {
	for what, end := range map[string]func(t *testing.T, d *Daemon, id key.ID){
		"withdrawn": func(t *testing.T, d *Daemon, id key.ID) {
			if err := d.Withdraw(as(t, bob), id, "no"); err != nil {
				t.Fatal(err)
			}
		},
		"not approved in time": func(t *testing.T, d *Daemon, _ key.ID) {
			d.rotator.Clock = func() time.Time { return time.Now().Add(8 * time.Hour) }
			if err := d.rotator.EndOldSettingsProposals(t.Context()); err != nil {
				t.Fatal(err)
			}
			d.rotator.Clock = time.Now
		},
	} {
		t.Run(what, func(t *testing.T) {
			d, path := inForce(t)
			was := d.config().Guarded()
			edit(t, path, "disable_after: 8760h", "disable_after: 24h")
			wantProposed(t, d.Reload(as(t, anna), anna.String()))
			p := waiting(t, d)
			end(t, d, p.ID)
			wantNoneWaiting(t, d)
			wantInForce(t, d, was)
			if len(d.notInForce().changes) != 1 {
				t.Errorf("%v is not in force, want the rule", d.notInForce())
			}
			if err := d.Approve(as(t, bob), p.ID, "late"); err == nil {
				t.Error("it was approved")
			}
			wantProposed(t, d.Reload(as(t, anna), anna.String()))
			if next := waiting(t, d); next.ID == p.ID {
				t.Error("the proposal came back")
			}
		})
	}
}

// A person who is not yet an operator approves nothing, and a rule that is not yet in force asks nobody.
func TestTheRuleInForceJudgesItsOwnRemoval(t *testing.T) {
	d, path := inForce(t)
	edit(t, path, approvals, "")
	wantProposed(t, d.Reload(as(t, anna), anna.String()))
	edit(t, path, "disable_after: 8760h", "disable_after: 24h")
	wantProposed(t, d.Reload(as(t, anna), anna.String()))
	if err := d.Approve(as(t, bob), waiting(t, d).ID, "we stop"); err != nil {
		t.Fatal(err)
	}
	edit(t, path, "disable_after: 24h", "disable_after: 48h")
	if err := d.Reload(as(t, anna), anna.String()); err != nil {
		t.Errorf("nobody needs to approve any more: %v", err)
	}
	wantInForce(t, again(t, d, path), settingsOf(t, path))
}

func TestApprovalsAreInForceFromTheFirstReloadThatHasThem(t *testing.T) {
	d, path := newDaemonOf(t, strings.Replace(guarded, approvals, "", 1))
	started(t, d)
	edit(t, path, "web: {", approvals+"web: {")
	if err := d.Reload(as(t, anna), anna.String()); err != nil {
		t.Fatal(err)
	}
	was := d.config().Guarded()
	edit(t, path, approvals, "")
	d = again(t, d, path)
	wantInForce(t, d, was)
	waiting(t, d)
}

func TestWhatWaitsIsShownByValue(t *testing.T) {
	d, path := inForce(t)
	edit(t, path, anyPin+`", sch`, otherPin+`", sch`)
	edit(t, path, "[1001, 1002]", "[1001]")
	err := d.Reload(as(t, anna), anna.String())
	wantProposed(t, err)
	p := waiting(t, d)
	want := "control.operators: 1001, 1002 -> 1001\nvaults.kek.fingerprints of " + weuURL + ": " + anyPin + " -> " +
		otherPin
	if p.Effects != want || p.By.Actor != anna.String() {
		t.Errorf("the proposal is %+v, want %s", p, want)
	}
	for _, line := range append(strings.Split(want, "\n"), "keyd approve "+string(p.ID), "2 settings") {
		if !strings.Contains(err.Error(), line) {
			t.Errorf("%q is not in the answer: %v", line, err)
		}
	}
}

// The state has no settings, as after somebody removed their record or put keyd back to an older version.
func TestInsiderStartsNoDaemonWithoutTheSettingsInForce(t *testing.T) {
	d, path := newDaemonOf(t, guarded)
	entry := chain.Entry{Event: chain.DaemonStarted, Actor: "keyd", Fields: map[string]string{
		chain.FieldConfig: d.cfg.Guarded().Digest()}}
	if err := d.store.Append(t.Context(), append([]chain.Entry{entry},
		configChanged("keyd", nil, d.cfg.Guarded())...)...); err != nil {
		t.Fatal(err)
	}
	edit(t, path, approvals, "")
	var problems config.Problems
	if _, err := restart(t, d, path); !errors.As(err, &problems) ||
		!strings.Contains(err.Error(), "accept-settings") {
		t.Errorf("%v, want the mistake with what to do", err)
	}
}

func TestRootAcceptsSettingsAloneAndTheAuditKeepsIt(t *testing.T) {
	for what, carry := range map[string]func(t *testing.T, d *Daemon, path string) *Daemon{
		"by a reload": func(t *testing.T, d *Daemon, _ string) *Daemon {
			if err := d.Reload(t.Context(), "signal"); err != nil {
				t.Fatal(err)
			}
			return d
		},
		"by a restart": again,
	} {
		t.Run(what, func(t *testing.T) {
			d, path := inForce(t)
			edit(t, path, approvals, "")
			wantProposed(t, d.Reload(as(t, anna), anna.String()))
			if err := AcceptSettings(path, "bob has left"); err != nil {
				t.Fatal(err)
			}
			d = carry(t, d, path)
			wantInForce(t, d, settingsOf(t, path))
			wantNoneWaiting(t, d)
			var found []chain.Linked
			if err := d.store.Audit(t.Context(), 1, func(e chain.Linked) error {
				if e.Event == chain.SettingsAccepted {
					found = append(found, e)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if len(found) != 1 || found[0].Actor != "root" || found[0].Fields["reason"] != "bob has left" ||
				!strings.Contains(found[0].Fields["effects"], "approvals.acts: kek -> none") {
				t.Errorf("the chain has %+v", found)
			}
			if _, err := os.Stat(acceptanceFile(d.config().StateDir)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the order is still there: %v", err)
			}
		})
	}
}

func TestRootsOrderIsForTheFilesAsTheyWere(t *testing.T) {
	d, path := inForce(t)
	was := d.config().Guarded()
	edit(t, path, approvals, "")
	if err := AcceptSettings(path, "bob has left"); err != nil {
		t.Fatal(err)
	}
	edit(t, path, "disable_after: 8760h", "disable_after: 48h")
	wantProposed(t, d.Reload(as(t, anna), anna.String()))
	wantInForce(t, d, was)
}

// What a file holds, too, is kept by value: whoever exchanges it changes a setting.
func TestInsiderExchangesNoFileThatTheSettingsName(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root.pem")
	copied := func(from string) {
		text, err := os.ReadFile(filepath.Join("../attest", from))
		if err != nil {
			t.Fatal(err)
		}
		write(t, root, string(text))
	}
	copied("testdata/made/root.pem")
	d, path := newDaemonOf(t, strings.Replace(guarded, "pin_file: hsm-pin",
		"pin_file: hsm-pin, test_attestation_root: "+root, 1))
	started(t, d)
	was := d.config().Guarded()
	copied("roots/ls1.pem")
	d = again(t, d, path)
	wantInForce(t, d, was)
	waiting(t, d)
}

// The file is as the first version wrote it. Each later version must read it, or bring such states up to date.
func TestSettingsInForceOfAnEarlierVersionAreRead(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "in-force.json"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := config.DecodeInForce(text)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := newDaemonOf(t, guarded)
	under, err := d.cfg.Under(f)
	if err != nil {
		t.Fatal(err)
	}
	wantInForce(t, d, under.Guarded())
}

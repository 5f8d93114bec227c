package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
)

// base is a configuration without a mistake.
const base = `instance: hq-1
hsm:
  module: /usr/lib/softhsm/libsofthsm2.so
  token: keyd
  pin_file: hsm-pin
vaults:
  weu:
    url: https://contoso-weu.vault.azure.net
  mhsm:
    url: https://contoso.managedhsm.azure.net
keys:
  cmk:
    vaults: [weu, mhsm]
    schedule: "@monthly"
`

// write makes a configuration folder of named files and returns the main
// file's path.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "keyd.yaml")
}

func load(t *testing.T, files map[string]string) (*config.Config, config.Problems) {
	t.Helper()
	path := write(t, files)
	c, err := config.Load(path)
	if err == nil {
		return c, nil
	}
	var ps config.Problems
	if !errors.As(err, &ps) {
		t.Fatalf("Load's error is %T, not Problems: %v", err, err)
	}
	dir := filepath.Dir(path) + "/"
	for i := range ps {
		ps[i].File = strings.TrimPrefix(ps[i].File, dir)
		ps[i].Message = strings.ReplaceAll(ps[i].Message, dir, "")
		ps[i].Remedy = strings.ReplaceAll(ps[i].Remedy, dir, "")
	}
	return c, ps
}

func mustLoad(t *testing.T, text string) *config.Config {
	t.Helper()
	c, ps := load(t, map[string]string{"keyd.yaml": text})
	if ps != nil {
		t.Fatalf("Load:\n%v", ps)
	}
	return c
}

func TestDefaultsAreFilledIn(t *testing.T) {
	c := mustLoad(t, base)
	weu := key.Vault{Name: "weu", URL: "https://contoso-weu.vault.azure.net", Kind: key.KeyVault}
	mhsm := key.Vault{Name: "mhsm", URL: "https://contoso.managedhsm.azure.net", Kind: key.ManagedHSM}
	kek := config.KEK{Name: "keyd-kek", Create: true, Bits: 4096}
	attestedKEK := kek
	attestedKEK.Attested = true
	want := &config.Config{
		Files:    c.Files,
		Instance: "hq-1",
		StateDir: "/var/lib/keyd",
		Store:    config.Store{Lease: 15 * time.Second},
		HSM: config.HSM{
			Module: "/usr/lib/softhsm/libsofthsm2.so", Token: "keyd", PINFile: "hsm-pin", User: "keyd",
			StateDir: "/var/lib/keyd/hsm", Sessions: 4, CallTimeout: 30 * time.Second, GenerateTimeout: 5 * time.Minute,
		},
		Azure:  config.Azure{Credential: "managed-identity", Cloud: "public", SubscriptionShare: 0.5},
		Vaults: []config.Vault{{Vault: weu, KEK: kek, Share: 0.5}, {Vault: mhsm, KEK: attestedKEK, Share: 0.5}},
		Policies: []key.Policy{{
			Key: "cmk", Spec: key.RSA4096, Vaults: []key.Vault{weu, mhsm}, ScheduleText: "@monthly",
			Operations: []key.Operation{key.WrapKey, key.UnwrapKey}, Floor: time.Hour, Budget: 10,
		}},
		Control:   config.Control{Socket: "/run/keyd/keyd.sock", Group: "keyd"},
		Approvals: config.Approvals{Wait: 24 * time.Hour},
		Web:       config.Web{Listen: "127.0.0.1:9889"},
		Health:    config.Health{Newest: 5 * time.Minute, Older: 24 * time.Hour, Look: 15 * time.Minute},
		Log:       config.Log{Format: "auto"},
	}
	diff := cmp.Diff(want, c, cmpopts.IgnoreUnexported(config.Config{}, config.HSM{}, config.Azure{}),
		cmpopts.IgnoreFields(key.Policy{}, "Schedule"))
	if diff != "" {
		t.Error("-want +got\n" + diff)
	}
	if c.Policies[0].Schedule == nil {
		t.Error("the schedule is nil")
	}
}

func TestEveryFieldIsRead(t *testing.T) {
	const print = "sha256:00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
	c := mustLoad(t, `
instance: hq-1
state_dir: /srv/keyd/
hsm:
  module: /opt/hsm/lib.so
  token: "0123"
  serial: 0042
  pin_file: /etc/keyd/pin
  socket: /run/keyd-hsm/hsm.sock
  user: 991
  sessions: 8
  call_timeout: 1m
  generate_timeout: 10m
  wrap_mechanism: 0x80000171
azure:
  credential: client-certificate
  client_id: 00000000-0000-0000-0000-00000000000a
  tenant_id: contoso.example
  certificate_file: client-certificate
  cloud: usgovernment
  ca_file: /etc/ssl/proxy.pem
  subscription_share: 0.25
  subscriptions: [0000000C-0000-0000-0000-00000000000D]
vaults:
  gov:
    url: https://Contoso-Gov.Vault.UsGovCloudAPI.net/
    kek: {name: transfer, fingerprint: "`+print+`", create: false, bits: 3072}
    share: 0.8
    subscription: 0000000A-0000-0000-0000-00000000000B
    evidence: {workspace: 0000000E-0000-0000-0000-00000000000F}
keys:
  b:
    spec: RSA-2048
    vaults: [gov]
    schedule: "CRON_TZ=Europe/Berlin 0 3 1 */3 *"
    operations: [encrypt, decrypt, wrapKey, unwrapKey]
    retire: {disable_after: 90d, pause: 2d, unused_for: 60d, backups: 35d}
    consumers:
      - `+storage+`
      - {id: `+registry+`, follow: keyd, vault: GOV}
    floor: 12h
    budget: 2
    window: 4h
    spread: 30m
    spares: 2
    expires_after: 123d
  a: {vaults: [gov], retire: never, floor: 0s, consumers: none}
control: {socket: /run/k.sock, operators: [1000, root], group: daemon}
approvals: {acts: [adopt, kek], wait: 2h}
web: {listen: "0.0.0.0:9889", web_config_file: /etc/keyd/web.yaml}
health: {newest: 1m, older: 12h, look: 5m}
log: {level: debug, format: json}
`)
	gov := key.Vault{Name: "gov", URL: "https://contoso-gov.vault.usgovcloudapi.net", Kind: key.KeyVault}
	workspaces := map[string]string{gov.URL: "0000000e-0000-0000-0000-00000000000f"}
	want := &config.Config{
		Files: c.Files, Instance: "hq-1", StateDir: "/srv/keyd",
		Store: config.Store{Lease: 15 * time.Second},
		HSM: config.HSM{
			Module: "/opt/hsm/lib.so", Token: "0123", Serial: "0042", PINFile: "/etc/keyd/pin",
			Socket: "/run/keyd-hsm/hsm.sock", User: "991", StateDir: "/var/lib/keyd-hsm", Sessions: 8,
			CallTimeout: time.Minute, GenerateTimeout: 10 * time.Minute, WrapMechanism: 0x80000171,
		},
		Azure: config.Azure{
			Credential: "client-certificate", ClientID: "00000000-0000-0000-0000-00000000000a",
			TenantID:        "contoso.example",
			CertificateFile: "client-certificate", Cloud: "usgovernment", CAFile: "/etc/ssl/proxy.pem",
			SubscriptionShare: 0.25, Subscriptions: []string{"0000000c-0000-0000-0000-00000000000d"},
		},
		Vaults: []config.Vault{{Vault: gov, KEK: config.KEK{
			Name: "transfer", Fingerprints: []key.Fingerprint{key.Fingerprint(strings.ToLower(print))}, Bits: 3072},
			Share: 0.8, Subscription: "0000000a-0000-0000-0000-00000000000b",
			Workspace: "0000000e-0000-0000-0000-00000000000f"}},
		Policies: []key.Policy{
			{Key: "a", Spec: key.RSA4096, Vaults: []key.Vault{gov},
				Operations: []key.Operation{key.WrapKey, key.UnwrapKey}, Budget: 10,
				Retire: key.RetireRule{NoConsumers: true}, Workspaces: workspaces, Discover: true},
			{Key: "b", Spec: key.RSA2048, Vaults: []key.Vault{gov}, ScheduleText: "CRON_TZ=Europe/Berlin 0 3 1 */3 *",
				Operations: []key.Operation{key.Encrypt, key.Decrypt, key.WrapKey, key.UnwrapKey},
				Retire: key.RetireRule{DisableAfter: 90 * 24 * time.Hour, Pause: 48 * time.Hour,
					UnusedFor: 60 * 24 * time.Hour, Backups: 35 * 24 * time.Hour,
					Watched: c.Policies[1].Retire.Watched},
				Consumers: []key.Consumer{
					{ID: storage, Vault: gov.URL, Follow: key.FollowService},
					{ID: registry, Vault: gov.URL, Follow: key.FollowKeyd},
				},
				Workspaces: workspaces, Discover: true,
				Floor: 12 * time.Hour, Budget: 2, Window: 4 * time.Hour, Spread: 30 * time.Minute, Spares: 2,
				ExpiresAfter: 123 * 24 * time.Hour},
		},
		Control:   config.Control{Socket: "/run/k.sock", Operators: []uint32{1000, 0}, Group: "daemon"},
		Approvals: config.Approvals{Acts: []key.ActKind{key.ActAdopt, key.ActKEK}, Wait: 2 * time.Hour},
		Web:       config.Web{Listen: "0.0.0.0:9889", ConfigFile: "/etc/keyd/web.yaml"},
		Health:    config.Health{Newest: time.Minute, Older: 12 * time.Hour, Look: 5 * time.Minute},
		Log:       config.Log{Level: -4, Format: "json"},
	}
	diff := cmp.Diff(want, c, cmpopts.IgnoreUnexported(config.Config{}, config.HSM{}, config.Azure{}),
		cmpopts.IgnoreFields(key.Policy{}, "Schedule"))
	if diff != "" {
		t.Error("-want +got\n" + diff)
	}
	if c.Policies[0].Schedule != nil {
		t.Error("key a has a schedule that nobody wrote")
	}
}

func TestAVaultMayHaveSeveralFingerprintsAndAScheduleForItsKEK(t *testing.T) {
	const weuLine = "    url: https://contoso-weu.vault.azure.net\n"
	one, two := "sha256:"+strings.Repeat("1a", 32), "sha256:"+strings.Repeat("2b", 32)
	c, ps := load(t, map[string]string{"keyd.yaml": strings.Replace(base, weuLine, weuLine+
		"    kek: {fingerprints: [\""+one+"\", \""+two+"\"], schedule: \"@every 365d\"}\n", 1)})
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	if kek := c.Vaults[0].KEK; !slices.Equal(kek.Fingerprints,
		[]key.Fingerprint{key.Fingerprint(one), key.Fingerprint(two)}) || kek.FirstUse {
		t.Errorf("the vault's KEK is %+v", kek)
	}
	p := c.VaultPolicies()[0]
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	if p.KEK != "keyd-kek" || !p.Create || p.ScheduleText != "@every 365d" ||
		!p.Schedule.Next(at).Equal(at.Add(365*24*time.Hour)) {
		t.Errorf("the vault's policy is %+v", p)
	}
}

// The form in which keyd's documents introduce it.
func TestTypicalConfigurationLoads(t *testing.T) {
	c := mustLoad(t, `
instance: hq-1                   # in labels and tags
hsm:
  module: /usr/lib/softhsm/libsofthsm2.so
  token: keyd
  pin_file: hsm-pin              # a systemd credential's name, or an absolute path
azure:
  credential: managed-identity
vaults:
  contoso-weu:
    url: https://contoso-weu.vault.azure.net
    kek: {name: keyd-kek, fingerprint: "sha256:9f2b6c1d84e07a35f1c8d92e40b7a6531ce8f90d2475ab3618de4f7c0a915b26"}
  contoso-hsm:
    url: https://contoso.managedhsm.azure.net
keys:
  sa-cmk-key:
    spec: RSA-4096               # the default
    vaults: [contoso-weu, contoso-hsm]
    schedule: "CRON_TZ=Europe/Berlin 0 3 1 */3 *"
    operations: [wrapKey, unwrapKey]
    # retire: never              # the default
`)
	if len(c.Policies) != 1 || len(c.Policies[0].Vaults) != 2 || !c.Policies[0].Retire.Never() {
		t.Errorf("policies %+v", c.Policies)
	}
}

func TestExampleLoads(t *testing.T) {
	text, err := os.ReadFile("../../deploy/keyd.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := mustLoad(t, string(text))
	if len(c.Policies) == 0 {
		t.Error("the example has no keys")
	}
}

// Every commented-out line of the example in the form "#name: value" must be right, too: people remove the comment
// sign.
func TestExampleLoadsWithItsCommentSignsRemoved(t *testing.T) {
	text, err := os.ReadFile("../../deploy/keyd.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		rest := strings.TrimLeft(line, " ")
		if after, ok := strings.CutPrefix(rest, "#"); ok && !strings.HasPrefix(after, " ") &&
			strings.TrimSpace(after) != "" {
			line = line[:len(line)-len(rest)] + after
		}
		lines = append(lines, line)
	}
	mustLoad(t, strings.Join(lines, ""))
}

func TestFragmentsAreMerged(t *testing.T) {
	c, ps := load(t, map[string]string{
		"keyd.yaml":        base,
		"keys.d/20-b.yaml": "keys:\n  b: {vaults: [north]}\n",
		"keys.d/10-a.yaml": "vaults:\n  north: {url: https://contoso-neu.vault.azure.net}\nkeys:\n  a: {vaults: " +
			"[weu, north]}\n",
		"keys.d/.hidden.yaml": "nonsense: true\n",
		"keys.d/README":       "not read",
	})
	if ps != nil {
		t.Fatal(ps)
	}
	var names []string
	for _, p := range c.Policies {
		names = append(names, p.Key)
	}
	if got := strings.Join(names, " "); got != "a b cmk" {
		t.Errorf("policies %q, want sorted by name from all files", got)
	}
	var files []string
	for _, f := range c.Files {
		files = append(files, filepath.Base(f))
	}
	if got := strings.Join(files, " "); got != "keyd.yaml 10-a.yaml 20-b.yaml" {
		t.Errorf("files %q", got)
	}
}

func TestDuplicatesAcrossFilesNameBothPlaces(t *testing.T) {
	_, ps := load(t, map[string]string{
		"keyd.yaml": base,
		"keys.d/a.yaml": `vaults:
  weu: {url: https://other.vault.azure.net}
  again: {url: https://CONTOSO-weu.vault.azure.net}
  MHSM: {url: https://third.vault.azure.net}
keys:
  CMK: {vaults: [weu]}
instance: hq-2
zones: 3
`,
		"keys.d/b.yml": "",
	})
	want := `keys.d/a.yaml:2:3: vault weu is already at keyd.yaml:7:3; keep one of them
keys.d/a.yaml:3:3: vault again has the same url as weu at keyd.yaml:7:3; keep one of them
keys.d/a.yaml:4:3: vault MHSM is already at keyd.yaml:9:3; rename one of them: ` +
		`nicknames that differ only in case are the same
keys.d/a.yaml:6:3: key CMK is already at keyd.yaml:12:3; rename one of them: vaults ignore case
keys.d/a.yaml:7:1: instance does not belong in keys.d, where only vaults and keys are read; move it to keyd.yaml
keys.d/a.yaml:8:1: unknown field zones; write one of vaults, keys`
	var got []string
	for _, p := range ps {
		if p.File != "keys.d/b.yml" {
			got = append(got, p.String())
		}
	}
	if diff := cmp.Diff(want, strings.Join(got, "\n")); diff != "" {
		t.Error("-want +got\n" + diff)
	}
	if len(got) != len(ps)-1 {
		t.Error("the file b.yml, which is not read, was not reported")
	}
}

// A vault in a file that cannot be read is not reported as unknown.
func TestUnreadableFragmentCausesNoOtherProblem(t *testing.T) {
	_, ps := load(t, map[string]string{
		"keyd.yaml":     strings.Replace(base, "[weu, mhsm]", "[weu, north]", 1),
		"keys.d/a.yaml": "vaults: {north: [\n",
	})
	if len(ps) != 1 || ps[0].File != "keys.d/a.yaml" || !strings.Contains(ps[0].Message, "YAML syntax") {
		t.Errorf("want one problem of syntax in a.yaml:\n%v", ps)
	}
}

func TestAllMistakesAreShownAtOnceAndInOrder(t *testing.T) {
	_, ps := load(t, map[string]string{"keyd.yaml": mustRead(t, "testdata/five.yaml")})
	want := strings.TrimSuffix(mustRead(t, "testdata/five.golden"), "\n")
	if diff := cmp.Diff(want, ps.Error()); diff != "" {
		t.Error("-want +got\n" + diff)
	}
}

func mustRead(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

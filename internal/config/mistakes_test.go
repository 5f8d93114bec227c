package config_test

import (
	"fmt"
	"strings"
	"testing"
)

// Each row changes one line of the base configuration; « stands where the
// problem must point.
func TestEachMistakeIsNamedWithPlaceAndRemedy(t *testing.T) {
	const (
		nameRemedy = "use 1 to 127 letters, digits and hyphens (0-9 a-z A-Z -)"
		urlRemedy  = "write https://NAME.vault.azure.net or https://NAME.managedhsm.azure.net (or the sovereign " +
			"cloud's), and nothing after it"
		cronRemedy = `write five fields (minute hour day month weekday), such as "0 3 1 */3 *", or @monthly or ` +
			`@every 90d`
		noValue  = "write one value after the colon, or remove the field"
		weuURL   = "    url: https://contoso-weu.vault.azure.net\n"
		schedule = `    schedule: "@monthly"` + "\n"
	)
	for _, m := range []struct{ name, old, new, want string }{
		// The file.
		{"not a mapping", base, "«- a\n- b\n", "the file is not a mapping; write fields such as instance: hq-1"},
		{"unknown field", "instance: hq-1\n", "instance: hq-1\n«instanse: x\n",
			"unknown field instanse; did you mean instance?"},
		{"unknown field like none", "instance: hq-1\n", "instance: hq-1\n«zzzzzz: x\n",
			"unknown field zzzzzz; write one of instance, state_dir, store, host, people, hsm, azure, vaults, " +
				"defaults, keys, control, approvals, web, health, log"},
		{"same field twice", "instance: hq-1\n", "instance: hq-1\n«instance: x\n",
			"instance is already at keyd.yaml:1:1; keep one of them"},
		{"anchor", "instance: hq-1\n", "instance: «&a hq-1\n",
			"YAML anchors and aliases are not read; write the value out, and quote text that begins with * or &"},
		{"tab in the indentation", "  weu:\n", "«\tweu:\n",
			"a tab in the indentation, which YAML does not allow; write spaces in its place"},
		{"tab between brackets", "[weu, mhsm]", "{a: b,«\tc: d}",
			"a tab where YAML does not allow one; write spaces in its place"},
		{"unquoted schedule", `"@monthly"`, "«*/5 * * * *  # often",
			"the schedule begins with a character that YAML reads as its own; " +
				`quote it: schedule: "*/5 * * * *"`},
		{"unquoted descriptor", `"@monthly"`, "«@monthly",
			`the schedule begins with a character that YAML reads as its own; quote it: schedule: "@monthly"`},
		{"unquoted schedule in braces", "  cmk:\n",
			"  b: {vaults: [weu], schedule: «*/5 0,12 * * *, floor: 0s}\n  cmk:\n",
			"the schedule begins with a character that YAML reads as its own; " +
				`quote it: schedule: "*/5 0,12 * * *"`},
		{"tag", "instance: hq-1\n", "instance: «!!str hq-1\n", "YAML tags are not read; remove it"},
		{"control character", "instance: hq-1\n", "instance: hq-1 «\x01\n", "a control character; remove it"},
		{"not UTF-8", "instance: hq-1\n", "«instance: \xff\n", "this line is not UTF-8; save the file as UTF-8"},
		{"unseen characters", "instance: hq-1\n", "instance: «\"\\e[31mhq\"\n",
			"instance has invisible characters; remove them"},
		{"field name of lines", "instance: hq-1\n", "instance: hq-1\n«\"a\\nb\": x\n",
			"the file: a field's name must be text; write a plain name"},
		{"too many lines", "instance: hq-1\n", strings.Repeat("\n", 20_000) + "«instance: hq-1\n",
			"more than 20000 lines; split the file into files in keys.d"},
		{"long line", "instance: hq-1\n", "«# " + strings.Repeat("x", 3000) + "\n",
			"a line longer than 2048 bytes; break it up"},
		{"deep brackets", "[weu, mhsm]", strings.Repeat("[", 16) + "«[", "brackets more than 16 deep; close them"},
		// Plain values.
		{"instance", "hq-1", "«hq_1", `instance: "hq_1" is not a valid name; ` + nameRemedy},
		{"no value", "instance: hq-1\n", "«instance:\n", "instance has no value; " + noValue},
		{"a mapping for a value", "instance: hq-1\n", "«instance: {a: b}\n",
			"instance is not a single value; " + noValue},
		{"a list for a value", "instance: hq-1\n", "instance: «[hq-1]\n", "instance is not a single value; " + noValue},
		{"no instance", "instance: hq-1\n", "«# \n",
			"instance is missing; write instance: and a name for this keyd, such as hq-1"},
		{"relative path", "hsm:\n", "state_dir: «lib/keyd\nhsm:\n",
			`state_dir: "lib/keyd" is not an absolute path; write the path from the root, such as /etc/keyd/keyd`},
		// The HSM.
		{"PIN in the configuration", "  pin_file: hsm-pin\n", "  pin_file: hsm-pin\n  «pin: 1234\n",
			"hsm.pin puts the PIN into the configuration; write it into a file that only the HSM side can read, name " +
				"that by hsm.pin_file, and change the PIN if others could read this file"},
		{"no PIN file", "hsm:\n  module: /usr/lib/softhsm/libsofthsm2.so\n  token: keyd\n  pin_file: hsm-pin\n",
			"«hsm:\n  module: /usr/lib/softhsm/libsofthsm2.so\n  token: keyd\n",
			"hsm.pin_file is missing; write a systemd credential's name, such as hsm-pin, or an absolute path"},
		{"PIN file is a relative path", "pin_file: hsm-pin", "pin_file: «etc/pin",
			`hsm.pin_file: "etc/pin" is neither a path nor a name; write an absolute path, or a systemd credential's ` +
				`name without slashes`},
		{"token and no serial", "hsm:\n  module: /usr/lib/softhsm/libsofthsm2.so\n  token: keyd\n",
			"«hsm:\n  module: /usr/lib/softhsm/libsofthsm2.so\n",
			"hsm.token is missing; write the token's label, or hsm.serial (`pkcs11-tool --module " +
				"/usr/lib/softhsm/libsofthsm2.so --list-slots` shows both)"},
		{"token label too long", "token: keyd", "token: «123456789012345678901234567890123",
			"hsm.token: longer than the 32 bytes a token can show; write what the token shows (`pkcs11-tool " +
				"--module LIBRARY --list-slots`)"},
		{"sessions", "hsm:\n", "hsm:\n  sessions: «0\n",
			`hsm.sessions: "0" is not such a number; write a number from 1 to 64`},
		{"standard mechanism", "hsm:\n", "hsm:\n  wrap_mechanism: «0x210B\n",
			`hsm.wrap_mechanism: "0x210B" is not a vendor-defined mechanism; write the vendor's number for AES key ` +
				`wrap with padding (RFC 5649), such as 0x80000171; keyd tries the standard ones by itself`},
		{"no duration", "hsm:\n", "hsm:\n  call_timeout: «30\n",
			`hsm.call_timeout: "30" is not a duration; write a duration such as 30s, 15m, 24h or 90d`},
		{"duration out of range", "hsm:\n", "hsm:\n  call_timeout: «2h\n",
			"hsm.call_timeout: 2h is out of range; write a duration from 1s to 10m"},
		{"long socket", "hsm:\n", "hsm:\n  socket: «/" + strings.Repeat("s", 120) + "\n",
			"hsm.socket: a socket's path has at most 107 bytes, this one has 121; use a shorter path"},
		{"token twice", "  token: keyd\n", "  token: «keyd\n  uri: pkcs11:token=other\n",
			"hsm.token is already in hsm.uri as token; keep one of them"},
		{"PIN in the URI", "  token: keyd\n", "  uri: «pkcs11:token=keyd?pin-value=1234\n",
			"hsm.uri: pin-value puts the PIN into the configuration; write the PIN into a file that only the HSM " +
				"side can read, name it by pin-source=file:/…, and change the PIN if others could read this file"},
		{"URI without a token", "  token: keyd\n", "  uri: «\"pkcs11:model=x\"\n",
			"hsm.uri: it names no token; add token=… or serial=… to it"},
		// Azure.
		{"credential", "vaults:\n  weu", "azure: {credential: «managed-identiy}\nvaults:\n  weu",
			`azure.credential: unknown value "managed-identiy"; did you mean managed-identity?`},
		{"certificate", "vaults:\n  weu",
			"«azure: {credential: client-certificate, tenant_id: a.b, certificate_file: c}\nvaults:\n  weu",
			"azure.client_id is missing; write it: credential client-certificate needs it"},
		{"field without meaning", "vaults:\n  weu", "azure: {«tenant_id: a.b}\nvaults:\n  weu",
			"azure.tenant_id has no meaning for credential managed-identity; remove it, or choose another credential"},
		{"client id", "vaults:\n  weu", "azure: {client_id: «x}\nvaults:\n  weu",
			`azure.client_id: "x" is not a UUID; write an id such as 00000000-0000-0000-0000-000000000000`},
		// Vaults.
		{"http", weuURL, "    url: «http://contoso-weu.vault.azure.net\n",
			`vaults.weu.url: "http://contoso-weu.vault.azure.net" is not an https URL; ` + urlRemedy},
		{"port", weuURL, "    url: «https://contoso-weu.vault.azure.net:8443\n",
			`vaults.weu.url: "https://contoso-weu.vault.azure.net:8443" has a port other than 443; ` + urlRemedy},
		{"trailing dot", weuURL, "    url: «https://contoso-weu.vault.azure.net.\n",
			`vaults.weu.url: "contoso-weu.vault.azure.net." is not the host of an Azure vault; ` + urlRemedy},
		{"same url with port", "  mhsm:\n    url: https://contoso.managedhsm.azure.net\n",
			"  «mhsm:\n    url: https://contoso-weu.vault.azure.net:443\n",
			"vault mhsm has the same url as weu at keyd.yaml:7:3; keep one of them"},
		{"path", weuURL, "    url: «https://contoso-weu.vault.azure.net/keys/x\n",
			`vaults.weu.url: "https://contoso-weu.vault.azure.net/keys/x" has text after the host; ` + urlRemedy},
		{"query", weuURL, "    url: «https://contoso-weu.vault.azure.net/?a=b\n",
			`vaults.weu.url: "https://contoso-weu.vault.azure.net/?a=b" has text after the host; ` + urlRemedy},
		{"user", weuURL, "    url: «https://me:secret@contoso-weu.vault.azure.net\n",
			"vaults.weu.url: the URL has a user; " + urlRemedy + "; credentials belong in azure"},
		{"other host", weuURL, "    url: «https://contoso-weu.vault.azure.net.evil.example\n",
			`vaults.weu.url: "contoso-weu.vault.azure.net.evil.example" is not the host of an Azure vault; ` +
				urlRemedy},
		{"no vault name", weuURL, "    url: «https://a.b.vault.azure.net\n",
			`vaults.weu.url: "a.b" is not the name of a vault; write the vault's name before .vault.azure.net`},
		{"other cloud", weuURL, "    url: «https://contoso-weu.vault.azure.cn\n",
			"vaults.weu.url: the host is in cloud china, and azure.cloud is public; write azure.cloud: china, or a " +
				"vault of cloud public"},
		{"share of nothing", weuURL, weuURL + "    share: «0\n",
			`vaults.weu.share: "0" is not such a share; write a number from 0.05 to 0.9, such as 0.5 for half`},
		{"whole share", weuURL, weuURL + "    share: «1\n",
			`vaults.weu.share: "1" is not such a share; write a number from 0.05 to 0.9, such as 0.5 for half`},
		{"no number", weuURL, weuURL + "    share: «NaN\n",
			`vaults.weu.share: "NaN" is not such a share; write a number from 0.05 to 0.9, such as 0.5 for half`},
		{"subscription", weuURL, weuURL + "    subscription: «prod\n", `vaults.weu.subscription: "prod" is not a ` +
			`UUID; write an id such as 00000000-0000-0000-0000-000000000000`},
		{"no url", "  weu:\n" + weuURL, "  «weu: {}\n", "vaults.weu.url is missing; " + urlRemedy},
		{"same url", "  mhsm:\n    url: https://contoso.managedhsm.azure.net\n",
			"  «mhsm:\n    url: https://Contoso-Weu.vault.azure.net\n",
			"vault mhsm has the same url as weu at keyd.yaml:7:3; keep one of them"},
		{"fingerprint", weuURL, weuURL + "    kek: {fingerprint: «abc}\n",
			`vaults.weu.kek.fingerprint: "abc" is not a fingerprint; write sha256: and 64 hex digits, as keyd ` +
				`check shows it`},
		{"fingerprint twice", weuURL,
			weuURL + "    kek: {fingerprints: [\"" + onePrint + "\", «\"" + onePrint + "\"]}\n",
			"vaults.weu.kek.fingerprints: " + onePrint + " appears twice; remove one"},
		{"no fingerprint", weuURL, weuURL + "    kek: {fingerprints: «[]}\n",
			"vaults.weu.kek.fingerprints is empty; write a fingerprint as keyd kek shows it, or remove the field"},
		{"both forms of fingerprints", weuURL,
			weuURL + "    kek: {fingerprint: «\"" + onePrint + "\", fingerprints: [\"" + onePrint + "\"]}\n",
			"vaults.weu.kek.fingerprint and fingerprints are both set; move it into the list"},
		{"first use beside a fingerprint", weuURL,
			weuURL + "    kek: {fingerprint: \"" + onePrint + "\", trust: «first-use}\n",
			"vaults.weu.kek.trust: the fingerprints decide which key exchange key keyd trusts; remove it"},
		{"another trust", weuURL, weuURL + "    kek: {trust: «always}\n",
			`vaults.weu.kek.trust: unknown value "always"; write one of first-use`},
		{"a schedule for nobody's key", weuURL, weuURL + "    kek: {create: false, schedule: «\"@monthly\"}\n",
			"vaults.weu.kek.schedule: kek.create is false, so keyd makes no new one; remove it, or let keyd " +
				"make the key exchange key"},
		{"kek size", weuURL, weuURL + "    kek: {bits: «1024}\n", `vaults.weu.kek.bits: "1024" is not the size ` +
			`of an RSA-HSM key; write 2048, 3072 or 4096`},
		{"yes is no bool", weuURL, weuURL + "    kek: {create: «yes}\n", `vaults.weu.kek.create: "yes" is ` +
			`neither true nor false; write true or false`},
		// Keys.
		{"key name", "  cmk:\n", "  «sa_cmk:\n", `"sa_cmk" is not a valid name for a key; ` + nameRemedy},
		{"key twice", schedule, schedule + "  «cmk: {vaults: [weu]}\n",
			"keys.cmk is already at keyd.yaml:12:3; keep one of them"},
		{"key twice but for case", schedule, schedule + "  «CMK: {vaults: [weu]}\n",
			"key CMK is already at keyd.yaml:12:3; rename one of them: vaults ignore case"},
		{"spec", schedule, schedule + "    spec: «RSA-1024\n",
			`keys.cmk.spec: unknown spec "RSA-1024"; write one of RSA-2048, RSA-3072, RSA-4096`},
		{"unknown vault", "[weu, mhsm]", "[weu, «mhms]", "keys.cmk.vaults: unknown vault mhms; did you mean mhsm?"},
		{"vault twice", "[weu, mhsm]", "[weu, «weu]", "keys.cmk.vaults: vault weu appears twice; remove one"},
		{"vault twice but for case", "[weu, mhsm]", "[weu, «WEU]",
			"keys.cmk.vaults: vault WEU appears twice; remove one"},
		{"no vaults", "[weu, mhsm]", "«[]", "keys.cmk.vaults is empty; name at least one vault, or remove the key"},
		{"vaults is no list", "[weu, mhsm]", "«weu", "keys.cmk.vaults is not a list; write a list, such as [a, b]"},
		{"vaults missing", "  cmk:\n    vaults: [weu, mhsm]\n", "  «cmk:\n",
			"keys.cmk.vaults is missing; write vaults: and a list of names from the vaults section"},
		{"operation", schedule, schedule + "    operations: [wrapKey, «unwrapkey]\n",
			`keys.cmk.operations: unknown operation "unwrapkey"; did you mean unwrapKey?`},
		{"half a pair", schedule, schedule + "    operations: «[wrapKey, decrypt]\n",
			"keys.cmk.operations has no complete pair, so the key could never be proven; add the missing half of " +
				"wrapKey and unwrapKey, encrypt and decrypt, or sign and verify"},
		{"operation twice", schedule, schedule + "    operations: [wrapKey, unwrapKey, «wrapKey]\n",
			"keys.cmk.operations: wrapKey appears twice; remove one"},
		{"retire", schedule, schedule + "    retire: «always\n",
			`keys.cmk.retire: unknown value "always"; write never, or {disable_after: 90d}`},
		{"retire without a pause", schedule,
			schedule + "    consumers: none\n    retire: {disable_after: 90d, pause: «0s}\n",
			"keys.cmk.retire.pause: 0s is out of range; write a duration from 1m to 366d"},
		{"retire at once", schedule, schedule + "    retire: {disable_after: «1h}\n",
			"keys.cmk.retire.disable_after: 1h is out of range; write a duration from 1d to 36500d"},
		{"retire without a rule", schedule, schedule + "    «retire: {}\n",
			"keys.cmk.retire.disable_after is missing; write retire: never, or retire: {disable_after: 90d}"},
		{"budget", schedule, schedule + "    budget: «0\n",
			`keys.cmk.budget: "0" is not such a number; write a number from 1 to 100000`},
		{"spares", schedule, schedule + "    spares: «6\n",
			`keys.cmk.spares: "6" is not such a number; write a number from 0 to 5`},
		{"spread", schedule, schedule + "    window: 1h\n    spread: «1h\n",
			"keys.cmk.spread: 1h is not shorter than the window of 1h; write a spread shorter than the window"},
		{"expires too soon", schedule, "    schedule: \"CRON_TZ=UTC @monthly\"\n    expires_after: «60d\n",
			"keys.cmk.expires_after: 60d is shorter than the schedule's longest gap of 31d, its spread and a margin " +
				"of 30d; write 61d or more, or a schedule that fires more often"},
		{"expires with a spread", schedule,
			"    schedule: \"CRON_TZ=UTC @monthly\"\n    spread: 1h\n    expires_after: «61d\n",
			"keys.cmk.expires_after: 61d is shorter than the schedule's longest gap of 31d, its spread and a margin " +
				"of 30d; write 62d or more, or a schedule that fires more often"},
		{"expires and signs", schedule, schedule + "    operations: [sign, verify]\n    expires_after: «90d\n",
			"keys.cmk.expires_after: the key signs, and keyd cannot prove an expired version; remove it"},
		{"expires and nothing replaces it", schedule, "    expires_after: «90d\n",
			"keys.cmk.expires_after: the key has no schedule, so nothing would replace a version before it expires; " +
				"then nobody could wrap with it; write a schedule, or remove it"},
		// Schedules.
		{"never fires", `"@monthly"`, `«"0 0 30 2 *"`,
			`keys.cmk.schedule: "0 0 30 2 *" never fires; write a day that its months have; days of month go from 1 ` +
				`to 28 in every month`},
		{"zone and nothing", `"@monthly"`, `«"TZ="`,
			"keys.cmk.schedule: TZ= names no time zone; write a zone such as CRON_TZ=Europe/Berlin or CRON_TZ=UTC " +
				"before the schedule"},
		{"zone and no schedule", `"@monthly"`, `«"CRON_TZ=UTC"`,
			`keys.cmk.schedule: "CRON_TZ=UTC" has a time zone and no schedule; ` + cronRemedy},
		{"unknown zone", `"@monthly"`, `«"CRON_TZ=Europe/Bonn @monthly"`,
			`keys.cmk.schedule: unknown time zone "Europe/Bonn"; write a zone such as CRON_TZ=Europe/Berlin or ` +
				`CRON_TZ=UTC before the schedule`},
		{"seconds", `"@monthly"`, `«"0 0 3 1 * *"`,
			"keys.cmk.schedule: 6 fields; seconds and years are not supported; remove the field for seconds: " +
				cronRemedy},
		{"four fields", `"@monthly"`, `«"0 3 1 *"`, "keys.cmk.schedule: 4 fields instead of 5; " + cronRemedy},
		{"below the floor", `"@monthly"`, `«"@every 5s"`,
			"keys.cmk.schedule: it fires 5s apart, and the floor is 1h; write a schedule that fires less often, or a " +
				"floor of 5s or less"},
		{"above the budget", schedule, "    schedule: «\"@hourly\"\n",
			"keys.cmk.schedule: it fires more than 10 times in 24 hours, and the budget is 10; write a schedule that " +
				"fires less often, or a larger budget"},
		// The rest.
		{"unknown operator", "keys:\n", "control: {operators: [0, «no-such-user-here]}\nkeys:\n",
			`control.operators: unknown user "no-such-user-here"; write a uid, or the name of a user on this host`},
		{"an act that cannot need approval", "keys:\n", "approvals: {acts: [adopt, «prove]}\nkeys:\n",
			`approvals.acts: unknown value "prove"; write one of adopt, compromise, kek, retire, resume, enable, ` +
				`repoint, replace`},
		{"an act twice", "keys:\n", "approvals: {acts: [adopt, «adopt]}\nkeys:\n",
			"approvals.acts: adopt is in it twice; remove one of them"},
		{"approvals of nothing", "keys:\n", "«approvals: {wait: 2h}\nkeys:\n",
			"approvals: no act is listed, so none needs a second operator; write acts: [adopt, compromise], or " +
				"remove approvals"},
		{"approvals that are empty", "keys:\n", "«approvals:\nkeys:\n",
			"approvals: no act is listed, so none needs a second operator; write acts: [adopt, compromise], or " +
				"remove approvals"},
		{"a proposal that waits too long", "keys:\n", "approvals: {acts: [adopt], wait: «60d}\nkeys:\n",
			"approvals.wait: 60d is out of range; write a duration from 1m to 31d"},
		{"open to the network", "keys:\n", "web: {listen: «\":9889\"}\nkeys:\n",
			`web.listen: ":9889" can be reached from other hosts; listen on 127.0.0.1, or write web.web_config_file ` +
				`with TLS and authentication (exporter-toolkit)`},
		{"port", "keys:\n", "web: {listen: «127.0.0.1}\nkeys:\n",
			`web.listen: "127.0.0.1" is not an address to listen on; write an address and a port, such as ` +
				`127.0.0.1:9889`},
		{"older before newest", "keys:\n", "health: {older: «1m}\nkeys:\n",
			"health.older: 1m is shorter than health.newest; write 5m or more, or a shorter health.newest"},
		{"log level", "keys:\n", "log: {level: «warning}\nkeys:\n",
			`log.level: unknown value "warning"; write one of debug, info, warn, error`},
	} {
		t.Run(m.name, func(t *testing.T) { hasMistake(t, base, m.old, m.new, m.want) })
	}
}

// hasMistake replaces old in a configuration, which has then one mistake, where « stands.
func hasMistake(t *testing.T, in, old, replacement, want string) {
	t.Helper()
	if !strings.Contains(in, old) {
		t.Fatalf("the configuration has no %q", old)
	}
	text, where := unmark(strings.Replace(in, old, replacement, 1))
	_, ps := load(t, map[string]string{"keyd.yaml": text})
	if got, want := ps.Error(), where+": "+want; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// unmark takes « out of the text and says where it stood.
func unmark(text string) (string, string) {
	before, after, _ := strings.Cut(text, "«")
	line := strings.Count(before, "\n") + 1
	column := len([]rune(before[strings.LastIndex(before, "\n")+1:])) + 1
	return before + after, fmt.Sprintf("keyd.yaml:%d:%d", line, column)
}

func TestAKeyNamedLikeAKEKIsRefusedForEachVault(t *testing.T) {
	_, ps := load(t, map[string]string{"keyd.yaml": strings.Replace(base, "  cmk:\n", "  KEYD-kek:\n", 1)})
	const remedy = "rename the key, or set another kek.name for that vault"
	want := `keyd.yaml:12:3: key KEYD-kek has the name of the key exchange key of vault weu; ` + remedy + `
keyd.yaml:12:3: key KEYD-kek has the name of the key exchange key of vault mhsm; ` + remedy
	if got := ps.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLabelThatAnHSMMightCutIsRefused(t *testing.T) {
	text := strings.Replace(base, "  cmk:\n", "  "+strings.Repeat("k", 127)+":\n", 1)
	text = strings.Replace(text, "hq-1", strings.Repeat("i", 127), 1)
	_, ps := load(t, map[string]string{"keyd.yaml": text})
	if len(ps) != 1 || ps[0].Line != 12 || ps[0].Remedy != "shorten the key's name or the instance's by 20" {
		t.Errorf("got\n%v", ps)
	}
}

func TestSecondDocumentIsRefused(t *testing.T) {
	_, ps := load(t, map[string]string{"keyd.yaml": base + "---\nlog: {level: debug}\n"})
	if len(ps) != 1 || !strings.Contains(ps[0].Message, "a second YAML document") {
		t.Errorf("got\n%v", ps)
	}
}

const onePrint = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

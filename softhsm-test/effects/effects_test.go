package effects

import (
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

const url = "https://contoso-weu.vault.azure.net"

func version(id, attempt string, n int64) emulator.VersionInfo {
	x := emulator.VersionInfo{ID: id, Enabled: true, N: big.NewInt(n), E: 65537, Imported: true}
	if attempt != "" {
		x.Tags = map[string]string{tagAttempt: attempt}
	}
	return x
}

// A generation that is disabled, one whose import was repeated because the first showed too late, a foreign version,
// and a pair that waits for the sweeper.
var (
	retired = func() emulator.VersionInfo {
		x := version("v1", "a1", 1001)
		x.Enabled = false
		return x
	}()
	late    = version("v2", "a2", 1003)
	newest  = version("v3", "a3", 1003)
	foreign = emulator.VersionInfo{ID: "f1", Enabled: true, N: big.NewInt(1005), E: 65537}
	vault   = Vault{URL: url, Versions: []emulator.VersionInfo{retired, late, newest, foreign},
		KEKs: []emulator.VersionInfo{{ID: "k1", Enabled: true}}}
	pairs = []Pair{{ID: "i1"}, {ID: "i2"}, {ID: "i3", Pending: true}}
)

func entry(event string, fields ...string) Entry {
	e := Entry{Event: event, Fields: map[string]string{}}
	for i := 0; i < len(fields); i += 2 {
		e.Fields[fields[i]] = fields[i+1]
	}
	return e
}

func placed(event string, x emulator.VersionInfo, fields ...string) Entry {
	e := entry(event, fields...)
	e.Fields["vault"], e.Fields["fingerprint"] = url, fingerprint(x)
	return e
}

// whole is a chain that records all of it.
func whole() []Entry {
	return []Entry{
		entry("daemon started"),
		entry("generation intended", "id", "i1"),
		entry("generation made", "id", "i1"),
		entry("key exchange key intended", "vault", url),
		entry("key exchange key made", "vault", url, "kek", url+"/keys/keyd-kek/k1"),
		placed("import intended", retired, "attempt", "a1"),
		placed("imported", retired, "attempt", "a1", "version", "v1"),
		entry("generation intended", "id", "i3"),
		entry("id abandoned", "id", "i3"),
		entry("generation intended", "id", "i2"),
		entry("generation pinned", "id", "i2"),
		placed("import intended", late, "attempt", "a2"),
		placed("import did not happen", late, "attempt", "a2"),
		placed("import intended", newest, "attempt", "a3"),
		placed("imported", newest, "attempt", "a3", "version", "v3"),
		placed("duplicate version adopted", newest, "attempt", "a3", "alias", "v2"),
		placed("disabling intended", retired, "attempt", "a1"),
		placed("disabled", retired, "attempt", "a1"),
	}
}

func TestAChainThatRecordsEveryEffectHasNoGaps(t *testing.T) {
	if lines := Unrecorded(whole(), []Vault{vault}, pairs); len(lines) > 0 {
		t.Errorf("unrecorded: %q", lines)
	}
}

// effects has the places of each effect's intent and result in the whole chain, and what is reported as unrecorded
// without them.
var effects = []struct {
	intent, result int
	names          string
}{
	{1, 2, "pair i1 in the token: "},
	{3, 4, "key exchange key k1 in " + url + ": "},
	{5, 6, "version v1 in " + url + ": "},
	{7, 8, "pair i3 in the token: "},
	{9, 10, "pair i2 in the token: "},
	{11, 15, "version v2 in " + url + ": "},
	{13, 14, "version v3 in " + url + ": "},
	{16, 17, "version v1 in " + url + " is disabled: "},
}

func wantUnrecorded(t *testing.T, chain []Entry, line string) {
	t.Helper()
	if got := Unrecorded(chain, []Vault{vault}, pairs); !slices.Equal(got, []string{line}) {
		t.Errorf("unrecorded: %q, want %q", got, line)
	}
}

func TestAnEffectWithoutIntentOrResultOrInTheWrongOrderIsUnrecorded(t *testing.T) {
	for _, e := range effects {
		wantUnrecorded(t, slices.Delete(whole(), e.intent, e.intent+1),
			e.names+"the audit chain has no entry of its intent")
		wantUnrecorded(t, slices.Delete(whole(), e.result, e.result+1),
			e.names+"the audit chain has its intent and no result after it")
		swapped := whole()
		swapped[e.intent], swapped[e.result] = swapped[e.result], swapped[e.intent]
		wantUnrecorded(t, swapped, e.names+"the audit chain has its result before its intent")
	}
}

func TestAnEntryAboutAnotherEffectDoesNotCount(t *testing.T) {
	for field, at := range map[string][]int{
		"id": {1, 2, 7, 8, 9, 10}, "vault": {3, 4, 5, 6, 11, 13, 14, 15, 16, 17}, "kek": {4},
		"attempt": {5, 11, 13}, "version": {6, 14}, "alias": {15}, "fingerprint": {5, 6, 11, 13, 14, 15, 16, 17},
	} {
		for _, i := range at {
			chain := whole()
			chain[i].Fields[field] = "another"
			if got := Unrecorded(chain, []Vault{vault}, pairs); len(got) != 1 {
				t.Errorf("with another %s in %q, unrecorded: %q", field, chain[i].Event, got)
			}
		}
	}
}

func TestAnAdoptionIsTheResultOfExactlyWhatItNames(t *testing.T) {
	for named, unrecorded := range map[string]bool{
		`{"rebuild":[{"id":"i2","versions":{"weu":["v3"]}}]}`:                    false,
		`{"rebuild":[{"id":"i9","versions":{"weu":["v9"]}}]}`:                    true,
		`{"foreign":{"weu":["v3"]},"unknown":["v3","i2"],"consequence":"i2 v3"}`: true,
	} {
		chain := whole()
		chain[10] = entry("key held") // i2 was not pinned
		chain[14] = entry("adopted", "adopted", named)
		if got := Unrecorded(chain, []Vault{vault}, pairs); len(got) > 0 != unrecorded {
			t.Errorf("with an adoption of %s, unrecorded: %q", named, got)
		}
	}
}

// Somebody whose import has no attempt in its tags is not keyd, and nobody else imports.
func TestAnImportedVersionWithoutAnAttemptIsUnrecorded(t *testing.T) {
	stray := version("s1", "", 1007)
	chain := append(whole(), placed("import intended", stray), placed("imported", stray, "version", "s1"))
	lines := Unrecorded(chain, []Vault{{URL: url, Versions: []emulator.VersionInfo{stray}}}, nil)
	if len(lines) != 1 || !strings.Contains(lines[0], "version s1") {
		t.Errorf("unrecorded: %q", lines)
	}
}

// If a process dies between an effect and its intent, its successor records the intent again, so the order of the
// entries is right.
func TestAnEffectRequestedBeforeItsIntentIsUnrecorded(t *testing.T) {
	const host = "contoso-weu.vault.azure.net"
	begun := time.Now()
	chain := whole()
	for i := range chain {
		chain[i].Time = begun.Add(time.Duration(i) * time.Second)
	}
	for name, at := range map[string]struct {
		intent  int
		request emulator.RequestLog
	}{
		"key exchange key k1 in " +
			url: {3, emulator.RequestLog{Host: host, Operation: "create", Path: "/keys/keyd-kek/create"}},
		"version v1 in " + url + " is disabled": {16,
			emulator.RequestLog{Host: host, Operation: "update", Path: "/keys/sa-cmk-key/v1"}},
	} {
		for _, early := range []bool{false, true} {
			v, r := vault, at.request
			if r.Time = chain[at.intent].Time.Add(time.Millisecond); early {
				r.Time = chain[at.intent].Time.Add(-time.Millisecond)
			}
			other := r
			other.Host, other.Time = "contoso.managedhsm.azure.net", begun
			v.Requests = []emulator.RequestLog{other, r}
			var want []string
			if early {
				want = []string{name + ": it was asked for before the audit chain has its intent"}
			}
			if got := Unrecorded(chain, []Vault{v}, pairs); !slices.Equal(got, want) {
				t.Errorf("unrecorded: %q, want %q", got, want)
			}
		}
	}
}

// Only a pair that no vault ever got may be given up.
func TestAWrappedPairThatWasGivenUpIsUnrecorded(t *testing.T) {
	if lines := Unrecorded(whole(), nil, []Pair{{ID: "i3"}}); len(lines) != 1 {
		t.Errorf("unrecorded: %q", lines)
	}
}

func TestChainsAreReadAsKeydPrintsThemAndSharedEntriesCountOnce(t *testing.T) {
	lost, err1 := Read(`{"seq":1,"event":"a","fields":{"id":"i1"},"hash":"h1"}` + "\n" +
		`{"seq":2,"event":"b","hash":"h2"}` + "\n")
	now, err2 := Read(`{"seq":1,"event":"a","fields":{"id":"i1"},"hash":"h1"}` + "\n" +
		`{"seq":2,"event":"c","hash":"h3"}` + "\n")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	want := []Entry{
		{Event: "a", Fields: map[string]string{"id": "i1"}, Hash: "h1"}, {Event: "b", Hash: "h2"},
		{Event: "c", Hash: "h3"},
	}
	if got := Join(lost, now); !slices.EqualFunc(got, want, func(x, y Entry) bool {
		return x.Event == y.Event && x.Hash == y.Hash && maps.Equal(x.Fields, y.Fields)
	}) {
		t.Errorf("joined: %v, want %v", got, want)
	}
	if chain, err := Read(`{"event":"a"}` + "\n" + `{"eve`); err == nil {
		t.Errorf("what was cut short is read as %v", chain)
	}
}

func TestADisabledKEKNeedsItsIntentAndItsResult(t *testing.T) {
	old := vault
	old.KEKs = []emulator.VersionInfo{{ID: "k1"}}
	about := []string{"vault", url, "kek", url + "/keys/keyd-kek/k1"}
	intended := entry("disabling of a key exchange key intended", about...)
	disabled := entry("key exchange key disabled", about...)
	for _, c := range []struct {
		more []Entry
		want string
	}{
		{nil, "no entry of its intent"},
		{[]Entry{intended}, "no result after it"},
		{[]Entry{intended, entry("key exchange key disabled", "vault", url, "kek", url+"/keys/keyd-kek/k2")},
			"no result after it"},
		{[]Entry{intended, disabled}, ""},
	} {
		lines := Unrecorded(append(whole(), c.more...), []Vault{old}, pairs)
		if c.want == "" && len(lines) > 0 || c.want != "" && (len(lines) != 1 || !strings.Contains(lines[0], c.want)) {
			t.Errorf("with %d more entries: %q, want %q", len(c.more), lines, c.want)
		}
	}
}

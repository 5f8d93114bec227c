package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func statusOf(t *testing.T, text string) (k keyStatus) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &k); err != nil {
		t.Fatal(err)
	}
	return k
}

const (
	begun      = `"number": 1, "requester": "keyd", "generate_begun": "2026-11-29T12:00:00Z"`
	pinned     = begun + `, "pinned": "2026-11-29T12:00:02.5Z"`
	inOneVault = pinned + `, "placements": ` +
		`[{"vault_name": "contoso-weu", "version": "aa", "proven_at": "2026-11-29T12:00:03Z"}`
	everywhere = inOneVault + `, {"vault_name": "contoso-hsm", "version": "bb", "proven_at": "2026-11-29T12:00:04Z"}]` +
		`, "finished": "2026-11-29T12:00:04Z"`
)

func generations(list ...string) string {
	return `"generations": [{` + strings.Join(list, "}, {") + `}]`
}

func TestEachEventIsReportedOnceAndInOrder(t *testing.T) {
	var s story
	for _, c := range []struct{ status, want string }{
		{`{}`, ``},
		{`{` + generations(begun) + `}`, `reserved 1`},
		{`{` + generations(begun) + `}`, ``},
		{`{` + generations(inOneVault+`, {"vault_name": "contoso-hsm"}]`) + `}`,
			`made 1 in 2.5s, proven 1 contoso-weu aa`},
		{`{` + generations(everywhere, `"number": 2`) + `}`, `proven 1 contoso-hsm bb, finished 1, reserved 2`},
		{`{` + generations(everywhere, `"number": 2`) + `}`, ``},
	} {
		var printed []string
		for _, h := range s.news(statusOf(t, c.status)) {
			text := fmt.Sprintf("%s %d %s %s", h.what, h.generation, h.vault, h.version)
			if h.took > 0 {
				text = fmt.Sprintf("%s %d in %v", h.what, h.generation, h.took)
			}
			printed = append(printed, strings.TrimSpace(text))
		}
		if got := strings.Join(printed, ", "); got != c.want {
			t.Errorf("%s:\n%q, want %q", c.status, got, c.want)
		}
	}
}

func TestCurrentWorkIsDescribedInWords(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 30, 0, time.UTC)
	for _, c := range []struct{ status, text, detail string }{
		{`{}`, "keyd looks at the HSM and into both vaults", ""},
		{`{` + generations(`"number": 1`) + `}`, "keyd reserves the number of a generation", ""},
		{`{` + generations(begun) + `}`, "the HSM makes an RSA-3072 key", "SoftHSM takes 1 to 10 s"},
		{`{"doing": "create-kek", ` + generations(pinned) + `}`, "a vault makes its key exchange key", ""},
		{`{` + generations(pinned) + `}`, "keyd brings it to contoso-weu", ""},
		{`{` + generations(pinned+`, "placements": [{"vault_name": "contoso-weu"}]`) + `}`, "contoso-weu imports it",
			""},
		{`{` + generations(pinned+`, "placements": [{"vault_name": "contoso-weu", "version": "aa"}]`) + `}`,
			"keyd proves it in contoso-weu", ""},
		{`{` + generations(inOneVault+`]`) + `}`, "keyd goes on to the next vault", ""},
		{`{"next_rotation": "2026-11-29T12:01:00Z", ` + generations(everywhere) + `}`,
			"the next rotation is due", "in 30 s; Ctrl-C ends the demo"},
		{`{"next_rotation": "2026-11-29T12:00:00Z", ` + generations(everywhere) + `}`, "the next rotation is due",
			"now"},
		{`{"state": "failing", "error": "import: 403", ` + generations(pinned) + `}`,
			"a step failed and is tried again", "import: 403"},
	} {
		text, detail := doing(statusOf(t, c.status), now, "Ctrl-C ends the demo")
		if text != c.text || detail != c.detail {
			t.Errorf("%s:\n%q (%q), want %q (%q)", c.status, text, detail, c.text, c.detail)
		}
	}
}

func TestAKeyIsBeingMadeUntilItIsPinned(t *testing.T) {
	for status, want := range map[string]bool{
		`{}`:                            true,
		`{` + generations(begun) + `}`:  true,
		`{` + generations(pinned) + `}`: false,
		`{` + generations(everywhere, `"number":2`) + `}`: true,
	} {
		if got := statusOf(t, status).making(); got != want {
			t.Errorf("%s: %v", status, got)
		}
	}
}

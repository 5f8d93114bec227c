package web

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

func TestACardBeginsWithOneSentenceAndFoldsTheRawError(t *testing.T) {
	raw := "archive-cmk: version 5be10a77 (generation 3) in vault contoso-hsm failed its proof: inconclusive at " +
		"vault-unwrap (KeyDisabled): POST https://contoso.managedhsm.azure.net/keys/archive-cmk/5be10a77/unwrapkey: 403"
	older := strings.Replace(raw, "generation 3", "generation 2", 1)
	other := strings.Replace(raw, "contoso-hsm", "contoso-weu", 1)
	s := status.Snapshot{At: at}
	for _, text := range []string{raw, older, other} {
		s.Problems = append(s.Problems, status.Problem{Severity: status.Critical, Key: "archive-cmk",
			Runbook: "keydunwrapfailing", Text: text})
	}
	views := viewProblems(s)
	if len(views) != 2 || views[0].Text != "archive-cmk cannot be unwrapped in contoso-hsm, 2 versions" ||
		views[1].Text != "archive-cmk cannot be unwrapped in contoso-weu" {
		t.Fatalf("%+v", views)
	}
	if !slices.Equal(views[0].Raw, []string{raw, older}) {
		t.Errorf("folded away is %q", views[0].Raw)
	}
	html := statusHTML(t, s, nil, nil)
	before, folded, ok := strings.Cut(html, `<details class="raw">`)
	if !ok || strings.Contains(before, "unwrapkey: 403") || !strings.Contains(folded, "unwrapkey: 403") {
		t.Error("the raw error is not folded away")
	}
	if !strings.Contains(html, "2 problems need someone now") {
		t.Error("the page does not count as many problems as it shows")
	}
}

func TestACardShowsAShortReasonAndTimesInThePagesZone(t *testing.T) {
	for _, c := range []struct{ key, text, what, detail string }{
		{"", "the HSM side cannot work: the token refused the PIN", "The HSM side cannot work",
			"The token refused the PIN."},
		{"", "keyd has not looked at every vault since it started at 2026-11-25T09:20:00Z",
			"keyd has not looked at every vault since it started at 25 Nov 2026 09:20:00 UTC", ""},
		{"sa", "key sa: import generation 4 in vault weu: 403", "sa: import generation 4 in vault weu", "403."},
		{"sa", "sa lacks its latest generation in weu: weu cannot be reached", "sa lacks its latest generation in weu",
			"Weu cannot be reached."},
	} {
		v := viewProblem(at, status.Problem{Key: c.key, Text: c.text})
		if v.Text != c.what || v.Detail != c.detail || v.Raw != nil {
			t.Errorf("%s:\n%+v", c.text, v)
		}
	}
}

func TestARemedysCommandsAreThereToCopy(t *testing.T) {
	for text, want := range map[string][]string{
		"keyd goes on by itself": nil,
		"keyd check tries each part of the way to it; keyd goes on by itself": {"keyd check"},
		"systemctl status keyd-hsm; journalctl -u keyd-hsm": {"systemctl status keyd-hsm",
			"journalctl -u keyd-hsm"},
		"correct it (keyd check shows each mistake), then: keyd reload": {"keyd check", "keyd reload"},
		"fix what it waits for, as keyd check advises; keyd then makes the key by itself": {
			"keyd check"},
		"keyd rotate --now show --reason …; or give it time: az keyvault key set-attributes --name sa --expires DATE": {
			"keyd rotate --now show --reason …", "az keyvault key set-attributes --name sa --expires DATE"},
		`az keyvault key rotation-policy update --name sa --value '{"lifetimeActions": [], "a": "; and"}'; keyd plan`: {
			`az keyvault key rotation-policy update --name sa --value '{"lifetimeActions": [], "a": "; and"}'`,
			"keyd plan"},
		"do not systemctl restart keyd-hsm; find out who tries wrong PINs": nil,
		"never run keyd resume sa without a look at the runbook":           nil,
	} {
		got := remedyOf(text, "show", "weu")
		if !slices.Equal(got.Commands, want) {
			t.Errorf("%s:\n%q, want %q", text, got.Commands, want)
		}
		if said := wordsOf(got); said != "" && said != text {
			t.Errorf("%q is shown as %q", text, said)
		}
	}
}

func TestARemedyThatIsCommandsOnlyHasNoTextBesides(t *testing.T) {
	if r := remedyOf("systemctl status keyd-hsm; journalctl -u keyd-hsm"); r.Clauses != nil {
		t.Errorf("%+v", r.Clauses)
	}
	if r := remedyOf("keyd check tries the HSM"); len(r.Clauses) != 2 || !r.Clauses[0].Command {
		t.Errorf("%+v", r.Clauses)
	}
}

// A command that lost its end, or took a word of the sentence, must not be pasted.
func TestCommandsOfEveryRemedyEndWhereTheyShould(t *testing.T) {
	found := 0
	for _, row := range trouble.Table() {
		for _, c := range remedyOf(row.Remedy).Commands {
			found++
			words := strings.Fields(c)
			last := words[len(words)-1]
			if len(words) < 2 || slices.Contains(proseWords, last) ||
				strings.ContainsAny(last[len(last)-1:], ";,:.(") {
				t.Errorf("%s: %q", row.Cause, c)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d commands", found)
	}
}

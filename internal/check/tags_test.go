package check

import (
	"maps"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// Who may write to a vault can take a mark away: what is left then agrees with the chain.
func TestInsiderAMissingOrForeignTagIsAFindingOfItsOwn(t *testing.T) {
	parts, s := newChecker(t)
	vault := parts.Config.Policies[0].Vaults[0]
	rec := record.Record{Schema: record.SchemaVersion, Key: "one", Vaults: parts.Config.Policies[0].Vaults}
	mark := signedMark(t, s)
	place := func(attempt, version string, cause key.Cause) record.Placement {
		return record.Placement{Attempt: key.ID(attempt), Vault: vault.URL, VaultName: vault.Name, Version: version,
			State: key.Proven, Cause: cause}
	}
	rec.Generations = []record.Generation{{Number: 1, Placements: []record.Placement{
		place(
			"a1",
			"v1",
			key.CauseRotation,
		), place("a2", "v2", key.CauseRotation), place("a3", "v3", key.CauseAdopted),
	}}}
	for attempt, recorded := range map[string]string{"a1": mark, "a2": ""} {
		if err := s.Append(t.Context(), chain.Entry{Key: "one", Event: chain.ImportIntended, Actor: "keyd",
			Fields: map[string]string{"attempt": attempt, "checkpoint": recorded}}); err != nil {
			t.Fatal(err)
		}
	}
	tags := func(attempt, mark string) map[string]string {
		all := map[string]string{
			key.TagInstance: "test", key.TagAttempt: attempt, key.TagCheckpoint: mark, key.TagGeneration: "1",
		}
		maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
		return all
	}
	without := func(of map[string]string, name string) map[string]string { delete(of, name); return of }
	as := func(of map[string]string, name, value string) map[string]string { of[name] = value; return of }
	whole := []map[string]string{tags("a1", mark), tags("a2", ""), nil}
	_, hash, _ := strings.Cut(mark, ":")
	found := func(t *testing.T, tags []map[string]string) []status.Check {
		c := &checker{Parts: parts.Parts}
		c.collect(rec, key.Policy{Key: "one"}, vault, record.VaultSeen{Versions: []key.Version{
			{ID: "v1", Tags: tags[0]}, {ID: "v2", Tags: tags[1]}, {ID: "v3", Tags: tags[2]},
		}})
		c.compareTags(t.Context())
		return c.lines
	}
	if got := found(t, whole); len(got) != 1 || got[0].Result != status.CheckOK ||
		!strings.HasSuffix(got[0].Detail, "on each of 2") {
		t.Errorf("as imported: %+v", got)
	}
	for _, test := range []struct {
		name string
		tags []map[string]string // of v1, v2 and v3
		want []string            // parts of the findings
	}{
		{"every tag is gone", []map[string]string{nil, tags("a2", ""), nil}, []string{
			`version v1 of one in weu has no tag keyd-attempt, and keyd recorded the tag keyd-attempt="a1"`,
			"has no tag keyd-checkpoint", "has no tag keyd-instance"}},
		{"the mark is gone", []map[string]string{tags("a1", ""), tags("a2", ""), nil},
			[]string{"version v1 of one in weu has no tag keyd-checkpoint, and keyd recorded the tag " +
				`keyd-checkpoint="` + mark}},
		{"another mark", []map[string]string{tags("a1", "9:"+hash), tags("a2", ""), nil},
			[]string{`has the tag keyd-checkpoint="9:`}},
		{"a mark where none was", []map[string]string{tags("a1", mark), tags("a2", mark), nil},
			[]string{"version v2 of one in weu has the tag keyd-checkpoint"}},
		{"of another instance", []map[string]string{as(tags("a1", mark), key.TagInstance, "hq-2"), tags("a2", ""), nil},
			[]string{`has the tag keyd-instance="hq-2"`}},
		{"of no instance", []map[string]string{without(tags("a1", mark), key.TagInstance), tags("a2", ""), nil},
			[]string{"has no tag keyd-instance"}},
		{"of another attempt", []map[string]string{as(tags("a1", mark), key.TagAttempt, "a2"), tags("a2", ""), nil},
			[]string{`has the tag keyd-attempt="a2"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			lines := found(t, test.tags)
			if len(lines) != len(test.want) {
				t.Fatalf("%+v, want %q", lines, test.want)
			}
			for i, l := range lines {
				if l.Result != status.CheckFailed || !strings.Contains(l.Detail, test.want[i]) || l.Remedy == "" {
					t.Errorf("%+v, want %q and a remedy", l, test.want[i])
				}
			}
		})
	}
}

func TestABrokenChainIsAFindingOfACheck(t *testing.T) {
	lines := checked(t, func(c *checker) {
		c.AuditBroken = func() string { return "the audit chain is another" }
		c.store(t.Context())
	})
	if last := lines[len(lines)-1]; last.Result != status.CheckFailed || last.Detail != "the audit chain is another" {
		t.Errorf("%+v", lines)
	}
}

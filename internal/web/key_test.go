package web

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// tableText is a key's table as text: a line for each generation, and in it a cell for each vault.
func tableText(t table) string {
	var b strings.Builder
	for _, v := range t.Vaults {
		fmt.Fprintf(&b, "| %s %s %s", v.Name, v.URL, v.Note)
	}
	for _, r := range t.Rows {
		fmt.Fprintf(&b, "\n%d", r.Number)
		for _, cells := range r.Cells {
			b.WriteString(" |")
			for _, c := range cells {
				fmt.Fprintf(&b, " %.4s (%d) %s %s", c.Version, len(c.Version), c.State, c.Cause)
			}
		}
	}
	return b.String()
}

func TestAKeysPageHasATableOfGenerationsByVaults(t *testing.T) {
	s := threeKeys()
	k := &s.Keys[0]
	const left = "https://left.vault.azure.net"
	k.Vaults = []string{weu, mhsm}
	k.Generations[1].Placements = k.Generations[1].Placements[:1] // not yet in the other vault
	old := k.Generations[0].Placements[0]
	old.Vault, old.VaultName = left, "left"
	again := k.Generations[0].Placements[0]
	again.Version, again.Cause = "ffff"+again.Version[4:], key.CauseRollback
	k.Generations[0].Placements = append(k.Generations[0].Placements, again, old)
	got := tableText(viewTable(at, *k, vaultNames(s)))
	want := "| contoso-weu https://contoso-weu.vault.azure.net/keys/disk-cmk-key " +
		"| contoso-hsm https://contoso.managedhsm.azure.net/keys/disk-cmk-key " +
		"| left https://left.vault.azure.net/keys/disk-cmk-key no longer a vault of this key\n" +
		"2 | 9463 (32) active  | |\n" +
		"1 | ffff (32) superseded rollback 85f9 (32) superseded  | 75c8 (32) superseded  | 85f9 (32) superseded "
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestAKeysPageShowsWholeVersionIDs(t *testing.T) {
	s := threeKeys()
	html := keyHTML(t, s, "sa-cmk-key")
	for _, g := range s.Keys[1].Generations {
		for _, p := range g.Placements {
			if !strings.Contains(html, ">"+p.Version+"<") {
				t.Errorf("version %s of generation %d is not there to copy", p.Version, g.Number)
			}
		}
	}
	if !strings.Contains(html, "version 5be10a77000000000000000000000000") {
		t.Error("the audit entries shorten versions")
	}
}

func TestAKeysPageShowsItsHoldAndHowToLiftIt(t *testing.T) {
	s := threeKeys()
	hold(&s, 1, key.HoldRefuted, "version 5be1 is not the HSM's")
	s.Problems[0].Vault = "contoso-weu"
	html := keyHTML(t, s, "sa-cmk-key")
	for _, want := range []string{"sa-cmk-key is on hold: contoso-weu holds other material than the HSM",
		"Since 25 Nov 2026 07:41:00 UTC, 2 hours ago, by keyd.", "Version 5be1 is not the HSM&#39;s",
		"<code>keyd resume sa-cmk-key --reason …</code></pre>"} {
		if !strings.Contains(html, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
}

func TestAKeysPageAsksForTheEntriesOfThatKey(t *testing.T) {
	c := (&world{snapshot: threeKeys()}).config(t)
	var asked string
	err := error(nil)
	c.RecentOf = func(_ context.Context, name string, n int) ([]status.Entry, error) {
		asked = fmt.Sprintf("%d of %s", n, name)
		return entries()[2:4], err
	}
	addr := serve(t, c)
	a := ask(t, "GET", addr, "/keys/sa-cmk-key", nil)
	if a.code != http.StatusOK || asked != "20 of sa-cmk-key" || !strings.Contains(a.body, "rotation requested") {
		t.Errorf("%d, asked for %s", a.code, asked)
	}
	err = os.ErrPermission
	if a := ask(t, "GET", addr, "/keys/sa-cmk-key", nil); !strings.Contains(
		a.body,
		"cannot be read: permission denied",
	) {
		t.Error("the page does not say that the chain cannot be read")
	}
}

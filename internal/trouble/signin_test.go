package trouble

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// noToken is a sign-in for Key Vault that fails since then.
func noToken(since time.Time) vault.NoToken {
	return vault.NoToken{Audience: "https://vault.azure.net", OfVaults: true, Since: since,
		Err: errors.New("no token: connection refused")}
}

// withoutToken is the world in which keyd has no token for its two vaults.
func withoutToken() *many {
	w := manyKeys(1)
	for i := range w.Vaults {
		w.Vaults[i].Reachable, w.Vaults[i].Reason = false, key.NoToken
		w.Vaults[i].Error = "list the keys of " + w.Vaults[i].Name + ": no token: connection refused"
	}
	return w
}

func TestTheProblemOfNoTokenNamesNoVaultAndSaysHowManyWait(t *testing.T) {
	for name, lacking := range map[string][]vault.NoToken{
		"the sign-in fails":        {noToken(noon.Add(-time.Hour))},
		"a sign-in has worked now": nil, // and keyd has not looked at the vaults again
	} {
		w := withoutToken()
		w.Credential.NoTokens = lacking
		w.Ready, w.Started = false, noon.Add(-time.Hour)
		got := Find(w.Snapshot, w.Evidence)
		if len(got) != 1 || got[0].Runbook != "keydsigninfailing" || got[0].Vault != "" {
			t.Fatalf("%s: %+v", name, got)
		}
		if p := got[0]; strings.Contains(p.Text+p.Remedy, "contoso") ||
			strings.Join(p.Effects, "; ") != "2 vaults cannot be used meanwhile" {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestTheProblemOfNoTokenSaysForWhatSinceWhenAndWhy(t *testing.T) {
	w := manyKeys(1)
	w.Credential.NoTokens = []vault.NoToken{
		noToken(noon.Add(-time.Hour)),
		{Audience: "https://management.azure.com", Since: noon, Err: errors.New("no token: no route to host")},
	}
	got := Find(w.Snapshot, w.Evidence)
	want := "keyd has not been able to sign in to Azure for https://vault.azure.net, https://management.azure.com " +
		"since 2026-11-25T11:00:00Z: no token: connection refused"
	if len(got) != 1 || got[0].Text != want {
		t.Errorf("%+v, want %q", got, want)
	}
}

func TestWithoutATokenAVaultThatDoesNotAnswerIsAProblemOfItsOwn(t *testing.T) {
	w := withoutToken()
	w.Credential.NoTokens = []vault.NoToken{noToken(noon.Add(-time.Hour))}
	w.Vaults[1].Error, w.Vaults[1].Reason = "i/o timeout", key.NoAnswer
	got := Find(w.Snapshot, w.Evidence)
	if len(got) != 2 || got[0].Runbook != "keydsigninfailing" || got[1].Runbook != "keydvaultunreachable" ||
		got[1].Vault != w.Vaults[1].Name || strings.Join(got[0].Effects, "; ") != "1 vault cannot be used meanwhile" {
		t.Errorf("%+v", got)
	}
}

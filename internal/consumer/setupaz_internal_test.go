package consumer

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/service"
)

// azCommands has, by the words of a command of Debian's azure-cli, its flags; the first of each has * if it must be
// given.
func azCommands(t *testing.T) map[string][][]string {
	t.Helper()
	text, err := os.ReadFile("testdata/az-2.45.0.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][][]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		words, flags, ok := strings.Cut(line, ":")
		if ok && !strings.HasPrefix(line, "#") {
			for _, f := range strings.Fields(flags) {
				all[words] = append(all[words], strings.Split(f, "|"))
			}
		}
	}
	return all
}

var (
	azLine = regexp.MustCompile(`az ((?:[a-z][a-z-]* )+)((?:-[^;]*)?)`)
	quoted = regexp.MustCompile(`'[^']*'|"[^"]*"`)
)

// remedies are all texts with az commands that a set-up's findings can have.
func remedies() (all []string) {
	id := func(kind string) string { return "/subscriptions/s/resourceGroups/g/providers/" + kind + "/p/c/n" }
	for kind, m := range mends {
		all = append(all, m.identity, m.key, giveKey(id(kind), keyRef{}))
	}
	closed := vaultProperties{
		Rules:      &networkRules{Bypass: ptr("None")},
		SoftDelete: ptr(false),
		SKU:        sku{ptr("standard")},
	}
	trusted, _ := service.Of("/subscriptions/s/resourceGroups/g/providers/" + aStorage + "/x")
	other, _ := service.Of("/subscriptions/s/resourceGroups/g/providers/" + aCosmos + "/x")
	for _, v := range []key.Vault{weuVault, hsmVault} {
		all = append(
			all,
			judgeKind(v, closed).Remedy,
			judgeKind(v, vaultProperties{}).Remedy,
			judgeProtection(v, closed).Remedy,
			judgeProtection(
				v,
				vaultProperties{},
			).Remedy,
			judgeNetwork(v, closed, trusted).Remedy,
			judgeNetwork(v, closed, other).Remedy,
			giveRights(v, "/v", "k", someone, closed, policyNeeds),
			giveRights(v, "/v", "k", someone, vaultProperties{
				Roles: ptr(true)}, policyNeeds),
			hintOf(notFound(v, nil, nil)),
		)
	}
	return append(all, readerCommand("/subscriptions/ID"),
		identityGone("x", id(identityType)).Remedy)
}

func TestEveryCommandOfARemedyIsOneOfDebiansAz(t *testing.T) {
	known, used := azCommands(t), map[string]bool{}
	for _, text := range remedies() {
		for _, part := range strings.Split(quoted.ReplaceAllString(text, "x"), "az ")[1:] {
			m := azLine.FindStringSubmatch("az " + part + " ")
			if m == nil {
				t.Errorf("no command is read in %q of %q", part, text)
				continue
			}
			words := strings.TrimSpace(m[1])
			flags, ok := known[words]
			if !ok {
				t.Errorf("testdata has no az %s, of %q", words, text)
				continue
			}
			used[words] = true
			var given []string
			for _, w := range strings.Fields(m[2]) {
				if strings.HasPrefix(w, "-") && w != "--query" {
					given = append(given, strings.TrimRight(w, ",;"))
				}
			}
			checkFlags(t, words, flags, given)
		}
	}
	for words := range known {
		if !used[words] {
			t.Errorf("testdata has az %s, which no remedy uses", words)
		}
	}
}

func checkFlags(t *testing.T, words string, flags [][]string, given []string) {
	t.Helper()
	is := func(names []string, flag string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.TrimPrefix(n, "*") == flag })
	}
	for _, g := range given {
		if !slices.ContainsFunc(flags, func(names []string) bool { return is(names, g) }) {
			t.Errorf("az %s has no flag %s", words, g)
		}
	}
	for _, names := range flags {
		if strings.HasPrefix(names[0], "*") &&
			!slices.ContainsFunc(given, func(g string) bool { return is(names, g) }) {
			t.Errorf("az %s lacks %s", words, names[0])
		}
	}
}

func TestEveryServiceCanBeGivenAKey(t *testing.T) {
	for _, s := range service.All() {
		if mends[s.Type].key == "" {
			t.Errorf("no command gives a %s a key", s.Name)
		}
	}
	id := "/subscriptions/s/resourceGroups/g/providers/" + aStorage + "/st/encryptionScopes/own"
	want := "az storage account encryption-scope update --account-name st --resource-group g --name own " +
		"--key-source Microsoft.KeyVault --key-uri https://v/keys/cmk"
	if got := giveKey(id, keyRef{vault: "https://v", name: "cmk"}); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

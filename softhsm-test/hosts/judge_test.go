package main

import (
	"math/big"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/softhsm-test/effects"
)

const vault = "https://weu.vault.azure.net"

// version is one of a vault, whose material is that number.
func version(id string, material int64) emulator.VersionInfo {
	return emulator.VersionInfo{ID: id, N: big.NewInt(material), E: 65537, Imported: true}
}

// keyWith is a key whose generations have these materials.
func keyWith(materials ...int64) status.Key {
	k := status.Key{Name: "k"}
	for i, m := range materials {
		k.Generations = append(k.Generations, status.Generation{Number: i + 1,
			Fingerprint: key.Fingerprint(fingerprint(version("", m)))})
	}
	return k
}

func TestTheJudgeFindsWhatIsLostOrDoubledInAVault(t *testing.T) {
	told := []effects.Entry{{Event: "duplicate version adopted",
		Fields: map[string]string{"vault": vault, "alias": "c"}}}
	for name, test := range map[string]struct {
		versions      []emulator.VersionInfo
		chain         []effects.Entry
		lost, doubled int
	}{
		"all is well":                  {versions: []emulator.VersionInfo{version("a", 11), version("b", 13)}},
		"a generation is missing":      {versions: []emulator.VersionInfo{version("b", 13)}, lost: 1},
		"the newest is another":        {versions: []emulator.VersionInfo{version("b", 13), version("a", 11)}, lost: 1},
		"nothing is there":             {lost: 3},
		"one is there twice":           {versions: twice(), doubled: 1},
		"the second one was adopted":   {versions: twice(), chain: told},
		"one of another material only": {versions: []emulator.VersionInfo{version("x", 17)}, lost: 3},
	} {
		lost, doubled := inVault(keyWith(11, 13), vault, test.versions, test.chain)
		if len(lost) != test.lost || len(doubled) != test.doubled {
			t.Errorf("%s: lost %q, doubled %q; want %d and %d", name, lost, doubled, test.lost, test.doubled)
		}
	}
}

func twice() []emulator.VersionInfo {
	return []emulator.VersionInfo{version("a", 11), version("b", 13), version("c", 13)}
}

func TestTheJudgeFindsWhatIsLostOrDoubledInTheToken(t *testing.T) {
	placed := func(n int) pair { return pair{label: key.Label{Key: "k", Number: n}} }
	pending := pair{label: key.Label{Key: "k", Number: 2, Pending: true}}
	for name, test := range map[string]struct {
		pairs         []pair
		lost, doubled int
	}{
		"all is well":                 {pairs: []pair{placed(1), placed(2)}},
		"one is missing":              {pairs: []pair{placed(1)}, lost: 1},
		"one was never wrapped":       {pairs: []pair{placed(1), pending}, lost: 1},
		"one is there twice":          {pairs: []pair{placed(1), placed(2), placed(2)}, doubled: 1},
		"beside one to be swept away": {pairs: []pair{placed(1), placed(2), pending}},
	} {
		lost, doubled := inToken(keyWith(11, 13), test.pairs)
		if len(lost) != test.lost || len(doubled) != test.doubled {
			t.Errorf("%s: lost %q, doubled %q; want %d and %d", name, lost, doubled, test.lost, test.doubled)
		}
	}
}

func TestAnImportIsLateIfAnotherHostHasBegunToLeadSinceItsIntent(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	intent := numbered{Key: "k", Entry: effects.Entry{Time: at(10), Event: "import intended",
		Fields: map[string]string{"vault": vault}}}
	change := numbered{Entry: effects.Entry{Time: at(20), Event: "leader changed"}}
	for name, test := range map[string]struct{ landed, want int }{
		"before the change": {15, 0}, "after it": {25, 1},
	} {
		call := emulator.RequestLog{Time: at(test.landed), Host: "weu.vault.azure.net", Operation: "import", Key: "k",
			Done: 200}
		if got := landedLate([]emulator.RequestLog{call}, []numbered{intent, change}); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

package main

import (
	"slices"
	"testing"
	"time"
)

// full is the tally of a demo that showed everything.
func full() *tally {
	var t tally
	t.world, t.answered = true, true
	for n, requester := range []string{bySchedule, "uid 0 (root)", bySchedule} {
		t.made++
		for _, v := range vaultNames {
			t.proven(v)
		}
		t.finished(generation{Number: n + 1, Requester: requester})
	}
	t.older, t.services, t.items = 4, 3, 9
	return &t
}

func TestTheVerdictCountsWhatTheDemoShowed(t *testing.T) {
	for _, c := range []struct {
		name    string
		tally   *tally
		want    string
		missing []string
	}{
		{"all", full(),
			"Shown: 3 generations made in the HSM, 6 versions imported (3 into contoso-weu, 3 into contoso-hsm), " +
				"6 proofs passed, 4 older versions still unwrapped, " +
				"3 Azure services read all 9 items they wrote before and after 2 rotations.", nil},
		{"one key",
			&tally{world: true, answered: true, made: 1, versions: map[string]int{"contoso-weu": 1, "contoso-hsm": 1},
				generations: 1, newest: 1, services: 3, items: 3},
			"Shown: 1 generation made in the HSM, 2 versions imported (1 into contoso-weu, 1 into contoso-hsm), " +
				"2 proofs passed, 3 Azure services read all 3 items they wrote.",
			[]string{"a rotation by command", "a rotation by the schedule"}},
		{"one vault", &tally{world: true, answered: true, made: 1, versions: map[string]int{"contoso-weu": 1}},
			"Shown: 1 generation made in the HSM, 1 version imported (1 into contoso-weu), 1 proof passed.",
			[]string{"a key in both vaults", "a rotation by command", "a rotation by the schedule"}},
		{"no key", &tally{world: true, answered: true},
			"Shown: keyd runs on a new token with two vaults; its first key was not made yet.",
			[]string{"a key in both vaults", "a rotation by command", "a rotation by the schedule"}},
		{"keyd never answered", &tally{world: true},
			"Shown: a token and two vaults were made; keyd was still starting.",
			[]string{"a key in both vaults", "a rotation by command", "a rotation by the schedule"}},
		{"nothing", &tally{}, "Shown: nothing yet; the token and the vaults were still being made.",
			[]string{"a key in both vaults", "a rotation by command", "a rotation by the schedule"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.tally.verdict(); got != c.want {
				t.Errorf("%s\nwant\n%s", got, c.want)
			}
			if got := c.tally.missing(); !slices.Equal(got, c.missing) {
				t.Errorf("missing: %q", got)
			}
		})
	}
}

func TestDEMOSECONDSIsAPositiveNumber(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "1": time.Second, "150": 150 * time.Second} {
		if got, err := seconds(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "-5", "5s", "1.5", "never", "99999999999"} {
		if got, err := seconds(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

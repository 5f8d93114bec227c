package rotate_test

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
)

// Enabling undoes a disabling of keyd's own versions, at the word of an operator, and nothing else.
func TestInsiderEnablesNothingButWhatAnOperatorMayAskFor(t *testing.T) {
	ask := func(t *testing.T, r *rotate.Rotator, p key.Policy, version string) error {
		t.Helper()
		return r.AskEnable(as(t, anna), p, anna.Actor, "it is needed", version)
	}
	// Each attack leaves a version disabled that must stay so.
	for name, attack := range map[string]func(t *testing.T, w *world, p key.Policy) (version string){
		"a stranger's version": func(t *testing.T, w *world, p key.Policy) string {
			version := w.vault[weu.URL].addForeign(p.Key)
			w.disable(p.Key, version)
			wantRefused(t, "has no version", ask(t, w.rotator(), p, version))
			return version
		},
		"another key's version": func(t *testing.T, w *world, p key.Policy) string {
			other := p
			other.Key = "other"
			rotateTwice(w, other)
			version := w.vault[weu.URL].key(other.Key).versions[0].ID
			w.disable(other.Key, version)
			wantRefused(t, "has no version", ask(t, w.rotator(), p, version))
			return version
		},
		"a version in a vault that the configuration took from the key": func(
			t *testing.T, w *world, p key.Policy,
		) string {
			version := w.vault[weu.URL].key(p.Key).versions[0].ID
			w.disable(p.Key, version)
			p.Vaults = []key.Vault{mhsm}
			wantRefused(t, "not one of the key's vaults", ask(t, w.rotator(), p, version))
			return version
		},
		"a version that takes two operators": func(
			t *testing.T, w *world, p key.Policy,
		) string {
			version := w.vault[weu.URL].key(p.Key).versions[0].ID
			w.disable(p.Key, version)
			r, _ := twoPeople(w)
			x := proposed(t, ask(t, r, p, version))
			wantRefused(t, "", r.Approve(t.Context(), p, x.ID, anna, "I agree with myself"))
			return version
		},
		"a version that an old copy of the state asks for": func(
			t *testing.T, w *world, p key.Policy,
		) string {
			version := w.vault[weu.URL].key(p.Key).versions[0].ID
			w.disable(p.Key, version)
			if err := ask(t, w.rotator(), p, version); err != nil {
				t.Fatal(err)
			}
			w.now = w.now.Add(time.Hour) // the copy is put back
			return version
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, p := rotatedOnly(t, weu, mhsm)
			version := attack(t, w, p)
			for range 3 {
				w.settle(p)
				w.now = w.now.Add(time.Hour)
			}
			for _, k := range w.vault[weu.URL].keys {
				for _, x := range k.versions {
					if x.ID == version && x.Enabled {
						t.Errorf("version %s is enabled\n%s", version, w.story())
					}
				}
			}
		})
	}
}

// disable disables a version in a vault, as its owner does.
func (w *world) disable(name, version string) {
	w.tb.Helper()
	x, err := w.vault[weu.URL].find(name, version)
	if err != nil {
		w.tb.Fatal(err)
	}
	x.Enabled = false
}

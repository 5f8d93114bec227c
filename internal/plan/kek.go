package plan

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// ImportTimeout is how long one PUT may take, and one making of a KEK. With the settle time behind it, it is how long
// an ambiguous one stays open.
const ImportTimeout = time.Minute

// KEKTime is how long after its beginning a KEK may still come to light.
func KEKTime(v key.Vault) time.Duration { return ImportTimeout + v.Kind.SettleTime() }

// createKEK makes a vault's KEK once, and gives it the time to come to light: a second one would replace the first,
// which the HSM side may have trusted by then.
func (in Input) createKEK(v visible, g *record.Generation) Step {
	kek := v.seen.KEK
	if settled := kek.Begun.Add(KEKTime(v.Vault)); !kek.Begun.IsZero() && v.seen.There(v.seen.Begun).Before(settled) {
		s := in.wait(g.Number, v.URL, "vault %s does not show the key exchange key that keyd makes yet; keyd makes "+
			"another after %s", v.Name, clock(settled))
		s.Until = in.Now.Add(pollSoon)
		return s
	}
	return Step{Kind: CreateKEK, Generation: g.Number, Vault: v.URL, Why: "the vault has no key exchange key"}
}

// kekShown records the key exchange key that shows after its making was cut short.
func kekShown(in Input) (Step, bool) {
	for _, v := range in.vaults() {
		if !in.Record.KEKBegun[v.URL].IsZero() && in.Record.KEKMade[v.URL] == "" && v.seen.KEK.Print != "" {
			return Step{Kind: CreateKEK, Vault: v.URL, Why: "it was begun, and now shows"}, true
		}
	}
	return Step{}, false
}

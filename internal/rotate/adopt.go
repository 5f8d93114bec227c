package rotate

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// Adoption observes one key and shows what Adopt would record: generations found
// again by modulus, foreign versions over which keyd may import, and what the
// record has that is gone. It changes nothing. unreserved asks what follows from a second consent: to use pairs that
// nobody reserved, too.
func (r *Rotator) Adoption(ctx context.Context, p key.Policy, unreserved bool) (status.Adoption, error) {
	rec, err := r.load(ctx, p.Key)
	if err != nil {
		return status.Adoption{}, err
	}
	a, err := r.adoption(ctx, p, rec, unreserved)
	if err != nil {
		return status.Adoption{}, err
	}
	return a.show()
}

// Adopt records the operator's consent to exactly what Adoption showed under the
// token.
func (r *Rotator) Adopt(ctx context.Context, p key.Policy, actor, reason, token string) error {
	return r.adopt(ctx, r.asking(ctx), p, actor, reason, token)
}

func (r *Rotator) adopt(ctx context.Context, g *gate, p key.Policy, actor, reason, token string) error {
	rec, err := r.load(ctx, p.Key)
	if err != nil {
		return err
	}
	a, err := r.adoption(ctx, p, rec, strings.HasSuffix(token, withUnreserved))
	if err != nil {
		return err
	}
	shown, err := a.show()
	if err != nil {
		return err
	}
	if shown.Token != token {
		return refuse("key %s has changed since the last look: look again with keyd adopt %s",
			p.Key, p.Key)
	}
	if shown.Empty() {
		return refuse("there is nothing to adopt for key %s", p.Key)
	}
	text, err := json.Marshal(shown)
	if err != nil {
		return err
	}
	rec = rec.Clone()
	entries, through, err := g.passKey(&rec, key.Act{Kind: key.ActAdopt, Reason: reason, Effects: shown.Consequence,
		Arguments: map[string]string{"token": token, "shown": fmt.Sprintf("sha256:%x", sha256.Sum256(text))}})
	if err != nil {
		return err
	}
	if !through {
		_, err := r.saveAll(ctx, rec, entries)
		return g.outcome(err)
	}
	a.rec.Proposals = rec.Proposals
	rec = a.rec
	hadConsent := rec.Doubt(r.now())
	if rec.Hold != nil && consentLifts(rec.Hold.Code) {
		rec.Lift(r.now())
	}
	if len(shown.Rebuild) > 0 {
		rec.Hold = &key.Hold{Code: key.HoldAdopted, Since: r.now(), By: actor,
			Reason: fmt.Sprintf("the record of %s was rebuilt from what was found; compare it with what you know "+
				"(keyd status %s), then: keyd resume %s --reason …", p.Key, p.Key, p.Key)}
	}
	entries = append(entries, chain.Entry{Event: chain.Adopted, Actor: actor,
		Fields: map[string]string{"reason": reason, chain.FieldAdopted: string(text)}})
	if hadConsent {
		entries = append(entries, consentEnded(actor, "an operator adopted what keyd did not know"))
	}
	if _, err := r.saveAll(ctx, rec, entries); err != nil {
		return err
	}
	r.Observer.Drop(p.Key)
	return nil
}

// consentLifts reports whether adopting resolves the cause of a hold. Other holds stay: somebody else had a reason
// for them.
func consentLifts(code key.HoldCode) bool {
	switch code {
	case key.HoldForeign, key.HoldNameTaken, key.HoldVersionsMissing, key.HoldRecordBehind,
		key.HoldUnreserved, key.HoldObjectMissing:
		return true
	}
	return false
}

// withUnreserved is the end of a token that stands for the second consent.
const withUnreserved = "-unreserved"

func (a *adopter) show() (status.Adoption, error) {
	shown := status.Adoption{Key: a.p.Key, Pairs: a.taken, Unknown: a.unknown, Gone: a.gone, Open: a.open}
	if len(a.foreign) > 0 {
		shown.Foreign = a.foreign
	}
	for _, g := range a.rebuilt {
		shown.Rebuild = append(shown.Rebuild, *g)
	}
	sort.Slice(shown.Rebuild, func(i, j int) bool { return shown.Rebuild[i].Number < shown.Rebuild[j].Number })
	switch {
	case shown.Empty() && a.open > 0:
		shown.Consequence = fmt.Sprintf("nothing yet: keyd can neither adopt what is still open above nor ignore it. "+
			"Look again in a few minutes, or once the vault can be seen: keyd adopt %s", a.p.Key)
	case shown.Empty():
		shown.Consequence = "nothing: the record agrees with the HSM and with every vault that could be seen"
	case len(a.rebuilt) > 0:
		shown.Consequence = "the record is rebuilt as shown and the key is held; after keyd resume each version is " +
			"proven, and then rotation goes on"
	case len(a.foreign) > 0:
		shown.Consequence = "keyd may import over the versions shown as foreign: its own become the newest, and " +
			"versionless consumers follow. The foreign ones stay enabled and untouched"
	default:
		shown.Consequence = "keyd gives up the missing versions shown above, and imports again what it can"
	}
	if a.rec.Consent != nil && !shown.Empty() {
		shown.Consequence += fmt.Sprintf(". The consent to the retire rule ends: keyd disables nothing more before "+
			"keyd retire %s", a.p.Key)
	}
	b, err := json.Marshal(shown)
	if err != nil {
		return shown, fmt.Errorf("encode what was found: %w", err)
	}
	sum := sha256.Sum256(b)
	shown.Token = fmt.Sprintf("%x", sum[:8])
	if a.unreserved {
		shown.Token += withUnreserved
	}
	return shown, nil
}

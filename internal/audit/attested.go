package audit

import (
	"time"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// Attested is what a Managed HSM said of an imported version, as the chain has it, verified again for the receipt.
type Attested struct {
	Result string        `json:"result"` // as recorded: verified, refused or unavailable
	Why    string        `json:"why,omitempty"`
	At     time.Time     `json:"at"`
	Facts  *attest.Facts `json:"facts,omitempty"` // as they were verified again, as of At
	// Contradicts says why a recorded attestation does not verify again.
	Contradicts string `json:"contradicts,omitempty"`
}

// attested reads what an entry says of an attestation, nil for nothing.
func attested(e chain.Entry, print key.Fingerprint, roots []attest.Root) *Attested {
	evidence, ok := attest.FromFields(e.Fields)
	if !ok {
		return nil
	}
	a := &Attested{Result: evidence.Result, Why: evidence.Why, At: e.Time}
	if evidence.Result != attest.Verified {
		return a
	}
	want := attest.Expect{Key: e.Key, Version: e.Fields["version"], Fingerprint: print}
	f, err := evidence.Verify(roots, want, e.Time)
	if err != nil {
		a.Contradicts = err.Error()
		return a
	}
	a.Facts = &f
	return a
}

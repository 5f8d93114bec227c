package observe

import (
	"context"
	"fmt"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// TrustConfigured is how the HSM side says that a KEK's fingerprint is in the configuration.
const TrustConfigured = "configured"

// kek asks the HSM side whether it trusts the vault's KEK. The HSM side may have lost its memory of the one first
// used: the record has it, too.
func (l look) kek(ctx context.Context) record.KEKSeen {
	kek, present, err := l.c.KEK(ctx)
	if err != nil {
		return record.KEKSeen{Err: err}
	}
	if !present {
		return record.KEKSeen{Absent: true}
	}
	seen := record.KEKSeen{KEK: kek, Print: kek.Material.Fingerprint()}
	seen.Trust, seen.Err = l.HSM.CheckKEK(ctx, kek)
	last := l.rec.NewestIn(l.url)
	if seen.Err == nil && seen.Trust != TrustConfigured && last.Found() && last.KEKPrint != "" &&
		last.KEKPrint != seen.Print {
		seen.Err = &changedKEK{seen.Print, last.KEKPrint}
	}
	return seen
}

// changedKEK is a KEK that replaced the one of the last import, and that nobody approved.
type changedKEK struct{ now, was key.Fingerprint }

func (e *changedKEK) Error() string {
	return fmt.Sprintf("the key exchange key is %s and was %s at the last import: find out who replaced it; "+
		"to approve it write kek.fingerprint into the configuration, then keyd reload", e.now, e.was)
}

// Class is key.Refused: the answer stays until a person changes something.
func (e *changedKEK) Class() key.Class { return key.Refused }

var _ key.Classed = (*changedKEK)(nil)

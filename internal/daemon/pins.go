package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
)

// pinnedHSM is the HSM side as keyd asks it. The HSM side reads the configuration's files itself, and acts on a new pin
// as soon as it is written. So where a change of pins needs a second operator, keyd goes by the pins in force, too.
type pinnedHSM struct {
	*hsm.Client
	config func() *config.Config // what keyd acts on
}

func (d *Daemon) pinnedHSM() pinnedHSM { return pinnedHSM{d.hsm, d.config} }

// CheckKEK says how both sides trust a KEK, or refuses it.
func (h pinnedHSM) CheckKEK(ctx context.Context, kek key.KEK) (how string, err error) {
	if how, err = h.Client.CheckKEK(ctx, kek); err != nil {
		return "", err
	}
	if err := pinned(h.config(), kek, how); err != nil {
		return "", err
	}
	return how, nil
}

// WrapFor wraps only for a KEK that both sides trust.
func (h pinnedHSM) WrapFor(ctx context.Context, id key.ID, kek key.KEK) (ciphertext []byte, err error) {
	if len(h.config().Approvals.Acts) > 0 {
		if _, err := h.CheckKEK(ctx, kek); err != nil {
			return nil, err
		}
	}
	return h.Client.WrapFor(ctx, id, kek)
}

// pinned refuses a KEK that the settings in force do not trust; how is why the HSM side does.
func pinned(cfg *config.Config, kek key.KEK, how string) error {
	if len(cfg.Approvals.Acts) == 0 {
		return nil // the files are in force as they are
	}
	v, _ := cfg.Vault(kek.Vault)
	if rule := cfg.Attestation(kek.Vault); rule.Required {
		if _, err := rule.OfKEK(kek, time.Now()); err != nil {
			return &unapprovedError{kek, err}
		}
	}
	firstUse := how == hsm.FirstUse || how == hsm.WouldBeFirstUse
	switch {
	case slices.Contains(v.KEK.Fingerprints, kek.Material.Fingerprint()):
		return nil
	case len(v.KEK.Fingerprints) == 0 && (v.KEK.PartitionRoot != "" || v.KEK.FirstUse && firstUse):
		return nil
	}
	return &unapprovedError{kek, nil}
}

// unapprovedError says that only the files trust a KEK.
type unapprovedError struct {
	kek key.KEK
	err error
}

func (e *unapprovedError) Error() string {
	text := fmt.Sprintf(
		"the configuration's files trust the key exchange key %s of %s, and a second operator has not "+
			"approved that: nothing is wrapped for it; keyd approvals shows what waits, and keyd reload proposes it",
		e.kek.Kid,
		e.kek.Vault,
	)
	if e.err != nil {
		text += fmt.Sprintf(" (by the settings in force: %v)", e.err)
	}
	return text
}

func (e *unapprovedError) Unwrap() error { return e.err }

// Class is key.Refused: asking again does not help.
func (e *unapprovedError) Class() key.Class { return key.Refused }

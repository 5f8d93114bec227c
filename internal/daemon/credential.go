package daemon

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/vault"
)

// credentialPause is how often keyd reads the credential's file again.
const credentialPause = 5 * time.Second

func (d *Daemon) credential() *vault.Credential {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.cred
}

// watchCredential watches the credential's file until ctx ends.
func (d *Daemon) watchCredential(ctx context.Context) {
	tick := time.NewTicker(credentialPause)
	defer tick.Stop()
	cred := d.credential()
	before := cred.Reread()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := d.credential(); now != cred { // after a reload
			cred, before = now, now.Reread()
		}
		before = d.lookAtCredential(cred, before)
	}
}

// lookAtCredential switches to a renewed certificate or token, and wakes every key at once, because that may be what
// they wait for. Consumers that keyd could not ask for want of a token are looked at again once it gets one.
func (d *Daemon) lookAtCredential(cred *vault.Credential, before vault.CredentialState) vault.CredentialState {
	state := cred.Reread()
	d.vaultSeen.Credential(state)
	if state.Renewals > before.Renewals {
		d.log.Info("the credential's file was read again", "file", state.File)
		d.observer.AskAgain()
		d.loop.PokeAll()
	}
	if len(state.NoTokens) == 0 {
		d.consumers.SignInWorks()
	}
	if state.Err != nil && before.Err == nil {
		d.log.Warn("the credential's file cannot be used", "file", state.File, "error", state.Err.Error())
	}
	return state
}

package daemon

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/vault"
)

const (
	// credentialPause is how often the credential's file is read again.
	credentialPause = 5 * time.Second
	// certificateSoon is from when on a certificate's end is a problem, as in the alert.
	certificateSoon = 14 * 24 * time.Hour
)

func (d *Daemon) credential() *vault.Credential {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.cred
}

// watchCredential looks after the credential's file until ctx ends.
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

// lookAtCredential takes over a renewed certificate or token, and has every key tried
// at once, because what it waits for may be just that.
func (d *Daemon) lookAtCredential(cred *vault.Credential, before vault.CredentialState) vault.CredentialState {
	state := cred.Reread()
	d.vaultSeen.Credential(state)
	if state.Renewals > before.Renewals {
		d.log.Info("the credential's file was read again", "file", state.File)
		d.observer.AskAgain()
		for _, name := range d.loop.Names() {
			d.loop.Poke(name)
		}
	}
	if state.Err != nil && before.Err == nil {
		d.log.Warn("the credential's file cannot be used", "file", state.File, "error", state.Err.Error())
	}
	return state
}

func renew(file string) string {
	return "renew it, register the new one with the application, and write it into the file" + afterRenewal(file)
}

// afterRenewal is what a file needs so that keyd sees the change.
func afterRenewal(file string) string {
	if isSystemdCredential(file) {
		return " that the unit loads it from, then: systemctl restart keyd" +
			" (systemd copies a credential when the service starts)"
	}
	return "; keyd reads it again by itself"
}

func isSystemdCredential(file string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	return dir != "" && filepath.Dir(file) == filepath.Clean(dir)
}

// certificate tells of the client certificate.
func (c *checker) certificate() {
	state := c.d.credential().Reread()
	name := "client certificate"
	if state.Kind != vault.ClientCertificate {
		name = "federated token"
	}
	left := time.Until(state.Ends)
	switch {
	case state.Err != nil:
		c.line(status.CheckFailed, "identity", state.Kind, name, state.Err.Error(),
			"mend the file"+afterRenewal(state.File))
	case state.Ends.IsZero():
	case left <= 0:
		c.line(status.CheckFailed, "identity", state.Kind, name, state.File+" ended at "+moment(state.Ends),
			renew(state.File))
	case left < certificateSoon:
		c.warn("identity", state.Kind, name, state.File+" ends at "+moment(state.Ends), renew(state.File))
	default:
		c.add("identity", state.Kind, name, nil, state.File+" ends at "+moment(state.Ends), "")
	}
}

package vault

import (
	"os"
	"path/filepath"
)

// Mend says how a person makes a credential's file that cannot be used usable again.
func (s CredentialState) Mend() string { return "fix the file" + s.takeOver() }

// Renew says how a person renews a client certificate.
func (s CredentialState) Renew() string {
	return "renew it, register the new one with the application, and write it into the file" + s.takeOver()
}

// takeOver is what makes keyd see a change of the file. systemd copies a credential when the service starts: keyd
// cannot see what changes behind it later.
func (s CredentialState) takeOver() string {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && filepath.Dir(s.File) == filepath.Clean(dir) {
		return " that the unit loads it from, then: systemctl restart keyd" +
			" (systemd copies a credential when the service starts)"
	}
	return "; keyd reads it again by itself"
}

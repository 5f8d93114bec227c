package vault

import (
	"os"
	"path/filepath"
)

// Fix says how a person makes an unusable credential file usable again.
func (s CredentialState) Fix() string { return "fix the file" + s.takeOver() }

// Renew says how a person renews a client certificate.
func (s CredentialState) Renew() string {
	return "renew it, register the new one with the application, and write it into the file" + s.takeOver()
}

// takeOver says how keyd notices a change of the file. systemd copies a credential when the service starts, and keyd
// cannot see later changes to the original.
func (s CredentialState) takeOver() string {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && filepath.Dir(s.File) == filepath.Clean(dir) {
		return " that the unit loads it from, then: systemctl restart keyd" +
			" (systemd copies a credential when the service starts)"
	}
	return "; keyd reads it again by itself"
}

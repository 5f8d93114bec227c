package emulator

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"fmt"
	"net/http"
)

// mostBackedUp is how many versions a backup can hold.
const mostBackedUp = 500

// backedUp is the content of a backup, sealed with a key that the emulator makes at its
// start: nobody else can read it, and no other emulator accepts it.
type backedUp struct {
	Service  string            `json:"service"`
	Name     string            `json:"name"`
	Policy   *rotationPolicy   `json:"policy,omitempty"`
	Versions []backedUpVersion `json:"versions"`
}

type backedUpVersion struct {
	Version  *journalVersion `json:"version"`
	Material []byte          `json:"material"`
}

func newSealer() (cipher.AEAD, error) {
	raw, err := randomBytes(32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("making the key of backups: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// domain distinguishes a vault's backups from a Managed HSM's.
func (v *Vault) domain() string {
	if v.config.Profile == ManagedHSM {
		return ManagedHSM.String()
	}
	return "vault"
}

func (v *Vault) backup(name string) (any, error) {
	k, err := v.replica().key(name)
	if err != nil {
		return nil, err
	}
	if len(k.versions) > mostBackedUp {
		return nil, badParameter("Key %s has %d versions; a backup holds at most %d.",
			k.name, len(k.versions), mostBackedUp)
	}
	b := backedUp{Service: v.domain(), Name: k.name, Policy: k.policy}
	for _, ver := range k.versions {
		raw, err := ver.held.marshal()
		if err != nil {
			return nil, fmt.Errorf("backing up %s/%s: %w", k.name, ver.id, err)
		}
		b.Versions = append(b.Versions, backedUpVersion{ver.record(), raw})
	}
	text, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("backing up %s: %w", k.name, err)
	}
	return backupBody{v.sealer.Seal(nil, nil, text, nil)}, nil
}

// restoreBackup restores a key under its name, with all its versions.
func (v *Vault) restoreBackup(q backupBody) (any, error) {
	text, err := v.sealer.Open(nil, nil, q.Value, nil)
	if err != nil {
		return nil, v.badBackup()
	}
	var b backedUp
	if err := json.Unmarshal(text, &b); err != nil || b.Service != v.domain() {
		return nil, v.badBackup()
	}
	k := &entry{name: b.Name, policy: b.Policy}
	for _, each := range b.Versions {
		ver := each.Version.version(each.Material)
		// Recordings of a Managed HSM show this for a key that was not exportable.
		ver.exportable = ver.exportable || v.config.Profile == ManagedHSM
		k.versions = append(k.versions, ver)
	}
	err = v.change(func(s *state) error {
		if s.keys[fold(k.name)] != nil || v.taken(s, k.name) {
			return conflict("", "There was a conflict restoring the key '%s'. This can happen if either: a second "+
				"key with the same name was created after the first key was deleted; thus trying to restore a key "+
				"whose name is already in use. To fix this, rename the second key to something else so that the "+
				"restore works. The second probable cause of this exception is when multiple operations are "+
				"performed in parallel against the key. To avoid this error, perform operations against a key in a "+
				"sequential manner.",
				v.id("keys", k.name, k.newest().id))
		}
		delete(s.deleted, fold(k.name))
		s.put(k)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return v.bundle(k.name, k.newest()), nil
}

// taken reports whether the name belongs to a deleted key, or to one whose purge has
// not completed.
func (v *Vault) taken(s *state, name string) bool {
	d := s.deleted[fold(name)]
	return d != nil && (v.deletion(s, name) != nil || v.opts.Now().Before(d.goneAt))
}

func (v *Vault) badBackup() *apiError {
	if v.config.Profile == ManagedHSM {
		return &apiError{
			status: http.StatusBadRequest, code: "MalformedBackupBlob",
			message: "Backup blob belongs to a different crypto domain and cannot be used with this instance.",
		}
	}
	return &apiError{status: http.StatusBadRequest, code: "Malformed backup blob", message: "Backup blob is corrupt."}
}

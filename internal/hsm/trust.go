package hsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/ownership"
)

// How a KEK came to be trusted.
const (
	Configured      = "configured"
	FirstUse        = "first use"
	WouldBeFirstUse = "would be first use"
)

// trust decides for which KEKs keyd may wrap a key: those whose fingerprints are configured. Where the configuration
// says kek.trust: first-use, it trusts the one that was used first, and records it.
type trust struct {
	path string
	now  func() time.Time
	mu   sync.Mutex
}

type trustFile struct {
	Schema int                  `json:"schema"`
	Vaults map[string]trustedBy `json:"vaults"` // by URL
}

type trustedBy struct {
	Fingerprint key.Fingerprint `json:"fingerprint"`
	How         string          `json:"how"`
	At          time.Time       `json:"at"`
}

func newTrust(stateDir string) *trust {
	return &trust{path: filepath.Join(stateDir, "kek-trust.json"), now: time.Now}
}

// check says how keyd trusts kek. It records nothing.
func (t *trust) check(kek key.KEK, by *Rights) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	how, _, _, err := t.decide(kek, by)
	return how, err
}

// accept does what check does, and records the fingerprint before it returns.
func (t *trust) accept(kek key.KEK, by *Rights) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	how, print, file, err := t.decide(kek, by)
	if err != nil {
		return "", err
	}
	if how == WouldBeFirstUse {
		how = FirstUse
	}
	if file.Vaults[kek.Vault].Fingerprint == print {
		return how, nil
	}
	file.Vaults[kek.Vault] = trustedBy{Fingerprint: print, How: how, At: t.now().UTC()}
	data, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return "", err
	}
	killpoint.At("hsm-trust-before")
	if err := writeDurable(t.path, append(data, '\n')); err != nil {
		return "", newError(Internal, key.Retry, "record the KEK of %s before its first use: %w", kek.Vault, err)
	}
	killpoint.At("hsm-trust-after")
	return how, nil
}

func (t *trust) decide(kek key.KEK, by *Rights) (how string, print key.Fingerprint, file trustFile, err error) {
	if err := ofVault(kek); err != nil {
		return "", "", file, err
	}
	if err := fit(kek); err != nil {
		return "", "", file, err
	}
	vault, err := by.vault(kek.Vault)
	if err != nil {
		return "", "", file, err
	}
	if file, err = t.load(); err != nil {
		return "", "", file, refused(KEKRefused, "nothing is wrapped for %s: %w", kek.Vault, err)
	}
	pooled, err := t.attested(kek, vault)
	if err != nil {
		return "", "", file, err
	}
	print = kek.Material.Fingerprint()
	known, seen := file.Vaults[kek.Vault]
	switch {
	case pooled:
		return ByPartitionRoot, print, file, nil
	case slices.Contains(vault.Pins, print):
		return Configured, print, file, nil
	case len(vault.Pins) > 0:
		return "", "", file, changed(kek, print, "the configuration approves", vault.Pins...)
	case !vault.FirstUse:
		return "", "", file, unapproved(kek, print, vault)
	case vault.Shared:
		return "", "", file, unshared(kek, print, vault)
	case !seen:
		return WouldBeFirstUse, print, file, nil
	case known.Fingerprint == print:
		return FirstUse, print, file, nil
	default:
		return "", "", file, changed(kek, print, "keyd first used", known.Fingerprint)
	}
}

func unapproved(kek key.KEK, shown key.Fingerprint, v VaultRights) error {
	return refused(KEKRefused, "vault %s has the KEK %s with fingerprint %s, and the configuration approves none: "+
		"nothing is wrapped for it; to compute the fingerprint without keyd, and to approve it: keyd kek %s",
		v.Name, kek.Kid, shown, v.Name)
}

func unshared(kek key.KEK, shown key.Fingerprint, v VaultRights) error {
	return refused(KEKRefused, "vault %s has the KEK %s with fingerprint %s, and several hosts use the store: none of "+
		"them trusts a KEK by its first use (kek.trust: first-use), because each would trust the one that it sees; to "+
		"compute the fingerprint without keyd, and to approve it: keyd kek %s", v.Name, kek.Kid, shown, v.Name)
}

// changed refuses a KEK that is not the expected one. It prints no line that would approve it: whoever put the KEK
// there may want just that.
func changed(kek key.KEK, shown key.Fingerprint, who string, expected ...key.Fingerprint) error {
	texts := make([]string, len(expected))
	for i, f := range expected {
		texts[i] = string(f)
	}
	return refused(KEKRefused, "%s shows the KEK %s with fingerprint %s, but %s %s: nothing is wrapped for it; "+
		"find out who made the KEK, and leave kek.fingerprints in keyd.yaml as it is until the vault's owner has "+
		"confirmed the new one out of band", kek.Vault, kek.Kid, shown, who, strings.Join(texts, " and "))
}

// kidForm is the part of a KEK's id after the vault.
var kidForm = regexp.MustCompile(`^/keys/[0-9a-zA-Z-]{1,127}/[0-9a-zA-Z]{1,64}$`)

// ofVault refuses an id that is not one of the KEK's vault.
func ofVault(kek key.KEK) error {
	u, err := url.Parse(kek.Kid)
	if err == nil && u.RawQuery == "" && u.Fragment == "" && u.User == nil && kidForm.MatchString(u.EscapedPath()) {
		origin, oerr := key.Origin(u)
		if oerr == nil && origin == kek.Vault {
			return nil
		}
	}
	return refused(KEKRefused, "%.200q is not the id of a KEK of vault %.200q: nothing is wrapped for it", kek.Kid,
		kek.Vault)
}

// fit refuses public keys that would protect nothing. A KEK of Key Vault is RSA 2048, 3072 or 4096 with exponent 65537.
// An exponent of 1 would send the key in the clear.
func fit(kek key.KEK) error {
	pub, ok := kek.Material.RSA()
	if kek.Vault == "" || !ok {
		return refused(KEKRefused, "the KEK of vault %q has no public key", kek.Vault)
	}
	bits := pub.N.BitLen()
	if (bits != 2048 && bits != 3072 && bits != 4096) || pub.N.Bit(0) == 0 || pub.E != 65537 {
		return refused(KEKRefused, "the KEK %s of %s is not RSA of 2048, 3072 or 4096 bits with exponent 65537 "+
			"(%d bits, exponent %d): nothing is wrapped for it", kek.Kid, kek.Vault, bits, pub.E)
	}
	return nil
}

func (t *trust) load() (trustFile, error) {
	file := trustFile{Schema: 1, Vaults: map[string]trustedBy{}}
	data, err := ownership.ReadFile(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil
	}
	if err != nil {
		return file, err
	}
	file.Vaults = nil
	if err := decodeStrict(data, &file); err != nil || file.Schema != 1 || file.Vaults == nil {
		return file, fmt.Errorf("%s, the record of trusted KEKs, is damaged: restore it from a backup, "+
			"or configure the fingerprint of every vault's KEK and then remove it", t.path)
	}
	for url, by := range file.Vaults {
		if p, err := key.ParseFingerprint(string(by.Fingerprint)); err != nil || p != by.Fingerprint {
			return file, fmt.Errorf(
				"%s, the record of trusted KEKs, is damaged at %s: restore it from a backup",
				t.path,
				url,
			)
		}
	}
	return file, nil
}

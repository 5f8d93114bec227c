package emulator

import (
	"crypto/cipher"
	"crypto/ecdsa"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

const maxHSMKeyVersions = 100 // Managed HSM, per key

// Vault is one vault or Managed HSM.
type Vault struct {
	config VaultConfig
	opts   Options
	guard  *guard
	*history
	limiter  *limiter                  // nil: no limits
	azure    judge                     // of Azure's roles
	attester func() (*attester, error) // made when first asked

	sealer cipher.AEAD       // of backups
	signer *ecdsa.PrivateKey // of releases

	// Of the view that a call has (see as).
	stale      time.Duration
	created    time.Duration
	apiVersion string // "": the newest
}

// entry is one key; immutable.
type entry struct {
	name     string
	readyAt  time.Time       // until then it is being recovered
	versions []*version      // in order of creation
	policy   *rotationPolicy // nil: none was set
}

type deletedEntry struct {
	entry   *entry
	at      time.Time
	readyAt time.Time // until then it is being deleted
	purgeAt time.Time
	goneAt  time.Time // of a purged key: until then its name is taken
}

// version is one key version; immutable.
type version struct {
	id       string // 32 lower-case hex digits
	kty      string
	ops      []string
	enabled  bool
	nbf, exp *int64
	created  int64
	updated  int64
	tags     map[string]string // nil: none were ever given
	imported bool

	exportable bool
	release    *releasePolicy // nil: none

	shown   material // what the vault shows
	held    material // what it computes with
	garbled bool     // unwrap answers another plaintext
}

func newVault(c VaultConfig, opts Options) *Vault {
	return &Vault{config: c, opts: opts, history: newHistory(opts.Now), guard: &guard{}}
}

// as returns the vault as a call with this api-version and under this fault sees it.
func (v *Vault) as(f fault, apiVersion string) *Vault {
	view := *v
	view.stale, view.created, view.apiVersion = f.stale, f.created, apiVersion
	return &view
}

func (s *state) key(name string) (*entry, error) {
	if k := s.keys[fold(name)]; k != nil && !s.now().Before(k.readyAt) {
		return k, nil
	}
	return nil, keyNotFound(name, "")
}

// version returns one version; "" is the newest by creation, enabled or not.
func (s *state) version(name, id string) (*entry, *version, error) {
	k, err := s.key(name)
	if err != nil {
		return nil, nil, err
	}
	if id == "" {
		return k, k.newest(), nil
	}
	for _, ver := range k.versions {
		if strings.EqualFold(ver.id, id) {
			return k, ver, nil
		}
	}
	return nil, nil, keyNotFound(name, id)
}

// replace replaces the version that has ver's id.
func (s *state) replace(k *entry, ver *version) {
	next := *k
	next.versions = slices.Clone(k.versions)
	i := slices.IndexFunc(next.versions, func(o *version) bool { return o.id == ver.id })
	next.versions[i] = ver
	s.put(&next)
}

func (s *state) put(k *entry) { s.keys[fold(k.name)] = k }

// add makes ver the newest version of name, creating a new key if needed.
func (v *Vault) add(s *state, name string, ver *version) error {
	if err := v.mayWrite(s, name); err != nil {
		return err
	}
	k := s.keys[fold(name)]
	if k == nil {
		k = &entry{name: name}
	}
	if v.config.Profile == ManagedHSM && len(k.versions) >= maxHSMKeyVersions {
		return badParameter("key %s has %d versions, the most a Managed HSM holds", name, len(k.versions))
	}
	delete(s.deleted, fold(name)) // purged by now
	next := *k
	next.versions = append(slices.Clone(k.versions), ver)
	s.put(&next)
	return nil
}

// deletion returns a deleted key, unless its retention is over and it is purged.
func (v *Vault) deletion(s *state, name string) *deletedEntry {
	d := s.deleted[fold(name)]
	if d == nil || !v.opts.Now().Before(d.purgeAt) {
		return nil
	}
	return d
}

// mayWrite refuses a name that a deleted key still occupies.
func (v *Vault) mayWrite(s *state, name string) error {
	d := v.deletion(s, name)
	switch {
	case d == nil:
		if k := s.keys[fold(name)]; k != nil && v.opts.Now().Before(k.readyAt) {
			return conflict("ObjectIsBeingRecovered", "Key %s is currently being recovered; retry later.", name)
		}
		return nil
	case v.opts.Now().Before(d.readyAt):
		return conflict("ObjectIsBeingDeleted",
			"Key %s is currently being deleted and cannot be re-created; retry later.", name)
	default:
		return conflict("ObjectIsDeletedButRecoverable",
			"Key %s is currently in a deleted but recoverable state, and its name cannot be reused; in this state, "+
				"the key can only be recovered or purged.", name)
	}
}

func (v *Vault) delete(s *state, name string) (*deletedEntry, error) {
	if d := v.deletion(s, name); d != nil && v.opts.Now().Before(d.readyAt) {
		return nil, v.mayWrite(s, name)
	}
	k, err := s.key(name)
	if err != nil {
		return nil, err
	}
	now := v.opts.Now()
	d := &deletedEntry{entry: k, at: now, readyAt: v.doneAt(), purgeAt: now.AddDate(0, 0, v.recoverableDays())}
	delete(s.keys, fold(name))
	s.deleted[fold(name)] = d
	return d, nil
}

// deletedKey returns a key whose deletion is complete.
func (v *Vault) deletedKey(s *state, name string) (*deletedEntry, error) {
	d := v.deletion(s, name)
	if d == nil || v.opts.Now().Before(d.readyAt) {
		return nil, keyNotFound(name, "")
	}
	return d, nil
}

func (v *Vault) recover(s *state, name string) (*entry, error) {
	d := v.deletion(s, name)
	if d == nil {
		return nil, keyNotFound(name, "")
	}
	if v.opts.Now().Before(d.readyAt) {
		return nil, v.mayWrite(s, name)
	}
	delete(s.deleted, fold(name))
	k := *d.entry
	k.readyAt = v.doneAt()
	s.put(&k)
	return &k, nil
}

// doneAt returns when a deletion, recovery or purge that begins now will be complete.
func (v *Vault) doneAt() time.Time {
	if v.config.Profile == ManagedHSM {
		return v.opts.Now()
	}
	return v.opts.Now().Add(v.opts.DeletionDelay)
}

func (v *Vault) purge(s *state, name string) error {
	if v.purgeProtected() {
		return forbidden("", "Operation \"purge\" is not allowed on this vault: purge protection is on.")
	}
	d, err := v.deletedKey(s, name)
	if err != nil {
		return err
	}
	delete(s.deleted, fold(name))
	if now, over := v.opts.Now(), v.doneAt(); over.After(now) {
		s.deleted[fold(name)] = &deletedEntry{entry: d.entry, at: d.at, readyAt: d.readyAt, purgeAt: now, goneAt: over}
	}
	return nil
}

func (k *entry) newest() *version { return k.versions[len(k.versions)-1] }

// newVersion creates an enabled version with material m, for all operations unless ops
// names some.
func (v *Vault) newVersion(kty string, ops []string, m material) (*version, error) {
	id, err := randomBytes(16)
	if err != nil {
		return nil, err
	}
	if len(ops) == 0 {
		ops = m.operations()
		if m.family() == "oct" {
			ops = append([]string{"deriveKey"}, ops...)
		}
	}
	now := v.opts.Now().Unix()
	return &version{
		id: hex.EncodeToString(id), kty: kty, ops: slices.Clone(ops), enabled: true,
		created: now, updated: now, shown: m, held: m,
	}, nil
}

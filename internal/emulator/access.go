package emulator

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// AccessMode is how a vault authorises callers.
type AccessMode int

const (
	// OpenAccess allows every valid token everything.
	OpenAccess AccessMode = iota
	// RoleBased uses role assignments: Azure RBAC of a vault, local RBAC of a Managed
	// HSM.
	RoleBased
	// PolicyBased uses a vault's access policies; a Managed HSM has none.
	PolicyBased
)

// Role is a built-in role, without the "Key Vault" or "Managed HSM" before it.
// What it allows depends on the service.
type Role string

const (
	// Administrator may do everything with a vault's keys, and nothing with a
	// Managed HSM's: there it manages roles.
	Administrator Role = "Administrator"
	// CryptoOfficer may do everything with a vault's keys; on a Managed HSM it
	// may only see, recover and purge deleted ones.
	CryptoOfficer Role = "Crypto Officer"
	// CryptoUser may use a vault's keys; on a Managed HSM it may also make,
	// import, rotate and delete them.
	CryptoUser Role = "Crypto User"
	// CryptoServiceEncryptionUser may read keys, wrap and unwrap.
	CryptoServiceEncryptionUser Role = "Crypto Service Encryption User"
)

// RoleDefinition is a custom role: what it allows, by the names of data actions
// without Microsoft.KeyVault/vaults/ or Microsoft.KeyVault/managedHsm/ before them.
type RoleDefinition struct {
	Role        Role
	DataActions []string
}

// RoleAssignment gives an identity a role. Scope is "/" (also when empty), "/keys"
// or "/keys/NAME".
type RoleAssignment struct {
	Identity string // client id
	Role     Role
	Scope    string
}

// AccessPolicy gives an identity permissions for all keys of a vault: get, list,
// create, import, update, delete, recover, purge, wrapKey, unwrapKey, encrypt,
// decrypt, sign, verify, rotate, getrotationpolicy, setrotationpolicy, backup,
// restore, release.
type AccessPolicy struct {
	Identity    string // client id
	Permissions []string
}

// guard holds one vault's access rules.
type guard struct {
	defined map[Role][]string // custom roles

	mu       sync.RWMutex
	mode     AccessMode
	kept     bool // purge protection
	grants   []grant
	policies map[string][]string // by client id
	firewall *Firewall
}

// grant is a role assignment with the time in which it is in effect.
type grant struct {
	RoleAssignment
	from, until time.Time // a zero until: no end
}

func newGuard(c VaultConfig) (*guard, error) {
	if c.Profile == ManagedHSM && c.Access == PolicyBased {
		return nil, fmt.Errorf("%s is a Managed HSM, which has no access policies: use roles", c.Host)
	}
	g := &guard{mode: c.Access, kept: c.PurgeProtection, defined: map[Role][]string{},
		policies: map[string][]string{}, firewall: c.Firewall}
	for _, d := range c.RoleDefinitions {
		if err := d.check(c.Profile); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Host, err)
		}
		g.defined[d.Role] = d.DataActions
	}
	for _, a := range c.Roles {
		if err := g.assign(a, time.Time{}); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Host, err)
		}
	}
	for _, p := range c.Policies {
		if err := g.setPolicy(p); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Host, err)
		}
	}
	return g, nil
}

// check refuses data actions that the service does not have.
func (d RoleDefinition) check(p Profile) error {
	for _, action := range d.DataActions {
		known := false
		for _, r := range rights {
			known = known || r.dataAction(p) == action
		}
		if !known {
			return fmt.Errorf("role %q: unknown data action %q", d.Role, action)
		}
	}
	return nil
}

func (a *RoleAssignment) check(defined map[Role][]string) error {
	if a.Scope == "" {
		a.Scope = "/"
	}
	known := []Role{Administrator, CryptoOfficer, CryptoUser, CryptoServiceEncryptionUser}
	if _, custom := defined[a.Role]; !custom && !slices.Contains(known, a.Role) {
		return fmt.Errorf("unknown role %q: write one of %q", a.Role, known)
	}
	name, ofKey := strings.CutPrefix(a.Scope, "/keys/")
	if a.Scope != "/" && a.Scope != "/keys" && (!ofKey || !keyName.MatchString(name)) {
		return fmt.Errorf("unknown scope %q: write /, /keys or /keys/NAME", a.Scope)
	}
	if a.Identity == "" {
		return fmt.Errorf("a role assignment needs the client id of an identity")
	}
	return nil
}

func (g *guard) assign(a RoleAssignment, from time.Time) error {
	if err := a.check(g.defined); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.grants = append(g.grants, grant{RoleAssignment: a, from: from})
	return nil
}

func (g *guard) unassign(a RoleAssignment, until time.Time) error {
	if err := a.check(g.defined); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	found := false
	for i := range g.grants {
		if g.grants[i].RoleAssignment == a && g.grants[i].until.IsZero() {
			g.grants[i].until, found = until, true
		}
	}
	if !found {
		return fmt.Errorf("%s has no role %s at %s", a.Identity, a.Role, a.Scope)
	}
	return nil
}

func (g *guard) setPolicy(p AccessPolicy) error {
	known := policyPermissions()
	for _, name := range p.Permissions {
		if !slices.Contains(known, name) {
			return fmt.Errorf("unknown permission %q: write some of %s", name, strings.Join(known, ", "))
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.policies[p.Identity] = slices.Clone(p.Permissions)
	return nil
}

// authorize returns why the caller may not make the call t, or nil and the id of the role assignment that allows it,
// if any.
func (v *Vault) authorize(c caller, t target) (assignment string, err error) {
	g, r := v.guard, rights[t.operation]
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.mode == OpenAccess || r == (right{}) {
		return "", nil
	}
	if g.mode == PolicyBased {
		if slices.Contains(g.policies[c.clientID], r.policy) {
			return "", nil
		}
		return "", v.deniedByPolicy(c, r)
	}
	scope, now := v.scopeOf(t), v.opts.Now()
	azure := v.judged(c, r, scope)
	if azure.Denied {
		return "", v.deniedByRole(c, r, scope)
	}
	for _, a := range g.grants {
		working := !now.Before(a.from) && (a.until.IsZero() || now.Before(a.until))
		if working && strings.EqualFold(a.Identity, c.clientID) && a.covers(scope) && v.allows(a.Role, t.operation) {
			return a.id(), nil
		}
	}
	if azure.Allowed {
		return azure.Assignment, nil
	}
	return "", v.deniedByRole(c, r, scope)
}

// scopeOf returns the resource of a call. A key that does not exist yet is created in
// /keys.
func (v *Vault) scopeOf(t target) string {
	if t.operation == opRoles || t.operation == opRoleNames {
		return t.scope
	}
	if t.key == "" {
		return "/keys"
	}
	_, err := v.current().key(t.key)
	if makes := t.operation == opCreate || t.operation == opImport; makes && err != nil {
		return "/keys"
	}
	return "/keys/" + t.key
}

// id returns the assignment's GUID. Equal assignments have equal ids.
func (a RoleAssignment) id() string {
	sum := sha256.Sum256([]byte(a.Identity + " " + string(a.Role) + " " + a.Scope))
	return guid(sum[:16])
}

func (a RoleAssignment) covers(scope string) bool {
	return a.Scope == "/" || strings.EqualFold(a.Scope, scope) || strings.HasPrefix(fold(scope), fold(a.Scope)+"/")
}

// Assign gives an identity a role, which takes effect after Options.RoleDelay.
func (v *Vault) Assign(a RoleAssignment) error {
	return v.guard.assign(a, v.opts.Now().Add(v.opts.RoleDelay))
}

// Unassign takes a role away, which takes effect after Options.RoleDelay.
func (v *Vault) Unassign(a RoleAssignment) error {
	return v.guard.unassign(a, v.opts.Now().Add(v.opts.RoleDelay))
}

// SetAccessPolicy replaces an identity's access policy at once.
func (v *Vault) SetAccessPolicy(p AccessPolicy) error { return v.guard.setPolicy(p) }

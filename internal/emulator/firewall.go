package emulator

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Firewall admits callers by address, or as a trusted Azure service.
type Firewall struct {
	IPRules []netip.Prefix
	// TrustedServices admits trusted Azure services from any address.
	TrustedServices bool
}

// Identity is what the emulator assumes about a caller. Calls come from loopback, so
// the emulator cannot see the caller's address.
type Identity struct {
	ClientID string
	// Address is the apparent source address of calls. Default 203.0.113.1 (RFC 5737).
	Address        netip.Addr
	TrustedService bool
}

// identities are the known callers.
type identities struct {
	mu      sync.RWMutex
	known   map[string]Identity  // by lower-case client id
	revoked map[string]time.Time // tokens issued until then are revoked
}

func newIdentities(list []Identity) *identities {
	d := &identities{known: map[string]Identity{}, revoked: map[string]time.Time{}}
	for _, i := range list {
		d.set(i)
	}
	return d
}

func (d *identities) set(i Identity) {
	if !i.Address.IsValid() {
		i.Address = unknownAddress()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[fold(i.ClientID)] = i
}

// trust treats a caller as a trusted service, unless it is already known.
func (d *identities) trust(clientID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.known[fold(clientID)]; !ok {
		d.known[fold(clientID)] = Identity{ClientID: clientID, Address: unknownAddress(), TrustedService: true}
	}
}

func unknownAddress() netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, 1}) }

// get returns an identity, inventing an unknown one.
func (d *identities) get(clientID string) Identity {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if i, ok := d.known[fold(clientID)]; ok {
		return i
	}
	return Identity{ClientID: clientID, Address: unknownAddress()}
}

// SetIdentity sets what the emulator assumes about a caller from now on.
func (e *Emulator) SetIdentity(i Identity) { e.identities.set(i) }

// SetFirewall replaces the vault's firewall; nil admits everyone.
func (v *Vault) SetFirewall(f *Firewall) {
	v.guard.mu.Lock()
	defer v.guard.mu.Unlock()
	v.guard.firewall = f
}

// admit returns why the firewall refuses a caller, or nil.
func (v *Vault) admit(c caller) error {
	v.guard.mu.RLock()
	f := v.guard.firewall
	v.guard.mu.RUnlock()
	if f == nil || (f.TrustedServices && c.TrustedService) {
		return nil
	}
	if slices.ContainsFunc(f.IPRules, func(p netip.Prefix) bool { return p.Contains(c.Address) }) {
		return nil
	}
	return forbidden("ForbiddenByFirewall", "Client address is not authorized and caller is not a trusted service.\r\n"+
		"Client address: %s\r\nCaller: %s\r\nVault: %s;location=%s", c.Address, c, v.name(), v.location())
}

// name is the vault's own, the first label of its host.
func (v *Vault) name() string {
	name, _, _ := strings.Cut(v.config.Host, ".")
	return name
}

package emulator

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Firewall lets callers in by their address, or as a trusted Azure service.
type Firewall struct {
	IPRules []netip.Prefix
	// TrustedServices lets identities in that are one, whatever their address.
	TrustedServices bool
}

// Identity is what the emulator is to believe of a caller. Calls come from
// loopback, so its address cannot be seen.
type Identity struct {
	ClientID string
	// Address is where calls seem to come from. Default 203.0.113.1 (RFC 5737).
	Address        netip.Addr
	TrustedService bool
}

// identities are the callers the emulator knows something of.
type identities struct {
	mu      sync.RWMutex
	known   map[string]Identity  // by lower-case client id
	revoked map[string]time.Time // tokens issued until then are void
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

// trust takes a caller for a trusted service, unless something is known of it.
func (d *identities) trust(clientID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.known[fold(clientID)]; !ok {
		d.known[fold(clientID)] = Identity{ClientID: clientID, Address: unknownAddress(), TrustedService: true}
	}
}

func unknownAddress() netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, 1}) }

// get makes up an identity that is not known.
func (d *identities) get(clientID string) Identity {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if i, ok := d.known[fold(clientID)]; ok {
		return i
	}
	return Identity{ClientID: clientID, Address: unknownAddress()}
}

// SetIdentity says what to believe of a caller from now on.
func (e *Emulator) SetIdentity(i Identity) { e.identities.set(i) }

// SetFirewall replaces the vault's firewall; nil lets everyone in.
func (v *Vault) SetFirewall(f *Firewall) {
	v.guard.mu.Lock()
	defer v.guard.mu.Unlock()
	v.guard.firewall = f
}

// admit says why the firewall keeps a caller out, or nil.
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
		"Client address: %s\r\nCaller: %s\r\nVault: %s;location=%s", c.Address, c, v.name(), region)
}

// name is the vault's own, the first label of its host.
func (v *Vault) name() string {
	name, _, _ := strings.Cut(v.config.Host, ".")
	return name
}

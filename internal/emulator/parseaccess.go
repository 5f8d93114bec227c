package emulator

import (
	"fmt"
	"net/netip"
	"strings"
)

// ParseAccessMode reads "open", "roles" or "policies".
func ParseAccessMode(s string) (AccessMode, error) {
	m, ok := map[string]AccessMode{"open": OpenAccess, "roles": RoleBased, "policies": PolicyBased}[s]
	if !ok {
		return 0, fmt.Errorf("unknown way of access %q: write open, roles or policies", s)
	}
	return m, nil
}

// ParseRoleAssignment reads CLIENT:ROLE or CLIENT:ROLE:SCOPE, with the role in
// lower case and dashes, as in "00aa…:crypto-user:/keys/k".
func ParseRoleAssignment(s string) (RoleAssignment, error) {
	client, rest, _ := strings.Cut(s, ":")
	role, scope, _ := strings.Cut(rest, ":")
	a := RoleAssignment{Identity: client, Role: Role(role), Scope: scope}
	for _, known := range []Role{Administrator, CryptoOfficer, CryptoUser, CryptoServiceEncryptionUser} {
		if strings.ReplaceAll(fold(string(known)), " ", "-") == role {
			a.Role = known
		}
	}
	if err := a.check(nil); err != nil {
		return RoleAssignment{}, fmt.Errorf("role %q: %w", s, err)
	}
	return a, nil
}

// ParseAccessPolicy reads CLIENT:PERMISSION,…, as in "00aa…:get,wrapKey,unwrapKey".
func ParseAccessPolicy(s string) (AccessPolicy, error) {
	client, permissions, ok := strings.Cut(s, ":")
	if !ok || client == "" {
		return AccessPolicy{}, fmt.Errorf("access policy %q: write CLIENT:get,wrapKey,unwrapKey", s)
	}
	p := AccessPolicy{Identity: client}
	if permissions != "" {
		p.Permissions = strings.Split(permissions, ",")
	}
	return p, nil
}

// ParseFirewall reads addresses and prefixes, and "trusted-services", with commas
// between them; "off" is no firewall.
func ParseFirewall(s string) (*Firewall, error) {
	if s == "off" {
		return nil, nil
	}
	f := &Firewall{}
	for _, part := range strings.Split(s, ",") {
		if part == "trusted-services" {
			f.TrustedServices = true
			continue
		}
		prefix, err := parsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("firewall %q: %w", s, err)
		}
		f.IPRules = append(f.IPRules, prefix)
	}
	return f, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return netip.ParsePrefix(s)
	}
	address, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return address.Prefix(address.BitLen())
}

// ParseIdentity reads CLIENT=ADDRESS or CLIENT=trusted-service.
func ParseIdentity(s string) (Identity, error) {
	client, what, ok := strings.Cut(s, "=")
	i := Identity{ClientID: client, TrustedService: what == "trusted-service"}
	if !ok || client == "" {
		return i, fmt.Errorf("identity %q: write CLIENT=ADDRESS or CLIENT=trusted-service", s)
	}
	if i.TrustedService {
		return i, nil
	}
	var err error
	if i.Address, err = netip.ParseAddr(what); err != nil {
		return i, fmt.Errorf("identity %q: %w", s, err)
	}
	return i, nil
}

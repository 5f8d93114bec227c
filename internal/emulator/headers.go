package emulator

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
)

// location is the vault's region.
func (v *Vault) location() string {
	if v.config.Location == "" {
		return "westeurope"
	}
	return v.config.Location
}

// dress adds the headers that the service sends with every answer.
func (v *Vault) dress(h http.Header, r *http.Request, requestID string, address netip.Addr) {
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Ms-Request-Id", requestID)
	h.Set("X-Ms-Keyvault-Region", v.location())
	h.Set("X-Ms-Keyvault-Network-Info", fmt.Sprintf("conn_type=Ipv4;addr=%s;act_addr_fam=InterNetwork;", address))
	if v.config.Profile == ManagedHSM {
		h.Set("Content-Type", "application/json; charset=utf-8") // without a body too
		h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
		h.Set("Content-Security-Policy", "default-src 'self'")
		h.Set("X-Frame-Options", "SAMEORIGIN")
		h.Set("X-Ms-Server-Latency", "1")
		return
	}
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "-1")
	h.Set("Strict-Transport-Security", "max-age=31536000;includeSubDomains")
	h.Set("X-Ms-Keyvault-Service-Version", "1.9.0.0")
	if id := r.Header.Get("X-Ms-Client-Request-Id"); id != "" {
		h.Set("X-Ms-Client-Request-Id", id)
	}
}

func newRequestID() (string, error) {
	b, err := randomBytes(16)
	if err != nil {
		return "", err
	}
	return guid(b), nil
}

func guid(b []byte) string {
	s := hex.EncodeToString(b)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// byRole returns the headers that name the role assignment that admitted a call.
func (v *Vault) byRole(assignment string) map[string]string {
	if assignment == "" || v.config.Profile == ManagedHSM {
		return nil
	}
	return map[string]string{
		"X-Ms-Keyvault-Rbac-Assignment-Id": assignment,
		"X-Ms-Keyvault-Rbac-Cache":         "ra_age=1;da_age=1;rd_age=1;brd_age=1;ra_notif_age=1;dec_lev=1;",
	}
}

package web

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// policy allows a page only keyd's own style, script, icon and events, and to search for keys.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// guard sets the headers of every answer. If only this machine can reach the listener,
// it refuses requests for another host name: a web page can make its own name resolve
// to 127.0.0.1 and read the answers (DNS rebinding).
func guard(next http.Handler, addr net.Addr, configured string) http.Handler {
	local := false
	if a, ok := addr.(*net.TCPAddr); ok {
		local = a.IP.IsLoopback()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if local && !localName(r.Host, configured) {
			text(w, http.StatusMisdirectedRequest, "this listener answers to localhost only")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// localName reports whether a Host header (RFC 9110 section 7.2) names this machine.
func localName(hostport, configured string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	return strings.EqualFold(host, "localhost") || host != "" && strings.EqualFold(host, configured)
}

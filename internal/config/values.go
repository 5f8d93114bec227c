package config

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

const day = 24 * time.Hour

var daysFirst = regexp.MustCompile(`^([0-9]{1,6})d(.*)$`)

// parseDuration is time.ParseDuration with whole days allowed first, such as
// 90d or 1d12h. A day is 24 hours.
func parseDuration(s string) (time.Duration, error) {
	bad := faultf("write a duration such as 30s, 15m, 24h or 90d", "%q is not a duration", s)
	var days time.Duration
	rest := s
	if m := daysFirst.FindStringSubmatch(s); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n > int(math.MaxInt64/day)-1 {
			return 0, bad
		}
		days, rest = time.Duration(n)*day, m[2]
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > math.MaxInt64-days {
		return 0, bad
	}
	return days + d, nil
}

// showDuration writes whole days as days, and drops zero units.
func showDuration(d time.Duration) string {
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func parseName(s string) (string, error) {
	if !key.ValidName(s) {
		return "", faultf("use 1 to 127 letters, digits and hyphens (0-9 a-z A-Z -)", "%q is not a valid name", s)
	}
	return s, nil
}

func parsePath(s string) (string, error) {
	if _, err := parseText(s); err != nil {
		return "", err
	}
	if !filepath.IsAbs(s) {
		return "",
			faultf("write the path from the root, such as /etc/keyd/"+filepath.Base(s), "%q is not an absolute path", s)
	}
	return filepath.Clean(s), nil
}

// parseSocket limits a path to the bytes that sun_path holds (unix(7)).
func parseSocket(s string) (string, error) {
	p, err := parsePath(s)
	if err == nil && len(p) > 107 {
		return "", faultf("use a shorter path", "a socket's path has at most 107 bytes, this one has %d", len(p))
	}
	return p, err
}

// parseSecretFile accepts an absolute path or the name of a systemd credential.
func parseSecretFile(s string) (string, error) {
	if filepath.IsAbs(s) {
		return parsePath(s)
	}
	if !isCredentialName(s) {
		return "", faultf("write an absolute path, or a systemd credential's name without slashes",
			"%q is neither a path nor a name", s)
	}
	return s, nil
}

// parseMechanism accepts a vendor-defined mechanism number (PKCS#11 v3.0,
// CKM_VENDOR_DEFINED), decimal or 0x hexadecimal.
func parseMechanism(s string) (uint, error) {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil || n < 0x80000000 {
		return 0,
			faultf("write the vendor's number for AES key wrap with padding (RFC 5649), such as 0x80000171; keyd "+
				"tries the standard ones by itself",
				"%q is not a vendor-defined mechanism", s)
	}
	return uint(n), nil
}

// showTokens is the command that lists the tokens of a PKCS#11 library.
func showTokens(module string) string {
	if module == "" {
		module = "LIBRARY"
	}
	return "pkcs11-tool --module " + module + " --list-slots"
}

// maxChars limits a text to the bytes that a CK_TOKEN_INFO field holds.
func maxChars(n int) func(string) (string, error) {
	return func(s string) (string, error) {
		if _, err := parseText(s); err != nil {
			return "", err
		}
		if len(s) > n {
			return "",
				faultf("write what the token shows (`"+showTokens("")+"`)",
					"longer than the %d bytes a token can show", n)
		}
		return s, nil
	}
}

func parseFingerprint(s string) (key.Fingerprint, error) {
	f, err := key.ParseFingerprint(s)
	if err != nil {
		return "", faultf("write sha256: and 64 hex digits, as keyd check shows it", "%q is not a fingerprint", s)
	}
	return f, nil
}

var (
	uuidForm   = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	domainForm = regexp.MustCompile(`^[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)+$`)
)

func parseUUID(s string) (string, error) {
	if !uuidForm.MatchString(s) {
		return "", faultf("write an id such as 00000000-0000-0000-0000-000000000000", "%q is not a UUID", s)
	}
	return s, nil
}

func parseTenant(s string) (string, error) {
	if !uuidForm.MatchString(s) && !domainForm.MatchString(s) {
		return "", faultf("write the tenant's UUID or its domain name", "%q is not a tenant", s)
	}
	return s, nil
}

func parseListen(s string) (string, error) {
	bad := faultf("write an address and a port, such as 127.0.0.1:9889", "%q is not an address to listen on", s)
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", bad
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", bad
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" && host != "" {
		return "", bad
	}
	return s, nil
}

// Loopback reports whether only this host can reach the listener.
func (w Web) Loopback() bool {
	host, _, err := net.SplitHostPort(w.Listen)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

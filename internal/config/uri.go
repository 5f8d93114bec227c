package config

import (
	"errors"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// URI is what keyd reads from a PKCS#11 URI (RFC 7512): the token, the library, and
// where its PIN is. Empty fields are absent.
type URI struct {
	Token, Serial, Model, Manufacturer string
	ModulePath                         string // absolute
	PINSource                          string // absolute path
}

const uriRemedy = "write a URI such as " +
	"pkcs11:token=keyd?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/keyd/pin"

// ParseURI reads a PKCS#11 URI strictly: it refuses an attribute that keyd does not
// use, and a repeated one. It decodes percent-encoding; a plus stays a plus (RFC 7512
// section 2.3). The error never shows an attribute's value, which may be a PIN.
func ParseURI(s string) (URI, error) {
	var u URI
	const scheme = "pkcs11:"
	if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
		return u, faultf(uriRemedy, "it does not begin with pkcs11:")
	}
	path, query, hasQuery := strings.Cut(s[len(scheme):], "?")
	seen := map[string]bool{}
	if path != "" {
		for _, attr := range strings.Split(path, ";") {
			if err := u.set(attr, "&", u.pathAttribute, seen); err != nil {
				return URI{}, err
			}
		}
	}
	if hasQuery {
		for _, attr := range strings.Split(query, "&") {
			if err := u.set(attr, "/?|", u.queryAttribute, seen); err != nil {
				return URI{}, err
			}
		}
	}
	return u, nil
}

// attribute says where a value goes and what form it must have.
type attribute struct {
	to    *string
	parse func(string) (string, error)
}

func (u *URI) pathAttribute(name string) (attribute, error) {
	switch name {
	case "token":
		return attribute{&u.Token, maxChars(32)}, nil
	case "serial":
		return attribute{&u.Serial, maxChars(16)}, nil
	case "model":
		return attribute{&u.Model, maxChars(16)}, nil
	case "manufacturer":
		return attribute{&u.Manufacturer, maxChars(32)}, nil
	case "module-path", "pin-source", "pin-value":
		return attribute{},
			faultf("put "+name+" after a question mark; the first query attribute begins with ?, the next with &",
				"%s is not a path attribute", name)
	case "object", "type", "id":
		return attribute{},
			faultf("remove it: keyd finds its keys by itself", "%s names an object, and keyd expects a token", name)
	}
	return attribute{}, unknownAttribute(name, "token", "serial", "model", "manufacturer")
}

func (u *URI) queryAttribute(name string) (attribute, error) {
	switch name {
	case "module-path":
		return attribute{&u.ModulePath, parsePath}, nil
	case "pin-source":
		return attribute{&u.PINSource, parsePINSource}, nil
	case "pin-value":
		return attribute{},
			faultf("write the PIN into a file that only the HSM side can read, name it by pin-source=file:/…, and "+
				"change the PIN if others could read this file",
				"pin-value puts the PIN into the configuration")
	case "module-name":
		return attribute{}, faultf("write module-path=/usr/lib/…", "module-name is not read")
	}
	return attribute{}, unknownAttribute(name, "module-path", "pin-source")
}

func unknownAttribute(name string, known ...string) error {
	if strings.HasPrefix(name, "x-") {
		return faultf("remove it", "vendor attribute %q is not read", name)
	}
	return fault{"attribute " + quoteShort(name) + " is not read", suggest(name, known)}
}

// set parses one "name=value". extra are the further characters that the component
// allows unencoded.
func (u *URI) set(attr, extra string, find func(string) (attribute, error), seen map[string]bool) error {
	name, raw, ok := strings.Cut(attr, "=")
	if !ok || name == "" {
		return faultf(uriRemedy, "an attribute is not of the form name=value")
	}
	a, err := find(name)
	if err != nil {
		return err
	}
	if seen[name] {
		return faultf("keep one of them", "%s appears twice", name)
	}
	seen[name] = true
	value, err := decodeAttribute(name, raw, extra)
	if err != nil {
		return err
	}
	if *a.to, err = a.parse(value); err != nil {
		var f fault
		if !errors.As(err, &f) {
			return err
		}
		return fault{name + ": " + f.message, f.remedy}
	}
	return nil
}

// decodeAttribute allows RFC 7512's pk11-res-avail characters, extra, and
// percent-encoded bytes that make UTF-8.
func decodeAttribute(name, raw, extra string) (string, error) {
	const unencoded = "-._~:[]@!$'()*+,="
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case isAlphanumeric(c) || strings.IndexByte(unencoded, c) >= 0 || strings.IndexByte(extra, c) >= 0:
			b.WriteByte(c)
		case c == '%' && i+2 < len(raw) && isHex(raw[i+1]) && isHex(raw[i+2]):
			b.WriteByte(unhex(raw[i+1])<<4 | unhex(raw[i+2]))
			i += 2
		case c == '%':
			return "", faultf("write %25 for a percent sign", "%s: a %% without two hex digits", name)
		default:
			return "", faultf("percent-encode it, such as %20 for a space", "%s: character %q must be encoded",
				name, rune(c))
		}
	}
	value := b.String()
	switch {
	case value == "":
		return "", faultf("write a value, or remove it", "%s is empty", name)
	case !utf8.ValidString(value) || !isPrintable(value):
		return "", faultf("encode text in UTF-8, on one line", "%s is not text", name)
	}
	return value, nil
}

// parsePINSource accepts an absolute path, or a file: URI of one (RFC 8089) with
// nothing encoded in it.
func parsePINSource(s string) (string, error) {
	const remedy = "write pin-source=file:/etc/keyd/pin, or use hsm.pin_file for a systemd credential"
	path := s
	if rest, isFile := strings.CutPrefix(s, "file:"); isFile {
		path = rest
		if local, found := strings.CutPrefix(rest, "//"); found {
			path = local
		}
		if strings.Contains(path, "%") {
			return "", faultf("write the path without file:", "a file: URI with encoded characters")
		}
	}
	switch {
	case strings.HasPrefix(s, "|"):
		return "", faultf(remedy, "a command is never run")
	case !filepath.IsAbs(path):
		return "", faultf(remedy, "neither an absolute path nor a file: URI of one")
	}
	return filepath.Clean(path), nil
}

func quoteShort(s string) string {
	const most = 40
	if len(s) > most || !utf8.ValidString(s) {
		return "of that name"
	}
	return `"` + s + `"`
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

package hsm

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
)

// Config configures the HSM side.
type Config struct {
	Module string // absolute path of the PKCS#11 library
	// The token must match every one of these that is not empty (CK_TOKEN_INFO, PKCS#11 v3.0 section 3.3). At least
	// one must be set.
	Token, Serial, Model, Manufacturer string
	PINFile                            string // absolute path, or the name of a systemd credential
	// CredentialsDir is $CREDENTIALS_DIRECTORY; "" without one.
	CredentialsDir  string
	Sessions        int           // calls at a time; 0: 4
	CallTimeout     time.Duration // of one call; 0: 20 s
	GenerateTimeout time.Duration // of one generation; 0: 120 s
	// Mechanism is a vendor's number for AES-KWP (RFC 5649). keyd tries it after the standard mechanisms. 0: none.
	Mechanism uint
	Instance  string // the instance in the labels of our objects
	// Host is this host's name where the HSM sides of several hosts share the token; otherwise "".
	Host     string
	StateDir string // for files that outlive the process; keyd makes it with mode 0700
}

const (
	defaultSessions        = 4
	maxSessions            = 64
	defaultCallTimeout     = 20 * time.Second
	defaultGenerateTimeout = 120 * time.Second
)

// trier is who makes a throw-away pair: each host of an instance has its own, so that none destroys another's while it
// is being tried.
func (c Config) trier() string {
	if c.Host == "" {
		return c.Instance
	}
	return c.Instance + "/" + c.Host
}

// matches reports whether a token is the configured one.
func (c Config) matches(info pkcs11.TokenInfo) bool {
	for _, pair := range [][2]string{
		{c.Token, info.Label}, {c.Serial, info.SerialNumber}, {c.Model, info.Model},
		{c.Manufacturer, info.ManufacturerID},
	} {
		if pair[0] != "" && pair[0] != trim(pair[1]) {
			return false
		}
	}
	return true
}

// wanted describes the configured token.
func (c Config) wanted() string {
	var parts []string
	for _, p := range [][2]string{
		{"label", c.Token}, {"serial", c.Serial}, {"model", c.Model}, {"manufacturer", c.Manufacturer},
	} {
		if p[1] != "" {
			parts = append(parts, fmt.Sprintf("%s %q", p[0], p[1]))
		}
	}
	return "token with " + strings.Join(parts, ", ")
}

func (c Config) withDefaults() (Config, error) {
	if c.Sessions == 0 {
		c.Sessions = defaultSessions
	}
	if c.CallTimeout == 0 {
		c.CallTimeout = defaultCallTimeout
	}
	if c.GenerateTimeout == 0 {
		c.GenerateTimeout = defaultGenerateTimeout
	}
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(filepath.IsAbs(c.Module), "hsm.module %q must be an absolute path", c.Module)
	need(c.Token != "" || c.Serial != "" || c.Model != "" || c.Manufacturer != "", "hsm.token must name a token")
	need(c.PINFile != "", "hsm.pin_file must name a file or a credential")
	need(c.Sessions > 0 && c.Sessions <= maxSessions, "hsm.sessions must be 1 to %d", maxSessions)
	need(c.CallTimeout > 0 && c.GenerateTimeout > 0, "the HSM's timeouts must be positive")
	need(key.ValidName(c.Instance), "instance %q is not a name", c.Instance)
	need(filepath.IsAbs(c.StateDir), "the HSM side's state directory %q must be an absolute path", c.StateDir)
	return c, errors.Join(errs...)
}

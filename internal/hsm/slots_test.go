package hsm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/ownership"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
	"github.com/keyd-project/keyd/softhsm-test/rights"
)

// stranger is a user who owns nothing.
const stranger = 65534

// ended returns the reason that an HSM process gives when it cannot start.
func ended(t *testing.T, r *rig) string {
	t.Helper()
	var why error
	eventually(t, "the HSM process has said why it ended", func() bool {
		_, _, why = r.sup.Up()
		return why != nil && r.sup.PID() == 0 && why.Error() != "not started yet"
	})
	return why.Error()
}

// asStranger returns the command that starts the HSM process as another user, who may reach the test's files.
func asStranger(t *testing.T, tok *softhsmtest.Token, c *child) []string {
	t.Helper()
	rights.ToBecomeAnotherUser(t)
	self, err := os.ReadFile(argv(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "hsm.test")
	c.Config.StateDir = filepath.Join(dir, "state")
	err = errors.Join(
		os.WriteFile(
			program, self, 0o755,
		),
		os.Mkdir(c.Config.StateDir, 0o700),
		os.Chown(c.Config.StateDir, stranger, stranger),
		os.Chown(tok.PINFile, stranger, stranger),
	)
	for _, path := range []string{dir, filepath.Dir(tok.Conf)} {
		for ; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
			err = errors.Join(err, os.Chmod(path, 0o755)) //nolint:gosec // the stranger has to go through
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprint(stranger)
	return []string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups", program}
}

func TestTheErrorDistinguishesAMissingTokenFromAHiddenOne(t *testing.T) {
	tokens := func(tok *softhsmtest.Token) string { return filepath.Join(filepath.Dir(tok.Conf), "tokens") }
	name := ownership.UserName(stranger)
	for trouble, c := range map[string]struct {
		do       func(tok *softhsmtest.Token, c *child) error
		stranger bool
		want     []string
		not      string
	}{
		"another label": {
			do:   func(_ *softhsmtest.Token, c *child) error { c.Config.Token = "absent"; return nil },
			want: []string{`no token with label "absent"`, `it shows "keyd-`, "hsm.token", "hsm.serial"},
			not:  "initialise one",
		},
		"no token is initialised": {
			do: func(tok *softhsmtest.Token, _ *child) error {
				return errors.Join(os.RemoveAll(tokens(tok)), os.Mkdir(tokens(tok), 0o700))
			},
			want: []string{
				"no token is initialised", "not initialised",
				"sudo -u root softhsm2-util --init-token --free --label \"keyd-",
			},
		},
		"no token directory": {
			do:   func(tok *softhsmtest.Token, _ *child) error { return os.RemoveAll(tokens(tok)) },
			want: []string{"CKR_GENERAL_ERROR", "token directory", "no such file"},
		},
		"no configuration of SoftHSM": {
			do:   func(tok *softhsmtest.Token, _ *child) error { return os.Remove(tok.Conf) },
			want: []string{"CKR_GENERAL_ERROR", "SoftHSM's configuration", "softhsm2.conf", "no such file"},
		},
		"another user's token": {
			do: func(tok *softhsmtest.Token, _ *child) error {
				//nolint:gosec // as in Debian
				return errors.Join(os.Chmod(tok.Conf, 0o644), os.Chmod(tokens(tok), 0o755))
			},
			stranger: true,
			want: []string{
				"hidden from this user", "user " + name + " cannot read", "belongs to root with mode 0700",
				"sudo chown -R " + name + " \"",
			},
			not: "initialise one",
		},
		"another user's token directory": {
			do: func(tok *softhsmtest.Token, _ *child) error {
				return os.Chmod(tok.Conf, 0o644) //nolint:gosec // as in Debian
			},
			stranger: true,
			want: []string{
				"CKR_GENERAL_ERROR", "token directory", "belongs to root with mode 0700",
				"sudo chown -R " + name + " \"",
			},
		},
		"another user's configuration of SoftHSM": {
			do:       func(tok *softhsmtest.Token, _ *child) error { return os.Chmod(tok.Conf, 0) },
			stranger: true,
			want: []string{
				"CKR_GENERAL_ERROR", "SoftHSM's configuration", "belongs to root with mode 0000",
				"sudo chown -R " + name + " \"",
			},
		},
	} {
		t.Run(trouble, func(t *testing.T) {
			t.Parallel()
			tok := softhsmtest.New(t)
			if tok.Conf == "" {
				t.Skip("the token of KEYD_TEST_MODULE is not taken away")
			}
			child := newChild(t, tok)
			if err := c.do(tok, &child); err != nil {
				t.Fatal(err)
			}
			program := argv(t)
			if c.stranger {
				program = asStranger(t, tok, &child)
			}
			got := ended(t, startBy(t, program, tok, child))
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in: %s", want, got)
				}
			}
			if c.not != "" && strings.Contains(got, c.not) {
				t.Errorf("%q is in: %s", c.not, got)
			}
		})
	}
}

// The token has a label and an SO PIN, but no user PIN. It rejects no PIN, so keyd tries again by itself. When
// another process sets the user PIN, SoftHSM notices it only in a new process.
func TestKeydRetriesATokenWithoutAUserPIN(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	if tok.Conf == "" {
		t.Skip("the token of KEYD_TEST_MODULE is not initialised anew")
	}
	if out, err := tok.Tool(
		"--init-token", "--slot-index", "0", "--label", tok.Label, "--so-pin", tok.SOPIN(),
	); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := start(t, tok, newChild(t, tok))
	got := ended(t, r)
	for _, want := range []string{"its user PIN was never set", "CKR_USER_PIN_NOT_INITIALIZED", "--init-pin"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
	if out, err := tok.Tool(
		"--login", "--login-type", "so", "--so-pin", tok.SOPIN(), "--init-pin", "--new-pin", tok.PIN,
	); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, "keyd has logged in", func() bool {
		info, err := r.Describe(t.Context())
		return err == nil && info.PIN == key.PINAccepted
	})
}

// Some modules do not set the flag of an initialised token, and some show no label.
func TestTheErrorDescribesEachSlot(t *testing.T) {
	cfg := Config{Module: "/opt/vendor.so", Token: "keyd"}
	named := func(label string, flags uint) slotSeen {
		return slotSeen{info: pkcs11.TokenInfo{Label: label, SerialNumber: "1", Flags: flags}}
	}
	for name, c := range map[string]struct {
		seen []slotSeen
		want string
	}{
		"nothing":             {nil, "it shows no token at all; see with the vendor's tool"},
		"a label and no flag": {[]slotSeen{named("other", 0)}, `it shows "other" (serial 1); write the right one`},
		"a flag and no label": {
			[]slotSeen{named("", pkcs11.CKF_TOKEN_INITIALIZED)}, `it shows "" (serial 1); write the right one`,
		},
		"one of another vendor": {
			[]slotSeen{named("    ", 0)},
			"it shows slot 0: not initialised; no token is initialised: initialise one as user " + self() +
				", by the vendor's tool",
		},
		"a slot that fails": {
			[]slotSeen{{slot: 3, err: pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)}},
			"slot 3: pkcs11: 0x30: CKR_DEVICE_ERROR; ask the vendor's tool",
		},
	} {
		if got := notShown(cfg, c.seen).Error(); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q lacks %q", name, got, c.want)
		}
	}
}

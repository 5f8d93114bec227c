package hsm

import (
	"fmt"
	"os"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/ownership"
)

// slotSeen is one slot as the module shows it.
type slotSeen struct {
	slot uint
	info pkcs11.TokenInfo
	err  error
}

// initialised reports whether the token is initialised. Cryptoki has a flag for it; some modules do not set the flag,
// but show the label.
func (s slotSeen) initialised() bool {
	return s.err == nil && (s.info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 || trim(s.info.Label) != "")
}

func (s slotSeen) String() string {
	switch {
	case s.err != nil:
		return fmt.Sprintf("slot %d: %v", s.slot, s.err)
	case !s.initialised():
		return fmt.Sprintf("slot %d: not initialised", s.slot)
	}
	return fmt.Sprintf("%q (serial %s)", trim(s.info.Label), trim(s.info.SerialNumber))
}

// notShown says why no slot has the configured token, and what to do.
func notShown(cfg Config, seen []slotSeen) error {
	initialised, bare, failed, soft := 0, 0, 0, isSoftHSM(cfg.Module)
	for _, s := range seen {
		soft = soft || trim(s.info.ManufacturerID) == "SoftHSM project"
		switch {
		case s.err != nil:
			failed++
		case s.initialised():
			initialised++
		default:
			bare++
		}
	}
	hidden := ""
	if soft {
		hidden = hiddenTokens()
	}
	shown := fmt.Sprintf("%s shows no %s: it shows %s", cfg.Module, cfg.wanted(), listText(seen))
	switch {
	case hidden != "":
		return fmt.Errorf("%s; the token may be among those that %s", shown, hidden)
	case initialised > 0:
		return fmt.Errorf("%s; write the right one into the configuration (hsm.token, hsm.serial)", shown)
	case failed > 0:
		return fmt.Errorf("%s; ask the vendor's tool, as user %s, what is wrong with it", shown, self())
	case bare > 0:
		return fmt.Errorf(
			"%s; no token is initialised: initialise one as user %s, by %s", shown, self(),
			initialiseCommand(cfg, soft),
		)
	}
	return fmt.Errorf(
		"%s; see with the vendor's tool, as user %s, that the HSM is connected and that this user may use it",
		shown, self(),
	)
}

func initialiseCommand(cfg Config, soft bool) string {
	if !soft {
		return "the vendor's tool"
	}
	label := cfg.Token
	if label == "" {
		label = "keyd"
	}
	return fmt.Sprintf(
		"this command, which asks for the PINs: sudo -u %s softhsm2-util --init-token --free --label %q", self(),
		label,
	)
}

func listText(seen []slotSeen) string {
	if len(seen) == 0 {
		return "no token at all"
	}
	var items []string
	for _, s := range seen {
		items = append(items, s.String())
	}
	return strings.Join(items, ", ")
}

// self returns the user of this process.
func self() string { return ownership.UserName(uint32(os.Getuid())) }

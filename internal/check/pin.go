package check

import (
	"cmp"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// ableToWork is the name of the line that says whether the HSM side can work.
const ableToWork = "able to work"

// pin says how the token's user PIN stands. Where the HSM side cannot work, the line of that has the PIN's remedy.
func (c *checker) pin(info key.HSMInfo) {
	const pin = "PIN"
	result, detail, remedy := pinLine(info, c.HSMUnit)
	if result != status.CheckOK && info.Degraded != "" {
		c.skip("hsm", info.Token, pin, detail+": see the line \""+ableToWork+"\"")
		return
	}
	c.line(result, "hsm", info.Token, pin, detail, remedy)
}

// pinLine is what a check says of the PIN; unit is the HSM side's.
func pinLine(info key.HSMInfo, unit string) (r status.CheckResult, detail, remedy string) {
	const others = ": somebody else tries wrong PINs; keyd tries each one once"
	state := string(cmp.Or(info.PIN, key.PINUnknown))
	switch key.PINState(state) {
	case key.PINAccepted:
		return status.CheckOK, state, ""
	case key.PINFinalTry:
		return status.CheckWarning, state + others,
			"find out who, before the token locks; see the runbook, #keydpinnearlylocked"
	case key.PINCountLow:
		return status.CheckWarning, state + others,
			"find out who, before the token locks; see the runbook, #keydpintrieslow"
	case key.PINLocked:
		return status.CheckFailed, state, "do not restart " + unit + "; see the runbook, #keydpinnearlylocked"
	case key.PINToChange:
		return status.CheckWarning, state + ": the token demands a new PIN",
			"change it with the vendor's tool, then write it into hsm.pin_file"
	case key.PINRefused:
		return status.CheckFailed, state, "do not try PINs by hand; see the runbook, #keydpinrefused"
	default:
		return status.CheckFailed, state + ": keyd has not tried it, or the token gave no clear answer",
			"see the runbook, #keydhsmdown"
	}
}

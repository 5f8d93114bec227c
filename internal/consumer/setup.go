package consumer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/vault"
)

// Outcome is how one question about a set-up is answered.
type Outcome int

// The outcomes.
const (
	Right     Outcome = iota // it is as it must be
	Wrong                    // it is not, and somebody must change it
	Undecided                // what Azure shows does not decide it
	Unseen                   // keyd may not look there, or got no answer
)

// Finding is the answer to one question about how a consumer, or a vault that has consumers, is set up.
type Finding struct {
	Question string
	Outcome  Outcome
	Detail   string
	Remedy   string // a command where there is one
	Cause    error  // of Unseen: why
}

// The questions.
const (
	AskedSetting    = "set to the key"
	AskedIdentity   = "identity"
	AskedRights     = "rights on the key"
	AskedPlace      = "tenant and region"
	AskedNetwork    = "way into the vault"
	AskedVault      = "vault in Azure"
	AskedKind       = "kind of vault"
	AskedProtection = "soft delete and purge protection"
)

func right(question, format string, args ...any) Finding {
	return Finding{Question: question, Detail: fmt.Sprintf(format, args...)}
}

func wrong(question, remedy, format string, args ...any) Finding {
	return Finding{Question: question, Outcome: Wrong, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
}

func undecided(question, remedy, format string, args ...any) Finding {
	return Finding{Question: question, Outcome: Undecided, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
}

// unseen says what is not known, and why.
func unseen(question, what string, err error) Finding {
	return Finding{Question: question, Outcome: Unseen, Detail: what + ": " + withoutHint(err), Remedy: hintOf(err),
		Cause: err}
}

// withoutHint is an error's text without what is to be done.
func withoutHint(err error) string {
	if hint := hintOf(err); hint != "" {
		return strings.Replace(err.Error(), "; "+hint, "", 1)
	}
	return err.Error()
}

// hintOf is what an error says is to be done.
func hintOf(err error) string {
	if e := new(Error); errors.As(err, &e) {
		return e.Hint
	}
	if e := new(vault.Error); errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

package trouble

import (
	"strings"

	"github.com/keyd-project/keyd/internal/vault"
	"github.com/keyd-project/keyd/internal/words"
)

// signIn finds that Azure gives keyd no token, unless the credential's file is why.
func (f *finder) signIn() {
	lacking := f.Credential.NoTokens
	if len(lacking) == 0 || f.causes.signIn != nil {
		return
	}
	longest := lacking[0]
	names := make([]string, len(lacking))
	for i, n := range lacking {
		names[i] = n.Audience
	}
	f.causes.signIn = f.add(SignInFailing, about{remedy: vault.Advice(longest.Err)},
		"keyd has not been able to sign in to Azure for "+strings.Join(names, ", ")+" since "+
			words.Moment(longest.Since)+": "+words.OneLine(longest.Err.Error()))
}

// noToken is the problem of a vault for which keyd had no token. The vault may have been asked before a sign-in worked
// again.
func (f *finder) noToken() *problem {
	if f.causes.signIn == nil {
		f.causes.signIn = f.add(SignInFailing, about{}, "Azure gave keyd no token when keyd last looked at its vaults")
	}
	return f.causes.signIn
}

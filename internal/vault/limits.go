package vault

import (
	"context"

	"golang.org/x/time/rate"

	"github.com/keyd-project/keyd/internal/key"
)

// limits keeps keyd below half of what a vault allows. So keyd never causes the vault to throttle the services that
// encrypt under its keys.
type limits struct {
	all     *rate.Limiter
	creates *rate.Limiter
}

// newLimits follows the published service limits (learn.microsoft.com,
// "Azure Key Vault service limits", and "Managed HSM technical details").
// A vault: 250 operations on RSA-4096 HSM keys and 10 new ones per 10 seconds,
// whichever operation. A Managed HSM: about 160 unwraps a second, the slowest
// operation, and 1 new key a second.
func newLimits(kind key.VaultKind) limits {
	if kind == key.ManagedHSM {
		return limits{all: rate.NewLimiter(80, 80), creates: rate.NewLimiter(0.5, 5)}
	}
	return limits{all: rate.NewLimiter(12.5, 100), creates: rate.NewLimiter(0.5, 5)}
}

// wait returns as soon as keyd may send a request. If ctx would end before that, it returns an error at once.
func (l limits) wait(ctx context.Context, creates bool) error {
	if creates {
		if err := l.creates.Wait(ctx); err != nil {
			return err
		}
	}
	return l.all.Wait(ctx)
}

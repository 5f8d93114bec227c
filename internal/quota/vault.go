package quota

import "github.com/keyd-project/keyd/internal/key"

// DefaultShare leaves half of what Azure allows to the services that encrypt under the keys.
const DefaultShare = 0.5

// Vault is a vault, and how much of what it allows keyd may use.
type Vault struct {
	key.Vault
	Share float64 // of each bucket, in (0, 1)
	// Subscription names the Azure subscription. Vaults that name none count as of one subscription.
	Subscription string
}

// PerSecond is how much keyd may take from each of the vault's buckets in a second.
func (v Vault) PerSecond() float64 { return v.Share * perSecond(v.Kind) }

// SubscriptionPerSecond is how much keyd may take in a second from each bucket that the Key Vaults of a subscription
// have in common.
func SubscriptionPerSecond(share float64) float64 {
	return share * SubscriptionVaults * perSecond(key.KeyVault)
}

func perSecond(kind key.VaultKind) float64 { return Whole / Period(kind).Seconds() }

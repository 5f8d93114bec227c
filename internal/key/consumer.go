package key

// Consumer is an Azure resource that encrypts under a key, as the configuration names it.
type Consumer struct {
	ID     string // its Azure resource id, as written: /subscriptions/…; Azure compares ids without case
	Vault  string // URL of the vault whose key it is set to; "": any of the key's vaults
	Follow Follow
}

// Follow says who moves a consumer to a new version.
type Follow string

// The ways to follow.
const (
	FollowService Follow = "service" // the service does it by itself, or a person does: the default
	FollowKeyd    Follow = "keyd"    // keyd repoints the consumer after each rotation
)

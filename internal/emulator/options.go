package emulator

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/keyd-project/keyd/internal/emulator/arm"
)

// Profile says which Azure service a vault is.
type Profile int

const (
	// KeyVaultPremium has software and HSM keys; audience vault.azure.net.
	KeyVaultPremium Profile = iota
	// KeyVaultStandard has software keys only.
	KeyVaultStandard
	// ManagedHSM has HSM keys only; audience managedhsm.azure.net.
	ManagedHSM
)

// String returns the profile's name as the command line spells it.
func (p Profile) String() string {
	return [...]string{"premium", "standard", "managedhsm"}[p]
}

// ParseProfile reads "premium", "standard" or "managedhsm".
func ParseProfile(s string) (Profile, error) {
	for _, p := range []Profile{KeyVaultPremium, KeyVaultStandard, ManagedHSM} {
		if p.String() == s {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown profile %q: write premium, standard or managedhsm", s)
}

// VaultConfig names one vault to stand in for.
type VaultConfig struct {
	// Host is the DNS name without a port, as in "contoso-weu.vault.azure.net". The token audience is the part after
	// its first label.
	Host            string
	Profile         Profile
	PurgeProtection bool
	// RecoverableDays is how long deleted keys stay, 7 to 90 days. Default 90.
	RecoverableDays int
	// Access says who may do what. These roles take effect at once; those assigned later, by Vault.Assign, after
	// Options.RoleDelay.
	Access AccessMode
	Roles  []RoleAssignment
	// RoleDefinitions are custom roles, which Roles and Assign may name.
	RoleDefinitions []RoleDefinition
	Policies        []AccessPolicy
	Firewall        *Firewall // nil: open to every address
	// Subscription is shared with the vaults that give the same; they also share its limits. One that is a GUID is in
	// the vault's resource id.
	Subscription string
	Location     string // region; "": westeurope
}

const minRecoverableDays, maxRecoverableDays = 7, 90

// DefaultTenantID is the tenant of tokens and challenges when Options has none.
const DefaultTenantID = "7d8f1c7e-5d0c-4c5a-9b60-3f1e0a6c2b11"

// Options configure an Emulator. The zero value of each field is usable.
type Options struct {
	Vaults []VaultConfig
	// Now is the service's clock: created times, token expiry, the Date header.
	// nil: time.Now.
	Now func() time.Time
	// StrictDER refuses PKCS#8 followed by zero padding inside the KWP message
	// (SoftHSM 2.6.1 pads).
	StrictDER bool
	TenantID  string
	Logger    *slog.Logger // nil: discard
	// ReplicationDelay is how long a Managed HSM's reads lag behind its writes.
	ReplicationDelay time.Duration
	// DeletionDelay is how long a vault answers 409 ObjectIsBeingDeleted after a
	// key was deleted; a Managed HSM deletes at once.
	DeletionDelay time.Duration
	// HSMWithoutDate leaves the Date header out of a Managed HSM's answers: recordings
	// of 2022 have none, RFC 9110 section 6.6.1 wants one.
	HSMWithoutDate bool
	// KeyList is how the vaults' lists of keys are.
	KeyList KeyList
	// TokenLifetime is how long a token is valid by Now. Default 24 hours. SDKs
	// cache by the wall clock: a test that moves Now further needs more.
	TokenLifetime time.Duration
	// RoleDelay is how long a role assignment takes to come into effect, or to end.
	RoleDelay time.Duration
	// Identities are callers about whom more is known than their client id.
	Identities []Identity
	// Certificates are those of applications. A client that has one must sign its assertion with it; for other
	// clients the emulator cannot know the certificate.
	Certificates []ClientCertificate
	// IdentityListen is a loopback address for the identity endpoints of App Service and Azure Arc, and ArcKeyDir the
	// folder of Arc's key files, which the SDKs expect in /var/opt/azcmagent/tokens. Without them there are no such
	// endpoints.
	IdentityListen string
	ArcKeyDir      string
	// ProxyListen and AdminListen are loopback addresses, host:port. ProxyListen defaults to 127.0.0.1:0; without
	// AdminListen there is no admin endpoint.
	ProxyListen string
	AdminListen string
	// AttestationFirmware is the style in which Managed HSMs sign attestations.
	AttestationFirmware Firmware
	// ServiceLimits refuses, with 429, more calls than the services' published
	// limits allow.
	ServiceLimits bool
	// StateFile stores the vaults between runs, with unencrypted private keys. It is created if it is missing. "":
	// memory only.
	StateFile string
	// AuthorityFile keeps the certificate authority from run to run, with its unencrypted private key. It is created
	// if it is missing, and again a month before it expires. "": another authority at each start.
	AuthorityFile string
	// Consumers are made at the start, when their keys may not exist yet.
	Consumers []arm.Spec
	// ConsumerSpeed is how many times faster than in Azure consumers look for new versions; 0 means 1. With
	// ConsumersByHand they look only when somebody calls Consumers().Poll.
	ConsumerSpeed   float64
	ConsumersByHand bool
	// ResourcePage is how many resources a page of Resource Manager's lists has. Default 100.
	ResourcePage int
	// ResourceRoles makes Resource Manager, Resource Graph and Log Analytics ask for roles. Otherwise every caller may
	// do everything there.
	ResourceRoles bool
	// AzureRoles are assigned outside the vaults, at the start.
	AzureRoles []arm.RoleAssignment
	// LogDelay is how long, at most, a vault's audit log takes to reach Log Analytics by Now. Default 10 minutes;
	// negative: nothing.
	LogDelay time.Duration
	// Seed seeds the rules' random numbers.
	Seed uint64
}

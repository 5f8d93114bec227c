package consumer

import (
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/service"
)

// vaultProperties are those of a Key Vault or a Managed HSM, as Resource Manager shows them.
type vaultProperties struct {
	TenantID  *string `json:"tenantId"`
	VaultURI  *string `json:"vaultUri"`
	HSMURI    *string `json:"hsmUri"`
	SKU       sku     `json:"sku"`
	Retention *int    `json:"softDeleteRetentionInDays"`
	// Every vault has soft delete, except old ones that were never changed since.
	SoftDelete      *bool          `json:"enableSoftDelete"`
	PurgeProtection *bool          `json:"enablePurgeProtection"` // absent: off
	Roles           *bool          `json:"enableRbacAuthorization"`
	Policies        []accessPolicy `json:"accessPolicies"`
	PublicAccess    *string        `json:"publicNetworkAccess"` // absent: Enabled
	Rules           *networkRules  `json:"networkAcls"`         // absent: everybody may
	Endpoints       []struct{}     `json:"privateEndpointConnections"`
}

type sku struct {
	Name *string `json:"name"`
}

type networkRules struct {
	Bypass   *string    `json:"bypass"`
	Default  *string    `json:"defaultAction"`
	Ranges   []struct{} `json:"ipRules"`
	Networks []struct{} `json:"virtualNetworkRules"`
}

type accessPolicy struct {
	ObjectID      *string `json:"objectId"`
	ApplicationID *string `json:"applicationId"` // with one, the policy is for that application on a user's behalf
	Permissions   struct {
		Keys []string `json:"keys"`
	} `json:"permissions"`
}

// uri is the URL of the vault, as key.Vault has it.
func (p vaultProperties) uri() string {
	uri := orEmpty(p.VaultURI)
	if uri == "" {
		uri = orEmpty(p.HSMURI)
	}
	return strings.ToLower(strings.TrimSuffix(uri, "/"))
}

// azName is the option of az that names the vault, and whether az has it as a Managed HSM.
func azName(v key.Vault) (command, option string) {
	if v.Kind == key.ManagedHSM {
		return "update-hsm", v.AzScope()
	}
	return "update", strings.Replace(v.AzScope(), "--vault-name", "--name", 1)
}

func azUpdate(v key.Vault, change string) string {
	command, option := azName(v)
	return "az keyvault " + command + " " + option + " " + change
}

// judgeKind says whether a vault can hold keys in an HSM.
func judgeKind(v key.Vault, p vaultProperties) Finding {
	name := strings.ToLower(orEmpty(p.SKU.Name))
	switch {
	case v.Kind == key.ManagedHSM:
		return right(AskedKind, "a Managed HSM: it holds keys in an HSM")
	case name == "premium":
		return right(AskedKind, "Premium: it holds keys in an HSM")
	case name == "standard":
		return wrong(AskedKind, azUpdate(v, "--set properties.sku.name=premium"),
			"Standard: it holds no keys in an HSM, and takes none from yours")
	}
	return undecided(AskedKind, "look it up: az keyvault show "+azShow(v),
		"Azure shows the kind %q, which keyd does not know", name)
}

func azShow(v key.Vault) string {
	_, option := azName(v)
	return option
}

// judgeProtection says whether keys of a vault can be destroyed. Services refuse a vault without both protections.
func judgeProtection(v key.Vault, p vaultProperties) Finding {
	switch on := func(b *bool) bool { return b != nil && *b }; {
	case p.SoftDelete != nil && !*p.SoftDelete:
		return wrong(AskedProtection, azUpdate(v, "--set properties.enableSoftDelete=true"),
			"soft delete is off: services refuse its keys")
	case !on(p.PurgeProtection):
		return wrong(AskedProtection, plan.ProtectCommand(v), "purge protection is off: services refuse its keys, and "+
			"whoever may purge can destroy every version at once")
	case p.SoftDelete == nil && v.Kind != key.ManagedHSM:
		return undecided(AskedProtection, azUpdate(v, "--set properties.enableSoftDelete=true"),
			"purge protection is on; Azure does not show whether soft delete is")
	case p.Retention != nil:
		return right(AskedProtection, "on: a deleted key can be recovered for %d days", *p.Retention)
	}
	return right(AskedProtection, "on")
}

// judgeNetwork says whether a vault lets a service in.
func judgeNetwork(v key.Vault, p vaultProperties, s service.Service) Finding {
	public := strings.ToLower(orEmpty(p.PublicAccess))
	closed := public == "disabled"
	trusts, denies, ruled := true, false, len(p.Endpoints) > 0
	if r := p.Rules; r != nil {
		trusts = r.Bypass == nil || strings.EqualFold(*r.Bypass, "AzureServices")
		denies = !strings.EqualFold(orEmpty(r.Default), "Allow")
		ruled = ruled || len(r.Ranges)+len(r.Networks) > 0
	}
	bypass := azUpdate(v, "--bypass AzureServices")
	const (
		try   = "try it with a resource that holds nothing yet"
		rules = "whether one of the vault's rules or private endpoints lets it in is not shown"
	)
	switch {
	case public != "" && public != "enabled" && !closed:
		return undecided(AskedNetwork, "look at the rules of the network security perimeter",
			"a network security perimeter guards the vault (%s), and keyd does not see its rules", *p.PublicAccess)
	case !closed && !denies:
		return right(AskedNetwork, "the vault lets everybody in who has a right")
	case trusts && s.Trusted():
		return right(AskedNetwork, "the vault lets trusted services in, and this is one")
	case s.Trusted() && !ruled:
		return wrong(AskedNetwork, bypass, "the vault lets nobody in, not even trusted services")
	case s.Trusted():
		return undecided(AskedNetwork, bypass, "the vault does not let trusted services in; "+rules)
	case ruled:
		return undecided(AskedNetwork, try, "it is not on Microsoft's list of trusted services; "+rules)
	case v.Kind == key.KeyVault:
		return undecided(AskedNetwork, try+", or let a network of the service in: az keyvault network-rule add "+
			azShow(v)+" --ip-address RANGE", notTrusted)
	}
	return undecided(AskedNetwork, try, notTrusted)
}

const notTrusted = "the vault lets in trusted services at most, and this is not on Microsoft's list of them"

// place is where something is.
type place struct{ region, tenant string }

// judgePlace says whether a vault is where a service takes keys from. at is where the resource is, and the tenant of
// its identity.
func judgePlace(s service.Service, at, vault place) Finding {
	same := func(a, b string) bool {
		return strings.EqualFold(strings.ReplaceAll(a, " ", ""), strings.ReplaceAll(b, " ", ""))
	}
	switch {
	case at.tenant == "" || vault.tenant == "":
		return undecided(AskedPlace, "compare the tenants of the resource and of the vault in Azure's portal",
			"Azure does not show the tenant of both its identity and the vault")
	case !same(at.tenant, vault.tenant):
		return wrong(AskedPlace, "give it a key of a vault of its own tenant; some services take another's through a "+
			"federated application, which keyd does not check", "its identity is in the tenant %s, and the vault in %s",
			at.tenant, vault.tenant)
	case !s.SameRegion():
		return right(AskedPlace, "its identity and the vault are in one tenant; the service takes keys of any region")
	case at.region == "" || vault.region == "":
		return undecided(AskedPlace, "compare the locations of the resource and of the vault in Azure's portal",
			"it takes keys of its own region only, and Azure does not show both regions")
	case !same(at.region, vault.region):
		return wrong(AskedPlace, "give it a key of a vault in "+at.region+", or make it anew in "+vault.region,
			"it is in %s, and takes keys of its own region only; the vault is in %s", at.region, vault.region)
	}
	return right(AskedPlace, "its identity and the vault are in one tenant, and both in %s", at.region)
}

// policyAccess is what a vault's access policies say of an identity. A policy of another identity may be a group's.
// notGroups are identities that are known to be none.
func policyAccess(p vaultProperties, identity string, notGroups []string) (a access) {
	for _, policy := range p.Policies {
		id := orEmpty(policy.ObjectID)
		own := strings.EqualFold(id, identity)
		if orEmpty(policy.ApplicationID) != "" || !own && slices.ContainsFunc(notGroups, func(n string) bool {
			return strings.EqualFold(n, id)
		}) {
			continue
		}
		g := grant{role: "the access policy", scope: "the vault", unsure: !own}
		if !own {
			g.role = "the access policy of " + id
		}
		var actions []string
		for _, k := range policy.Permissions.Keys {
			if strings.EqualFold(k, "all") {
				k = "*"
			}
			actions = append(actions, k)
		}
		g.permissions = []permission{{DataActions: actions}}
		a.grants = append(a.grants, g)
	}
	return a
}

// permissionsOf are the permissions on keys that an identity's own access policy has.
func permissionsOf(p vaultProperties, identity string) (all []string) {
	for _, policy := range p.Policies {
		if strings.EqualFold(orEmpty(policy.ObjectID), identity) && orEmpty(policy.ApplicationID) == "" {
			all = append(all, policy.Permissions.Keys...)
		}
	}
	return all
}

// What a service needs: the names of data actions of a vault and of a Managed HSM, and of permissions.
var (
	vaultNeeds = []string{
		"Microsoft.KeyVault/vaults/keys/read",
		"Microsoft.KeyVault/vaults/keys/wrap/action",
		"Microsoft.KeyVault/vaults/keys/unwrap/action",
	}
	hsmNeeds = []string{
		"Microsoft.KeyVault/managedHsm/keys/read/action",
		"Microsoft.KeyVault/managedHsm/keys/wrap/action",
		"Microsoft.KeyVault/managedHsm/keys/unwrap/action",
	}
	policyNeeds = []string{"get", "wrapKey", "unwrapKey"}
)

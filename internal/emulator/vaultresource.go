package emulator

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/emulator/arm"
)

// judge says what Azure's roles say of a data action at a scope.
type judge func(principal, action, scope string) arm.Verdict

var guidForm = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// ResourceID is the vault's id in Resource Manager.
func (v *Vault) ResourceID() string {
	subscription := v.config.Subscription
	if !guidForm.MatchString(subscription) {
		subscription = arm.Subscription
	}
	return "/subscriptions/" + subscription + "/resourceGroups/emulator/providers/" + v.resourceType() + "/" + v.name()
}

func (v *Vault) resourceType() string {
	if v.config.Profile == ManagedHSM {
		return "Microsoft.KeyVault/managedHSMs"
	}
	return "Microsoft.KeyVault/vaults"
}

// SetAccess replaces the way in which the vault authorises callers.
func (v *Vault) SetAccess(mode AccessMode) {
	v.guard.mu.Lock()
	defer v.guard.mu.Unlock()
	v.guard.mode = mode
}

// EnablePurgeProtection switches purge protection on. It can never be switched off again.
func (v *Vault) EnablePurgeProtection() {
	v.guard.mu.Lock()
	defer v.guard.mu.Unlock()
	v.guard.kept = true
}

func (v *Vault) purgeProtected() bool {
	v.guard.mu.RLock()
	defer v.guard.mu.RUnlock()
	return v.guard.kept
}

// vaultResources are the vaults as Resource Manager shows them.
func (e *Emulator) vaultResources() (all []arm.Resource) {
	for _, v := range e.vaults {
		all = append(all, v.resource(e.opts.TenantID))
	}
	slices.SortFunc(all, func(a, b arm.Resource) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func (v *Vault) resource(tenant string) arm.Resource {
	v.guard.mu.RLock()
	defer v.guard.mu.RUnlock()
	properties := map[string]any{
		"tenantId": tenant, "enableSoftDelete": true, "softDeleteRetentionInDays": v.recoverableDays(),
		"provisioningState": "Succeeded", "publicNetworkAccess": "Enabled",
	}
	if v.guard.kept { // absent where it is off
		properties["enablePurgeProtection"] = true
	}
	if f := v.guard.firewall; f != nil {
		properties["networkAcls"] = f.shown()
	}
	r := arm.Resource{ID: v.ResourceID(), Name: v.name(), Type: v.resourceType(), Location: v.location(),
		Fields: map[string]any{"properties": properties}}
	if v.config.Profile == ManagedHSM {
		r.Fields["sku"] = map[string]any{"family": "B", "name": "Standard_B1"}
		properties["hsmUri"] = "https://" + v.config.Host + "/"
		return r
	}
	properties["sku"] = map[string]any{"family": "A", "name": v.config.Profile.String()}
	properties["vaultUri"] = "https://" + v.config.Host + "/"
	properties["enableRbacAuthorization"] = v.guard.mode != PolicyBased
	policies := []any{}
	for _, id := range slices.Sorted(maps.Keys(v.guard.policies)) {
		policies = append(policies, map[string]any{"tenantId": tenant, "objectId": id,
			"permissions": map[string]any{"keys": v.guard.policies[id]}})
	}
	properties["accessPolicies"] = policies
	return r
}

func (f *Firewall) shown() map[string]any {
	bypass := "None"
	if f.TrustedServices {
		bypass = "AzureServices"
	}
	rules := []any{}
	for _, p := range f.IPRules {
		rules = append(rules, map[string]any{"value": p.String()})
	}
	return map[string]any{"bypass": bypass, "defaultAction": "Deny", "ipRules": rules, "virtualNetworkRules": []any{}}
}

// vaultRoles are the role assignments that Vault.Assign made, as Resource Manager shows them. A Managed HSM's are not
// Azure's.
func (e *Emulator) vaultRoles() (all []arm.RoleAssignment) {
	for _, host := range slices.Sorted(maps.Keys(e.vaults)) {
		v := e.vaults[host]
		if v.config.Profile == ManagedHSM {
			continue
		}
		for _, a := range v.assigned() {
			all = append(all, arm.RoleAssignment{Principal: a.Identity, Role: v.azureRole(a.Role),
				Scope: v.ResourceID() + strings.TrimSuffix(a.Scope, "/")})
		}
	}
	return all
}

// assigned are the role assignments that were not taken away.
func (v *Vault) assigned() (all []RoleAssignment) {
	v.guard.mu.RLock()
	defer v.guard.mu.RUnlock()
	for _, g := range v.guard.grants {
		if g.until.IsZero() {
			all = append(all, g.RoleAssignment)
		}
	}
	return all
}

func (v *Vault) azureRole(r Role) string {
	if _, custom := v.guard.defined[r]; custom {
		return string(r)
	}
	return "Key Vault " + string(r)
}

// defineVaultRoles makes the vaults' custom roles known to Resource Manager.
func (e *Emulator) defineVaultRoles() {
	for _, v := range e.vaults {
		if v.config.Profile == ManagedHSM {
			continue
		}
		for name, actions := range v.guard.defined {
			r := arm.Role{Name: string(name)}
			for _, a := range actions {
				r.DataActions = append(r.DataActions, "Microsoft.KeyVault/vaults/"+a)
			}
			e.consumers.DefineRole(r)
		}
	}
}

// judged is what Azure's roles say of a call; nothing, of a Managed HSM, which has roles of its own.
func (v *Vault) judged(c caller, r right, scope string) arm.Verdict {
	if v.config.Profile == ManagedHSM || v.azure == nil {
		return arm.Verdict{}
	}
	return v.azure(c.objectID, "Microsoft.KeyVault/vaults/"+r.vault, v.ResourceID()+scope)
}

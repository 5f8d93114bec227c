package consumer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/vault"
)

// LocalRoles reads the roles that a Managed HSM has of its own, as they reach a key.
type LocalRoles func(ctx context.Context, vaultURL, keyName string) ([]vault.LocalRole, error)

// Inspection looks at how consumers are set up, as one would by hand. It asks each vault and each role once, and only
// reads. It is for one check. It is safe for concurrent use.
type Inspection struct {
	client  *Client
	watcher *Watcher
	near    []string // subscriptions in which to look for vaults first
	mu      sync.Mutex
	single  []string // object ids that are no groups
	local   LocalRoles

	vaults      memo[vaultAnswer]
	subscribed  memo[vaultsOf]
	shown       memo[subscriptionsShown]
	assignments memo[accessAnswer]
	roles       memo[roleAnswer]
	identities  memo[identityAnswer]
}

type vaultAnswer struct {
	found resource[vaultProperties]
	err   error
}

type vaultsOf struct {
	all []resource[vaultProperties]
	err error
}

type subscriptionsShown struct {
	ids map[string]bool
	err error
}

type accessAnswer struct {
	access access
	err    error
}

type roleAnswer struct {
	role roleProperties
	err  error
}

type identityAnswer struct {
	found resource[identityProperties]
	err   error
}

// Inspect begins an inspection of the consumers of these keys. own is keyd's object id, "" if it is not known.
func (w *Watcher) Inspect(policies []key.Policy, own string, local LocalRoles) *Inspection {
	w.mu.Lock()
	i := &Inspection{client: w.client, watcher: w, local: local, single: []string{own}}
	subscriptions := slices.Clone(w.subscriptions)
	w.mu.Unlock()
	for _, p := range policies {
		for _, c := range p.Consumers {
			i.nearby(subscriptionOf(c.ID))
		}
		for _, c := range w.Last(p.Key).Consumers {
			i.single = append(i.single, c.Callers...)
		}
	}
	for _, s := range subscriptions {
		i.nearby(s)
	}
	return i
}

// Look looks at who uses a key now.
func (i *Inspection) Look(ctx context.Context, p key.Policy) record.Usage {
	u := i.watcher.Look(ctx, p)
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, c := range u.Consumers {
		i.single = append(i.single, c.Callers...)
	}
	return u
}

func (i *Inspection) nearby(subscription string) {
	if s := strings.ToLower(subscription); s != "" && !slices.Contains(i.near, s) {
		i.near = append(i.near, s)
	}
}

// subscriptionOf is the subscription in an id.
func subscriptionOf(id string) string {
	rest, found := strings.CutPrefix(strings.ToLower(id), "/subscriptions/")
	if !found {
		return ""
	}
	subscription, _, _ := strings.Cut(rest, "/")
	return subscription
}

// Vault looks at a vault that has consumers.
func (i *Inspection) Vault(ctx context.Context, v key.Vault) []Finding {
	a := i.vault(ctx, v)
	if a.err != nil {
		return []Finding{unseen(AskedVault, "keyd does not see it as a resource", a.err)}
	}
	return []Finding{judgeKind(v, *a.found.Properties), judgeProtection(v, *a.found.Properties)}
}

// mostSubscriptions bounds in how many subscriptions keyd looks for a vault.
const mostSubscriptions = 100

// vault finds a vault as a resource. Its URL does not tell the subscription, so keyd lists the vaults of those where
// it is likely, and then of the others that it may see.
func (i *Inspection) vault(ctx context.Context, v key.Vault) vaultAnswer {
	return i.vaults.get(v.URL, func() vaultAnswer {
		where := slices.Clone(i.near)
		shown := i.shown.get("", func() subscriptionsShown {
			ids, err := visible(ctx, i.client)
			return subscriptionsShown{ids, err}
		})
		if shown.err != nil && len(where) == 0 {
			return vaultAnswer{err: shown.err}
		}
		for _, s := range sortedKeys(shown.ids) {
			if !slices.Contains(where, s) && len(where) < mostSubscriptions {
				where = append(where, s)
			}
		}
		var failed error
		for _, s := range where {
			listed := i.vaultsIn(ctx, s, v.Kind)
			for _, r := range listed.all {
				if r.Properties.uri() == v.URL {
					return vaultAnswer{found: r}
				}
			}
			failed = cmp.Or(failed, listed.err)
		}
		return vaultAnswer{err: notFound(v, where, failed)}
	})
}

// notFound says why a vault was not found. What could not be listed may be where it is.
func notFound(v key.Vault, where []string, failed error) error {
	if failed != nil {
		return failed
	}
	return &Error{
		What: "vault " + v.Name,
		Hint: "find its id with: az keyvault show " + azShow(v) + " --query id; then let keyd's identity look there: " +
			readerCommand("/subscriptions/ID"),
		err: fmt.Errorf("none of the %d subscriptions that keyd's identity sees has a vault with the URL %s",
			len(where), v.URL),
	}
}

func sortedKeys(set map[string]bool) (all []string) {
	for s := range set {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

// vaultsIn lists the vaults of a subscription.
func (i *Inspection) vaultsIn(ctx context.Context, subscription string, kind key.VaultKind) vaultsOf {
	t := "vaults"
	if kind == key.ManagedHSM {
		t = "managedHSMs"
	}
	at := "/subscriptions/" + subscription
	return i.subscribed.get(at+t, func() (v vaultsOf) {
		k := call{op: opChildren, id: at, part: "vaults"}
		v.all, v.err = list[resource[vaultProperties]](ctx, i.client, k, at+"/providers/Microsoft.KeyVault/"+t,
			service.VaultsAPI)
		for _, r := range v.all {
			if v.err == nil && (r.ID == nil || r.Properties == nil || service.TypeOf(*r.ID) !=
				"microsoft.keyvault/"+strings.ToLower(t)) {
				v.err = k.fail(badAnswerf("an item is not one of its vaults"))
			}
		}
		if v.err != nil {
			v.all = nil
		}
		return v
	})
}

// holderProperties are what decides as whom a resource calls its vault.
type holderProperties struct {
	DefaultIdentity *string `json:"defaultIdentity"` // of Cosmos DB
}

type identityProperties struct {
	PrincipalID *string `json:"principalId"`
	TenantID    *string `json:"tenantId"`
}

// holder reads the resource that has the identities: the consumer itself, or the one that it is a part of.
func (i *Inspection) holder(ctx context.Context, id string) (resource[holderProperties], error) {
	if strings.HasSuffix(service.TypeOf(id), "/encryptionscopes") { // which has no identity ever
		id = parentOf(id)
	}
	r, err := read[holderProperties](ctx, i.client, id, "")
	if err == nil && !r.Identity.some() && strings.Count(service.TypeOf(id), "/") > 1 {
		return read[holderProperties](ctx, i.client, parentOf(id), "")
	}
	return r, err
}

// parentOf is the resource that another is a part of, by their ids.
func parentOf(id string) string {
	id = id[:strings.LastIndexByte(id, '/')]
	return id[:strings.LastIndexByte(id, '/')]
}

// userIdentity reads a user-assigned identity.
func (i *Inspection) userIdentity(ctx context.Context, id string) identityAnswer {
	return i.identities.get(strings.ToLower(id), func() identityAnswer {
		r, err := read[identityProperties](ctx, i.client, id, "")
		return identityAnswer{r, err}
	})
}

type assignmentProperties struct {
	Role      *string `json:"roleDefinitionId"`
	Principal *string `json:"principalId"`
	Scope     *string `json:"scope"`
	Condition *string `json:"condition"`
}

type roleProperties struct {
	Name        *string      `json:"roleName"`
	Permissions []permission `json:"permissions"`
}

type denialProperties struct {
	Name        *string      `json:"denyAssignmentName"`
	Scope       *string      `json:"scope"`
	OnlyHere    *bool        `json:"doNotApplyToChildScopes"`
	Principals  []principal  `json:"principals"`
	Excluded    []principal  `json:"excludePrincipals"`
	Permissions []permission `json:"permissions"`
}

const authorization = "/providers/Microsoft.Authorization/"

// azureAccess is what Azure's roles and deny assignments say of an identity at a place, such as a key. Azure lists the
// roles that it has through groups, too.
func (i *Inspection) azureAccess(ctx context.Context, place, identity string) accessAnswer {
	return i.assignments.get(strings.ToLower(place+" "+identity), func() (a accessAnswer) {
		k := call{op: opChildren, id: vaultIn(place), part: "role assignments"}
		all, err := listWhere[resource[assignmentProperties]](ctx, i.client, k, place+authorization+"roleAssignments",
			"assignedTo('"+identity+"')", service.AuthorizationAPI)
		if err != nil {
			return accessAnswer{err: err}
		}
		for _, x := range all {
			if x.Properties == nil || orEmpty(x.Properties.Scope) == "" || orEmpty(x.Properties.Role) == "" {
				return accessAnswer{err: k.fail(badAnswerf("a role assignment without a scope or a role"))}
			}
			if p := x.Properties; reaches(*p.Scope, place) {
				role := i.role(ctx, *p.Role)
				if role.err != nil {
					return accessAnswer{err: role.err}
				}
				a.access.grants = append(a.access.grants, grant{
					role: orEmpty(role.role.Name), scope: *p.Scope, conditional: orEmpty(p.Condition) != "",
					permissions: role.role.Permissions,
				})
			}
		}
		a.access.denials, a.err = i.denials(ctx, place, identity)
		return a
	})
}

// vaultIn is the vault of a key, by their ids. The right to look is given there.
func vaultIn(place string) string {
	vault, _, _ := strings.Cut(place, "/keys/")
	return vault
}

// role reads what a role allows.
func (i *Inspection) role(ctx context.Context, id string) roleAnswer {
	return i.roles.get(strings.ToLower(id), func() roleAnswer {
		k := call{op: opGet, id: id}
		if service.TypeOf(id) != "microsoft.authorization/roledefinitions" {
			return roleAnswer{err: k.fail(badAnswerf("%q is not the id of a role", vault.OneLine(id)))}
		}
		var r resource[roleProperties]
		if err := i.client.get(ctx, k, id, "", service.AuthorizationAPI, &r); err != nil {
			return roleAnswer{err: err}
		}
		if r.Properties == nil {
			return roleAnswer{err: k.fail(missing("properties"))}
		}
		return roleAnswer{role: *r.Properties}
	})
}

// denials are the deny assignments at a place that may concern an identity.
func (i *Inspection) denials(ctx context.Context, place, identity string) (found []denial, err error) {
	k := call{op: opChildren, id: vaultIn(place), part: "deny assignments"}
	all, err := list[resource[denialProperties]](ctx, i.client, k, place+authorization+"denyAssignments",
		service.AuthorizationAPI)
	if err != nil {
		return nil, err
	}
	for _, x := range all {
		p := x.Properties
		if p == nil || orEmpty(p.Scope) == "" {
			return nil, k.fail(badAnswerf("a deny assignment without a scope"))
		}
		here := strings.EqualFold(*p.Scope, place)
		only := p.OnlyHere != nil && *p.OnlyHere
		if reaches(*p.Scope, place) && (here || !only) && mayConcern(identity, p.Principals, p.Excluded) {
			found = append(found, denial{orEmpty(p.Name), p.Permissions})
		}
	}
	return found, nil
}

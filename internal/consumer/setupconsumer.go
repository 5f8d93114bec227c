package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
)

// Title names a consumer for people: "storage account stcmkdemo".
func Title(seen record.ConsumerSeen) string { return seen.Service + " " + service.NameOf(seen.ID) }

// Consumer looks at how one consumer of a key is set up. Where keyd does not see what it is set to, that is the only
// finding. There is none of a resource that was found once and has left the key.
func (i *Inspection) Consumer(ctx context.Context, p key.Policy, seen record.ConsumerSeen) []Finding {
	if seen.Err != nil && !isSaid(seen.Err) {
		return []Finding{unseen(AskedSetting, "keyd does not see it", seen.Err)}
	}
	if seen.Key == "" && !seen.Configured {
		return nil
	}
	have, err := i.holder(ctx, seen.ID)
	if err != nil {
		return []Finding{unseen(AskedSetting, "keyd does not see it", err)}
	}
	s, _ := service.Of(seen.ID)
	who, identity := i.callers(ctx, seen, have)
	all := []Finding{judgeSetting(p, s, seen), identity}
	v, known := vaultOf(p, seen)
	if !known {
		return append(all, undecided(AskedRights, "set it to the key, then check again",
			"the key has %d vaults: which of them it uses shows when it is set to the key", len(p.Vaults)))
	}
	at := i.vault(ctx, v)
	if at.err != nil {
		return append(all, unseen(AskedRights, "neither they nor the way into the vault are known", at.err))
	}
	shown := *at.found.Properties
	for _, w := range who {
		all = append(all, i.rights(ctx, p, v, at.found, s, w.object))
		if !w.hidden {
			all = append(all, judgePlace(s, place{orEmpty(have.Location), w.tenant},
				place{orEmpty(at.found.Location), orEmpty(shown.TenantID)}))
		}
	}
	return append(all, judgeNetwork(v, shown, s))
}

// vaultOf is the vault whose key a consumer is to use: the one that the configuration says, or the one that it uses.
func vaultOf(p key.Policy, seen record.ConsumerSeen) (key.Vault, bool) {
	if v, ok := p.Vault(cmp.Or(configured(p, seen.ID).Vault, seen.Vault)); ok {
		return v, true
	}
	if len(p.Vaults) == 1 {
		return p.Vaults[0], true
	}
	return key.Vault{}, false
}

// judgeSetting says whether a consumer is set to the key, and follows it.
func judgeSetting(p key.Policy, s service.Service, seen record.ConsumerSeen) Finding {
	v, known := vaultOf(p, seen)
	command := giveKey(seen.ID, keyRef{vault: v.URL, name: p.Key})
	if !known {
		command = "set it to the key in one of its vaults"
	}
	ours := known && seen.Vault == v.URL && key.SameName(seen.Key, p.Key)
	switch {
	case seen.Err != nil && seen.Key == "":
		return wrong(AskedSetting, command, "%s", withoutHint(seen.Err))
	case seen.Err != nil:
		return wrong(AskedSetting, cmp.Or(hintOf(seen.Err), "see what it says in Azure's portal"), "%s",
			withoutHint(seen.Err))
	case !ours:
		return wrong(AskedSetting, command, "it is set to %s/keys/%s", seen.Vault, seen.Key)
	case seen.Follows:
		return right(AskedSetting, "it is, and follows new versions")
	case configured(p, seen.ID).Follow == key.FollowKeyd:
		return right(AskedSetting, "set to version %s; keyd moves it on", seen.Asked)
	case s.Follows == service.Never:
		return undecided(AskedSetting, "write follow: keyd for it, so that keyd moves it on, or set it yourself after "+
			"each rotation: "+command, "set to version %s, and this service follows no new one", seen.Asked)
	}
	return wrong(AskedSetting, command, "set to version %s: it does not follow new ones", seen.Asked)
}

// configured is what the configuration says of a consumer. What was found, or belongs to one that is named, goes by the
// nearest name.
func configured(p key.Policy, id string) (nearest key.Consumer) {
	for _, c := range p.Consumers {
		under := strings.EqualFold(c.ID, id) || strings.HasPrefix(strings.ToLower(id), strings.ToLower(c.ID)+"/")
		if under && len(c.ID) > len(nearest.ID) {
			nearest = c
		}
	}
	return nearest
}

// caller is an identity with which a resource calls its vault. hidden: keyd may not look at it, and knows no tenant.
type caller struct {
	object, tenant string
	hidden         bool
}

// callers says with which identities a resource calls its vault, and whether they exist.
func (i *Inspection) callers(
	ctx context.Context, seen record.ConsumerSeen, have resource[holderProperties],
) (who []caller, f Finding) {
	if len(seen.Callers) == 0 {
		return nil, noCaller(seen, have)
	}
	var names []string
	for _, object := range seen.Callers {
		id := userIdentityOf(have.Identity, object)
		if id == "" {
			who = append(who, caller{object: object, tenant: orEmpty(have.Identity.TenantID)})
			names = append(names, "its own, object "+object)
			continue
		}
		found := i.userIdentity(ctx, id)
		switch {
		case isGone(id, found.err):
			return nil, identityGone(seen.ID, id)
		case found.err != nil:
			who = append(who, caller{object: object, hidden: true})
			f = unseen(AskedIdentity, "whether "+service.NameOf(id)+" exists is not known", found.err)
			continue
		}
		is := *found.found.Properties
		if !strings.EqualFold(orEmpty(is.PrincipalID), object) {
			return nil, wrong(AskedIdentity, "take the identity away from the resource, and give it to it again",
				"the identity %s was deleted and made anew: the resource still has the object id %s of the old one, "+
					"and the new one has %s", service.NameOf(id), object, orEmpty(is.PrincipalID))
		}
		who = append(who, caller{object: object, tenant: orEmpty(is.TenantID)})
		names = append(names, fmt.Sprintf("%s, object %s", service.NameOf(id), object))
	}
	if f.Outcome == Unseen {
		return who, f
	}
	return who, right(AskedIdentity, "%s", strings.Join(names, "; "))
}

func identityGone(consumer, id string) Finding {
	return wrong(AskedIdentity, "az identity create --name "+word(service.NameOf(id))+" --resource-group "+
		word(groupOf(id))+"; then take the old one away from the resource, give it the new one, and give that one its "+
		"rights",
		"the identity %s does not exist: it was deleted, and %s can use no key", id, nameOf(consumer))
}

// noCaller says why nobody knows with which identity a resource calls its vault.
func noCaller(seen record.ConsumerSeen, have resource[holderProperties]) Finding {
	setting := strings.ToLower(orEmpty(have.Properties.DefaultIdentity))
	shared := service.TypeOf(seen.ID) == "microsoft.documentdb/databaseaccounts" &&
		(setting == "" || setting == "firstpartyidentity")
	switch {
	case shared:
		return undecided(AskedIdentity, giveIdentity(seen.ID), "it calls the vault as Cosmos DB itself, as every "+
			"account does without another setting: keyd cannot see what that identity may do")
	case !have.Identity.some():
		return wrong(AskedIdentity, giveIdentity(seen.ID), "it has none, so it can use no key")
	}
	return wrong(AskedIdentity, giveIdentity(seen.ID)+"; then set the key again, with that identity",
		"its setting names an identity that it does not have, or of which Azure shows no object id")
}

// userIdentityOf is the id of the user-assigned identity with an object id; "": it is the resource's own.
func userIdentityOf(have identities, object string) string {
	for id, u := range have.UserAssigned {
		if u != nil && strings.EqualFold(orEmpty(u.PrincipalID), object) {
			return id
		}
	}
	return ""
}

// rights says whether an identity may use the key.
func (i *Inspection) rights(
	ctx context.Context, p key.Policy, v key.Vault, at resource[vaultProperties], s service.Service, object string,
) Finding {
	needs := vaultNeeds
	var a accessAnswer
	switch byRoles := at.Properties.Roles != nil && *at.Properties.Roles; {
	case v.Kind == key.ManagedHSM:
		needs = hsmNeeds
		a = i.localAccess(ctx, v, p.Key, object)
	case byRoles:
		a = i.azureAccess(ctx, *at.ID+"/keys/"+p.Key, object)
	default:
		needs = policyNeeds
		if s.Type == "microsoft.dbformysql/flexibleservers" {
			needs = append([]string{"list"}, policyNeeds...)
		}
		a.access = policyAccess(*at.Properties, object, i.single)
	}
	if a.err != nil {
		return unseen(AskedRights, "what its identity may do", a.err)
	}
	command := giveRights(v, *at.ID, p.Key, object, *at.Properties, needs)
	return judgeRights(a.access.judge(needs), object, command)
}

// localAccess is what a Managed HSM's own roles say of an identity. They name groups, and nobody says who is in one.
func (i *Inspection) localAccess(ctx context.Context, v key.Vault, name, object string) (a accessAnswer) {
	if i.local == nil {
		return accessAnswer{err: errors.New("keyd has no client of the Managed HSM")}
	}
	all, err := i.local(ctx, v.URL, name)
	if err != nil {
		return accessAnswer{err: err}
	}
	for _, r := range all {
		own := strings.EqualFold(r.Principal, object)
		if !own && containsFold(i.single, r.Principal) {
			continue
		}
		g := grant{role: r.Role, scope: r.Scope, unsure: !own}
		if !own {
			g.role = "the assignment of " + r.Role + " to " + r.Principal
		}
		for _, p := range r.Permissions {
			g.permissions = append(g.permissions,
				permission{DataActions: p.DataActions, NotDataActions: p.NotDataActions})
		}
		a.access.grants = append(a.access.grants, g)
	}
	return a
}

func judgeRights(v verdict, object, command string) Finding {
	switch {
	case len(v.missing) > 0:
		return wrong(AskedRights, command+" (a new right takes a few minutes to work)", "object %s lacks %s", object,
			strings.Join(v.missing, ", "))
	case len(v.open) > 0:
		return undecided(AskedRights, "find out; if it has none: "+command, "%s", strings.Join(v.open, "; "))
	}
	return right(AskedRights, "get, wrapKey and unwrapKey by %s", strings.Join(v.has, "; "))
}

func containsFold(all []string, text string) bool {
	for _, one := range all {
		if strings.EqualFold(one, text) {
			return true
		}
	}
	return false
}

package consumer

import (
	"context"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/vault"
)

// resource is a resource as Resource Manager shows it. Fields of a wrong type fail its reading. encoding/json compares
// their names without case, as Resource Manager does.
type resource[P any] struct {
	ID         *string    `json:"id"`
	Location   *string    `json:"location"`
	Identity   identities `json:"identity"`
	Properties *P         `json:"properties"`
	System     *struct {
		Made *string `json:"createdAt"`
	} `json:"systemData"`
}

// read gets the resource with an id. suffix is the path of a child, such as "/encryptionProtector/current", and may end
// in a query.
func read[P any](ctx context.Context, c *Client, id, suffix string) (resource[P], error) {
	child, query, _ := strings.Cut(suffix, "?")
	k := call{op: opGet, id: id, child: child != ""}
	var r resource[P]
	if err := c.get(ctx, k, id+child, query, apiVersionOf(id), &r); err != nil {
		return r, err
	}
	if err := r.is(id + child); err != nil {
		return r, k.fail(err)
	}
	if child == "" {
		noteBirth(ctx, id, r.birth())
	}
	return r, nil
}

// children lists what belongs to a resource, such as "encryptionScopes".
func children[P any](ctx context.Context, c *Client, id, kind, words string) ([]resource[P], error) {
	k := call{op: opChildren, id: id, part: words}
	all, err := list[resource[P]](ctx, c, k, id+"/"+kind, apiVersionOf(id))
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.ID == nil || !within(*r.ID, id+"/"+kind) {
			return nil, k.fail(badAnswerf("an item is not one of the %s of %s", words, id))
		}
		if err := k.check(r.is(*r.ID)); err != nil {
			return nil, err
		}
		noteBirth(ctx, *r.ID, r.birth())
	}
	return all, nil
}

// within reports whether an id is that of a direct child.
func within(id, parent string) bool {
	at := strings.LastIndexByte(id, '/')
	return at > 0 && at < len(id)-1 && strings.EqualFold(id[:at], parent)
}

// is checks that the answer is about the resource that keyd asked for, and shows its properties.
func (r resource[P]) is(id string) error {
	switch {
	case r.ID == nil:
		return missing("id")
	case !strings.EqualFold(*r.ID, id):
		return badAnswerf("it is about another resource, %q", *r.ID)
	case r.Properties == nil:
		return missing("properties")
	}
	return nil
}

// check gives an error the name of the resource; nil stays nil.
func (k call) check(err error) error {
	if err == nil {
		return nil
	}
	return k.fail(err)
}

// apiVersionOf is what Resource Manager calls the version of the form in which it shows a resource. A child has its
// parent's.
func apiVersionOf(id string) string {
	for _, s := range service.All() {
		if t := service.TypeOf(id); t == s.Type || strings.HasPrefix(t, s.Type+"/") {
			return s.APIVersion
		}
	}
	if service.TypeOf(id) == identityType {
		return service.IdentitiesAPI
	}
	return ""
}

const identityType = "microsoft.managedidentity/userassignedidentities"

func missing(field string) error { return badAnswerf("%s is missing", field) }

// text is a field that must be there.
func text(value *string, field string) (string, error) {
	if value == nil || *value == "" {
		return "", missing(field)
	}
	return *value, nil
}

// orEmpty is a field that Azure leaves out.
func orEmpty(value *string) string {
	if value == nil {
		return ""
	}
	return *value
}

func orZero(value *time.Time) time.Time {
	if value == nil {
		return time.Time{}
	}
	return value.UTC()
}

// isOneOf reports whether a field that must be there has the first of two values. Any other than these two is an error:
// keyd does not take what it does not know for the service's own key.
func isOneOf(value *string, customers, services, field string) (bool, error) {
	have, err := text(value, field)
	switch {
	case err != nil:
		return false, err
	case strings.EqualFold(have, customers):
		return true, nil
	case strings.EqualFold(have, services):
		return false, nil
	}
	return false, badAnswerf("%s is %q", field, vault.OneLine(have))
}

// settled reports whether the last change of a resource has come into effect, by its provisioningState.
func settled(state *string) bool { return strings.EqualFold(orEmpty(state), "Succeeded") }

// identities are those that a resource has.
type identities struct {
	PrincipalID  *string                  `json:"principalId"` // the system-assigned one
	TenantID     *string                  `json:"tenantId"`
	UserAssigned map[string]*userIdentity `json:"userAssignedIdentities"`
}

type userIdentity struct {
	PrincipalID *string `json:"principalId"`
	ClientID    *string `json:"clientId"`
}

// some reports whether there is any.
func (i identities) some() bool { return orEmpty(i.PrincipalID) != "" || len(i.UserAssigned) > 0 }

// system is the object id of the resource's own identity. Without one, and likewise below, it is nobody that keyd
// knows.
func (i identities) system() []string { return known(i.PrincipalID) }

// user is the object id of an identity that the resource was given, "": of its own.
func (i identities) user(id string) []string {
	if id == "" {
		return i.system()
	}
	for have, u := range i.UserAssigned {
		if strings.EqualFold(have, id) && u != nil {
			return known(u.PrincipalID)
		}
	}
	return nil
}

// client is user for services that name the identity by its client id.
func (i identities) client(id string) []string {
	if id == "" || strings.EqualFold(id, "system") {
		return i.system()
	}
	for _, u := range i.UserAssigned {
		if u != nil && strings.EqualFold(orEmpty(u.ClientID), id) {
			return known(u.PrincipalID)
		}
	}
	if len(i.UserAssigned) == 0 { // Azure does not show the client id of the resource's own identity
		return i.system()
	}
	return nil
}

// users are the object ids of every identity that the resource was given; nobody, unless all are known.
func (i identities) users() (all []string) {
	for _, u := range i.UserAssigned {
		if u == nil || len(known(u.PrincipalID)) == 0 {
			return nil
		}
		all = append(all, *u.PrincipalID)
	}
	return all
}

// acrossTenants reports whether a resource calls a vault of another tenant, by an application. Azure does not show the
// object id that the application has there.
func acrossTenants(application *string) bool {
	id := orEmpty(application)
	return id != "" && id != "00000000-0000-0000-0000-000000000000"
}

func known(id *string) []string {
	if orEmpty(id) == "" {
		return nil
	}
	return []string{*id}
}

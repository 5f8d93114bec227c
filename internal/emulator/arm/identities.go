package arm

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

const userIdentityPath = "Microsoft.ManagedIdentity/userAssignedIdentities"

// userIdentities are the user-assigned identities. One that a resource is given exists from then on: nobody need make
// it first. One that was deleted cannot sign in any more.
type userIdentities struct {
	mu      sync.Mutex
	known   map[string]userIdentity // by lower-case id
	deleted map[string]bool         // lower-case ids and client ids
}

type userIdentity struct{ id, clientID, location string }

func newUserIdentities() *userIdentities {
	return &userIdentities{known: map[string]userIdentity{}, deleted: map[string]bool{}}
}

func init() { faces[strings.ToLower(userIdentityPath)] = (*Service).userIdentities }

func (u *userIdentities) add(i userIdentity) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.known[strings.ToLower(i.id)]; !ok {
		u.known[strings.ToLower(i.id)] = i
	}
}

// allow makes an identity that was deleted usable again.
func (u *userIdentities) allow(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.deleted, strings.ToLower(id))
}

func (u *userIdentities) remove(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	i, ok := u.known[strings.ToLower(id)]
	if ok {
		u.deleted[strings.ToLower(id)], u.deleted[i.clientID] = true, true
		delete(u.known, strings.ToLower(id))
	}
	return ok
}

// check refuses an identity that was deleted.
func (u *userIdentities) check(who identity) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.deleted[strings.ToLower(who.resourceID)] || u.deleted[who.clientID] {
		return fmt.Errorf("identity %s%s was not found: it was deleted", who.resourceID, who.clientID)
	}
	return nil
}

// DeleteIdentity deletes a user-assigned identity: what signs in with it loses access to its key.
func (s *Service) DeleteIdentity(id string) error {
	if !s.users.remove(id) {
		return fmt.Errorf("there is no identity %s", id)
	}
	return nil
}

// userIdentities answers for …/providers/Microsoft.ManagedIdentity/userAssignedIdentities[/NAME].
func (s *Service) userIdentities(ctx context.Context, p place, r Request) (Response, error) {
	if p.all() {
		return s.listIdentities(p, r)
	}
	id := p.id(userIdentityPath)
	switch r.Method {
	case http.MethodPut:
		body, err := parseDocument(r.Body)
		if err != nil || body.text("location") == "" {
			return Response{}, refuse(http.StatusBadRequest, "LocationRequired",
				"The location property is required for this definition.")
		}
		s.users.allow(id)
		t, err := s.signIn(ctx, identity{resourceID: id}, "https://management.azure.com")
		if err != nil {
			return Response{}, err
		}
		s.users.allow(t.ClientID)
		s.users.add(userIdentity{id: id, clientID: t.ClientID, location: body.text("location")})
		return s.identityResponse(http.StatusCreated, p, id)
	case http.MethodGet:
		return s.identityResponse(http.StatusOK, p, id)
	case http.MethodDelete:
		s.users.remove(id)
		return Response{Status: http.StatusOK}, nil
	}
	return Response{}, notAllowed(r.Method)
}

func (s *Service) listIdentities(p place, r Request) (Response, error) {
	if r.Method != http.MethodGet {
		return Response{}, notAllowed(r.Method)
	}
	s.users.mu.Lock()
	defer s.users.mu.Unlock()
	found := []document{}
	for _, id := range slices.Sorted(maps.Keys(s.users.known)) {
		if covers(p.scope, id) {
			found = append(found, s.users.known[id].shown(s.cfg.TenantID))
		}
	}
	return s.page(r, found)
}

func (s *Service) identityResponse(status int, p place, id string) (Response, error) {
	s.users.mu.Lock()
	defer s.users.mu.Unlock()
	i, ok := s.users.known[strings.ToLower(id)]
	if !ok {
		return Response{}, notFound(userIdentityPath, p)
	}
	return Response{Status: status, Body: i.shown(s.cfg.TenantID)}, nil
}

func (i userIdentity) shown(tenant string) document {
	return document{"id": i.id, "name": i.id[strings.LastIndex(i.id, "/")+1:], "type": userIdentityPath,
		"location":   i.location,
		"properties": document{"clientId": i.clientID, "principalId": i.clientID, "tenantId": tenant}}
}

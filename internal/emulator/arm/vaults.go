package arm

import (
	"context"
	"maps"
	"net/http"
	"strings"
)

func init() {
	faces["microsoft.keyvault/vaults"] = (*Service).vaults
	faces["microsoft.keyvault/managedhsms"] = (*Service).vaults
}

// vaults answers for …/providers/Microsoft.KeyVault/(vaults|managedHSMs)[/NAME].
func (s *Service) vaults(_ context.Context, p place, r Request) (Response, error) {
	if r.Method != http.MethodGet {
		return Response{}, notAllowed(r.Method)
	}
	found := []document{}
	for _, v := range s.resources() {
		if !strings.EqualFold(v.Type, p.path) {
			continue
		}
		if !p.all() && strings.EqualFold(v.ID, p.id(v.Type)) {
			return Response{Status: http.StatusOK, Body: v.shown()}, nil
		}
		if covers(p.scope, v.ID) {
			found = append(found, v.shown())
		}
	}
	if !p.all() {
		return Response{}, notFound(p.path, p)
	}
	return s.page(r, found)
}

// resources are the vaults.
func (s *Service) resources() []Resource {
	if s.cfg.Vaults == nil {
		return nil
	}
	return s.cfg.Vaults()
}

// Misdirect makes the URLs that Resource Manager gives, of operations and of next pages, name another host; "" ends it.
func (s *Service) Misdirect(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.elsewhere = host
}

// origin is where the URLs that Resource Manager gives lead to.
func (s *Service) origin() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.elsewhere != "" {
		return "https://" + s.elsewhere
	}
	return "https://" + Host
}

// AddResource adds a resource of any other type, which Resource Graph finds and nobody can change.
func (s *Service) AddResource(r Resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.others = append(s.others, r)
}

// added returns a resource that somebody added, or nil.
func (s *Service) added(id string) *Resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.others {
		if strings.EqualFold(r.ID, id) {
			return &r
		}
	}
	return nil
}

func (v Resource) shown() document {
	d := document{"id": v.ID, "name": v.Name, "type": v.Type, "location": v.Location}
	maps.Copy(d, v.Fields)
	return d
}

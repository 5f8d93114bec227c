package arm

import (
	"context"
	"net/http"
	"strings"
)

func init() {
	faces[strings.ToLower(sqlServer.path+"/failoverGroups")] = (*Service).failoverGroups
	faces["microsoft.sql/locations/instancefailovergroups"] = (*Service).failoverGroups
}

// failoverGroups answers for servers/SERVER/failoverGroups and locations/REGION/instanceFailoverGroups: there are none.
// Databases are copied to other servers by replication links alone.
func (s *Service) failoverGroups(_ context.Context, p place, r Request) (Response, error) {
	if r.Method != http.MethodGet || !p.all() {
		return Response{}, notAllowed(r.Method)
	}
	if of := p.parent(); strings.EqualFold(of.path, sqlServer.path) && s.find(of.id(sqlServer.path)) == nil {
		return Response{}, notFound(sqlServer.path, of)
	}
	return s.page(r, []document{})
}

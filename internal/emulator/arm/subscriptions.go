package arm

import (
	"net/http"
	"strings"
)

// Subscription is the one listed subscription: the az command line asks for it when it
// signs in. Resources can be created in any.
const Subscription = "00000000-0000-4000-8000-000000000000"

// asksForSubscriptions reports whether a path is that of the subscription list.
func asksForSubscriptions(path string) bool {
	return strings.EqualFold(strings.TrimSuffix(path, "/"), "/subscriptions")
}

func (s *Service) subscriptions(method string) (Response, error) {
	if method != http.MethodGet {
		return Response{}, notAllowed(method)
	}
	return Response{Status: http.StatusOK, Body: document{"value": []any{document{
		"id": "/subscriptions/" + Subscription, "subscriptionId": Subscription, "tenantId": s.cfg.TenantID,
		"displayName": "keyvault-emulator", "state": "Enabled",
	}}}}, nil
}

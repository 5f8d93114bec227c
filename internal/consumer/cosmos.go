package consumer

import (
	"context"
	"strings"

	"github.com/keyd-project/keyd/internal/vault"
)

type cosmosProperties struct {
	KeyURI          *string `json:"keyVaultKeyUri"` // absent: Microsoft's key
	VersionInUse    *string `json:"keyVaultKeyUriVersion"`
	DefaultIdentity *string `json:"defaultIdentity"`
	KeyStatus       *string `json:"customerManagedKeyStatus"`
}

// cosmosAccount reads a Cosmos DB account.
func cosmosAccount(ctx context.Context, c *Client, id string) ([]sight, error) {
	r, err := read[cosmosProperties](ctx, c, id, "")
	if err != nil {
		return nil, err
	}
	s, err := cosmosSight(id, r)
	if err != nil {
		return nil, call{op: opGet, id: id}.fail(err)
	}
	return []sight{s}, nil
}

// cosmosSight reads an account by its fields. One that cannot use its key says so in a sentence.
func cosmosSight(id string, r resource[cosmosProperties]) (sight, error) {
	s, p := newSight(id), r.Properties
	s.callers = cosmosCallers(r.Identity, orEmpty(p.DefaultIdentity))
	if orEmpty(p.KeyURI) == "" {
		return s, nil
	}
	to, err := parseKeyRef(*p.KeyURI)
	if err != nil {
		return s, err
	}
	s.follows = to.version == ""
	if err := s.set(to, versionedID(to, orEmpty(p.VersionInUse))); err != nil {
		return s, err
	}
	if status := orEmpty(p.KeyStatus); strings.Contains(strings.ToLower(status), "revoked") {
		s.err = trouble(id, "", "it cannot use its key: %s", vault.OneLine(status))
	}
	return s, nil
}

// versionedID is the id of a version that is shown alone or, as the documents leave open, with its key.
func versionedID(of keyRef, shown string) string {
	if shown == "" || strings.Contains(shown, "/") {
		return shown
	}
	return of.vault + "/keys/" + of.name + "/" + shown
}

// cosmosCallers are who calls the vault. Under FirstPartyIdentity, the default, it is Cosmos DB itself, which every
// account shares.
func cosmosCallers(have identities, setting string) []string {
	kind, user, _ := strings.Cut(setting, "=")
	switch strings.ToLower(kind) {
	case "systemassignedidentity":
		return have.system()
	case "userassignedidentity":
		if user != "" && !strings.Contains(user, "&") { // "&FederatedClientId=…" is for a vault of another tenant
			return have.user(user)
		}
	}
	return nil
}

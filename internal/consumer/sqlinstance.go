package consumer

import (
	"context"
	"strings"

	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/vault"
)

const (
	sqlServerType   = "microsoft.sql/servers"
	sqlInstanceType = "microsoft.sql/managedinstances"
)

// isOf reports whether an id is that of a resource of a type.
func isOf(id, kind string) bool { return service.TypeOf(id) == kind }

// sqlInstance reads a managed instance, and the instances that it fails over to.
func sqlInstance(ctx context.Context, c *Client, id string) ([]sight, error) {
	return withPartners(ctx, c, id, func(id string) ([]sight, []string, error) {
		s, owner, err := protector(ctx, c, id)
		if err != nil {
			return nil, nil, err
		}
		partners, err := instancePartners(ctx, c, id, orEmpty(owner.Location))
		return []sight{s}, partners, err
	})
}

// instancePartners are the instances that share a failover group with one. The groups belong to its resource group and
// its region.
func instancePartners(ctx context.Context, c *Client, id, region string) (partners []string, err error) {
	k := call{op: opChildren, id: id, part: "failover groups"}
	region = strings.ToLower(strings.ReplaceAll(region, " ", "")) // "West Europe" is written either way
	if region == "" {
		return nil, k.fail(missing("location"))
	}
	type pair struct {
		Primary *string `json:"primaryManagedInstanceId"`
		Partner *string `json:"partnerManagedInstanceId"`
	}
	at := id[:strings.Index(strings.ToLower(id), "/providers/")] + "/providers/Microsoft.Sql/locations/" + region
	groups, err := list[resource[struct {
		Pairs []pair `json:"managedInstancePairs"`
	}]](ctx, c, k, at+"/instanceFailoverGroups", apiVersionOf(id))
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if g.Properties == nil {
			return nil, k.fail(missing("properties of a failover group"))
		}
		for _, p := range g.Properties.Pairs {
			one, other := orEmpty(p.Primary), orEmpty(p.Partner)
			if !isOf(one, sqlInstanceType) || !isOf(other, sqlInstanceType) {
				return nil, k.fail(badAnswerf("a failover group pairs %q with %q", vault.OneLine(one),
					vault.OneLine(other)))
			}
			if strings.EqualFold(one, id) || strings.EqualFold(other, id) {
				partners = append(partners, one, other)
			}
		}
	}
	return partners, nil
}

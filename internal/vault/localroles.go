package vault

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// LocalRole is a role that somebody has in a Managed HSM.
type LocalRole struct {
	Principal, Role, Scope string
	Permissions            []LocalPermission
}

// LocalPermission is what a role of a Managed HSM allows. In its patterns * is anything.
type LocalPermission struct{ DataActions, NotDataActions []string }

// rolesPipeline is for the calls on a Managed HSM's own roles, which azkeys does not have.
func rolesPipeline(c *Client, options azcore.ClientOptions) runtime.Pipeline {
	_, service, _ := strings.Cut(c.host, ".")
	token := runtime.NewBearerTokenPolicy(c.cred, []string{"https://" + service + "/.default"}, nil)
	options.APIVersion = "" // which is in the URLs
	return runtime.NewPipeline("keyd", "v1", runtime.PipelineOptions{PerRetry: []policy.Policy{token}}, &options)
}

const localAuthorization = "/providers/Microsoft.Authorization/"

// LocalRoles lists every role that somebody has in a Managed HSM and that reaches a key. The HSM does not say who is in
// a group.
func (c *Client) LocalRoles(ctx context.Context, name string) (found []LocalRole, err error) {
	err = c.do(ctx, opLocalRoles, name, "", func(ctx context.Context) error {
		found, err = c.localRoles(ctx, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (c *Client) localRoles(ctx context.Context, name string) ([]LocalRole, error) {
	definitions, err := listRoles[struct {
		RoleName    string
		Permissions []LocalPermission
	}](ctx, c, localAuthorization+"roleDefinitions", "")
	if err != nil {
		return nil, err
	}
	assignments, err := listRoles[struct{ PrincipalID, RoleDefinitionID, Scope string }](ctx, c,
		"/keys/"+name+localAuthorization+"roleAssignments", "atScope()")
	if err != nil {
		return nil, err
	}
	var found []LocalRole
	for _, a := range assignments {
		r := LocalRole{Principal: oneLine(a.Properties.PrincipalID), Scope: oneLine(a.Properties.Scope)}
		for _, d := range definitions {
			if strings.EqualFold(d.ID, a.Properties.RoleDefinitionID) {
				r.Role, r.Permissions = oneLine(d.Properties.RoleName), d.Properties.Permissions
			}
		}
		if r.Principal == "" || r.Role == "" {
			return nil, badAnswerf("a role assignment names no principal, or a role %q that is not listed",
				oneLine(a.Properties.RoleDefinitionID))
		}
		found = append(found, r)
	}
	return found, nil
}

// roleItem is a role definition or a role assignment.
type roleItem[P any] struct {
	ID         string
	Properties P
}

// listRoles reads every page of a list of a Managed HSM's roles.
func listRoles[P any](ctx context.Context, c *Client, path, filter string) (all []roleItem[P], err error) {
	query := url.Values{"api-version": {APIVersion}}
	if filter != "" {
		query.Set("$filter", filter)
	}
	next := c.cfg.Vault.URL + path + "?" + query.Encode()
	for range mostPages {
		req, err := runtime.NewRequest(ctx, http.MethodGet, next)
		if err != nil {
			return nil, badAnswerf("%q is not a URL", oneLine(next))
		}
		resp, err := c.roles.Do(req) //nolint:bodyclose // Payload below closes it
		if err != nil {
			return nil, err
		}
		if !runtime.HasStatusCode(resp, http.StatusOK) {
			return nil, runtime.NewResponseError(resp)
		}
		text, err := runtime.Payload(resp)
		if err != nil {
			return nil, err
		}
		var page struct {
			Value    *[]roleItem[P]
			NextLink string
		}
		if err := json.Unmarshal(text, &page); err != nil || page.Value == nil {
			return nil, badAnswerf("it is no page of a list of roles")
		}
		all = append(all, *page.Value...)
		if page.NextLink == "" {
			return all, nil
		}
		next = page.NextLink
	}
	return nil, badAnswerf("the list of roles has more than %d pages", mostPages)
}

package consumer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/vault"
)

// found is a resource whose properties name a vault.
type found struct {
	id   string
	text string // of its properties
}

// mentions reports whether the properties name a key, too. Azure ignores the case of names. A name that is a part of
// another one counts: better one resource too many than one too few.
func (f found) mentions(name string) bool {
	return strings.Contains(strings.ToLower(f.text), strings.ToLower(name))
}

// query finds the resources that name a vault's host. Some write the id of a key in one field, some vault and key in
// two, so it looks at the whole text.
const query = `resources | where tostring(properties) contains "%s" ` +
	`| project id, type, name, location, subscriptionId, properties`

const (
	searchPath      = "/providers/Microsoft.ResourceGraph/resources"
	searchPage      = 200 // resources: a page of them is far below the bound of an answer
	mostSearchPages = 100
	// searchDepth is that of a row's own fields. Its properties are another's, and may use names that differ in case.
	searchDepth = 3
)

type searchBody struct {
	Subscriptions []string      `json:"subscriptions"`
	Query         string        `json:"query"`
	Options       searchOptions `json:"options"`
}

type searchOptions struct {
	Format    string `json:"resultFormat"`
	Top       int    `json:"$top"`
	SkipToken string `json:"$skipToken,omitempty"`
}

type searchAnswer struct {
	Total     *int    `json:"totalRecords"`
	Truncated *string `json:"resultTruncated"`
	SkipToken *string `json:"$skipToken"`
	Data      *[]struct {
		ID         *string         `json:"id"`
		Properties json.RawMessage `json:"properties"`
	} `json:"data"`
}

// search asks Azure Resource Graph for all resources in these subscriptions that name a vault's host. An error means
// that there may be more than it found.
func search(ctx context.Context, c *Client, subscriptions []string, host string) (all []found, err error) {
	k := call{op: opSearch}
	body := searchBody{
		Subscriptions: subscriptions, Query: fmt.Sprintf(query, host),
		Options: searchOptions{Format: "objectArray", Top: searchPage},
	}
	shown, total := map[string]bool{}, 0 // a page that comes twice shows nothing new
	for range mostSearchPages {
		var a searchAnswer
		if err := c.post(ctx, k, searchPath, service.ResourceGraphAPI, body, searchDepth, &a); err != nil {
			return all, err
		}
		if a.Data == nil || a.Total == nil {
			return all, k.fail(missing("data or totalRecords"))
		}
		total = max(total, *a.Total)
		for _, row := range *a.Data {
			if service.TypeOf(orEmpty(row.ID)) == "" {
				return all, k.fail(badAnswerf("%q is not the id of a resource", vault.OneLine(orEmpty(row.ID))))
			}
			shown[strings.ToLower(*row.ID)] = true
			if !strings.HasPrefix(service.TypeOf(*row.ID), "microsoft.keyvault/") { // the vault itself
				all = append(all, found{*row.ID, string(row.Properties)})
			}
		}
		if token := orEmpty(a.SkipToken); token != "" {
			body.Options.SkipToken = token
			continue
		}
		if len(shown) != total || strings.EqualFold(orEmpty(a.Truncated), "true") {
			return all, k.fail(fmt.Errorf("the result was cut: it shows %d of %d resources that name %s",
				len(shown), total, host))
		}
		return all, nil
	}
	return all, k.fail(badAnswerf("the result has more than %d pages", mostSearchPages))
}

// readsAll reports whether keyd's identity may read everything in a subscription. A search leaves out what it may not
// read, and does not mention that.
func readsAll(ctx context.Context, c *Client, subscription string) (bool, error) {
	id := "/subscriptions/" + subscription
	all, err := list[struct {
		Actions    []string `json:"actions"`
		NotActions []string `json:"notActions"`
	}](ctx, c, call{op: opPermissions, id: id}, id+"/providers/Microsoft.Authorization/permissions",
		service.PermissionsAPI)
	if err != nil {
		return false, err
	}
	for _, p := range all {
		reads := func(action string) bool { return action == "*" || strings.EqualFold(action, "*/read") }
		if slices.ContainsFunc(p.Actions, reads) && !slices.ContainsFunc(p.NotActions, mayRead) {
			return true, nil
		}
	}
	return false, nil
}

// mayRead reports whether reading may be among actions with this name, in which * is anything.
func mayRead(action string) bool {
	action = strings.ToLower(action)
	return !slices.ContainsFunc([]string{"/write", "/delete", "/action"}, func(other string) bool {
		return strings.HasSuffix(action, other)
	})
}

// visible lists the subscriptions that keyd's identity may see, in lower case.
func visible(ctx context.Context, c *Client) (map[string]bool, error) {
	k := call{op: opSubscriptions}
	all, err := list[struct {
		ID *string `json:"subscriptionId"`
	}](ctx, c, k, "/subscriptions", service.SubscriptionsAPI)
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, s := range all {
		if orEmpty(s.ID) == "" {
			return nil, k.fail(missing("subscriptionId"))
		}
		ids[strings.ToLower(*s.ID)] = true
	}
	return ids, nil
}

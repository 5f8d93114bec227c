package vault

import (
	"context"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/keyd-project/keyd/internal/key"
)

// Sweep lists every key of the vault, 25 a page, each with the attributes that the vault's list of keys shows (GET
// /keys). It fails with key.ErrTooManyPages when the list has more than most pages, and is refused where keyd's roles
// are on single keys.
func (c *Client) Sweep(ctx context.Context, most int) (items []key.Item, err error) {
	err = c.do(ctx, opSweep, "", "", func(ctx context.Context) error {
		items, err = c.sweep(ctx, most)
		return err
	})
	if err != nil {
		return nil, err
	}
	return items, nil
}

func (c *Client) sweep(ctx context.Context, most int) (items []key.Item, err error) {
	followed := map[string]bool{}
	pager := c.keys.NewListKeyPropertiesPager(nil)
	for pages := 0; pager.More(); pages++ {
		if pages == min(most, mostPages) {
			return nil, final{fmt.Errorf("%w: %d", key.ErrTooManyPages, most)}
		}
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		if page.NextLink != nil && *page.NextLink != "" {
			if followed[*page.NextLink] {
				return nil, badAnswerf("the list of keys does not end: its pages lead in a circle")
			}
			followed[*page.NextLink] = true
		}
		for _, p := range page.Value {
			if item, ok := sweptItem(p); ok {
				items = append(items, item)
			}
		}
	}
	return items, nil
}

// sweptItem takes what a list shows of a key. An item that keyd cannot read is as good as absent: keyd asks that key.
func sweptItem(p *azkeys.KeyProperties) (key.Item, bool) {
	if p == nil || p.KID == nil || p.KID.Name() == "" {
		return key.Item{}, false
	}
	item := key.Item{Name: p.KID.Name(), Tags: plainTags(p.Tags)}
	if a := p.Attributes; a != nil {
		item.Created, item.Updated = utc(a.Created), utc(a.Updated)
		item.Expires, item.NotBefore = utc(a.Expires), utc(a.NotBefore)
		item.Enabled = a.Enabled != nil && *a.Enabled
	}
	return item, true
}

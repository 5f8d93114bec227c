package consumer

import "context"

// mySQL reads a MySQL flexible server, which follows nothing.
func mySQL(ctx context.Context, c *Client, id string) ([]sight, error) {
	return flexible(ctx, c, id, false)
}

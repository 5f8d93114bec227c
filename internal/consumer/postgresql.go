package consumer

import "context"

// postgreSQL reads a PostgreSQL flexible server, which follows a key that is named without a version.
func postgreSQL(ctx context.Context, c *Client, id string) ([]sight, error) {
	return flexible(ctx, c, id, true)
}

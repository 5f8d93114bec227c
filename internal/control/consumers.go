package control

import (
	"context"
	"net/http"
	"net/url"

	"github.com/keyd-project/keyd/internal/status"
)

func (c *call) consumers(ctx context.Context) error {
	query := c.r.URL.Query()
	name := query.Get("key")
	if name != "" {
		if err := checkName(name); err != nil {
			return err
		}
	}
	shown, err := c.backend.Consumers(ctx, name, query.Get("discover") == "true")
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, shown)
}

// Consumers shows who uses a key, or with no name each key that keyd can ask about. With discover keyd looks now, and
// also searches Azure for those that the configuration lacks. It changes nothing.
func (c *Client) Consumers(ctx context.Context, keyName string, discover bool) ([]status.KeyConsumers, error) {
	query := url.Values{}
	if keyName != "" {
		query.Set("key", keyName)
	}
	if discover {
		query.Set("discover", "true")
	}
	return get[[]status.KeyConsumers](ctx, c, slowTimeout, "/v1/consumers?"+query.Encode())
}

package control

import (
	"context"
	"net/http"

	"github.com/keyd-project/keyd/internal/status"
)

func settingsRoutes() []route {
	return []route{{name: "settings", pattern: "GET /v1/settings", what: "see the settings in force",
		serve: (*call).settings}}
}

func (c *call) settings(ctx context.Context) error {
	s, err := c.backend.Settings(ctx)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, s)
}

// Settings returns the guarded settings in force.
func (c *Client) Settings(ctx context.Context) (status.Settings, error) {
	return get[status.Settings](ctx, c, quickTimeout, "/v1/settings")
}

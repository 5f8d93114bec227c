package daemon

import (
	"context"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/key"
)

// basedHSM is the HSM side, which also tells of each pair whether the HSM had it when the audit chain began.
type basedHSM struct {
	pinnedHSM
	base *audit.Base
}

func (h basedHSM) Inventory(ctx context.Context) ([]key.Object, error) { return h.base.Inventory(ctx) }

func (h basedHSM) Find(ctx context.Context, id key.ID) ([]key.Object, error) {
	return h.base.Find(ctx, id)
}

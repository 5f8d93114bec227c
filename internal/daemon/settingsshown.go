package daemon

import (
	"context"

	"github.com/keyd-project/keyd/internal/status"
)

// Settings are the guarded settings on which keyd acts. judge compares the files with the same ones.
func (d *Daemon) Settings(context.Context) (status.Settings, error) {
	c := d.config()
	return status.Settings{NeedsApproval: len(c.Approvals.Acts) > 0, InForce: c.Guarded()}, nil
}

package daemon

import "context"

// Repoint records that consumers of a key are to be moved to the newest version. The loop moves them.
func (d *Daemon) Repoint(ctx context.Context, actor, name, reason string, consumers []string) error {
	p, err := d.policy(name)
	if err != nil {
		return err
	}
	return d.poked(p.Key, d.rotator.AskRepoint(asked(ctx), p, actor, reason, consumers))
}

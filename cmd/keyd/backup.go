package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func (a *app) backup() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "backup FILE",
		Short: "Write a consistent copy of the daemon's state",
		Long: `backup writes a consistent copy of the daemon's records and audit chain to FILE, which must
not exist yet, with mode 0600. The daemon goes on meanwhile. No key is in it: keys stay in the HSM.`,
		Example: "  keyd backup /var/backups/keyd-$(date +%F).db",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := a.backupTo(cmd.Context(), names[0]); err != nil {
				return fmt.Errorf("backup: %w", err)
			}
			return a.say(outcome{Done: "backed up", File: names[0]}, "The state is in "+names[0]+".")
		},
	})
}

// backupTo never leaves an incomplete backup under the requested name.
func (a *app) backupTo(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s exists already, or cannot be seen: choose another name", path)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".keyd-backup-*")
	var at *fs.PathError
	if errors.As(err, &at) { // the temporary file's name would tell the user nothing
		return fmt.Errorf("write in %s: %w; name an existing directory that you may write to", dir, at.Err)
	}
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = a.client().Backup(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil { // unlike a rename, a link replaces nothing
		return err
	}
	return syncDir(dir)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

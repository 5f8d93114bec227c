package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// Backup writes a consistent copy of the whole file to w while work goes on. The copy is a state file itself. w must
// not be slow for long: until the copy is done, the store does not reuse freed pages.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(contextWriter{ctx, w})
		return err
	})
	if err != nil {
		return fmt.Errorf("back up %s: %w", s.path, err)
	}
	return nil
}

// BackupFile makes a backup with WriteBackup.
func (s *Store) BackupFile(ctx context.Context, path string) error {
	return WriteBackup(ctx, path, func(w io.Writer) error { return s.Backup(ctx, w) })
}

// WriteBackup makes the file path, with mode 0600, from what copy writes. The file appears whole, on the disk, and
// only if it is a state file that Verify finds consistent. It does not overwrite an existing file: the error is then
// fs.ErrExist.
func WriteBackup(ctx context.Context, path string, copy func(io.Writer) error) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("back up to %s: %w; choose another name", path, os.ErrExist)
	}
	err := publish(path, func(temp string) error {
		f, err := os.OpenFile(temp, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(copy(f), f.Close()); err != nil {
			return err
		}
		return verifyFile(ctx, temp)
	})
	if err != nil {
		return fmt.Errorf("back up to %s: %w", path, err)
	}
	return nil
}

func verifyFile(ctx context.Context, path string) error {
	s, err := OpenReadOnly(path)
	if err != nil {
		return err
	}
	report, err := s.Verify(ctx)
	if err == nil && !report.Consistent() {
		err = fmt.Errorf("the copy is %s", report)
	}
	return errors.Join(err, s.Close())
}

// publish has fill write a temporary file beside path and flushes it. Only then does it give the file its name, and
// only if that name is free (fs.ErrExist otherwise).
func publish(path string, fill func(temp string) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	temp := f.Name()
	defer func() { err = errors.Join(err, os.Remove(temp)) }()
	if err := fill(temp); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(temp, path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// contextWriter stops a copy when its context ends.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (w contextWriter) Write(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(b)
}

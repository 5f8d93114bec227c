package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/ownership"
	"github.com/keyd-project/keyd/internal/store/stored"
)

const (
	fileName = "keyd.db"
	// lockWait is how long an opener waits for the file's lock: long enough for a predecessor that is just ending,
	// short enough for a clear error.
	lockWait = time.Second
	// mapSize is the address space mapped from the start (16 MiB), so that a long read, such as a backup, does not
	// stop a writer from growing the file.
	mapSize = 16 << 20
)

var (
	bucketMeta    = []byte("meta")
	bucketRecords = []byte("records")
	bucketAudit   = []byte("audit")
	keySchema     = []byte("schema")
)

// Open opens the state in dir. It creates the directory (mode 0700) and the file (0600) if they do not exist. It
// checks everything in the file first. now gives the time of entries that carry none; a nil reg registers no metrics.
//
// Errors: *LockedError if another process has the state open (after one second), *CorruptError, *SchemaError,
// *SealedError if it was moved elsewhere, *AccessError if others can enter the directory; any other error comes from
// the file system.
func Open(dir string, now func() time.Time, reg prometheus.Registerer) (*Store, error) {
	return openAs(current(), dir, now, reg)
}

func openAs(f format, dir string, now func() time.Time, reg prometheus.Registerer) (*Store, error) {
	if err := privateDir(dir); err != nil {
		return nil, ownership.Explain(err, dir)
	}
	path := filepath.Join(dir, fileName)
	if err := ensureFile(f, path); err != nil {
		return nil, ownership.Explain(err, dir)
	}
	s := newStore(path, f)
	s.now = now
	if err := s.open(); err != nil {
		return nil, ownership.Explain(err, path)
	}
	if err := s.refuseSealed(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.migrate(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.metrics = stored.NewMetrics(reg)
	s.metrics.Opened(s.entries)
	return s, nil
}

// Check finds what would keep Open from opening the state in dir, and changes nothing. Errors: those of Open; a file
// that has another owner than dir.
func Check(dir string) error {
	path := filepath.Join(dir, fileName)
	err := private(dir)
	if err == nil {
		_, err = os.Stat(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if err := ownership.Differs(path, dir); err != nil {
		return &AccessError{err}
	}
	s, err := OpenReadOnly(path)
	if err != nil {
		return err
	}
	return errors.Join(s.inspect(), s.refuseSealed(), s.Close())
}

// OpenReadOnly opens a state file or a backup for Load, Names, Audit, Verify and Backup. It does not check the
// content: Verify does that. While a daemon has the file open, it returns a *LockedError.
func OpenReadOnly(path string) (*Store, error) {
	s := newStore(path, current())
	s.readOnly, s.metrics = true, stored.NewMetrics(nil)
	db, err := s.openFile()
	if err != nil {
		return nil, err
	}
	s.db = db
	if _, err := s.schema(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// open checks the whole file before it lets bbolt write to it: bbolt trusts its list of free pages, and would
// overwrite pages that a damaged list calls free.
func (s *Store) open() error {
	if err := newStore(s.path, s.format).readAll(); err != nil {
		return err
	}
	db, err := s.openFile()
	if err != nil {
		return err
	}
	if err := s.checkPages(db); err != nil {
		return errors.Join(err, db.Close())
	}
	s.db = db
	return nil
}

// readAll opens the file for reading only, and checks all that is in it.
func (s *Store) readAll() error {
	s.readOnly = true
	db, err := s.openFile()
	if err != nil {
		return err
	}
	s.db = db
	return errors.Join(s.inspect(), db.Close())
}

// openFile opens the bbolt file and checks the structure of its pages.
func (s *Store) openFile() (db *bbolt.DB, err error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, fmt.Errorf("open the state: %w", err)
	}
	if info.Size() == 0 {
		return nil, s.corrupt("the file is empty")
	}
	err = s.guard(func() (err error) {
		db, err = bbolt.Open(s.path, 0o600, &bbolt.Options{
			Timeout: lockWait, ReadOnly: s.readOnly, InitialMmapSize: mapSize,
		})
		return err
	})
	var errno syscall.Errno
	switch {
	case err == nil:
	case errors.Is(err, berrors.ErrTimeout):
		return nil, &LockedError{Path: s.path}
	case isCorrupt(err):
		return nil, err
	case errors.As(err, &errno):
		return nil, fmt.Errorf("open the state: %w", err)
	default: // what bbolt says of a file that it cannot use
		return nil, s.corrupt("%v", err)
	}
	if err := s.checkFile(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// checkFile looks at the plain file before bbolt follows its pages.
func (s *Store) checkFile(db *bbolt.DB) error {
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("open the state: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open the state: %w", err)
	}
	if err := checkStructure(f, info.Size(), db.Info().PageSize); err != nil {
		return s.corrupt("%v", err)
	}
	return nil
}

// inspect refuses a newer schema and anything that Verify finds.
func (s *Store) inspect() error {
	if _, err := s.schema(s.db); err != nil {
		return err
	}
	report, err := s.Verify(context.Background())
	if err != nil {
		return err
	}
	if !report.Consistent() {
		return s.corrupt("%s", report)
	}
	return nil
}

// checkPages runs bbolt's own check of its pages and of its list of free ones. It also counts the entries.
func (s *Store) checkPages(db *bbolt.DB) error {
	return s.guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			var first error
			for err := range tx.Check() {
				if first == nil {
					first = err
				}
			}
			if first != nil {
				return s.corrupt("%v", first)
			}
			s.entries, _ = head(tx)
			return nil
		})
	})
}

// schema reads the file's schema and refuses one that is newer than this keyd's.
func (s *Store) schema(db *bbolt.DB) (int, error) {
	var found int
	err := s.guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			for _, name := range [][]byte{bucketMeta, bucketRecords, bucketAudit} {
				if tx.Bucket(name) == nil {
					return s.corrupt("it has no bucket %q", name)
				}
			}
			v := tx.Bucket(bucketMeta).Get(keySchema)
			if len(v) != 8 {
				return s.corrupt("it does not name its schema")
			}
			found = int(binary.BigEndian.Uint64(v))
			return nil
		})
	})
	if err == nil && found > s.format.version {
		err = &SchemaError{Path: s.path, Found: found, Known: s.format.version}
	}
	return found, err
}

// privateDir creates dir, or refuses an existing one that others than its owner can enter.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	return private(dir)
}

// private refuses a directory that others than its owner can enter.
func private(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("open the state directory: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return &AccessError{fmt.Errorf("the state directory %s has mode %04o, so others can enter it: chmod 0700 %s",
			dir, mode, dir)}
	}
	return nil
}

// AccessError says that keyd must not or cannot use the state because of its owner or mode. Only a person can change
// that.
type AccessError struct{ Err error }

func (e *AccessError) Error() string { return e.Err.Error() }

func (e *AccessError) Unwrap() error { return e.Err }

// Class is key.Refused.
func (e *AccessError) Class() key.Class { return key.Refused }

// ensureFile creates an empty state under a temporary name first. So a keyd.db that is empty or has no schema is
// always a damaged one.
func ensureFile(f format, path string) error {
	if _, err := os.Lstat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := publish(path, func(temp string) error { return create(f, temp) })
	if errors.Is(err, fs.ErrExist) {
		return nil // another opener was first; the lock decides
	}
	if err != nil {
		return fmt.Errorf("create the state: %w", err)
	}
	return nil
}

// create makes an empty state in an empty file.
func create(f format, path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketRecords, bucketAudit} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(keySchema, stored.Number(uint64(f.version)))
	})
	return errors.Join(err, db.Close())
}

// dropCache makes the kernel drop the file's clean pages: after a failed flush they may show what the disk does not
// hold. The call is advice, and does no harm if the kernel ignores it.
func dropCache(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
}

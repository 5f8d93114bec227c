package shared

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// SeenFile is the file in the state directory that has the last entry this host saw in the store.
const SeenFile = "seen-head"

// The file has two slots, which are written in turn, so that a crash leaves at least one of them whole. A slot is turn
// (8) ‖ number of the entry (8) ‖ its hash (32) ‖ hash of the chain's first entry (32) ‖ SHA-256 of all that (32).
const (
	slotSize  = 512 // a sector, which a disk writes whole or not at all
	slotBody  = 8 + 8 + 2*sha256.Size
	seenBytes = 2 * slotSize
)

// seenDomain separates the hashes of slots from all others.
const seenDomain = "keyd seen head v1\n"

// seen is the last entry that this host saw. Its own disk has it, unless unsaved.
type seen struct {
	stored.Tip
	first   chain.Hash // of the store's first entry: tells a store that lost changes from another store
	unsaved bool       // the disk has an earlier one, because it took no more
	turn    uint64
	file    *os.File
	flush   func(*os.File) error // fdatasync; tests count it, or have it fail
}

// openSeen opens the file, or makes it. Errors: *bolt.LockedError while another process has it open.
func openSeen(dir string) (*seen, error) {
	path := filepath.Join(dir, SeenFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open what this host saw of the store: %w", err)
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s := &seen{file: f, flush: func(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }}
	if err := s.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return s, nil
}

// lockWait is how long an opener waits for a predecessor that is just ending.
const lockWait = time.Second

// lockFile keeps two daemons from sharing a state directory. The lock ends with the process.
func lockFile(f *os.File) error {
	for end := time.Now().Add(lockWait); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(end) {
			return &bolt.LockedError{Path: f.Name()}
		}
	}
}

var errSeenDamaged = errors.New("the last entry that this host saw of the store cannot be read, so nobody can tell " +
	"whether the store lost changes: compare the end of `keyd audit export` with your own notes, then remove this file")

// read takes the newer slot that is whole. A fresh file has two slots of zeros.
func (s *seen) read() error {
	b := make([]byte, seenBytes)
	_, err := s.file.ReadAt(b, 0)
	switch {
	case errors.Is(err, io.EOF) && bytes.Equal(b, make([]byte, seenBytes)):
		return s.fresh()
	case err != nil:
		return fmt.Errorf("%w: %w", errSeenDamaged, err)
	}
	whole := false
	for slot := range slices.Chunk(b, slotSize) {
		zero := bytes.Equal(slot, make([]byte, slotSize))
		body, sum := slot[:slotBody], slot[slotBody:slotBody+sha256.Size]
		if !zero && !bytes.Equal(sum, slotSum(body)) {
			continue
		}
		whole = true
		if turn := binary.BigEndian.Uint64(body); turn > s.turn {
			s.turn, s.Seq = turn, binary.BigEndian.Uint64(body[8:])
			s.Hash, s.first = chain.Hash(body[16:48]), chain.Hash(body[48:80])
		}
	}
	if !whole {
		return errSeenDamaged
	}
	return nil
}

// fresh gives the file its whole size, and a place in the directory that outlives a crash.
func (s *seen) fresh() error {
	if _, err := s.file.WriteAt(make([]byte, seenBytes), 0); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(s.file.Name()))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func slotSum(body []byte) []byte {
	sum := sha256.Sum256(append([]byte(seenDomain), body...))
	return sum[:]
}

// put remembers a head on the disk before it returns. After an error this process remembers it all the same.
func (s *seen) put(tip stored.Tip, first chain.Hash) error {
	if tip == s.Tip && first == s.first && !s.unsaved {
		return nil
	}
	s.Tip, s.first, s.unsaved = tip, first, true
	turn := s.turn + 1
	body := bytes.Join([][]byte{stored.Number(turn), stored.Number(tip.Seq), tip.Hash[:], first[:]}, nil)
	slot := make([]byte, slotSize)
	copy(slot[copy(slot, body):], slotSum(body))
	if _, err := s.file.WriteAt(slot, int64(turn%2)*slotSize); err != nil {
		return err
	}
	if err := s.flush(s.file); err != nil {
		return err
	}
	s.turn, s.unsaved = turn, false
	return nil
}

func (s *seen) close() error { return s.file.Close() }

package shared

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/keyd-project/keyd/internal/store/stored"
)

// What an engine may not take in one blob is kept in parts. They lie on one of two sides, which are used in turn: the
// first blob says on which and how many, and is replaced last. So a crash leaves what was there whole.
//
//	ledger/NAME         side (1) ‖ number of parts (1) ‖ first part
//	status/NAME         the status, or, if it is large: 0 (1) ‖ side (1) ‖ number of parts (1) ‖ first part
//	part/SIDE/N/NAME    part N, from 1
const partSize = stored.MaxBlob / 2

var errNoLedger = errors.New("there is no such ledger")

// partName names a part of a ledger by its name, and of a status by its blob's, which no ledger has.
func partName(side byte, n int, name string) string {
	return fmt.Sprintf("%s%d/%d/%s", partBlob, side, n, name)
}

// LoadLedger returns what SaveLedger saved last under that name, nil for nothing. Errors: *DamagedError,
// *stored.EngineError.
func (s *Store) LoadLedger(ctx context.Context, name string) ([]byte, error) {
	if s.isClosed() {
		return nil, stored.ErrClosed
	}
	value, err := s.ledger(ctx, name)
	if errors.Is(err, errNoLedger) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	blob, err := stored.ParseLedger(name, value)
	if err != nil {
		return nil, s.damaged("%v", err)
	}
	return blob, nil
}

// ledger returns the bytes of a ledger, whole.
func (s *Store) ledger(ctx context.Context, name string) ([]byte, error) {
	head, err := s.engine.Blob(ctx, ledgerBlob+name)
	switch {
	case err != nil:
		return nil, err
	case head == nil:
		return nil, errNoLedger
	case len(head) < 2:
		return nil, s.damaged("the ledger of %q is cut short", name)
	}
	return s.joined(ctx, name, head)
}

// joined is a blob in parts, whose first one begins with the side and their number.
func (s *Store) joined(ctx context.Context, name string, head []byte) ([]byte, error) {
	value := bytes.Clone(head[2:])
	for n := 1; n < int(head[1]); n++ {
		part, err := s.engine.Blob(ctx, partName(head[0], n, name))
		if err != nil {
			return nil, err
		}
		value = append(value, part...)
	}
	return value, nil
}

// SaveLedger replaces the ledger of that name: what keyd noted for itself of the world outside. It is not in the audit
// chain; package bolt says why that is enough. Errors: *stored.EpochError, *HeadMissing, *HaltedError,
// *stored.EngineError.
func (s *Store) SaveLedger(ctx context.Context, name string, blob []byte) error {
	value, err := stored.EncodeLedger(name, blob)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.isClosed() {
		return stored.ErrClosed
	}
	if err := s.writable(ctx); err != nil {
		return err
	}
	return putLedger(ctx, name, value, s.engine.Blob, s.putBlob)
}

// putLedger replaces the bytes of a ledger.
func putLedger(
	ctx context.Context, name string, value []byte, get func(context.Context, string) ([]byte, error),
	put func(context.Context, string, []byte) error,
) error {
	side := byte(0)
	if len(value) > partSize {
		had, err := get(ctx, ledgerBlob+name)
		if err != nil {
			return err
		}
		if len(had) > 0 {
			side = 1 - had[0]&1
		}
	}
	head, err := putParts(ctx, side, name, value, put)
	if err != nil {
		return err
	}
	return put(ctx, ledgerBlob+name, head)
}

// putParts puts all parts but the first, and returns that one, which begins with the side and the number of parts.
func putParts(
	ctx context.Context, side byte, name string, value []byte, put func(context.Context, string, []byte) error,
) (head []byte, err error) {
	first, rest := value[:min(len(value), partSize)], value[min(len(value), partSize):]
	parts := byte(1)
	for ; len(rest) > 0; parts++ {
		n := min(len(rest), partSize)
		if err := put(ctx, partName(side, int(parts), name), rest[:n]); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	return append([]byte{side, parts}, first...), nil
}

package shared

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/keyd-project/keyd/internal/store/stored"
)

// A ledger that an engine may not take in one blob is kept in parts. They lie on one of two sides, which are used in
// turn: the ledger's own blob says on which and how many, and is replaced last. So a crash leaves the old ledger whole.
//
//	ledger/NAME         side (1) ‖ number of parts (1) ‖ first part
//	part/SIDE/N/NAME    part N, from 1
const ledgerPart = stored.MaxBlob / 2

var errNoLedger = errors.New("there is no such ledger")

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
	first, rest := value[:min(len(value), ledgerPart)], value[min(len(value), ledgerPart):]
	side, parts := byte(0), byte(1)
	if len(rest) > 0 {
		had, err := get(ctx, ledgerBlob+name)
		if err != nil {
			return err
		}
		if len(had) > 0 {
			side = 1 - had[0]&1
		}
	}
	for ; len(rest) > 0; parts++ {
		n := min(len(rest), ledgerPart)
		if err := put(ctx, partName(side, int(parts), name), rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return put(ctx, ledgerBlob+name, append([]byte{side, parts}, first...))
}

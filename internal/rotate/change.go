package rotate

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// changeTries limits how often a change starts over because the loop saved first.
const changeTries = 20

// change loads a record, lets f change it, and saves it with f's entries, again from the start when somebody else saved
// in between. Without entries nothing has changed, and nothing is saved.
func (r *Rotator) change(ctx context.Context, name string, f func(*record.Record) ([]chain.Entry, error)) error {
	return tryChange("key "+name, func() (save func() error, err error) {
		rec, err := r.load(ctx, name)
		if err != nil {
			return nil, err
		}
		rec = rec.Clone()
		entries, err := f(&rec)
		if err != nil || len(entries) == 0 {
			return nil, err
		}
		return func() error {
			_, err := r.saveAll(ctx, rec, entries)
			return err
		}, nil
	})
}

// changeVault is change for a vault's record.
func (r *Rotator) changeVault(ctx context.Context, url string, f func(*record.Vault) ([]chain.Entry, error)) error {
	return tryChange("vault "+url, func() (save func() error, err error) {
		rec, err := r.loadVault(ctx, url)
		if err != nil {
			return nil, err
		}
		rec = rec.Clone()
		entries, err := f(&rec)
		if err != nil || len(entries) == 0 {
			return nil, err
		}
		return func() error {
			_, err := r.saveVaultAll(ctx, rec, entries)
			return err
		}, nil
	})
}

// tryChange prepares a change and saves it, again from the start when somebody else saved in between. prepare returns
// no save if there is nothing to change; its error ends the try.
func tryChange(of string, prepare func() (save func() error, err error)) error {
	var err error
	for range changeTries {
		save, refused := prepare()
		if save == nil || refused != nil {
			return refused
		}
		if err = save(); err == nil {
			return nil
		}
		if !changedMeanwhile(err) {
			return fmt.Errorf("keyd did not record the request for %s: %w", of, err)
		}
	}
	return fmt.Errorf("keyd did not record the request for %s, because other changes came first %d times: try "+
		"again: %w", of, changeTries, err)
}

// changedMeanwhile reports whether a record was not saved because somebody else saved it first. A disk that takes no
// writes is another matter.
func changedMeanwhile(err error) bool {
	var disk interface{ Unwritable() bool }
	return key.ClassOf(err) == key.Retry && !errors.As(err, &disk)
}

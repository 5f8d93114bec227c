package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/web"
)

// checkNames refuses keys whose names differ only in case from a record's: keyd would take each for a new key, and
// then hold it, because its versions in the vaults belong to another record. Errors: the joined *key.CaseErrors;
// those of the store.
func checkNames(ctx context.Context, s Store, policies []key.Policy) error {
	names, err := s.Names(ctx)
	if err != nil {
		return fmt.Errorf("list the records: %w", err)
	}
	placed := make(map[string]map[string]bool, len(names)) // by the name in lower case, and as the record has it
	for _, name := range names {
		rec, err := s.Load(ctx, name)
		if err != nil {
			return fmt.Errorf("read the record of %s: %w", name, err)
		}
		lower := strings.ToLower(name)
		if placed[lower] == nil {
			placed[lower] = map[string]bool{}
		}
		placed[lower][name] = rec.AnyPlaced()
	}
	var refused []error
	for _, p := range policies {
		refused = append(refused, key.CheckCase(p.Key, placed[strings.ToLower(p.Key)]))
	}
	return errors.Join(refused...)
}

// CheckStopped checks a configuration against the state and the web listener's address while no daemon runs, as the
// start would. unseen says why this process could not look. Errors: config.Problems about the state's owner or mode;
// the joined *key.CaseErrors; those of the store and of web.CheckListen.
func CheckStopped(ctx context.Context, c *config.Config) (unseen, err error) {
	if c.Store.Shared() {
		return checkSharedStopped(ctx, c)
	}
	err = bolt.Check(c.StateDir)
	var locked *bolt.LockedError
	if errors.Is(err, fs.ErrPermission) || errors.As(err, &locked) {
		return err, nil
	}
	if err == nil {
		err = web.CheckListen(c.Web.Listen)
	}
	if err != nil {
		return nil, forAPerson(c, "state_dir", err)
	}
	s, err := openState(stateFile(c.StateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, errors.Join(checkNames(ctx, s, c.Policies), s.Close())
}

// checkSharedStopped is CheckStopped for a store for several hosts. One that does not answer is not seen.
func checkSharedStopped(ctx context.Context, c *config.Config) (unseen, err error) {
	if err := errors.Join(bolt.CheckLeft(c.StateDir), web.CheckListen(c.Web.Listen)); err != nil {
		return nil, err
	}
	e, err := openOwn(ctx, c)
	if err != nil {
		return err, nil
	}
	s, done, err := readShared(ctx, e)
	if err != nil {
		return errors.Join(err, e.Close()), nil
	}
	return nil, errors.Join(checkNames(ctx, s, c.Policies), done())
}

package bolt

import (
	"context"
	"fmt"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// keySealed has, in the meta bucket, why the file takes no changes any more.
var keySealed = []byte("sealed")

// SealedError says that the state was moved elsewhere, and where.
type SealedError struct{ Path, Why string }

func (e *SealedError) Error() string {
	return fmt.Sprintf("the state in %s takes no changes any more: %s. Put the store that it names into the "+
		"configuration; keyd audit --state %[1]s still reads it", e.Path, e.Why)
}

// Is reports that it is a stored.ErrSealed.
func (e *SealedError) Is(err error) bool { return err == stored.ErrSealed }

// Class is Refused.
func (e *SealedError) Class() key.Class { return key.Refused }

// refuseSealed returns a *SealedError if the open file is sealed.
func (s *Store) refuseSealed() error {
	why, err := s.Sealed(context.Background())
	if err == nil && why != "" {
		err = &SealedError{Path: s.path, Why: why}
	}
	return err
}

package bolt

import (
	"context"
)

// keySealed has, in the meta bucket, why the file takes no changes any more.
var keySealed = []byte("sealed")

// refuseSealed returns a *SealedError if the open file is sealed.
func (s *Store) refuseSealed() error {
	why, err := s.Sealed(context.Background())
	if err == nil && why != "" {
		err = &SealedError{Path: s.path, Why: why}
	}
	return err
}

package etcd

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/credentials"
)

// signedOut are the errors after which a user has to sign in again: a member forgets tokens when it starts, and all do
// when somebody changes users or roles.
var signedOut = []error{rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision, rpctypes.ErrUserEmpty}

// session is a user that has signed in. It stands in for what etcd's client has for that: that one shows its old token
// when it signs in again, etcd 3.4 refuses the token, and the client tries for ever. It would also sign in again, which
// is slow on purpose, for each renewal of a lease.
type session struct {
	signing sync.Mutex
	token   atomic.Pointer[string]
}

// GetRequestMetadata shows the token. See credentials.PerRPCCredentials.
func (s *session) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	info, _ := credentials.RequestInfoFromContext(ctx)
	token := s.token.Load()
	if token == nil || info.Method == "/etcdserverpb.Auth/Authenticate" {
		return nil, nil
	}
	return map[string]string{rpctypes.TokenFieldNameGRPC: *token}, nil
}

// RequireTransportSecurity leaves that to Config.Check, which allows the loopback.
func (s *session) RequireTransportSecurity() bool { return false }

// signIn signs in with the password that the file has now, unless somebody did so since the token was this one.
func (e *Engine) signIn(ctx context.Context, old *string) error {
	if e.cfg.User == "" {
		return nil
	}
	e.session.signing.Lock()
	defer e.session.signing.Unlock()
	if e.session.token.Load() != old {
		return nil
	}
	password, err := e.cfg.password()
	if err != nil {
		return err
	}
	r, err := e.client.Authenticate(clientv3.WithRequireLeader(ctx), e.cfg.User, password)
	switch {
	case errors.Is(err, rpctypes.ErrAuthNotEnabled):
		return nil // then nobody has to
	case err == nil:
		e.session.token.Store(&r.Token)
	}
	return err
}

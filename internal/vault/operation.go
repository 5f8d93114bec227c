package vault

import (
	"context"
	"sync/atomic"

	"github.com/keyd-project/keyd/internal/quota"
)

// operation is one kind of call.
type operation struct {
	name  string // metric label
	words string // for error texts
	// changes: the call changes what the vault holds. If the answer is lost, keyd does not know whether the change
	// happened.
	changes bool
	// logged is how the vault's audit log names the call if it uses the key's private half or encrypts under the key;
	// "" for others.
	logged string
	// as is what the call counts as against the vault's limits.
	as quota.Operation
}

var (
	opGetKEK         = operation{name: "get_kek", words: "get key exchange key"}
	opCreateKEK      = operation{name: "create_kek", words: "create key exchange key", changes: true, as: quota.Create}
	opImport         = operation{name: "import", words: "import key", changes: true, as: quota.Import}
	opVersions       = operation{name: "list_versions", words: "list versions of key"}
	opSweep          = operation{name: "list_keys", words: "list the vault's keys"}
	opNewest         = operation{name: "get_newest", words: "get newest version of key"}
	opGet            = operation{name: "get", words: "get key"}
	opWrap           = operation{name: "wrap", words: "wrap with key", logged: "KeyWrap", as: quota.Encrypt}
	opUnwrap         = operation{name: "unwrap", words: "unwrap with key", logged: "KeyUnwrap", as: quota.Decrypt}
	opEncrypt        = operation{name: "encrypt", words: "encrypt with key", logged: "KeyEncrypt", as: quota.Encrypt}
	opDecrypt        = operation{name: "decrypt", words: "decrypt with key", logged: "KeyDecrypt", as: quota.Decrypt}
	opSign           = operation{name: "sign", words: "sign with key", logged: "KeySign", as: quota.Sign}
	opVerify         = operation{name: "verify", words: "verify with key", as: quota.Verify}
	opDisable        = operation{name: "disable", words: "disable key", changes: true}
	opEnable         = operation{name: "enable", words: "enable key", changes: true}
	opDeleted        = operation{name: "get_deleted", words: "look for deleted key"}
	opRotationPolicy = operation{name: "get_rotation_policy", words: "get rotation policy of key"}
	opAttestation    = operation{name: "get_attestation", words: "get attestation of key"}
	opLocalRoles     = operation{name: "list_roles", words: "list the roles on key"}
	opRecover        = operation{name: "recover", words: "recover key", changes: true}
)

// call is one operation on one key. It travels in the context, where the policies of the pipeline find it.
type call struct {
	op      operation
	key     string
	version string
	effect  *effect
}

// effect remembers whether the vault may have acted on a call.
type effect struct{ maybe atomic.Bool }

func (e *effect) possible() bool { return e.maybe.Load() }

type callKey struct{}

func withCall(ctx context.Context, k call) context.Context {
	return context.WithValue(ctx, callKey{}, k)
}

func callOf(ctx context.Context) call {
	k, ok := ctx.Value(callKey{}).(call)
	if !ok {
		k.effect = &effect{}
	}
	return k
}

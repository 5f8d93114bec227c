package emulator

import "slices"

// permission is what a key must allow for an operation. Dates block only new
// ciphertexts and signatures; old ones can always be used.
type permission struct {
	keyOp string
	dated bool
}

var permissions = map[string]permission{
	opWrap:    {"wrapKey", true},
	opUnwrap:  {"unwrapKey", false},
	opEncrypt: {"encrypt", true},
	opDecrypt: {"decrypt", false},
	opSign:    {"sign", true},
	opVerify:  {"verify", false},
}

// compute runs one cryptographic operation with the actual material.
func (v *Vault) compute(t target, q operationRequest) (any, error) {
	k, ver, err := v.replica().version(t.key, t.version)
	if err != nil {
		return nil, err
	}
	if err := ver.permits(t.operation, v.opts.Now().Unix()); err != nil {
		return nil, err
	}
	if t.operation == opVerify {
		ok, err := ver.held.verify(q.Algorithm, q.Digest, q.Value)
		if v.config.Profile == ManagedHSM {
			return hsmVerifyResult{q.Algorithm, v.id("keys", k.name, ver.id), ok}, err
		}
		return verifyResult{ok}, err
	}
	result, err := ver.compute(t.operation, q)
	result.KID = v.id("keys", k.name, ver.id)
	if v.config.Profile == ManagedHSM {
		result.Alg = q.Algorithm
	}
	return result, err
}

func (ver *version) permits(operation string, now int64) error {
	p := permissions[operation]
	switch {
	case !ver.enabled:
		return forbidden("KeyDisabled", "Operation %s is not allowed on a disabled key.", p.keyOp)
	case !ver.may(p.keyOp):
		return forbidden("KeyOperationForbidden", "Operation %s is not permitted on this key.", p.keyOp)
	case p.dated && ver.nbf != nil && now < *ver.nbf:
		return forbidden("KeyNotYetValid", "Operation %s is not allowed on a key that is not yet valid.", p.keyOp)
	case p.dated && ver.exp != nil && now >= *ver.exp:
		return forbidden("KeyExpired", "Operation %s is not allowed on an expired key.", p.keyOp)
	}
	return nil
}

// may reports whether key_ops contain an operation.
func (ver *version) may(keyOp string) bool { return slices.Contains(ver.ops, keyOp) }

func (ver *version) compute(operation string, q operationRequest) (operationResult, error) {
	result, err := ver.held.compute(operation, q)
	opens := operation == opUnwrap || operation == opDecrypt
	if err == nil && opens && ver.garbled && len(result.Value) > 0 {
		result.Value[0] ^= 1
	}
	return result, err
}

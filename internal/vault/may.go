package vault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/quota"
)

// Right is one action on a vault's keys that an identity may or may not have the permission for, spelled like the
// permission in an access policy.
type Right string

// The rights that keyd asks about.
const (
	MayGet          Right = "get"
	MayList         Right = "list"
	MayCreate       Right = "create"
	MayImport       Right = "import"
	MayUpdate       Right = "update"
	MayWrap         Right = "wrapKey"
	MayUnwrap       Right = "unwrapKey"
	MayEncrypt      Right = "encrypt"
	MayDecrypt      Right = "decrypt"
	MaySign         Right = "sign"
	MaySeeDeleted   Right = "get deleted"
	MayReadRotation Right = "getrotationpolicy"
	MayDelete       Right = "delete"
	MayPurge        Right = "purge"
	MayBackup       Right = "backup"
	MayRelease      Right = "release"
	MayRecover      Right = "recover"
	MayRotate       Right = "rotate"
	MaySetRotation  Right = "setrotationpolicy"
)

const (
	absentPrefix = "keyd-check-"
	nothing      = "keyd-check" // stands for an invalid kty, transfer blob and ciphertext
)

// May reports whether the identity has a right. It tries the action in a way that certainly changes nothing: on a key
// whose name has 128 random bits, made for this one call, and, where the call could create a key, with a body that no
// vault accepts. A vault checks access before it looks at the request. So 403 with the code of an access decision
// means no; an answer that the key does not exist, or that the body is invalid, means yes. Any other answer is an
// error.
func (c *Client) May(ctx context.Context, r Right) (bool, error) {
	name, version := absentPrefix+randomHex(), randomHex()
	op := operation{name: "check", words: "try the right to " + string(r) + " with", as: countsAs()[r]}
	if r == MaySeeDeleted {
		op.name = opDeleted.name // for the role in the hint
	}
	ctx = quota.WithSpec(ctx, key.RSA2048) // no size counts where there is no key
	err := c.do(ctx, op, name, version, func(ctx context.Context) error { return c.try(ctx, r, name, version) })
	var e *Error
	switch {
	case err == nil && r.onlyReads():
		return true, nil
	case err == nil:
		return false, c.do(ctx, op, name, "", func(context.Context) error {
			return badAnswerf(
				"the vault reports success, which is impossible: if it now has a key %s, remove that key", name,
			)
		})
	case !errors.As(err, &e):
		return false, err
	case e.Inner == innerByRBAC || e.Inner == innerByPolicy:
		return false, nil
	case e.Code == codeKeyNotFound, e.Status == http.StatusBadRequest:
		return true, nil
	}
	return false, err
}

// countsAs says as what the call for a right counts; as reading, unless it is listed.
func countsAs() map[Right]quota.Operation {
	return map[Right]quota.Operation{
		MayCreate: quota.Create, MayImport: quota.Import, MaySign: quota.Sign,
		MayWrap: quota.Encrypt, MayEncrypt: quota.Encrypt, MayUnwrap: quota.Decrypt, MayDecrypt: quota.Decrypt,
	}
}

// onlyReads reports whether the call for this right never changes anything.
func (r Right) onlyReads() bool {
	return !slices.Contains([]Right{MayCreate, MayImport, MayUpdate, MayDelete, MayPurge, MayRecover, MayRotate,
		MaySetRotation}, r)
}

// try makes one call on a key that does not exist. Neither create nor import can succeed: no vault knows the kty or
// can open the blob.
func (c *Client) try(ctx context.Context, r Right, name, version string) (err error) {
	sealed := azkeys.KeyOperationParameters{
		Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256),
		Value:     []byte(nothing),
	}
	switch r {
	case MayGet:
		_, err = c.keys.GetKey(ctx, name, "", nil)
	case MayList:
		_, err = c.keys.NewListKeyPropertiesVersionsPager(name, nil).NextPage(ctx)
	case MayCreate:
		_, err = c.keys.CreateKey(
			c.once(ctx), name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyType(nothing))}, nil,
		)
	case MayImport:
		_, err = c.keys.ImportKey(c.once(ctx), name, azkeys.ImportKeyParameters{
			Key: &azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), T: []byte(nothing)}}, nil)
	case MayUpdate:
		_, err = c.keys.UpdateKey(ctx, name, version, azkeys.UpdateKeyParameters{}, nil)
	case MayWrap:
		_, err = c.keys.WrapKey(ctx, name, version, sealed, nil)
	case MayUnwrap:
		_, err = c.keys.UnwrapKey(ctx, name, version, sealed, nil)
	case MayEncrypt:
		_, err = c.keys.Encrypt(ctx, name, version, sealed, nil)
	case MayDecrypt:
		_, err = c.keys.Decrypt(ctx, name, version, sealed, nil)
	case MaySign:
		_, err = c.keys.Sign(
			ctx, name, version,
			azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmRS256), Value: make([]byte, 32)}, nil,
		)
	case MaySeeDeleted:
		_, err = c.keys.GetDeletedKey(ctx, name, nil)
	case MayReadRotation:
		_, err = c.keys.GetKeyRotationPolicy(ctx, name, nil)
	case MayDelete:
		_, err = c.keys.DeleteKey(ctx, name, nil)
	case MayPurge:
		_, err = c.keys.PurgeDeletedKey(ctx, name, nil)
	default:
		err = c.tryUnneeded(ctx, r, name, version)
	}
	return err
}

// tryUnneeded makes one call that keyd never makes otherwise, on a key that does not exist.
func (c *Client) tryUnneeded(ctx context.Context, r Right, name, version string) (err error) {
	switch r {
	case MayBackup:
		_, err = c.keys.BackupKey(ctx, name, nil)
	case MayRelease:
		_, err = c.keys.Release(ctx, name, version,
			azkeys.ReleaseParameters{TargetAttestationToken: to.Ptr(nothing)}, nil)
	case MayRecover:
		_, err = c.keys.RecoverDeletedKey(ctx, name, nil)
	case MayRotate:
		_, err = c.keys.RotateKey(ctx, name, nil)
	case MaySetRotation:
		_, err = c.keys.UpdateKeyRotationPolicy(ctx, name, azkeys.KeyRotationPolicy{}, nil)
	default:
		err = refusef("", "keyd cannot try this right")
	}
	return err
}

func randomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// MayUse returns the rights that keyd needs to prove a version with these operations.
func MayUse(ops []key.Operation) []Right {
	pair, ok := key.ProofPair(ops)
	switch {
	case !ok || pair[0] == key.WrapKey:
		return []Right{MayWrap, MayUnwrap}
	case pair[0] == key.Encrypt:
		return []Right{MayEncrypt, MayDecrypt}
	}
	return []Right{MaySign}
}

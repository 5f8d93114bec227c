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
)

// Right is one thing that an identity may or may not do with a vault's keys, spelled
// like the permission of an access policy.
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
)

const (
	absentPrefix = "keyd-check-"
	nothing      = "keyd-check" // for a kty, a transfer blob and a ciphertext that are none
)

// May reports whether the identity has a right, by trying it in a way that certainly
// changes nothing: on a key with a name of 128 random bits that is made up for this
// one call, and, where a key could come of it, with a body that no vault takes. A
// vault decides who may do what before it looks at what is asked, so that 403 with
// the code of an access decision means no, and that there is no such key, or that
// the body is not valid, means yes. Any other answer is an error.
func (c *Client) May(ctx context.Context, r Right) (bool, error) {
	name, version := absentPrefix+randomHex(), randomHex()
	op := operation{name: "check", words: "try the right to " + string(r) + " with"}
	if r == MaySeeDeleted {
		op.name = opDeleted.name // for the role in the hint
	}
	err := c.do(ctx, op, name, version, func(ctx context.Context) error { return c.try(ctx, r, name, version) })
	var e *Error
	switch {
	case err == nil && r.onlyReads():
		return true, nil
	case err == nil:
		return false, c.do(ctx, op, name, "", func(context.Context) error {
			return badAnswerf(
				"it says that it did it, which cannot be: look whether it has a key %s now, and remove it", name,
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

// onlyReads reports whether the call of this right changes nothing, whatever it is made on.
func (r Right) onlyReads() bool {
	return !slices.Contains([]Right{MayCreate, MayImport, MayUpdate, MayDelete, MayPurge}, r)
}

// try makes one call on what is not there. Neither create nor import can succeed:
// no vault knows the kty, or can open the blob.
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
		err = refusef("", "keyd cannot try this right")
	}
	return err
}

func randomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// MayUse is the rights that proving a version with these operations needs.
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

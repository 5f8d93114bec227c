package vault

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// Wrap encrypts plain in the vault by wrapKey with RSA-OAEP-256 (RFC 7518
// section 4.3: OAEP with SHA-256 and MGF1 with SHA-256).
func (c *Client) Wrap(ctx context.Context, name, version string, plain []byte) ([]byte, error) {
	return c.transform(
		ctx,
		opWrap,
		name,
		version,
		plain,
		func(ctx context.Context, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
			r, err := c.keys.WrapKey(ctx, name, version, p, nil)
			return r.KeyOperationResult, err
		},
	)
}

// Unwrap undoes Wrap in the vault. The version is always named: without one the
// vault would take the newest, which need not be the one that wrapped.
func (c *Client) Unwrap(ctx context.Context, name, version string, cipher []byte) ([]byte, error) {
	return c.transform(
		ctx,
		opUnwrap,
		name,
		version,
		cipher,
		func(ctx context.Context, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
			r, err := c.keys.UnwrapKey(ctx, name, version, p, nil)
			return r.KeyOperationResult, err
		},
	)
}

// Encrypt does the same as Wrap, for keys with the operation encrypt.
func (c *Client) Encrypt(ctx context.Context, name, version string, plain []byte) ([]byte, error) {
	return c.transform(
		ctx,
		opEncrypt,
		name,
		version,
		plain,
		func(ctx context.Context, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
			r, err := c.keys.Encrypt(ctx, name, version, p, nil)
			return r.KeyOperationResult, err
		},
	)
}

// Decrypt undoes Encrypt.
func (c *Client) Decrypt(ctx context.Context, name, version string, cipher []byte) ([]byte, error) {
	return c.transform(
		ctx,
		opDecrypt,
		name,
		version,
		cipher,
		func(ctx context.Context, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
			r, err := c.keys.Decrypt(ctx, name, version, p, nil)
			return r.KeyOperationResult, err
		},
	)
}

// Sign signs a SHA-256 digest with RS256 (RFC 7518 section 3.3).
func (c *Client) Sign(ctx context.Context, name, version string, digest []byte) ([]byte, error) {
	return c.result(ctx, opSign, name, version, func(ctx context.Context) (azkeys.KeyOperationResult, error) {
		r, err := c.keys.Sign(ctx, name, version, azkeys.SignParameters{
			Algorithm: to.Ptr(azkeys.SignatureAlgorithmRS256), Value: digest,
		}, nil)
		return r.KeyOperationResult, err
	})
}

// Verify lets the vault check an RS256 signature of a SHA-256 digest.
func (c *Client) Verify(ctx context.Context, name, version string, digest, signature []byte) (bool, error) {
	if version == "" {
		return false, c.noVersion(ctx, opVerify, name)
	}
	var valid bool
	err := c.do(ctx, opVerify, name, version, func(ctx context.Context) error {
		r, err := c.keys.Verify(ctx, name, version, azkeys.VerifyParameters{
			Algorithm: to.Ptr(azkeys.SignatureAlgorithmRS256), Digest: digest, Signature: signature,
		}, nil)
		if err != nil {
			return err
		}
		if r.Value == nil {
			return badAnswerf("it has no value")
		}
		valid = *r.Value
		return nil
	})
	return valid, err
}

func (c *Client) transform(ctx context.Context, op operation, name, version string, in []byte,
	run func(context.Context, azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error),
) ([]byte, error) {
	return c.result(ctx, op, name, version, func(ctx context.Context) (azkeys.KeyOperationResult, error) {
		return run(ctx, azkeys.KeyOperationParameters{
			Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: in,
		})
	})
}

// result runs a cryptographic operation and makes sure that the requested version, and no other, did it.
func (c *Client) result(ctx context.Context, op operation, name, version string,
	run func(context.Context) (azkeys.KeyOperationResult, error),
) ([]byte, error) {
	if version == "" {
		return nil, c.noVersion(ctx, op, name)
	}
	var out []byte
	err := c.do(ctx, op, name, version, func(ctx context.Context) error {
		r, err := run(ctx)
		if err != nil {
			return err
		}
		id, err := c.versionID(r.KID, name)
		if err != nil {
			return err
		}
		if id != version {
			return badAnswerf("version %s did it", id)
		}
		if len(r.Result) == 0 {
			return badAnswerf("it has no result")
		}
		out = r.Result
		return nil
	})
	return out, err
}

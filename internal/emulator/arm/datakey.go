package arm

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// dataKey is an AES-256 key as a consumer stores it: wrapped with a version of a key in
// a vault. It is immutable: a rotation replaces it, and a backup keeps the old one.
type dataKey struct {
	under   keyRef // with its version; zero: the service's own key, which needs no vault
	wrapped []byte // under a zero keyRef, the key itself
	sum     [sha256.Size]byte
}

// newDataKey makes a fresh one.
func (c *consumer) newDataKey(ctx context.Context, under keyRef) (dataKey, []byte, error) {
	plain := make([]byte, 32)
	if _, err := rand.Read(plain); err != nil {
		return dataKey{}, nil, err
	}
	k, err := c.wrap(ctx, under, plain)
	return k, plain, err
}

func (c *consumer) wrap(ctx context.Context, under keyRef, plain []byte) (dataKey, error) {
	return c.service.wrap(ctx, c.identity, under, plain)
}

func (s *Service) wrap(ctx context.Context, who identity, under keyRef, plain []byte) (dataKey, error) {
	k := dataKey{under: under, wrapped: plain, sum: sha256.Sum256(plain)}
	if under == (keyRef{}) {
		return k, nil
	}
	var err error
	k.wrapped, err = s.transform(ctx, who, "wrapkey", under, plain)
	return k, err
}

// open makes the vault unwrap the data key. Nothing is cached between calls.
func (c *consumer) open(ctx context.Context, k dataKey) ([]byte, error) {
	return c.service.open(ctx, c.identity, k)
}

func (s *Service) open(ctx context.Context, who identity, k dataKey) ([]byte, error) {
	if k.under == (keyRef{}) {
		return k.wrapped, nil
	}
	plain, err := s.transform(ctx, who, "unwrapkey", k.under, k.wrapped)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(plain) != k.sum {
		return nil, fmt.Errorf("unwrapkey of %s: the vault gives another data key than was wrapped", k.under)
	}
	return plain, nil
}

// rewrapped returns all data keys wrapped under one version. It leaves those that
// already are.
func (c *consumer) rewrapped(ctx context.Context, under keyRef) ([]dataKey, error) {
	next := make([]dataKey, len(c.keys))
	for i, k := range c.keys {
		if k.under == under {
			next[i] = k
			continue
		}
		plain, err := c.open(ctx, k)
		if err != nil {
			return nil, err
		}
		if next[i], err = c.wrap(ctx, under, plain); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// seal encrypts by AES-256-GCM; the nonce comes first.
func seal(key, data []byte, where string) ([]byte, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	return gcm.Seal(nil, nil, data, []byte(where)), nil
}

func unseal(key, sealed []byte, where string) ([]byte, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	return gcm.Open(nil, nil, sealed, []byte(where))
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

package bench_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the algorithm RSA-OAEP
	"encoding/hex"
	"fmt"
	"runtime"
	"time"

	"github.com/miekg/pkcs11"
	"golang.org/x/sync/errgroup"
)

// pair is a pair that keyd made in the token.
type pair struct {
	public  *rsa.PublicKey
	private pkcs11.ObjectHandle
}

func (t bareToken) pairs(ids []string) (found []pair, err error) {
	for _, text := range ids {
		id, err := hex.DecodeString(text)
		if err != nil {
			return nil, err
		}
		var half [2]pkcs11.ObjectHandle
		for i, class := range []uint{pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_PRIVATE_KEY} {
			if half[i], err = t.find(id, class); err != nil {
				return nil, err
			}
		}
		public, err := t.publicKey(half[0])
		if err != nil {
			return nil, err
		}
		found = append(found, pair{public, half[1]})
	}
	return found, nil
}

func (t bareToken) find(id []byte, class uint) (pkcs11.ObjectHandle, error) {
	err := t.ctx.FindObjectsInit(t.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
	})
	if err != nil {
		return 0, err
	}
	found, _, err := t.ctx.FindObjects(t.session, 2)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%d objects of class %d have the CKA_ID %x", len(found), class, id)
	}
	if err != nil {
		return 0, err
	}
	return found[0], t.ctx.FindObjectsFinal(t.session)
}

// bareCopies imports the pairs under many names, so that there are many versions to prove and few pairs to make.
func bareCopies(j job) (o outcome, err error) {
	t, err := openToken(j)
	if err != nil {
		return o, err
	}
	v, err := signIn(j.Vault)
	if err != nil {
		return o, err
	}
	kek, err := v.keyExchangeKey(j.KEK)
	if err != nil {
		return o, err
	}
	pairs, err := t.pairs(j.Pairs)
	if err != nil {
		return o, err
	}
	for i, p := range pairs {
		wrapped, err := t.wrap(kek.public, p.private)
		if err != nil {
			return o, err
		}
		for n := range j.Times / len(pairs) {
			c := copied{Key: fmt.Sprintf("copy-%d-%03d", i, n), Pair: i}
			if c.Version, err = v.importKey(c.Key, kek, wrapped); err != nil {
				return o, err
			}
			o.Copies = append(o.Copies, c)
		}
	}
	return o, nil
}

// bareProofs proves the copies, as many at a time as there are processors.
func bareProofs(j job) (outcome, error) {
	v, err := signIn(j.Vault)
	if err != nil {
		return outcome{}, err
	}
	return onAllCores(j, func(t bareToken, s pkcs11.SessionHandle, p pair, c copied, _ []byte) error {
		return v.prove(c.Version, p.public, t, s, p.private)
	})
}

// bareOpenings does the private operations of as many proofs, and nothing else.
func bareOpenings(j job) (outcome, error) {
	return onAllCores(j, func(t bareToken, s pkcs11.SessionHandle, p pair, _ copied, sealed []byte) error {
		_, err := t.decrypt(s, p.private, sealed)
		return err
	})
}

// onAllCores does something with each copy, in one session for each processor.
func onAllCores(
	j job, do func(t bareToken, s pkcs11.SessionHandle, p pair, c copied, sealed []byte) error,
) (o outcome, err error) {
	t, err := openToken(j)
	if err != nil {
		return o, err
	}
	pairs, err := t.pairs(j.Pairs)
	if err != nil {
		return o, err
	}
	var sealed [][]byte
	for _, p := range pairs {
		c, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, p.public, make([]byte, 32), nil) //nolint:gosec // as above
		if err != nil {
			return o, err
		}
		sealed = append(sealed, c)
	}
	work := make(chan copied, len(j.Copies))
	for _, c := range j.Copies {
		work <- c
	}
	close(work)
	var sessions []pkcs11.SessionHandle
	for range runtime.NumCPU() {
		s, err := t.open()
		if err != nil {
			return o, err
		}
		sessions = append(sessions, s)
	}
	before, began := processorTime(), time.Now()
	var workers errgroup.Group
	for _, s := range sessions {
		workers.Go(func() error {
			for c := range work {
				if err := do(t, s, pairs[c.Pair], c, sealed[c.Pair]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = workers.Wait()
	return outcome{Processor: processorTime() - before, Wall: time.Since(began)}, err
}

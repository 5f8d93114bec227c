package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
)

// services encrypt under the key and follow its rotation: a storage account and a
// Cosmos DB account in the vault, a disk encryption set in the Managed HSM.
var services = []struct{ kind, name, host string }{
	{"storage", "sadata", vaultHost}, {"cosmos", "orders", vaultHost}, {"disk", "vmdisks", hsmHost},
}

// serviceLimit is how long all services may take to write and to read.
const serviceLimit = 20 * time.Second

// evidence shows that no version is lost, without asking keyd.
type evidence struct {
	vaults    map[string]*emulator.Vault // by nickname
	consumers *arm.Service
	sealed    []sealed
	living    bool // the services are there
}

// sealed is a data key wrapped under one version, as a service does. It must stay readable
// for ever.
type sealed struct {
	vault, version string
	generation     int
	ciphertext     []byte
	sum            [sha256.Size]byte // of the data key
}

func newEvidence(azure *emulator.Emulator) *evidence {
	return &evidence{consumers: azure.Consumers(), vaults: map[string]*emulator.Vault{
		vaultNames[0]: azure.Vault(vaultHost), vaultNames[1]: azure.Vault(hsmHost)}}
}

// seal wraps a data key under a version's public key.
func (e *evidence) seal(vault, version string, generation int) error {
	for _, v := range e.vaults[vault].Versions(keyName) {
		if v.ID != version {
			continue
		}
		dataKey := make([]byte, 32)
		rand.Read(dataKey)
		ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &rsa.PublicKey{N: v.N, E: v.E}, dataKey, nil)
		if err != nil {
			return err
		}
		e.sealed = append(e.sealed, sealed{vault, version, generation, ciphertext, sha256.Sum256(dataKey)})
		return nil
	}
	return fmt.Errorf("keyd says that %s has version %s of %s, and it does not", vault, version, keyName)
}

// openAll unwraps everything that was ever sealed, and counts the versions of
// generations older than newest.
func (e *evidence) openAll(newest int) (older int, err error) {
	for _, s := range e.sealed {
		plain, err := e.vaults[s.vault].Unwrap(keyName, s.version, "RSA-OAEP-256", s.ciphertext)
		if err == nil && sha256.Sum256(plain) != s.sum {
			err = errors.New("it gives another plaintext")
		}
		if err != nil {
			return 0,
				fmt.Errorf("version %s of %s in %s (generation %d) no longer unwraps what was wrapped under it: %w",
					s.version, keyName, s.vault, s.generation, err)
		}
		if s.generation < newest {
			older++
		}
	}
	return older, nil
}

// live makes every service write one item, and read everything that it ever wrote.
func (e *evidence) live() (items int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), serviceLimit)
	defer cancel()
	for _, s := range services {
		if !e.living {
			w, err := arm.ParseSpec(s.kind + "=" + s.name + ",key=https://" + s.host + "/keys/" + keyName)
			if err != nil {
				return 0, err
			}
			if err := e.consumers.Make(ctx, w); err != nil {
				return 0, fmt.Errorf("the service %s cannot use %s: %w", s.name, keyName, err)
			}
		}
		if err := e.consumers.Write(ctx, s.name, []byte(rand.Text())); err != nil {
			return 0, fmt.Errorf("the service %s cannot write: %w", s.name, err)
		}
	}
	e.living = true
	return e.read()
}

// read makes every service read everything that it ever wrote.
func (e *evidence) read() (items int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), serviceLimit)
	defer cancel()
	report := e.consumers.ReadEverything(ctx)
	for _, c := range report.Consumers {
		items += c.Read
	}
	return items, report.Err()
}

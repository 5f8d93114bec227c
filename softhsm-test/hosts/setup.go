package main

import (
	"cmp"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/keyd-project/keyd/internal/emulator"
)

func (w *world) makeAzure() (err error) {
	var vaults []emulator.VaultConfig
	for _, host := range vaultNames {
		vaults = append(
			vaults,
			emulator.VaultConfig{Host: host, Profile: emulator.KeyVaultPremium, PurgeProtection: true},
		)
	}
	w.azure, err = emulator.Start(emulator.Options{Vaults: vaults, Now: w.now})
	if err != nil {
		return err
	}
	w.proxy, err = forward("azure", w.net.here(azureLAN), strings.TrimPrefix(w.azure.ProxyURL(), "http://"))
	return errors.Join(err, os.WriteFile(w.path("ca.pem"), w.azure.CAPEM(), 0o600))
}

// makeHosts makes the store and starts the hosts. The first one makes the key exchange keys, whose fingerprints all
// hosts then have in their configuration, and the audit key: two hosts that led one after the other could make two.
func (w *world) makeHosts() error {
	for i, name := range []string{"a", "b", "c"} {
		h := &host{name: name, dir: w.path(name), w: w}
		w.hosts = append(w.hosts, h)
		if err := errors.Join(os.Mkdir(h.dir, 0o700), w.net.join(name, i)); err != nil {
			return err
		}
	}
	if err := w.configure(); err != nil {
		return err
	}
	first := w.hosts[0]
	if _, err := first.command("store", "init", "--config", first.path("keyd.yaml")); err != nil {
		return err
	}
	if err := first.start(); err != nil {
		return err
	}
	if err := w.eventually("the key exchange keys are made", func() bool { return w.pin() }); err != nil {
		return err
	}
	if err := errors.Join(w.configure(), w.reload(first)); err != nil {
		return err
	}
	if err := w.eventually("the audit key is made", func() bool {
		_, err := first.command("audit", "checkpoint", "--socket", first.path("keyd.sock"))
		return err == nil
	}); err != nil {
		return err
	}
	for _, h := range w.hosts[1:] {
		if err := h.start(); err != nil {
			return err
		}
	}
	for _, k := range w.keys {
		w.wanted[k] = 1
	}
	return w.settle()
}

// pin takes down the fingerprints of the key exchange keys, as an operator does who has asked the vaults' owner.
func (w *world) pin() bool {
	for name, host := range vaultNames {
		versions := w.azure.Vault(host).Versions(kekName)
		if len(versions) == 0 {
			return false
		}
		w.pins[name] = nil
		for _, x := range versions {
			w.pins[name] = append(w.pins[name], strconv.Quote(fingerprint(x)))
		}
	}
	return true
}

func fingerprint(x emulator.VersionInfo) string {
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: x.N, E: x.E})
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// configure writes each host's configuration.
func (w *world) configure() error {
	for _, h := range w.hosts {
		var b strings.Builder
		fmt.Fprintf(
			&b,
			"instance: hosts\nhost: %s\nstate_dir: %s\nstore:\n  lease: 2s\n  %s\n",
			h.name,
			h.path("state"),
			w.engine.section(),
		)
		fmt.Fprintf(&b, "hsm: {module: %s, token: %q, pin_file: %s, call_timeout: 10m, generate_timeout: 30m}\n",
			w.token.Module, w.token.Label, w.token.PINFile)
		fmt.Fprintf(&b, "azure: {credential: managed-identity, ca_file: %s}\nvaults:\n", w.path("ca.pem"))
		for name, host := range vaultNames {
			pins := ""
			if p := w.pins[name]; len(p) > 0 {
				pins = fmt.Sprintf(", fingerprints: [%s]", strings.Join(p, ", "))
			}
			fmt.Fprintf(&b, "  %s: {url: \"https://%s\", kek: {bits: 2048%s}}\n", name, host, pins)
		}
		b.WriteString("keys:\n")
		for _, k := range w.keys {
			fmt.Fprintf(&b, "  %s: {spec: RSA-2048, floor: 0s, budget: 1000, %s}\n", k,
				cmp.Or(w.policies[k], "vaults: [weu, neu]"))
		}
		fmt.Fprintf(&b, "control: {socket: %s}\nweb: {listen: \"127.0.0.1:0\"}\nhealth: {look: 1m, newest: 20s}\n",
			h.path("keyd.sock"))
		if err := replace(h.path("keyd.yaml"), b.String()); err != nil {
			return err
		}
	}
	return nil
}

// replace writes a file that others may be reading.
func replace(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

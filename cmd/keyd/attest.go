package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/key"
)

func (a *app) attest() *cobra.Command {
	var want attest.Expect
	var fingerprint, partitionRoot, moment, root string
	cmd := &cobra.Command{
		Use:   "attest FILE",
		Short: "Verify what a Managed HSM attests of a key, offline",
		Long: `attest verifies an attestation of a Managed HSM key under the HSM vendor's roots, which are part of
keyd, and shows what it says. It needs no daemon and no network. FILE is what this wrote:

  az keyvault key get-attestation --hsm-name HSM --name KEY --version VERSION --file FILE

An attestation names a key and its version, and not the Managed HSM that holds it: a Managed HSM of somebody
else attests a key of the same name just as well. So compare the fingerprint with the key that you mean
(--fingerprint), or the partition root with that of your own Managed HSM (--partition-root).`,
		Example: "  keyd attest attestation.json --key keyd-kek --fingerprint sha256:…",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, names []string) (err error) {
			at := time.Now()
			if moment != "" {
				if at, err = time.Parse(time.RFC3339, moment); err != nil {
					return usagef("--at: write a time such as 2026-11-30T12:00:00Z")
				}
			}
			for _, pin := range []struct {
				flag, text string
				into       *key.Fingerprint
			}{{"fingerprint", fingerprint, &want.Fingerprint}, {"partition-root", partitionRoot, &want.PartitionRoot}} {
				if pin.text == "" {
					continue
				}
				if *pin.into, err = key.ParseFingerprint(pin.text); err != nil {
					return usagef("--%s: %v", pin.flag, err)
				}
			}
			roots := attest.Vendor()
			if root != "" {
				if roots, err = readTestRoot(root); err != nil {
					return err
				}
			}
			return a.attestFile(names[0], roots, want, at)
		},
	}
	cmd.Flags().StringVar(&want.Key, "key", "", "require that it is about the key of this name")
	cmd.Flags().StringVar(&want.Version, "key-version", "", "require that it is about this version")
	cmd.Flags().StringVar(&fingerprint, "fingerprint", "", "require that it is about the key with this fingerprint")
	cmd.Flags().
		StringVar(&partitionRoot, "partition-root", "", "require this partition root: that of one Managed HSM")
	cmd.Flags().StringVar(&moment, "at", "", "the time at which the certificates must be valid (default: now)")
	testRootFlag(cmd, &root)
	return a.jsonFlag(cmd)
}

func testRootFlag(cmd *cobra.Command, root *string) {
	cmd.Flags().StringVar(root, "test-root", "",
		"a file with a root to use in place of the vendor's: for tests only, it proves nothing")
}

func readTestRoot(file string) ([]attest.Root, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, usagef("--test-root: %v", err)
	}
	roots, err := attest.TestRoot(raw)
	if err != nil {
		return nil, usagef("--test-root %s: %v", file, err)
	}
	return roots, nil
}

func (a *app) attestFile(name string, roots []attest.Root, want attest.Expect, at time.Time) error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return usagef("%v", err)
	}
	f, err := attest.Verify(raw, roots, want, at)
	if err != nil {
		return fmt.Errorf("%s is NOT verified: %w", name, err)
	}
	return a.show(f, func(w io.Writer, s style) { writeFacts(w, s, name, f, at, want) })
}

func writeFacts(w io.Writer, s style, name string, f attest.Facts, at time.Time, want attest.Expect) {
	fmt.Fprintf(w, "%s: %s, as of %s\n", oneLine(name), s.good("verified"), at.UTC().Format(time.RFC3339))
	t := s.table()
	line := func(what, text string) { t.add(plain(what, text)...) }
	yes := func(b bool) string {
		if b {
			return "yes"
		}
		return "no"
	}
	line("key", f.Key+", version "+f.Version)
	line("fingerprint", string(f.Fingerprint))
	line("extractable", yes(f.Extractable))
	line("made in the HSM", yes(f.Local))
	line("never extractable", yes(f.NeverExtractable))
	line("decrypts, unwraps", yes(f.Decrypt)+", "+yes(f.Unwrap))
	line("HSM", oneLine(f.HSM)+", signs as firmware "+f.Firmware)
	line("partition root", string(f.PartitionRoot))
	line("root", oneLine(f.Root))
	line("valid until", f.Until.UTC().Format(time.RFC3339))
	t.write(w, "  ")
	if f.TestRoot {
		fmt.Fprintln(w, s.bad("The root is for tests only: this proves nothing about hardware."))
	}
	if want.Fingerprint == "" && want.PartitionRoot == "" {
		fmt.Fprintln(w, "It does not say which Managed HSM holds the key: compare the fingerprint with the key that "+
			"you mean,\nor the partition root with that of your own Managed HSM.")
	}
}

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

func (a *app) kek() *cobra.Command {
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "kek [VAULT]",
		Short: "Show the vaults' key exchange keys",
		Long: `kek shows the key exchange key (KEK) of every vault: the key under which keyd wraps what it
brings to that vault. With VAULT it shows each of the vault's KEKs with its fingerprint, times and
trust, how to compute the fingerprint without keyd, and where to pin the result.`,
		Example: "  keyd kek\n  keyd kek contoso-weu\n  keyd kek --json | jq '.[].keks'",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			snap, err := a.client().Snapshot(cmd.Context(), status.Selection{Few: true, Brief: true})
			if err != nil {
				return err
			}
			if len(names) == 0 {
				return a.show(snap.Vaults, func(w io.Writer, s style) { writeKEKs(w, s, snap) })
			}
			v, err := findVault(snap, names[0])
			if err != nil {
				return err
			}
			return a.show(v, func(w io.Writer, s style) { writeVaultKEKs(w, s, snap.At, v) })
		},
		ValidArgsFunction: a.complete(oneVault),
	})
	cmd.AddCommand(a.kekRotate())
	return cmd
}

func (a *app) kekRotate() *cobra.Command {
	var reason string
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "rotate VAULT --reason TEXT",
		Short: "Make a new key exchange key in a vault",
		Long: `rotate makes a new version of the vault's key exchange key. keyd uses the previous one until
you approve the new one: pin its fingerprint in kek.fingerprints, as keyd kek VAULT
shows it, and run keyd reload. The old one is disabled once no import can still need it.`,
		Example:           `  keyd kek rotate contoso-weu --reason "yearly"`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.complete(oneVault),
		RunE: func(cmd *cobra.Command, names []string) error {
			if reason == "" {
				return usagef("--reason is required: the audit records it")
			}
			accepted, err := a.client().RotateKEK(cmd.Context(), names[0], reason)
			if err != nil {
				return err
			}
			return a.show(accepted, func(w io.Writer, _ style) {
				if accepted.Joined {
					fmt.Fprintf(w, "A new key exchange key of %s was requested already.", names[0])
				} else {
					fmt.Fprintf(w, "keyd makes a new key exchange key in %s.", names[0])
				}
				fmt.Fprintf(w, " Watch for it and its fingerprint with `keyd kek %s`.\n", names[0])
			})
		},
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why; the audit records it (required)")
	return cmd
}

func findVault(snap status.Snapshot, name string) (status.Vault, error) {
	if err := knownVaults(snap, []string{name}); err != nil {
		return status.Vault{}, err
	}
	i := slices.IndexFunc(snap.Vaults, func(v status.Vault) bool { return key.SameName(v.Name, name) })
	return snap.Vaults[i], nil
}

// writeKEKs writes one line for each vault.
func writeKEKs(w io.Writer, s style, snap status.Snapshot) {
	if len(snap.Vaults) == 0 {
		fmt.Fprintln(w, "There are no vaults. Add one under `vaults:` in the configuration, then run `keyd reload`.")
		return
	}
	t := s.table()
	t.title(s, "VAULT", "IN USE", "TRUSTED", "SINCE", "NEXT", "NOTE")
	for _, v := range snap.Vaults {
		use, trust, since := "none", "", "never"
		if k := v.ActiveKEK(); k != nil {
			use, trust, since = k.Fingerprint.Short(), trustOf(v, *k), when(snap.At, k.Used)
		}
		t.add(append(plain(v.Name, use, trust, since, when(snap.At, v.KEKNext)), kekNote(s, v))...)
	}
	t.write(w, "")
}

// kekNote is what a person should know about a vault's KEKs.
func kekNote(s style, v status.Vault) cell {
	switch k := v.WaitingKEK(); {
	case k != nil:
		return cell{k.Fingerprint.Short() + " waits for approval", s.warn}
	case v.KEKRequest != nil:
		return cell{text: "a new one was requested"}
	}
	return cell{text: v.KEKWaiting}
}

// trustOf says why a KEK is trusted now, as far as keyd has seen.
func trustOf(v status.Vault, k status.KEK) string {
	if v.KEK == k.Kid && v.KEKTrust != "" {
		return v.KEKTrust
	}
	return k.Trust
}

// writeVaultKEKs writes each of one vault's KEKs, the newest first.
func writeVaultKEKs(w io.Writer, s style, now time.Time, v status.Vault) {
	fmt.Fprintf(w, "%s  %s\n", s.bold(clean(v.Name)), clean(v.URL))
	if v.KEKWaiting != "" {
		fmt.Fprintf(w, "%s\n", s.warn(clean(v.KEKWaiting)))
	}
	if q := v.KEKRequest; q != nil {
		asked := fmt.Sprintf("A new one was requested by %s %s: %s", q.By, when(now, q.At), q.Reason)
		fmt.Fprintf(w, "%s\n", clean(asked))
	}
	if !v.KEKNext.IsZero() {
		fmt.Fprintf(w, "The schedule makes the next one %s.\n", when(now, v.KEKNext))
	}
	if len(v.KEKs) == 0 {
		fmt.Fprintln(w, "keyd has no key exchange key in this vault yet.")
		return
	}
	t := s.table()
	for i := len(v.KEKs) - 1; i >= 0; i-- {
		k := v.KEKs[i]
		t.add(plain("")...)
		t.add(cell{string(k.State), kekPaint(s, k.State)}, cell{text: cmp.Or(k.Kid, "not known yet")})
		for _, row := range [][2]string{
			{"  fingerprint", string(k.Fingerprint)},
			{"  trusted", trustOf(v, k)},
			{"  made", kekMade(now, k)},
			{"  in use since", past(now, k.Used)},
			{"  superseded", past(now, k.Superseded)},
			{"  disabled", past(now, k.Disabled)},
		} {
			if row[1] != "" {
				t.add(plain(row[0], row[1])...)
			}
		}
	}
	t.write(w, "")
	writeApproval(w, s, v)
}

// writeApproval says how to compute a fingerprint without keyd, and to pin the result. It prints no line that would
// approve a KEK when pasted: a compromised network side could have put that KEK there.
func writeApproval(w io.Writer, s style, v status.Vault) {
	k := v.WaitingKEK()
	if k == nil {
		k = v.ActiveKEK()
	}
	if k == nil || v.WaitingKEK() == nil && trustOf(v, *k) == key.TrustConfigured {
		return
	}
	fmt.Fprintf(w, "\nCompute the fingerprint without keyd, on another machine:\n")
	name := strings.Split(strings.TrimPrefix(k.Kid, v.URL+"/keys/"), "/")[0]
	fmt.Fprintf(w, "  az keyvault key download %s --name %s --version %s \\\n", v.AzScope(), name, key.VersionOf(k.Kid))
	fmt.Fprintf(w, "    --encoding DER --file /dev/stdout | openssl dgst -sha256\n")
	fmt.Fprintf(w, "Confirm the result with the vault's owner out of band. Pin that result, not what keyd shows:\n")
	fmt.Fprintf(w, "write it in place of RESULT under the vault in keyd.yaml:\n")
	fmt.Fprintf(w, "  %s\n", s.bold(clean(v.PinLine())))
	fmt.Fprintf(w, "and run: keyd reload\n")
}

func kekMade(now time.Time, k status.KEK) string {
	switch {
	case k.Found:
		return "by others; keyd found it " + when(now, k.Made)
	case k.Made.IsZero():
		return ""
	case k.By == "":
		return when(now, k.Made)
	}
	return strings.TrimSuffix(fmt.Sprintf("%s, for %s: %s", when(now, k.Made), k.By, k.Reason), ": ")
}

// past is when something happened; "" if it did not.
func past(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return when(now, t)
}

func kekPaint(s style, state key.KEKState) func(string) string {
	switch state {
	case key.KEKActive:
		return s.good
	case key.KEKMade, key.KEKMaking:
		return s.warn
	}
	return s.bold
}

package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/vault"
)

// forty keys in one vault, each with one version; what answers is for the test to say.
type forty struct {
	hsmErr, vaultErr error
	policy           key.Policy
}

func (f *forty) Names() (names []string) {
	for i := range 40 {
		names = append(names, fmt.Sprintf("key-%02d", i))
	}
	return names
}

func (f *forty) Policy(name string) (key.Policy, bool) {
	p := f.policy
	p.Key = name
	return p, true
}

func (f *forty) Position(string) rotate.Position {
	step := plan.Step{Kind: plan.Idle}
	if f.hsmErr != nil || f.vaultErr != nil {
		step = plan.Step{Kind: plan.Wait, Why: "something does not answer"}
	}
	return rotate.Position{Step: step}
}

func (f *forty) Survey(context.Context, key.Policy, record.Record) *record.Observation {
	return &record.Observation{HSM: record.HSMSeen{Err: f.hsmErr}, Vaults: map[string]record.VaultSeen{
		f.policy.Vaults[0].URL: {Err: f.vaultErr}}}
}

func (f *forty) Prove(_ context.Context, name string) ([]status.Proof, error) {
	p := status.Proof{Vault: f.policy.Vaults[0].URL, Version: "v1", Outcome: key.Passed}
	if f.vaultErr != nil {
		p.Outcome, p.Reason, p.Error = key.Inconclusive, key.NoAnswer, f.vaultErr.Error()
	}
	return []status.Proof{p}, nil
}

func (f *forty) Describe(context.Context) (key.HSMInfo, error) {
	return key.HSMInfo{Token: "keyd", PIN: key.PINAccepted}, f.hsmErr
}

func (f *forty) CheckKEK(context.Context, key.KEK) (string, error) {
	return key.TrustConfigured, f.hsmErr
}

func (f *forty) May(_ context.Context, r vault.Right) (bool, error) {
	beyond := slices.ContainsFunc(excesses(), func(x excess) bool { return x.right == r })
	return !beyond || r == vault.MayWrap || r == vault.MayUnwrap, f.vaultErr
}
func (f *forty) Identity(context.Context) (vault.Identity, error)             { return vault.Identity{}, nil }
func (f *forty) ClockSkew() (time.Duration, bool)                             { return 0, true }
func (f *forty) PurgeProtected(context.Context, string) (bool, error)         { return true, nil }
func (f *forty) KEK(context.Context, string) (k key.KEK, there bool, e error) { return k, true, nil }

func TestACheckSaysOnceWhatConcernsAVault(t *testing.T) {
	c, _ := newChecker(t)
	drift := plan.Drift{Kind: plan.DriftKEKChanged, Vault: key.Vault{Name: "weu"}}
	if subject, told := c.subjectOf("key-00", drift); told || subject != "weu" {
		t.Errorf("the first key's line is about %q, said before: %v", subject, told)
	}
	if _, told := c.subjectOf("key-01", drift); !told {
		t.Error("the second key says it again")
	}
}

// One cause is one failed line: what needs it is skipped, and says why.
func TestACheckFailsOnceForEachCause(t *testing.T) {
	for _, c := range []struct {
		name    string
		hsm     error
		vault   error
		skipped int
		why     string
	}{
		{"the HSM is stopped", errors.New("connection refused"), nil, 41, "the HSM does not answer"}, // the KEK, too
		{"the vault does not answer", nil, errors.New("i/o timeout"), 41, // the rest of the vault, too
			"vault weu does not let keyd in, or does not answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, s := newChecker(t)
			f := &forty{hsmErr: c.hsm, vaultErr: c.vault, policy: k.Config.Policies[0]}
			k.Keys, k.Observer, k.Health, k.HSM = f, f, f, f
			k.Vaults = func(string) Vault { return f }
			k.DriftSeverity = func(plan.DriftKind) status.Severity { return status.Warning }
			for _, name := range f.Names() {
				rec := record.Record{Schema: record.SchemaVersion, Key: name, Vaults: f.policy.Vaults,
					Generations: []record.Generation{{Number: 1}}}
				if _, err := s.Save(t.Context(), rec, chain.Entry{Event: "test", Actor: "test"}); err != nil {
					t.Fatal(err)
				}
			}
			lines, err := Run(t.Context(), k.Parts)
			if err != nil {
				t.Fatal(err)
			}
			failed, skipped := 0, 0
			for _, l := range lines {
				switch l.Result {
				case status.CheckFailed:
					failed++
				case status.CheckWarning:
					if l.Area != "identity" { // this test has a proxy
						t.Errorf("%+v", l)
					}
				case status.CheckSkipped:
					skipped++
					if l.Detail != c.why {
						t.Errorf("skipped because %q, want %q", l.Detail, c.why)
					}
				}
			}
			if failed != 1 || skipped != c.skipped {
				t.Errorf("%d lines failed and %d were skipped, want 1 and %d: %+v", failed, skipped, c.skipped, lines)
			}
		})
	}
}

func (f *forty) Deleted(context.Context, string) (bool, error) { return false, f.vaultErr }

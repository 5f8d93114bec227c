package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/config"
)

// attestations returns what the configuration, as it is on the disk now, asks of each vault's attestations.
func attestations(path string, log *slog.Logger) func(url string) (attest.Rule, error) {
	var mu sync.Mutex
	var cached *config.Config
	var identity string
	return func(url string) (attest.Rule, error) {
		mu.Lock()
		defer mu.Unlock()
		if now := filesIdentity(path); cached == nil || now != identity {
			cfg, err := config.Load(path)
			if err != nil {
				cached = nil
				return attest.Rule{}, fmt.Errorf("the configuration has mistakes: %w", err)
			}
			cached, identity = cfg, now
			warnOfTestRoot(cfg, log)
		}
		if _, ok := cached.Vault(url); !ok {
			return attest.Rule{}, fmt.Errorf("the configuration has no vault %s", url)
		}
		return cached.Attestation(url), nil
	}
}

// warnOfTestRoot says loudly that attestations prove nothing.
func warnOfTestRoot(cfg *config.Config, log *slog.Logger) {
	for _, r := range cfg.HSM.TestRoots {
		log.Error("hsm.test_attestation_root is set: attestations of Managed HSMs prove nothing. It is for tests "+
			"only; remove it from keyd.yaml", "root", r.Name)
	}
}

// attest gets and judges what a Managed HSM says of an imported version.
func (d *Daemon) attest(ctx context.Context, url string, want attest.Expect) (e attest.Evidence, asked bool) {
	rule, client := d.config().Attestation(url), d.client(url)
	if !rule.Required || client == nil {
		return attest.Evidence{}, false
	}
	want.PartitionRoot = rule.PartitionRoot
	raw, err := client.Attestation(ctx, want.Key, want.Version)
	return attest.Judge(raw, err, rule.Roots, want, time.Now()), true
}

package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/config"
)

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

package config

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// longestProofPause is the longest health.newest with which keyd can go by a vault's audit log: its own proofs are what
// shows it that the log is whole, and it trusts none over a pause of two hours.
const longestProofPause = time.Hour

// refuseHSMLog refuses a workspace for a Managed HSM, whose log keyd cannot read.
func refuseHSMLog(v *Vault, s *section) {
	if v.Workspace == "" || v.Kind != key.ManagedHSM {
		return
	}
	v.Workspace = ""
	s.rep.add(s.whereOf("evidence"), "remove evidence; what may be disabled there, keyd then tells by consumers alone",
		"%s: keyd reads the audit logs of Key Vaults only, and this is a Managed HSM", s.name("evidence"))
}

// refuseRareProofs refuses a rule that goes by a log which keyd could never trust.
func refuseRareProofs(c *Config, p *key.Policy, s *section) {
	if len(p.Workspaces) == 0 || c.Health.Newest <= longestProofPause {
		return
	}
	where, name := s.conflict("retire", "consumers", "vaults")
	s.rep.add(where,
		"write health.newest: "+showDuration(longestProofPause)+" or less, or remove evidence from the vault",
		"%s goes by an audit log, in which keyd's own proofs must be, and health.newest is %s", name,
		showDuration(c.Health.Newest))
}

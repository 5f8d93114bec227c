package config_test

import (
	"strings"
	"testing"
)

func TestALogThatKeydCouldNeverTrustIsRefused(t *testing.T) {
	const hsm = "    url: https://contoso.managedhsm.azure.net\n"
	text := strings.Replace(consuming(""), hsm, hsm+"    evidence: {workspace: "+guid+"}\n", 1)
	wantProblems(
		t,
		text,
		"keyd.yaml:11:5: vaults.mhsm.evidence: keyd reads the audit logs of Key Vaults only, and this "+
			"is a Managed HSM; remove evidence; what may be disabled there, keyd then tells by consumers alone",
	)

	rule := evident(consuming("    consumers: none\n    retire: {disable_after: 90d}\n"))
	wantProblems(
		t,
		"health: {newest: 61m}\n"+rule,
		"keyd.yaml:18:5: keys.cmk.retire goes by an audit log, in which "+
			"keyd's own proofs must be, and health.newest is 1h1m; write health.newest: 1h or less, or remove "+
			"evidence from the vault",
	)
	wantProblems(t, "health: {newest: 1h}\n"+rule)
}

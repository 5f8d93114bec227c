package e2e_test

import (
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/status"
)

// Attributes in the rules of the fault module (PKCS#11 v2.40, pkcs11t.h).
const (
	unknownLocal           = "C_GetAttributeValue * after unknown 0x163"
	unknownAlwaysSensitive = "C_GetAttributeValue * after unknown 0x165"
	unknownKeyGenMechanism = "C_GetAttributeValue * after unknown 0x166"
)

// On such a token every generation would fail and leave a pair behind.
func TestFaultTokenOnWhichNoKeyReadsBackIsReportedAndNotFilled(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, nil)
	f.misbehave(unknownAlwaysSensitive)
	f.start()
	f.waitShown("no key can be made on this token")
	f.wait("status names the attribute, and the key waits for it", func(s status.Snapshot, k status.Key) bool {
		return s.Ready && strings.Contains(s.HSM.Info.Degraded, "CKA_ALWAYS_SENSITIVE") &&
			strings.Contains(k.Error, "CKA_ALWAYS_SENSITIVE")
	})
	f.wantUp()
	f.misbehave()
	f.waitGeneration(1)
	f.seal()
	report(f.harm(1))
}

// NSS softokn is such a token.
func TestKeydUsesATokenThatDoesNotShowTheOriginOfItsKeys(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, nil)
	f.misbehave(unknownLocal, unknownKeyGenMechanism)
	f.start()
	f.waitGeneration(1)
	f.killHSMSide()
	f.must("rotate", "--now", keyName, "--reason", "after a restart of the HSM side")
	f.waitGeneration(2)
	f.wantContains(f.cli("check").stdout, "CKA_LOCAL, CKA_KEY_GEN_MECHANISM")
	f.seal()
	f.harm(2)
}

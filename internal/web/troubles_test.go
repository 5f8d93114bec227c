package web

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

// otherProblems are the problems, in the daemon's words, that are neither a hold nor a failed step.
func otherProblems() (all []status.Problem) {
	add := func(severity status.Severity, key, vault, runbook, text, remedy string) {
		all = append(all,
			status.Problem{Severity: severity, Key: key, Vault: vault, Runbook: runbook, Text: text, Remedy: remedy})
	}
	const weu, mhsm, plan = "contoso-weu", "contoso-hsm",
		"keyd plan shows what it waits for; it begins by itself when that is removed"
	for _, p := range []struct{ key, how string }{{"refuted", "refuted at modulus"},
		{"inconclusive", "inconclusive at vault-unwrap"}} {
		add(status.Critical, p.key, weu, "keydunwrapfailing",
			p.key+": version 5be10a77 (generation 3) in vault contoso-weu failed its proof: "+p.how,
			"see the runbook before anything is disabled or deleted")
	}
	add(status.Critical, "inconclusive", weu, "keydwrapfailing",
		"inconclusive: version 5be10a77 (generation 3) in vault contoso-weu does not wrap or sign: inconclusive at "+
			"vault-wrap (KeyNotYetValid): HTTP 403; what is encrypted under it can be read",
		"see the runbook: nothing new can be encrypted under this version")
	add(status.Warning, "refuted", "", "keydproposalwaiting",
		"resume refuted, which uid 1000 (anna) asked for at 2026-11-23T03:00:00Z, has waited for a second operator "+
			"since, and ends at 2026-11-24T03:00:00Z",
		"look at it with keyd approvals; then a person other than uid 1000 (anna) approves or withdraws it")
	add(status.Warning, "refuted", weu, "keydrepointfailed",
		"refuted in contoso-weu: consumer ai-1 could not be moved to version 5be10a77: HTTP 403 AuthorizationFailed; "+
			"keyd moves no other one", "mend the cause, then: keyd repoint refuted --reason …")
	add(status.Warning, "", "", "keydcertificateends",
		"the client certificate in /etc/keyd/client.pem ends at 2026-12-01T00:00:00Z: keyd cannot sign in after that",
		"renew it, register the new one with the application, and write it into the file; keyd reads it again "+
			"by itself")
	add(status.Critical, "", "", "keydstoreunhealthy", "the state cannot be written: no space left on device",
		"free or repair the disk, or bring the store back; keyd goes on by itself")
	add(status.Critical, "", "", "keydpinrefused", "the HSM side cannot work: the token refused the PIN",
		"do not try PINs by hand; find the right one, as the runbook says")
	add(status.Warning, "", "", "keydhsmdown", "the HSM side ended 9 times within 30 minutes, and was started again",
		"journalctl -u keyd-hsm shows what ends it; where the daemon starts it, journalctl -u keyd")
	add(
		status.Warning,
		"",
		"",
		"keydhsmconfigdiffers",
		"the HSM side, which reads the configuration itself, acts on another one than the daemon: they differ in what "+
			"may be made, or wrapped for whom",
		"keyd check shows each mistake with its line; then: keyd reload",
	)
	add(status.Critical, "", "", "keydpinnearlylocked",
		"one more wrong PIN locks the token, and keyd cannot log in again after a restart",
		"do not restart keyd-hsm; find out who tries wrong PINs, and stop them")
	add(status.Warning, "", "", "keydpintrieslow",
		"somebody else tried a wrong PIN on the token, which has few tries left",
		"find out who tries wrong PINs, and stop them")
	add(status.Warning, "", "", "keydpintochange", "the token demands a new user PIN",
		"change it with the vendor's tool, write it into hsm.pin_file, then: systemctl restart keyd-hsm")
	add(
		status.Critical,
		"",
		"",
		"keydauditbroken",
		"the audit chain is not the one that the audit key signed: it signed 57:sha256:5e5e at 2026-11-23 03:00:00Z, "+
			"and the chain ends with entry 41",
		"find out who changed the state before you accept anything: see the runbook",
	)
	add(status.Warning, "", "", "keydcheckpointstale",
		"the audit chain was last signed at 2026-11-23T03:00:00Z, and should be daily",
		"keyd audit checkpoint shows why; keyd tries again by itself")
	add(status.Warning, "", "", "keydconfigreloadfailed",
		"the last reload was refused: the configuration has mistakes; keyd keeps the old one",
		"correct it (keyd check shows each mistake with its line), then: keyd reload")
	add(status.Warning, "", "", "keydnotready",
		"keyd has not looked at every vault since it started at 2026-11-25T09:20:00Z",
		"keyd check tries each part of the way to the vaults and the HSM; keyd goes on by itself")
	add(status.Warning, "", "", "keydsigninfailing",
		"keyd has not been able to sign in to Azure for https://vault.azure.net since 2026-11-25T09:20:00Z: no token: "+
			"connection refused", "keyd check tries the sign-in; keyd goes on by itself")
	add(status.Warning, "", mhsm, "keydvaultunreachable", "vault contoso-hsm cannot be used: dial tcp: i/o timeout",
		"keyd check tries each part of the way to it; keyd goes on by itself")
	add(status.Warning, "", weu, "keydclockskew",
		"the clocks of this machine and of vault contoso-weu differ by 7m0s: from 5 minutes on scheduled "+
			"rotations wait", "chronyc tracking, or timedatectl timesync-status, shows whether this machine's is "+
			"wrong; correct the time source")
	add(status.Warning, "", weu, "keydkekwaiting",
		"vault contoso-weu has a new key exchange key, sha256:bb, which has waited for approval since "+
			"2026-11-24T09:41:00Z: "+
			"until then keyd wraps for the previous one",
		"confirm the fingerprint with the vault's owner out of band (keyd kek contoso-weu shows how)")
	add(status.Warning, "", weu, "keydvaultthrottled",
		"vault contoso-weu answered 40 of the last 200 requests, within 15 minutes, with 429, too many requests: "+
			"proofs and rotations are slow",
		"the vault's metrics in Azure show who sends how much; keyd waits as long as the vault asks")
	add(status.Warning, "well", weu, "keydproofstale",
		"well: version 5be10a77 (generation 3) in vault contoso-weu was last proven at 2026-11-25T08:00:00Z, and "+
			"should be every 5m0s", "keyd check tries each part; keyd tries again by itself")
	add(status.Critical, "rotating", "", "keydcompromisewaiting",
		"rotating is compromised, and the rotation requested at 2026-11-25T08:55:00Z is not finished: vault "+
			"contoso-hsm cannot be reached", "keyd plan shows what it waits for; if one vault alone is in the way: "+
			"keyd rotate --now rotating --compromise --without VAULT --reason …")
	add(status.Warning, "compromised", weu, "keydcompromisedenabled",
		"compromised has 2 enabled versions of compromised material in contoso-weu",
		"once no consumer needs them, disable each, as the runbook says; to keep them enabled: keyd acknowledge "+
			"compromised --reason …")
	add(status.Warning, "on-request", "", "keydrequestwaiting",
		"on-request: the rotation requested at 2026-11-25T08:30:00Z has not begun: vault contoso-hsm cannot "+
			"be reached", plan)
	add(status.Warning, "overdue", "", "keydrotationoverdue",
		"overdue was due for rotation at 2026-11-22T09:41:00Z, and it has not begun: vault contoso-hsm cannot be "+
			"reached", plan)
	add(status.Warning, "partial", mhsm, "keydkeypartial",
		"partial lacks its latest generation in contoso-hsm: vault contoso-hsm cannot be reached",
		"fix what it waits for; keyd brings the vault up to date by itself")
	add(status.Warning, "new", "", "keydkeynotmade", "new has no generation yet: vault contoso-weu is not ready",
		"fix what it waits for, as keyd check advises; keyd then makes the key by itself")
	add(status.Warning, "well", "", "keydsparesmissing",
		"well: of its spares are 1 of 2 ready; the HSM has made no pair for spare generation 5 since "+
			"2026-11-24T08:00:00Z", "keyd check tries the HSM; keyd tries again by itself every half hour")
	add(status.Critical, "well", mhsm, "keydversionexpiressoon",
		"the newest version of well in vault contoso-hsm, 5be10a77, expires at 2026-11-29T00:00:00Z: from then on "+
			"nobody can wrap with it", "keyd rotate --now well --reason …")
	add(status.Warning, "well", weu, "keydrotationpolicyunreadable",
		"well: vault contoso-weu does not say whether it rotates the key itself: 403 ForbiddenByRbac",
		"let keyd's identity read rotation policies, as the runbook says; keyd asks again within half an hour")
	add(status.Warning, "", weu, "keydversionsunproven",
		"12 versions of 10 keys cannot be proven in vault contoso-weu: vault-unwrap (ForbiddenByRbac): HTTP 403",
		"keyd check tries each part of the way; keyd tries again by itself")
	all = append(all, consumerProblems()...)
	all = append(all, hostProblems()...)
	for _, kind := range driftKinds() {
		add(status.Warning, "well", weu, "drift-"+string(kind), "well: "+string(kind)+" in vault contoso-weu",
			"compare with the configuration")
	}
	return all
}

// holdCodes and driftKinds read the closed sets where they are defined, so that the test forgets none.
func holdCodes() []key.HoldCode {
	return constants[key.HoldCode]("../key/lifecycle.go", `(?m)^\tHold\w+\s+HoldCode\s+=\s+"([a-z-]+)"`)
}

func driftKinds() []plan.DriftKind {
	return constants[plan.DriftKind]("../plan/drift.go", `(?m)^\tDrift\w+\s+DriftKind\s+=\s+"([a-z-]+)"`)
}

// constants returns the constants that the pattern finds in a file. Fewer than seven mean that the pattern is wrong.
func constants[T ~string](path, form string) (all []T) {
	source, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	for _, m := range regexp.MustCompile(form).FindAllStringSubmatch(string(source), -1) {
		all = append(all, T(m[1]))
	}
	if len(all) < 7 {
		panic(path + " defines fewer than seven: the form is out of date")
	}
	return all
}

// The browser tests show everyTrouble, so no test looks at a trouble that is missing from it.
func TestEveryTroubleHasEveryProblemOfTheDaemon(t *testing.T) {
	shown := map[string]bool{}
	for _, p := range everyTrouble().Problems {
		shown[p.Runbook] = true
	}
	for _, r := range trouble.Table() {
		if !shown[r.Code] {
			t.Errorf("there are problems of #%s, and everyTrouble has none: add it to otherProblems", r.Code)
		}
	}
	html := statusHTML(t, everyTrouble(), nil, nil)
	for runbook := range shown {
		if !strings.Contains(html, `href="/runbooks#`+runbook+`"`) {
			t.Errorf("the page does not link to #%s", runbook)
		}
	}
}

package config

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// defaultUnusedFor is how long the audit log of a vault must show no use of a version, unless the rule says so.
const defaultUnusedFor = 30 * day

// blindRemedy is what to do about a rule under which keyd could not know who uses an old version.
func blindRemedy(v key.Vault) string {
	evidence := ", or evidence: {workspace: ID} under the vault"
	if v.Kind == key.ManagedHSM {
		evidence = " (keyd reads no log of a Managed HSM)"
	}
	return "list under consumers the resources that encrypt under the key, or write azure.subscriptions" + evidence +
		"; if nothing in Azure encrypts under it, write consumers: none"
}

func readRetire(s *section) key.RetireRule {
	f, ok := s.byName["retire"]
	if !ok {
		s.note("retire", "never")
		return key.RetireRule{}
	}
	s.note("retire", asWritten(f.node))
	if text, isText := f.text(); isText {
		if text != "never" {
			s.rep.add(
				f.where(),
				"write never, or {disable_after: 90d}",
				"%s: unknown value %q",
				s.name("retire"),
				text,
			)
		}
		return key.RetireRule{}
	}
	rule := s.sub("retire")
	rule.quiet = true
	rule.only("disable_after", "pause", "unused_for", "backups")
	rule.require("disable_after", "write retire: never, or retire: {disable_after: 90d}")
	days := durationIn(day, 36500*day)
	return key.RetireRule{
		DisableAfter: read(rule, "disable_after", 0, days),
		Pause:        read(rule, "pause", day, durationIn(time.Minute, 366*day)),
		UnusedFor:    read(rule, "unused_for", 0, days),
		Backups:      read(rule, "backups", 0, days),
	}
}

// finishRetire completes the retire rule of a key with what the rest of the configuration says, and refuses a rule
// under which keyd could not know whether a version is still used. It comes after the key's vaults and consumers.
func finishRetire(c *Config, p *key.Policy, s *section) {
	rule := &p.Retire
	if rule.Never() {
		return
	}
	where, name := s.conflict("retire", "consumers", "vaults")
	switch blind, found := withoutLog(p); {
	case rule.UnusedFor > 0 && len(p.Workspaces) == 0 && len(p.Vaults) > 0:
		s.rep.add(where, "write evidence: {workspace: ID} under a Key Vault, or leave unused_for out",
			"%s.unused_for: none of the key's vaults has a workspace with its audit log", name)
	case !s.has("consumers") && !p.Discover && found:
		s.rep.add(where, blindRemedy(blind),
			"%s: nothing tells keyd who still uses an old version of the key in vault %s", name, blind.Name)
	}
	refuseRareProofs(c, p, s)
	if rule.UnusedFor == 0 && len(p.Workspaces) > 0 {
		rule.UnusedFor = defaultUnusedFor
	}
	rule.Watched = watched(c.Azure.Subscriptions, *p)
}

// withoutLog is the first of the key's vaults that has no workspace; found is false if each has one.
func withoutLog(p *key.Policy) (v key.Vault, found bool) {
	for _, v := range p.Vaults {
		if p.Workspaces[v.URL] == "" {
			return v, true
		}
	}
	return v, false
}

// watched is the digest of what keyd looks at before it disables a version of a key; "" if that is nothing.
func watched(subscriptions []string, p key.Policy) string {
	var all []string
	for _, c := range p.Consumers {
		all = append(all, "consumer "+strings.ToLower(c.ID))
	}
	for url, workspace := range p.Workspaces {
		all = append(all, "workspace "+workspace+" of "+url)
	}
	for _, id := range subscriptions {
		all = append(all, "subscription "+id)
	}
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(strings.Join(all, "\n"))))
}

package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
)

// Guarded are the settings that could hurt a key, or open the door to somebody who could: who may act, which vaults
// get which key, for which key exchange keys the HSM side wraps, what keyd may disable, at what it looks before that,
// and which resources it may repoint. They are text, as the audit chain states them: by what they are about (a key's
// name, a vault's URL, or "" for keyd itself), and by their names in the configuration, such as keys.retire.
type Guarded map[string]map[string]string

// Guarded returns the settings of this configuration.
func (c *Config) Guarded() Guarded {
	g := Guarded{"": {"control.operators": c.operatorsText(), "control.group": c.Control.Group}}
	for name, uids := range c.People {
		g[""]["people."+name] = onHosts(uids)
	}
	if !c.Store.Shared() { // it says whose uids are meant
		g[""]["host"] = c.Host
	}
	if acts := asSet(c.Approvals.Acts); acts != "" {
		g[""]["approvals.acts"], g[""]["approvals.wait"] = acts, showDuration(c.Approvals.Wait)
	}
	g[""]["azure.subscriptions"] = asSet(c.Azure.Subscriptions)
	for _, r := range c.HSM.TestRoots {
		sum := sha256.Sum256(r.Certificate.Raw)
		g[""]["hsm.test_attestation_root"] = "sha256:" + hex.EncodeToString(sum[:])
	}
	for _, v := range c.Vaults {
		about := map[string]string{"vaults.name": v.Name, "vaults.kek.name": v.KEK.Name,
			"vaults.kek.fingerprints":   asSet(v.KEK.Fingerprints),
			"vaults.kek.partition_root": string(v.KEK.PartitionRoot),
			"vaults.evidence.workspace": v.Workspace}
		if v.KEK.FirstUse {
			about["vaults.kek.trust"] = "first-use"
		}
		if v.Kind == key.ManagedHSM && !v.KEK.Attested {
			about["vaults.kek.attestation"] = attestationOff
		}
		g[v.URL] = about
	}
	for _, p := range c.Policies {
		var urls []string
		for _, v := range p.Vaults {
			urls = append(urls, v.URL)
		}
		g[p.Key] = map[string]string{"keys.vaults": asSet(urls), "keys.retire": retireText(p.Retire),
			"keys.consumers": consumersText(p)}
	}
	for _, about := range g {
		maps.DeleteFunc(about, func(_, value string) bool { return value == "" })
	}
	return g
}

// asSet is a set as text: in whatever order it is written, it means the same.
func asSet[T any](values []T) string {
	var texts []string
	for _, v := range values {
		texts = append(texts, fmt.Sprint(v))
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

func retireText(r key.RetireRule) string {
	if r.Never() {
		return "never"
	}
	text := fmt.Sprintf("disable_after %s, pause %s", r.DisableAfter, r.Between())
	if r.UnusedFor > 0 {
		text += fmt.Sprintf(", unused_for %s", r.UnusedFor)
	}
	if r.Backups > 0 {
		text += fmt.Sprintf(", backups %s", r.Backups)
	}
	return text
}

// consumersText lists the consumers of a key. An id is the same in any case.
func consumersText(p key.Policy) string {
	if p.Retire.NoConsumers {
		return "declared: none" // "none" alone says that a setting is not set
	}
	var texts []string
	for _, c := range p.Consumers {
		text := strings.ToLower(c.ID)
		if c.Follow == key.FollowKeyd {
			text += " (follow keyd)"
		}
		texts = append(texts, text)
	}
	return asSet(texts)
}

// Digest is the same for two configurations whose guarded settings are the same.
func (g Guarded) Digest() string {
	h := sha256.New()
	for _, about := range slices.Sorted(maps.Keys(g)) {
		for _, name := range slices.Sorted(maps.Keys(g[about])) {
			fmt.Fprintf(h, "%q %q %q\n", about, name, g[about][name])
		}
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// Policy is g without what is each host's own: who may act there, by uid.
func (g Guarded) Policy() Guarded {
	policy := maps.Clone(g)
	policy[""] = maps.Clone(g[""])
	for _, own := range []string{"host", "control.operators", "control.group"} {
		delete(policy[""], own)
	}
	return policy
}

// NeedsApproval reports whether a change of the settings needs a second operator.
func (g Guarded) NeedsApproval() bool { return g[""]["approvals.acts"] != "" }

// GuardedChange is what changed about one key, one vault or keyd itself.
type GuardedChange struct {
	About string // as in Guarded
	// Values has each changed setting, and what it was under its name and "_before". "none": not set.
	Values map[string]string
}

// Lines says the change for people, a line for each setting: "keys.vaults of sa-cmk-key: none -> https://…".
func (c GuardedChange) Lines() (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(c.Values)) {
		if strings.HasSuffix(name, before) {
			continue
		}
		of := ""
		if c.About != "" {
			of = " of " + c.About
		}
		lines = append(lines, fmt.Sprintf("%s%s: %s -> %s", name, of, c.Values[name+before], c.Values[name]))
	}
	return lines
}

const (
	before = "_before"
	unset  = "none"
)

// Changes lists what next has otherwise than g: keyd itself first, then keys and vaults by name.
func (g Guarded) Changes(next Guarded) (changes []GuardedChange) {
	for _, about := range both(g, next) {
		values := map[string]string{}
		for _, name := range both(g[about], next[about]) {
			if was, is := g[about][name], next[about][name]; was != is {
				values[name], values[name+before] = orUnset(is), orUnset(was)
			}
		}
		if len(values) > 0 {
			changes = append(changes, GuardedChange{About: about, Values: values})
		}
	}
	return changes
}

// Apply makes a recorded change to g.
func (g Guarded) Apply(c GuardedChange) {
	if g[c.About] == nil {
		g[c.About] = map[string]string{}
	}
	for name, value := range c.Values {
		switch {
		case strings.HasSuffix(name, before):
		case value == unset:
			delete(g[c.About], name)
		default:
			g[c.About][name] = value
		}
	}
}

func orUnset(value string) string {
	if value == "" {
		return unset
	}
	return value
}

// both lists the names that a or b has, sorted.
func both[T any](a, b map[string]T) []string {
	names := maps.Clone(a)
	if names == nil {
		names = map[string]T{}
	}
	maps.Copy(names, b)
	return slices.Sorted(maps.Keys(names))
}

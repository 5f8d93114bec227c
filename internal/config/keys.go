package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// maxLabel bounds CKA_LABEL. PKCS#11 sets no limit; many modules have one of 255 bytes.
const maxLabel = 255

// readKeys reads every file's keys into c.Policies.
func readKeys(c *Config, sections []*section, defaults *section, vaults knownVaults, rep *report) {
	first := map[string]field{} // by name in lower case, as vaults compare names
	for _, s := range sections {
		for _, f := range s.fields {
			folded := strings.ToLower(f.name)
			if other, twice := first[folded]; twice {
				remedy := "keep one of them"
				if other.name != f.name {
					remedy = "rename one of them: vaults ignore case"
				}
				rep.add(f.at, remedy, "key %s is already at %s", f.name, other.at)
				continue
			}
			first[folded] = f
			c.Policies = append(c.Policies, readKey(c, s.sub(f.name), defaults, vaults))
		}
	}
	slices.SortFunc(c.Policies, func(a, b key.Policy) int { return cmp.Compare(a.Key, b.Key) })
}

func readKey(c *Config, s, defaults *section, vaults knownVaults) key.Policy {
	s.only(keyFields...)
	s.inherit(defaults)
	name := strings.TrimPrefix(s.path, "keys.")
	checkKeyName(c, s, name)
	p := readKeyValues(s)
	p.Key = name
	readKeyVaults(&p, s, vaults)
	checkSchedule(&p, s)
	checkExpiry(&p, s)
	p.Discover = len(c.Azure.Subscriptions) > 0
	readConsumers(&p, s, vaults)
	finishRetire(c, &p, s)
	return p
}

// readKeyValues reads each field of a key by itself, but for its vaults.
func readKeyValues(s *section) key.Policy {
	p := key.Policy{
		Spec:         read(s, "spec", key.RSA4096, parseSpec),
		Schedule:     readOrNever(s, "schedule", parseSchedule),
		Operations:   readOperations(s),
		Retire:       readRetire(s),
		Floor:        read(s, "floor", time.Hour, durationIn(0, 366*day)),
		Budget:       read(s, "budget", 10, intIn(1, 100_000)),
		Window:       read(s, "window", 0, durationIn(0, 366*day)),
		Spread:       read(s, "spread", 0, durationIn(0, 366*day)),
		Spares:       read(s, "spares", 0, intIn(0, key.MaxSpares)),
		ExpiresAfter: readOrNever(s, "expires_after", durationIn(day, 36500*day)),
		Labels:       readLabels(s),
	}
	if p.Schedule != nil {
		p.ScheduleText, _ = s.byName["schedule"].text()
	}
	return p
}

// readOrNever reads a field that may say never, as it does where it is absent: so a key can refuse what the defaults
// say.
func readOrNever[T any](s *section, name string, parse func(string) (T, error)) (none T) {
	const never = "never"
	if !s.has(name) {
		s.note(name, never)
		return none
	}
	return read(s, name, none, func(text string) (T, error) {
		if text == never {
			return none, nil
		}
		return parse(text)
	})
}

// readLabels reads the groups that a key belongs to.
func readLabels(s *section) (labels []string) {
	for _, l := range list(s, "labels", parseName) {
		if slices.Contains(labels, l.value) {
			s.rep.add(l.at, "remove one", "%s: %s appears twice", s.name("labels"), l.value)
			continue
		}
		labels = append(labels, l.value)
	}
	return labels
}

func checkKeyName(c *Config, s *section, name string) {
	if !key.ValidName(name) {
		s.rep.add(s.at, "use 1 to 127 letters, digits and hyphens (0-9 a-z A-Z -)", "%q is not a valid name for a key",
			name)
		return
	}
	longest := key.Label{Instance: c.Instance, Key: name, Number: 999_999, Pending: true}.String()
	if len(longest) > maxLabel {
		s.rep.add(s.at, fmt.Sprintf("shorten the key's name or the instance's by %d", len(longest)-maxLabel),
			"key %s: its label in the HSM would be longer than %d bytes", name, maxLabel)
	}
}

func parseSpec(text string) (key.Spec, error) {
	spec, err := key.ParseSpec(text)
	if err != nil {
		var known []string
		for _, s := range key.Specs() {
			known = append(known, string(s))
		}
		return "", fault{fmt.Sprintf("unknown spec %q", text), "write one of " + strings.Join(known, ", ")}
	}
	return spec, nil
}

// holds lists the specs that each kind of vault can import.
func holds(kind key.VaultKind) []key.Spec {
	switch kind {
	case key.KeyVault, key.ManagedHSM:
		return []key.Spec{key.RSA2048, key.RSA3072, key.RSA4096}
	}
	return nil
}

func readKeyVaults(p *key.Policy, s *section, vaults knownVaults) {
	s.require("vaults", "write vaults: and a list of names from the vaults section")
	if !s.has("vaults") {
		return
	}
	before := len(s.rep.problems)
	names := list(s, "vaults", parseText)
	if len(names) == 0 && len(s.rep.problems) == before {
		s.rep.add(s.whereOf("vaults"), "name at least one vault, or remove the key", "%s is empty", s.name("vaults"))
	}
	seen := map[string]bool{}
	for _, n := range names {
		known, ok := vaults.find(n.value)
		folded := strings.ToLower(n.value)
		switch {
		case !ok && !vaults.complete:
		case !ok:
			s.rep.add(n.at, suggestVault(n.value, vaults.byName), "%s: unknown vault %s", s.name("vaults"), n.value)
		case seen[folded]:
			s.rep.add(n.at, "remove one", "%s: vault %s appears twice", s.name("vaults"), n.value)
		case known.broken:
		default:
			checkVaultHolds(p, s, n.at, known.vault)
			p.Vaults = append(p.Vaults, known.vault.Vault)
			watchLog(p, known.vault)
		}
		seen[folded] = true
	}
}

func checkVaultHolds(p *key.Policy, s *section, where position, v Vault) {
	if key.SameName(v.KEK.Name, p.Key) {
		s.rep.add(s.at, "rename the key, or set another kek.name for that vault",
			"key %s has the name of the key exchange key of vault %s", p.Key, v.Name)
	}
	if !slices.Contains(holds(v.Kind), p.Spec) {
		s.rep.add(where, "write another spec, or leave this vault out",
			"%s: vault %s cannot hold %s", s.name("vaults"), v.Name, p.Spec)
	}
}

func suggestVault(name string, vaults map[string]place) string {
	if len(vaults) == 0 {
		return "define it in the vaults section"
	}
	return suggest(name, slices.Sorted(maps.Keys(vaults)))
}

func readOperations(s *section) []key.Operation {
	if !s.has("operations") {
		s.note("operations", "[wrapKey, unwrapKey]")
		return []key.Operation{key.WrapKey, key.UnwrapKey}
	}
	before := len(s.rep.problems)
	var ops []key.Operation
	for _, op := range list(s, "operations", parseOperation) {
		if slices.Contains(ops, op.value) {
			s.rep.add(op.at, "remove one", "%s: %s appears twice", s.name("operations"), op.value)
			continue
		}
		ops = append(ops, op.value)
	}
	if _, ok := key.ProofPair(ops); !ok && len(s.rep.problems) == before {
		s.rep.add(s.whereOf("operations"),
			"add the missing half of wrapKey and unwrapKey, encrypt and decrypt, or sign and verify",
			"%s has no complete pair, so the key could never be proven", s.name("operations"))
	}
	return ops
}

func parseOperation(text string) (key.Operation, error) {
	op, err := key.ParseOperation(text)
	if err != nil {
		var known []string
		for _, pair := range key.Pairs() {
			known = append(known, string(pair[0]), string(pair[1]))
		}
		return "", fault{fmt.Sprintf("unknown operation %q", text), suggest(text, known)}
	}
	return op, nil
}

// checkSchedule checks that the key's other fields fit the pace of its schedule.
func checkSchedule(p *key.Policy, s *section) {
	if p.Window > 0 && p.Spread >= p.Window {
		where, name := s.conflict("spread", "window")
		s.rep.add(where, "write a spread shorter than the window",
			"%s: %s is not shorter than the window of %s", name, showDuration(p.Spread), showDuration(p.Window))
	}
	if p.Schedule == nil {
		return
	}
	if err := checkPace(p.Schedule, p.Floor, p.Budget); err != nil {
		where, name := s.conflict("schedule", "floor", "budget")
		s.rep.addFault(where, name, err)
	}
}

package config

import (
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/service"
)

// noConsumers is what consumers says instead of a list: nothing in Azure encrypts under the key.
const noConsumers = "none"

// named is where a resource was named as a consumer, and of which key.
type named struct {
	key string
	at  position
}

// readSubscriptions reads the subscriptions that keyd searches for consumers.
func readSubscriptions(azure *section) (ids []string) {
	const name = "subscriptions"
	mistakes := len(azure.rep.problems)
	for _, s := range list(azure, name, parseUUID) {
		id := strings.ToLower(s.value)
		if slices.Contains(ids, id) {
			azure.rep.add(s.at, "remove one", "%s: %s appears twice", azure.name(name), id)
			continue
		}
		ids = append(ids, id)
	}
	if azure.has(name) && len(ids) == 0 && len(azure.rep.problems) == mistakes {
		azure.rep.add(azure.whereOf(name), "write the id of a subscription (`az account list -o table` shows them), "+
			"or remove the field", "%s is empty", azure.name(name))
	}
	return ids
}

// readEvidence reads which workspace has the audit log of a vault.
func readEvidence(vault *section) (workspace string) {
	s := vault.sub("evidence")
	s.only("workspace")
	if vault.has("evidence") {
		s.require("workspace", "write the workspace's id (`az monitor log-analytics workspace show --query customerId`"+
			"), or remove evidence")
	}
	return strings.ToLower(read(s, "workspace", "", parseUUID))
}

// watchLog takes a vault's workspace into the policy of a key in it.
func watchLog(p *key.Policy, v Vault) {
	if v.Workspace == "" {
		return
	}
	if p.Workspaces == nil {
		p.Workspaces = map[string]string{}
	}
	p.Workspaces[v.URL] = v.Workspace
}

// checkDefaultConsumers refuses a list in the defaults: a resource encrypts under one key.
func checkDefaultConsumers(s *section) {
	f, ok := s.byName["consumers"]
	if text, _ := f.text(); ok && text != noConsumers {
		s.rep.add(f.where(), "list the consumers under their key; here only none can stand",
			"defaults.consumers: a resource encrypts under one key, and the defaults are of all keys")
	}
}

// readConsumers reads which resources encrypt under a key. It comes after the key's vaults.
func readConsumers(p *key.Policy, s *section, vaults knownVaults) {
	f, ok := s.byName["consumers"]
	if !ok {
		s.note("consumers", "")
		return
	}
	s.note("consumers", consumersAsWritten(f.node))
	text, isText := f.text()
	entries, isList := f.node.(*ast.SequenceNode)
	switch {
	case isText && text == noConsumers:
		p.Retire.NoConsumers = true
	case f.inherited: // checkDefaultConsumers reports it
	case !isList:
		s.rep.add(f.where(), "write none, or a list of resource ids, each on a line of its own after a hyphen",
			"%s is not a list", s.name("consumers"))
	case len(entries.Values) == 0:
		s.rep.add(
			f.where(),
			"write a resource id, or consumers: none if nothing in Azure encrypts under the key, or "+
				"remove the field",
			"%s is empty",
			s.name("consumers"),
		)
	default:
		for _, n := range entries.Values {
			e := consumerEntry{key: p, section: s, at: entryAt(f, n)}
			if e.read(n, vaults) && e.isNew() && e.fits() {
				p.Consumers = append(p.Consumers, e.consumer)
			}
		}
	}
}

// consumersAsWritten shows each resource by its name: its id has more than a hundred letters.
func consumersAsWritten(n ast.Node) string {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return asWritten(n)
	}
	names := make([]string, len(seq.Values))
	for i, v := range seq.Values {
		text := asWritten(v)
		if m, isMap := v.(ast.MapNode); isMap {
			for it := m.MapRange(); it.Next(); {
				if asWritten(it.Key()) == "id" {
					text = asWritten(it.Value())
				}
			}
		}
		names[i] = service.NameOf(text)
	}
	return "[" + strings.Join(names, ", ") + "]"
}

// entryAt is the place of an entry of a list: of a mapping, that of its first name.
func entryAt(list field, n ast.Node) position {
	if m, ok := n.(ast.MapNode); ok {
		if it := m.MapRange(); it.Next() {
			return at(list.at.File, it.Key(), list.where())
		}
	}
	return at(list.at.File, n, list.where())
}

// consumerEntry is one entry of a key's consumers.
type consumerEntry struct {
	key      *key.Policy
	section  *section
	at       position
	consumer key.Consumer
	service  service.Service
	vaults   []key.Vault // those whose key the resource may be set to
}

// refuse reports a mistake of the entry.
func (e *consumerEntry) refuse(remedy, format string, args ...any) bool {
	e.section.rep.add(e.at, remedy, e.section.name("consumers")+": "+format, args...)
	return false
}

// read reads an entry: an id, or a mapping with one. It returns false after a mistake.
func (e *consumerEntry) read(n ast.Node, vaults knownVaults) bool {
	mistakes := len(e.section.rep.problems)
	e.consumer.Follow, e.vaults = key.FollowService, e.key.Vaults
	if _, isMap := n.(ast.MapNode); isMap {
		e.readFields(n, vaults)
	} else {
		e.consumer.ID, _ = readScalar(e.section.rep, e.section.name("consumers"), e.at, n, parseResource)
	}
	if len(e.vaults) == 1 {
		e.consumer.Vault = e.vaults[0].URL
	}
	e.service, _ = service.Of(e.consumer.ID)
	return len(e.section.rep.problems) == mistakes
}

func (e *consumerEntry) readFields(n ast.Node, vaults knownVaults) {
	s := &section{rep: e.section.rep, path: e.section.name("consumers"), at: e.at, byName: map[string]field{},
		quiet: true}
	s.readPairs(e.at.File, n)
	s.only("id", "follow", "vault")
	s.require("id", resourceRemedy)
	e.at = s.whereOf("id")
	e.consumer.ID = read(s, "id", "", parseResource)
	e.consumer.Follow = key.Follow(read(s, "follow", string(key.FollowService),
		oneOf(string(key.FollowService), string(key.FollowKeyd))))
	nickname := read(s, "vault", "", parseText)
	if nickname == "" || !vaults.complete {
		return
	}
	i := slices.IndexFunc(e.key.Vaults, func(v key.Vault) bool { return key.SameName(v.Name, nickname) })
	if i >= 0 {
		e.vaults = e.key.Vaults[i : i+1]
		return
	}
	known, exists := vaults.find(nickname)
	switch {
	case !exists:
		s.rep.add(s.whereOf("vault"), suggestVault(nickname, vaults.byName), "%s: unknown vault %s", s.name("vault"),
			nickname)
	case !known.broken:
		s.rep.add(s.whereOf("vault"), "write one of the key's vaults, or add this one to them",
			"%s: the key is not in vault %s, so nothing can use it there", s.name("vault"), nickname)
	}
}

// isNew refuses a resource that was named before, under this key or another.
func (e *consumerEntry) isNew() bool {
	rep, id := e.section.rep, strings.ToLower(e.consumer.ID)
	first, twice := rep.consumers[id]
	switch {
	case !twice:
		if rep.consumers == nil {
			rep.consumers = map[string]named{}
		}
		rep.consumers[id] = named{e.key.Key, e.at}
		return true
	case key.SameName(first.key, e.key.Key):
		return e.refuse("remove one", "%s %s is already at %s", e.service.Name, service.NameOf(id), first.at)
	}
	return e.refuse("keep it under the key that it is set to: a resource encrypts under one key",
		"%s %s is already under key %s at %s", e.service.Name, service.NameOf(id), first.key, first.at)
}

// fits refuses what the service would refuse, or what would fail weeks later.
func (e *consumerEntry) fits() bool {
	who := e.service.Name + " " + service.NameOf(e.consumer.ID)
	takes := e.service
	if !takes.Takes(e.key.Spec) {
		return e.refuse("write spec: "+string(takes.Specs[0])+" for the key, or give the resource a key of its own",
			"%s takes %s only, and the key is %s", who, specList(takes.Specs), e.key.Spec)
	}
	if takes.NoExpiry && e.key.ExpiresAfter > 0 {
		return e.refuse("write expires_after: never for the key, or give the resource a key of its own",
			"%s refuses a key with an expiry date, and the key has expires_after: %s", who,
			showDuration(e.key.ExpiresAfter))
	}
	if has := e.key.Operations; !slices.Contains(has, key.WrapKey) || !slices.Contains(has, key.UnwrapKey) {
		return e.refuse("add wrapKey and unwrapKey to operations, or give the resource a key of its own",
			"%s needs wrapKey and unwrapKey, which the key may not do", who)
	}
	isKeyVault := func(v key.Vault) bool { return v.Kind == key.KeyVault }
	if takes.KeyVault && len(e.vaults) > 0 && !slices.ContainsFunc(e.vaults, isKeyVault) {
		return e.refuse("give the resource a key in a Key Vault",
			"%s takes keys in a Key Vault only, and vault %s is a Managed HSM", who, e.vaults[0].Name)
	}
	if takes.Unpinned && e.consumer.Follow == key.FollowKeyd {
		return e.refuse("write follow: service, or leave it out",
			"follow: keyd makes no sense for %s: it cannot be set to one version, and follows each new one by itself",
			who)
	}
	return true
}

func specList(specs []key.Spec) string {
	var texts []string
	for _, s := range specs {
		texts = append(texts, string(s))
	}
	return strings.Join(texts, " and ")
}

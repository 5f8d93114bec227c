package web

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// keyPage is what key.html shows.
type keyPage struct {
	frame
	Key      keyView
	Problems []problemGroup
	Facts    []string
	Table    table
	Users    *usersView // nil where there is nobody to ask about who uses the key
	Audit    audit
}

// table is a key's generations by its vaults.
type table struct {
	Vaults []tableVault
	Rows   []tableRow // the newest first
}

// tableVault is the head of a column. URL is the key's in the vault, to which a version is added.
type tableVault struct{ Name, URL, Note string }

type tableRow struct {
	Number                                    int
	Caption, Fingerprint, Requester, Reserved string
	Cells                                     [][]cell // by vault, and in each the newest first
}

// cell is one placement.
type cell struct {
	Version, State, Cause, Proof, Detail string
	Aliases                              []string
	Users                                string // that use it
}

// viewOneKey builds the page of one key. ok is false if there is no such key.
func viewOneKey(s status.Snapshot, name string, entries []status.Entry, entriesErr error) (p keyPage, ok bool) {
	k, ok := s.Key(name)
	if !ok {
		return p, false
	}
	vaults := vaultNames(s)
	p = keyPage{
		frame: frame{s.Instance, s.Version, s.At}, Key: viewKey(s.At, k, vaults), Facts: keyFacts(s.At, k),
		Table: viewTable(s.At, k, vaults), Users: viewConsumers(s.At, k.Consumers, vaults),
		Audit: viewAudit(s.At, entries, entriesErr, vaults, whole),
	}
	p.Facts = append(p.Facts, proposalFacts(s.At, s, func(x status.Proposal) bool { return x.Key == k.Name })...)
	for i := range p.Audit.Entries {
		p.Audit.Entries[i].Key = "" // the page's
	}
	p.Key.Timeline = drawTimeline(s.At, k, pageLanes)
	s.Problems = slices.DeleteFunc(slices.Clone(s.Problems), func(p status.Problem) bool { return !p.About(k.Name) })
	p.Problems = groupProblems(viewProblems(s))
	return p, true
}

// vaultNames are the vaults' names by URL.
func vaultNames(s status.Snapshot) map[string]string {
	names := map[string]string{}
	for _, v := range s.Vaults {
		names[v.URL] = v.Name
	}
	return names
}

// keyFacts is what the table does not say.
func keyFacts(now time.Time, k status.Key) (facts []string) {
	if k.Schedule != "" {
		facts = append(facts, "schedule "+k.Schedule)
	}
	if !k.LastRotation.IsZero() {
		facts = append(facts, "last rotation "+day(now, k.LastRotation)+", "+relative(now, k.LastRotation))
	}
	facts = append(facts, inside(nextWords(now, k)))
	if k.Replaced != nil {
		facts = append(facts, local(now, k.Replaced.Words())+" (keyd replace "+k.Name+" --status)")
	}
	if r := k.Retire; r != nil {
		after := "retires versions after " + words.Exactly(time.Duration(r.DisableAfter)*time.Second)
		if c := r.Consent; c != nil {
			facts = append(facts, after+", with the consent of "+c.By+", "+day(now, c.At))
		} else {
			facts = append(facts, after+", once an operator consents (keyd retire "+k.Name+")")
		}
	}
	for _, q := range k.Requests {
		facts = append(facts, "rotation requested "+day(now, q.At)+" by "+q.By)
	}
	if k.Abandoned > 0 {
		facts = append(facts, fmt.Sprintf("abandoned ids: %d", k.Abandoned))
	}
	return facts
}

// viewTable has a column for each vault of the key, and for each that only its placements name.
func viewTable(now time.Time, k status.Key, names map[string]string) (t table) {
	urls := slices.Clone(k.Vaults)
	configured := len(urls)
	for _, g := range k.Generations {
		for _, at := range g.Placements {
			if !slices.Contains(urls, at.Vault) {
				urls = append(urls, at.Vault)
				names[at.Vault] = at.VaultName
			}
		}
	}
	for i, url := range urls {
		v := tableVault{Name: names[url], URL: url + "/keys/" + k.Name}
		if i >= configured {
			v.Note = "no longer a vault of this key"
		}
		t.Vaults = append(t.Vaults, v)
	}
	for _, g := range slices.Backward(k.Generations) {
		row := tableRow{Number: g.Number, Caption: captionOf(now, g), Requester: g.Requester,
			Fingerprint: string(g.Fingerprint), Reserved: day(now, g.Reserved)}
		for _, url := range urls {
			var cells []cell
			for _, at := range slices.Backward(g.Placements) {
				if at.Vault == url {
					c := viewCell(now, at, k.Proofs)
					c.Users = usersOf(k.Consumers, url, append([]string{at.Version}, at.Aliases...))
					cells = append(cells, c)
				}
			}
			row.Cells = append(row.Cells, cells)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func viewCell(now time.Time, at status.Placement, proofs []status.Proof) cell {
	c := cell{
		Version: at.Version,
		State:   string(at.State),
		Aliases: at.Aliases,
		Proof:   "no proof yet",
		Detail:  at.Detail,
	}
	if at.Cause != key.CauseRotation {
		c.Cause = string(at.Cause)
	}
	if !at.ProvenAt.IsZero() {
		c.Proof = "proof passed " + day(now, at.ProvenAt)
	}
	for _, proof := range proofs {
		if proof.Vault == at.Vault && proof.Version == at.Version && proof.Outcome != "" {
			c.Proof = "proof " + string(proof.Outcome) + " " + relative(now, proof.At)
			if proof.Leg != "" {
				c.Proof += ", at " + proof.Where()
			}
		}
	}
	return c
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/softhsm-test/effects"
)

// result is what the judge found.
type result struct {
	faults  int
	lost    int // a newest version that is not the newest generation, or something of which no record knows
	doubled int // a second version, or pair, of a generation that was not adopted and told
	forked  int // a chain that does not hold together
	late    int // an import that landed after another host had begun to lead: within its deadline, so no fault
}

func (r result) plus(o result) result {
	return result{r.faults + o.faults, r.lost + o.lost, r.doubled + o.doubled, r.forked + o.forked, r.late + o.late}
}

func (r result) String() string {
	if r.lost+r.doubled+r.forked == 0 {
		return "all rotations done, nothing lost, doubled or forked"
	}
	return fmt.Sprintf("lost %d, doubled %d, forked %d", r.lost, r.doubled, r.forked)
}

// numbered is what the judge reads of an audit entry besides what effects does.
type numbered struct {
	effects.Entry
	Seq uint64 `json:"seq"`
	Key string `json:"key"`
}

// judge compares the audit chain with what there is, once nothing is under way.
func (w *world) judge() (r result, err error) {
	s, chain, verified, err := w.testimony()
	if err != nil {
		return r, err
	}
	var complaints []string
	for i, e := range chain {
		if e.Seq != uint64(i+1) {
			r.forked++
			complaints = append(complaints, fmt.Sprintf("audit entry %d has number %d", i+1, e.Seq))
			break
		}
	}
	if !verified.Consistent {
		r.forked++
		complaints = append(complaints, "the audit chain is not consistent: "+verified.Problem)
	}
	pairs, err := w.pairs()
	if err != nil {
		return r, err
	}
	lost, doubled := w.compare(s, chain, pairs)
	r.lost, r.doubled = len(lost), len(doubled)
	r.late = w.late(chain)
	complaints = slices.Concat(complaints, lost, doubled)
	if len(complaints) > 0 {
		err = errors.New(strings.Join(complaints, "\n"))
	}
	return r, err
}

// testimony is what the leader says. On a busy machine a lease may end or the store be late meanwhile, so it is asked
// again until it has said everything.
func (w *world) testimony() (s status.Snapshot, chain []numbered, verified control.AuditReport, err error) {
	var last error
	err = w.eventually("the leader tells the audit chain", func() bool {
		var l *host
		if l, s = w.leader(); l == nil {
			last = errors.New("no host leads")
			return false
		}
		if chain, last = w.chain(l); last == nil {
			verified, last = l.client().VerifyAudit(w.ctx)
		}
		return last == nil
	})
	return s, chain, verified, errors.Join(err, last)
}

func (w *world) chain(h *host) (chain []numbered, err error) {
	out, err := h.command("audit", "--json", "--socket", h.path("keyd.sock"))
	if err != nil {
		return nil, err
	}
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var e numbered
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return chain, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the audit chain: %w", err)
		}
		chain = append(chain, e)
	}
}

// compare compares records, vaults, token and chain.
func (w *world) compare(s status.Snapshot, chain []numbered, pairs []pair) (lost, doubled []string) {
	var entries []effects.Entry
	for _, e := range chain {
		entries = append(entries, e.Entry)
	}
	for _, k := range s.Keys {
		for _, host := range vaultNames {
			v := w.azure.Vault(host)
			if !slices.Contains(k.Vaults, v.URL()) {
				continue
			}
			lost = append(
				lost,
				effects.Unrecorded(entries, []effects.Vault{{URL: v.URL(), Versions: v.Versions(k.Name)}},
					nil)...)
			missing, twice := inVault(k, v.URL(), v.Versions(k.Name), entries)
			lost, doubled = append(lost, missing...), append(doubled, twice...)
		}
		missing, twice := inToken(k, pairs)
		lost, doubled = append(lost, missing...), append(doubled, twice...)
	}
	for _, host := range vaultNames {
		v := w.azure.Vault(host)
		lost = append(lost, effects.Unrecorded(entries,
			[]effects.Vault{{URL: v.URL(), KEKs: v.Versions(kekName)}}, nil)...)
	}
	for _, p := range pairs {
		told := effects.Pair{ID: p.id, Pending: p.label.Pending}
		lost = append(lost, effects.Unrecorded(entries, nil, []effects.Pair{told})...)
	}
	return lost, doubled
}

// inVault compares a key's generations with a vault's versions, oldest first.
func inVault(k status.Key, url string, versions []emulator.VersionInfo, chain []effects.Entry) (
	lost, doubled []string,
) {
	count := map[string]int{}
	for _, x := range versions {
		print := fingerprint(x)
		if count[print]++; count[print] > 1 && !adopted(url, print, versions, chain) {
			doubled = append(doubled, fmt.Sprintf("%s has material %s of %s twice", url, print, k.Name))
		}
	}
	for _, g := range k.Generations {
		if count[string(g.Fingerprint)] == 0 {
			lost = append(lost, fmt.Sprintf("%s does not have generation %d of %s", url, g.Number, k.Name))
		}
	}
	newest := k.Generations[len(k.Generations)-1]
	if len(versions) == 0 || fingerprint(versions[len(versions)-1]) != string(newest.Fingerprint) {
		lost = append(lost, fmt.Sprintf("the newest version of %s in %s is not generation %d", k.Name, url,
			newest.Number))
	}
	return lost, doubled
}

// adopted reports whether keyd adopted a second version of a material, and told it.
func adopted(url, print string, versions []emulator.VersionInfo, chain []effects.Entry) bool {
	return slices.ContainsFunc(chain, func(e effects.Entry) bool {
		return e.Event == "duplicate version adopted" && e.Fields["vault"] == url &&
			slices.ContainsFunc(versions, func(x emulator.VersionInfo) bool {
				return fingerprint(x) == print && e.Fields["alias"] == x.ID
			})
	})
}

// inToken compares a key's generations with the pairs that were wrapped for a vault.
func inToken(k status.Key, pairs []pair) (lost, doubled []string) {
	for _, g := range k.Generations {
		n := 0
		for _, p := range pairs {
			if p.label.Key == k.Name && p.label.Number == g.Number && !p.label.Pending {
				n++
			}
		}
		switch {
		case n == 0:
			lost = append(lost, fmt.Sprintf("generation %d of %s has no pair in the token", g.Number, k.Name))
		case n > 1:
			doubled = append(doubled, fmt.Sprintf("generation %d of %s has %d pairs", g.Number, k.Name, n))
		}
	}
	return lost, doubled
}

// pair is a private key in the token.
type pair struct {
	id    string
	label key.Label
}

var objectForm = regexp.MustCompile(`(?s)Private Key Object.*?label: +(\S+).*?ID: +([0-9a-f]+)`)

func (w *world) pairs() (pairs []pair, err error) {
	out, err := w.token.Tool("--token-label", w.token.Label, "--login", "--pin", w.token.PIN, "--list-objects",
		"--type", "privkey")
	if err != nil {
		return nil, fmt.Errorf("pkcs11-tool: %w: %s", err, out)
	}
	for _, m := range objectForm.FindAllStringSubmatch(string(out), -1) {
		if label, ok := key.ParseLabel(m[1]); ok {
			pairs = append(pairs, pair{m[2], label})
		}
	}
	return pairs, nil
}

// late counts the imports since the last time that landed after another host than the one that sent them had begun to
// lead.
func (w *world) late(chain []numbered) int {
	var calls []emulator.RequestLog
	calls, w.seen = w.azure.RequestsSince(w.seen)
	return landedLate(calls, chain)
}

func landedLate(calls []emulator.RequestLog, chain []numbered) (n int) {
	for _, c := range calls {
		if c.Operation != "import" || c.Done != 200 {
			continue
		}
		var intended time.Time
		for _, e := range chain {
			if e.Event == "import intended" && e.Key == c.Key && e.Fields["vault"] == "https://"+c.Host &&
				!e.Time.After(c.Time) {
				intended = e.Time
			}
		}
		if slices.ContainsFunc(chain, func(e numbered) bool {
			return e.Event == "leader changed" && e.Time.After(intended) && e.Time.Before(c.Time)
		}) {
			n++
		}
	}
	return n
}

package web

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

const (
	// allCards is the number of keys up to which each gets a card with a timeline. With
	// more keys, only the first maxCards with trouble or work get one; the others get a
	// table row.
	allCards = 12
	maxCards = 12
	// maxWorksShown bounds the list of works.
	maxWorksShown = 8
)

// frame is what every page has.
type frame struct {
	Instance, Version string
	At                time.Time
}

// statusPage is what status.html shows.
type statusPage struct {
	frame
	Started      time.Time
	Hosts        string // who leads; "" where one host has the store to itself
	Severity     status.Severity
	Verdict      string
	Sizes        string // such as "3 keys, 2 vaults"
	ProblemCount int
	Problems     []problemGroup
	Works        []work
	MoreWorks    int
	Cards        []keyView
	Rows         []keyView
	Used         bool       // a card shows consumers
	Pages        *pagesView // nil: every key is here
	HSM          hsmView
	Vaults       []vaultView
	Audit        audit
}

// keyView is one key, shown as a card or a row.
type keyView struct {
	Name       string
	State      string
	StateWords string
	Facts      []string
	Note       string // what it does or waits for
	Next       string // of a row: without saying what
	Proof      string // of a row, likewise
	Overdue    bool
	Timeline   timeline
	Mini       mini
}

type hsmView struct {
	status.HSM
	Mark  string // of its state
	Words string
	Strip *strip
	Facts []string
}

type vaultView struct {
	status.Vault
	Mark  string
	Words string
	Facts []string
	Strip *strip
}

// viewStatus builds the page of a snapshot, which has the keys of one page of those that were searched for.
func viewStatus(s status.Snapshot, sel status.Selection, works []work, entries []status.Entry,
	entriesErr error) statusPage {
	problems := viewProblems(s)
	p := statusPage{
		frame:        frame{s.Instance, s.Version, s.At},
		Started:      s.Started,
		Sizes:        words.Count(s.Summary.Keys, "key") + ", " + words.Count(len(s.Vaults), "vault"),
		ProblemCount: len(problems),
		Problems:     groupProblems(problems),
		Works:        works,
		HSM:          viewHSM(s.At, s.HSM),
		Pages:        viewPages(s.Summary, sel),
	}
	if s.Hosts != nil {
		p.Hosts = strings.ToUpper(s.Hosts.Words()[:1]) + s.Hosts.Words()[1:]
	}
	p.Severity, p.Verdict = verdict(s, problems)
	if n := len(works) - maxWorksShown; n > 0 {
		p.Works, p.MoreWorks = works[:maxWorksShown], n
	}
	names := vaultNames(s)
	for _, v := range s.Vaults {
		p.Vaults = append(p.Vaults, viewVault(s.At, v))
		last := &p.Vaults[len(p.Vaults)-1]
		last.Facts = append(
			last.Facts,
			proposalFacts(s.At, s, func(x status.Proposal) bool { return x.Vault == v.URL })...)
		if p.Pages != nil && len(v.Keys) > 0 {
			last.Facts = append(last.Facts, "its keys: "+statesWords(v.Keys))
		}
	}
	for _, k := range s.Keys {
		v := viewKey(s.At, k, names)
		if len(s.Keys) <= allCards || !k.Calm() && len(p.Cards) < maxCards {
			v.Timeline = drawTimeline(s.At, k, cardLanes)
			p.Used = p.Used || slices.ContainsFunc(v.Timeline.Lanes, func(l lane) bool { return l.Used != nil })
			p.Cards = append(p.Cards, v)
			continue
		}
		v.Mini = drawMini(s.At, k)
		p.Rows = append(p.Rows, v)
	}
	p.Audit = viewAudit(s.At, entries, entriesErr, names, short)
	return p
}

// states lists the states in display order, with their labels.
var states = []struct{ state, words string }{
	{status.StateHeld, "on hold"},
	{status.StateTrouble, "in trouble"},
	{status.StateFailing, "failing"},
	{status.StateUnproven, "proof fails"},
	{status.StatePartial, "in some vaults only"},
	{status.StateRotating, "rotating"},
	{status.StateNew, "new"},
	{status.StateOK, "well"},
	{status.StateRetained, "retained"},
}

func stateWords(state string) string {
	for _, s := range states {
		if s.state == state {
			return s.words
		}
	}
	return state
}

// unproven returns a newest version whose last proof did not pass; nil if there is
// none.
func unproven(k status.Key) *status.Proof {
	for i, p := range k.Proofs { // unlike k.Unproven, whether or not it is failing by now
		if p.Newest && p.Outcome != key.Passed && p.Outcome != "" {
			return &k.Proofs[i]
		}
	}
	return nil
}

func viewKey(now time.Time, k status.Key, vaults map[string]string) keyView {
	v := keyView{Name: k.Name, State: k.Standing(), StateWords: stateWords(k.Standing()), Next: nextShort(now, k),
		Proof: proofShort(now, k, vaults), Overdue: k.Overdue(now)}
	v.Facts = append(v.Facts, string(k.Spec), proofWords(now, k, vaults))
	if k.Spares != nil {
		v.Facts = append(v.Facts, "spares: "+k.Spares.Words())
	}
	if c := k.Consumers; c != nil && !c.At.IsZero() && c.Error == "" {
		v.Facts = append(v.Facts, usersWords(*c))
	}
	if k.Retained {
		v.Facts = append(v.Facts, "no longer in the configuration")
	}
	if n := len(k.Requests); n > 0 {
		v.Facts = append(v.Facts, words.Count(n, "rotation")+" asked for")
	}
	v.Facts = slices.DeleteFunc(v.Facts, func(s string) bool { return s == "" })
	switch {
	case k.Doing != "":
		v.Note = "Now: " + inside(stepWords(status.Event{Step: k.Doing}))
	case k.Waiting != "":
		v.Note = "Waits: " + k.Waiting
	case k.Error != "" && k.Hold == nil:
		v.Note = "Last step failed: " + k.Error
	}
	return v
}

// proofWords is proofShort for a place without a heading.
func proofWords(now time.Time, k status.Key, vaults map[string]string) string {
	words := proofShort(now, k, vaults)
	if unproven(k) != nil || words == noProof {
		return words
	}
	return "proven " + words
}

const noProof = "not proven yet"

// proofShort says when the newest versions were last proven.
func proofShort(now time.Time, k status.Key, vaults map[string]string) string {
	if p := unproven(k); p != nil {
		words := fmt.Sprintf("not proven in %s: %s", cmp.Or(vaults[p.Vault], p.Vault), p.Outcome)
		if p.Leg != "" {
			words += " at " + p.Where()
		}
		return words
	}
	var oldest time.Time
	n := 0
	for _, p := range k.Proofs {
		if p.Newest && p.Outcome == key.Passed {
			n++
			if oldest.IsZero() || p.At.Before(oldest) {
				oldest = p.At
			}
		}
	}
	if n == 0 {
		return noProof
	}
	return relative(now, oldest)
}

func viewHSM(now time.Time, h status.HSM) hsmView {
	v := hsmView{HSM: h, Mark: markDone, Words: h.State(), Strip: drawStrip(now, h.History)}
	switch h.State() {
	case status.HSMUnasked:
		v.Mark = markWaiting
		return v
	case status.HSMDown:
		v.Mark = markFailed
	case status.HSMDegraded:
		v.Mark, v.Words = markFailed, "degraded: it cannot work,"
	case status.HSMUp:
		if len(h.Info.Warnings) > 0 {
			v.Mark, v.Words = markHeld, "up, with a warning"
		}
	}
	v.Words += " " + sinceWords(now, h.Since)
	if !h.SeenAt.IsZero() {
		v.Facts = append(v.Facts, "last answer "+relative(now, h.SeenAt))
	}
	return v
}

func viewVault(now time.Time, h status.Vault) vaultView {
	v := vaultView{Vault: h, Mark: markDone, Words: "reachable", Strip: drawStrip(now, h.History)}
	switch {
	case h.SeenAt.IsZero() && h.Error == "":
		v.Mark, v.Words = markWaiting, "not looked at yet"
		return v
	case !h.Reachable:
		v.Mark, v.Words = markFailed, "cannot be used"
	}
	if !h.SeenAt.IsZero() {
		v.Facts = append(v.Facts, "last complete look "+relative(now, h.SeenAt))
	}
	if h.KEKTrust != "" {
		v.Facts = append(v.Facts, "key exchange key "+h.KEKPrint.Short()+" trusted by: "+h.KEKTrust)
		if strings.HasPrefix(h.KEKTrust, "refused") {
			v.Facts[len(v.Facts)-1] = "key exchange key " + h.KEKTrust
			if v.Mark == markDone {
				v.Mark, v.Words = markHeld, "reachable, key exchange key refused"
			}
		}
	}
	if skew := h.ClockSkew.Duration(); skew.Abs() >= time.Second {
		v.Facts = append(v.Facts, fmt.Sprintf("its clock differs by %s", skew.Round(time.Second)))
	}
	return v
}

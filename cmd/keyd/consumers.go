package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

func (a *app) consumers() *cobra.Command {
	var discover bool
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "consumers [KEY]",
		Short: "Show who encrypts under the keys",
		Long: `consumers shows the Azure resources that encrypt under KEY, or under each key: what each is set
to, which generation it uses and since when, whether it follows new versions by itself, the newest
version that the vault's audit log shows it to use ("shared" if other consumers call the vault as the
same identity), and what is in the way. That also keeps keyd from retiring old versions. Below are
the moves to the newest version that have not ended well.

It shows what keyd saw at its last look, which it makes every hour. With --discover it looks now, and
searches every subscription that keyd's identity may see. It prints the lines that the configuration
lacks. It changes nothing.`,
		Example: "  keyd consumers\n  keyd consumers sa-cmk-key --discover\n" +
			"  keyd consumers --json | jq '.[].list[] | select(.newest | not)'",
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			if len(names) == 0 {
				return a.everyonesConsumers(cmd.Context(), discover)
			}
			return a.consumersOf(cmd.Context(), names[0], discover)
		},
		ValidArgsFunction: a.complete(oneKey),
	})
	cmd.Flags().BoolVar(&discover, "discover", false, "look now, and search Azure for those that nobody named")
	return cmd
}

func (a *app) everyonesConsumers(ctx context.Context, discover bool) error {
	snap, err := a.client().Snapshot(ctx, status.Selection{Few: true, Brief: true})
	if err != nil {
		return err
	}
	all, err := a.client().Consumers(ctx, "", discover)
	if err != nil {
		return err
	}
	return a.show(all, func(w io.Writer, s style) {
		if len(all) == 0 {
			fmt.Fprintln(w, "keyd looks at nobody: "+whereToName)
		}
		for i, of := range all {
			if i > 0 {
				fmt.Fprintln(w)
			}
			writeKeyConsumers(w, s, snap, of)
		}
	})
}

func (a *app) consumersOf(ctx context.Context, name string, discover bool) error {
	snap, err := a.keysOf(ctx, status.Selection{Only: []string{name}, Brief: true})
	if err != nil {
		return err
	}
	k, err := find(snap, name)
	if err != nil {
		return err
	}
	all, err := a.client().Consumers(ctx, k.Name, discover)
	if err != nil {
		return err
	}
	of := status.KeyConsumers{Key: k.Name}
	if len(all) > 0 {
		of = all[0]
	}
	return a.show(of, func(w io.Writer, s style) { writeKeyConsumers(w, s, snap, of) })
}

// whereToName says how keyd gets to know who uses a key.
const whereToName = "name the consumers of a key under consumers: in the configuration, or write azure.subscriptions " +
	"to have keyd search for them; then: keyd reload"

// writeKeyConsumers writes the consumers of one key.
func writeKeyConsumers(w io.Writer, s style, snap status.Snapshot, of status.KeyConsumers) {
	fmt.Fprintf(w, "%s: %s\n", s.bold(clean(of.Key)), clean(consumersWords(snap.At, of.Consumers)))
	writeConsumers(w, s, snap, of.Consumers)
	if len(of.Add) > 0 {
		fmt.Fprintf(
			w,
			"  Add this to the configuration, then run `keyd reload`:\n    keys:\n      %s:\n        consumers:\n",
			clean(of.Key),
		)
		for _, id := range of.Add {
			fmt.Fprintf(w, "          - %s\n", clean(id))
		}
	}
}

// consumersWords says in one line what keyd knows of who uses a key.
func consumersWords(now time.Time, c status.Consumers) string {
	switch {
	case c.None && len(c.List) == 0:
		return "the configuration says that nothing in Azure encrypts under it (consumers: none)"
	case c.Error != "":
		return "keyd does not see who uses it: " + c.Error
	case c.At.IsZero() && len(c.Logs) == 0 && !c.Searched:
		return "keyd looks at nobody: " + whereToName
	case c.At.IsZero():
		return "keyd has not looked yet"
	}
	n := 0
	for _, x := range c.List {
		if len(x.InTheWay) > 0 {
			n++
		}
	}
	text := words.Count(len(c.List), "consumer") + ", seen " + when(now, c.At)
	if n > 0 {
		text += fmt.Sprintf("; something is in the way of %d", n)
	}
	return text
}

// writeConsumers writes the table, and what a search and the logs do not show.
func writeConsumers(w io.Writer, s style, snap status.Snapshot, c status.Consumers) {
	names := map[string]string{}
	for _, v := range snap.Vaults {
		names[v.URL] = v.Name
	}
	if len(c.List) > 0 {
		t := s.table()
		t.title(s, "SERVICE", "NAME", "ASKED FOR", "USES", "SINCE", "FOLLOWS", "NEWEST IN LOG", "IN THE WAY")
		for _, x := range status.Worst(c.List) {
			t.add(consumerRow(s, snap.At, names, x)...)
		}
		t.write(w, "  ")
	}
	t := s.table()
	for _, m := range c.Moves {
		t.add(moveCells(s, m)...)
	}
	for _, text := range c.Unseen {
		t.add(cell{"not searched", s.warn}, cell{text: text})
	}
	for _, l := range c.Logs {
		t.add(logCells(s, snap.At, names, l)...)
		if r := l.Retired; r != nil {
			t.add(cell{"refused", s.bad}, cell{text: fmt.Sprintf("%s asked for generation %d, which is disabled, %s",
				orUnnamed(r.Caller), r.Generation, when(snap.At, r.At))})
		}
	}
	t.write(w, "  ")
}

// moveCells say how far the moving of a consumer is, and what has keyd try again.
func moveCells(s style, m status.Move) []cell {
	text, paint := m.Words(), s.warn
	if m.Bad() {
		paint = s.bad
	}
	if m.Command != "" {
		text += "; mend the cause, then: " + m.Command
	}
	return []cell{{"move " + string(m.State), paint}, {text: text}}
}

func orUnnamed(caller string) string {
	if caller == "" {
		return "a caller that the log does not name"
	}
	return caller
}

// logCells say of which time keyd has seen a vault's audit log.
func logCells(s style, now time.Time, names map[string]string, l status.UsedLog) []cell {
	head := "log of " + names[l.Vault]
	if l.Error != "" {
		return []cell{{head, s.warn}, {text: "not trusted now: " + l.Error}}
	}
	return plain(head, fmt.Sprintf("whole for %s, until %s", span(l.Until.Sub(l.From)), when(now, l.Until)))
}

func consumerRow(s style, now time.Time, names map[string]string, c status.Consumer) []cell {
	since, log := "–", "–"
	if !c.Since.IsZero() {
		since = when(now, c.Since)
	}
	if l := c.Log; l != nil {
		log = generationOr(l.Generation, l.Version) + ", " + when(now, l.At)
		if l.Shared {
			log += ", shared"
		}
	}
	uses, paint := usesWords(s, names, c)
	return []cell{
		{
			text: c.Service,
		}, {text: c.Name}, {text: askedWords(c)}, {uses, paint}, {text: since}, {text: followsWords(c)},
		{text: log}, {strings.Join(c.InTheWay, "; "), s.warn},
	}
}

// usesWords is the generation in use, where it is, and its version in short.
func usesWords(s style, names map[string]string, c status.Consumer) (text string, paint func(string) string) {
	switch c.State() {
	case status.NotSeen:
		return "not seen", s.warn
	case status.UsesOther:
		return "another key", s.warn
	case status.UsedOnce:
		return "not any more", nil
	case status.UsesUnknown:
		return "not shown", nil
	case status.UsesNewest:
		paint = s.good
	default:
		paint = s.warn
	}
	text = generationOr(c.Generation, c.Uses)
	if name := names[c.Vault]; name != "" {
		text += " in " + name
	}
	if c.Generation > 0 {
		text += " (" + shortVersion(c.Uses) + ")"
	}
	return text, paint
}

// generationOr is a generation's number, or the version of one that keyd does not know.
func generationOr(generation int, version string) string {
	switch {
	case generation > 0:
		return fmt.Sprintf("gen %d", generation)
	case version == "":
		return "no version named"
	}
	return "version " + shortVersion(version)
}

// shortVersion is as much of a version as tells it from the key's others.
func shortVersion(version string) string { return version[:min(8, len(version))] }

func askedWords(c status.Consumer) string {
	switch {
	case c.Error != "" || c.Left != "":
		return "–"
	case c.Asked == "":
		return "follows"
	}
	return shortVersion(c.Asked)
}

// followsWords says who moves a consumer to a new version, and how fast.
func followsWords(c status.Consumer) string {
	switch c.Moves {
	case status.MovesItself:
		if c.Within > 0 {
			return "within " + span(c.Within.Duration())
		}
		return "by itself"
	case status.MovedByKeyd:
		return "by keyd"
	case status.MovedByHand:
		return "no"
	}
	return "–"
}

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/keyd-project/keyd/softhsm-test/measure"
)

// costs prints lines of what is measured and not judged, some with a goal.
type costs struct{ out io.Writer }

func (c costs) line(name, goal, format string, values ...any) {
	measured := fmt.Sprintf(format, values...)
	if goal != "" {
		measured += "   (goal: " + goal + ")"
	}
	fmt.Fprintf(c.out, "%-48s %s\n", name, measured)
}

func (t table) printCosts(out io.Writer) {
	c := costs{out}
	fmt.Fprintln(out)
	for _, p := range t.columns()[:2] {
		n := float64(p.times)
		c.line(p.name+": first proven, last proven", "", "%.1f s, %.1f s", p.first.Seconds(), p.last.Seconds())
		c.line(p.name+": processor, network and HSM side", "", "%.1f ms, %.1f ms", milliseconds(p.network)/n,
			milliseconds(p.hsm)/n)
		c.line(
			p.name+": HSM side, times C_GenerateKeyPair alone",
			"1.3 at most",
			"%.2f",
			p.hsm.Seconds()/p.generating.Seconds(),
		)
		c.line(p.name+": fdatasyncs (2 for a write of the state)", "", "%s", short(2*float64(p.writes)/n))
	}
	c.line("restart: READY after", "60 s with 10,000 keys", "%.1f s", t.restart.last.Seconds())
	c.line("restart: calls per key after READY, until quiet", "", "%s", short(float64(t.afterReady)/float64(t.keys)))
	hours := (time.Duration(t.looks) * look).Hours()
	c.line("quiet hour: processor, network and HSM side", "5 s together with 80 keys", "%.1f s, %.1f s",
		t.quiet.network.Seconds()/hours, t.quiet.hsm.Seconds()/hours)
	c.memory("memory after the rotations", t.rotation.used)
	c.memory("memory after the restart", t.restart.used)
	t.printScrape(c)
	c.line("keyd status", "200 ms", "%.0f ms", milliseconds(t.statusTook))
	challenges, throttled := 0, 0
	for _, p := range t.columns() {
		challenges, throttled = challenges+p.challenges, throttled+p.throttled
	}
	c.line("answers 401 (challenges) and 429 (throttled)", "", "%d, %d", challenges, throttled)
	c.line("the HSM side ended", "", "%d times", t.hsmRestarts)
}

func (c costs) memory(when string, used measure.Sides) {
	side := func(name, goal string, p measure.Process) {
		c.line(when+", "+name, goal, "%s, %s at most; %s without pages of files", mib(p.Memory), mib(p.Highest),
			mib(p.Own))
	}
	side("network side", "128 MiB with 10,000 keys", used.Network)
	side("HSM side", "", used.HSM)
}

func (t table) printScrape(c costs) {
	middle := t.scrapes[len(t.scrapes)/2]
	all, ofKeys := middle.series()
	c.line("scrape, median", "250 ms with 10,000 keys", "%.1f ms, %d KiB, %d series", milliseconds(middle.took),
		middle.bytes/1024, all)
	c.line("series of a quiet key", "4 at most", "%s", short(float64(ofKeys)/float64(t.keys)))
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

func mib(kib int) string { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }

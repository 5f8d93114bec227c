package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
)

// demo shows a newcomer what happens when a host fails in the middle of a rotation.
type demo struct {
	*world
	began time.Time
	told  int // rotations that another host finished
}

// demoPoints are where the leader dies, in turn.
var demoPoints = []struct{ point, words string }{
	{"import-after", "just after the first vault has taken the new version, and before it has noted that"},
	{"generate-after", "just after the HSM has made the new pair, and before it has noted that"},
	{"save-after proof passed", "just after the first vault's version was proven, with the second vault to go"},
}

// demonstrate plays until ctx ends, or for so many seconds, but at least one scene.
func demonstrate(ctx context.Context, work string, o options) (err error) {
	o.factor = 1
	d := &demo{began: time.Now()}
	fmt.Println("Three hosts, one key: what keyd does when a host fails in the middle of a rotation.")
	fmt.Println("Everything is emulated on this machine, in network namespaces of its own, and gone at the end.")
	fmt.Println()
	d.say("starts PostgreSQL with a synchronous standby, a SoftHSM token, an emulated Azure and three hosts")
	d.world, err = newWorld(ctx, work, 0, "postgres", o)
	defer func() { err = errors.Join(err, d.close()) }()
	if err == nil {
		d.say("a key, " + d.keys[0] + ", is in two vaults; its first generation is proven in both")
		err = d.play(time.Duration(o.seconds) * time.Second)
	}
	if ctx.Err() != nil { // somebody has seen enough
		err = nil
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, d.explain())
	}
	fmt.Printf("\nA leader was killed in the middle of %d rotations, and another host finished each of them: every "+
		"generation is once\nin each vault and once in the HSM, and the audit chain has no gap.\n", d.told)
	return nil
}

func (d *demo) say(text string) {
	s := int(time.Since(d.began).Seconds())
	fmt.Printf("%2d:%02d  %s\n", s/60, s%60, text)
}

func (d *demo) play(limit time.Duration) error {
	for i := 0; i == 0 || limit == 0 || time.Since(d.began) < limit; i++ {
		at := demoPoints[i%len(demoPoints)]
		if err := d.scene(i+2, at.point, at.words); err != nil {
			return err
		}
		d.told++
	}
	return nil
}

// scene kills the leader in a rotation.
func (d *demo) scene(generation int, point, words string) error {
	l, err := d.awaitLeader()
	if err != nil {
		return err
	}
	fmt.Println()
	d.say(fmt.Sprintf("host %s leads; hosts %s follow", l.name, strings.Join(d.others(l), " and ")))
	if err := errors.Join(d.arm(point), d.rotate(d.keys[0])); err != nil {
		return err
	}
	d.say(fmt.Sprintf("a rotation is asked for: host %s begins with generation %d", l.name, generation))
	if l, err = d.struck(point, func(h *host) bool { return !h.runs() }); err != nil {
		return err
	}
	killed := time.Now()
	d.say(fmt.Sprintf("host %s is killed, %s", l.name, words))
	next, err := d.awaitLeader(l)
	if err != nil {
		return err
	}
	d.say(fmt.Sprintf("host %s leads now, %.1f s later; the lease of host %s, of 2 s, had to end first", next.name,
		time.Since(killed).Seconds(), l.name))
	if err := d.settle(); err != nil {
		return err
	}
	if err := d.show(next, generation); err != nil {
		return err
	}
	if err := d.calm(); err != nil {
		return err
	}
	d.say("host " + l.name + " is started again, and follows")
	if _, err := d.judge(); err != nil {
		return err
	}
	d.say("checked in the vaults, the HSM and the audit chain: nothing is lost, doubled or forked")
	return nil
}

func (d *demo) others(l *host) (names []string) {
	for _, h := range d.hosts {
		if h != l {
			names = append(names, h.name)
		}
	}
	return names
}

// show prints the audit entries of the last rotation.
func (d *demo) show(h *host, generation int) error {
	s, err := h.look()
	if err != nil {
		return err
	}
	k, ok := s.Key(d.keys[0])
	if !ok || len(k.Generations) != generation {
		return fmt.Errorf("host %s does not show generation %d", h.name, generation)
	}
	d.say(fmt.Sprintf("generation %d is active in %s; the audit chain says how:", generation, places(k, generation)))
	var lines []string
	err = h.client().Audit(d.ctx, 0, "", func(e control.AuditEntry) error {
		switch {
		case e.Event == "rotation requested":
			lines = nil
		case e.Event == "leader changed":
			lines = append(lines, fmt.Sprintf("%6d  host %s begins to lead", e.Seq, e.Fields["host"]))
		case e.Key == d.keys[0]:
			lines = append(lines, strings.TrimRight(fmt.Sprintf("%6d  %s %s", e.Seq, e.Event,
				strings.TrimPrefix(e.Fields["vault"], "https://")), " "))
		}
		return nil
	})
	if err == nil {
		_, err = fmt.Fprintln(os.Stdout, "     "+strings.Join(lines, "\n     "))
	}
	return err
}

func places(k status.Key, generation int) string {
	var names []string
	for _, p := range k.Generations[generation-1].Placements {
		names = append(names, p.VaultName)
	}
	return strings.Join(names, " and ")
}

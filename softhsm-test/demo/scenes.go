package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// lookEvery is how often the demo asks keyd for its progress.
const lookEvery = 300 * time.Millisecond

// demo is one run.
type demo struct {
	screen   *screen
	seconds  time.Duration // 0: until Ctrl-C
	hurry    chan struct{} // closed when nobody wants to wait any more
	log      string        // where keyd's log is kept after a failure
	world    *world
	keyd     *keyd
	evidence *evidence
	story    story
	last     keyStatus
	tally    tally
	named    bool // the services, in keyd's configuration
}

const reason = "make demo"

// run plays the demo, cleans up, and prints the verdict.
func (d *demo) run(ctx context.Context) (err error) {
	d.screen.title("keyd's demo: a key made in an HSM, brought to two vaults, proven and rotated.")
	d.screen.title("Everything is emulated on this machine, and gone at the end.")
	d.screen.blank()
	d.world, err = newWorld(d.screen)
	switch {
	case err == nil:
		d.tally.world = true
		err = d.play(ctx)
	case ctx.Err() != nil: // Ctrl-C reaches the programs that make it, too
		err = context.Cause(ctx)
	}
	if errors.Is(err, errCutShort) {
		err = nil
	}
	if err != nil {
		d.log = d.keepLog()
	}
	d.screen.now("clears away", "")
	if err := errors.Join(err, d.world.close()); err != nil {
		return err
	}
	d.screen.verdict(d.tally.verdict())
	if missing := d.tally.missing(); len(missing) > 0 {
		d.screen.note(fmt.Sprintf("Not reached: %s. `make demo DEMO_SECONDS=90` shows all.", listed(missing)))
	}
	return nil
}

// play has keyd run for as long as the scenes take.
func (d *demo) play(ctx context.Context) (err error) {
	if d.keyd, err = start(d.world); err != nil {
		return err
	}
	d.evidence = newEvidence(d.world.azure)
	if err = d.scenes(ctx); errors.Is(err, errCutShort) {
		err = nil
	}
	select {
	case <-d.keyd.ended:
		return fmt.Errorf("keyd ended by itself: %v", d.keyd.cmd.ProcessState)
	default:
	}
	d.screen.now("keyd ends", "")
	if err := errors.Join(err, d.keyd.stop(d.last.making(), d.hurry)); err != nil {
		return err
	}
	if d.last.State == failing {
		return fmt.Errorf("the last steps of %s failed: %s", keyName, d.last.Error)
	}
	return d.conclude()
}

func (d *demo) scenes(ctx context.Context) error {
	d.screen.now("keyd starts", "it tries out the token and signs in to both vaults")
	err := d.watch(ctx, func() bool { return d.tally.generations >= 1 })
	if err != nil {
		return err
	}
	if _, err := d.keyd.do(ctx, "rotate", "--now", keyName, "--reason", reason, "--no-wait"); err != nil {
		return err
	}
	if err := d.watch(ctx, func() bool { return d.tally.generations >= 2 }); err != nil {
		return err
	}
	if err := d.showStatus(ctx); err != nil {
		return err
	}
	return d.watch(ctx, func() bool { return false })
}

// watch reports what happens, until enough returns true.
func (d *demo) watch(ctx context.Context, enough func() bool) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for !enough() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-d.keyd.ended:
			return errEnded
		case <-tick.C:
		}
		if err := d.look(ctx); err != nil {
			return err
		}
	}
	return nil
}

// look reports what has happened since the last look.
func (d *demo) look(ctx context.Context) error {
	k, answers, err := d.keyd.status(ctx)
	if err != nil || !answers {
		return err
	}
	if !d.tally.answered {
		d.tally.answered = true
		d.screen.step("keyd runs; only its HSM side, a process of its own, has the PIN")
		d.screen.note("See http://" + d.world.address + "/")
	}
	if k.Hold != nil {
		return fmt.Errorf("keyd put %s on hold: %s", keyName, k.Hold.Reason)
	}
	d.last = k
	for _, h := range d.story.news(k) {
		if err := d.tell(ctx, h); err != nil {
			return err
		}
	}
	d.screen.now(doing(k, time.Now(), d.end()))
	return nil
}

// end says when the demo ends.
func (d *demo) end() string {
	if d.seconds == 0 {
		return "Ctrl-C ends the demo"
	}
	return "the demo ends at " + strings.TrimSpace(clock(d.seconds))
}

// tell reports what has happened, after verifying it itself.
func (d *demo) tell(ctx context.Context, h happening) error {
	switch h.what {
	case reserved:
		d.screen.heading(fmt.Sprintf("Generation %d: %s", h.generation, why(h)))
	case made:
		d.tally.made++
		d.screen.step(fmt.Sprintf("made in the HSM: %s, in %.1f s", keySpec, h.took.Seconds()))
	case proven:
		if err := d.evidence.seal(h.vault, h.version, h.generation); err != nil {
			return err
		}
		d.tally.proven(h.vault)
		d.screen.step(fmt.Sprintf("%s  imported %s, proof passed", h.vault, h.version))
	case finished:
		return d.finished(ctx, h)
	}
	return nil
}

// why says who requested a generation.
func why(h happening) string {
	switch {
	case h.generation == 1:
		return "keyd asks for it, because the key has none"
	case h.requester == bySchedule:
		return "due by the schedule, every minute"
	}
	return fmt.Sprintf("keyd rotate --now %s --reason %q", keyName, reason)
}

// finished shows what holds once a generation is active in every vault.
func (d *demo) finished(ctx context.Context, h happening) error {
	for _, g := range d.last.Generations {
		if g.Number != h.generation {
			continue
		}
		for _, p := range g.Placements {
			if p.Proven.IsZero() {
				return fmt.Errorf("keyd finished generation %d of %s, and it is not proven in %s",
					g.Number, keyName, p.Vault)
			}
		}
		d.tally.finished(g)
	}
	older, err := d.evidence.openAll(h.generation)
	if err != nil {
		return err
	}
	if older > 0 {
		d.screen.step(count(older, "older version") + " still unwrap what was wrapped under them")
	}
	items, err := d.evidence.live()
	if err != nil {
		return err
	}
	d.screen.step(fmt.Sprintf("%d Azure services under the key read all %d items they ever wrote",
		len(services), items))
	return d.showConsumer(ctx, h.generation)
}

// conclude looks once more at everything that was ever encrypted.
func (d *demo) conclude() (err error) {
	if d.tally.older, err = d.evidence.openAll(d.tally.newest); err != nil {
		return err
	}
	if d.evidence.living {
		d.tally.services = len(services)
		if d.tally.items, err = d.evidence.read(); err != nil {
			return err
		}
	}
	if escapes := d.world.azure.Escapes(); len(escapes) > 0 {
		return fmt.Errorf("keyd called hosts that are not emulated: %s", strings.Join(escapes, ", "))
	}
	return nil
}

// showStatus shows the command that an operator begins the day with.
func (d *demo) showStatus(ctx context.Context) error {
	d.screen.heading("$ keyd status")
	cmd := d.keyd.command(ctx, "status")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := d.screen.lend(cmd.Run); err != nil && ctx.Err() == nil {
		return fmt.Errorf("keyd status: %w", err)
	}
	return nil
}

package main

import (
	"strings"
	"syscall"
	"testing"
)

const keydRuns = "✓ keyd runs"

func TestAShortDemoShowsWhatItCould(t *testing.T) {
	for _, seconds := range []string{"1", "5"} {
		t.Run(seconds, func(t *testing.T) {
			t.Parallel()
			d := play(t, 0, "DEMO_SECONDS="+seconds)
			got := d.ends(exitOK)
			if strings.ContainsAny(d.got(), "\x1b\r{") {
				t.Errorf("there are control characters or JSON in\n%q", d.got())
			}
			for _, want := range []string{"✓ a throw-away token", "✓ Shown: ", "Not reached: "} {
				if !strings.Contains(got, want) {
					t.Errorf("without %q:\n%s", want, got)
				}
			}
		})
	}
}

func TestCtrlCEndsTheDemoWithItsVerdict(t *testing.T) {
	t.Parallel()
	d := play(t, 80)
	d.waitFor("contoso-weu  imported ")
	d.types("\x03")
	got := d.ends(exitOK)
	said := strings.Join(strings.Fields(got), " ") // whatever the width
	if !strings.Contains(said, "(1 into contoso-weu") || !strings.Contains(said, "Not reached: ") {
		t.Errorf("the verdict is missing:\n%s", got)
	}
	if strings.Contains(got, "^C") {
		t.Errorf("the Ctrl-C is still to be seen:\n%s", got)
	}
	for line := range strings.SplitSeq(got, "\n") {
		if columns(line) >= 80 {
			t.Errorf("%d columns: %q", columns(line), line)
		}
	}
}

func TestATerminalGetsOnlyWhatItSupports(t *testing.T) {
	for _, c := range []struct {
		env              string
		control, colours bool
	}{
		{"TERM=xterm", true, true}, {"NO_COLOR=1", true, false}, {"TERM=dumb", false, false},
	} {
		t.Run(c.env, func(t *testing.T) {
			t.Parallel()
			d := play(t, 80, c.env, "CLICOLOR_FORCE=1")
			d.waitFor(keydRuns)
			d.types("\x03")
			d.ends(exitOK)
			if got := d.got(); strings.Contains(got, "\x1b") != c.control || colours.MatchString(got) != c.colours {
				t.Errorf("the terminal got %q", got)
			}
		})
	}
}

func TestASecondCtrlCIsCleanToo(t *testing.T) {
	t.Parallel()
	d := play(t, 80)
	d.waitFor("▸ Generation 1")
	d.types("\x03")
	d.waitUntil(func() bool { return strings.Contains(d.got(), " keyd ends") })
	d.types("\x03")
	d.ends(exitOK)
}

func TestTwoDemosAtOnce(t *testing.T) {
	t.Parallel()
	one, other := play(t, 80), play(t, 80)
	one.waitFor(keydRuns)
	other.waitFor(keydRuns)
	for _, d := range []*played{one, other} {
		d.types("\x03")
		d.ends(exitOK)
	}
}

func TestADaemonThatDiesIsReportedInAFewLines(t *testing.T) {
	t.Parallel()
	d := play(t, 0)
	d.waitFor(keydRuns)
	for pid, line := range d.processes() {
		if strings.Contains(line, "keyd run ") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	d.waitFor("The whole log is in ")
	_, log, _ := strings.Cut(strings.TrimSpace(d.text()), "The whole log is in ")
	got := d.ends(exitFailed, log)
	_, failure, _ := strings.Cut(got, "\n✗ ")
	want := "The demo failed: keyd ended by itself: signal: killed\n  keyd's log ends:\n"
	if !strings.HasPrefix(failure, want) || strings.Count(failure, "\n") > 9 || strings.Contains(failure, `{"`) {
		t.Errorf("the failure reads\n%s", failure)
	}
}

func TestADemoWithoutAReaderLeavesNothing(t *testing.T) {
	t.Parallel()
	d := play(t, 0)
	d.waitFor(keydRuns)
	d.goesAway()
	_ = d.cmd.Wait()
	if got := d.cmd.ProcessState.ExitCode(); got != exitFailed {
		t.Errorf("%v", d.cmd.ProcessState)
	}
	d.leaves()
}

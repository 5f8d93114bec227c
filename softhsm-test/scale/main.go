// Command scale counts what many keys cost. It brings n keys up with the real keyd on SoftHSM and an emulated Azure
// that enforces its limits, rotates them all, restarts keyd, lets proofs and quiet looks pass, and prints a table.
//
// Its rule: it sees keyd only from outside (the vaults' own count of calls, that of the PKCS#11 library, metrics,
// /proc), so that the same tool measures every version of keyd. It judges counts and never times, and leaves nothing
// behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// size is what is asked for.
type size struct {
	keys, vaults int
	looks        int           // quiet looks that are counted
	limit        time.Duration // of the whole run
	judge        bool          // fail when there are more calls than the goals allow
}

const perVault = 1000 // keys in one vault at most

func main() {
	runtime.LockOSThread() // keyd gets a signal when the thread that started it ends: see start
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	var s size
	flag.IntVar(&s.keys, "keys", 10, "how many RSA-2048 keys")
	flag.IntVar(&s.vaults, "vaults", 0, "in how many vaults; 0: a thousand keys each")
	flag.IntVar(&s.looks, "looks", 3, "for how many quiet looks")
	flag.DurationVar(&s.limit, "limit", 3*time.Hour, "give up after this long")
	flag.BoolVar(&s.judge, "judge", false, "fail when there are more calls than the goals allow")
	flag.Parse()
	if s.vaults == 0 {
		s.vaults = (s.keys + perVault - 1) / perVault
	}
	if s.keys < 1 || s.vaults < 1 || s.looks < 1 || s.keys > s.vaults*perVault || s.vaults > s.keys {
		return fmt.Errorf(
			"%d keys in %d vaults for %d looks: at least one of each, at most %d keys in a vault and no "+
				"vault without a key; for example `make scale KEYS=2000 VAULTS=2`",
			s.keys,
			s.vaults,
			s.looks,
			perVault,
		)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	ctx, cancelLimit := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("not done after %s", s.limit))
	defer cancelLimit()

	w, err := newWorld(s)
	defer func() { err = errors.Join(err, w.close()) }()
	if err != nil {
		return err
	}
	t, err := tell(ctx, w)
	if err != nil {
		return fmt.Errorf("%w; the end of keyd's log:\n%s", err, w.logEnd())
	}
	t.print(os.Stdout)
	if s.judge && t.late {
		return errors.New(
			"the quiet looks cannot be judged: keyd did not keep up with the fast clock, so run it again " +
				"on a machine with less to do",
		)
	}
	if excess := t.excess(); s.judge && len(excess) > 0 {
		return fmt.Errorf("more calls than the goals allow: %s", strings.Join(excess, "; "))
	}
	return nil
}

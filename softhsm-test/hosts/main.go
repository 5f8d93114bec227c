// Command hosts runs three real daemons of keyd on one store, as three hosts, and has everything go wrong that can go
// wrong between them. Its rule: what it says of keyd it has found in the vaults, the token and the audit chain itself.
//
// Each host is a network namespace. All of them share a SoftHSM token, as hosts share a network HSM, and an emulated
// Azure. The store is a PostgreSQL with a synchronous standby, or an etcd of three members. All of it runs in
// namespaces of its own, so no traffic leaves them, and nothing is left when the command ends, however it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/keyd-project/keyd/softhsm-test/fasttime"
)

// options are what the command line asks for.
type options struct {
	keyd    string // the program, built by -build
	sample  bool
	only    string
	keys    int
	factor  int
	demo    bool
	seconds int
}

func main() { os.Exit(run()) }

func run() int {
	var o options
	build := flag.String(
		"build",
		"",
		"build keyd into this file, so that it follows a fast clock, and dies at a chosen "+
			"kill point; nothing else",
	)
	flag.StringVar(&o.keyd, "keyd", "", "the keyd that -build built")
	flag.BoolVar(&o.sample, "sample", false, "tell a sample of the stories")
	flag.StringVar(&o.only, "only", "", "tell only stories whose engine and name contain this text")
	flag.IntVar(&o.keys, "keys", 200, "how many keys rotate while the store fails over, unless it is a sample")
	flag.IntVar(&o.factor, "factor", 2, "how many times as fast as the machine's clock the daemons' clocks go")
	flag.BoolVar(&o.demo, "demo", false, "show a newcomer how another host finishes a rotation")
	flag.IntVar(&o.seconds, "seconds", 0, "how long the demo goes on; 0: until Ctrl-C")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	work := os.Getenv(workVariable)
	switch {
	case *build != "":
		return said(buildKeyd(*build))
	case work == "":
		return outside(ctx, o)
	}
	return said(inside(ctx, work, o))
}

// said is the exit code after an error was shown, if there was one.
func said(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "hosts:", err)
		return 1
	}
	return 0
}

// inside does the work, in namespaces of its own.
func inside(ctx context.Context, work string, o options) (err error) {
	if o.keyd, err = filepath.Abs(o.keyd); err != nil {
		return err
	}
	if err := prepare(work); err != nil {
		return err
	}
	fasttime.ComeFirst()
	if o.demo {
		return demonstrate(ctx, work, o)
	}
	return judgeAll(ctx, work, o)
}

// judgeAll tells the stories on both engines at once: they mostly wait.
func judgeAll(ctx context.Context, work string, o options) error {
	engines := []string{"postgres", "etcd"}
	results, errs := make([]result, len(engines)), make([]error, len(engines))
	var both sync.WaitGroup
	for i, name := range engines {
		both.Go(func() {
			if results[i], errs[i] = tellAll(ctx, work, i, name, o); errs[i] != nil {
				fmt.Fprintln(os.Stderr, errs[i]) // at once: the other engine's stories may take long
			}
		})
	}
	both.Wait()
	sum := result{}
	for _, r := range results {
		sum = sum.plus(r)
	}
	fmt.Printf("hosts: %d effects landed after another host had begun to lead, within their deadlines\n", sum.late)
	fmt.Printf("hosts: %d faults on postgres, %d on etcd, lost %d, doubled %d, forked %d\n",
		results[0].faults, results[1].faults, sum.lost, sum.doubled, sum.forked)
	err := errors.Join(errs...)
	if err != nil {
		err = errors.New("a story did not end as it must: see above")
	}
	if o.only == "" && slices.ContainsFunc(results, func(r result) bool { return r.faults == 0 }) {
		err = errors.Join(err, errors.New("an engine had no fault"))
	}
	if err == nil && sum.lost+sum.doubled+sum.forked > 0 {
		err = errors.New("keys or audit entries were lost, doubled or forked")
	}
	return err
}

// tellAll tells the stories on one engine. After a story that went wrong, the rest would say nothing.
func tellAll(ctx context.Context, work string, number int, engine string, o options) (r result, err error) {
	var told []story
	for _, s := range stories(o) {
		if (s.on == "" || s.on == engine) && (s.sample || !o.sample) && strings.Contains(engine+": "+s.name, o.only) {
			told = append(told, s)
		}
	}
	if len(told) == 0 {
		return r, nil
	}
	w, err := newWorld(ctx, work, number, engine, o)
	defer func() { err = errors.Join(err, w.close()) }()
	if err != nil {
		return r, fmt.Errorf("%s: %w\n%s", engine, err, w.explain())
	}
	for _, s := range told {
		began := time.Now()
		found, err := w.live(s)
		r = r.plus(found)
		if err != nil {
			return r, fmt.Errorf("%s: %s: %w\n%s", engine, s.name, err, w.explain())
		}
		fmt.Printf("%-8s  %s: %s, %.0f s\n", engine, s.name, found, time.Since(began).Seconds())
	}
	return r, nil
}

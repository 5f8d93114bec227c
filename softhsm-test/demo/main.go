// Command demo shows keyd's main job on a throw-away token: it makes a key in SoftHSM,
// imports it into a Key Vault and a Managed HSM (both emulated), proves and rotates it.
// Its rule: it claims only what it has verified itself, in the vaults and at the
// services that encrypt there, and it leaves nothing behind.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// The exit codes. Ending the demo early, by DEMO_SECONDS or Ctrl-C, is not a failure.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

// errCutShort is why the demo's context ends when nothing failed.
var errCutShort = errors.New("cut short")

func main() {
	runtime.LockOSThread() // keyd gets a signal when the thread that started it ends: see start
	os.Exit(run())
}

func run() int {
	seconds, err := seconds(os.Getenv("DEMO_SECONDS"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return exitUsage
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if seconds > 0 {
		limit := time.AfterFunc(seconds, func() { cancel(errCutShort) })
		defer limit.Stop()
	}
	d := &demo{screen: newScreen(os.Stdout, cancel), seconds: seconds, hurry: make(chan struct{})}
	defer endBySignal(cancel, d.hurry)()

	d.screen.run()
	err = d.run(ctx)
	d.screen.stop()
	if err != nil {
		complain(os.Stderr, widthOf(os.Stderr), err, d.log)
		return exitFailed
	}
	return exitOK
}

// seconds reads DEMO_SECONDS; 0: until Ctrl-C.
func seconds(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		return 0,
			fmt.Errorf("DEMO_SECONDS is %q: give a number of seconds from 1 on, as in `make demo DEMO_SECONDS=90`, "+
				"or leave it out and end the demo with Ctrl-C", text)
	}
	return time.Duration(n) * time.Second, nil
}

// endBySignal cuts the demo short with the first signal, and closes hurry with the
// second.
func endBySignal(cancel context.CancelCauseFunc, hurry chan<- struct{}) (stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// A reader that goes away, as head does, must not end this process before it has
	// cleaned up: the write fails instead.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		<-signals
		cancel(errCutShort)
		<-signals
		close(hurry)
	}()
	return func() { signal.Stop(signals) }
}

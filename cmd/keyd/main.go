// Command keyd makes keys in an HSM, brings them to Azure Key Vault and Managed HSM, rotates them on a schedule, and
// proves it. Its rule: commands, signals and exit codes only; the rooms below decide.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // for a host without tzdata: schedules name time zones
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

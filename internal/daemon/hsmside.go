package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/words"
)

// HSMOptions are what the command line passes to the HSM side.
type HSMOptions struct {
	ConfigPath string
	Logger     *slog.Logger
}

// RunHSM is the HSM side: a child of `keyd run`, on the connection that `keyd run` gave it, or a service of its own
// if the configuration names a socket. The caller must end the process when RunHSM returns.
func RunHSM(ctx context.Context, o HSMOptions) error {
	cfg, err := config.Load(o.ConfigPath)
	if err != nil {
		return err
	}
	if err := checkHSMSide(cfg); err != nil {
		return err
	}
	if problems := cfg.CheckPINFile(); len(problems) > 0 {
		o.Logger.Error("the PIN file cannot be used", "error", config.Problems(problems).Error())
	}
	warnOfTestRoot(cfg, o.Logger)
	rights, err := newRightsReader(o.ConfigPath, cfg, o.Logger)
	if err != nil {
		return err
	}
	at, err := endpoint(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	token := cmp.Or(cfg.HSM.Token, cfg.HSM.Serial, cfg.HSM.Model, cfg.HSM.Manufacturer)
	err = hsm.Run(ctx, hsm.Config{
		Module: cfg.HSM.Module, Token: cfg.HSM.Token, Serial: cfg.HSM.Serial, Model: cfg.HSM.Model,
		Manufacturer: cfg.HSM.Manufacturer,
		PINFile:      cfg.HSM.PINFile, CredentialsDir: os.Getenv("CREDENTIALS_DIRECTORY"),
		Sessions: cfg.HSM.Sessions, CallTimeout: cfg.HSM.CallTimeout, GenerateTimeout: cfg.HSM.GenerateTimeout,
		Mechanism: cfg.HSM.WrapMechanism, Instance: cfg.Instance, Host: hostOnToken(cfg),
		StateDir: cfg.HSM.StateDir,
	}, rights.permitted, at, o.Logger, func() {
		_, _ = sd.SdNotify(false, sd.SdNotifyReady)
		if cfg.HSM.Socket != "" {
			go tellSystemd(ctx, cfg.HSM.Socket, token)
		}
	})
	if err != nil {
		notifyStatus("ended: " + err.Error())
		return err
	}
	notifyStatus("stopped")
	return nil
}

// hostOnToken is this host's name where other hosts of the instance use the same token; otherwise "".
func hostOnToken(cfg *config.Config) string {
	if cfg.Store.Shared() {
		return cfg.Host
	}
	return ""
}

// tellSystemd notifies systemd that the HSM side is alive, each time it answers a call on its own socket, and of the
// state that it reports.
func tellSystemd(ctx context.Context, socket, token string) {
	pause := hsmPoll
	watchdog, err := sd.SdWatchdogEnabled(false)
	if err == nil && watchdog > 0 {
		pause = min(pause, watchdog/3)
	}
	client := hsm.Dial(socket, hsm.Timeouts{Call: max(pause, watchdog/3)}, nil)
	defer client.Close()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	last := ""
	for {
		if info, err := client.Describe(ctx); err == nil {
			_, _ = sd.SdNotify(false, sd.SdNotifyWatchdog)
			if line := hsmLine(info, token); line != last {
				last = line
				notifyStatus(line)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func hsmLine(info key.HSMInfo, token string) string {
	if info.Degraded != "" {
		return "degraded: " + info.Degraded
	}
	return "serving token " + cmp.Or(info.Token, token)
}

// notifyStatus shows a text in `systemctl status` (sd_notify(3)), which takes one line.
func notifyStatus(text string) {
	_, _ = sd.SdNotify(false, "STATUS="+words.OneLine(text))
}

func endpoint(cfg *config.Config) (at hsm.Endpoint, err error) {
	if cfg.HSM.Socket == "" {
		if at.Listener, err = hsm.ChildListener(); err != nil {
			return at, config.Problems{cfg.Mistake("hsm.socket",
				"write socket: /run/keyd-hsm/hsm.sock under hsm, or let keyd run start the HSM side",
				"hsm.socket is missing, and `keyd run` did not start this process")}
		}
		return at, nil
	}
	uid, err := userID(cfg.HSM.User)
	if err != nil {
		return at, fmt.Errorf("hsm.user: %w", err)
	}
	at.UIDs = []int{uid}
	at.Listener, err = hsm.Listen(cfg.HSM.Socket)
	return at, forAPerson(cfg, "hsm.socket", err)
}

func userID(name string) (int, error) {
	if uid, err := strconv.Atoi(name); err == nil {
		return uid, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Uid)
}

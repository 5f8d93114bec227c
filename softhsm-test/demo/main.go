// Command demo shows keyd's main job on a throw-away token: a key made in SoftHSM,
// brought to a Key Vault and a Managed HSM (both the emulator's), proven, rotated.
// It leaves nothing behind.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

const (
	keyName   = "demo-key"
	vaultHost = "contoso-weu.vault.azure.net"
	hsmHost   = "contoso.managedhsm.azure.net"
	listen    = "127.0.0.1:9889"
)

const configuration = `instance: demo
state_dir: %[1]s/state
hsm:
  module: %[2]s
  token: %[3]s
  pin_file: %[4]s
azure:
  credential: managed-identity
  ca_file: %[1]s/ca.pem
vaults:
  contoso-weu:
    url: https://` + vaultHost + `
  contoso-hsm:
    url: https://` + hsmHost + `
keys:
  ` + keyName + `:
    spec: RSA-4096
    vaults: [contoso-weu, contoso-hsm]
    schedule: "* * * * *"
    floor: 0s
    budget: 1440
control:
  socket: %[1]s/keyd.sock
web:
  listen: ` + listen + `
health:
  newest: 20s
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is one run.
type demo struct {
	dir   string
	keyd  string
	env   []string
	vault map[string]*emulator.Vault // by nickname
	// ciphertexts are data keys wrapped as a consumer would, by vault and
	// version: they must open for ever.
	ciphertexts map[string]map[string]sealed
	shown       int
	consumers   *arm.Service
}

type sealed struct {
	generation int
	ciphertext []byte
	sum        [sha256.Size]byte
}

func run(ctx context.Context) (err error) {
	keyd, err := filepath.Abs("bin/keyd")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "keyd-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	token, err := softhsmtest.Create(dir, "keyd-demo", rand.Text())
	if err != nil {
		return err
	}
	emu, err := emulator.Start(emulator.Options{
		Vaults: []emulator.VaultConfig{
			{Host: vaultHost, Profile: emulator.KeyVaultPremium, PurgeProtection: true},
			{Host: hsmHost, Profile: emulator.ManagedHSM, PurgeProtection: true},
		},
		ConsumerSpeed: 24 * 3600, // a day is a second
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, emu.Close()) }()
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), emu.CAPEM(), 0o600); err != nil {
		return err
	}
	text := fmt.Sprintf(configuration, dir, token.Module, token.Label, token.PINFile)
	if err := os.WriteFile(filepath.Join(dir, "keyd.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	d := &demo{dir: dir, keyd: keyd, ciphertexts: map[string]map[string]sealed{}, consumers: emu.Consumers(),
		vault: map[string]*emulator.Vault{"contoso-weu": emu.Vault(vaultHost), "contoso-hsm": emu.Vault(hsmHost)}}
	d.env = append(append(os.Environ(), token.Environ()...), emu.Environ(filepath.Join(dir, "ca.pem"))...)
	return d.play(ctx)
}

func (d *demo) play(ctx context.Context) error {
	logFile, err := os.Create(filepath.Join(d.dir, "keyd.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	daemon := exec.Command(d.keyd, "run", "--config", filepath.Join(d.dir, "keyd.yaml"))
	daemon.Env, daemon.Stdout, daemon.Stderr = d.env, logFile, logFile
	if err := daemon.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	say("a token in SoftHSM, a Key Vault and a Managed HSM in the emulator, keyd as process %d", daemon.Process.Pid)

	playErr := d.scenes(ctx, ended)
	if playErr != nil && !errors.Is(playErr, context.Canceled) {
		d.showLog()
	}
	_ = daemon.Process.Signal(syscall.SIGTERM)
	if !errors.Is(playErr, errDaemonEnded) {
		if err := <-ended; err != nil && playErr == nil {
			playErr = fmt.Errorf("keyd did not end cleanly: %w", err)
		}
	}
	say("keyd has ended; the token, the vaults and every file of this demo are gone")
	return playErr
}

var errDaemonEnded = errors.New("keyd ended by itself")

func (d *demo) scenes(ctx context.Context, ended <-chan error) error {
	say("the first generation is made and imported by itself, because the key has none")
	if err := d.watch(ctx, ended, func() bool { return d.shown >= 1 }); err != nil {
		return err
	}
	say("$ keyd rotate --now %s --reason \"make demo\"", keyName)
	if err := d.show(ctx, "rotate", "--now", keyName, "--reason", "make demo"); err != nil {
		return err
	}
	say("$ keyd status")
	if err := d.show(ctx, "status"); err != nil {
		return err
	}
	say("look at http://%s/ and http://%s/metrics; a rotation is due every minute", listen, listen)
	seconds, _ := strconv.Atoi(os.Getenv("DEMO_SECONDS"))
	if seconds <= 0 {
		say("Ctrl-C ends the demo")
		err := d.watch(ctx, ended, func() bool { return false })
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	if err := d.watch(ctx, ended, func() bool { return time.Now().After(end) }); err != nil {
		return err
	}
	if d.shown < 3 {
		return fmt.Errorf("only %d generations were finished", d.shown)
	}
	return nil
}

// watch prints each generation as it is finished, until enough says so.
func (d *demo) watch(ctx context.Context, ended <-chan error, enough func() bool) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for !enough() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return errors.Join(errDaemonEnded, err)
		case <-tick.C:
		}
		if err := d.showGenerations(ctx); err != nil {
			return err
		}
	}
	return nil
}

// snapshot is what the demo reads of `keyd status --json`.
type snapshot struct {
	Keys []struct {
		Hold *struct {
			Reason string `json:"reason"`
		} `json:"hold"`
		Generations []struct {
			Number     int       `json:"number"`
			Finished   time.Time `json:"finished"`
			Placements []struct {
				Vault   string    `json:"vault_name"`
				Version string    `json:"version"`
				State   string    `json:"state"`
				Proven  time.Time `json:"proven_at"`
			} `json:"placements"`
		} `json:"generations"`
	} `json:"keys"`
}

func (d *demo) showGenerations(ctx context.Context) error {
	out, err := d.command(ctx, "status", "--json").Output()
	if err != nil {
		return nil //nolint:nilerr // not up yet; a daemon that ends by itself is noticed elsewhere
	}
	var s snapshot
	if err := json.Unmarshal(out, &s); err != nil {
		return err
	}
	for _, k := range s.Keys {
		if k.Hold != nil {
			return fmt.Errorf("the key is held: %s", k.Hold.Reason)
		}
		for _, g := range k.Generations {
			if g.Finished.IsZero() || g.Number <= d.shown {
				continue
			}
			var parts []string
			for _, p := range g.Placements {
				if p.Proven.IsZero() {
					return fmt.Errorf("generation %d is finished and not proven in %s", g.Number, p.Vault)
				}
				if err := d.seal(p.Vault, p.Version, g.Number); err != nil {
					return err
				}
				parts = append(parts, fmt.Sprintf("%s version %s proof passed", p.Vault, p.Version))
			}
			older, err := d.openAll(g.Number)
			if err != nil {
				return err
			}
			items, err := d.live(ctx)
			if err != nil {
				return err
			}
			d.shown = g.Number
			say("generation %d: %s; %d older versions still unwrap what was wrapped under them; "+
				"%d Azure services under the key read all %d items they ever wrote", g.Number, strings.Join(parts, ", "), older, len(consumers), items)
		}
	}
	return nil
}

// consumers encrypt under the key, and follow it: a storage account and a Cosmos DB
// account in the vault, a disk encryption set in the Managed HSM.
var consumers = []struct{ kind, name, host string }{
	{"storage", "sadata", vaultHost}, {"cosmos", "orders", vaultHost}, {"disk", "vmdisks", hsmHost},
}

// live has every consumer write something and read all that it ever wrote.
func (d *demo) live(ctx context.Context) (items int, err error) {
	for _, c := range consumers {
		if d.shown == 0 {
			w, err := arm.ParseWish(c.kind + "=" + c.name + ",key=https://" + c.host + "/keys/" + keyName)
			if err != nil {
				return 0, err
			}
			if err := d.consumers.Make(ctx, w); err != nil {
				return 0, err
			}
		}
		if err := d.consumers.Write(ctx, c.name, []byte(rand.Text())); err != nil {
			return 0, err
		}
	}
	report := d.consumers.ReadEverything(ctx)
	for _, c := range report.Consumers {
		items += c.Read
	}
	return items, report.Err()
}

// seal wraps a data key under a version's public key, as a consumer would.
func (d *demo) seal(vault, version string, generation int) error {
	for _, v := range d.vault[vault].Versions(keyName) {
		if v.ID != version {
			continue
		}
		dataKey := make([]byte, 32)
		rand.Read(dataKey)
		ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &rsa.PublicKey{N: v.N, E: v.E}, dataKey, nil)
		if err != nil {
			return err
		}
		if d.ciphertexts[vault] == nil {
			d.ciphertexts[vault] = map[string]sealed{}
		}
		d.ciphertexts[vault][version] = sealed{generation, ciphertext, sha256.Sum256(dataKey)}
		return nil
	}
	return fmt.Errorf("vault %s does not have version %s", vault, version)
}

// openAll unwraps everything that was ever sealed and counts the versions older
// than the generation.
func (d *demo) openAll(generation int) (older int, err error) {
	for vault, versions := range d.ciphertexts {
		for version, s := range versions {
			plain, err := d.vault[vault].Unwrap(keyName, version, "RSA-OAEP-256", s.ciphertext)
			if err != nil || sha256.Sum256(plain) != s.sum {
				return 0, fmt.Errorf("version %s in %s (generation %d) no longer unwraps: %w", version, vault, s.generation, err)
			}
			if s.generation < generation {
				older++
			}
		}
	}
	return older, nil
}

func (d *demo) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.keyd, append(args, "--socket", filepath.Join(d.dir, "keyd.sock"))...)
	cmd.Env = d.env
	return cmd
}

func (d *demo) show(ctx context.Context, args ...string) error {
	cmd := d.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("keyd %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (d *demo) showLog() {
	if b, err := os.ReadFile(filepath.Join(d.dir, "keyd.log")); err == nil {
		fmt.Fprintf(os.Stderr, "keyd's log:\n%s\n", b)
	}
}

func say(format string, args ...any) {
	fmt.Printf("%s  "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

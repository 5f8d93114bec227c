package severalhosts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// change is what is not as printed in a command or a file: this machine is none of the servers on the page.
type change struct{ printed, here, why string }

// everywhere are the changes on every host. A test adds the addresses of its servers.
func (h *host) everywhere() []change {
	all := []change{
		{"/etc/", h.path("etc") + "/", "a folder is the root of a host"},
		{"/var/", h.path("var") + "/", "a folder is the root of a host"},
		{"-o keyd -g keyd ", "", "the package makes the user keyd"},
		{"-o keyd ", "", "the package makes the user keyd"},
		{"192.0.2.0/24", "127.0.0.0/8", "the hosts are on the loopback"},
		{writes, writes + "&sslmode=verify-full", "on the loopback keyd would do without TLS"},
		{"chown keyd ", fmt.Sprintf("chown %d ", os.Getuid()), "the package makes the user keyd"},
	}
	if os.Getuid() != 0 {
		all = append(all, change{"-o postgres -g postgres ", "", "PostgreSQL runs as the test's user"})
	}
	return all
}

const writes = "target_session_attrs=read-write" // in the URL of PostgreSQL

// real are the programs of the page that run as they are. Of the rest, systemctl is a method of host, and the others
// are stand-ins.
var real = []string{"chown", "cp", "date", "etcdctl", "install", "jq", "mkdir", "openssl", "psql", "rm"}

// standIns run in place of programs of the page. What is neither here nor in real is not found, which fails the test.
func (h *host) standIns() map[string]string {
	return map[string]string{
		// The test's PostgreSQL lets its superuser in by the socket.
		"sudo": `[ "$1 $2" = "-u postgres" ] && shift 2 && exec "$@"`,
		// Nobody is there to type.
		"editor": `printf '%s\n' "$TYPED" >"$1"`,
		// The other host is a folder.
		"rsync": `[ "$1" = -a ] && shift && for to; do :; done && mkdir -p "$to" && cp -a "$@"`,
		// The default configuration is another.
		"keyd": `case "$*" in
*--config*) ;;
"store init"* | "store status"* | "store accept"*) set -- "$@" --config ` + h.path("etc/keyd/keyd.yaml") + ` ;;
esac
exec ` + keyd + ` "$@"`,
	}
}

// keyd is the program under test.
var keyd string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "keyd-severalhosts-")
	if err == nil {
		keyd = filepath.Join(dir, "keyd")
		cmd := exec.Command("go", "build", "-o", keyd, "github.com/keyd-project/keyd/cmd/keyd")
		if out, failed := cmd.CombinedOutput(); failed != nil {
			err = fmt.Errorf("go build: %w: %s", failed, out)
		}
	}
	code := 1
	if err == nil {
		code = m.Run()
	}
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// host is a machine of the page. Commands run in the folder "root" of its root.
type host struct {
	t         *testing.T
	root      string
	changes   []change
	env       []string
	passwords map[string]string // that are typed, by role
	answers   string            // what is typed at other questions
	service   *service          // nil while keyd does not run
}

// newHost makes a machine on which these changes are made, too.
func newHost(t *testing.T, changes ...change) *host {
	t.Helper()
	root, err := os.MkdirTemp("", "keyd-host-") // not the test's own: the path of a control socket must be short
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(root)) })
	must(t, os.Chmod(root, 0o755))
	h := &host{t: t, root: root, changes: changes}
	h.changes = append(h.changes, h.everywhere()...)
	for _, dir := range []string{
		"bin", "etc/keyd/next", "etc/keyd/alone", "etc/postgresql", "root", "var/backups", "var/lib", "run/keyd",
	} {
		must(t, os.MkdirAll(h.path(dir), 0o755))
	}
	for _, name := range real {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatalf("%v; install it with: make deps", err)
		}
		must(t, os.Symlink(path, h.path("bin", name)))
	}
	for name, script := range h.standIns() {
		h.write("#!/bin/sh\n"+script+"\n", "bin", name)
		must(t, os.Chmod(h.path("bin", name), 0o755))
	}
	h.write("\\set ON_ERROR_STOP on\n\\pset format unaligned\n", "psqlrc")
	h.env = []string{
		"PATH=" + h.path("bin"),
		"HOME=" + h.path("root"),
		"PSQLRC=" + h.path("psqlrc"),
		"LC_ALL=C.UTF-8",
	}
	return h
}

func (h *host) path(parts ...string) string {
	return filepath.Join(append([]string{h.root}, parts...)...)
}

func (h *host) write(text string, path ...string) {
	h.t.Helper()
	must(h.t, os.WriteFile(h.path(path...), []byte(text), 0o600))
}

// types says what is typed into an editor from now on.
func (h *host) types(text string) { h.env = append(h.env, "TYPED="+text) }

// here is a text of the page with the changes of this host.
func (h *host) here(text string) string {
	var pairs []string
	for _, c := range h.changes {
		pairs = append(pairs, c.printed, c.here)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// run follows a block, and requires that every command succeeds and prints what the block shows. It returns what they
// print.
func (h *host) run(b block) string {
	h.t.Helper()
	out, err := h.try(b)
	if err == nil {
		err = missing(b.shown(h.t), out)
	}
	if err != nil {
		h.t.Fatalf("%s:%d: %v\n%s\n%s", page, b.line, err, b.text, out)
	}
	return out
}

// try is run for a block of which a command may fail. One shell runs what is between commands of systemd.
func (h *host) try(b block) (output string, err error) {
	h.t.Helper()
	script := ""
	flush := func() error {
		out, err := h.shell(script)
		output += out
		script = ""
		return err
	}
	for _, s := range b.steps(h.t) {
		if arguments, ok := strings.CutPrefix(s.command, "systemctl "); ok {
			if err := errors.Join(flush(), h.systemctl(arguments)); err != nil {
				return output, err
			}
			continue
		}
		script += h.here(s.command)
		if len(s.typed) > 0 {
			script += " <<'END'\n" + h.typed(s) + "END"
		}
		script += "\n"
	}
	err = flush()
	return output, err
}

// shell has no terminal, so that programs ask on standard input.
func (h *host) shell(script string) (output string, err error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -euo pipefail\n"+script)
	cmd.Dir, cmd.Env, cmd.Stdin = h.path("root"), h.env, strings.NewReader(h.answers)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with what it runs
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// typed is what a person types, with the answers to questions.
func (h *host) typed(s step) (text string) {
	for _, line := range s.typed {
		text += h.here(line) + "\n"
		if role, asks := strings.CutPrefix(line, `\password `); asks {
			text += h.passwords[role] + "\n" + h.passwords[role] + "\n"
		}
	}
	return text
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

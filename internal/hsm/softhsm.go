package hsm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/keyd-project/keyd/internal/ownership"
)

// SoftHSM keeps its tokens in files and does not report files that it cannot read. If it cannot read the directory,
// C_Initialize fails with CKR_GENERAL_ERROR; it does not show the token of another user at all. So after a failure
// keyd looks at the files itself.

func isSoftHSM(module string) bool { return strings.Contains(filepath.Base(module), "softhsm") }

// initialiseHint says why SoftHSM cannot start; "" if it finds no reason.
func initialiseHint(module string) string {
	if !isSoftHSM(module) {
		return ""
	}
	conf := softhsmConf()
	dir, err := tokenDir(conf)
	if err != nil {
		return "SoftHSM's configuration: " + cannotRead(conf, err)
	}
	if _, err := os.ReadDir(dir); err != nil {
		return "SoftHSM's token directory: " + cannotRead(dir, err)
	}
	return ""
}

// hiddenTokens names the SoftHSM tokens that this user cannot read, as the end of a sentence; "" if there are none.
func hiddenTokens() string {
	dir, err := tokenDir(softhsmConf())
	if err != nil {
		return ""
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		for _, path := range []string{filepath.Join(dir, e.Name()), filepath.Join(dir, e.Name(), "token.object")} {
			if err := unix.Access(path, unix.R_OK); errors.Is(err, fs.ErrPermission) {
				return "are hidden from this user: " + cannotRead(path, err)
			}
		}
	}
	return ""
}

// softhsmConf returns where SoftHSM looks for its configuration (softhsm2.conf(5)).
func softhsmConf() string {
	if path := os.Getenv("SOFTHSM2_CONF"); path != "" {
		return path
	}
	if home, err := os.UserHomeDir(); err == nil {
		if path := filepath.Join(home, ".config/softhsm2/softhsm2.conf"); exists(path) {
			return path
		}
	}
	const debian, source = "/etc/softhsm/softhsm2.conf", "/etc/softhsm2.conf"
	if exists(source) {
		return source
	}
	return debian
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// tokenDir returns directories.tokendir from the configuration.
func tokenDir(conf string) (string, error) {
	text, err := os.ReadFile(conf)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if name, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(name) == "directories.tokendir" {
			return strings.TrimSpace(value), nil
		}
	}
	return "", errors.New("it has no directories.tokendir")
}

// cannotRead says why this user cannot read a file or directory, and what to do.
func cannotRead(path string, err error) string {
	if !errors.Is(err, fs.ErrPermission) {
		return fmt.Sprintf(
			"%s: %v; as user %s, check with softhsm2-util --show-slots when it is right", path, err, self(),
		)
	}
	barred := path
	for dir := filepath.Dir(path); unix.Access(dir, unix.X_OK) != nil && dir != "/"; dir = filepath.Dir(dir) {
		barred = dir
	}
	owner := ""
	if info, err := os.Lstat(barred); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			owner = fmt.Sprintf(", which belongs to %s with mode %04o", ownership.UserName(st.Uid), info.Mode().Perm())
		}
	}
	return fmt.Sprintf(
		"user %s cannot read %s%s; unless it is another program's: sudo chown -R %s %q", self(), barred, owner,
		self(), barred,
	)
}

package hsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const maxPIN = 1024 // bytes; a longer file is not a PIN

// pinFile is the file that holds the PIN, and whether systemd guards it.
type pinFile struct {
	path       string
	credential bool
}

// findPIN resolves the configured name: an absolute path, or the name of a
// systemd credential in $CREDENTIALS_DIRECTORY (systemd.exec(5)).
func findPIN(name, credentialsDir string) (pinFile, error) {
	if filepath.IsAbs(name) {
		in := credentialsDir != "" && filepath.Dir(filepath.Clean(name)) == filepath.Clean(credentialsDir)
		return pinFile{path: name, credential: in}, nil
	}
	if name == "" || strings.ContainsRune(name, '/') || name == "." || name == ".." {
		return pinFile{}, fmt.Errorf("pin_file %q: write an absolute path or a credential's name", name)
	}
	if credentialsDir == "" {
		return pinFile{}, fmt.Errorf("pin_file %q is a credential's name, but $CREDENTIALS_DIRECTORY is not set: "+
			"start keyd by its systemd unit (LoadCredential=%s:…), or write an absolute path", name, name)
	}
	return pinFile{path: filepath.Join(credentialsDir, name), credential: true}, nil
}

// read returns the PIN: the file without one newline at its end. The caller
// clears it. A file that others can read is refused, unless it is a credential:
// systemd makes those 0440 inside a directory of the unit's own.
func (p pinFile) read() ([]byte, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return nil, fmt.Errorf("read the PIN: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the PIN: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the PIN file %s is not a regular file", p.path)
	}
	if !p.credential && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the PIN file %s can be read by others (mode %04o): chmod 0600 %s", p.path, info.Mode().Perm(), p.path)
	}
	buf := make([]byte, maxPIN+2)
	n, err := io.ReadFull(f, buf)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(buf)
		return nil, fmt.Errorf("read the PIN from %s: %w", p.path, err)
	}
	pin := bytes.TrimSuffix(buf[:n], []byte("\n"))
	if len(pin) == 0 || len(pin) > maxPIN {
		clear(buf)
		return nil, fmt.Errorf("the PIN file %s must hold 1 to %d bytes and at most one newline behind", p.path, maxPIN)
	}
	return pin, nil
}

// identity changes when the file is replaced or written; zero when it cannot be
// seen.
func (p pinFile) identity() fileIdentity {
	info, err := os.Stat(p.path)
	if err != nil {
		return fileIdentity{}
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileIdentity{}
	}
	return fileIdentity{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}

type fileIdentity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// Package pin reads the file that holds a token's user PIN. Its rule: only this package
// reads the file. It refuses what nobody can type as a PIN before a token counts it as
// a wrong one, and its messages never contain a part of the PIN.
package pin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/keyd-project/keyd/internal/ownership"
)

// Max is the length of the longest PIN, in bytes. A longer file is not a PIN.
const Max = 1024

// File is the file that holds the PIN.
type File struct {
	path string
	// unit is the service whose credential it is; "" for an ordinary file.
	unit string
}

// Error says why the PIN cannot be read from its file.
type Error struct {
	Reason string // names the file; never holds a part of the PIN
	Remedy string // with a command to paste
	err    error
}

func (e *Error) Error() string { return e.Reason + "; " + e.Remedy }

func (e *Error) Unwrap() error { return e.err }

// Find resolves the configured name: an absolute path, or the name of a systemd
// credential in $CREDENTIALS_DIRECTORY (systemd.exec(5)).
func Find(name, credentialsDir string) (File, error) {
	dir := filepath.Clean(credentialsDir)
	if filepath.IsAbs(name) {
		f := File{path: name}
		if credentialsDir != "" && filepath.Dir(filepath.Clean(name)) == dir {
			f.unit = filepath.Base(dir)
		}
		return f, nil
	}
	if name == "" || strings.ContainsRune(name, '/') || name == "." || name == ".." {
		return File{}, &Error{Reason: fmt.Sprintf("pin_file %q names no file", name),
			Remedy: "write an absolute path or a credential's name"}
	}
	if credentialsDir == "" {
		return File{}, &Error{
			Reason: fmt.Sprintf("pin_file %q is a credential's name, but $CREDENTIALS_DIRECTORY is not set", name),
			Remedy: fmt.Sprintf("start keyd by its systemd unit (LoadCredential=%s:…), or write an absolute path",
				name),
		}
	}
	return File{path: filepath.Join(dir, name), unit: filepath.Base(dir)}, nil
}

// Path returns the file's path.
func (f File) Path() string { return f.path }

// Renewed says what to do after the PIN was replaced.
func (f File) Renewed() string {
	if f.unit == "" {
		return "keyd then tries it once, without a restart"
	}
	return "then: sudo systemctl restart " + f.unit
}

// Read returns the PIN, which is the file without one newline at its end. The caller
// clears it. The error is an *Error. Read refuses a file that others can read, unless
// it is a credential: systemd makes those 0440 inside the unit's own directory.
func (f File) Read() ([]byte, error) {
	buf, err := f.readAll()
	if err != nil {
		return nil, err
	}
	pin := bytes.TrimSuffix(buf, []byte("\n"))
	var reason string
	switch {
	case len(pin) == 0:
		reason = "is empty"
	case len(pin) > Max:
		reason = fmt.Sprintf("holds more than the %d bytes that a PIN may have", Max)
	default:
		reason = untypable(pin)
	}
	if reason != "" {
		clear(buf)
		return nil, &Error{Reason: "the PIN file " + f.path + " " + reason, Remedy: f.writeAgain()}
	}
	return pin, nil
}

func (f File) readAll() ([]byte, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, f.unreadable(err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, f.unreadable(err)
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{Reason: "the PIN file " + f.path + " is not a regular file", Remedy: f.writeAgain()}
	}
	if mode := info.Mode().Perm(); f.unit == "" && mode&0o077 != 0 {
		return nil, &Error{
			Reason: fmt.Sprintf("the PIN file %s can be read by others (mode %04o)", f.path, mode),
			Remedy: "change the PIN if somebody may have read it, and run: sudo chmod 0600 " +
				ownership.Quoted(f.path),
		}
	}
	if err := f.checkOwner(file); err != nil {
		return nil, err
	}
	buf := make([]byte, Max+2)
	n, err := io.ReadFull(file, buf)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(buf)
		return nil, f.unreadable(err)
	}
	return buf[:n], nil
}

// checkOwner refuses a file that another user could exchange. systemd watches over its credentials itself.
func (f File) checkOwner(file *os.File) error {
	if f.unit != "" {
		return nil
	}
	err := ownership.Check(file)
	var e *ownership.Error
	switch {
	case errors.As(err, &e) && e.Path == f.path:
		return &Error{Reason: "the PIN file " + f.path + " " + e.Reason, Remedy: e.Remedy, err: err}
	case errors.As(err, &e):
		return &Error{Reason: "the PIN file " + f.path + " is not safe: " + e.Path + " " + e.Reason, Remedy: e.Remedy,
			err: err}
	case err != nil:
		return f.unreadable(err)
	}
	return nil
}

func (f File) unreadable(err error) error {
	remedy := f.writeAgain()
	if errors.Is(err, fs.ErrPermission) {
		remedy = "let the HSM side's user read it: sudo chown " + self() + " " + ownership.Quoted(f.path)
	}
	return &Error{Reason: fmt.Sprintf("the PIN file cannot be read: %v", err), Remedy: remedy, err: err}
}

// writeAgain returns a command that writes the file without exposing the PIN: the
// shell's built-in read and printf have no arguments that others can see, and no
// history.
func (f File) writeAgain() string {
	path, owner, then := f.path, " -o "+self(), ""
	if f.unit != "" {
		path, owner = "/etc/keyd/"+filepath.Base(f.path), ""
		then = fmt.Sprintf(
			", or the file that LoadCredential= of %s names; %s (an encrypted credential: man 8 keyd, "+
				"The PIN)",
			f.unit,
			f.Renewed(),
		)
	}
	return "write the PIN as UTF-8 in one line, by this command, which asks for it: " +
		`bash -c 'IFS= read -rsp "PIN: " p && printf %s "$p" | sudo install -m 0600` + owner + ` /dev/stdin "$0"' ` +
		ownership.Quoted(path) + then
}

// self returns the user of this process, who must be able to read the file.
func self() string { return ownership.UserName(uint32(os.Getuid())) }

// Identity returns a value that changes when the file is replaced or written. It is
// zero if the file cannot be seen.
func (f File) Identity() Identity {
	info, err := os.Stat(f.path)
	if err != nil {
		return Identity{}
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Identity{}
	}
	return Identity{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}

// Identity distinguishes two contents of a file without reading them.
type Identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

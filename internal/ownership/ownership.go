// Package ownership says whether another user could change a file, and explains what fails because of who owns one. Its
// rule: it only looks, and advises with a command to paste. A file counts as safe only if root or the user of this
// process owns it and nobody else may write it, and the same holds for every folder on the way to it.
package ownership

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Error says who could change a file, and what to do about it.
type Error struct {
	Path   string // of the file, or of a folder on the way to it
	Reason string
	Remedy string // with a command to paste
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s; %s", e.Path, e.Reason, e.Remedy) }

// Check returns an *Error if another user than root and this process's could change what an open file or folder holds,
// or put another one in its place. It judges what is open. Only then does it look at the way there, so nobody can
// exchange the file in between.
func Check(f *os.File) error { return reader(os.Geteuid()).check(f) }

// reader is the uid of the process that reads a file. Only this user and root may be able to change it.
type reader uint32

func (r reader) check(f *os.File) error {
	open, err := f.Stat()
	if err != nil {
		return err
	}
	if err := r.checkOpen(f, open); err != nil {
		return err
	}
	path, err := filepath.Abs(f.Name())
	if err != nil {
		return err
	}
	there, err := r.walk(path)
	if err != nil {
		return err
	}
	if !os.SameFile(open, there) {
		return &Error{path, "was exchanged while it was read", "find out who does that, then try again"}
	}
	return nil
}

// ReadFile is os.ReadFile for a file that passes Check.
func ReadFile(path string) ([]byte, error) { return ReadFileFor(path, uint32(os.Geteuid())) }

// ReadFileFor is ReadFile for root, who does what the service does under this uid.
func ReadFileFor(path string, uid uint32) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := reader(uid).check(f); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

// CheckPath opens a file or folder for Check. What is not there is safe if everything on the way to it is.
func CheckPath(path string) error { return CheckPathFor(path, uint32(os.Geteuid())) }

// CheckPathFor is CheckPath for root, who does what the service does under this uid.
func CheckPathFor(path string, uid uint32) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		parent := filepath.Dir(path)
		if parent == path {
			return nil
		}
		return CheckPathFor(parent, uid)
	}
	if err != nil {
		return err
	}
	return errors.Join(reader(uid).check(f), f.Close())
}

// checkOpen judges an open file by its own owner and mode.
func (r reader) checkOpen(f *os.File, info fs.FileInfo) error {
	if owner := ownerOf(info); !r.mayOwn(owner) {
		return &Error{f.Name(), fmt.Sprintf("belongs to %s, who can change it", userOf(owner)),
			"run: sudo chown root " + Quoted(f.Name())}
	}
	acl, err := openACL(f)
	if err != nil {
		return err
	}
	if e := r.writableBy(f.Name(), info, acl); e != nil {
		return e
	}
	return nil
}

// writableBy returns an Error if others may write, by the mode or by the access control list.
func (r reader) writableBy(path string, info fs.FileInfo, acl []byte) *Error {
	who := ""
	switch mode := info.Mode().Perm(); {
	case len(acl) > 0:
		who = r.aclWriter(acl)
	case mode&0o022 != 0:
		return &Error{path, fmt.Sprintf("is writable by group or others (mode %04o)", mode),
			"run chmod go-w " + Quoted(path)}
	}
	if who != "" {
		return &Error{path, "is writable by " + who + ", as its access control list says",
			"run: sudo setfacl --remove-all " + Quoted(path)}
	}
	return nil
}

// maxLinks is how many symbolic links a path may lead through, as in Linux.
const maxLinks = 40

// walk follows a path from the root of the file system, and judges each folder before it looks for the next part in it.
func (r reader) walk(path string) (at fs.FileInfo, err error) {
	dir, parts := "/", split(path)
	if at, err = os.Lstat(dir); err != nil {
		return nil, err
	}
	for links := 0; len(parts) > 0; {
		part := parts[0]
		parts = parts[1:]
		if part == ".." {
			dir = filepath.Dir(dir)
			if at, err = os.Lstat(dir); err != nil {
				return nil, err
			}
			continue
		}
		next := filepath.Join(dir, part)
		entry, err := os.Lstat(next)
		if err != nil {
			return nil, err
		}
		if err := r.checkFolder(dir, at, next, entry); err != nil {
			return nil, err
		}
		if entry.Mode()&fs.ModeSymlink == 0 {
			dir, at = next, entry
			continue
		}
		if links++; links > maxLinks {
			return nil, fmt.Errorf("%s leads through too many symbolic links", path)
		}
		target, err := os.Readlink(next)
		if err != nil {
			return nil, err
		}
		if filepath.IsAbs(target) {
			dir = "/"
			if at, err = os.Lstat(dir); err != nil {
				return nil, err
			}
		}
		parts = append(split(target), parts...)
	}
	return at, nil
}

func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// checkFolder judges a folder by what it could do to its entry. In a sticky folder only the entry's owner can exchange
// it.
func (r reader) checkFolder(dir string, info fs.FileInfo, name string, entry fs.FileInfo) error {
	const remedy = "keep the file where only root can write, such as in /etc/keyd"
	if owner := ownerOf(info); !r.mayOwn(owner) {
		return &Error{dir, fmt.Sprintf("belongs to %s, who can exchange what is in it", userOf(owner)),
			remedy + ", or run: sudo chown root " + Quoted(dir)}
	}
	acl, err := pathACL(dir)
	if err != nil {
		return err
	}
	problem := r.writableBy(dir, info, acl)
	if problem == nil {
		return nil
	}
	if info.Mode()&fs.ModeSticky == 0 {
		return &Error{dir, problem.Reason + ", so others can exchange what is in it",
			remedy + ", or " + problem.Remedy}
	}
	if owner := ownerOf(entry); !r.mayOwn(owner) {
		return &Error{name, fmt.Sprintf("belongs to %s, who can exchange it", userOf(owner)), remedy}
	}
	return nil
}

func ownerOf(info fs.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return ^uint32(0) // nobody
}

// mayOwn reports whether a user may be able to change what the reader reads.
func (r reader) mayOwn(uid uint32) bool { return uid == 0 || uid == uint32(r) }

// userOf names a user who could change a file: "user keyd", or "uid 999".
func userOf(uid uint32) string {
	if name, ok := nameOf(uid); ok {
		return "user " + name
	}
	return "uid " + digits(uid)
}

// Quoted returns s as one word of a POSIX shell.
func Quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

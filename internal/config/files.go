package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/ownership"
	"github.com/keyd-project/keyd/internal/pin"
)

const maxFileSize = 1 << 20

// source is one file's text. The first source is the main file.
type source struct {
	name string
	data []byte
}

// readAll reads the main file and the fragments beside it.
func readAll(path string, rep *report) []source {
	names := append([]string{path}, fragments(filepath.Join(filepath.Dir(path), "keys.d"), rep)...)
	rep.order = names
	var sources []source
	for _, name := range names {
		data, err := readFile(name)
		if err != nil {
			rep.addErr(position{File: name}, err)
			continue
		}
		sources = append(sources, source{name, data})
	}
	return sources
}

// fragments lists dir's *.yaml files by name. A missing dir has none.
func fragments(dir string, rep *report) []string {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := checkOwnership(dir, ownership.CheckPath(dir)); err != nil {
		rep.addErr(position{File: dir}, err)
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		rep.addErr(position{File: dir}, err)
		return nil
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case strings.HasSuffix(e.Name(), ".yaml"):
			names = append(names, name)
		case strings.HasSuffix(e.Name(), ".yml"):
			rep.add(position{File: name}, "rename it to end in .yaml, or move it away",
				"only files ending in .yaml are read from keys.d")
		}
	}
	slices.Sort(names)
	return names
}

func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, faultf("give the path of a YAML file", "not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkOwnership(name, ownership.Check(f)); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, faultf("split it into files in keys.d", "larger than 1 MiB")
	}
	return data, nil
}

// checkOwnership says why others than root and this user can change a file: whoever writes
// the configuration decides where keys go.
func checkOwnership(name string, err error) error {
	var e *ownership.Error
	if !errors.As(err, &e) {
		return err
	}
	if abs, _ := filepath.Abs(name); e.Path == name || e.Path == abs {
		return faultf(e.Remedy, "it %s", e.Reason)
	}
	return faultf(e.Remedy, "%s %s", e.Path, e.Reason)
}

// addErr reports err at a place, with a remedy if its kind is known.
func (r *report) addErr(at position, err error) {
	var f fault
	switch {
	case errors.As(err, &f):
		r.add(at, f.remedy, "%s", f.message)
	case errors.Is(err, fs.ErrNotExist):
		r.add(at, "create it, or name another file with --config", "the file does not exist")
	case errors.Is(err, fs.ErrPermission):
		r.add(at, "let the user that keyd runs as read it", "permission denied")
	default:
		r.add(at, "make it readable", "cannot be read: %v", err)
	}
}

// CheckPINFile checks whether the HSM side can read the PIN, exactly as it does. Only
// the process that reads the PIN may call it: no other may be able to.
func (c *Config) CheckPINFile() []Problem {
	rep := &report{}
	file, err := pin.Find(c.HSM.PINFile, os.Getenv(credentialsDirectory))
	if err == nil {
		var typed []byte
		typed, err = file.Read()
		clear(typed)
	}
	if e := new(pin.Error); errors.As(err, &e) {
		rep.add(c.HSM.pinAt, e.Remedy, "hsm.pin_file: %s", e.Reason)
	}
	return rep.problems
}

// checkSecretFiles refuses secrets that others can read, as far as this process can
// see.
func checkSecretFiles(c *Config, rep *report) {
	rep.checkSecretMode(c.HSM.pinAt, "hsm.pin_file", c.HSM.PINFile)
	rep.checkSecretMode(c.Azure.certificateAt, "azure.certificate_file", c.Azure.CertificateFile)
	for _, f := range c.Store.secrets() {
		rep.checkSecretMode(rep.placeOf(f.Field), f.Field, f.Path)
	}
}

// placeOf is where the value of a field stands.
func (r *report) placeOf(field string) position {
	for _, s := range r.settings {
		if s.Field == field {
			return position{s.File, s.Line, s.column}
		}
	}
	return position{}
}

// checkSecretMode checks absolute paths only: systemd chooses the modes of its
// credentials (sometimes 0440).
func (r *report) checkSecretMode(at position, field, path string) {
	if !filepath.IsAbs(path) || underCredentials(path) {
		return
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		r.add(at, "run chmod 0600 "+path+" and make the user that reads it its owner; if others could have read it, "+
			"change the secret",
			"%s: %s is open to group or others (mode %04o)", field, path, mode)
	}
}

func underCredentials(path string) bool {
	dir := os.Getenv(credentialsDirectory)
	return dir != "" && filepath.Dir(path) == filepath.Clean(dir)
}

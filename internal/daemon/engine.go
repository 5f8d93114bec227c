package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/ownership"
	"github.com/keyd-project/keyd/internal/store/etcd"
	"github.com/keyd-project/keyd/internal/store/postgres"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// instanceBlob says whose state a store for several hosts has.
const instanceBlob = "instance"

// openEngine opens the store for several hosts that a configuration names. Errors: config.Problems about its files;
// those of the engine.
func openEngine(ctx context.Context, cfg *config.Config) (stored.Engine, error) {
	if err := checkStoreFiles(cfg); err != nil {
		return nil, err
	}
	switch s := cfg.Store; {
	case s.Postgres != nil:
		o, err := postgresOptions(cfg)
		if err != nil {
			return nil, err
		}
		e, err := postgres.Open(o)
		if err != nil {
			return nil, err // e would be a nil pointer in an interface that is not nil
		}
		return e, nil
	case s.Etcd != nil:
		c, err := etcdConfig(*s.Etcd)
		if err != nil {
			return nil, err
		}
		e, err := etcd.Open(ctx, c)
		if err != nil {
			return nil, err
		}
		return e, nil
	}
	return nil, errors.New("the configuration has no store for several hosts: the state is a file in state_dir")
}

// openOwn is openEngine for a store that has this instance's state, whole.
func openOwn(ctx context.Context, cfg *config.Config) (stored.Engine, error) {
	e, err := openEngine(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := checkOwn(ctx, e, cfg.Instance); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func checkOwn(ctx context.Context, e stored.Engine, instance string) error {
	if err := checkInstance(ctx, e, instance); err != nil {
		return err
	}
	return checkWhole(ctx, e)
}

// checkInstance refuses a store that `keyd store init` did not make for this instance.
func checkInstance(ctx context.Context, e stored.Engine, instance string) error {
	name, err := e.Blob(ctx, instanceBlob)
	switch {
	case err != nil:
		return err
	case len(name) == 0:
		return fmt.Errorf("%s: no instance has this store yet: run keyd store init", e.Name())
	case string(name) != instance:
		return fmt.Errorf(
			"%s: this is the store of instance %q, and the configuration says instance: %s; nothing was "+
				"changed. Name another database, or for etcd another prefix",
			e.Name(),
			name,
			instance,
		)
	}
	return nil
}

// copyingBlob says that a copy into the store is not whole.
const copyingBlob = "copying"

// checkWhole refuses a store into which a copy was cut short.
func checkWhole(ctx context.Context, e stored.Engine) error {
	mark, err := e.Blob(ctx, copyingBlob)
	if err == nil && len(mark) > 0 {
		err = fmt.Errorf("%s: a copy into this store is not whole; run the same keyd store copy again", e.Name())
	}
	return err
}

// storeName says where a configuration has the state. No two stores have one name.
func storeName(cfg *config.Config) string {
	switch s := cfg.Store; {
	case s.Postgres != nil:
		_, rest, _ := strings.Cut(s.Postgres.URL, "@")
		rest, _, _ = strings.Cut(rest, "?")
		return "PostgreSQL at " + rest
	case s.Etcd != nil:
		var hosts []string
		for _, end := range s.Etcd.Endpoints {
			_, host, _ := strings.Cut(end, "://")
			hosts = append(hosts, host)
		}
		return "etcd at " + strings.Join(hosts, ",") + s.Etcd.Prefix
	}
	return "the file " + stateFile(cfg.StateDir)
}

func postgresOptions(cfg *config.Config) (postgres.Options, error) {
	p := cfg.Store.Postgres
	path, err := p.PasswordPath()
	o := postgres.Options{URL: p.URL, CAFile: p.CAFile, Synchronous: p.Synchronous}
	if path != "" {
		o.Password = func() (string, error) { return readPassword(path, serviceUID(cfg)) }
	}
	return o, err
}

// serviceUID is the uid under which keyd runs: where root asks for it, that of the state directory.
func serviceUID(cfg *config.Config) uint32 {
	uid := uint32(os.Geteuid())
	if info, err := os.Stat(cfg.StateDir); err == nil && uid == 0 {
		if owner, ok := info.Sys().(*syscall.Stat_t); ok {
			return owner.Uid
		}
	}
	return uid
}

func etcdConfig(e config.Etcd) (etcd.Config, error) {
	password, err := e.PasswordPath()
	key, keyErr := e.KeyPath()
	return etcd.Config{Endpoints: e.Endpoints, Prefix: e.Prefix, User: e.User, PasswordFile: password,
		CertificateFile: e.CertificateFile, KeyFile: key, CAFile: e.CAFile}, errors.Join(err, keyErr)
}

// readPassword reads a password that is one line, of a file that nobody else may change.
func readPassword(path string, uid uint32) (string, error) {
	text, err := ownership.ReadFileFor(path, uid)
	if err != nil {
		return "", fmt.Errorf("read the store's password: %w", err)
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	if len(text) == 0 || bytes.ContainsAny(text, "\r\n\x00") {
		return "", fmt.Errorf("read the store's password: %s must hold one line, the password", path)
	}
	return string(text), nil
}

// checkStoreFiles finds what is wrong with the files that the section store names. Errors: config.Problems.
func checkStoreFiles(cfg *config.Config) error {
	s := starting{cfg: cfg}
	s.store()
	return s.err()
}

// store refuses files that are missing, or that another user could change.
func (s *starting) store() {
	for _, f := range s.cfg.Store.Files() {
		path := f.Path
		if !filepath.IsAbs(path) {
			dir := os.Getenv("CREDENTIALS_DIRECTORY")
			if dir == "" {
				s.noCredentials(f)
				continue
			}
			path = filepath.Join(dir, path)
		}
		_, err := os.Stat(path)
		if err == nil {
			err = ownership.CheckPathFor(path, serviceUID(s.cfg))
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			s.add(f.Field, "write the file, or correct the path", "%s: there is no file %s", f.Field, path)
		case err != nil:
			s.add(f.Field, "", "%s: %v", f.Field, ownership.Explain(err, path))
		}
	}
}

// noCredentials notes that only the service has a file that is a systemd credential.
func (s *starting) noCredentials(f config.NamedFile) {
	if s.planned {
		s.unseen = append(
			s.unseen,
			fmt.Sprintf("%s: only the service has the systemd credential %s", f.Field, f.Path),
		)
		return
	}
	s.add(f.Field, "write an absolute path; or for this one command, run it with CREDENTIALS_DIRECTORY=FOLDER, the "+
		"folder with that file", "%s: only the service has the systemd credential %s", f.Field, f.Path)
}

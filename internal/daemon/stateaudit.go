package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
)

// StateAudit is the audit chain of a state, read without a daemon.
type StateAudit struct {
	store Store
	close func() error
}

// OpenStateAudit opens a state directory, its file, a file from `keyd backup`, or the store that a configuration names
// (PATH.yaml), for reading only. Errors: those of openState.
func OpenStateAudit(ctx context.Context, path string) (*StateAudit, error) {
	if filepath.Ext(path) == ".yaml" {
		return openConfigured(ctx, path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open the state: %w", err)
	}
	if info.IsDir() {
		path = stateFile(path)
	}
	s, err := openState(path)
	if err != nil {
		return nil, err
	}
	return &StateAudit{s, s.Close}, nil
}

// openConfigured opens the store that a configuration names.
func openConfigured(ctx context.Context, path string) (*StateAudit, error) {
	cfg, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	if !cfg.Store.Shared() {
		return OpenStateAudit(ctx, cfg.StateDir)
	}
	e, err := openEngine(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s, done, err := readShared(ctx, e)
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return &StateAudit{s, done}, nil
}

// Audit calls fn with the entries of the chain.
func (a *StateAudit) Audit(ctx context.Context, from uint64, name string, fn func(control.AuditEntry) error) error {
	return auditEntries(ctx, a.store, from, name, fn)
}

// ExportAudit writes the requested part of the chain.
func (a *StateAudit) ExportAudit(ctx context.Context, r audit.Request, w io.Writer) error {
	return exportAudit(ctx, a.store, r, w)
}

// VerifyAudit walks the whole chain.
func (a *StateAudit) VerifyAudit(ctx context.Context) (control.AuditReport, error) {
	return verifyAudit(ctx, a.store)
}

// Close frees what it opened.
func (a *StateAudit) Close() error { return a.close() }

func exportAudit(ctx context.Context, s Store, r audit.Request, w io.Writer) error {
	err := audit.Export(ctx, s, r, time.Now(), w)
	var unknown *audit.UnknownKeyError
	if errors.As(err, &unknown) {
		return &control.UsageError{Text: err.Error()}
	}
	return err
}

func auditEntries(ctx context.Context, s Store, from uint64, name string, fn func(control.AuditEntry) error) error {
	return s.Audit(ctx, from, func(c chain.Linked) error {
		if name != "" && !key.SameName(c.Key, name) {
			return nil
		}
		return fn(control.AuditEntry{Seq: c.Seq, Entry: c.Entry, Prev: c.Prev.String(), Hash: c.Hash.String()})
	})
}

func verifyAudit(ctx context.Context, s Store) (control.AuditReport, error) {
	r, err := s.Verify(ctx)
	if err != nil {
		return control.AuditReport{}, err
	}
	report := control.AuditReport{Entries: r.Entries, Head: r.Head.String(), Consistent: r.Consistent()}
	if !r.Consistent() {
		report.Problem = strings.TrimPrefix(r.String(), "not consistent: ")
	}
	return report, nil
}

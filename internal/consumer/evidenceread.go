package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// logPiece is the longest time that one query asks for. What is read again only is asked for by weeks.
	logPiece    = time.Hour
	logOldPiece = 7 * 24 * time.Hour
)

// errNoOwnCall: keyd made no call yet by which it knows its own identity.
var errNoOwnCall = errors.New("keyd has proven no version in the vault since its start, so it cannot tell its own " +
	"calls from those of others; it looks again by itself after the first proof")

// readLocked reads a workspace for all of its vaults at once, and notes the outcome. The workspace's lock is held.
func (e *Evidence) readLocked(ctx context.Context, workspace string, now time.Time, back time.Duration) {
	end := now.Add(-logDelay).UTC().Truncate(time.Minute)
	vaults := e.workspaces()[workspace]
	ready := map[string]bool{}
	var start time.Time
	for url, names := range vaults {
		from, err := e.prepare(ctx, url, workspace, names, end)
		if err != nil {
			e.note(url, now, err)
			continue
		}
		ready[url] = true
		if start.IsZero() || from.Before(start) {
			start = from
		}
	}
	if len(ready) == 0 {
		return
	}
	again := start.Truncate(logPiece)
	if start = again; back > 0 {
		again = earlier(again, end.Add(-back).Truncate(logPiece))
	}
	reviews := map[string]*review{}
	for url := range ready {
		reviews[url] = newReview(now, back)
	}
	err := e.pieces(ctx, workspace, again, start, end, reviews)
	for url := range ready {
		e.finish(ctx, url, again, end, *reviews[url], err)
		e.note(url, now, err)
	}
}

// prepare makes a vault's ledger ready, and returns from when on its log must be read.
func (e *Evidence) prepare(
	ctx context.Context, url, workspace string, names []string, end time.Time,
) (time.Time, error) {
	k, err := e.loaded(ctx, url)
	if err != nil {
		return time.Time{}, err
	}
	calls, me := e.own.take(url)
	e.mu.Lock()
	defer e.mu.Unlock()
	k.me = me
	if k.ledger.Workspace != workspace {
		k.review = review{}
	}
	k.ledger.begin(workspace)
	k.ledger.absorb(calls)
	if len(me) == 0 {
		return time.Time{}, errNoOwnCall
	}
	from := k.ledger.next(end)
	k.ledger.skip(from)
	k.ledger.track(names)
	return from, nil
}

// loaded is what keyd knows of a vault, from its ledger at first.
func (e *Evidence) loaded(ctx context.Context, url string) (*vaultLog, error) {
	e.mu.Lock()
	k := e.vaults[url]
	if k == nil {
		k = &vaultLog{}
		e.vaults[url] = k
	}
	done := k.ledger != nil
	e.mu.Unlock()
	if done {
		return k, nil
	}
	blob, err := e.cfg.Ledgers.LoadLedger(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("read what keyd saw of the log before: %w", err)
	}
	l, err := decodeLedger(blob)
	if err == nil {
		err = l.past(e.cfg.Clock())
	}
	if err != nil {
		e.cfg.Logger.Warn("what keyd saw of a vault's log before cannot be read; keyd begins anew", "vault", url,
			"error", err)
		l, _ = decodeLedger(nil)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if k.ledger == nil { // nobody else was faster
		k.ledger = l
	}
	return k, nil
}

// pieces reads a workspace piece by piece, in both forms, and has every row judged for every vault that it may be
// about. What is before start was read before.
func (e *Evidence) pieces(
	ctx context.Context, workspace string, again, start, end time.Time, reviews map[string]*review,
) error {
	client, forms := e.cfg.Client(), logForms
	for from := again; from.Before(end); {
		to := earlier(from.Truncate(logPiece).Add(logPiece), end)
		if from.Before(start) {
			to = earlier(from.Truncate(logOldPiece).Add(logOldPiece), start)
		}
		var there []logForm
		var rows []logRow
		for _, form := range forms {
			some, err := client.rows(ctx, workspace, form, from, to)
			if errors.Is(err, errNoLogTable) {
				continue
			}
			if err != nil {
				return err
			}
			there, rows = append(there, form), append(rows, some...)
		}
		if forms = there; len(forms) == 0 {
			return noVaultLog(workspace)
		}
		e.judge(rows, reviews)
		from = to
	}
	return nil
}

func (e *Evidence) judge(rows []logRow, reviews map[string]*review) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for url, r := range reviews {
		k := e.vaults[url]
		calls := k.ledger.byID()
		for _, row := range rows {
			if !row.of(url) {
				continue
			}
			r.saw(row.at, k.me[row.caller])
			k.ledger.judge(row, calls, k.me)
		}
	}
}

// finish notes that a vault's log was read, and keeps the ledger.
func (e *Evidence) finish(ctx context.Context, url string, start, end time.Time, r review, err error) {
	e.mu.Lock()
	k := e.vaults[url]
	if err == nil {
		k.ledger.read(start, end)
		k.review = k.review.then(r, end)
	}
	e.mu.Unlock()
	e.keep(context.WithoutCancel(ctx), url)
}

// note keeps the outcome of a reading, and logs a change of it.
func (e *Evidence) note(url string, now time.Time, err error) {
	e.mu.Lock()
	k := e.vaults[url]
	if k == nil {
		k = &vaultLog{}
		e.vaults[url] = k
	}
	before := k.err
	k.err, k.tried = err, now
	e.mu.Unlock()
	switch {
	case errors.Is(err, errNoOwnCall), errors.Is(err, context.Canceled):
	case err != nil && before == nil:
		e.cfg.Logger.Warn("a vault's audit log cannot be read: "+err.Error(), "vault", url)
	case err == nil && before != nil:
		e.cfg.Logger.Info("a vault's audit log can be read again", "vault", url)
	}
}

// keep saves a vault's ledger.
func (e *Evidence) keep(ctx context.Context, url string) {
	e.mu.Lock()
	k := e.vaults[url]
	if k == nil || k.ledger == nil {
		e.mu.Unlock()
		return
	}
	blob, err := k.ledger.encode()
	e.mu.Unlock()
	if err == nil {
		err = e.cfg.Ledgers.SaveLedger(ctx, url, blob)
	}
	if err != nil {
		e.cfg.Logger.Warn("what keyd saw of a vault's log was not saved; keyd saves it again within the hour", "vault",
			url, "error", err)
	}
}

// keepCalls saves which calls keyd expects in the logs, so that after a restart it still knows them as its own.
func (e *Evidence) keepCalls(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, vaults := range e.workspaces() {
		for url := range vaults {
			k, err := e.loaded(ctx, url)
			if err != nil {
				continue
			}
			calls, _ := e.own.take(url)
			e.mu.Lock()
			k.ledger.absorb(calls)
			e.mu.Unlock()
			e.keep(ctx, url)
		}
	}
}

package rotate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// createKEK makes a vault's key exchange key, which every key of the vault shares, or records the one that shows.
func (r *Rotator) createKEK(ctx context.Context, a act) (record.Record, error) {
	url := a.step.Vault
	if seen := a.in().KEK; seen.Print != "" {
		return r.kekMade(ctx, a.rec, url, seen.KEK.Kid, seen.Print)
	}
	c, err := r.vault(a.policy, &a.rec, url)
	if err != nil {
		return a.rec, err
	}
	v, _ := a.policy.Vault(url)
	skew, _ := c.ClockSkew()
	begun, now := r.Clock(), r.now().Add(skew)
	if err := r.rememberKEKs(ctx, url); err != nil {
		return a.rec, err
	}
	if !r.keks.begin(url, now, now.Add(-plan.KEKTime(v))) {
		return a.rec, fmt.Errorf("the key exchange key of vault %s is being made for another key", v.Name)
	}
	a.rec.BeginKEK(url, now)
	rec, err := r.save(ctx, a.rec, chain.KEKIntended, map[string]string{"vault": url})
	if err != nil {
		r.keks.end(url)
		return rec, err
	}
	ctx, cancel := context.WithTimeout(ctx, plan.ImportTimeout-r.Clock().Sub(begun))
	defer cancel()
	killpoint.At("kek-before")
	kek, err := c.CreateKEK(ctx)
	killpoint.At("kek-after")
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		return r.createKEKFailed(ctx, rec, url, err)
	}
	return r.kekMade(ctx, rec, url, kek.Kid, kek.Material.Fingerprint())
}

// rememberKEKs looks up when the vault's KEK was last begun for whichever key: before a restart, or by another daemon.
func (r *Rotator) rememberKEKs(ctx context.Context, url string) error {
	names, err := r.Store.Names(ctx)
	if err != nil {
		return fmt.Errorf("list the records: %w", err)
	}
	for _, name := range names {
		rec, err := r.load(ctx, name)
		if err != nil {
			return err
		}
		r.keks.note(url, rec.KEKBegun[url])
	}
	return nil
}

func (r *Rotator) kekMade(ctx context.Context, rec record.Record, url, kid string,
	print key.Fingerprint) (record.Record, error) {
	rec.MadeKEK(url, print)
	return r.save(ctx, rec, chain.KEKMade, map[string]string{"vault": url, "kek": kid,
		"kek_fingerprint": string(print)})
}

// createKEKFailed lets the next step try again when nothing can have happened.
func (r *Rotator) createKEKFailed(ctx context.Context, rec record.Record, url string, cause error,
) (record.Record, error) {
	if class := key.ClassOf(cause); class != key.Retry && class != key.Refused {
		return rec, cause
	}
	r.keks.end(url)
	delete(rec.KEKBegun, url)
	saved, err := r.save(ctx, rec, chain.KEKNotMade, map[string]string{"vault": url, "error": cause.Error()})
	return saved, errors.Join(cause, err)
}

// keks is when each vault's KEK was begun, for whichever key.
type keks struct {
	mu    *sync.Mutex
	begun map[string]time.Time // by url
}

func newKEKs() keks { return keks{new(sync.Mutex), map[string]time.Time{}} }

// begin claims the making of a vault's KEK, unless it was claimed after since.
func (k keks) begin(url string, now, since time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.begun[url].After(since) {
		return false
	}
	k.begun[url] = now
	return true
}

// note remembers that the KEK was begun at a time, if that is the latest.
func (k keks) note(url string, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if at.After(k.begun[url]) {
		k.begun[url] = at
	}
}

func (k keks) end(url string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.begun, url)
}

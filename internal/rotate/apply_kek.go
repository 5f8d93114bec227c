package rotate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
)

// createKEK makes a vault's key exchange key, which every key of the vault shares.
func (r *Rotator) createKEK(ctx context.Context, p key.Policy, rec key.Record, s Step) (key.Record, error) {
	c, err := r.vault(p, s.Vault)
	if err != nil {
		return rec, err
	}
	v, _ := p.Vault(s.Vault)
	skew, _ := c.ClockSkew()
	begun, now := r.Clock(), r.now().Add(skew)
	if err := r.rememberKEKs(ctx, s.Vault); err != nil {
		return rec, err
	}
	if !r.views.beginKEK(s.Vault, now, now.Add(-kekTime(v))) {
		return rec, fmt.Errorf("the key exchange key of vault %s is being made for another key", v.Name)
	}
	if rec.KEKBegun == nil {
		rec.KEKBegun = map[string]time.Time{}
	}
	rec.KEKBegun[s.Vault] = now
	delete(rec.KEKMade, s.Vault)
	fields := map[string]string{"vault": s.Vault}
	if rec, err = r.save(ctx, rec, "key exchange key intended", fields); err != nil {
		r.views.endKEK(s.Vault)
		return rec, err
	}
	ctx, cancel := context.WithTimeout(ctx, importTimeout-r.Clock().Sub(begun))
	defer cancel()
	killpoint.At("kek-before")
	kek, err := c.CreateKEK(ctx)
	killpoint.At("kek-after")
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		return r.createKEKFailed(ctx, rec, s.Vault, err)
	}
	print, err := key.FingerprintOf(kek.Public)
	if err != nil {
		return rec, err
	}
	return r.kekMade(ctx, rec, s.Vault, kek.Kid, print)
}

// rememberKEKs looks up when the vault's KEK was last begun for whichever key: before a
// restart, or by another daemon.
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
		r.views.noteKEK(url, rec.KEKBegun[url])
	}
	return nil
}

func (r *Rotator) kekMade(ctx context.Context, rec key.Record, url, kid string, print key.Fingerprint) (key.Record, error) {
	if rec.KEKMade == nil {
		rec.KEKMade = map[string]key.Fingerprint{}
	}
	rec.KEKMade[url] = print
	return r.save(ctx, rec, "key exchange key made", map[string]string{"vault": url, "kek": kid, "kek_fingerprint": string(print)})
}

// createKEKFailed lets the next step try again when nothing can have happened.
func (r *Rotator) createKEKFailed(ctx context.Context, rec key.Record, url string, cause error) (key.Record, error) {
	if class := key.ClassOf(cause); class != key.Retry && class != key.Refused {
		return rec, cause
	}
	r.views.endKEK(url)
	delete(rec.KEKBegun, url)
	saved, err := r.save(ctx, rec, "key exchange key not made", map[string]string{"vault": url, "error": cause.Error()})
	return saved, errors.Join(cause, err)
}

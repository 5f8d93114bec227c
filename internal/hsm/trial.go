package hsm

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
)

const (
	trialBits = 2048
	// trialPause is the pause after a failed trial, and deadlyPause the pause after tries that ended the process.
	trialPause  = time.Minute
	deadlyPause = 15 * time.Minute
)

// trialLabel names the throw-away pair. It is not a key.Label, so no other call takes the pair for a keyd pair: none
// lists, wraps, opens with or destroys it.
func trialLabel(trier string) string { return "keyd-selftest/" + trier }

// trialID is the throw-away pair's CKA_ID. On one host it is always the same, so that keyd finds everything that a
// crash left, even an object without a label.
func trialID(trier string) key.ID {
	sum := sha256.Sum256([]byte(trialLabel(trier)))
	return key.ID(hex.EncodeToString(sum[:16]))
}

// tryAtStart makes the throw-away pair unless the token is known to pass, and removes what a crash left of an earlier
// pair. Its error ends the process. A token that cannot make keys still serves the keys that it has.
func (e *engine) tryAtStart(ctx context.Context) error {
	can, err := e.ready(ctx)
	if err != nil || can.wrap == nil || can.open == nil {
		return nil //nolint:nilerr // the HSM side reports itself as degraded, says why, and tries again
	}
	if e.trial.passed() || e.trial.deadly() {
		_, err := with(ctx, e.tok, e.cfg.CallTimeout, true, func(s session) (struct{}, error) {
			return struct{}{}, s.sweepTrial(e.cfg.trier())
		})
		if err != nil && !e.tok.isDead() {
			e.log.WarnContext(ctx, "cannot remove what is left of a throw-away key pair",
				"label", trialLabel(e.cfg.trier()), "error", err.Error())
			return nil
		}
		return err
	}
	if err := e.tryOut(ctx, can); err != nil && e.tok.isDead() {
		return err
	}
	return nil
}

// tryAgain makes another try in the background if the last one failed a while ago.
func (e *engine) tryAgain(can profile, lockErr error) {
	if lockErr != nil || can.wrap == nil || can.open == nil || !e.trial.due() {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), e.cfg.GenerateTimeout)
		defer cancel()
		_ = e.tryOut(ctx, can) // Describe reports the result
	}()
}

// tryOut makes sure that the token can make keys. Unless the token passed before, it makes, uses and destroys a
// throw-away pair in the same way as a real one.
func (e *engine) tryOut(ctx context.Context, can profile) error {
	e.trial.running.Lock()
	defer e.trial.running.Unlock()
	if e.trial.passed() {
		return nil
	}
	ctx, resume, err := e.making.pause(ctx) // what fails alone does not fail because of another pair
	if err != nil {
		return err
	}
	defer resume()
	e.trial.begin()
	// with may replace a lost session and try again, because each try starts by removing leftovers.
	found, err := with(ctx, e.tok, e.cfg.GenerateTimeout, true, func(s session) (trialNote, error) {
		return e.throwAway(s, can)
	})
	return e.trial.end(found, err, e.tok.isDead())
}

// throwAway makes the throw-away pair and destroys it, even after a failure.
func (e *engine) throwAway(s session, can profile) (found trialNote, err error) {
	if err := s.sweepTrial(e.cfg.trier()); err != nil {
		return found, fmt.Errorf("destroy what is left of an earlier one: %w", err)
	}
	killpoint.At("hsm-trial-before")
	unreported, err := s.makeThrowAway(e.cfg.trier(), can)
	killpoint.At("hsm-trial-after")
	left := s.sweepTrial(e.cfg.trier())
	if err != nil {
		return found, errors.Join(err, left)
	}
	if left != nil {
		found.Warnings = append(
			found.Warnings,
			fmt.Sprintf("the token did not let keyd destroy the throw-away key pair %q, "+
				"so it will not let keyd destroy what a failed generation leaves: %v; remove it with the vendor's tool",
				trialLabel(e.cfg.trier()), left),
		)
	}
	for _, a := range unreported {
		found.Unreported = append(found.Unreported, a.name)
	}
	if len(unreported) > 0 {
		found.Warnings = append(
			found.Warnings,
			notReported(unreported)+" of a key that it made: keyd goes by what it saw itself "+
				"while it made the key (docs/testing-with-your-hsm.md says what is then weaker)",
		)
	}
	return found, nil
}

// makeThrowAway takes a pair through every step that a real pair takes before its import: it makes the pair, reads it
// back, opens a ciphertext with it, relabels it and wraps it.
func (s session) makeThrowAway(trier string, can profile) (unreported []attr, err error) {
	id, label := trialID(trier), trialLabel(trier)
	public, private, err := s.generatePair(id, label+pendingMark, trialBits, can.extras)
	if err != nil {
		return nil, err
	}
	p, err := s.madePair(public, private, id, label+pendingMark, trialBits, sight)
	if err != nil {
		return nil, err
	}
	if err := can.open.possesses(s, p); err != nil {
		return nil, err
	}
	if err := errors.Join(s.relabel(p.private, label), s.relabel(p.public, label)); err != nil {
		return nil, err
	}
	kek, err := rsa.GenerateKey(rand.Reader, trialBits)
	if err != nil {
		return nil, err
	}
	ciphertext, err := can.wrap.wrapTo(s, &kek.PublicKey, p.private)
	if err != nil {
		return nil, fmt.Errorf("wrap it by %s: %w", can.wrap.name, err)
	}
	if _, err := verify(ciphertext, kek, p.key); err != nil {
		return nil, fmt.Errorf("wrapped by %s: %w", can.wrap.name, err)
	}
	return p.unreported, nil
}

// pendingMark at first follows the throw-away pair's label, as it does with a real pair.
const pendingMark = "/pending"

// sweepTrial destroys what exists of the instance's throw-away pair.
func (s session) sweepTrial(trier string) error {
	id, label := trialID(trier), trialLabel(trier)
	objects, err := s.objectsWith(id)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if o.label != "" && o.label != label && o.label != label+pendingMark {
			return refused(
				Foreign,
				"an object with CKA_ID %s is labelled %q, which is not the throw-away pair's %q: "+
					"nothing is destroyed", id, o.label, label,
			)
		}
	}
	for _, o := range objects {
		if err := s.m.DestroyObject(s.h, o.handle); err != nil && !handleLost(err) {
			return fmt.Errorf("C_DestroyObject: %w", err)
		}
	}
	return nil
}

package hsm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
)

const (
	discoveryTime  = 10 * time.Second // SoftHSM hides a token while another process logs in
	discoveryPause = 100 * time.Millisecond
)

// token is one logged-in token. It alone calls Initialize and Login, and it owns a bounded pool of sessions. Every
// call runs in its own goroutine with a deadline. If the token cannot continue, fail ends the process.
type token struct {
	mod    module
	label  string
	slot   uint
	info   pkcs11.TokenInfo
	lib    pkcs11.Info
	anchor pkcs11.SessionHandle // logs in and stays open, because the login ends with the last session
	limit  time.Duration        // of one call, unless it is a generation
	lacks  *typeSet
	// mended, if not nil, gets a report of everything that token lost and recovered at once.
	mended func(what string, lost error)

	sessions int
	free     *priority.Slots // a free session goes to the work of the highest class that waits
	mu       sync.Mutex      // guards idle
	idle     []session       // open, and nobody uses them

	life context.Context // ends with the reason why the process must end
	end  context.CancelCauseFunc
}

// openToken initialises the module and finds the token. It does not log in.
func openToken(ctx context.Context, mod module, cfg Config) (*token, error) {
	t := &token{
		mod: mod, label: cfg.Token, limit: cfg.CallTimeout, lacks: &typeSet{types: map[uint]bool{}},
		sessions: cfg.Sessions, free: priority.NewSlots(cfg.Sessions),
	}
	t.life, t.end = context.WithCancelCause(context.Background())
	_, err := guard(t, cfg.CallTimeout+discoveryTime, func() (struct{}, error) {
		if err := mod.Initialize(); err != nil {
			return struct{}{}, fmt.Errorf(
				"C_Initialize of %s: %w%s", cfg.Module, err, also(initialiseHint(cfg.Module)),
			)
		}
		lib, err := mod.GetInfo()
		if err != nil {
			return struct{}{}, fmt.Errorf("C_GetInfo of %s: %w", cfg.Module, err)
		}
		t.lib = lib
		return struct{}{}, t.discover(ctx, cfg)
	})
	return t, err
}

func (t *token) discover(ctx context.Context, cfg Config) error {
	deadline := time.NewTimer(discoveryTime)
	defer deadline.Stop()
	for {
		found, err := t.look(cfg)
		if found {
			return t.openAnchor()
		}
		select {
		case <-time.After(discoveryPause):
		case <-deadline.C:
			return err
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// look searches the slots for exactly one token that matches the configuration.
func (t *token) look(cfg Config) (bool, error) {
	slots, err := t.mod.GetSlotList(true)
	if err != nil {
		return false, fmt.Errorf("C_GetSlotList of %s: %w", cfg.Module, err)
	}
	var seen []slotSeen
	hits := 0
	for _, slot := range slots {
		info, err := t.mod.GetTokenInfo(slot)
		seen = append(seen, slotSeen{slot, info, err})
		if err == nil && cfg.matches(info) {
			t.slot, t.info, t.label = slot, info, trim(info.Label)
			hits++
		}
	}
	switch hits {
	case 1:
		return true, nil
	case 0:
		return false, notShown(cfg, seen)
	default:
		return false, fmt.Errorf("%s shows %d times a %s: name one by its serial number (hsm.serial): it shows %s",
			cfg.Module, hits, cfg.wanted(), listText(seen))
	}
}

func (t *token) openAnchor() error {
	h, err := t.mod.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("C_OpenSession on token %q: %w", t.label, err)
	}
	t.anchor = h
	return nil
}

// login gives pin to the token once. It passes the PIN to C without a copy in Go, so that the caller can clear it.
func (t *token) login(pin []byte) error {
	_, err := guard(t, t.limit, func() (struct{}, error) {
		return struct{}{}, t.mod.Login(t.anchor, pkcs11.CKU_USER, unsafe.String(unsafe.SliceData(pin), len(pin)))
	})
	if isCKR(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		return nil
	}
	return err
}

// fail ends the HSM process: it makes Run return err. Only the first call counts.
func (t *token) fail(err error) { t.end(err) }

// reason is why the process must end; nil if it may continue.
func (t *token) reason() error { return context.Cause(t.life) }

func (t *token) isDead() bool { return t.life.Err() != nil }

// while returns a context that also ends with the process.
func (t *token) while(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(t.life, func() { cancel(t.reason()) })
	return ctx, func() { stop(); cancel(nil) }
}

type outcome[T any] struct {
	value T
	err   error
}

// guard runs f in its own goroutine. It abandons f when limit passes or the process is ending. An abandoned call may
// still be inside the library, so the process must end.
func guard[T any](t *token, limit time.Duration, f func() (T, error)) (T, error) {
	done := make(chan outcome[T], 1)
	go func() {
		v, err := f()
		done <- outcome[T]{v, err}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var zero T
	select {
	case o := <-done:
		if moduleLost(o.err) {
			t.fail(newError(Device, key.Retry, "token %q: %w", t.label, o.err))
		}
		return o.value, o.err
	case <-timer.C:
		err := newError(Hung, key.Retry, "token %q: a PKCS#11 call did not return within %v", t.label, limit)
		t.fail(err)
		return zero, err
	case <-t.life.Done():
		return zero, t.reason()
	}
}

// with lends f a session. It replaces a lost session and, if again is true, calls f once more. It waits for a free
// session until ctx ends: the class of ctx decides who is next. Only limit bounds f itself, because nothing can cancel
// a call inside the library.
func with[T any](
	ctx context.Context, t *token, limit time.Duration, again bool, f func(session) (T, error),
) (T, error) {
	var zero T
	if err := t.acquire(ctx); err != nil {
		return zero, err
	}
	lent := t.takeIdle()
	got, err := guard(t, limit, func() (got T, err error) {
		if lent != nil {
			got, err = f(*lent)
			if !sessionLost(err) {
				return got, err
			}
			_ = t.mod.CloseSession(lent.h)
			lent = nil
			if !again {
				return got, err
			}
			t.reportMended("a session was lost, and another one does its work", err)
		}
		h, err := t.mod.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			return zero, fmt.Errorf("C_OpenSession: %w", err)
		}
		lent = &session{m: t.mod, h: h, lacks: t.lacks}
		got, err = f(*lent)
		if sessionLost(err) {
			t.fail(newError(Device, key.Retry, "token %q: a new session is lost too: %w", t.label, err))
		}
		return got, err
	})
	if t.isDead() {
		return got, err // a goroutine may still use the session, so token never lends it again
	}
	t.giveBack(lent)
	return got, err
}

// acquire waits for a free session.
func (t *token) acquire(ctx context.Context) error {
	waiting, done := t.while(ctx)
	defer done()
	err := t.free.Acquire(waiting)
	switch {
	case err == nil:
		return nil
	case t.isDead():
		return t.reason()
	default:
		return newError(Busy, key.Retry, "all %d sessions of token %q are busy: %w", t.sessions, t.label, err)
	}
}

// takeIdle returns a session that is open; nil if there is none.
func (t *token) takeIdle() *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) == 0 {
		return nil
	}
	s := t.idle[len(t.idle)-1]
	t.idle = t.idle[:len(t.idle)-1]
	return &s
}

// giveBack frees what acquire got. A nil session is one that was lost.
func (t *token) giveBack(s *session) {
	if s != nil {
		t.mu.Lock()
		t.idle = append(t.idle, *s)
		t.mu.Unlock()
	}
	t.free.Release()
}

func (t *token) reportMended(what string, lost error) {
	if t.mended != nil {
		t.mended(what, lost)
	}
}

// trim removes the padding of Cryptoki's fixed-length texts.
func trim(s string) string { return strings.TrimRight(s, " \x00") }

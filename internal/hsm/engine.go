package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/pin"
)

// engine carries out the calls of the protocol on the token.
type engine struct {
	cfg    Config
	trust  *trust
	memory *pinMemory
	own    own
	trial  *trial
	limits *limits
	making *making
	first  *firstPass
	audit  auditMemory
	seen   sighting
	heads  *signedHeads
	pin    pin.File
	tok    *token
	log    *slog.Logger

	permitted Permitted

	// fate keeps Destroy from running between the relabelling and the wrapping of the same pair. WrapFor holds it
	// shared, Destroy alone.
	fate sync.RWMutex

	auditing sync.Mutex // held while keyd looks for the audit key and makes it

	mu sync.Mutex // guards the fields below
	// locked says why the engine is not logged in; "" if it is.
	locked  string
	refused bool         // by the token; false if, for example, the file cannot be read
	tried   pin.Identity // the PIN file that led to locked
	again   time.Time    // when to try again if the token did not refuse the PIN
	profile profile
	handles map[key.ID]pair
	vacant  map[key.ID]bool      // the last look showed nothing under the id
	drawn   map[key.ID]time.Time // when this process drew it for a pair to come
	asked   map[key.ID]bool      // C_GenerateKeyPair may have been called for the id
}

// newEngine finds the token, logs in once and runs the self-test. A refused PIN is not an error: it leaves the engine
// degraded.
func newEngine(ctx context.Context, mod module, cfg Config, permitted Permitted, log *slog.Logger) (*engine, error) {
	file, err := pin.Find(cfg.PINFile, cfg.CredentialsDir)
	if err != nil {
		return nil, err
	}
	limits, err := newLimits(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	tok, err := openToken(ctx, mod, cfg)
	if err != nil {
		return nil, err
	}
	tok.mended = func(what string, lost error) { log.Info(what, "error", lost.Error()) }
	e := &engine{
		cfg: cfg, pin: file, tok: tok, log: log, permitted: permitted, limits: limits,
		trust:  newTrust(cfg.StateDir),
		memory: newPINMemory(cfg.StateDir, trim(tok.info.SerialNumber)),
		trial:  newTrial(cfg, tok, log),
		heads:  newSignedHeads(cfg.StateDir),
		seen:   sighting{share: searchShare}, first: newFirstPass(),
		handles: map[key.ID]pair{}, vacant: map[key.ID]bool{}, drawn: map[key.ID]time.Time{}, asked: map[key.ID]bool{},
	}
	e.making = newMaking(cfg.Sessions, e.trial.oneAtATime)
	e.own = own{cfg.Instance, e.trial, newWitness(cfg.StateDir)}
	e.mu.Lock()
	err = e.unlock(ctx)
	e.mu.Unlock()
	if err == nil {
		err = e.tryAtStart(ctx)
	}
	return e, err
}

// unlock logs in, unless the token refused this PIN before. The caller holds mu.
func (e *engine) unlock(ctx context.Context) error {
	e.tried = e.pin.Identity()
	e.locked, e.refused = "", false
	if err := e.login(); err != nil {
		if e.tok.isDead() {
			return err
		}
		e.locked = fmt.Sprintf("not logged in to token %q: %v", e.tok.label, err)
		e.again = time.Now().Add(loginPause)
		e.log.ErrorContext(ctx, "the HSM side is degraded", "reason", e.locked)
		return nil
	}
	p, err := with(
		ctx,
		e.tok,
		e.cfg.GenerateTimeout,
		false,
		func(s session) (profile, error) { return s.selfTest(e.cfg.Mechanism) },
	)
	if err != nil {
		e.locked, e.tried = fmt.Sprintf(
			"the self-test on token %q failed: %v",
			e.tok.label,
			err,
		), pin.Identity{} // again at the next call
		return err
	}
	e.profile = p
	for _, w := range p.warnings {
		e.log.WarnContext(ctx, "HSM self-test", "warning", w)
	}
	for _, problem := range p.problems {
		e.log.ErrorContext(ctx, "the HSM side is degraded", "reason", problem)
	}
	return nil
}

// login gives the token the PIN, once.
func (e *engine) login() error {
	info, err := e.tokenInfo()
	if err != nil {
		return fmt.Errorf("C_GetTokenInfo: %w", err)
	}
	if info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0 {
		e.refused = true
		return errors.New("its user PIN is locked: unlock it with the vendor's tool, then restart the HSM side")
	}
	if info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0 {
		e.refused = true
		return errors.New(
			"one more wrong PIN locks it, so keyd does not try: log in once with the vendor's tool, which resets " +
				"the count, then restart the HSM side",
		)
	}
	typed, err := e.pin.Read()
	if err != nil {
		return err
	}
	defer clear(typed)
	if err := e.memory.begin(typed); err != nil {
		e.refused = !errors.Is(err, errNotNoted)
		return fmt.Errorf("the PIN in %s: %w%s", e.pin.Path(), err, also(pin.Hint(typed)))
	}
	killpoint.At("hsm-login-before")
	loginErr := e.tok.login(typed)
	killpoint.At("hsm-login-after")
	if IsCode(loginErr, Hung) {
		return loginErr // without an answer the note stays, and counts as a try
	}
	noteErr := e.memory.end(loginErr)
	e.refused = pinRefused(loginErr)
	switch {
	case e.refused:
		loginErr = fmt.Errorf("the token refused the PIN in %s (%w); it is not tried again: "+
			"put the right PIN in place, and %s%s", e.pin.Path(), loginErr, e.pin.Renewed(), also(pin.Hint(typed)))
	case isCKR(loginErr, pkcs11.CKR_USER_PIN_NOT_INITIALIZED):
		loginErr = newError(Device, key.Retry, "token %q: its user PIN was never set (%w), so it judged none: "+
			"set it with the vendor's tool, such as: pkcs11-tool --module %s --token-label %q "+
			"--login --login-type so --init-pin; keyd then logs in by itself", e.tok.label, loginErr, e.cfg.Module,
			e.tok.label)
		e.tok.fail(loginErr) // modules show only to a new process that another one has set it
	}
	return errors.Join(loginErr, noteErr)
}

// also returns hint as the end of a sentence.
func also(hint string) string {
	if hint == "" {
		return ""
	}
	return "; " + hint
}

// loginPause is the pause after a login that failed for a reason other than the PIN.
const loginPause = 10 * time.Second

// ready returns an error if the token cannot be used. If the PIN file changed after the token refused the PIN, ready
// tries the new PIN, once. After any other failure it tries again after a pause.
func (e *engine) ready(ctx context.Context) (profile, error) {
	late, err := e.unlockLate(ctx)
	if err == nil && late {
		err = e.tryAtStart(ctx)
	}
	if err != nil {
		return profile{}, classify("log in", err, key.Retry)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.locked == "" {
		return e.profile, nil
	}
	code := Unable
	if e.refused {
		code = PINRefused
	}
	return profile{}, refused(code, "%s", e.locked)
}

// unlockLate logs in if an earlier login failed and this one may succeed. done reports whether it logged in.
func (e *engine) unlockLate(ctx context.Context) (done bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	passing := !e.refused && time.Now().After(e.again)
	if e.locked == "" || !passing && e.pin.Identity() == e.tried {
		return false, nil
	}
	err = e.unlock(ctx)
	return err == nil && e.locked == "", err
}

// tokenInfo asks the token for its information, which a lost token does not give.
func (e *engine) tokenInfo() (pkcs11.TokenInfo, error) {
	return guard(
		e.tok,
		e.tok.limit,
		func() (pkcs11.TokenInfo, error) { return e.tok.mod.GetTokenInfo(e.tok.slot) },
	)
}

// Describe says what the HSM side runs on. It asks the token for its information, so that a lost token shows.
func (e *engine) Describe(ctx context.Context) (description, error) {
	p, lockErr := e.ready(ctx)
	info, err := e.tokenInfo()
	if err != nil {
		return description{}, classify("C_GetTokenInfo", err, key.Retry)
	}
	d := description{HSMInfo: key.HSMInfo{
		Module: e.cfg.Module,
		Library: fmt.Sprintf(
			"%s %d.%d",
			trim(e.tok.lib.LibraryDescription),
			e.tok.lib.LibraryVersion.Major,
			e.tok.lib.LibraryVersion.Minor,
		),
		Manufacturer: trim(info.ManufacturerID),
		Model:        trim(info.Model),
		Serial:       trim(info.SerialNumber),
		Firmware:     fmt.Sprintf("%d.%d", info.FirmwareVersion.Major, info.FirmwareVersion.Minor),
		Token:        trim(info.Label),
		Sessions:     e.cfg.Sessions,
		Warnings:     slices.Concat(p.warnings, e.trial.warnings()),
		Degraded:     strings.Join(slices.Concat(p.problems, e.trial.problems()), "; "),
	}}
	e.tryAgain(p, lockErr)
	if by, err := e.permitted(); err != nil {
		d.ConfigProblem = err.Error()
	} else {
		d.Config = by.Digest()
	}
	if p.wrap != nil {
		d.Wrap = p.wrap.name
	}
	if p.open != nil {
		d.Open = p.open.name
	}
	if lockErr != nil {
		d.Degraded = lockErr.Error()
		d.PINRefused = IsCode(lockErr, PINRefused)
	}
	d.PIN = pinState(info.Flags, lockErr)
	return d, nil
}

// pinState derives the state of the PIN from the token's flags and from the result of the login.
func pinState(flags uint, login error) key.PINState {
	switch {
	case IsCode(login, PINRefused):
		return key.PINRefused
	case flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return key.PINLocked
	case flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return key.PINFinalTry
	case flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0:
		return key.PINCountLow
	case flags&pkcs11.CKF_USER_PIN_TO_BE_CHANGED != 0:
		return key.PINToChange
	case login != nil:
		return key.PINUnknown
	}
	return key.PINAccepted
}

// opener returns the way to open that passed the self-test.
func (e *engine) opener(ctx context.Context) (*opener, error) {
	p, err := e.ready(ctx)
	if err != nil {
		return nil, err
	}
	if p.open == nil {
		return nil, refused(Unable, "%s", strings.Join(p.problems, "; "))
	}
	return p.open, nil
}

// wrapper returns the way to wrap that passed the self-test.
func (e *engine) wrapper(ctx context.Context) (*wrapper, error) {
	p, err := e.ready(ctx)
	if err != nil {
		return nil, err
	}
	if p.wrap == nil {
		return nil, refused(Unable, "%s", strings.Join(p.problems, "; "))
	}
	return p.wrap, nil
}

// CheckKEK says how keyd trusts the KEK. It needs no token.
func (e *engine) CheckKEK(_ context.Context, kek key.KEK) (string, error) {
	by, err := e.rights()
	if err != nil {
		return "", err
	}
	return e.trust.check(kek, by)
}

// rights returns what the configuration permits now.
func (e *engine) rights() (*Rights, error) {
	by, err := e.permitted()
	if err != nil {
		return nil, refused(NotPermitted, "the HSM side makes and wraps nothing: %w", err)
	}
	return by, nil
}

// PublicKey returns the public key of the one complete pair with this id, after the HSM has proven that it holds the
// private half.
func (e *engine) PublicKey(ctx context.Context, id key.ID) (key.Material, error) {
	open, err := e.opener(ctx)
	if err != nil {
		return key.Material{}, err
	}
	e.beforeSearch(ctx, id)
	p, err := with(ctx, e.tok, e.cfg.CallTimeout, true, func(s session) (pair, error) {
		p, err := e.present(s, id)
		if err == nil {
			err = open.possesses(s, p)
		}
		if err == nil && len(p.unreported) > 0 {
			err = e.own.witness.keep(id)
		}
		return p, err
	})
	if err != nil {
		return key.Material{}, classify("read the public key "+string(id), err, key.Retry)
	}
	return p.material, nil
}

// Opens reports whether the pair decrypts ciphertext (RSA-OAEP-256) to bytes whose SHA-256 is sum.
func (e *engine) Opens(ctx context.Context, id key.ID, ciphertext []byte, sum [32]byte) (bool, error) {
	open, err := e.opener(ctx)
	if err != nil {
		return false, err
	}
	mended := func(passed error) {
		e.tok.reportMended("a decryption with "+string(id)+" failed once, and not again", passed)
	}
	e.beforeSearch(ctx, id)
	yes, err := with(ctx, e.tok, e.cfg.CallTimeout, true, func(s session) (bool, error) {
		return onPair(e, s, id, func(p pair) (bool, error) { return open.opens(s, p, ciphertext, sum, mended) })
	})
	return yes, classify("open a ciphertext with "+string(id), err, key.Retry)
}

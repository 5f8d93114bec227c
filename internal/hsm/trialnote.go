package hsm

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/ownership"
)

// maxDied is how often in a row a try may end the process. After that, keyd no longer tries at each start, so that it
// can serve the existing keys.
const maxDied = 2

// trial knows whether this token can make keys: whether a throw-away pair passed. A note of it outlives the process.
type trial struct {
	path, token string
	log         *slog.Logger
	now         func() time.Time

	running sync.Mutex // held during a try

	mu      sync.Mutex // guards the fields below
	note    trialNote
	problem string
	last    time.Time // when the last try began; zero: never
	doubts  int       // generations under way
	beside  string    // how a pair failed while another was being made, until a try says what that means; "": none did
}

// trialNote is the content of the file. keyd writes it before any step that may end the process.
type trialNote struct {
	Token      string   `json:"token"` // the module, token and firmware that the note describes
	Passed     bool     `json:"passed"`
	Warnings   []string `json:"warnings,omitempty"`
	Unreported []string `json:"untold,omitempty"` // the attributes in sight that the token does not report
	Died       int      `json:"died,omitempty"`   // tries in a row that ended with the process
	// Beside is how a pair failed while another was being made, where a pair made alone passed. keyd makes one at a
	// time.
	Beside string    `json:"beside,omitempty"`
	At     time.Time `json:"at"`
}

func newTrial(cfg Config, tok *token, log *slog.Logger) *trial {
	t := &trial{
		path:  filepath.Join(cfg.StateDir, "selftest.json"),
		token: tokenTried(cfg, tok),
		log:   log,
		now:   time.Now,
	}
	note, err := t.load()
	if err != nil {
		log.Warn("cannot use the note of the self-test; keyd repeats the test", "error", err.Error())
	}
	// Until a new try, keyd assumes that the token does not report the same attributes as before. Otherwise it could
	// not use the existing keys meanwhile.
	t.note = trialNote{Token: t.token, Unreported: note.Unreported}
	if note.Token == t.token {
		t.note = note
		t.note.Passed = note.Passed && !exists(t.underWay())
	}
	return t
}

// tokenTried names what a passed test is valid for. Another module, token or firmware, or another template in keyd,
// needs a new test.
func tokenTried(cfg Config, tok *token) string {
	lib, info := tok.lib, tok.info
	asked := fmt.Sprint(privateAttrs(true), privateExtras(), privateBirth(), publicAttrs(true))
	return fmt.Sprintf("%s (%s %d.%d); token %q, serial %s, %s %s, firmware %d.%d; instance %s; templates %.4x",
		cfg.Module, trim(lib.LibraryDescription), lib.LibraryVersion.Major, lib.LibraryVersion.Minor,
		trim(info.Label), trim(info.SerialNumber), trim(info.ManufacturerID), trim(info.Model),
		info.FirmwareVersion.Major, info.FirmwareVersion.Minor, cfg.Instance, sha256.Sum256([]byte(asked)))
}

func (t *trial) passed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.note.Passed
}

// deadly reports whether the last tries ended the process, and then sets the problem.
func (t *trial) deadly() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.note.Died < maxDied {
		return false
	}
	t.problem = fmt.Sprintf(
		"no key can be made: the HSM process ended during each of the last %d tries to make a throw-away "+
			"key pair; see its log for why. keyd tries again in %v, and when a key is to be made", t.note.Died,
		deadlyPause,
	)
	t.last = t.now()
	return true
}

// due reports whether it is time for a try that nobody asked for.
func (t *trial) due() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	pause := trialPause
	if t.note.Died >= maxDied {
		pause = deadlyPause
	}
	if t.note.Passed || t.doubts > 0 || t.now().Sub(t.last) < pause {
		return false
	}
	t.last = t.now()
	return true
}

func (t *trial) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = t.now()
	t.note.Died++
	t.save()
}

// end notes the result of a try. It returns why the token cannot make keys; nil if it can.
func (t *trial) end(found trialNote, err error, died bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case died:
		return classify("make a throw-away key pair", err, key.Retry)
	case IsCode(err, Busy): // there was no try
		t.note.Died--
		t.save()
		return err
	}
	found.Beside = t.note.Beside
	if err != nil {
		found.Unreported = t.note.Unreported
	} else if t.beside != "" {
		found.Beside = t.beside
		t.log.Warn("keyd makes one key pair at a time on this token: a pair failed while another was being made, and "+
			"one made alone did not", "error", t.beside)
	}
	t.beside = ""
	found.Token, found.Passed = t.token, err == nil
	t.note, t.problem = found, ""
	t.save()
	t.unmark()
	if err == nil {
		for _, w := range found.Warnings {
			t.log.Warn("HSM self-test", "warning", w)
		}
		return nil
	}
	t.problem = fmt.Sprintf(
		"no key can be made on this token: a throw-away key pair, made as a real one is, failed: %v. "+
			"Look at the token's policy, its free room and its firmware; keyd tries again every minute, "+
			"and keyd check shows the result", err,
	)
	t.log.Error("the HSM side is degraded", "reason", t.problem)
	return refused(Unable, "%s", t.problem)
}

// doubt notes that a generation begins. If the generation fails, or ends the process, another try follows. The note is
// an empty file, because it is written for each generation. A power cut may undo it: that ends no process by a call.
func (t *trial) doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubts++
	if t.doubts > 1 {
		return
	}
	if err := os.WriteFile(t.underWay(), nil, 0o600); err != nil {
		t.log.Warn("cannot note that a generation begins", "error", err.Error())
	}
}

// settle ends a doubt.
func (t *trial) settle(made bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubts--
	t.note.Passed = t.note.Passed && made
	if t.note.Passed {
		t.unmark()
	}
}

// underWay is the file that exists during a generation, and after one that failed until the next try.
func (t *trial) underWay() string { return t.path + ".generating" }

// unmark removes the note of generations, unless one is under way.
func (t *trial) unmark() {
	if t.doubts > 0 {
		return
	}
	if err := os.Remove(t.underWay()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.log.Warn("cannot remove the note of a generation; keyd repeats the self-test at the next start",
			"error", err.Error())
	}
}

// suspect notes that a pair failed while another was being made.
func (t *trial) suspect(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.beside = err.Error()
}

// oneAtATime reports whether the token is known, or suspected, to fail when two pairs are made at once.
func (t *trial) oneAtATime() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.beside != "" || t.note.Beside != ""
}

func (t *trial) warnings() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.note.Beside == "" {
		return t.note.Warnings
	}
	return append(
		slices.Clone(t.note.Warnings),
		fmt.Sprintf("keyd makes one key pair at a time on this token: a pair "+
			"failed while another was being made (%s), and one made alone did not", t.note.Beside),
	)
}

// unreported returns the attributes in sight that the token does not report.
func (t *trial) unreported() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.note.Unreported
}

func (t *trial) problems() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.problem == "" {
		return nil
	}
	return []string{t.problem}
}

// save writes the note. If that fails, the only harm is one more try at the next start.
func (t *trial) save() {
	t.note.At = t.now().UTC()
	data, err := json.MarshalIndent(t.note, "", "  ")
	if err == nil {
		err = writeDurable(t.path, append(data, '\n'))
	}
	if err != nil {
		t.log.Warn("cannot note the result of the self-test", "error", err.Error())
	}
}

func (t *trial) load() (trialNote, error) {
	var note trialNote
	data, err := ownership.ReadFile(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return note, nil
	}
	if err != nil {
		return note, err
	}
	if err := decodeStrict(data, &note); err != nil {
		return trialNote{}, fmt.Errorf("%s is damaged: %w", t.path, err)
	}
	return note, nil
}

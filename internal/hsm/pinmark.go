package hsm

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/keyd-project/keyd/internal/ownership"
)

// maxUnfinished limits the tries of one PIN after tries during which the process died before the token answered.
// Tokens lock at the third wrong try.
const maxUnfinished = 2

// pinMemory remembers across restarts which PIN the token refused, so that keyd never tries it twice. keyd writes it
// before C_Login, because the process may die before it can write afterwards.
//
// The file holds a random key and an HMAC of the PIN under it. A reader of the file could search for a short PIN. But
// only root and the HSM side's own user can read the file, and both can read the PIN itself.
type pinMemory struct {
	path   string
	serial string // of the token that refused the PIN
	now    func() time.Time
}

type pinMark struct {
	Salt  []byte    `json:"salt"`
	MAC   []byte    `json:"mac"`
	Tries int       `json:"tries"`
	At    time.Time `json:"at"`
	// Refused is the token's answer; "" while unknown.
	Refused string `json:"refused,omitempty"`
}

func newPINMemory(stateDir, serial string) *pinMemory {
	return &pinMemory{path: filepath.Join(stateDir, "pin-tried.json"), serial: serial, now: time.Now}
}

// errNotNoted: not the PIN but the disk failed. keyd may try the PIN when the disk works again.
var errNotNoted = errors.New("keyd could not note that it is about to try the PIN, so it does not try it")

// begin notes that keyd is about to try pin. An error means that keyd must not try it.
func (m *pinMemory) begin(pin []byte) error {
	mark, err := m.load()
	if err != nil {
		return err
	}
	if mark == nil || !hmac.Equal(mark.MAC, m.mac(mark.Salt, pin)) {
		mark = &pinMark{Salt: make([]byte, 32)}
		_, _ = rand.Read(mark.Salt) // never fails (crypto/rand)
		mark.MAC = m.mac(mark.Salt, pin)
	}
	if mark.Refused != "" {
		return fmt.Errorf("the token refused this PIN (%s) at %s, and tokens lock after a few wrong ones: "+
			"it is not tried again; put the right PIN in place, or, if it is right after all, remove %s",
			mark.Refused, mark.At.UTC().Format(time.RFC3339), m.path)
	}
	if mark.Tries >= maxUnfinished {
		return fmt.Errorf("keyd died during its last %d logins, so the token may have counted wrong PINs: "+
			"it is not tried again; check the token with its vendor's tool, then remove %s", mark.Tries, m.path)
	}
	mark.Tries++
	if err := m.save(mark); err != nil {
		return fmt.Errorf("%w: %w", errNotNoted, err)
	}
	return nil
}

// end notes the token's answer to the last login.
func (m *pinMemory) end(loginErr error) error {
	if !pinRefused(loginErr) {
		return removeDurable(m.path) // the PIN was right, or the token did not check it
	}
	mark, err := m.load()
	if err != nil || mark == nil {
		return errors.Join(err, errors.New("the note of the PIN that was tried is gone"))
	}
	code, _ := ckr(loginErr)
	mark.Refused = code.Error()
	return m.save(mark)
}

func (m *pinMemory) load() (*pinMark, error) {
	data, err := ownership.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotNoted, err)
	}
	var mark pinMark
	if err := decodeStrict(data, &mark); err != nil || len(mark.Salt) == 0 || len(mark.MAC) == 0 {
		return nil, fmt.Errorf("%s is damaged, so keyd does not know whether the token refused the PIN: "+
			"check the token with its vendor's tool, then remove the file", m.path)
	}
	return &mark, nil
}

func (m *pinMemory) save(mark *pinMark) error {
	mark.At = m.now()
	data, err := json.Marshal(mark)
	if err != nil {
		return err
	}
	return writeDurable(m.path, data)
}

func (m *pinMemory) mac(salt, pin []byte) []byte {
	h := hmac.New(sha256.New, salt)
	fmt.Fprintf(h, "%d:%s", len(m.serial), m.serial)
	h.Write(pin)
	return h.Sum(nil)
}

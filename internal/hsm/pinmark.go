package hsm

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// maxUnfinished is how often one PIN may be tried when the tries before ended
// with the process and not with an answer. Tokens lock at the third wrong try.
const maxUnfinished = 2

// pinMemory remembers across restarts which PIN the token refused, so that no
// PIN is tried twice. It is written before C_Login, because the process may not
// live to write afterwards.
//
// The file holds a random key and an HMAC of the PIN under it. Whoever reads the
// file could search for a short PIN; but only root and the HSM side's own user
// can, and both can read the PIN itself.
type pinMemory struct {
	path   string
	serial string // of the token: a PIN is refused by one token
	now    func() time.Time
}

type pinMark struct {
	Salt  []byte    `json:"salt"`
	MAC   []byte    `json:"mac"`
	Tries int       `json:"tries"`
	At    time.Time `json:"at"`
	// Refused is the token's answer, "" while none is known.
	Refused string `json:"refused,omitempty"`
}

func newPINMemory(stateDir, serial string) *pinMemory {
	return &pinMemory{path: filepath.Join(stateDir, "pin-tried.json"), serial: serial, now: time.Now}
}

// errNotNoted: the PIN is not at fault; the disk is. It may be tried once the disk
// works again.
var errNotNoted = errors.New("it could not be noted that the PIN is about to be tried, so it is not tried")

// begin notes that pin is about to be tried; an error says that it must not be, or
// is errNotNoted.
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

// end notes the token's answer to the login begun last.
func (m *pinMemory) end(loginErr error) error {
	if !pinRefused(loginErr) {
		return removeDurable(m.path) // the PIN was right, or was not judged
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
	data, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotNoted, err)
	}
	var mark pinMark
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&mark); err != nil || len(mark.Salt) == 0 || len(mark.MAC) == 0 {
		return nil, fmt.Errorf("%s is damaged, so it is not known whether the token refused the PIN: "+
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

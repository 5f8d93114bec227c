package hsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/ownership"
)

// signedHeads is this side's memory of the checkpoint that it signed last, in a file that only root and its own user
// can write.
type signedHeads struct {
	path   string
	accept string // where root says that a break is accepted
	// read reads one of the two files.
	read func(path string) ([]byte, error)
	mu   sync.Mutex // held while a checkpoint is signed, and while the audit key is made
	// shown is how far this process has followed the chain from the checkpoint in its memory.
	shown way
}

// headNote is the file.
type headNote struct {
	Schema int                   `json:"schema"`
	Last   *key.SignedCheckpoint `json:"last,omitempty"` // nil: nothing was signed, or it is not known
	Begun  bool                  `json:"begun"`          // the audit key was made here, so Last is all that it signed
}

// acceptance is root's word that the chain goes on from another head.
type acceptance struct {
	Schema int             `json:"schema"`
	Seq    uint64          `json:"seq"`
	Head   key.Fingerprint `json:"head"`
	Reason string          `json:"reason"`
}

// newSignedHeads is the memory of the HSM side, which trusts no file that another user could change.
func newSignedHeads(stateDir string) *signedHeads { return headsIn(stateDir, ownership.ReadFile) }

func headsIn(stateDir string, read func(path string) ([]byte, error)) *signedHeads {
	return &signedHeads{
		path: filepath.Join(stateDir, "signed-head.json"), accept: filepath.Join(stateDir, "accept-head.json"),
		read: read,
	}
}

// begin notes, before the audit key is made, that it has signed nothing. It keeps what an earlier audit key signed. The
// caller has mu.
func (h *signedHeads) begin() error {
	note, err := h.load()
	if err != nil || note.Begun || note.Last != nil {
		return err
	}
	return h.save(headNote{Begun: true})
}

// remember notes what was signed. The caller has mu.
func (h *signedHeads) remember(c key.SignedCheckpoint) error {
	killpoint.At("hsm-head-before")
	if err := h.save(headNote{Last: &c, Begun: true}); err != nil {
		return newError(Internal, key.Retry, "remember what was signed: %w", err)
	}
	killpoint.At("hsm-head-after")
	return nil
}

func (h *signedHeads) save(note headNote) error {
	note.Schema = 1
	data, err := json.MarshalIndent(note, "", "  ")
	if err != nil {
		return err
	}
	return writeDurable(h.path, append(data, '\n'))
}

func (h *signedHeads) load() (note headNote, err error) {
	found, err := h.note(h.path, &note)
	if err == nil && found && (note.Schema != 1 || note.Last != nil && note.Last.Valid() != nil) {
		err = errors.New("it is not as keyd writes it")
	}
	var unsafe *ownership.Error
	switch {
	case errors.As(err, &unsafe):
		return note, fmt.Errorf("the note of the head that was signed last cannot be trusted: %w", err)
	case err != nil:
		return note, fmt.Errorf("%s, the note of the head that was signed last, is damaged (%w): restore it from a "+
			"backup, or remove it, and see the runbook, #keydauditbroken", h.path, err)
	}
	return note, nil
}

// accepted is the break that root accepted and that was not signed yet; nil for none.
func (h *signedHeads) accepted() (*acceptance, error) {
	var a acceptance
	found, err := h.note(h.accept, &a)
	if err == nil && found && a.Schema != 1 {
		err = errors.New("it is not as keyd writes it")
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be used (%w): remove it, and accept the head again", h.accept, err)
	}
	if !found {
		return nil, nil //nolint:nilnil // none is an answer
	}
	return &a, nil
}

func (h *signedHeads) forgetAccepted() error {
	if err := removeDurable(h.accept); err != nil {
		return newError(Internal, key.Retry, "the break is signed, but its order stays: %w", err)
	}
	return nil
}

// note reads a file of this side, strictly. found is false if there is none.
func (h *signedHeads) note(path string, into any) (found bool, err error) {
	data, err := h.read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, decodeStrict(data, into)
}

// AcceptCommand is the command by which root accepts that the audit chain goes on from this entry.
func AcceptCommand(seq uint64, head chain.Hash) string {
	return fmt.Sprintf("keyd hsm accept-head --head %d:%s --reason …", seq, head)
}

// Accepted is what AcceptHead did.
type Accepted struct {
	Old string `json:"old,omitempty"` // mark of the checkpoint that was signed last; "": it is not known
	New string `json:"new"`           // mark of the accepted head
}

// AcceptHead orders the HSM side with this state directory to sign, at its next checkpoint, that the audit chain goes
// on from another head than the one signed last. Only the file system decides who may: nothing offers it over a socket.
func AcceptHead(stateDir string, seq uint64, head key.Fingerprint, reason string) (Accepted, error) {
	h := headsIn(stateDir, os.ReadFile) // root reads what the HSM side's own user may change
	order := key.Checkpoint{Seq: seq, Head: head}
	done := Accepted{New: order.Mark()}
	if err := key.ValidReason(reason); err != nil {
		return done, err
	}
	note, err := h.load()
	if err != nil {
		return done, err
	}
	if note.Last != nil {
		done.Old = note.Last.Mark()
	}
	if done.Old == done.New {
		return done, fmt.Errorf("the HSM side signed %s last: there is no break to accept", done.Old)
	}
	data, err := json.MarshalIndent(acceptance{Schema: 1, Seq: seq, Head: head, Reason: reason}, "", "  ")
	if err != nil {
		return done, err
	}
	return done, writeDurableAs(h.accept, append(data, '\n'), func(f *os.File) error { return giveTo(f, stateDir) })
}

// giveTo makes the owner of dir the owner of the file: root writes it, and the HSM side's own user reads it.
func giveTo(f *os.File, dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the owner of " + strconv.Quote(dir) + " is not known")
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}

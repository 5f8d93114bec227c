package hsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/ownership"
)

// witness knows which pairs this HSM side saw being made: its own call of C_GenerateKeyPair made the pair, and the
// pair proved that it has its private key. It replaces CKA_LOCAL and CKA_KEY_GEN_MECHANISM on tokens that do not
// report them.
//
// Until keyd pins the pair, the witness remembers it in memory only, so it forgets the pair at a restart. After that,
// a file remembers the pair for as long as it is pending.
type witness struct {
	path string
	mu   sync.Mutex
	seen map[key.ID]key.Fingerprint // by this process
}

type witnessFile struct {
	Schema int                        `json:"schema"`
	Pairs  map[key.ID]key.Fingerprint `json:"pairs"` // by CKA_ID
}

func newWitness(stateDir string) *witness {
	return &witness{path: filepath.Join(stateDir, "seen-pairs.json"), seen: map[key.ID]key.Fingerprint{}}
}

// saw notes a pair that keyd has just made and proven.
func (w *witness) saw(id key.ID, m key.Material) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[id] = m.Fingerprint()
}

// missing says why keyd does not accept a key if the token does not report everything about it; "" if keyd saw the
// token make it.
func (w *witness) missing(id key.ID, m key.Material, unreported []attr) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.Matches(w.seen[id]) == key.MatchYes {
		return ""
	}
	file, err := w.load()
	if err != nil {
		return notReported(unreported) + ", and " + err.Error()
	}
	if m.Matches(file.Pairs[id]) == key.MatchYes {
		return ""
	}
	return notReported(unreported) + ", and this HSM process did not see the pair being made"
}

// keep writes what witness saw of a pair to the file, so that it outlives the process.
func (w *witness) keep(id key.ID) error {
	return w.change(func(file *witnessFile) bool {
		print, ok := w.seen[id]
		if !ok || file.Pairs[id] == print {
			return false
		}
		file.Pairs[id] = print
		return true
	})
}

// forget drops pairs that are destroyed or no longer pending.
func (w *witness) forget(id key.ID) error {
	return w.change(func(file *witnessFile) bool {
		delete(w.seen, id)
		_, ok := file.Pairs[id]
		delete(file.Pairs, id)
		return ok
	})
}

// change rewrites the file if f reports a change.
func (w *witness) change(f func(*witnessFile) bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	file, err := w.load()
	if err != nil || !f(&file) {
		return err
	}
	data, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	return writeDurable(w.path, append(data, '\n'))
}

func (w *witness) load() (witnessFile, error) {
	file := witnessFile{Schema: 1, Pairs: map[key.ID]key.Fingerprint{}}
	data, err := ownership.ReadFile(w.path)
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil
	}
	if err != nil {
		return file, fmt.Errorf("the note of the pairs that keyd saw being made cannot be read: %w", err)
	}
	if err := decodeStrict(data, &file); err != nil || file.Schema != 1 || file.Pairs == nil {
		return file, fmt.Errorf("%s, the note of the pairs that keyd saw being made, is damaged: "+
			"restore it from a backup, or remove it: pairs that were not wrapped yet are then not used", w.path)
	}
	return file, nil
}

package hsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/ownership"
)

const day = 24 * time.Hour

// madePairs knows which pairs of each key were made within a day. A file remembers them across a restart: a line with
// its schema, then a line for each pair. A new pair is appended, so that it costs the same however many came before it,
// and the file is written anew once most of its lines are old.
type madePairs struct {
	path  string
	byKey map[string]map[key.ID]time.Time
	lines int  // in the file
	most  int  // lines, before it is written anew
	anew  bool // the next pair writes the file anew: it does not exist, or it may end within a line
}

// madeLine is one line of the file.
type madeLine struct {
	ID  key.ID    `json:"id"` // CKA_ID
	Key string    `json:"key"`
	At  time.Time `json:"at"`
}

const (
	madeSchema = `{"schema":2}`
	fewLines   = 100 // more old lines than this are removed, and only if they are most of the file
)

func readMadePairs(stateDir string) (*madePairs, error) {
	m := &madePairs{path: filepath.Join(stateDir, "made-pairs.jsonl"), byKey: map[string]map[key.ID]time.Time{}}
	data, err := ownership.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		m.anew = true
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the note of the pairs that were made within a day: %w", err)
	}
	if err := m.read(data); err != nil {
		return nil, fmt.Errorf("%s, the note of the pairs that were made within a day, is damaged (%w): remove it; "+
			"the limits of a day then begin anew", m.path, err)
	}
	return m, nil
}

// read takes over what the file holds. A crash may have cut off its last line, and then no pair was reported as made.
func (m *madePairs) read(data []byte) error {
	whole, rest, _ := bytes.Cut(data, []byte("\n"))
	if string(whole) != madeSchema {
		return fmt.Errorf("it does not begin with %s", madeSchema)
	}
	for len(rest) > 0 {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		if rest = after; !ended {
			m.anew = true
			break
		}
		var made madeLine
		if err := decodeStrict(line, &made); err != nil {
			return fmt.Errorf("line %d: %w", m.lines+2, err)
		}
		m.add(made)
		m.lines++
	}
	m.most = 2*m.lines + fewLines
	return nil
}

func (m *madePairs) add(made madeLine) {
	if m.byKey[made.Key] == nil {
		m.byKey[made.Key] = map[key.ID]time.Time{}
	}
	m.byKey[made.Key][made.ID] = made.At
}

// drop forgets a pair that was not made.
func (m *madePairs) drop(name string, id key.ID) { delete(m.byKey[name], id) }

// within returns the pairs of a key that were made less than a day from now, and forgets the others.
func (m *madePairs) within(now time.Time, name string) map[key.ID]time.Time {
	for id, at := range m.byKey[name] {
		if now.Sub(at).Abs() >= day {
			delete(m.byKey[name], id)
		}
	}
	if len(m.byKey[name]) == 0 {
		delete(m.byKey, name)
	}
	return m.byKey[name]
}

// save writes a pair that was added to the file, and returns when a power cut can no longer undo that.
func (m *madePairs) save(now time.Time, name string, id key.ID) error {
	if m.anew || m.lines >= m.most {
		return m.writeAnew(now)
	}
	line, err := json.Marshal(madeLine{id, name, m.byKey[name][id]})
	if err != nil {
		return err
	}
	err = appendDurable(m.path, append(line, '\n'))
	if errors.Is(err, fs.ErrNotExist) {
		return m.writeAnew(now) // somebody removed it, as the error of a damaged one says
	}
	m.anew = err != nil
	m.lines++
	return err
}

// writeAnew writes the pairs of the last day, and no others.
func (m *madePairs) writeAnew(now time.Time) error {
	var all bytes.Buffer
	all.WriteString(madeSchema + "\n")
	lines := 0
	for name := range m.byKey {
		for id, at := range m.within(now, name) {
			line, err := json.Marshal(madeLine{id, name, at})
			if err != nil {
				return err
			}
			all.Write(append(line, '\n'))
			lines++
		}
	}
	if err := writeDurable(m.path, all.Bytes()); err != nil {
		return err
	}
	m.lines, m.most, m.anew = lines, 2*lines+fewLines, false
	return nil
}

package emulator

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// journalHeader begins a state file. After it come records, each of three
// big-endian 32-bit numbers (the lengths of its text and its material, and the
// CRC-32 of both), the text (JSON) and the material (PKCS#8 DER, or raw bytes).
const journalHeader = "keyvault-emulator state 1\n"

// journal is a state file. Every change is appended; a start that finds more past than
// present in it rewrites the file. It holds unencrypted private keys and is readable by
// its owner only.
type journal struct {
	mu   sync.Mutex
	file *os.File
}

// journalRecord sets a key's version, or, without one, the key's other state. Gone
// means that nothing is left of the key.
type journalRecord struct {
	Vault   string           `json:"vault"`
	Key     string           `json:"key"`
	Gone    bool             `json:"gone,omitempty"`
	Policy  *rotationPolicy  `json:"policy,omitempty"`
	Deleted *journalDeletion `json:"deleted,omitempty"`
	Version *journalVersion  `json:"version,omitempty"`
}

type journalDeletion struct {
	At    time.Time `json:"at"`
	Ready time.Time `json:"ready"`
	Purge time.Time `json:"purge"`
}

type journalVersion struct {
	ID       string            `json:"id"`
	Ops      []string          `json:"ops"`
	Enabled  bool              `json:"enabled"`
	NBF      *int64            `json:"nbf,omitempty"`
	Exp      *int64            `json:"exp,omitempty"`
	Created  int64             `json:"created"`
	Updated  int64             `json:"updated"`
	Tags     map[string]string `json:"tags,omitzero"`
	Imported bool              `json:"imported,omitempty"`
	Garbled  bool              `json:"garbled,omitempty"`

	Exportable bool           `json:"exportable,omitempty"`
	Release    *releasePolicy `json:"release,omitempty"`

	Public jsonWebKey `json:"public"` // with kty
}

// openJournal opens or makes a state file and loads it into vaults.
func openJournal(path string, vaults map[string]*Vault) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state file: %w", err)
	}
	j := &journal{file: file}
	if err := j.load(path, vaults); err != nil {
		file.Close()
		return nil, fmt.Errorf("state file %s: %w", path, err)
	}
	for _, v := range vaults {
		v.journal = j
	}
	return j, nil
}

func (j *journal) load(path string, vaults map[string]*Vault) error {
	if err := syscall.Flock(int(j.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another emulator uses it: %w", err)
	}
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(j.file, data); err != nil {
		return err
	}
	if len(data) == 0 {
		_, err := j.file.WriteString(journalHeader)
		return err
	}
	if !bytes.HasPrefix(data, []byte(journalHeader)) {
		return fmt.Errorf("it is not a state file of the emulator")
	}
	r := newJournalReader(data[len(journalHeader):], vaults)
	whole, err := r.readAll()
	if err != nil {
		return err
	}
	if err := r.settle(); err != nil {
		return err
	}
	if r.count > 2*r.live {
		return j.rewrite(path, vaults)
	}
	end := int64(len(journalHeader) + whole) // drops a record that a crash cut short
	if err := j.file.Truncate(end); err != nil {
		return err
	}
	_, err = j.file.Seek(end, io.SeekStart)
	return err
}

// rewrite replaces the file by one with only the present state.
func (j *journal) rewrite(path string, vaults map[string]*Vault) error {
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	fresh := &journal{file: file}
	if _, err := file.WriteString(journalHeader); err != nil {
		file.Close()
		return err
	}
	for host, v := range vaults {
		s := v.current()
		names := slices.AppendSeq(slices.Collect(maps.Keys(s.keys)), maps.Keys(s.deleted))
		if err := fresh.append(host, names, newState(s.now), s); err != nil {
			file.Close()
			return err
		}
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		file.Close()
		return err
	}
	j.file.Close()
	j.file = file
	return nil
}

// append writes the slots of next that differ from old.
func (j *journal) append(host string, names []string, old, next *state) error {
	var b bytes.Buffer
	for _, name := range names {
		if err := encodeSlot(&b, host, old.slot(name), next.slot(name)); err != nil {
			return err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing the state file: %w", err)
	}
	return nil
}

// close may be called again.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// entry is the key of a slot, deleted or not.
func (c slot) entry() *entry {
	if c.deleted != nil {
		return c.deleted.entry
	}
	return c.key
}

func encodeSlot(b *bytes.Buffer, host string, old, next slot) error {
	k := next.entry()
	if k == nil {
		return encodeRecord(b, journalRecord{Vault: host, Key: old.name, Gone: true}, nil)
	}
	known := map[string]*version{}
	if was := old.entry(); was != nil {
		for _, ver := range was.versions {
			known[ver.id] = ver
		}
	}
	for _, ver := range k.versions {
		if known[ver.id] == ver {
			continue
		}
		if err := encodeVersion(b, host, k.name, known[ver.id], ver); err != nil {
			return err
		}
	}
	r := journalRecord{Vault: host, Key: k.name, Policy: k.policy}
	if d := next.deleted; d != nil {
		r.Deleted = &journalDeletion{At: d.at, Ready: d.readyAt, Purge: d.purgeAt}
	}
	was := old.entry()
	if was != nil && was.policy == k.policy && old.deleted == next.deleted {
		return nil
	}
	return encodeRecord(b, r, nil)
}

// encodeVersion omits the material if the file already has it.
func encodeVersion(b *bytes.Buffer, host, name string, old, ver *version) error {
	r := journalRecord{Vault: host, Key: name, Version: ver.record()}
	if old != nil && old.held == ver.held {
		return encodeRecord(b, r, nil)
	}
	raw, err := ver.held.marshal()
	if err != nil {
		return fmt.Errorf("encoding %s/%s for the state file: %w", name, ver.id, err)
	}
	return encodeRecord(b, r, raw)
}

// record returns all of a version except its material.
func (ver *version) record() *journalVersion {
	public := jsonWebKey{Kty: ver.kty}
	ver.shown.show(&public)
	return &journalVersion{
		ID: ver.id, Ops: ver.ops, Enabled: ver.enabled, NBF: ver.nbf, Exp: ver.exp,
		Created: ver.created, Updated: ver.updated, Tags: ver.tags,
		Imported: ver.imported, Garbled: ver.garbled, Public: public,
		Exportable: ver.exportable, Release: ver.release,
	}
}

func encodeRecord(b *bytes.Buffer, r journalRecord, raw []byte) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding %s for the state file: %w", r.Key, err)
	}
	var head [12]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(text)))
	binary.BigEndian.PutUint32(head[4:], uint32(len(raw)))
	binary.BigEndian.PutUint32(head[8:], crc32.Update(crc32.ChecksumIEEE(text), crc32.IEEETable, raw))
	for _, part := range [][]byte{head[:], text, raw} {
		b.Write(part)
	}
	return nil
}

// fold returns the form of a name that is the map key.
func fold(name string) string { return strings.ToLower(name) }

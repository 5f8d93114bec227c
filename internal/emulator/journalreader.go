package emulator

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"runtime"
	"slices"
	"sync"
)

// journalReader rebuilds the vaults from a state file's records.
type journalReader struct {
	data   []byte
	vaults map[string]*Vault
	states map[string]*state // not shared yet, so it may change
	count  int               // records
	live   int               // records that a new file would need
}

// rawRecord is a record with a correct checksum.
type rawRecord struct {
	text, material []byte
	record         journalRecord
	err            error
}

func newJournalReader(data []byte, vaults map[string]*Vault) *journalReader {
	r := &journalReader{data: data, vaults: vaults, states: map[string]*state{}}
	for host, v := range vaults {
		r.states[host] = newState(v.opts.Now)
	}
	return r
}

// readAll returns the length of the data up to the last whole record.
func (r *journalReader) readAll() (int, error) {
	records, whole, err := r.split()
	if err != nil {
		return 0, err
	}
	decodeAll(records)
	r.count = len(records)
	for i := range records {
		if err := records[i].err; err != nil {
			return 0, err
		}
		if err := r.apply(records[i].record, records[i].material); err != nil {
			return 0, err
		}
	}
	return whole, nil
}

func (r *journalReader) split() (records []rawRecord, whole int, err error) {
	for rest := r.data; len(rest) >= 12; rest = r.data[whole:] {
		text, material := int(binary.BigEndian.Uint32(rest)), int(binary.BigEndian.Uint32(rest[4:]))
		if text+material > len(rest)-12 {
			return records, whole, nil
		}
		body := rest[12 : 12+text+material]
		if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(rest[8:]) {
			return nil, 0, fmt.Errorf("record %d is damaged", len(records)+1)
		}
		records = append(records, rawRecord{text: body[:text], material: body[text:]})
		whole += 12 + text + material
	}
	return records, whole, nil
}

// decodeAll decodes the texts on all processors: they are most of the work.
func decodeAll(records []rawRecord) {
	var workers sync.WaitGroup
	size := len(records)/runtime.GOMAXPROCS(0) + 1
	for part := range slices.Chunk(records, size) {
		workers.Go(func() {
			for i := range part {
				part[i].err = json.Unmarshal(part[i].text, &part[i].record)
			}
		})
	}
	workers.Wait()
}

func (r *journalReader) apply(record journalRecord, raw []byte) error {
	s := r.states[record.Vault]
	if s == nil {
		return fmt.Errorf("it holds the vault %s, which is not configured", record.Vault)
	}
	name := fold(record.Key)
	if record.Gone {
		s.fill(slot{name: name})
		return nil
	}
	k := s.slot(name).entry()
	if k == nil {
		k = &entry{name: record.Key}
		s.put(k)
	}
	if record.Version != nil {
		return k.restore(record.Version, raw)
	}
	k.policy = record.Policy
	next := slot{name: name, key: k}
	if d := record.Deleted; d != nil {
		next = slot{name: name, deleted: &deletedEntry{entry: k, at: d.At, readyAt: d.Ready, purgeAt: d.Purge}}
	}
	s.fill(next)
	return nil
}

// restore sets one version. It keeps the version's material if raw has none.
func (k *entry) restore(j *journalVersion, raw []byte) error {
	i := slices.IndexFunc(k.versions, func(o *version) bool { return o.id == j.ID })
	if len(raw) == 0 {
		if i < 0 {
			return fmt.Errorf("version %s/%s has no key material", k.name, j.ID)
		}
		old, ok := k.versions[i].held.(*deferred)
		if !ok {
			return fmt.Errorf("the version %s/%s was read twice", k.name, j.ID)
		}
		raw = old.raw
	}
	if err := checkKty(j.Public.Kty); err != nil {
		return fmt.Errorf("the version %s/%s: %w", k.name, j.ID, err)
	}
	ver := j.version(raw)
	if i < 0 {
		k.versions = append(k.versions, ver)
	} else {
		k.versions[i] = ver
	}
	return nil
}

// version returns the recorded version, with its material.
func (j *journalVersion) version(raw []byte) *version {
	m := newDeferred(family(j.Public.Kty), j.Public, raw)
	return &version{
		id: j.ID, kty: j.Public.Kty, ops: j.Ops, enabled: j.Enabled, nbf: j.NBF, exp: j.Exp,
		created: j.Created, updated: j.Updated, tags: j.Tags, imported: j.Imported, garbled: j.Garbled,
		exportable: j.Exportable, release: j.Release,
		shown: m, held: m,
	}
}

// settle passes the states to the vaults.
func (r *journalReader) settle() error {
	for host, s := range r.states {
		keys := slices.Collect(maps.Values(s.keys))
		for _, d := range s.deleted {
			keys = append(keys, d.entry)
		}
		for _, k := range keys {
			if len(k.versions) == 0 {
				return fmt.Errorf("the key %s of %s has no version", k.name, host)
			}
			r.live += 1 + len(k.versions)
		}
		r.vaults[host].present.Store(s)
	}
	return nil
}

package observe

import (
	"maps"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// Learn adds the result of a step to the newest observation of its key, which then counts as unused.
func (o *Observer) Learn(l record.Learnt) {
	last, _ := o.cache.get(l.Key)
	if last == nil {
		return
	}
	seen := &record.Observation{At: last.At, HSM: last.HSM, Vaults: maps.Clone(last.Vaults)}
	seen.HSM.Asked = map[key.ID]record.Mark{}
	for id, mark := range last.HSM.Asked {
		if mark.Revision == l.From {
			mark.Revision = l.To
		}
		if id != l.ID {
			seen.HSM.Asked[id] = mark
		}
	}
	for url, part := range seen.Vaults {
		if part.Revision == l.From {
			part.Revision = l.To
		}
		if url == l.Vault {
			part = imported(part, l.Version)
		}
		seen.Vaults[url] = part
	}
	o.cache.put(l.Key, seen)
}

// imported is a part after the vault took a version, which is the newest as far as keyd knows.
func imported(part record.VaultSeen, v key.Version) record.VaultSeen {
	part.Versions = append(slices.Clone(part.Versions), v)
	part.Material, part.Operations = maps.Clone(part.Material), maps.Clone(part.Operations)
	part.Material[v.ID] = v.Material
	if len(v.Operations) > 0 {
		part.Operations[v.ID] = v.Operations
	}
	part.Newest, part.Acted, part.NewestAt = v.ID, true, time.Time{}
	return part
}

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
	if l.Vault != "" {
		o.cache.emptySince(l.Vault, l.Key, false, time.Time{})
	}
	o.cache.update(l.Key, func(last *record.Observation, _ bool) *record.Observation { return learnt(last, l) })
}

func learnt(last *record.Observation, l record.Learnt) *record.Observation {
	seen := &record.Observation{At: last.At, HSM: last.HSM, Vaults: maps.Clone(last.Vaults), Usage: last.Usage}
	seen.HSM.Asked = nil
	for _, asked := range last.HSM.Asked {
		if asked.Value.Revision == l.From {
			asked.Value.Revision = l.To
		}
		if asked.Key != l.ID {
			seen.HSM.Asked = append(seen.HSM.Asked, asked)
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
	return seen
}

// imported is a part after the vault took a version, which is the newest as far as keyd knows.
func imported(part record.VaultSeen, v key.Version) record.VaultSeen {
	if part.Err != nil {
		return part
	}
	part.Versions = append(slices.Clone(part.Versions), v)
	part.Material = part.Material.With(v.ID, v.Material)
	if len(v.Operations) > 0 {
		part.Operations = part.Operations.With(v.ID, v.Operations)
	}
	part.Newest, part.Acted, part.NewestAt = v.ID, true, time.Time{}
	return part
}

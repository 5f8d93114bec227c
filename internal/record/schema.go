package record

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// SchemaVersion is the version of the form of records. keyd refuses a record of a newer version.
const SchemaVersion = 2

// FromSchema1 converts the JSON of all records from schema 1, which had records of keys only, to schema 2. In schema
// 1 a lifted refutation was a refuted placement with a mark, a disabling under way was a superseded placement with a
// time, and each key had its own knowledge of which KEKs it had made and used in a vault.
func FromSchema1(old map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	vaults := map[string]*oldVault{}
	records := map[string]json.RawMessage{}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		var r map[string]any
		if err := json.Unmarshal(old[name], &r); err != nil {
			return nil, fmt.Errorf("read the record of %s, of schema 1: %w", name, err)
		}
		if err := collectKEKs(old[name], vaults); err != nil {
			return nil, fmt.Errorf("read the record of %s, of schema 1: %w", name, err)
		}
		r["schema"] = SchemaVersion
		delete(r, "kek_begun")
		delete(r, "kek_made")
		for _, g := range list(r["generations"]) {
			for _, p := range list(g["placements"]) {
				if p["lifted"] == true && p["state"] == "refuted" {
					p["state"] = "lifted"
				}
				delete(p, "lifted")
				if p["disable_begun"] != nil && p["state"] == "superseded" {
					p["state"] = "disabling"
				}
			}
		}
		body, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		records[name] = body
	}
	for url, v := range vaults {
		body, err := json.Marshal(v.record(url))
		if err != nil {
			return nil, err
		}
		records[url] = body
	}
	return records, nil
}

// oldVault is what the schema 1 records of keys knew about one vault.
type oldVault struct {
	instance string
	begun    time.Time       // when any key last began to make a KEK
	made     key.Fingerprint // the KEK that was made
	used     Placement       // the newest import that the vault accepted
}

// oldRecord is the part of a record of schema 1 that is about KEKs.
type oldRecord struct {
	Instance    string                     `json:"instance"`
	KEKBegun    map[string]time.Time       `json:"kek_begun"`
	KEKMade     map[string]key.Fingerprint `json:"kek_made"`
	Generations []Generation               `json:"generations"`
}

func collectKEKs(body json.RawMessage, vaults map[string]*oldVault) error {
	var r oldRecord
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	of := func(url string) *oldVault {
		if vaults[url] == nil {
			vaults[url] = &oldVault{instance: r.Instance}
		}
		return vaults[url]
	}
	for url, begun := range r.KEKBegun {
		if v := of(url); begun.After(v.begun) {
			v.begun, v.made = begun, r.KEKMade[url]
		}
	}
	for _, g := range r.Generations {
		for _, p := range g.Placements {
			if p.Version != "" && p.KEK != "" && p.KEKPrint != "" && p.At.After(of(p.Vault).used.At) {
				of(p.Vault).used = p
			}
		}
	}
	return nil
}

// record is what keyd knows about the vault from all that: the KEK of the newest import is in use, and one that was
// begun and not used may still appear.
func (v *oldVault) record(url string) Vault {
	rec := Vault{Schema: SchemaVersion, URL: url, Instance: v.instance}
	begun := Moment{v.begun, v.begun} // by the vault's clock if that was known
	if used := v.used; used.KEK != "" {
		at := Moment{used.At, used.VaultAt}
		k := KEK{State: key.KEKActive, Kid: used.KEK, Fingerprint: used.KEKPrint, Found: v.made != used.KEKPrint,
			Begun: at, Made: at, Used: at}
		if !k.Found {
			k.Begun, k.By = begun, "keyd"
		}
		rec.KEKs = append(rec.KEKs, k)
	}
	if v.begun.After(v.used.At) && (v.made == "" || v.made != v.used.KEKPrint) {
		rec.KEKs = append(rec.KEKs, KEK{State: key.KEKMaking, By: "keyd", Begun: begun})
	}
	return rec
}

// list returns a list of objects as encoding/json reads it, without elements that are not objects.
func list(v any) (objects []map[string]any) {
	values, _ := v.([]any)
	for _, x := range values {
		if o, ok := x.(map[string]any); ok {
			objects = append(objects, o)
		}
	}
	return objects
}

// Package effects compares what is really in the vaults and in the token with the audit chain. Its rule: every
// external effect has its intent entry before it and its result entry after it. It imports none of keyd's rooms: it
// reads the chain as an auditor does, and does not share keyd's mistakes.
package effects

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

const (
	kekName    = "keyd-kek"     // the name that keyd uses if the configuration gives none
	tagAttempt = "keyd-attempt" // of the versions that keyd imports
)

// Entry is one entry of the audit chain.
type Entry struct {
	Time   time.Time         `json:"time"`
	Event  string            `json:"event"`
	Fields map[string]string `json:"fields"`
	Hash   string            `json:"hash"`
}

// Read reads what `keyd audit --json` prints.
func Read(printed string) (chain []Entry, err error) {
	for dec := json.NewDecoder(strings.NewReader(printed)); ; {
		var e Entry
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return chain, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the audit chain: %w", err)
		}
		chain = append(chain, e)
	}
}

// Join appends a chain to one that was lost. Their common beginning counts once.
func Join(lost, chain []Entry) []Entry {
	all := slices.Clone(lost)
	for _, e := range chain {
		if !slices.ContainsFunc(lost, func(x Entry) bool { return x.Hash == e.Hash }) {
			all = append(all, e)
		}
	}
	return all
}

// Vault is what a vault really holds.
type Vault struct {
	URL      string
	Versions []emulator.VersionInfo // of the key
	KEKs     []emulator.VersionInfo // of the key exchange key
	// Requests are what the emulator was asked to do, if its clock is the chain's. If a process that died did
	// something before recording its intent, an import shows it by its attempt and a pair by its id; a KEK and a
	// disabling show it only by the time.
	Requests []emulator.RequestLog
}

// In returns what the emulator's vault holds of the key.
func In(v *emulator.Vault, key string) Vault {
	return Vault{URL: v.URL(), Versions: v.Versions(key), KEKs: v.Versions(kekName)}
}

// Pair is a pair in the token.
type Pair struct {
	ID      string // CKA_ID
	Pending bool   // it was never wrapped for a vault
}

// Unrecorded lists every effect that the chain does not record as it must, one line
// each.
func Unrecorded(chain []Entry, vaults []Vault, pairs []Pair) (lines []string) {
	for _, p := range pairs {
		if why := unrecorded(chain, p.intended, p.made); why != "" {
			lines = append(lines, fmt.Sprintf("pair %s in the token: %s", p.ID, why))
		}
	}
	for _, v := range vaults {
		for _, x := range v.KEKs {
			why := unrecorded(chain, v.kekIntended, v.kekMade(x))
			if why == "" {
				why = v.early(chain, v.kekIntended, "create", "/keys/"+kekName)
			}
			if why != "" {
				lines = append(lines, fmt.Sprintf("key exchange key %s in %s: %s", x.ID, v.URL, why))
			}
			if x.Enabled {
				continue
			}
			intended := v.aboutKEK("disabling of a key exchange key intended", x)
			if why = unrecorded(chain, intended, v.aboutKEK("key exchange key disabled", x)); why == "" {
				why = v.early(chain, intended, "update", x.ID)
			}
			if why != "" {
				lines = append(lines, fmt.Sprintf("key exchange key %s in %s is disabled: %s", x.ID, v.URL, why))
			}
		}
		for _, x := range v.Versions {
			// If a version was not imported, somebody else made it in the vault: keyd makes versions in no other way.
			if !x.Imported {
				continue
			}
			if why := unrecorded(chain, v.importIntended(x), v.imported(x)); why != "" {
				lines = append(lines, fmt.Sprintf("version %s in %s: %s", x.ID, v.URL, why))
			}
			if x.Enabled {
				continue
			}
			intended := v.about("disabling intended", x)
			why := unrecorded(chain, intended, v.about("disabled", x))
			if why == "" {
				why = v.early(chain, intended, "update", x.ID)
			}
			if why != "" {
				lines = append(lines, fmt.Sprintf("version %s in %s is disabled: %s", x.ID, v.URL, why))
			}
		}
	}
	return lines
}

// unrecorded says what is wrong if the chain does not have the intent and, after it, the result; "" if it has both.
func unrecorded(chain []Entry, intent, result func(Entry) bool) string {
	i := slices.IndexFunc(chain, intent)
	switch {
	case i < 0:
		return "the audit chain has no entry of its intent"
	case slices.ContainsFunc(chain[i+1:], result):
		return ""
	case slices.ContainsFunc(chain[:i], result):
		return "the audit chain has its result before its intent"
	}
	return "the audit chain has its intent and no result after it"
}

// early says what is wrong if the vault was asked for the effect before the chain has its intent.
func (v Vault) early(chain []Entry, intent func(Entry) bool, operation, path string) string {
	i := slices.IndexFunc(chain, intent)
	if slices.ContainsFunc(v.Requests, func(r emulator.RequestLog) bool {
		return "https://"+r.Host == v.URL && r.Operation == operation && strings.Contains(r.Path, path) &&
			r.Time.Before(chain[i].Time)
	}) {
		return "it was asked for before the audit chain has its intent"
	}
	return ""
}

func (p Pair) intended(e Entry) bool {
	return e.Event == "generation intended" && e.Fields["id"] == p.ID
}

func (p Pair) made(e Entry) bool {
	switch e.Event {
	case "generation made", "generation pinned":
		return e.Fields["id"] == p.ID
	case "id abandoned", "spare discarded": // and the pair waits for the sweeper
		return p.Pending && e.Fields["id"] == p.ID
	}
	return slices.ContainsFunc(e.rebuilt(), func(g generation) bool { return g.ID == p.ID })
}

func (v Vault) kekIntended(e Entry) bool {
	return e.Event == "key exchange key intended" && e.Fields["vault"] == v.URL
}

func (v Vault) kekMade(x emulator.VersionInfo) func(Entry) bool {
	return v.aboutKEK("key exchange key made", x)
}

// aboutKEK is an event of one key exchange key.
func (v Vault) aboutKEK(event string, x emulator.VersionInfo) func(Entry) bool {
	return func(e Entry) bool {
		return e.Event == event && e.Fields["vault"] == v.URL && strings.HasSuffix(e.Fields["kek"], "/"+x.ID)
	}
}

func (v Vault) importIntended(x emulator.VersionInfo) func(Entry) bool {
	about, attempt := v.about("import intended", x), x.Tags[tagAttempt]
	return func(e Entry) bool { return about(e) && attempt != "" && e.Fields["attempt"] == attempt }
}

// imported goes by the version: if an attempt was given up and repeated, the record may have the first attempt's
// version under the second.
func (v Vault) imported(x emulator.VersionInfo) func(Entry) bool {
	imported, alias := v.about("imported", x), v.about("duplicate version adopted", x)
	return func(e Entry) bool {
		return imported(e) && e.Fields["version"] == x.ID || alias(e) && e.Fields["alias"] == x.ID ||
			slices.ContainsFunc(e.rebuilt(), func(g generation) bool { return g.has(x.ID) })
	}
}

// about is an event of the version's vault and material.
func (v Vault) about(event string, x emulator.VersionInfo) func(Entry) bool {
	print := fingerprint(x)
	return func(e Entry) bool {
		return e.Event == event && e.Fields["vault"] == v.URL && e.Fields["fingerprint"] == print
	}
}

// generation is one that an operator made keyd adopt into its record.
type generation struct {
	ID       string              `json:"id"`
	Versions map[string][]string `json:"versions"`
}

func (g generation) has(version string) bool {
	for _, ids := range g.Versions {
		if slices.Contains(ids, version) {
			return true
		}
	}
	return false
}

// rebuilt returns what an entry of `keyd adopt` names as keyd's own.
func (e Entry) rebuilt() []generation {
	var adopted struct {
		Rebuild []generation `json:"rebuild"`
	}
	if e.Event != "adopted" || json.Unmarshal([]byte(e.Fields["adopted"]), &adopted) != nil {
		return nil
	}
	return adopted.Rebuild
}

// fingerprint is the SHA-256 of the SPKI DER, as the chain writes it.
func fingerprint(x emulator.VersionInfo) string {
	spki, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: x.N, E: x.E})
	if err != nil {
		return "none: " + err.Error()
	}
	sum := sha256.Sum256(spki)
	return "sha256:" + hex.EncodeToString(sum[:])
}

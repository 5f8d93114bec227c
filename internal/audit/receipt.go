package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// Receipt is everything that the chain says about one generation of a key: what an
// auditor files for a rotation.
type Receipt struct {
	Key        string    `json:"key"`
	Generation int       `json:"generation"`
	Spec       key.Spec  `json:"spec"`
	AskedBy    string    `json:"asked_by"`
	Reason     string    `json:"reason,omitempty"`
	Reserved   time.Time `json:"reserved"`
	// SpareSince is when the pair was reserved as a spare, before anybody asked for a rotation; zero: it was none.
	SpareSince time.Time `json:"spare_since,omitzero"`
	// Requests are the operators' requests that this generation answers.
	Requests []Asked `json:"requests,omitzero"`

	ID          key.ID          `json:"cka_id"`
	GivenUp     []key.ID        `json:"abandoned_cka_ids,omitzero"`
	Made        time.Time       `json:"made,omitzero"`
	Fingerprint key.Fingerprint `json:"fingerprint,omitempty"`
	Pinned      time.Time       `json:"pinned,omitzero"` // read back, and its private half proven
	HSM         MadeIn          `json:"hsm"`

	Imports  []Imported `json:"imports,omitzero"`  // oldest first
	Finished time.Time  `json:"finished,omitzero"` // active in every vault

	// The entries of the chain that the receipt is compiled from.
	First  uint64         `json:"first_entry"`
	Last   uint64         `json:"last_entry"`
	Signed *SignedReceipt `json:"signed,omitempty"` // nil: not all of it is signed yet
}

// Asked is one request for a rotation.
type Asked struct {
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
	ID     key.ID    `json:"id"`
}

// MadeIn is the HSM as it described itself when the pair was pinned.
type MadeIn struct {
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`
	Serial       string `json:"serial,omitempty"`
	Firmware     string `json:"firmware,omitempty"`
	Token        string `json:"token,omitempty"`
}

// Imported is one placement in one vault.
type Imported struct {
	Vault      string          `json:"vault"` // URL
	Cause      key.Cause       `json:"cause"`
	Attempt    key.ID          `json:"attempt"`
	KEK        string          `json:"kek"` // kid with version
	KEKPrint   key.Fingerprint `json:"kek_fingerprint"`
	Checkpoint string          `json:"checkpoint,omitempty"` // the mark in the version's tag
	Intended   time.Time       `json:"intended"`
	Version    string          `json:"version,omitempty"`
	At         time.Time       `json:"imported,omitzero"`
	Result     string          `json:"result"` // of the verification
	Checked    string          `json:"checked,omitempty"`
	Detail     string          `json:"detail,omitempty"`
	Judged     time.Time       `json:"verified,omitzero"`
	Attested   *Attested       `json:"attestation,omitempty"` // by a Managed HSM; nil: the chain has none
	Disabled   time.Time       `json:"disabled,omitzero"`
}

// SignedReceipt is the first checkpoint that covers the whole receipt.
type SignedReceipt struct {
	Entry uint64          `json:"entry"` // the entry that carries it
	Mark  string          `json:"checkpoint"`
	By    key.Fingerprint `json:"audit_key"`
	At    time.Time       `json:"at"`
}

// Results of an import's verification.
const (
	resultOpen    = "not verified yet"
	resultPassed  = "passed"
	resultRefuted = "refuted"
	resultVoid    = "the import did not happen"
)

// Receipts reads the whole chain, entry by entry, and compiles receipts.
type Receipts struct {
	// Roots verify attestations again: those of the HSM's vendor, unless a test sets others.
	Roots    []attest.Root
	name     string
	receipts []*Receipt
	spares   []*Receipt // those of spares that were not promoted yet
	asked    map[key.ID]Asked
}

// NewReceipts compiles the receipts of one key.
func NewReceipts(name string) *Receipts {
	return &Receipts{Roots: attest.Vendor(), name: name, asked: map[key.ID]Asked{}}
}

// Of returns the receipt of a generation; 0 means the newest imported one, or the newest one if none was imported.
func (r *Receipts) Of(generation int) (Receipt, error) {
	var found *Receipt
	for _, x := range r.receipts {
		if x.Generation == generation || generation == 0 &&
			(found == nil || len(x.Imports) > 0 || len(found.Imports) == 0) {
			found = x
		}
	}
	switch {
	case found != nil:
		return *found, nil
	case len(r.receipts) == 0:
		return Receipt{}, fmt.Errorf("the audit has no rotation of a key %s", r.name)
	default:
		return Receipt{}, fmt.Errorf("the audit has no generation %d of %s: the newest is %d",
			generation, r.name, r.receipts[len(r.receipts)-1].Generation)
	}
}

// Add takes the next entry of the chain.
func (r *Receipts) Add(seq uint64, e chain.Entry) {
	switch {
	case e.Event == chain.CheckpointSigned && ours(e):
		if s, ok, err := parseSigned(e); ok && err == nil {
			r.sign(seq, s)
		}
	case !key.SameName(e.Key, r.name):
	case e.Event == chain.RotationRequested:
		id := key.ID(e.Fields["request"])
		r.asked[id] = Asked{By: e.Actor, Reason: e.Fields["reason"], At: e.Time, ID: id}
	case e.Event == chain.GenerationReserved:
		r.reserve(seq, e)
	case e.Event == chain.SpareReserved:
		if x := newReceipt(seq, e); x != nil {
			x.SpareSince = e.Time
			r.spares = append(r.spares, x)
		}
	case e.Event == chain.SparePromoted:
		r.promote(seq, e)
	default:
		if x := r.generation(e.Fields["generation"]); x != nil {
			x.add(e, r.Roots)
			x.Last, x.Signed = seq, nil
		}
	}
}

func (r *Receipts) generation(number string) *Receipt {
	for _, x := range slices.Concat(r.receipts, r.spares) {
		if strconv.Itoa(x.Generation) == number {
			return x
		}
	}
	return nil
}

func (r *Receipts) reserve(seq uint64, e chain.Entry) {
	if x := newReceipt(seq, e); x != nil {
		r.answers(x, e)
		r.receipts = append(r.receipts, x)
	}
}

// promote makes the receipt of a spare one of a rotation: this entry says who asked for it, and when.
func (r *Receipts) promote(seq uint64, e chain.Entry) {
	i := slices.IndexFunc(
		r.spares,
		func(x *Receipt) bool { return strconv.Itoa(x.Generation) == e.Fields["generation"] },
	)
	if i < 0 {
		r.reserve(seq, e) // an old copy of the state does not know that it reserved the spare
		return
	}
	x := r.spares[i]
	x.AskedBy, x.Reason, x.Reserved, x.Last, x.Signed = e.Actor, e.Fields["reason"], e.Time, seq, nil
	r.answers(x, e)
	r.spares, r.receipts = slices.Delete(r.spares, i, i+1), append(r.receipts, x)
}

func newReceipt(seq uint64, e chain.Entry) *Receipt {
	n, err := strconv.Atoi(e.Fields["generation"])
	if err != nil {
		return nil
	}
	return &Receipt{
		Key: e.Key, Generation: n, Spec: key.Spec(e.Fields["spec"]), AskedBy: e.Actor, Reason: e.Fields["reason"],
		Reserved: e.Time, ID: key.ID(e.Fields["id"]), First: seq, Last: seq,
	}
}

// answers notes the requests that a generation answers.
func (r *Receipts) answers(x *Receipt, e chain.Entry) {
	for _, id := range strings.Fields(e.Fields["requests"]) {
		if a, ok := r.asked[key.ID(id)]; ok {
			x.Requests = append(x.Requests, a)
		}
	}
}

func (r *Receipts) sign(seq uint64, s signed) {
	for _, x := range r.receipts {
		if x.Signed == nil && s.Seq >= x.Last {
			x.Signed = &SignedReceipt{Entry: seq, Mark: s.Mark(), By: s.by, At: s.Time}
		}
	}
}

func (x *Receipt) add(e chain.Entry, roots []attest.Root) {
	f := e.Fields
	switch e.Event {
	case chain.GenerationMade:
		x.Made = e.Time
	case chain.IDAbandoned:
		x.GivenUp = append(x.GivenUp, key.ID(f["id"]))
		x.ID, x.Made = key.ID(f["new_id"]), time.Time{}
	case chain.GenerationPinned:
		x.ID, x.Fingerprint, x.Pinned = key.ID(f["id"]), key.Fingerprint(f["fingerprint"]), e.Time
		x.HSM = MadeIn{Manufacturer: f["hsm_manufacturer"], Model: f["hsm_model"], Serial: f["hsm_serial"],
			Firmware: f["hsm_firmware"], Token: f["hsm_token"]}
	case chain.ImportIntended:
		x.Imports = append(x.Imports, Imported{
			Vault: f["vault"], Cause: key.Cause(f["cause"]), Attempt: key.ID(f["attempt"]), KEK: f["kek"],
			KEKPrint: key.Fingerprint(f["kek_fingerprint"]), Checkpoint: f["checkpoint"], Intended: e.Time,
			Result: resultOpen,
		})
	case chain.RotationFinished:
		x.Finished = e.Time
	default:
		for i := range x.Imports {
			if string(x.Imports[i].Attempt) == f["attempt"] {
				x.Imports[i].add(e)
				if a := attested(e, x.Fingerprint, roots); a != nil {
					x.Imports[i].Attested = a
				}
			}
		}
	}
}

func (i *Imported) add(e chain.Entry) {
	f := e.Fields
	switch e.Event {
	case chain.Imported:
		i.Version, i.At = f["version"], e.Time
	case chain.ImportVoid:
		i.Result, i.Detail, i.Judged = resultVoid, cmp.Or(f["error"], f["why"]), e.Time
	case chain.ProofPassed:
		i.Result, i.Checked, i.Detail, i.Judged = resultPassed, f["checked"], "", e.Time
	case chain.ProofRefuted:
		i.Result, i.Detail, i.Judged = resultRefuted, f["leg"]+": "+f["error"], e.Time
	case chain.Disabled:
		if f["still_enabled"] == "" { // else the disabling was cut short
			i.Disabled = e.Time
		}
	case chain.Enabled:
		i.Disabled = time.Time{}
	}
}

package quota

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/words"
)

// Pace is how often versions are proven.
type Pace struct {
	Newest time.Duration // the newest version of a key in a vault
	Older  time.Duration // the others
}

// Proofs are the versions of one vault that keyd proves regularly.
type Proofs struct{ Newest, Older Batch }

// Batch is what it takes to prove some versions once.
type Batch struct{ Versions, Calls, Cost int }

// AddNewest counts one more newest version, whose proof is by these operations.
func (p *Proofs) AddNewest(kind key.VaultKind, spec key.Spec, operations []key.Operation) {
	p.Newest.add(kind, spec, proofBy(operations))
}

// AddOlder counts one more older version. Its proof reads it, too, where keyd has not seen its pair in the HSM.
func (p *Proofs) AddOlder(kind key.VaultKind, spec key.Spec, operations []key.Operation) {
	p.Older.add(kind, spec, append(proofBy(operations), Read))
}

func (b *Batch) add(kind key.VaultKind, spec key.Spec, calls []Operation) {
	b.Versions++
	for _, o := range calls {
		b.Calls++
		b.Cost += Cost(kind, Calls, o, spec)
	}
}

// proofBy lists the calls of one proof. keyd itself verifies a signature.
func proofBy(operations []key.Operation) []Operation {
	if pair, _ := key.ProofPair(operations); pair[0] == key.Sign {
		return []Operation{Sign}
	}
	return []Operation{Decrypt, Encrypt}
}

func (b Batch) every(interval time.Duration) (calls, cost float64) {
	s := interval.Seconds()
	return float64(b.Calls) / s, float64(b.Cost) / s
}

// Fit is how the proofs of one vault fit into what keyd may use of it.
type Fit struct {
	Vault            Vault
	Proofs           Proofs
	Wanted, Possible Pace
	Need, May        float64 // calls a second
}

// Fits reports whether keyd can prove as often as wanted.
func (f Fit) Fits() bool { return f.Wanted == f.Possible }

// FitProofs says of each vault how often keyd can prove its versions, by the vault's limits and its subscription's.
// proofs are by the vault's URL.
func FitProofs(vaults []Vault, subscriptionShare float64, wanted Pace, proofs map[string]Proofs) []Fit {
	own := make([]float64, len(vaults)) // how many times more than allowed; at least 1
	cost := make([]float64, len(vaults))
	shared := map[string]float64{} // what the vaults of a subscription take once each keeps its own limits
	for i, v := range vaults {
		_, newest := proofs[v.URL].Newest.every(wanted.Newest)
		_, older := proofs[v.URL].Older.every(wanted.Older)
		cost[i] = newest + older
		own[i] = max(1, cost[i]/v.PerSecond())
		if v.Kind == key.KeyVault {
			shared[v.Subscription] += cost[i] / own[i]
		}
	}
	fits := make([]Fit, len(vaults))
	for i, v := range vaults {
		over := own[i]
		if v.Kind == key.KeyVault {
			over *= max(1, shared[v.Subscription]/SubscriptionPerSecond(subscriptionShare))
		}
		fits[i] = fit(v, proofs[v.URL], wanted, over)
	}
	return fits
}

// fit stretches the intervals of a vault whose proofs take over times what they may.
func fit(v Vault, p Proofs, wanted Pace, over float64) Fit {
	newest, _ := p.Newest.every(wanted.Newest)
	older, _ := p.Older.every(wanted.Older)
	f := Fit{
		Vault:    v,
		Proofs:   p,
		Wanted:   wanted,
		Possible: wanted,
		Need:     newest + older,
		May:      (newest + older) / over,
	}
	if over > 1 {
		f.Possible = Pace{Newest: stretch(wanted.Newest, over), Older: stretch(wanted.Older, over)}
	}
	return f
}

// stretch rounds up to a duration that words.Span shows exactly, so that it seldom changes and people can read it.
func stretch(d time.Duration, times float64) time.Duration {
	least := time.Duration(math.Ceil(float64(d) * times))
	unit := time.Second
	for _, u := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour} {
		if least > 2*u {
			unit = u
		}
	}
	return (least + unit - 1) / unit * unit
}

// String says what does not fit, and what keyd does then.
func (f Fit) String() string {
	keys, older := f.Proofs.Newest.Versions, f.Proofs.Older.Versions
	what := fmt.Sprintf("%s proven every %s", words.Count(keys, "key"), words.Span(f.Wanted.Newest))
	need := "need"
	if keys == 1 && older == 0 {
		need = "needs"
	}
	then := "newest versions are proven every " + words.Span(f.Possible.Newest)
	if older > 0 {
		what += fmt.Sprintf(" and %s every %s", words.Count(older, "older version"), words.Span(f.Wanted.Older))
		then += ", older ones every " + words.Span(f.Possible.Older)
	}
	return fmt.Sprintf("%s %s %s calls/s of vault %s; keyd may use %s: %s",
		what, need, rate(f.Need), f.Vault.Name, rate(f.May), then)
}

// Remedy says what makes the proofs fit.
func (f Fit) Remedy() string {
	return fmt.Sprintf("to prove more often, move keys to another vault, or raise vaults.%s.share and "+
		"azure.subscription_share if the vault's consumers leave room; to agree, write a longer health.newest and "+
		"health.older", f.Vault.Name)
}

// rate writes calls a second with one decimal, or with more where that would hide them.
func rate(callsPerSecond float64) string {
	if callsPerSecond >= 1 {
		return strconv.FormatFloat(callsPerSecond, 'f', 1, 64)
	}
	return strconv.FormatFloat(callsPerSecond, 'g', 2, 64)
}

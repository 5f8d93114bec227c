package simulate

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

// breakage is a loop that is broken on purpose. The simulator must catch it. Otherwise
// its silence about the real loop would mean nothing.
type breakage struct {
	name    string
	caught  string // a regular expression for the judge's sentence
	breaks  breaks
	misread func(key.Policy) key.Policy
	world   func(*World) // what happens besides, which a sound loop must bear
	first   uint64       // the seed to try first, because it catches the breakage
}

var broken = []breakage{
	{
		name:   "keyd repeats an import blindly",
		caught: `^doubled: the PUT of attempt \w+ of \S+ into \S+ was sent a second time$`,
		breaks: everyVault(func(_ *World, v Vault) Vault { return &blindVault{v} }),
	},
	{
		name:   "keyd tells whether a deadline is over by clocks that stand still with it",
		caught: `^(the (import|disabling|making|destruction) .*) leaves \S+ after its deadline$`,
		breaks: standingClocks,
		first:  5,
	},
	{
		name:   "keyd imports before it saves the intent",
		caught: `^\S+ is imported into \S+ before its intent is in the record$`,
		breaks: lazyStore("import intended"),
	},
	{
		name:   "keyd imports before it saves the pin",
		caught: `^the private key under \w+ is wrapped before its fingerprint is in a record$`,
		breaks: everyStore(func(s *store) rotate.Store { return &pinlessStore{s, map[string]record.Record{}} }),
	},
	{
		name:   "keyd takes the list of keys for a complete listing",
		caught: `^the import \w+ of \S+ into \S+ happened, and keyd says that it did not$`,
		breaks: trusting,
		first:  55,
	},
	{
		name:   "keyd takes a key that the list of keys lacks for one without versions",
		first:  52,
		caught: `^\S+ is imported into \S+ over the foreign version \w+ without consent$`,
		breaks: everyVault(func(w *World, v Vault) Vault { return &absentVault{v, w} }),
	},
	{
		name:   "keyd generates before it saves the intent",
		caught: `^a pair is generated under \w+ for generation \d+ of \S+ before its intent is in the record$`,
		breaks: lazyStore("generation intended"),
	},
	{
		name:   "keyd destroys before it saves the intent",
		caught: `^what is under \w+ is destroyed before its intent is in the record$`,
		breaks: lazyStore("destruction intended"),
		first:  7,
	},
	{name: "a pair is generated twice under one id", caught: `^C_GenerateKeyPair is called a second time for CKA_ID`,
		breaks: everyHSM(func(_ *World, h HSM) HSM { return &eagerHSM{h} }), first: 6},
	{
		name:   "the older version is disabled before the new one is proven",
		caught: `is disabled before a later generation is proven there$`,
		breaks: everyVault(func(w *World, v Vault) Vault { return &hastyVault{v, w} }),
	},
	{
		name:  "the store does not compare revisions",
		first: 39,
		caught: `^(the attempt \w+ of generation \d+ of \S+ is forgotten|the record forgets that generation \d+ of ` +
			`\S+ may not be used,|generation \d+ of \S+ is gone from the record) after "`,
		breaks: everyStore(func(s *store) rotate.Store { return &forcefulStore{s} }),
	},
	{
		name:   "the store confirms a save and does not keep it",
		first:  2,
		caught: `^a pair is generated under \w+ for generation \d+ of \S+ before its intent is in the record$`,
		breaks: everyStore(func(s *store) rotate.Store { return &forgetfulStore{s, map[string]bool{}} }),
	},
	{
		name: "a refuted version is not rolled back",
		caught: `^\S+ is held with the refuted generation \d+ as the newest in \S+, and generation \d+ could ` +
			`have been put back$`,
		breaks: editedStore("proof refuted", holdAtOnce),
		world:  damage,
	},
	{
		name:   "keyd gives up an import before its settle time is over",
		first:  10,
		caught: `is given up \S+ after it was intended, before its settle time was over$`,
		breaks: editedStore("import intended", func(rec *record.Record) {
			eachIn(rec, key.Intended, func(p *record.Placement) {
				p.Deadline, p.VaultAt = p.Deadline.Add(-15*time.Minute), time.Time{}
			})
		}),
	},
	{
		name: "the local clock alone settles an import",
		caught: `^the import \w+ of \S+ into \S+ (happened, and keyd says that it did not|is given up \S+ after ` +
			`it was intended, before its settle time was over)$`,
		breaks: editedStore("import intended", func(rec *record.Record) {
			eachIn(rec, key.Intended, func(p *record.Placement) { p.VaultAt = time.Time{} })
		}),
		first: 10,
	},
	{
		name:  "a lost answer to an import counts as a refusal",
		first: 9,
		caught: `^the import \w+ of \S+ into \S+ (happened, and keyd says that it did not|is given up \S+ after ` +
			`it was intended, before its settle time was over)$`,
		breaks: everyVault(func(_ *World, v Vault) Vault { return &sureVault{v} }),
	},
	{
		name:   "keyd takes a proof for granted",
		caught: `^the placement of generation \d+ of \S+ in \S+ is active, and was not proven$`,
		breaks: editedStore("imported", func(rec *record.Record) {
			eachIn(rec, key.Imported, func(p *record.Placement) { p.State = key.Proven })
		}),
	},
	{
		name:   "a failed listing counts as an empty one",
		first:  2,
		caught: `^\S+ is held for versions that are missing in \S+, and none is missing$`,
		breaks: everyVault(func(_ *World, v Vault) Vault { return &blankVault{v} }),
	},
	{
		name:   "every listing is empty",
		first:  4,
		caught: `^\S+ is held for versions that are missing in \S+, and none is missing$`,
		breaks: everyVault(func(_ *World, v Vault) Vault { return &emptyVault{v} }),
	},
	{
		name:   "keyd overlooks foreign versions",
		caught: `^\S+ is imported into \S+ over the foreign version \w+ without consent$`,
		breaks: everyVault(func(_ *World, v Vault) Vault { return &narrowVault{Vault: v} }),
		first:  2,
	},
	{
		name:   "the HSM side trusts a changed KEK",
		caught: `^the private key under \w+ is wrapped for a KEK that nobody approved$`,
		breaks: everyHSM(func(w *World, h HSM) HSM { return &trustingHSM{h, w} }),
	},
	{name: "a KEK is used before it is approved",
		caught: `^the key exchange key \S+ of \S+ is taken into use, and nobody approved it$`,
		breaks: everyHSM(func(_ *World, h HSM) HSM { return &pliantHSM{h} })},
	{name: "a superseded KEK is disabled at once",
		caught: `is disabled \S+ after it was superseded, and an import may still need it$`,
		breaks: everyStore(func(s *store) rotate.Store { return &hurriedStore{s} })},
	{name: "the KEK in use is disabled", caught: `^the key exchange key \S+ of \S+ is disabled while it is in use$`,
		breaks: everyVault(func(w *World, v Vault) Vault { return &sweptVault{v, w} })},
	{
		name:   "keyd makes a KEK while the last one may still come to light",
		first:  4,
		caught: `^doubled: keyd makes a second KEK in \S+$`,
		breaks: everyStore(func(s *store) rotate.Store { return &impatientStore{s} }),
	},
	{
		name:   "the sweeper destroys whatever is marked as pending",
		caught: `^what is under \w+ is destroyed before its intent is in the record$`,
		breaks: everyHSM(func(_ *World, h HSM) HSM { return &sweepingHSM{h} }),
	},
	{
		name:   "the retire rule counts from too early a time",
		caught: `is disabled \S+ after it was superseded, and the rule says 60h0m0s$`,
		breaks: retiredEarly,
		world: func(w *World) {
			for _, k := range w.keys {
				k.home.Retire.DisableAfter = 60 * time.Hour
				k.policy = k.home
			}
		},
	},
	{name: "the newest version is disabled too", first: 2, caught: `^the newest material of \S+ in \S+ is disabled$`,
		breaks: everyVault(func(w *World, v Vault) Vault { return &thoroughVault{v, w} })},
	{
		name:   "the older version is disabled while the newest is, too",
		first:  73,
		caught: `is disabled although the newest is disabled, too$`,
		breaks: everyVault(func(_ *World, v Vault) Vault { return &rosyVault{&insistingVault{v, v.(*vault)}} }),
		world: func(w *World) {
			for _, k := range w.keys {
				k.home.Retire.DisableAfter = time.Hour
				k.policy = k.home
			}
		},
	},
	{
		name:   "the older version is disabled while the newest has expired",
		caught: `is disabled although the newest has expired$`,
		breaks: everyVault(func(_ *World, v Vault) Vault { return &timelessVault{&insistingVault{v, v.(*vault)}} }),
		world: func(w *World) {
			for _, k := range w.keys {
				k.home.Operations = operations()[0]
				k.home.Retire.DisableAfter = time.Duration(k.home.Schedule.(grid)) / 2
				k.home.ExpiresAfter = k.home.Retire.DisableAfter / 2
				k.policy = k.home
			}
		},
	},
	{
		name:   "keyd leaves the second vault out",
		caught: `^the newest version of \S+ in vault-2 is not generation \d+$`,
		misread: func(p key.Policy) key.Policy {
			if len(p.Vaults) > 1 {
				p.Vaults = slices.Delete(slices.Clone(p.Vaults), 1, 2)
			}
			return p
		},
	},
	{
		name:   "the schedule is always due",
		caught: `^doubled: generation \d+ of \S+ is reserved, and the next rotation after the one of .* is due at`,
		misread: func(p key.Policy) key.Policy {
			p.Schedule = grid(time.Second)
			return p
		},
	},
	{name: "keyd takes a disabling that was cut short for a whole one",
		caught: `^version \w+ of \S+ in \S+ is recorded as disabled, and is not$`,
		breaks: editedStore("disabled", disabledAltogether),
		world: func(w *World) {
			for _, k := range w.keys {
				k.home.Retire.DisableAfter = time.Hour
				k.policy = k.home
			}
		}, first: 55},
	{
		name:   "keyd asks a vault that throttles again at once",
		first:  2,
		caught: `^\S+ looks at \S+ again \d+s after it was refused a look$`,
		breaks: everyVault(func(_ *World, v Vault) Vault { return &pressedVault{v} }),
	},
	{name: "keyd lifts a hold by itself", caught: `^the hold of \S+ is gone after "`,
		breaks: everyStore(func(s *store) rotate.Store { return &lenientStore{s} })},
	{name: "keyd overlooks a duplicate", caught: `^orphaned: version \w+ of \S+ in \S+ is in no record$`,
		breaks: everyVault(func(_ *World, v Vault) Vault { return &hidingVault{v, v.(*vault)} }), first: 49},
	{name: "keyd sees a duplicate and does not record it", caught: `^keyd spins: 200 steps within a minute`,
		breaks: droppedStore("duplicate version adopted"), first: 57},
	{name: "keyd trusts a duplicate that consumers follow",
		caught: `^the placement of generation \d+ of \S+ in \S+ is active, and was not proven$`,
		breaks: editedStore("duplicate version adopted", func(rec *record.Record) {
			eachIn(rec, key.Imported, func(p *record.Placement) { p.State = key.Proven })
		}), first: 36},
	{
		name:   "keyd records a duplicate and does not report it",
		caught: `^the duplicate version \w+ of \S+ in \S+ is adopted, and the report says`,
		breaks: silently,
		first:  36,
	},
	{
		name:   "the entry about a duplicate does not name it",
		caught: `^the duplicate version \w+ of \S+ in \S+ is adopted, and no audit entry names it$`,
		breaks: editedEntry(
			"duplicate version adopted",
			func(e *chain.Entry) { delete(e.Fields, "alias") },
		),
		first: 58,
	},
	{
		name:   "the audit lacks the result of an import",
		caught: `^version \w+ of \S+ was imported into \S+, and no audit entry has the result$`,
		breaks: unsaid(chain.Imported),
	},
	{
		name:   "the audit lacks the result of a disabling",
		first:  2,
		caught: `^version \w+ of \S+ was disabled in \S+, and no audit entry has the result$`,
		breaks: unsaid(chain.Disabled),
	},
	{
		name:   "the audit lacks the result of a destruction",
		caught: `^the pair under \w+ was destroyed, and no audit entry has the result$`,
		breaks: unsaid(chain.Destroyed),
		first:  16,
	},
	{name: "the audit lacks the result of making a key exchange key", first: 20,
		caught: `^(the key exchange key \S+ was made in \S+, and no audit entry has the result|` +
			`the request for a new key exchange key of \S+ disappeared after "noted")$`,
		breaks: unsaid(chain.KEKMade)},
	{name: "the audit lacks the result of disabling a key exchange key",
		caught: `^the key exchange key \S+ was disabled in \S+, and no audit entry has the result$`,
		breaks: unsaid(chain.KEKDisabled)},
	{name: "two versions are active in one vault", caught: `^\d placements of \S+ are active in \S+$`,
		breaks: editedStore("proof passed", func(rec *record.Record) {
			eachIn(rec, key.Superseded, func(p *record.Placement) { p.State = key.Proven })
		})},
	{name: "keyd forgets the retire rule", first: 2, caught: `^\S+ has a retire rule, and keyd shows none$`,
		misread: func(p key.Policy) key.Policy {
			p.Retire = key.RetireRule{}
			return p
		}},
	{
		name:   "a proof passes without the HSM",
		caught: `^the placement of generation \d+ of \S+ in \S+ is active, and the HSM opened nothing$`,
		breaks: everyHSM(func(_ *World, h HSM) HSM { return &credulousHSM{h} }),
	},
	{
		name:   "keyd gives up a whole pair and makes another",
		caught: `^doubled: the whole pair of \S+ under \w+ is given up, and another is made$`,
		breaks: everyHSM(func(_ *World, h HSM) HSM { return &blurredHSM{h, map[key.ID]bool{}} }),
	},
	{
		name:   "a proof removes the pair",
		caught: `^lost: the pair of generation \d+ of \S+ is not in the HSM, and nobody took it away$`,
		breaks: everyHSM(func(w *World, h HSM) HSM { return &wearingHSM{h, w} }),
	},
}

func TestABrokenLoopIsCaught(t *testing.T) {
	const enough = 150 // seeds, of which one should catch it
	primes := NewPrimes()
	for _, b := range slices.Concat(broken, brokenSpares, brokenRetirements, brokenConsumers, brokenMoves,
		brokenReplacements) {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			caught := regexp.MustCompile(b.caught)
			first := max(b.first, 1)
			others := map[string]int{}
			for n := range uint64(enough) {
				seed := 1 + (first-1+n)%enough
				r := primes.Run(seed, b.options(true))
				if !caught.MatchString(r.Failure) {
					if r.Failure != "" {
						others[r.Failure]++
					}
					continue
				}
				t.Logf("seed %d: %s", seed, r.Failure)
				b.control(t, primes, seed)
				return
			}
			t.Errorf("not caught by %d seeds; other failures: %s", enough, fmt.Sprint(others))
		})
	}
}

// options are the options of a run. A broken and a sound run differ in the breakage
// alone.
func (b breakage) options(isBroken bool) Options {
	opts := Options{Rate: 0.05, OneHost: true, Break: func(w *World, c Parts) Parts {
		if b.world != nil {
			b.world(w)
			for _, d := range w.daemons { // those that run already
				if d.shell != nil {
					d.reload()
				}
			}
		}
		if isBroken && b.breaks != nil {
			c = b.breaks(w, c)
		}
		return c
	}}
	if isBroken {
		opts.Misread = b.misread
	}
	return opts
}

// control runs the same seed with a sound loop, to show that the judge caught the breakage
// and nothing else.
func (b breakage) control(t *testing.T, primes Primes, seed uint64) {
	t.Helper()
	if r := primes.Run(seed, b.options(false)); r.Failure != "" {
		t.Errorf("seed %d: the sound loop fails, too: %s", seed, r.Failure)
	}
}

// damage makes every vault damage what it imports, from the third day on.
func damage(w *World) {
	w.later(48*time.Hour, func() {
		for _, v := range w.vaults {
			v.damage = "private"
		}
	})
}

// eachIn edits every placement that is in a state.
func eachIn(rec *record.Record, state key.PlacementState, edit func(*record.Placement)) {
	for i := range rec.Generations {
		for j := range rec.Generations[i].Placements {
			if p := &rec.Generations[i].Placements[j]; p.State == state {
				edit(p)
			}
		}
	}
}

// disabledAltogether records that all versions of a generation in a vault are disabled, once one is.
func disabledAltogether(rec *record.Record) {
	for i := range rec.Generations {
		g := &rec.Generations[i]
		vaults := map[string]bool{}
		for _, p := range g.Placements {
			vaults[p.Vault] = vaults[p.Vault] || p.State == key.Disabled || len(p.DisabledVersions) > 0
		}
		for j := range g.Placements {
			if p := &g.Placements[j]; vaults[p.Vault] && p.State == key.Superseded {
				p.State = key.Disabled
			}
		}
	}
}

// holdAtOnce holds a key for a refuted version, although a good one could be put back.
func holdAtOnce(rec *record.Record) {
	eachIn(rec, key.Refuted, func(p *record.Placement) {
		rec.Hold = &key.Hold{Code: key.HoldRefuted, Vault: p.Vault, Reason: "refuted", By: "keyd"}
	})
}

// unsaid renames one event in the audit. The record still has what it says.
func unsaid(event chain.Event) breaks {
	return editedEntry(event, func(e *chain.Entry) { e.Event = "noted" })
}

// silently keeps the reports of duplicates back.
func silently(_ *World, c Parts) Parts {
	tell := c.Emit
	c.Emit = func(e status.Event) {
		if e.Step != string(plan.Alias) {
			tell(e)
		}
	}
	return c
}

// retiredEarly makes every generation that is deactivated look as if it had been so for long.
func retiredEarly(w *World, c Parts) Parts {
	return editedStore("", func(rec *record.Record) {
		for i := range rec.Generations {
			g := &rec.Generations[i]
			if !g.Deactivated.IsZero() {
				g.Deactivated = w.begun.Add(-30 * 24 * time.Hour)
			}
			for j := range g.Placements {
				if p := &g.Placements[j]; p.State == key.Proven {
					p.Created = time.Time{}
				}
			}
		}
	})(w, c)
}

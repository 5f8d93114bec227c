package plan_test

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

const aiID = group + "Microsoft.CognitiveServices/accounts/aidemo"

// pinned is a resource that does not follow and is set to a version.
func pinned(id string, n int) record.ConsumerSeen {
	return but(on(id, n), func(c *record.ConsumerSeen) { c.Asked, c.Follows = version(n), false })
}

// moved: the configuration says that keyd moves every consumer that it names.
func (w *world) moved() *world {
	return w.with(func(p *key.Policy) {
		for i := range p.Consumers {
			p.Consumers[i].Follow = key.FollowKeyd
		}
	})
}

// requested: an operator asked to have a consumer moved.
func (w *world) requested(id string) *world {
	w.record.AskRepoint(record.RepointRequest{Consumer: id, At: w.clock, By: "uid 7"})
	return w
}

// moving: keyd began to move a consumer from one version to another.
func (w *world) moving(id string, from, to int) *world {
	return w.must(w.record.BeginRepoint(record.Repointing{Consumer: id, Vault: weu.URL, From: version(from),
		Version: version(to), At: w.clock}))
}

// lookedAgain: keyd has just looked at those who use the key.
func (w *world) lookedAgain() *world {
	return w.looked(func(u *record.Usage) { u.At = w.clock })
}

func repointing() []example {
	move := func(id string) *want { return by("repointing", plan.Repoint, "does not follow").of(2).in(weu).user(id) }
	wait := func(why string) *want { return by("repointing", plan.Wait, why).again(time.Minute) }
	stays := func() *want {
		return by("retirement-waits", plan.Idle, "is set to version").of(1).in(weu).again(time.Hour)
	}
	left := func() *world { return monthIn(weu, pinned(aiID, 1), pinned(sqlID, 1)) }
	return []example{
		{"A consumer that does not follow is moved where the configuration says so.",
			left().moved(), move(aiID).ofVersion(2)},
		{"Otherwise it stays where it is.", left(), stays()},
		{"Unless an operator asked for it.", left().requested(sqlID), move(sqlID)},
		{"A request counts for a day, and then lapses.", left().requested(sqlID).wait(day).lookedAgain(),
			by("repointing", plan.RepointLapsed, "a request counts for 1 day").user(sqlID)},
		{"It also lapses where the consumer cannot be moved, and says why it waited.",
			monthIn(weu, but(pinned(sqlID, 1), func(c *record.ConsumerSeen) { c.Key = "another" })).requested(sqlID).
				wait(day).lookedAgain(),
			by("repointing", plan.RepointLapsed, "it is set to key another").user(sqlID)},
		{"A request ends at once where there is nothing to move.",
			monthIn(weu, pinned(sqlID, 2)).requested(sqlID).lookedAgain(),
			by("repointing", plan.RepointMet, "newest version already").in(weu).ofVersion(2).user(sqlID)},
		{"So it does where the consumer follows by itself.",
			monthIn(weu, on(sqlID, 1)).requested(sqlID).lookedAgain(),
			by("repointing", plan.RepointMet, "set to no version").in(weu).user(sqlID)},
		{"A look from before the request does not show that.",
			monthIn(weu, pinned(sqlID, 2)).wait(time.Hour).requested(sqlID), wait("keyd looks whether")},
		{"One that is on the newest version already stays.",
			monthIn(weu, pinned(aiID, 2), pinned(sqlID, 1)).moved(), move(sqlID)},
		{"One that cannot be seen stays, and the others are moved.",
			monthIn(weu, but(pinned(aiID, 1), func(c *record.ConsumerSeen) { c.Err = errForbidden }),
				pinned(sqlID, 1)).moved(), move(sqlID)},
		{"So does one that is set to another key.",
			monthIn(weu, but(pinned(aiID, 1), func(c *record.ConsumerSeen) { c.Key = "another" }),
				pinned(sqlID, 1)).moved(), move(sqlID)},
		{"So does one that is set to a vault that is not the key's.",
			monthIn(weu, but(pinned(aiID, 1), func(c *record.ConsumerSeen) { c.Vault = neu.URL }),
				pinned(sqlID, 1)).moved(), move(sqlID)},
		{"And one that follows by itself.",
			monthIn(weu, on(aiID, 1), pinned(sqlID, 1)).moved(), move(sqlID)},
		{"Nothing moves before keyd has looked again after the rotation.",
			left().moved().looked(func(u *record.Usage) { u.At = time.Time{} }), wait("keyd looks again")},
		{"Nothing moves to a version that a proof has just not passed.",
			left().moved().tried(weu, errForbidden),
			by(
				"retirement-waits",
				plan.Idle,
				"was not proven",
			).of(1).
				in(weu).
				again(key.MaxSkew + plan.LookTimeout + time.Second),
		},
		{"The key gets its spares first.",
			left().moved().spares(1), by("spares", plan.ReserveSpare, "asks for").of(3)},
		{"A consumer moves before keyd disables a version that nobody needs.",
			monthIn(weu, pinned(storageID, 2)).moved().rotated().wait(day).lookedAgain(),
			by("repointing", plan.Repoint, "does not follow").of(3).in(weu).user(storageID)},
		{"Nothing moves to a version that is disabled.",
			left().moved().disabled(weu, 2),
			by("retirement-waits", plan.Idle, "somebody other than keyd disabled").of(1).in(weu)},
		{"Nothing moves while a rotation is under way.",
			left().moved().reserved(), by("pair", plan.Generate, "reserved").of(3)},
		{"A held key moves nobody.", left().moved().held(key.HoldPaused), by("held", plan.Idle, "held")},
		{"While keyd moves one, the others wait.", left().moved().moving(aiID, 1, 2), wait("keyd moves consumer")},
		{"Once it shows the version, that is recorded.",
			monthIn(
				weu,
				pinned(aiID, 2),
				pinned(sqlID, 1),
			).moved().
				moving(aiID, 1, 2).
				wait(time.Minute).
				lookedAgain(),
			by("repointing", plan.RepointDone, "shows the version").in(weu).ofVersion(2).user(aiID)},
		{"Not while it shows the version and does not use it yet.",
			monthIn(weu, but(pinned(aiID, 2), func(c *record.ConsumerSeen) { c.Uses = "" })).moved().moving(aiID, 1, 2).
				wait(time.Minute).lookedAgain(), wait("keyd moves consumer")},
		{"A consumer with several keys is moved for each that is behind.",
			monthIn(weu, pinned(hubsID, 2), pinned(hubsID, 1)).moved(), move(hubsID)},
		{"And has moved once none of them shows the old version.",
			monthIn(weu, pinned(hubsID, 2), pinned(hubsID, 1)).moved().moving(hubsID, 1, 2).wait(time.Minute).
				lookedAgain(), wait("keyd moves consumer")},
		{"A look from before proves nothing.",
			monthIn(weu, pinned(aiID, 2)).moved().moving(aiID, 1, 2).wait(time.Minute), wait("keyd moves consumer")},
		{"It may take half an hour to show.",
			left().moved().moving(aiID, 1, 2).wait(20 * time.Minute).lookedAgain(), wait("keyd moves consumer")},
		{"If it then shows another version, it has failed.",
			left().moved().moving(aiID, 1, 2).wait(30 * time.Minute).lookedAgain(),
			by("repointing", plan.RepointFailed, "still shows version").in(weu).user(aiID)},
		{"What cannot be seen is no failure for a day.",
			monthIn(weu, but(pinned(aiID, 1), func(c *record.ConsumerSeen) { c.Err = errForbidden })).moved().
				moving(aiID, 1, 2).wait(23 * time.Hour).lookedAgain(), wait("keyd moves consumer")},
		{"After that it counts as failed.",
			monthIn(weu, but(pinned(aiID, 1), func(c *record.ConsumerSeen) { c.Err = errForbidden })).moved().
				moving(aiID, 1, 2).wait(24 * time.Hour).lookedAgain(),
			by("repointing", plan.RepointFailed, "could not see").in(weu).user(aiID)},
		{"One that failed stops the others.",
			left().moved().moving(aiID, 1, 2).repointFailed(),
			by("retirement-waits", plan.Idle, "is set to version").of(1).in(weu).again(58 * time.Minute)},
		{"Until an operator asks again.",
			left().moved().
				moving(aiID, 1, 2).
				repointFailed().
				requested(sqlID).
				wait(time.Minute).
				lookedAgain(),
			move(sqlID)},
	}
}

func (w *world) repointFailed() *world { return w.must(w.record.FailRepoint("a test")) }

package check

import (
	"context"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

const areaConsumer = "consumer"

// setups goes through the set-up of everybody who encrypts under a key, and says each cause once.
type setups struct {
	*checker
	asked  Consumers
	causes map[string]bool
	vaults []string // whose set-up was looked at, by URL
}

// consumersAtOnce is how many keys, vaults or consumers are asked about at once. What keyd asks Azure has a budget
// besides.
const consumersAtOnce = 8

// consumers looks at how the consumers of each key are set up: at all keys, then at all vaults and consumers, several
// at once. The lines are in the order of the keys.
func (c *checker) consumers(ctx context.Context) {
	if c.Consumers == nil {
		return
	}
	s := setups{c, c.Consumers(c.own), map[string]bool{}, nil}
	var keys []*usedKey
	for _, name := range c.Keys.Names() {
		p, ok := c.Keys.Policy(name)
		if !ok || !c.everything() && name != c.Key || len(p.Consumers) == 0 && !p.Discover {
			continue
		}
		if c.signedOut(p) {
			c.skip(areaConsumer, name, "set-up of its consumers", "keyd cannot sign in")
			continue
		}
		keys = append(keys, &usedKey{policy: p})
	}
	atOnce(c, "keys with consumers", keys, func(k *usedKey) { k.usage = s.asked.Look(ctx, k.policy) })
	atOnce(c, "vaults and consumers", s.subjects(keys), func(x *subject) {
		if x.vault != nil {
			x.found = s.asked.Vault(ctx, *x.vault)
			return
		}
		x.found = s.asked.Consumer(ctx, x.policy, x.seen)
	})
	for _, k := range keys {
		s.ofKey(k)
	}
}

// usedKey is a key with what a look at its consumers showed.
type usedKey struct {
	policy   key.Policy
	usage    record.Usage
	subjects []*subject // its vaults that no other key before it has, and its consumers
}

// subject is a vault or a consumer with what is found of its set-up.
type subject struct {
	vault  *key.Vault // nil: a consumer
	policy key.Policy
	seen   record.ConsumerSeen
	found  []consumer.Finding
}

// subjects lists all that is to be looked at.
func (s *setups) subjects(keys []*usedKey) (all []*subject) {
	for _, k := range keys {
		if k.usage.Err != nil || len(k.usage.Consumers) == 0 {
			continue
		}
		for _, v := range k.policy.Vaults {
			if !slices.Contains(s.vaults, v.URL) {
				s.vaults = append(s.vaults, v.URL)
				k.subjects = append(k.subjects, &subject{vault: &v})
			}
		}
		for _, seen := range k.usage.Consumers {
			k.subjects = append(k.subjects, &subject{policy: k.policy, seen: seen})
		}
		all = append(all, k.subjects...)
	}
	return all
}

// signedOut reports whether another line says that keyd cannot sign in.
func (c *checker) signedOut(p key.Policy) bool {
	return slices.ContainsFunc(p.Vaults, func(v key.Vault) bool { return c.away.signIn[v.Kind] })
}

func (s *setups) ofKey(k *usedKey) {
	name, u := k.policy.Key, k.usage
	if u.Err != nil {
		s.say(name, consumer.Finding{Question: "consumers", Outcome: consumer.Unseen, Detail: u.Err.Error(),
			Cause: u.Err})
		return
	}
	for _, why := range u.Unseen {
		if !s.causes[why] {
			s.causes[why] = true
			s.warn(areaConsumer, name, "search", s.asMe(why), "mend it; until then keyd may not see every consumer")
		}
	}
	for _, x := range k.subjects {
		if x.vault != nil {
			s.vault(*x.vault, x.found)
			continue
		}
		for _, f := range x.found {
			s.say(consumer.Title(x.seen), f)
		}
	}
}

func (s *setups) vault(v key.Vault, found []consumer.Finding) {
	for _, f := range found {
		if f.Question == consumer.AskedProtection && f.Outcome == consumer.Wrong && s.away.unprotected[v.URL] {
			s.skip(areaConsumer, v.Name, f.Question, "purge protection is off")
			continue
		}
		s.say(v.Name, f)
	}
}

// asMe enters keyd's object id into a command, if it is known.
func (s *setups) asMe(text string) string {
	if s.own == "" {
		return text
	}
	return strings.ReplaceAll(strings.ReplaceAll(text, "OBJECT_ID", s.own), " (keyd check shows the object id)", "")
}

// say adds the line of a finding. What another line gives the cause of is skipped.
func (s *setups) say(subject string, f consumer.Finding) {
	f.Remedy = s.asMe(f.Remedy)
	switch f.Outcome {
	case consumer.Right:
		s.line(status.CheckOK, areaConsumer, subject, f.Question, f.Detail, "")
	case consumer.Wrong:
		s.line(status.CheckFailed, areaConsumer, subject, f.Question, f.Detail, f.Remedy)
	case consumer.Undecided:
		s.warn(areaConsumer, subject, f.Question, f.Detail, f.Remedy)
	case consumer.Unseen:
		cause := f.Detail
		if f.Cause != nil {
			cause = consumer.CauseOf(f.Cause)
		}
		if s.causes[cause] {
			s.skip(areaConsumer, subject, f.Question, "keyd cannot look, for a cause that another line has")
			return
		}
		s.causes[cause] = true
		s.warn(areaConsumer, subject, f.Question, f.Detail, f.Remedy)
	}
}

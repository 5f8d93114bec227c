package check

import (
	"context"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
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

// consumers looks at how the consumers of each key are set up.
func (c *checker) consumers(ctx context.Context) {
	if c.Consumers == nil {
		return
	}
	s := setups{c, c.Consumers(c.own), map[string]bool{}, nil}
	for _, name := range c.Keys.Names() {
		p, ok := c.Keys.Policy(name)
		if !ok || !c.everything() && name != c.Key || len(p.Consumers) == 0 && !p.Discover {
			continue
		}
		if c.signedOut(p) {
			c.skip(areaConsumer, name, "set-up of its consumers", "keyd cannot sign in")
			continue
		}
		s.ofKey(ctx, p)
	}
}

// signedOut reports whether another line says that keyd cannot sign in.
func (c *checker) signedOut(p key.Policy) bool {
	return slices.ContainsFunc(p.Vaults, func(v key.Vault) bool { return c.away.signIn[v.Kind] })
}

func (s *setups) ofKey(ctx context.Context, p key.Policy) {
	u := s.asked.Look(ctx, p)
	if u.Err != nil {
		s.say(p.Key, consumer.Finding{Question: "consumers", Outcome: consumer.Unseen, Detail: u.Err.Error(),
			Cause: u.Err})
		return
	}
	for _, why := range u.Unseen {
		if !s.causes[why] {
			s.causes[why] = true
			s.warn(areaConsumer, p.Key, "search", s.asMe(why), "mend it; until then keyd may not see every consumer")
		}
	}
	if len(u.Consumers) == 0 {
		return
	}
	for _, v := range p.Vaults {
		if !slices.Contains(s.vaults, v.URL) {
			s.vaults = append(s.vaults, v.URL)
			s.vault(ctx, v)
		}
	}
	for _, seen := range u.Consumers {
		for _, f := range s.asked.Consumer(ctx, p, seen) {
			s.say(consumer.Title(seen), f)
		}
	}
}

func (s *setups) vault(ctx context.Context, v key.Vault) {
	for _, f := range s.asked.Vault(ctx, v) {
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

package plan_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// example is one case of a rule: a sentence for people, the situation, and what keyd does.
type example struct {
	says string
	when *world
	then *want
}

// want is the expected step, and the rule that decides. A field that is not set must not be set in the step either.
type want struct {
	rule     string // "": no rule answers
	kind     plan.Kind
	number   int
	vault    key.Vault
	cause    key.Cause
	code     key.HoldCode
	attempt  key.ID // "": not compared
	version  string // "": not compared
	why      string // a part of it
	until    time.Time
	within   time.Duration // Until is this long after now
	consumer string        // resource id
}

func by(rule string, kind plan.Kind, why string) *want {
	return &want{rule: rule, kind: kind, why: why}
}

// idle: no rule answers.
func idle(why string) *want { return by("", plan.Idle, why) }

func holds(rule string, code key.HoldCode, why string) *want {
	w := by(rule, plan.Hold, why)
	w.code = code
	return w
}

func (w *want) of(n int) *want               { w.number = n; return w }
func (w *want) user(id string) *want         { w.consumer = id; return w }
func (w *want) in(v key.Vault) *want         { w.vault = v; return w }
func (w *want) because(c key.Cause) *want    { w.cause = c; return w }
func (w *want) ofAttempt(n int) *want        { w.attempt = attempt(n); return w }
func (w *want) ofVersion(n int) *want        { w.version = version(n); return w }
func (w *want) again(d time.Duration) *want  { w.within = d; return w }
func (w *want) at(since time.Duration) *want { w.until = began.Add(since); return w }

// The table specifies what keyd does next. docs/rules.md is written from it.
func TestEachRuleDecidesAsItsExamplesSay(t *testing.T) {
	count := 0
	for _, c := range table() {
		for _, e := range c.examples {
			count++
			t.Run(c.rule+"/"+e.says, func(t *testing.T) { check(t, e) })
		}
	}
	if count < 60 {
		t.Errorf("the table has only %d examples", count)
	}
}

func check(t *testing.T, e example) {
	in := e.when.input()
	before := in.Record.Clone()
	said, got := plan.Explain(in)
	rule := ""
	for _, s := range said {
		if s.Step != nil {
			rule = s.Name
		}
	}
	w := e.then
	until := w.until
	if w.within != 0 {
		until = in.Now.Add(w.within)
	}
	equal(t, "rule", rule, w.rule)
	equal(t, "kind", got.Kind, w.kind)
	equal(t, "generation", got.Generation, w.number)
	equal(t, "vault", got.Vault, w.vault.URL)
	equal(t, "cause", got.Cause, w.cause)
	equal(t, "consumer", got.Consumer, w.consumer)
	equal(t, "until", got.Until.Format(time.RFC3339), until.Format(time.RFC3339))
	if w.attempt != "" {
		equal(t, "attempt", got.Attempt, w.attempt)
	}
	if w.version != "" {
		equal(t, "version", got.Version, w.version)
	}
	code := key.HoldCode("")
	if got.Hold != nil {
		code = got.Hold.Code
	}
	equal(t, "code of the hold", code, w.code)
	if w.why == "" || !strings.Contains(got.Why, w.why) {
		t.Errorf("the reason is %q, and must contain %q", got.Why, w.why)
	}
	if next := plan.Next(in); next.Kind != got.Kind || next.Why != got.Why {
		t.Errorf("Next decides %s (%s), Explain %s (%s)", next.Kind, next.Why, got.Kind, got.Why)
	}
	if !same(before, *in.Record) {
		t.Error("a rule changed the record")
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestEachRuleHasExamplesInTheOrderOfTheRules(t *testing.T) {
	chapters := table()
	for i, r := range plan.Rules() {
		if i >= len(chapters) || chapters[i].rule != r.Name {
			t.Fatalf("rule %d is %s: its examples are missing, or not in its place", i+1, r.Name)
		}
		decides := 0
		for _, e := range chapters[i].examples {
			if e.then.rule == r.Name {
				decides++
			}
		}
		if decides == 0 || len(chapters[i].examples) < 2 {
			t.Errorf("rule %s has %d examples, and decides in %d of them", r.Name, len(chapters[i].examples), decides)
		}
	}
}

// The operator acknowledged that a generation's pair is lost while only some vaults had it: nothing is under way. The
// plan must agree with the stage, from which metrics and status come.
func TestAfterALostPairWasAdoptedPlanAndStageAgree(t *testing.T) {
	in := given().rotated().pinned().proven(2, weu).adoptedLost(2).input()
	stage := in.Record.Stage(in.Policy)
	step := plan.Next(in)
	if step.Kind != plan.Idle || stage.UnderWay() || !stage.Since.IsZero() || stage.Phase != record.Ended {
		t.Errorf("the plan says %s, and the stage %+v", step.Kind, stage)
	}
	if !stage.Partial() || len(stage.MissingFrom) != 1 || stage.MissingFrom[0] != neu.URL || stage.Active != 1 {
		t.Errorf("weu has generation 2 and neu does not, which the stage must tell: %+v", stage)
	}
}

// decide is Next by a list of rules.
func decide(rules []plan.Rule, in plan.Input) plan.Step {
	for _, r := range rules {
		if s, ok := r.Ask(in); ok {
			return s
		}
	}
	return plan.Step{}
}

// The order of the rules is part of the specification: for each pair of neighbours an example shows which one comes
// first.
func TestExamplesShowWhichOfTwoNeighbouringRulesComesFirst(t *testing.T) {
	for i := 1; i < len(plan.Rules()); i++ {
		rules := plan.Rules()
		first, second := rules[i-1], rules[i]
		if first.Name == "unseen" {
			continue // no later rule can be asked without a look
		}
		swapped := slices.Clone(rules)
		swapped[i-1], swapped[i] = second, first
		shown := false
		for _, c := range table() {
			for _, e := range c.examples {
				if in := e.when.input(); in.Seen != nil || second.Name == "retained" || second.Name == "unseen" {
					shown = shown || !reflect.DeepEqual(decide(rules, in), decide(swapped, in))
				}
			}
		}
		if !shown {
			t.Errorf("no example shows that %s comes before %s", first.Name, second.Name)
		}
	}
}

// once is a schedule that fires at one moment.
type once time.Time

func (o once) Next(time.Time) time.Time { return time.Time(o) }

// A key that waits for something else must wake up for its next rotation all the same.
func TestNoWaitOutlastsTheNextRotation(t *testing.T) {
	waits := 0
	for _, c := range table() {
		for _, e := range c.examples {
			in := e.when.input()
			in.Policy.Schedule = once(in.Now.Add(time.Second))
			_, due, next := plan.Due(in)
			said, s := plan.Explain(in)
			if due || s.Kind != plan.Idle || rests(said) {
				continue
			}
			waits++
			if s.Until.IsZero() || s.Until.After(next) {
				t.Errorf("%s: %s: keyd sleeps until %s, and a rotation is due at %s", c.rule, e.says, s.Until, next)
			}
		}
	}
	if waits < 50 {
		t.Errorf("only %d of the examples wait", waits)
	}
}

// rests reports whether a rule decided that ends the rotations of the key.
func rests(said []plan.Said) bool {
	return slices.ContainsFunc(said, func(s plan.Said) bool {
		return s.Step != nil && slices.Contains([]string{"held", "retained", "replaced"}, s.Name)
	})
}

package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

// used are two keys of one vault, with two consumers each; what is found is for the test to say.
type used struct {
	usage       record.Usage
	vault, user []consumer.Finding
	mu          sync.Mutex
	asked       []string
	// meet, if any, waits for others that are asked at once.
	meet func()
}

func (u *used) ask(what string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = append(u.asked, what)
}

func (u *used) Names() []string { return []string{"one", "two"} }

func (u *used) Policy(name string) (key.Policy, bool) {
	return key.Policy{Key: name, Vaults: []key.Vault{{Name: "weu", URL: "https://weu-keyd-test.vault.azure.net"}},
		Consumers: []key.Consumer{{ID: storageOf(name)}}}, true
}

func (u *used) Position(string) rotate.Position { return rotate.Position{} }

func storageOf(name string) string {
	return "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/st" + name
}

func (u *used) Look(_ context.Context, p key.Policy) record.Usage {
	u.ask("look " + p.Key)
	usage := u.usage
	for _, n := range []string{"a", "b"} {
		usage.Consumers = append(usage.Consumers, record.ConsumerSeen{ID: storageOf(p.Key + n),
			Service: "storage account"})
	}
	return usage
}

func (u *used) Vault(_ context.Context, v key.Vault) []consumer.Finding {
	u.ask("vault " + v.Name)
	return u.vault
}

func (u *used) Consumer(context.Context, key.Policy, record.ConsumerSeen) []consumer.Finding {
	if u.meet != nil {
		u.meet()
	}
	return u.user
}

// setUp returns the lines of the set-ups, each as "result subject: name".
func setUp(t *testing.T, u *used, change func(*checker)) (lines []string) {
	t.Helper()
	c, _ := newChecker(t)
	c.Keys, c.Consumers, c.own = u, func(string) Consumers { return u }, "me"
	if change != nil {
		change(c)
	}
	c.consumers(t.Context())
	for _, l := range c.lines {
		if l.Area != "consumer" || strings.Contains(l.Remedy, "OBJECT_ID") {
			t.Errorf("%+v", l)
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", l.Result, l.Subject, l.Name))
	}
	return lines
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("lines:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestASetUpHasALineForEachQuestion(t *testing.T) {
	u := &used{
		vault: []consumer.Finding{{Question: "kind of vault"}},
		user: []consumer.Finding{{Question: "identity"}, {Question: "rights on the key", Outcome: consumer.Wrong},
			{Question: "way into the vault", Outcome: consumer.Undecided}},
	}
	want := []string{"ok weu: kind of vault"}
	for _, name := range []string{"onea", "oneb", "twoa", "twob"} {
		subject := " storage account st" + name + ": "
		want = append(want, "ok"+subject+"identity", "failed"+subject+"rights on the key",
			"warning"+subject+"way into the vault")
	}
	wantLines(t, setUp(t, u, nil), want...)
}

func TestWhatKeydCannotSeeHasOneLineForItsCause(t *testing.T) {
	cause := errors.New("vault weu: list its role assignments: HTTP 403")
	u := &used{user: []consumer.Finding{{Question: "rights", Outcome: consumer.Unseen, Cause: cause,
		Remedy: "az role assignment create --assignee-object-id OBJECT_ID"}}}
	wantLines(t, setUp(t, u, nil), "warning storage account stonea: rights", "skipped storage account stoneb: rights",
		"skipped storage account sttwoa: rights", "skipped storage account sttwob: rights")
}

func TestAnAzureThatDoesNotAnswerHasOneLine(t *testing.T) {
	u := &used{usage: record.Usage{Err: errors.New("keyd has no client yet")}}
	wantLines(t, setUp(t, u, nil), "warning one: consumers", "skipped two: consumers")
}

func TestAVaultWithoutPurgeProtectionHasOneLine(t *testing.T) {
	u := &used{vault: []consumer.Finding{{Question: consumer.AskedProtection, Outcome: consumer.Wrong}}}
	protection := " weu: " + consumer.AskedProtection
	wantLines(t, setUp(t, u, nil), "failed"+protection)
	wantLines(t, setUp(t, u, func(c *checker) {
		c.away.unprotected["https://weu-keyd-test.vault.azure.net"] = true
	}), "skipped"+protection)
}

func TestNobodyIsAskedWhenKeydCannotSignIn(t *testing.T) {
	u := &used{}
	wantLines(t, setUp(t, u, func(c *checker) { c.away.signIn[""] = true }),
		"skipped one: set-up of its consumers", "skipped two: set-up of its consumers")
	if len(u.asked) > 0 {
		t.Errorf("asked %q", u.asked)
	}
}

func TestWhatASearchDoesNotSeeIsSaidOnceForAllKeys(t *testing.T) {
	u := &used{usage: record.Usage{Unseen: []string{"subscription s2 is not shown to OBJECT_ID"}}}
	wantLines(t, setUp(t, u, nil), "warning one: search")
	want := []string{"look one", "look two", "vault weu"}
	if slices.Sort(u.asked); !slices.Equal(u.asked, want) {
		t.Errorf("asked %q, want %q", u.asked, want)
	}
}

// Many consumers are asked at once, and the lines come in the order of the keys all the same.
func TestSeveralConsumersAreAskedAtOnce(t *testing.T) {
	all := make(chan struct{})
	var here atomic.Int32
	var told []string
	u := &used{user: []consumer.Finding{{Question: "identity"}}, meet: func() {
		if here.Add(1) == 4 {
			close(all)
		}
		<-all
	}}
	lines := setUp(t, u, func(c *checker) {
		c.Tell = func(p status.Progress) { told = append(told, p.Words()) }
	})
	wantLines(t, lines, "ok storage account stonea: identity", "ok storage account stoneb: identity",
		"ok storage account sttwoa: identity", "ok storage account sttwob: identity")
	if len(told) != 7 || told[6] != "5 of 5 vaults and consumers checked" {
		t.Errorf("told %q", told)
	}
}

func TestACheckOfOneKeyLooksAtItsConsumersOnly(t *testing.T) {
	u := &used{user: []consumer.Finding{{Question: "identity"}}}
	wantLines(t, setUp(t, u, func(c *checker) { c.Key = "two" }), "ok storage account sttwoa: identity",
		"ok storage account sttwob: identity")
	wantLines(t, setUp(t, u, func(c *checker) { c.Vault = "https://weu-keyd-test.vault.azure.net" }))
}

package record_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

const (
	weu = "https://contoso-weu.vault.azure.net"
	neu = "https://contoso-neu.vault.azure.net"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// book is a record, and the steps that fill it. Each step takes a minute.
type book struct {
	t *testing.T
	record.Record
	policy   key.Policy
	clock    time.Time
	attempts int
	ids      int
}

// newBook is the record of a new key for weu and neu.
func newBook(t *testing.T) *book {
	return &book{t: t, clock: start, Record: record.Record{Schema: record.SchemaVersion, Key: "k", Instance: "hq-1"},
		policy: key.Policy{Key: "k", Spec: key.RSA2048, Vaults: []key.Vault{
			{Name: "weu", URL: weu, Kind: key.KeyVault}, {Name: "neu", URL: neu, Kind: key.KeyVault},
		}}}
}

// ok requires that the record permits a transition.
func (b *book) ok(err error) *book {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	b.clock = b.clock.Add(time.Minute)
	return b
}

func (b *book) newID() (key.ID, error) {
	b.ids++
	return key.ID(fmt.Sprintf("%032x", b.ids)), nil
}

func (b *book) reserve(without ...string) *book {
	id, _ := b.newID()
	var answers []key.ID
	for _, q := range b.Requests {
		answers = append(answers, q.ID)
	}
	_, err := b.Reserve(b.clock, b.policy, record.Reservation{
		ID: id, Reason: "a test", Requester: "uid 0", Without: without, Requests: answers,
	})
	return b.ok(err)
}

func (b *book) pin(without ...string) *book {
	b.reserve(without...)
	n := b.Latest().Number
	_, err := b.BeginGenerate(b.clock, n)
	b.ok(err)
	_, err = b.Pin(b.clock, n, print(n))
	return b.ok(err)
}

func (b *book) intend(n int, url string) *book {
	b.attempts++
	return b.ok(b.Intend(n, record.Placement{Attempt: attempt(b.attempts), Vault: url, At: b.clock}))
}

func (b *book) land(n int, url string) *book {
	b.intend(n, url)
	return b.ok(b.Land(b.clock, attempt(b.attempts), key.Version{ID: version(b.attempts), Created: b.clock}))
}

func (b *book) prove(n int, url string) *book {
	b.land(n, url)
	return b.ok(b.Prove(b.clock, attempt(b.attempts)))
}

// refute is the end of the last attempt.
func (b *book) refute() *book { return b.ok(b.Refute(attempt(b.attempts), "a test")) }

// alias is a duplicate of an attempt's material in its vault, and not the newest version there.
func (b *book) alias(n int, v key.Version) *book {
	return b.ok(b.Alias(b.clock, attempt(n), record.FoundVersion{Version: v}))
}

func (b *book) finish(n int) *book {
	_, err := b.Finish(b.clock, b.policy, n)
	return b.ok(err)
}

// rotate is a whole rotation. The attempts of generation n are 2n-1 in weu and 2n in neu.
func (b *book) rotate() *book {
	b.pin()
	n := b.Latest().Number
	return b.prove(n, weu).prove(n, neu).finish(n)
}

func (b *book) ask(id key.ID, compromise bool, without ...string) *book {
	q := key.Request{ID: id, At: b.clock, Compromise: compromise, Without: without}
	return b.ok(b.Ask(q, b.newID))
}

func print(n int) key.Fingerprint { return key.Fingerprint(fmt.Sprintf("sha256:%064x", n)) }
func attempt(n int) key.ID        { return key.ID(fmt.Sprintf("a%031x", n)) }
func version(n int) string        { return fmt.Sprintf("b%031x", n) }

// refused requires an error that gives the reason.
func refused(t *testing.T, err error, why string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("error %v, want one that says %q", err, why)
	}
}

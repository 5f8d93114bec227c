package consumer_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/vault"
)

// observed is a vault in the emulator that two identities use, keyd's and another's, and its log as keyd reads it.
type observed struct {
	*emulated
	evidence     *consumer.Evidence
	keyd, other  *vault.Client
	policy       key.Policy
	old, newest  string
	keydsID, his string // object ids
}

func newObserved(t *testing.T, tables ...emulator.LogTable) *observed {
	t.Helper()
	o := &observed{emulated: newEmulated(t)}
	if len(tables) > 0 {
		o.Logs().SetTables(tables...)
	}
	o.old, o.newest = o.rotate(), o.rotate()
	v := key.Vault{Name: "contoso-weu", URL: weu, Kind: key.KeyVault}
	o.policy = key.Policy{Key: "cmk", Vaults: []key.Vault{v},
		Workspaces: map[string]string{weu: emulator.DefaultWorkspaceID},
		Retire:     key.RetireRule{DisableAfter: time.Hour, UnusedFor: 24 * time.Hour}}
	transport := vault.HTTPClient(o.Transport())
	signIn := func() *vault.Credential {
		cred, err := vault.NewCredential(
			vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: rand.Text()}, transport)
		if err != nil {
			t.Fatal(err)
		}
		return cred
	}
	mine, his := signIn(), signIn()
	reader, err := consumer.NewLogClient(consumer.LogConfig{Credential: mine, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	o.evidence = consumer.NewEvidence(consumer.EvidenceConfig{
		Client: func() *consumer.LogClient { return reader }, Ledgers: &ledger{}, Clock: o.clock.Now,
		Keys: func() []key.Policy { return []key.Policy{o.policy} },
	})
	client := func(cred *vault.Credential, calls vault.Calls) (*vault.Client, string) {
		c, err := vault.New(vault.Config{Vault: v, KEKName: "kek", Clock: o.clock.Now, Calls: calls}, cred, transport,
			nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		who, err := c.Identity(t.Context())
		if err != nil || who.ObjectID == "" {
			t.Fatalf("%v, %v", who, err)
		}
		return c, strings.ToLower(who.ObjectID)
	}
	o.keyd, o.keydsID = client(mine, o.evidence)
	o.other, o.his = client(his, nil)
	return o
}

// wraps wraps and unwraps with a version, as a proof and a consumer do.
func (o *observed) wraps(c *vault.Client, version string) {
	o.t.Helper()
	sealed, err := c.Wrap(o.t.Context(), "cmk", version, []byte("secret"))
	if err == nil {
		_, err = c.Unwrap(o.t.Context(), "cmk", version, sealed)
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

// pass lets time pass with a proof of the newest version every half hour.
func (o *observed) pass(d time.Duration) {
	for end := o.clock.now.Add(d); o.clock.now.Before(end); o.clock.now = o.clock.now.Add(30 * time.Minute) {
		o.wraps(o.keyd, o.newest)
	}
}

func (o *observed) look(ctx context.Context) record.LogSeen {
	o.t.Helper()
	s := o.evidence.Logs(ctx, o.policy, o.clock.now)[weu]
	if s.Err != nil {
		o.t.Fatal(s.Err)
	}
	return s
}

func TestTheEmulatorsLogShowsWhoUsesAVersionInBothTables(t *testing.T) {
	for _, tables := range [][]emulator.LogTable{
		{emulator.AzureDiagnostics}, {emulator.AZKVAuditLogs}, {emulator.AzureDiagnostics, emulator.AZKVAuditLogs},
	} {
		o := newObserved(t, tables...)
		begun := o.clock.now
		o.wraps(o.keyd, o.old) // a proof of an older version is no use of it
		o.pass(2 * time.Hour)
		used := o.clock.now
		o.wraps(o.other, o.old)
		o.pass(3 * time.Hour)
		s := o.look(t.Context())
		if !s.From.Equal(begun) || s.Until.Before(o.clock.now.Add(-time.Hour)) ||
			s.Asked.After(begun.Add(time.Second)) {
			t.Errorf("%v: seen from %s until %s, asked again from %s", tables, s.From, s.Until, s.Asked)
		}
		if len(s.Uses) != 1 || len(s.Uses[o.old]) != 1 || !s.Uses[o.old][o.his].Equal(used) {
			t.Errorf("%v: uses %v, want one of %s by %s at %s", tables, s.Uses, o.old, o.his, used)
		}
	}
}

func TestInTheEmulatorsLogARecordThatIsLostIsAGapAndOneThatIsLateIsNot(t *testing.T) {
	o := newObserved(t)
	begun := o.clock.now
	o.pass(2 * time.Hour)
	o.Logs().Hold(o.clock.now, o.clock.now.Add(time.Minute), 3*time.Hour)
	o.pass(2 * time.Hour)
	if s := o.look(t.Context()); !s.From.After(begun) {
		t.Errorf("a record is held, and the log is seen from %s", s.From)
	}
	o.pass(2 * time.Hour)
	if s := o.look(t.Context()); !s.From.Equal(begun) {
		t.Errorf("the record came, and the log is seen from %s, want %s", s.From, begun)
	}
	lost := o.clock.now
	o.Logs().Lose(lost, lost.Add(time.Minute))
	o.pass(3 * time.Hour)
	if s := o.look(t.Context()); !s.From.After(lost) {
		t.Errorf("a record was lost at %s, and the log is seen from %s", lost, s.From)
	}
}

func TestTheEmulatorsTruncatedAnswersAreAskedForInPieces(t *testing.T) {
	o := newObserved(t)
	begun := o.clock.now
	o.Logs().Truncate(3)
	o.pass(4 * time.Hour)
	if s := o.look(t.Context()); !s.From.Equal(begun) || len(s.Uses) != 0 {
		t.Errorf("seen from %s, want %s; uses %v", s.From, begun, s.Uses)
	}
}

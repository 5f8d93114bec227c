package check

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// goSigner is an HSM side whose audit key is in Go.
type goSigner struct{ key *rsa.PrivateKey }

func (s goSigner) AuditKey(context.Context) (key.Material, bool, error) {
	m, err := key.FromRSA(&s.key.PublicKey)
	return m, err == nil, err
}

func (s goSigner) MakeAuditKey(context.Context) (key.Material, error) {
	return key.Material{}, errors.New("there is one")
}

func (s goSigner) Follow(context.Context, chain.Extension) error { return nil }

func (s goSigner) SignCheckpoint(
	_ context.Context, x chain.Extension,
) (c key.SignedCheckpoint, missed bool, err error) {
	m, err := key.FromRSA(&s.key.PublicKey)
	if err != nil {
		return c, false, err
	}
	c.Checkpoint = key.Checkpoint{Instance: "test", Seq: x.Seq, Head: key.Fingerprint(x.Head.String()),
		Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Signer: m.Fingerprint()}
	digest := sha256.Sum256(c.Message())
	c.Signature, err = rsa.SignPKCS1v15(nil, s.key, crypto.SHA256, digest[:])
	return c, false, err
}

// signedMark has a chain signed, and returns the mark of that checkpoint.
func signedMark(t *testing.T, s audit.Chain) string {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
	keeper := audit.NewKeeper(audit.Config{
		Instance: "test", Chain: s, Signer: goSigner{private}, Clock: now,
		Logger: slog.New(slog.DiscardHandler), Metrics: audit.NewMetrics(prometheus.NewRegistry()),
	})
	cp, err := keeper.Checkpoint(t.Context(), "keyd")
	if err != nil {
		t.Fatal(err)
	}
	return cp.Mark()
}

func TestACheckComparesTheMarksInTheVaultsWithTheChain(t *testing.T) {
	parts, s := newChecker(t)
	rec := record.Record{Schema: record.SchemaVersion, Key: "one", Vaults: parts.Config.Policies[0].Vaults}
	if _, err := s.Save(t.Context(), rec, chain.Entry{Event: "test", Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	good := signedMark(t, s)
	_, hash, _ := strings.Cut(good, ":")
	ahead, other := "99:"+hash, "1:"+hash
	version := func(id, instance, mark string) key.Version {
		tags := map[string]string{key.TagInstance: instance}
		if mark != "" {
			tags[key.TagCheckpoint] = mark
		}
		return key.Version{ID: id, Tags: tags}
	}
	consented := rec.Clone()
	consented.Known = map[string][]string{rec.Vaults[0].URL: {"v2"}}
	for _, test := range []struct {
		name   string
		rec    record.Record
		seen   record.VaultSeen
		result status.CheckResult
		want   []string // parts of each line, in order
	}{
		{"none yet", rec, record.VaultSeen{}, status.CheckOK, []string{"the chain has each of 0"}},
		{"as it should be", rec, record.VaultSeen{Versions: []key.Version{
			version("v1", "test", good), version("v2", "test", good), version("v3", "test", ""),
		}},
			status.CheckOK, []string{"the chain has each of 2"}},
		{"of another instance", rec, record.VaultSeen{Versions: []key.Version{version("v1", "elsewhere", ahead)}},
			status.CheckOK, []string{"the chain has each of 0"}},
		{"ahead", rec, record.VaultSeen{Versions: []key.Version{version("v1", "test", good), version("v2", "test",
			ahead)}},
			status.CheckFailed, []string{"version v2 of one in weu has the mark " + ahead +
				", and the chain ends with entry 3: its end was cut off, or the state is an older copy"}},
		{"another chain", rec, record.VaultSeen{Versions: []key.Version{version("v1", "test", other)}},
			status.CheckFailed, []string{"version v1 of one in weu has the mark " + other +
				", and entry 1 of the chain has another hash"}},
		{"several", rec, record.VaultSeen{Versions: []key.Version{
			version("v1", "test", ahead), version("v2", "test", other),
		}},
			status.CheckFailed, []string{"version v1 of one in weu has the mark " + ahead +
				", and the chain ends with entry 3: its end was cut off, or the state is an older copy " +
				"(1 more such marks)"}},
		{"adopted", consented, record.VaultSeen{Versions: []key.Version{version("v2", "test", ahead)}},
			status.CheckWarning,
			[]string{"its end was cut off, or the state is an older copy; the version was adopted"}},
		{"no mark at all", rec, record.VaultSeen{Versions: []key.Version{version("v1", "test", "57")}},
			status.CheckWarning, []string{`of version v1: "57" is not SEQ:HASH`, "the chain has each of 0"}},
		{"not listed", rec, record.VaultSeen{Err: errors.New("503")}, status.CheckOK,
			[]string{"the chain has each of 0",
				"one in weu was not listed: its marks are not compared"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &checker{Parts: parts.Parts}
			c.collect(test.rec, key.Policy{Key: "one"}, rec.Vaults[0], test.seen)
			c.compareMarks(t.Context())
			if len(c.lines) != len(test.want) || c.lines[0].Result != test.result {
				t.Fatalf("%+v, want %s: %q", c.lines, test.result, test.want)
			}
			for i, l := range c.lines {
				if !strings.Contains(l.Detail, test.want[i]) || l.Result != status.CheckOK && l.Remedy == "" {
					t.Errorf("%+v, want %q and a remedy", l, test.want[i])
				}
			}
		})
	}
}

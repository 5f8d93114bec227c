package consumer_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/vault"
)

const (
	weuHost        = "contoso-weu.vault.azure.net"
	encryptionUser = "Key Vault Crypto Service Encryption User"
)

// landscape is the emulator with one consumer of a key, and keyd's client over TLS.
type landscape struct {
	*emulated
	own    string // keyd's object id
	cred   *vault.Credential
	client *vault.Client
	key    key.Policy
	seen   record.ConsumerSeen
}

// newLandscape makes consumers by specs, in which KEY is the key. The last one is looked at.
func newLandscape(t *testing.T, opts emulator.Options, spec string) *landscape {
	t.Helper()
	at := &clock{time.Now().Truncate(time.Second)}
	opts.Now, opts.ConsumersByHand, opts.TokenLifetime = at.Now, true, 365*24*time.Hour
	v := key.Vault{Name: "weu", URL: weu, Kind: key.KeyVault}
	if opts.Vaults == nil {
		opts.Vaults = []emulator.VaultConfig{{Host: weuHost, PurgeProtection: true, Location: "westeurope"}}
	} else {
		v = key.Vault{Name: "hsm", URL: "https://" + opts.Vaults[0].Host, Kind: key.ManagedHSM}
	}
	e, err := emulator.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	transport := vault.HTTPClient(e.Transport())
	own := rand.Text() // azidentity caches tokens for the whole process
	cred, err := vault.NewCredential(vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: own}, transport)
	if err != nil {
		t.Fatal(err)
	}
	c, err := consumer.NewClient(consumer.ClientConfig{Credential: cred, Transport: transport,
		Budget: consumer.NewBudget(1e6, 1e6)})
	if err != nil {
		t.Fatal(err)
	}
	w := consumer.NewWatcher(consumer.Config{Clock: at.Now, Logger: slog.New(slog.DiscardHandler)})
	w.Use(c, nil)
	l := &landscape{emulated: &emulated{e, t, at, w}, own: own, cred: cred}
	if l.client, err = vault.New(vault.Config{Vault: v, KEKName: "kek"}, cred, transport, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := l.vault().AddForeignVersion("cmk"); err != nil {
		t.Fatal(err)
	}
	for _, one := range strings.Fields(strings.ReplaceAll(spec, "KEY", v.URL+"/keys/cmk")) {
		l.make(one)
	}
	all := e.Consumers().ReadEverything(t.Context()).Consumers
	l.key = cmk(all[len(all)-1].ID)
	l.key.Vaults = []key.Vault{v}
	return l
}

// look looks at the consumer, and returns what was found by question.
func (l *landscape) look() map[string]consumer.Finding {
	l.t.Helper()
	i := l.watcher.Inspect([]key.Policy{l.key}, l.own,
		func(ctx context.Context, _, name string) ([]vault.LocalRole, error) {
			return l.client.LocalRoles(ctx, name)
		})
	u := i.Look(l.t.Context(), l.key)
	if len(u.Consumers) == 0 {
		l.t.Fatalf("no consumer: %+v", u)
	}
	l.seen = u.Consumers[0]
	found := map[string]consumer.Finding{}
	for _, f := range append(i.Vault(l.t.Context(), l.key.Vaults[0]), i.Consumer(l.t.Context(), l.key, l.seen)...) {
		found[f.Question] = f
	}
	return found
}

func (l *landscape) vault() *emulator.Vault {
	return l.Vault(strings.TrimPrefix(l.client.Vault().URL, "https://"))
}

// allow gives the consumer's identity a role at a scope.
func (l *landscape) allow(role, scope string) {
	l.t.Helper()
	must(l.t, l.Consumers().Assign(arm.RoleAssignment{Principal: l.seen.Callers[0], Role: role, Scope: scope}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantOutcome(t *testing.T, f consumer.Finding, want consumer.Outcome, parts ...string) {
	t.Helper()
	if f.Outcome != want {
		t.Errorf("%s is %d, want %d: %s", f.Question, f.Outcome, want, f.Detail)
	}
	for _, p := range parts {
		if !strings.Contains(f.Detail+" "+f.Remedy, p) {
			t.Errorf("%s lacks %q: %s → %s", f.Question, p, f.Detail, f.Remedy)
		}
	}
}

// services are one consumer of each kind that the emulator has.
var services = []string{
	"storage=st,key=KEY", "storage=st,key=KEY scope=st/own,key=KEY", "cosmos=db,key=KEY", "disk=des,key=KEY",
	"ai=ai,key=KEY", "sql=sql,key=KEY", "sqldb=sql/db,key=KEY", "sqlmi=mi,key=KEY", "acr=acr,key=KEY",
	"eventhubs=ns,key=KEY", "postgres=pg,key=KEY", "mysql=my,key=KEY",
}

func TestASetUpThatIsWholeIsFoundRight(t *testing.T) {
	for _, spec := range services {
		t.Run(spec, func(t *testing.T) {
			l := newLandscape(t, emulator.Options{}, spec)
			l.look() // an account of the emulator's is unfinished for one look
			if len(l.seen.Callers) == 0 {
				t.Fatalf("nobody calls: %+v", l.seen)
			}
			l.allow(encryptionUser, l.vault().ResourceID()+"/keys/cmk")
			for question, f := range l.look() {
				want := consumer.Right
				if question == consumer.AskedSetting &&
					(strings.HasPrefix(spec, "ai=") || strings.HasPrefix(spec, "mysql=")) {
					want = consumer.Undecided // it follows no new version, and keyd is not to move it
				}
				wantOutcome(t, f, want)
			}
		})
	}
}

// What keyd finds right is what works, and what it finds wrong does not: the service tries.
func TestRightsAreFoundAsTheServiceHasThem(t *testing.T) {
	const wrap = "Microsoft.KeyVault/vaults/keys/wrap/action"
	for name, c := range map[string]struct {
		set  func(l *landscape)
		want consumer.Outcome
		says []string
	}{
		"no role": {func(*landscape) {}, consumer.Wrong, []string{wrap, "az role assignment create", "/keys/cmk"}},
		"at the key": {func(l *landscape) {
			l.allow(encryptionUser, l.vault().ResourceID()+"/keys/cmk")
		}, consumer.Right, []string{encryptionUser}},
		"at another key": {func(l *landscape) {
			l.allow(encryptionUser, l.vault().ResourceID()+"/keys/other")
		}, consumer.Wrong, []string{wrap}},
		"at the vault": {func(l *landscape) { l.allow(encryptionUser, l.vault().ResourceID()) }, consumer.Right, nil},
		"at the group": {func(l *landscape) {
			group, _, _ := strings.Cut(l.vault().ResourceID(), "/providers/")
			l.allow(encryptionUser, group)
		}, consumer.Right, nil},
		"at the subscription": {func(l *landscape) {
			l.allow(encryptionUser, "/subscriptions/"+arm.Subscription)
		}, consumer.Right, nil},
		"at the management group": {func(l *landscape) {
			l.allow(encryptionUser, "/providers/Microsoft.Management/managementGroups/all")
		}, consumer.Right, nil},
		"a role that sounds like it": {func(l *landscape) {
			l.Consumers().DefineRole(arm.Role{Name: "Crypto Everything", DataActions: []string{
				"Microsoft.KeyVault/vaults/keys/read"}})
			l.allow("Crypto Everything", l.vault().ResourceID())
		}, consumer.Wrong, []string{wrap, "unwrap/action"}},
		"a role that takes it out": {func(l *landscape) {
			l.Consumers().DefineRole(arm.Role{Name: "most", DataActions: []string{"Microsoft.KeyVault/vaults/*"},
				NotDataActions: []string{"*/unwrap/action"}})
			l.allow("most", l.vault().ResourceID())
		}, consumer.Wrong, []string{"unwrap/action"}},
		"through a group": {func(l *landscape) {
			l.Consumers().SetGroup("team", l.seen.Callers[0])
			must(l.t, l.Consumers().Assign(arm.RoleAssignment{Principal: "team", Role: encryptionUser,
				Scope: l.vault().ResourceID()}))
		}, consumer.Right, nil},
		"of a group that it is not in": {func(l *landscape) {
			l.Consumers().SetGroup("team", "somebody")
			must(l.t, l.Consumers().Assign(arm.RoleAssignment{Principal: "team", Role: encryptionUser,
				Scope: l.vault().ResourceID()}))
		}, consumer.Wrong, nil},
		"with a condition": {func(l *landscape) {
			must(l.t, l.Consumers().Assign(arm.RoleAssignment{Principal: l.seen.Callers[0], Role: encryptionUser,
				Scope: l.vault().ResourceID(), Condition: "@Resource[x] StringEquals 'y'"}))
		}, consumer.Undecided, []string{"has a condition"}},
		"a deny assignment": {func(l *landscape) {
			l.allow(encryptionUser, l.vault().ResourceID())
			l.Consumers().Deny(arm.DenyAssignment{Name: "freeze", Scope: "/subscriptions/" + arm.Subscription,
				DataActions: []string{"Microsoft.KeyVault/vaults/keys/*"}})
		}, consumer.Undecided, []string{"freeze"}},
		"an access policy": {func(l *landscape) {
			l.vault().SetAccess(emulator.PolicyBased)
			must(l.t, l.vault().SetAccessPolicy(emulator.AccessPolicy{Identity: l.seen.Callers[0],
				Permissions: []string{"get", "wrapKey", "unwrapKey"}}))
		}, consumer.Right, nil},
		"an access policy without unwrapKey": {func(l *landscape) {
			l.vault().SetAccess(emulator.PolicyBased)
			l.allow(encryptionUser, l.vault().ResourceID()) // roles do not count there
			must(l.t, l.vault().SetAccessPolicy(emulator.AccessPolicy{Identity: l.seen.Callers[0],
				Permissions: []string{"get", "wrapKey"}}))
		}, consumer.Wrong, []string{"lacks unwrapKey", "az keyvault set-policy",
			"--key-permissions get wrapKey unwrapKey"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLandscape(t, emulator.Options{}, "storage=st,key=KEY")
			l.look()
			l.vault().SetAccess(emulator.RoleBased)
			c.set(l)
			wantOutcome(t, l.look()[consumer.AskedRights], c.want, c.says...)
			works := l.Consumers().Write(t.Context(), "st", []byte("data")) == nil
			if c.want == consumer.Right != works {
				t.Errorf("the service can use the key: %v", works)
			}
		})
	}
}

func TestAManagedHSMsOwnRolesCount(t *testing.T) {
	const unwrap = "Microsoft.KeyVault/managedHsm/keys/unwrap/action"
	for name, c := range map[string]struct {
		who   string // "": the consumer
		role  emulator.Role
		scope string
		want  consumer.Outcome
		says  []string
	}{
		"at the key": {"", emulator.CryptoServiceEncryptionUser, "/keys/cmk", consumer.Right, []string{"/keys/cmk"}},
		"at the HSM": {"", emulator.CryptoServiceEncryptionUser, "/", consumer.Right, nil},
		"at another": {"", emulator.CryptoServiceEncryptionUser, "/keys/other", consumer.Wrong, []string{unwrap,
			"az keyvault role assignment create --hsm-name contoso", "--scope /keys/cmk"}},
		"another role": {"", emulator.CryptoOfficer, "/", consumer.Wrong, []string{unwrap}},
		"another identity": {"a-group", emulator.CryptoServiceEncryptionUser, "/", consumer.Undecided,
			[]string{"a-group"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLandscape(t, emulator.Options{Vaults: []emulator.VaultConfig{{Host: "contoso.managedhsm.azure.net",
				Profile: emulator.ManagedHSM, PurgeProtection: true}}}, "storage=st,key=KEY")
			l.look()
			l.vault().SetAccess(emulator.RoleBased)
			who := c.who
			if who == "" {
				who = l.seen.Callers[0]
			}
			must(t, l.vault().Assign(emulator.RoleAssignment{Identity: who, Role: c.role, Scope: c.scope}))
			wantOutcome(t, l.look()[consumer.AskedRights], consumer.Unseen, "keyd look")
			must(t, l.vault().Assign(emulator.RoleAssignment{Identity: l.own, Role: emulator.Administrator}))
			found := l.look()
			wantOutcome(t, found[consumer.AskedRights], c.want, c.says...)
			wantOutcome(t, found[consumer.AskedKind], consumer.Right)
			works := l.Consumers().Write(t.Context(), "st", []byte("data")) == nil
			if c.want == consumer.Right != works {
				t.Errorf("the service can use the key: %v", works)
			}
		})
	}
}

func TestWhatElseIsWrongIsFound(t *testing.T) {
	const identities = emulatedScope + "Microsoft.ManagedIdentity/userAssignedIdentities/"
	for name, c := range map[string]struct {
		spec     string
		set      func(l *landscape)
		question string
		want     consumer.Outcome
		says     []string
	}{
		"a deleted identity": {"mysql=my,key=KEY", func(l *landscape) {
			must(l.t, l.Consumers().DeleteIdentity(identities+"my"))
		}, consumer.AskedIdentity, consumer.Wrong, []string{identities + "my does not exist",
			"az identity create --name my"}},
		"a closed vault": {"storage=st,key=KEY", func(l *landscape) {
			l.vault().SetFirewall(&emulator.Firewall{})
		}, consumer.AskedNetwork, consumer.Wrong, []string{
			"lets nobody in", "az keyvault update --name contoso-weu --bypass AzureServices"}},
		"a vault for trusted services": {"storage=st,key=KEY", func(l *landscape) {
			l.vault().SetFirewall(&emulator.Firewall{TrustedServices: true})
		}, consumer.AskedNetwork, consumer.Right, nil},
		"one that is not trusted": {"cosmos=db,key=KEY", func(l *landscape) {
			l.vault().SetFirewall(&emulator.Firewall{TrustedServices: true})
		}, consumer.AskedNetwork, consumer.Undecided, []string{"not on Microsoft's list"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLandscape(t, emulator.Options{}, c.spec)
			l.look()
			c.set(l)
			wantOutcome(t, l.look()[c.question], c.want, c.says...)
		})
	}
}

// A right to look that keyd does not have is no finding about the consumer.
func TestWhatKeydMayNotLookAtIsUnseen(t *testing.T) {
	const storageRead, vaultRead = "Microsoft.Storage/*/read", "Microsoft.KeyVault/vaults/read"
	for name, c := range map[string]struct {
		actions  []string
		question string
		says     []string
	}{
		"nothing": {nil, consumer.AskedSetting, []string{"HTTP 403", "az role assignment create --role Reader"}},
		"the consumer only": {[]string{storageRead}, consumer.AskedRights, []string{
			"subscription " + arm.Subscription + ": list its vaults: HTTP 403",
			`--scope "/subscriptions/` + arm.Subscription}},
		"consumer and vault": {[]string{storageRead, vaultRead}, consumer.AskedRights, []string{
			"vault contoso-weu: list its role assignments: HTTP 403"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLandscape(t, emulator.Options{ResourceRoles: true}, "storage=st,key=KEY")
			l.Consumers().DefineRole(arm.Role{Name: "looker", Actions: c.actions})
			must(t, l.Consumers().Assign(arm.RoleAssignment{Principal: l.own, Role: "looker",
				Scope: "/subscriptions/" + arm.Subscription}))
			found := l.look()
			wantOutcome(t, found[c.question], consumer.Unseen, c.says...)
			for question, f := range found {
				if f.Outcome == consumer.Wrong {
					t.Errorf("%s is found wrong: %s", question, f.Detail)
				}
			}
		})
	}
}

package consumer_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

const (
	weu     = "https://contoso-weu.vault.azure.net"
	neu     = "https://contoso-neu.vault.azure.net"
	oldID   = "0123456789abcdef0123456789abcdef"
	newID   = "fedcba9876543210fedcba9876543210"
	sub     = "00000000-0000-4000-8000-000000000001"
	group   = "/subscriptions/" + sub + "/resourceGroups/rg-1/providers/"
	storage = group + "Microsoft.Storage/storageAccounts/stcmkdemo"
	cosmos  = group + "Microsoft.DocumentDB/databaseAccounts/cosmos-1"
	system  = "11111111-1111-4111-8111-111111111111" // object id of the resource's own identity
	user    = "22222222-2222-4222-8222-222222222222" // object id of the identity uami
	uami    = "/subscriptions/" + sub + "/resourceGroups/rg-1/providers/Microsoft.ManagedIdentity/" +
		"userAssignedIdentities/id-1"
	client = "33333333-3333-4333-8333-333333333333" // client id of uami
)

// fill puts the constants into a text.
var fill = strings.NewReplacer("WEU", weu, "NEU", neu, "OLD", oldID, "NEW", newID, "GROUP/", group, "UAMI", uami,
	"SYSTEM", system, "USER", user, "CLIENT", client, "SUB", sub)

// cloud answers in the place of Resource Manager.
type cloud struct {
	mu      sync.Mutex
	answers map[string]string // by path, in lower case
	// hook answers first; nil: go on.
	hook  func(*http.Request) *http.Response
	calls []string // "GET path" without the subscription and group
}

func newCloud(answers map[string]string) *cloud {
	c := &cloud{answers: map[string]string{}}
	for path, body := range answers {
		c.set(path, body)
	}
	return c
}

func (c *cloud) set(path, body string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[strings.ToLower(fill.Replace(path))] = fill.Replace(body)
}

func (c *cloud) remove(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.answers, strings.ToLower(path))
}

// sent returns the calls since the last time.
func (c *cloud) sent() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	return calls
}

// Do implements policy.Transporter.
func (c *cloud) Do(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	path := strings.TrimPrefix(r.URL.Path, group)
	if skip := r.URL.Query().Get("$skip"); skip != "" {
		path += " " + skip
	}
	c.calls = append(c.calls, r.Method+" "+path)
	body, ok := c.answers[strings.ToLower(r.URL.Path)]
	hook := c.hook
	c.mu.Unlock()
	if hook != nil {
		if resp := hook(r); resp != nil {
			return resp, nil
		}
	}
	if !ok {
		return answer(
			r,
			http.StatusNotFound,
			`{"error":{"code":"ResourceNotFound","message":"It was not found."}}`,
		), nil
	}
	return answer(r, http.StatusOK, body), nil
}

func answer(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Request: r,
		Header: http.Header{"Content-Type": {"application/json"}, "X-Ms-Request-Id": {"req-1"}},
		Body:   io.NopCloser(strings.NewReader(body)),
	}
}

type fixedToken struct{}

func (fixedToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "secret", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func clientOf(t *testing.T, transport policy.Transporter) *consumer.Client {
	t.Helper()
	c, err := consumer.NewClient(consumer.ClientConfig{
		Credential: fixedToken{}, Transport: transport, Budget: consumer.NewBudget(1e6, 1e6),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// watcher is a watcher on a test's clock.
func watcher(t *testing.T, c *cloud, cfg consumer.Config) *consumer.Watcher {
	t.Helper()
	if cfg.Clock == nil {
		cfg.Clock = func() time.Time { return today }
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	w := consumer.NewWatcher(cfg)
	w.Use(clientOf(t, c), []string{sub})
	return w
}

var today = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// cmk is the policy of a key with these consumers.
func cmk(ids ...string) key.Policy {
	p := key.Policy{Key: "cmk", Vaults: []key.Vault{
		{Name: "weu", URL: weu, Kind: key.KeyVault}, {Name: "neu", URL: neu, Kind: key.KeyVault},
	}}
	for _, id := range ids {
		p.Consumers = append(p.Consumers, key.Consumer{ID: fill.Replace(id)})
	}
	return p
}

// wantSeen compares all but the texts of errors and what tells a resource from an earlier one.
func wantSeen(t *testing.T, got []record.ConsumerSeen, want ...record.ConsumerSeen) {
	t.Helper()
	same := cmp.Comparer(func(a, b error) bool { return (a == nil) == (b == nil) })
	if diff := cmp.Diff(want, got, same, cmpopts.EquateEmpty(), cmpopts.SortSlices(
		func(a, b string) bool { return a < b }), cmpopts.IgnoreFields(record.ConsumerSeen{}, "Made",
		"Own")); diff != "" {
		t.Errorf("consumers (-want +got):\n%s", diff)
		for _, c := range got {
			if c.Err != nil {
				t.Log(c.Err)
			}
		}
	}
}

// wantErr wants an error of one line with these parts, and without the token.
func wantErr(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error lacks %q:\n%v", part, err)
		}
	}
	if strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error has more than one line, or a secret:\n%v", err)
	}
}

func mustJSON(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

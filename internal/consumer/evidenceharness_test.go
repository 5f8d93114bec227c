package consumer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/vault"
)

const (
	logWorkspace = "11111111-2222-3333-4444-555555555555"
	logVaultURL  = "https://contoso-weu.vault.azure.net"
	logKey       = "sa-cmk-key"
	logV1        = "11111111111111111111111111111111"
	logV2        = "22222222222222222222222222222222"
	keydID       = "aaaaaaaa-0000-0000-0000-000000000001"
	storageID    = "bbbbbbbb-0000-0000-0000-000000000002"
)

// logEntry is one request as a workspace has it.
type logEntry struct {
	at        time.Time
	late      time.Duration // how long after at it shows
	operation string
	uri       string
	caller    string
	request   string
	status    int
}

// cannedWorkspace answers queries from a list of entries.
type cannedWorkspace struct {
	clock func() time.Time
	forms []logForm // that it has

	mu      sync.Mutex
	entries []logEntry
	queries []string // "FORM FROM TO"
	keeps   time.Duration
	fail    func(query string) *http.Response // nil, or nil from it: it answers
}

var queryTimes = regexp.MustCompile(`>= datetime\(([^)]+)\) and TimeGenerated < datetime\(([^)]+)\)`)

func (w *cannedWorkspace) Do(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	want := "https://api.loganalytics.azure.com/v1/workspaces/" + logWorkspace + "/query"
	if r.Method != http.MethodPost || r.URL.String() != want || r.Header.Get("Authorization") != "Bearer t" {
		return nil, fmt.Errorf("unexpected request: %s %s", r.Method, r.URL)
	}
	var body struct{ Query, Timespan string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return nil, err
	}
	table, _, _ := strings.Cut(body.Query, " ")
	times := queryTimes.FindStringSubmatch(body.Query)
	from, err1 := time.Parse(time.RFC3339, times[1])
	to, err2 := time.Parse(time.RFC3339, times[2])
	if err1 != nil || err2 != nil || body.Timespan != times[1]+"/"+times[2] {
		return nil, fmt.Errorf("unexpected times: %q, %q", body.Query, body.Timespan)
	}
	w.queries = append(w.queries, fmt.Sprintf("%s %s %s", table, times[1], times[2]))
	if w.fail != nil {
		if resp := w.fail(body.Query); resp != nil {
			resp.Request = r
			return resp, nil
		}
	}
	for _, f := range w.forms {
		if f.table == table {
			return logAnswer(http.StatusOK, w.tableOf(f, from, to)), nil
		}
	}
	return logAnswer(http.StatusBadRequest, noSuchTable(table)), nil
}

func noSuchTable(table string) string {
	return `{"error":{"message":"The request had some invalid properties","code":"BadArgumentError","innererror":{` +
		`"code":"SemanticError","message":"A semantic error occurred.","innererror":{"code":"SEM0100","message":` +
		`"'where' operator: Failed to resolve table or column expression named '` + table + `'"}}}}`
}

func (w *cannedWorkspace) tableOf(f logForm, from, to time.Time) string {
	rows := [][]any{}
	for _, e := range w.entries {
		kept := w.keeps == 0 || e.at.After(w.clock().Add(-w.keeps))
		if e.at.Before(from) || !e.at.Before(to) || e.at.Add(e.late).After(w.clock()) || !kept {
			continue
		}
		at := e.at.Format("2006-01-02T15:04:05.9999999Z")
		id := "/subscriptions/s/resourcegroups/g/providers/microsoft.keyvault/vaults/contoso-weu"
		if f.number == sharedLog.number {
			rows = append(rows, []any{at, e.operation, e.uri, e.caller, "app", "client", e.status, e.request, "", id})
			continue
		}
		identity := fmt.Sprintf(`{"claim":{"oid":%q,"appid":"app"}}`, e.caller)
		rows = append(rows, []any{at, e.operation, e.uri, identity, e.request, e.status, e.uri, id})
	}
	var columns []map[string]string
	for _, name := range f.columns() {
		columns = append(columns, map[string]string{"name": name, "type": "string"})
	}
	out, err := json.Marshal(map[string]any{
		"tables": []any{map[string]any{"name": "PrimaryResult", "columns": columns, "rows": rows}},
	})
	if err != nil {
		panic(err)
	}
	return string(out)
}

// columns are the names of the columns that the form projects.
func (f logForm) columns() (names []string) {
	project := strings.ReplaceAll(f.project, `("clientRequestId_s", "")`, "")
	for _, part := range strings.Split(project, ", ") {
		name, _, _ := strings.Cut(part, " = ")
		names = append(names, name)
	}
	return names
}

func logAnswer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body))}
}

type logToken struct{}

func (logToken) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if o.Scopes[0] != "https://api.loganalytics.io/.default" {
		return azcore.AccessToken{}, fmt.Errorf("token asked for %v", o.Scopes)
	}
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(24 * time.Hour)}, nil
}

// logBench is an Evidence over a canned workspace, with a clock that the test moves.
type logBench struct {
	*cannedWorkspace
	now      time.Time
	client   *LogClient
	ledgers  map[string][]byte
	evidence *Evidence
	policies []key.Policy
	n        int // of ids
}

var logStart = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

func newLogBench(t *testing.T, forms ...logForm) *logBench {
	t.Helper()
	b := &logBench{now: logStart, ledgers: map[string][]byte{}}
	if len(forms) == 0 {
		forms = []logForm{resourceLog}
	}
	b.cannedWorkspace = &cannedWorkspace{clock: func() time.Time { return b.now }, forms: forms}
	b.policies = []key.Policy{logPolicy(logKey)}
	var err error
	b.client, err = NewLogClient(LogConfig{Credential: logToken{}, Transport: b.cannedWorkspace})
	if err != nil {
		t.Fatal(err)
	}
	b.restart()
	return b
}

func logPolicy(name string) key.Policy {
	return key.Policy{Key: name, Vaults: []key.Vault{{Name: "contoso-weu", URL: logVaultURL, Kind: key.KeyVault}},
		Workspaces: map[string]string{logVaultURL: logWorkspace}}
}

// LoadLedger and SaveLedger make the bench a store of ledgers.
func (b *logBench) LoadLedger(_ context.Context, name string) ([]byte, error) {
	return b.ledgers[name], nil
}

func (b *logBench) SaveLedger(_ context.Context, name string, blob []byte) error {
	b.ledgers[name] = blob
	return nil
}

// restart is another process over the same store.
func (b *logBench) restart() {
	b.evidence = NewEvidence(EvidenceConfig{
		Client: func() *LogClient { return b.client }, Ledgers: b, Clock: b.clock,
		Keys: func() []key.Policy { return b.policies },
	})
}

// proof is one of keyd's own calls, which the log shows after two minutes unless change says otherwise.
func (b *logBench) proof(version string, change ...func(*logEntry)) logEntry {
	b.n++
	c := vault.OwnCall{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", b.n), Operation: "KeyUnwrap", Key: logKey,
		Version: version, Caller: keydID, Begun: b.now, Ended: b.now.Add(time.Second), Status: http.StatusOK}
	b.evidence.Called(logVaultURL, c)
	e := logEntry{b.now.Add(time.Second), 2 * time.Minute, c.Operation,
		logVaultURL + "/keys/" + logKey + "/" + version + "/unwrapkey?api-version=7.6", keydID, c.ID, http.StatusOK}
	for _, f := range change {
		f(&e)
	}
	b.log(e)
	return e
}

func lost(e *logEntry) { e.late = 1000 * 24 * time.Hour }

func lateBy(d time.Duration) func(*logEntry) { return func(e *logEntry) { e.late = d } }

func (b *logBench) log(e logEntry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, e)
}

// use is a call of a storage account's.
func (b *logBench) use(version string, change ...func(*logEntry)) logEntry {
	path := "/keys/" + logKey + "/" + version + "/unwrapkey"
	if version == "" {
		path = "/keys/" + logKey + "/unwrapkey"
	}
	e := logEntry{b.now, 2 * time.Minute, "KeyUnwrap", logVaultURL + path + "?api-version=7.4", storageID,
		"ffffffff-0000-4000-8000-000000000001", http.StatusOK}
	for _, f := range change {
		f(&e)
	}
	b.log(e)
	return e
}

// pass lets time pass, with a proof of the newest version every quarter of an hour and a reading every hour.
func (b *logBench) pass(t *testing.T, d time.Duration) {
	t.Helper()
	for end := b.now.Add(d); b.now.Before(end); {
		b.proof(logV2)
		b.now = b.now.Add(15 * time.Minute)
		if b.now.Minute() == 0 {
			b.read(t)
		}
	}
}

func (b *logBench) read(t *testing.T) {
	t.Helper()
	b.evidence.read(t.Context(), logWorkspace, b.now, 0)
}

// seen is what the log shows of the key; it must be without an error.
func (b *logBench) seen(t *testing.T) record.LogSeen {
	t.Helper()
	s := b.evidence.Last(b.policies[0])[logVaultURL]
	if s.Err != nil {
		t.Fatal(s.Err)
	}
	return s
}

func wantSeen(t *testing.T, s record.LogSeen, from, until time.Time) {
	t.Helper()
	if !s.From.Equal(from) || !s.Until.Equal(until) {
		t.Errorf("the log is seen from %s until %s, want from %s until %s", s.From, s.Until, from, until)
	}
}

func wantUses(t *testing.T, s record.LogSeen, want map[string]map[string]time.Time) {
	t.Helper()
	got, _ := json.Marshal(s.Uses)
	wanted, _ := json.Marshal(want)
	if string(got) != string(wanted) {
		t.Errorf("uses\n%s, want\n%s", got, wanted)
	}
}

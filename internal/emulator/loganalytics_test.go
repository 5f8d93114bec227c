package emulator_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
)

// The queries that keyd sends.
const (
	diagnosticsQuery = `AzureDiagnostics | where TimeGenerated >= datetime(FROM) and TimeGenerated < datetime(TO) | ` +
		`where ResourceProvider == "MICROSOFT.KEYVAULT" and Category == "AuditEvent" | where OperationName in ` +
		`("KeyWrap","KeyUnwrap","KeyEncrypt","KeyDecrypt","KeySign") | project TimeGenerated, OperationName, ` +
		`requestUri_s, ` +
		`identity_claim_oid_g, identity_claim_appid_g, clientInfo_s, httpStatusCode_d, CorrelationId, ` +
		`clientRequestId = column_ifexists("clientRequestId_s", ""), _ResourceId`
	auditLogsQuery = `AZKVAuditLogs | where TimeGenerated >= datetime(FROM) and TimeGenerated < datetime(TO) | where ` +
		`OperationName in ("KeyWrap","KeyUnwrap","KeyEncrypt","KeyDecrypt","KeySign") | project TimeGenerated, ` +
		`OperationName, RequestUri, Identity, CorrelationId, HttpStatusCode, Id, _ResourceId`
)

// workspace is Log Analytics as one caller asks it.
type workspace struct {
	*estate
	token string
	id    string
}

func newWorkspace(t *testing.T, s *estate, clientID string) workspace {
	t.Helper()
	return workspace{s, token(t, managedIdentityOf(t, s.Emulator, clientID), "https://api.loganalytics.io"),
		emulator.DefaultWorkspaceID}
}

type logPage struct {
	Tables []struct {
		Name    string
		Columns []struct{ Name, Type string }
		Rows    [][]any
	}
	Error *struct {
		Code, Message string
		InnerError    struct {
			Code       string
			InnerError struct{ Code, Message string }
		}
	}
}

func (w workspace) ask(query, timespan string) (*http.Response, logPage) {
	w.t.Helper()
	text, err := json.Marshal(map[string]string{"query": query, "timespan": timespan})
	must(w.t, err)
	res, answer := do(w.t, w.Emulator, "POST", "https://api.loganalytics.azure.com/v1/workspaces/"+w.id+"/query",
		bearer(w.token), string(text))
	var page logPage
	must(w.t, json.Unmarshal([]byte(answer), &page))
	return res, page
}

// between is a query for an interval.
func between(query string, from, to time.Time) string {
	return strings.NewReplacer("FROM", from.UTC().Format(time.RFC3339Nano), "TO", to.UTC().Format(time.RFC3339Nano)).
		Replace(query)
}

// rows are the rows of both tables for all time, as maps by column.
func (w workspace) rows(query string) (rows []map[string]any) {
	w.t.Helper()
	res, page := w.ask(between(query, time.Unix(0, 0), w.clock.Now().Add(time.Hour)), "")
	if res.StatusCode != 200 || page.Tables[0].Name != "PrimaryResult" {
		w.t.Fatalf("%d %+v", res.StatusCode, page.Error)
	}
	for _, r := range page.Tables[0].Rows {
		row := map[string]any{}
		for i, c := range page.Tables[0].Columns {
			row[c.Name] = r[i]
		}
		rows = append(rows, row)
	}
	return rows
}

// calls makes one wrap with a client request id that is a GUID, one that fails, and one without a version.
func calls(t *testing.T, s *estate, who string) (version string) {
	t.Helper()
	version = s.rotate()
	tk := token(t, managedIdentityOf(t, s.Emulator, who), "https://vault.azure.net")
	call := func(path, value, requestID string, want int) {
		t.Helper()
		header := bearer(tk)
		header.Set("X-Ms-Client-Request-Id", requestID)
		header.Set("User-Agent", "keyd/1")
		res, text := do(t, s.Emulator, "POST", "https://"+protected+"/keys/cmk/"+path+"?api-version=7.6", header,
			`{"alg":"RSA-OAEP-256","value":"`+value+`"}`)
		if res.StatusCode != want {
			t.Fatalf("%s: %d %s", path, res.StatusCode, text)
		}
	}
	call(version+"/wrapkey", "AAAA", "0F0E0D0C-0000-4000-8000-0123456789ab", 200)
	call("/wrapkey", "AAAA", "not a GUID", 200)
	must(t, s.vault.SetEnabled("cmk", version, false))
	call(version+"/unwrapkey", "AAAA", "", 403)
	return version
}

func TestTheDocumentHasTheQueries(t *testing.T) {
	text, err := os.ReadFile("../../docs/emulator.md")
	must(t, err)
	for _, query := range []string{finds("HOST"), diagnosticsQuery, auditLogsQuery} {
		if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), query) {
			t.Errorf("docs/emulator.md does not have %s", query)
		}
	}
}

// auditLogsHaveFailedCalls tests a fact.
func auditLogsHaveFailedCalls(t *testing.T) {
	t.Helper()
	s := newEstate(t, emulator.Options{LogDelay: -1})
	who := rand.Text()
	version := calls(t, s, who)
	w := newWorkspace(t, s, rand.Text())
	const key = "https://" + protected + "/keys/cmk/"
	var got []string
	for _, r := range w.rows(diagnosticsQuery) {
		got = append(got, fmt.Sprint(r["OperationName"], " ", r["requestUri_s"], " ", r["httpStatusCode_d"], " ",
			r["identity_claim_oid_g"], " ", r["identity_claim_appid_g"], " ", r["clientInfo_s"], " ",
			r["clientRequestId"], r["_ResourceId"]))
	}
	rest := " " + who + " " + who + " keyd/1 " + strings.ToLower(s.vault.ResourceID())
	if want := []string{
		"KeyWrap " + key + version + "/wrapkey?api-version=7.6 200" + rest,
		"KeyWrap " + key + "/wrapkey?api-version=7.6 200" + rest,
		"KeyUnwrap " + key + version + "/unwrapkey?api-version=7.6 403" + rest,
	}; !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	got = nil
	for i, r := range w.rows(auditLogsQuery) {
		guid := r["CorrelationId"].(string)
		if i == 0 != (guid == "0F0E0D0C-0000-4000-8000-0123456789ab") || len(guid) != 36 {
			t.Errorf("correlation id %d: %s", i, guid)
		}
		var identity struct{ Claim map[string]string }
		must(t, json.Unmarshal([]byte(r["Identity"].(string)), &identity))
		got = append(got, fmt.Sprint(r["OperationName"], " ", r["HttpStatusCode"], " ", r["Id"], " ",
			identity.Claim["http://schemas.microsoft.com/identity/claims/objectidentifier"] == who))
	}
	if want := []string{"KeyWrap 200 " + key + version + " true",
		"KeyWrap 200 " + strings.TrimSuffix(key, "/") + " true",
		"KeyUnwrap 403 " + key + version + " true"}; !slices.Equal(
		got,
		want,
	) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// auditLogsAreLate tests a fact.
func auditLogsAreLate(t *testing.T) {
	t.Helper()
	s := newEstate(t, emulator.Options{})
	calls(t, s, rand.Text())
	w := newWorkspace(t, s, rand.Text())
	if n := len(w.rows(diagnosticsQuery)); n != 0 {
		t.Errorf("%d records arrive at once", n)
	}
	s.clock.advance(10 * time.Minute)
	if n := len(w.rows(diagnosticsQuery)); n != 3 {
		t.Errorf("%d records after 10 minutes", n)
	}
}

func TestTheWorkspaceLosesAndHoldsRecords(t *testing.T) {
	s := newEstate(t, emulator.Options{LogDelay: -1})
	begin := s.clock.Now()
	calls(t, s, rand.Text())
	s.clock.advance(time.Hour)
	second := s.clock.Now()
	calls(t, s, rand.Text())
	w := newWorkspace(t, s, rand.Text())
	s.Logs().Hold(second, second.Add(time.Minute), 2*time.Hour)
	if n := len(w.rows(auditLogsQuery)); n != 3 {
		t.Errorf("%d records while some are late", n)
	}
	s.clock.advance(2 * time.Hour)
	if n := len(w.rows(auditLogsQuery)); n != 6 {
		t.Errorf("%d records when the late ones are there", n)
	}
	s.Logs().Lose(begin, begin.Add(time.Minute))
	if n := len(w.rows(auditLogsQuery)); n != 3 {
		t.Errorf("%d records with a gap", n)
	}
}

func TestTheAdminEndpointChangesWhatReachesTheWorkspace(t *testing.T) {
	s := newEstate(t, emulator.Options{LogDelay: -1, AdminListen: "127.0.0.1:0"})
	calls(t, s, rand.Text())
	w := newWorkspace(t, s, rand.Text())
	meddle := func(do, what string, want int) {
		t.Helper()
		body, err := json.Marshal(map[string]string{"do": do, "what": what})
		must(t, err)
		if status, text := adminCall(t, s.Emulator, "POST", "/meddle", string(body)); status != want {
			t.Errorf("%s %s: %d %s", do, what, status, text)
		}
	}
	now := s.clock.Now().UTC()
	during := now.Format(time.RFC3339) + "/" + now.Add(time.Minute).Format(time.RFC3339)
	meddle("TruncateLogs", "1", 200)
	if n := len(w.rows(auditLogsQuery)); n != 1 {
		t.Errorf("%d records of a truncated answer", n)
	}
	meddle("TruncateLogs", "0", 200)
	meddle("HoldLogs", during+"=1h", 200)
	if n := len(w.rows(auditLogsQuery)); n != 0 {
		t.Errorf("%d records that are late", n)
	}
	s.clock.advance(time.Hour)
	if n := len(w.rows(auditLogsQuery)); n != 3 {
		t.Errorf("%d records an hour after", n)
	}
	meddle("LoseLogs", during, 200)
	if n := len(w.rows(auditLogsQuery)); n != 0 {
		t.Errorf("%d records that are lost", n)
	}
	meddle("SetLogTables", "AzureDiagnostics", 200)
	if res, _ := w.ask(between(auditLogsQuery, now, now), ""); res.StatusCode != 400 {
		t.Errorf("a table that is missing: %d", res.StatusCode)
	}
	for do, what := range map[string]string{
		"TruncateLogs": "x", "HoldLogs": during, "LoseLogs": "x", "SetLogTables": "T",
	} {
		meddle(do, what, 400)
	}
}

func TestAQueryIsForAnInterval(t *testing.T) {
	s := newEstate(t, emulator.Options{LogDelay: -1})
	begin := s.clock.Now()
	calls(t, s, rand.Text())
	w := newWorkspace(t, s, rand.Text())
	span := func(from, to time.Time) string {
		return from.UTC().Format(time.RFC3339) + "/" + to.UTC().Format(time.RFC3339)
	}
	later := begin.Add(time.Hour)
	for name, test := range map[string]struct {
		from, to time.Time
		timespan string
		want     int
	}{
		"of the calls":                       {begin, later, "", 3},
		"until the calls":                    {begin.Add(-time.Hour), begin, "", 0},
		"with a timespan of the calls":       {begin, later, span(begin, later), 3},
		"with a timespan that is after them": {begin, later, span(later, later), 0},
	} {
		res, page := w.ask(between(diagnosticsQuery, test.from, test.to), test.timespan)
		if res.StatusCode != 200 || len(page.Tables[0].Rows) != test.want {
			t.Errorf("%s: %d, %+v", name, res.StatusCode, page)
		}
	}
}

func TestTheWorkspaceFailsAsInAzure(t *testing.T) {
	s := newEstate(t, emulator.Options{LogDelay: -1})
	calls(t, s, rand.Text())
	w := newWorkspace(t, s, rand.Text())
	query := between(auditLogsQuery, time.Unix(0, 0), s.clock.Now().Add(time.Hour))
	s.Logs().Truncate(2)
	if res, page := w.ask(query, ""); res.StatusCode != 200 || len(page.Tables[0].Rows) != 2 || page.Error == nil ||
		page.Error.Code != "PartialError" {
		t.Errorf("truncated: %d %+v", res.StatusCode, page)
	}
	s.Logs().Truncate(0)
	s.Logs().SetTables(emulator.AzureDiagnostics)
	for name, text := range map[string]string{"a missing table": query, "another query": query + " | take 1",
		"no time": strings.NewReplacer("FROM", "now", "TO", "now").Replace(diagnosticsQuery)} {
		res, page := w.ask(text, "")
		if res.StatusCode != 400 || page.Error.Code != "BadArgumentError" ||
			page.Error.InnerError.Code != "SemanticError" || page.Error.InnerError.InnerError.Code != "SEM0100" {
			t.Errorf("%s: %d %+v", name, res.StatusCode, page.Error)
		}
	}
	if res, page := w.ask(query, "P1D"); res.StatusCode != 400 {
		t.Errorf("a timespan without an end: %d %+v", res.StatusCode, page.Error)
	}
	w.id = "00000000-0000-4000-8000-000000000000"
	if res, page := w.ask(query, ""); res.StatusCode != 404 || page.Error.Code != "PathNotFoundError" {
		t.Errorf("another workspace: %d %+v", res.StatusCode, page.Error)
	}
	w.token = "none"
	if res, _ := w.ask(query, ""); res.StatusCode != 401 || res.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("without a token: %d", res.StatusCode)
	}
}

func TestTheWorkspaceAsksForARole(t *testing.T) {
	s := newEstate(t, emulator.Options{LogDelay: -1, ResourceRoles: true})
	id := rand.Text()
	w := newWorkspace(t, s, id)
	query := between(diagnosticsQuery, time.Unix(0, 0), s.clock.Now())
	if res, page := w.ask(query, ""); res.StatusCode != 403 || page.Error.Code != "InsufficientAccessError" {
		t.Errorf("%d %+v", res.StatusCode, page.Error)
	}
	must(t, s.Consumers().Assign(arm.RoleAssignment{Principal: id, Role: "Log Analytics Reader",
		Scope: emulator.WorkspaceResourceID}))
	if res, page := w.ask(query, ""); res.StatusCode != 200 {
		t.Errorf("%d %+v", res.StatusCode, page.Error)
	}
}

func TestAnAnswerThatWasLostIsInTheLogAndACallThatNeverArrivedIsNot(t *testing.T) {
	for drop, want := range map[emulator.DropMode]int{emulator.DropAfterCommit: 1, emulator.DropBeforeCommit: 0} {
		s := newEstate(t, emulator.Options{LogDelay: -1})
		s.rotate()
		s.Fail(emulator.Rule{Operation: "wrap", Drop: drop})
		value := parameters(azkeys.EncryptionAlgorithmRSAOAEP256, []byte("x"))
		_, err := newClient(t, s.Emulator, protected).WrapKey(t.Context(), "cmk", "", value, nil)
		if n := len(newWorkspace(t, s, rand.Text()).rows(diagnosticsQuery)); err == nil || n != want {
			t.Errorf("drop %v: %d records, want %d; %v", drop, n, want, err)
		}
	}
}

package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// The stand-in for Log Analytics knows exactly these queries.
func TestTheQueriesAreTheseTwo(t *testing.T) {
	from := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	const times = ` | where TimeGenerated >= datetime(2026-03-02T08:00:00Z) and ` +
		`TimeGenerated < datetime(2026-03-02T09:00:00Z)`
	for form, want := range map[*logForm]string{
		&sharedLog: `AzureDiagnostics` + times + ` | where ResourceProvider == "MICROSOFT.KEYVAULT" and ` +
			`Category == "AuditEvent" | where OperationName in ` +
			`("KeyWrap","KeyUnwrap","KeyEncrypt","KeyDecrypt","KeySign") | project TimeGenerated, OperationName, ` +
			`requestUri_s, identity_claim_oid_g, identity_claim_appid_g, clientInfo_s, httpStatusCode_d, ` +
			`CorrelationId, clientRequestId = column_ifexists("clientRequestId_s", ""), _ResourceId`,
		&resourceLog: `AZKVAuditLogs` + times + ` | where OperationName in ` +
			`("KeyWrap","KeyUnwrap","KeyEncrypt","KeyDecrypt","KeySign") | project TimeGenerated, OperationName, ` +
			`RequestUri, Identity, CorrelationId, HttpStatusCode, Id, _ResourceId`,
	} {
		if got := form.query(from, from.Add(time.Hour)); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

// failing is a bench whose workspace answers every query with that.
func failing(t *testing.T, status int, body string) *logBench {
	t.Helper()
	b := newLogBench(t)
	b.fail = func(string) *http.Response { return logAnswer(status, body) }
	return b
}

func (b *logBench) ask(t *testing.T, d time.Duration) ([]logRow, error) {
	t.Helper()
	return b.client.rows(t.Context(), logWorkspace, resourceLog, logStart, logStart.Add(d))
}

func TestEachErrorSaysWhatToDo(t *testing.T) {
	const partial = `{"tables":[{"name":"PrimaryResult","columns":[],"rows":[]}],"error":{"code":"PartialError",` +
		`"message":"There were some errors when processing your query.","details":[{"code":"E","message":` +
		`"a shard did not answer"}]}}`
	for name, c := range map[string]struct {
		status int
		body   string
		want   []string
	}{
		"no right": {403, `{"error":{"message":"The provided credentials have insufficient access to perform the ` +
			`requested operation","code":"InsufficientAccessError"}}`, []string{"HTTP 403 InsufficientAccessError",
			`--role "Log Analytics Reader"`, "customerId=='" + logWorkspace}},
		"no such workspace": {404, `{"error":{"message":"The workspace could not be found",` +
			`"code":"WorkspaceNotFoundError"}}`, []string{"HTTP 404 WorkspaceNotFoundError", "--query customerId"}},
		"throttled":     {429, `{"error":{"code":"ThrottledError","message":"slow down"}}`, []string{"by itself"}},
		"unauthorised":  {401, `{"error":{"code":"AuthenticationFailed"}}`, []string{"azure.tenant_id"}},
		"its own fault": {502, "<html>bad gateway</html>", []string{"HTTP 502", "by itself"}},
		"another query": {400, `{"error":{"code":"BadArgumentError","innererror":{"code":"SyntaxError",` +
			`"message":"Syntax Error"}}}`, []string{"HTTP 400 BadArgumentError: Syntax Error", "report"}},
		"partial":  {200, partial, []string{"a shard did not answer", "incomplete"}},
		"not JSON": {200, "<html>", []string{"makes no sense", "HTTPS_PROXY"}},
		"no table": {200, `{"tables":[]}`, []string{"makes no sense"}},
		"two tables": {200, `{"tables":[{"name":"PrimaryResult"},{"name":"PrimaryResult"}]}`,
			[]string{"makes no sense"}},
		"another table": {200, `{"tables":[{"name":"Other","columns":[],"rows":[]}]}`, []string{"makes no sense"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := failing(t, c.status, c.body)
				_, err := b.ask(t, time.Hour)
				var e *LogError
				if !errors.As(err, &e) || e.Workspace != logWorkspace {
					t.Fatalf("%v, want a LogError", err)
				}
				for _, part := range append(c.want, logWorkspace) {
					if !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
						t.Errorf("the error does not say %q in one line:\n%v", part, err)
					}
				}
			})
		})
	}
}

func TestALogThatCannotBeReadSaysSoAndIsNotAskedAgainAtOnce(t *testing.T) {
	b := newLogBench(t)
	b.pass(t, 3*time.Hour)
	b.fail = func(string) *http.Response { return logAnswer(403, `{"error":{"code":"InsufficientAccessError"}}`) }
	b.now, b.queries = b.now.Add(10*time.Minute), nil
	for range 3 { // as for three keys
		if s := b.asked(t, 24*time.Hour); s.Err == nil || !strings.Contains(s.Err.Error(), "contoso-weu") {
			t.Errorf("error %v", s.Err)
		}
	}
	if len(b.queries) != 1 {
		t.Errorf("%d queries although the first one failed: %v", len(b.queries), b.queries)
	}
	b.fail = nil
	b.now = b.now.Add(logAgain)
	if s := b.asked(t, 24*time.Hour); s.Err != nil || !s.From.Equal(logStart) {
		t.Errorf("afterwards: seen from %s, %v", s.From, s.Err)
	}
}

func TestAnOutageOfTheWorkspaceIsMadeUpFor(t *testing.T) {
	for outage, whole := range map[time.Duration]bool{48 * time.Hour: true, logPatience + 2*time.Hour: false} {
		b := newLogBench(t)
		b.pass(t, 3*time.Hour)
		b.fail = func(string) *http.Response { return logAnswer(403, "") }
		b.pass(t, outage)
		b.fail = nil
		b.pass(t, 3*time.Hour)
		s := b.seen(t)
		if s.From.Equal(logStart) != whole {
			t.Errorf("after %s without the workspace the log is seen from %s", outage, s.From)
		}
		wantUses(t, s, map[string]map[string]time.Time{})
	}
}

func TestAWorkspaceToWhichNoVaultSendsItsLogSaysHowToSendIt(t *testing.T) {
	b := newLogBench(t)
	b.forms = nil
	b.pass(t, time.Hour)
	s := b.evidence.Last(b.policies[0])[logVaultURL]
	if s.Err == nil || !strings.Contains(s.Err.Error(), "az monitor diagnostic-settings create") {
		t.Errorf("error %v", s.Err)
	}
}

func TestAResultThatIsTooLargeIsAskedForInHalves(t *testing.T) {
	const tooLarge = `{"tables":[{"name":"PrimaryResult","columns":[],"rows":[]}],"error":{"code":"PartialError",` +
		`"message":"There were some errors when processing your query.","details":[{"code":"EngineError","message":` +
		`"Something went wrong processing your query on the server.","innererror":{"code":"-2133196797","message":` +
		`"The results of this query exceed the set limit of 500000 records. (E_QUERY_RESULT_SET_TOO_LARGE)"}}]}}`
	for name, body := range map[string]string{"cut off": tooLarge, "too long": strings.Repeat(" ", longestLogBody+1)} {
		t.Run(name, func(t *testing.T) {
			b := newLogBench(t)
			for range 8 {
				b.use(logV1)
				b.now = b.now.Add(7*time.Minute + 30*time.Second)
			}
			b.now = b.now.Add(time.Hour)
			b.fail = func(query string) *http.Response {
				m := queryTimes.FindStringSubmatch(query)
				from, _ := time.Parse(time.RFC3339, m[1])
				to, _ := time.Parse(time.RFC3339, m[2])
				if to.Sub(from) > 15*time.Minute {
					return logAnswer(http.StatusOK, body)
				}
				return nil
			}
			rows, err := b.ask(t, time.Hour)
			if err != nil || len(rows) != 8 || len(b.queries) != 7 {
				t.Errorf("%d rows by %d queries, %v", len(rows), len(b.queries), err)
			}
			b.queries = nil
			b.fail = func(string) *http.Response { return logAnswer(http.StatusOK, body) }
			if _, err := b.ask(t, time.Hour); err == nil || !strings.Contains(err.Error(), "workspace of its own") {
				t.Errorf("error %v", err)
			}
			if len(b.queries) != 6 { // 60 min, 30, 15, 7½, 3¾, 112 s
				t.Errorf("%d queries before keyd gave up: %v", len(b.queries), b.queries)
			}
		})
	}
}

func TestAnAnswerThatIsNotAsDocumentedIsRefused(t *testing.T) {
	columns := func(change func(string) string) string {
		var all []string
		for _, name := range resourceLog.columns() {
			all = append(all, fmt.Sprintf(`{"name":%q,"type":"string"}`, change(name)))
		}
		return strings.Join(all, ",")
	}
	same := func(name string) string { return name }
	row := func(at, status, identity string) string {
		return `[` + at + `,"KeyWrap","` + logVaultURL + `/keys/k/wrapkey",` + identity + `,null,` + status +
			`,null,null]`
	}
	const good = `"2026-03-02T08:30:00.1234567Z"`
	for name, c := range map[string]struct {
		columns, row string
		ok           bool
	}{
		"as documented":         {columns(same), row(good, "200", `"{\"claim\":{\"oid\":\"A\"}}"`), true},
		"identity as an object": {columns(same), row(good, "200", `{"claim":{"oid":"A"}}`), true},
		"no identity":           {columns(same), row(good, "200", `null`), true},
		"an empty identity":     {columns(same), row(good, "200", `""`), true},
		"time as a number":      {columns(same), row("1", "200", `null`), false},
		"no time":               {columns(same), row("null", "200", `null`), false},
		"time before the query": {columns(same), row(`"2026-03-02T07:59:59.9Z"`, "200", `null`), false},
		"time after the query":  {columns(same), row(`"2026-03-02T09:00:00Z"`, "200", `null`), false},
		"a column that is there twice": {columns(func(name string) string {
			return strings.Replace(name, "Id", "Identity", 1)
		}), row(good, "200", `null`), false},
		"status as text":         {columns(same), row(good, `"ok"`, `null`), false},
		"identity as a number":   {columns(same), row(good, "200", `1`), false},
		"identity that is cut":   {columns(same), row(good, "200", `"{"`), false},
		"a row that is too long": {columns(same), strings.TrimSuffix(row(good, "200", `null`), "]") + ",1]", false},
		"a column by another name": {columns(func(name string) string {
			return strings.Replace(name, "CorrelationId", "correlationId_s", 1)
		}), row(good, "200", `null`), false},
	} {
		t.Run(name, func(t *testing.T) {
			b := failing(t, http.StatusOK, `{"tables":[{"name":"PrimaryResult","columns":[`+c.columns+`],"rows":[`+
				c.row+`]}]}`)
			rows, err := b.ask(t, time.Hour)
			if (err == nil) != c.ok || c.ok && len(rows) != 1 {
				t.Errorf("%d rows, %v", len(rows), err)
			}
		})
	}
}

func TestAURIShowsKeyAndVersion(t *testing.T) {
	for uri, want := range map[string]logRow{
		logVaultURL + "/keys/K/" + logV1 + "/wrapkey?api-version=7.4": {key: "k", version: logV1},
		logVaultURL + ":443/keys/K/" + strings.ToUpper("abcdefabcdefabcdefabcdefabcdefab") + "/wrapkey": {
			key: "k", version: "abcdefabcdefabcdefabcdefabcdefab"},
		logVaultURL + "/keys/k/wrapkey":                            {key: "k"},
		logVaultURL + "/keys/k//wrapkey":                           {key: "k"},
		logVaultURL + "/keys/k/no-version/unwrapkey":               {key: "k"},
		logVaultURL + "/keys/other/../k/" + logV1 + "/unwrapkey":   {},
		logVaultURL + "/keys/other/%2E%2e/k/" + logV1 + "/decrypt": {},
		logVaultURL + "/keys/k/./" + logV1 + "/unwrapkey":          {},
		logVaultURL + "/secrets/k":                                 {},
		logVaultURL:                                                {},
		"":                                                         {},
		"https://%zz":                                              {},
	} {
		var got logRow
		got.readURI(uri)
		if got.key != want.key || got.version != want.version {
			t.Errorf("%s: key %q, version %q; want %q and %q", uri, got.key, got.version, want.key, want.version)
		}
		if strings.HasPrefix(uri, logVaultURL) && !got.of(logVaultURL) {
			t.Errorf("%s is not about the vault", uri)
		}
	}
}

func TestARowIsAboutAVaultByItsHostOrItsResource(t *testing.T) {
	for name, c := range map[string]struct {
		row  logRow
		want bool
	}{
		"host":                {logRow{host: "contoso-weu.vault.azure.net"}, true},
		"private host":        {logRow{host: "contoso-weu.privatelink.vaultcore.azure.net"}, true},
		"resource":            {logRow{resource: "contoso-weu"}, true},
		"neither is shown":    {logRow{}, true},
		"another host":        {logRow{host: "contoso-neu.vault.azure.net", resource: "contoso-neu"}, false},
		"another host, shown": {logRow{host: "contoso-weu-2.vault.azure.net"}, false},
	} {
		if got := c.row.of(logVaultURL); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	for id, want := range map[string]string{
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/Contoso-WEU":      "contoso-weu",
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/managedHSMs/contoso-weu": "",
		"": "",
	} {
		if got := vaultInID(id); got != want {
			t.Errorf("%s: %q", id, got)
		}
	}
}

func TestAWorkspacesIDIsAGUID(t *testing.T) {
	b := newLogBench(t)
	_, err := b.client.rows(t.Context(), "../other", resourceLog, logStart, logStart.Add(time.Hour))
	if err == nil || len(b.queries) != 0 {
		t.Errorf("%v after %d queries", err, len(b.queries))
	}
}

func TestRunReadsEveryHourAndSavesItsCallsAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLogBench(t)
		b.clock = time.Now
		b.evidence.cfg.Clock = time.Now
		b.now = time.Now()
		b.proof(logV2)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.evidence.Run(ctx) }()
		time.Sleep(logDelay + 2*key.MaxSkew + 3*logEvery + time.Second)
		synctest.Wait()
		reads := 0
		for _, q := range b.queries {
			if strings.HasPrefix(q, sharedLog.table) {
				reads++
			}
		}
		if reads != 4 {
			t.Errorf("%d readings, want 4", reads)
		}
		b.now = time.Now()
		last := b.proof(logV1)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		l, err := decodeLedger(b.ledgers[logVaultURL])
		if err != nil || l.Calls[len(l.Calls)-1].ID != last.request {
			t.Errorf("the last call was not saved: %v", err)
		}
	})
}

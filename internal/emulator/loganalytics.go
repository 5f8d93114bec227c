package emulator

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
)

const (
	logsHost     = "api.loganalytics.azure.com"
	logsAudience = "https://api.loganalytics.io"
)

// The two queries that are answered, a table's form each: there is no Kusto in the emulator.
const (
	diagnosticsQuery = `AzureDiagnostics | where TimeGenerated >= datetime(FROM) and TimeGenerated < datetime(TO) | ` +
		`where ResourceProvider == "MICROSOFT.KEYVAULT" and Category == "AuditEvent" | where OperationName in ` +
		`("KeyWrap","KeyUnwrap","KeyEncrypt","KeyDecrypt","KeySign") | project TimeGenerated, OperationName, ` +
		`requestUri_s, identity_claim_oid_g, identity_claim_appid_g, clientInfo_s, httpStatusCode_d, CorrelationId, ` +
		`clientRequestId = column_ifexists("clientRequestId_s", ""), _ResourceId`
	auditLogsQuery = `AZKVAuditLogs | where TimeGenerated >= datetime(FROM) and TimeGenerated < datetime(TO) | ` +
		`where OperationName in ("KeyWrap","KeyUnwrap","KeyEncrypt","KeyDecrypt","KeySign") | ` +
		`project TimeGenerated, OperationName, RequestUri, Identity, CorrelationId, HttpStatusCode, Id, _ResourceId`
)

// logForm is a query with its answer.
type logForm struct {
	table   LogTable
	query   *regexp.Regexp
	columns []logColumn
	row     func(audited) []any
}

type logColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

var logForms = []logForm{
	{
		AzureDiagnostics, queryPattern(diagnosticsQuery),
		[]logColumn{{"TimeGenerated", "datetime"}, {"OperationName", "string"}, {"requestUri_s", "string"},
			{"identity_claim_oid_g", "string"}, {"identity_claim_appid_g", "string"}, {"clientInfo_s", "string"},
			{"httpStatusCode_d", "real"}, {"CorrelationId", "string"}, {"clientRequestId", "string"},
			{"_ResourceId", "string"}},
		func(a audited) []any {
			return []any{logTime(a.Time), a.name, a.uri(), a.Caller, a.Caller, a.Agent, float64(a.Done),
				a.correlation(), "", strings.ToLower(a.vault.ResourceID())}
		},
	},
	{
		AZKVAuditLogs, queryPattern(auditLogsQuery),
		[]logColumn{{"TimeGenerated", "datetime"}, {"OperationName", "string"}, {"RequestUri", "string"},
			{"Identity", "dynamic"}, {"CorrelationId", "string"}, {"HttpStatusCode", "int"}, {"Id", "string"},
			{"_ResourceId", "string"}},
		func(a audited) []any {
			identity := fmt.Sprintf(`{"claim":{"http://schemas.microsoft.com/identity/claims/objectidentifier":%q,`+
				`"appid":%q}}`, a.Caller, a.Caller)
			id := "https://" + a.Host + a.Path[:strings.LastIndex(strings.TrimSuffix(a.Path, "/"), "/")]
			return []any{
				logTime(a.Time),
				a.name,
				a.uri(),
				identity,
				a.correlation(),
				a.Done,
				strings.TrimSuffix(id, "/"),
				strings.ToLower(a.vault.ResourceID()),
			}
		},
	},
}

func logTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.9999999Z") }

func queryPattern(query string) *regexp.Regexp {
	p := regexp.QuoteMeta(query)
	return regexp.MustCompile("^" + strings.NewReplacer("FROM", "([^()]*)", "TO", "([^()]*)").Replace(p) + "$")
}

type logTableAnswer struct {
	Name    string      `json:"name"`
	Columns []logColumn `json:"columns"`
	Rows    [][]any     `json:"rows"`
}

type logAnswer struct {
	Tables []logTableAnswer `json:"tables"`
	Error  *logError        `json:"error,omitempty"`
}

type logError struct {
	Message string     `json:"message"`
	Code    string     `json:"code"`
	Inner   *logError  `json:"innererror,omitempty"`
	Details []logError `json:"details,omitempty"`
}

func logRefusal(status int, err logError) answer {
	return answer{status: status, body: map[string]logError{"error": err}}
}

// serveLogs answers one call to Log Analytics.
func (e *Emulator) serveLogs(w http.ResponseWriter, r *http.Request) {
	c := call{host: logsHost, method: r.Method, operation: opLogs}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		e.write(w, r, c, errorAnswer(badParameter("reading the body: %v", err)), fault{})
		return
	}
	who, err := e.signer.check(r.Header.Get("Authorization"), e.opts.TenantID, logsAudience, e.opts.Now())
	if err != nil {
		a := logRefusal(http.StatusUnauthorized, logError{Code: "AuthorizationRequiredError",
			Message: "Valid authentication was not provided: " + err.Error()})
		a.challenge = e.logsChallenge()
		e.write(w, r, c, a, fault{})
		return
	}
	c.caller, c.challenge = who.AppID, e.logsChallenge()
	e.act(w, r, c, func(fault) answer { return e.queryLogs(r, who.AppID, body) })
}

func (e *Emulator) logsChallenge() string {
	return fmt.Sprintf(
		"Bearer authorization_uri=%q, resource=%q",
		"https://"+loginHost+"/"+e.opts.TenantID,
		logsAudience,
	)
}

func (e *Emulator) queryLogs(r *http.Request, caller string, body []byte) answer {
	workspace, known := strings.CutPrefix(r.URL.Path, "/v1/workspaces/")
	workspace, query := strings.CutSuffix(workspace, "/query")
	switch {
	case !known || !query || !strings.EqualFold(workspace, DefaultWorkspaceID):
		return logRefusal(http.StatusNotFound,
			logError{Code: "PathNotFoundError", Message: "The requested path does not exist"})
	case r.Method != http.MethodPost:
		return logRefusal(http.StatusMethodNotAllowed, logError{Code: "MethodNotAllowed", Message: "Write POST."})
	case !e.consumers.Permits(caller, "Microsoft.OperationalInsights/workspaces/query/read", WorkspaceResourceID):
		return logRefusal(http.StatusForbidden, logError{Code: "InsufficientAccessError",
			Message: "The provided credentials have insufficient access to perform the requested operation"})
	}
	var q struct{ Query, Timespan string }
	if err := json.Unmarshal(body, &q); err != nil {
		return badQuery(logError{Code: "SyntaxError", Message: err.Error()})
	}
	return e.answerQuery(q.Query, q.Timespan)
}

func badQuery(why logError) answer {
	return logRefusal(http.StatusBadRequest, logError{Code: "BadArgumentError",
		Message: "The request had some invalid properties", Inner: &why})
}

func (e *Emulator) answerQuery(query, timespan string) answer {
	span, err := parseTimespan(timespan)
	if err != nil {
		return badQuery(logError{Code: "InvalidTimespan", Message: err.Error()})
	}
	for _, form := range logForms {
		m := form.query.FindStringSubmatch(query)
		if m == nil {
			continue
		}
		if !e.logs.has(form.table) {
			return semanticError("'where' operator: Failed to resolve table or column expression named '" +
				string(form.table) + "'")
		}
		asked, err := parseInterval(m[1], m[2])
		if err != nil {
			return semanticError(err.Error())
		}
		return e.logRows(form, asked, span)
	}
	return semanticError("The emulator answers two queries only; docs/emulator.md has them.")
}

func semanticError(message string) answer {
	return badQuery(logError{Code: "SemanticError", Message: "A semantic error occurred.",
		Inner: &logError{Code: "SEM0100", Message: message}})
}

func (e *Emulator) logRows(form logForm, asked, span interval) answer {
	rows := [][]any{}
	for _, a := range e.audit(asked) {
		if span == (interval{}) || span.has(a.Time) {
			rows = append(rows, form.row(a))
		}
	}
	result := logAnswer{}
	if most := e.logs.limit(); most > 0 && len(rows) > most {
		rows = rows[:most]
		result.Error = &logError{Code: "PartialError", Message: "There were some errors when processing your query.",
			Details: []logError{
				{Code: "EngineError", Message: "Something went wrong processing your query on the server.",
					Inner: &logError{
						Code: "-2133196797",
						Message: fmt.Sprintf("The results of this query exceed the set limit "+
							"of %d records.", most),
					}},
			}}
	}
	result.Tables = []logTableAnswer{{"PrimaryResult", form.columns, rows}}
	return answer{status: http.StatusOK, body: result}
}

func (l *Logs) limit() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most
}

// parseTimespan reads FROM/TO; "" is all time.
func parseTimespan(s string) (interval, error) {
	if s == "" {
		return interval{}, nil
	}
	from, to, ok := strings.Cut(s, "/")
	if !ok {
		return interval{}, fmt.Errorf("timespan %q: write FROM/TO", s)
	}
	return parseInterval(from, to)
}

func parseInterval(from, to string) (i interval, err error) {
	if i.from, err = time.Parse(time.RFC3339, from); err == nil {
		i.to, err = time.Parse(time.RFC3339, to)
	}
	return i, err
}

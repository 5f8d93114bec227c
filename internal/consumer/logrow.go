package consumer

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// logForm is one of the two tables in which a vault's audit log may be.
type logForm struct {
	number  int // of the form, in a list of both
	table   string
	where   string // the conditions on the table's rows, besides time and operation
	project string // the columns that keyd reads
	// Which column has what.
	uri, status, caller, identity, id string
	requests                          []string // client request ids
}

// logUses are the operations that use a key, as logs name them.
const logUses = `"KeyWrap","KeyUnwrap","KeyEncrypt","KeyDecrypt","KeySign"`

var (
	// sharedLog is the table of all services' logs, in which each field has a type at the end of its name.
	sharedLog = logForm{
		number: 0, table: "AzureDiagnostics",
		where: ` | where ResourceProvider == "MICROSOFT.KEYVAULT" and Category == "AuditEvent"`,
		project: `TimeGenerated, OperationName, requestUri_s, identity_claim_oid_g, identity_claim_appid_g, ` +
			`clientInfo_s, httpStatusCode_d, CorrelationId, ` +
			`clientRequestId = column_ifexists("clientRequestId_s", ""), _ResourceId`,
		uri: "requestUri_s", status: "httpStatusCode_d", caller: "identity_claim_oid_g",
		requests: []string{"CorrelationId", "clientRequestId"},
	}
	// resourceLog is the table of Key Vault's own ("resource specific").
	resourceLog = logForm{
		number: 1, table: "AZKVAuditLogs",
		project: `TimeGenerated, OperationName, RequestUri, Identity, CorrelationId, HttpStatusCode, Id, _ResourceId`,
		uri:     "RequestUri", status: "HttpStatusCode", identity: "Identity", id: "Id",
		requests: []string{"CorrelationId"},
	}
	logForms = []logForm{sharedLog, resourceLog}
)

// query asks for every use of a key from one time to just before another.
func (f logForm) query(from, to time.Time) string {
	return f.table + " | where TimeGenerated >= datetime(" + logTime(from) + ") and TimeGenerated < datetime(" +
		logTime(to) + ")" + f.where + " | where OperationName in (" + logUses + ") | project " + f.project
}

// logRow is one use of a key, as a vault's log has it.
type logRow struct {
	form      int
	at        time.Time
	operation string
	host      string   // of the request; "": not shown
	resource  string   // the vault's name by its resource id; "": not shown
	key       string   // in lower case; "": not shown, so it may be any
	version   string   // "": none was named
	caller    string   // object id, in lower case; "": the log names none
	requests  []string // client request ids, in lower case
	status    int      // of HTTP; 0: not shown
}

// worked reports whether the vault carried the use out for somebody who is known.
func (row logRow) worked() bool { return row.caller != "" && row.status >= 200 && row.status < 300 }

// logDepth is that of a table's own fields.
const logDepth = 3

// parse reads an answer. What is not exactly in the documented form is an error.
func (f logForm) parse(body []byte, from, to time.Time) ([]logRow, error) {
	var answer struct {
		Tables []logTable `json:"tables"`
		Error  *logFault  `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, badAnswerf("%v", err)
	}
	if answer.Error != nil {
		return nil, partialLog(*answer.Error)
	}
	if err := onlyOnce(body, logDepth); err != nil {
		return nil, err
	}
	if len(answer.Tables) != 1 || answer.Tables[0].Name != "PrimaryResult" {
		return nil, badAnswerf("it has not exactly one table PrimaryResult")
	}
	table := answer.Tables[0]
	if len(table.Rows) >= mostLogRows {
		return nil, errLogTooMuch
	}
	column := map[string]int{}
	for i, c := range table.Columns {
		if _, twice := column[c.Name]; twice {
			return nil, badAnswerf("it has the column %q twice", vault.OneLine(c.Name))
		}
		column[c.Name] = i
	}
	rows := make([]logRow, 0, len(table.Rows))
	for _, cells := range table.Rows {
		r := logReader{column: column, cells: cells}
		if len(cells) != len(table.Columns) {
			return nil, badAnswerf("a row has %d cells and not %d", len(cells), len(table.Columns))
		}
		row := f.row(&r)
		if r.err == nil && (row.at.Before(from) || !row.at.Before(to)) {
			r.err = badAnswerf("a row of %s is outside the time that keyd asked for", row.at.Format(time.RFC3339))
		}
		if r.err != nil {
			return nil, r.err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (f logForm) row(r *logReader) logRow {
	row := logRow{form: f.number, at: r.time("TimeGenerated"), operation: r.text("OperationName"),
		status: int(r.number(f.status)), resource: vaultInID(r.text("_ResourceId"))}
	for _, name := range f.requests {
		if id := strings.ToLower(r.text(name)); id != "" {
			row.requests = append(row.requests, id)
		}
	}
	if f.caller != "" {
		row.caller = strings.ToLower(r.text(f.caller))
	} else {
		row.caller = strings.ToLower(r.objectID(f.identity))
	}
	if !row.readURI(r.text(f.uri)) && f.id != "" {
		row.readURI(r.text(f.id))
	}
	return row
}

// readURI reads which key a request was for: https://HOST/keys/NAME[/VERSION][/OPERATION]. It reports whether the text
// names a key.
func (row *logRow) readURI(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return false
	}
	row.host = strings.ToLower(u.Hostname())
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	if slices.Contains(parts, "..") || slices.Contains(parts, ".") { // the vault may have gone another way
		return false
	}
	if len(parts) < 2 || !strings.EqualFold(parts[0], "keys") || !key.ValidName(parts[1]) {
		return false
	}
	row.key = strings.ToLower(parts[1])
	if len(parts) > 2 {
		// What is not a version's id names none: such as the operation, after a name alone.
		if id, err := key.ParseID(strings.ToLower(parts[2])); err == nil {
			row.version = string(id)
		}
	}
	return true
}

// of reports whether the row may be about a vault. A row that shows neither host nor resource may be about any.
func (row logRow) of(vaultURL string) bool {
	if row.host == "" && row.resource == "" {
		return true
	}
	host := strings.TrimPrefix(vaultURL, "https://")
	name, _, _ := strings.Cut(host, ".")
	label, _, _ := strings.Cut(row.host, ".")
	return row.host == host || label == name || row.resource == name
}

// vaultInID is the name of a vault in its resource id, in lower case; "" for what is no vault's.
func vaultInID(id string) string {
	_, name, found := strings.Cut(strings.ToLower(id), "/providers/microsoft.keyvault/vaults/")
	if !found || strings.Contains(name, "/") {
		return ""
	}
	return name
}

type logTable struct {
	Name    string `json:"name"`
	Columns []struct {
		Name string `json:"name"`
	} `json:"columns"`
	Rows [][]json.RawMessage `json:"rows"`
}

// logReader reads the cells of one row, and keeps the first error.
type logReader struct {
	column map[string]int
	cells  []json.RawMessage
	err    error
}

func (r *logReader) cell(name string, into any) {
	i, ok := r.column[name]
	if !ok {
		r.fail(badAnswerf("the column %s is missing", name))
		return
	}
	if err := json.Unmarshal(r.cells[i], into); err != nil {
		r.fail(badAnswerf("column %s: %v", name, err))
	}
}

func (r *logReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// text is "" for null.
func (r *logReader) text(name string) (s string) {
	r.cell(name, &s)
	return s
}

// number is 0 for null.
func (r *logReader) number(name string) (n float64) {
	r.cell(name, &n)
	return n
}

func (r *logReader) time(name string) (t time.Time) {
	r.cell(name, &t)
	if t.IsZero() {
		r.fail(badAnswerf("a row has no %s", name))
	}
	return t.UTC()
}

// objectID is the caller in an identity: {"claim":{"oid":…}}, as an object or as text that holds one.
func (r *logReader) objectID(name string) string {
	var raw json.RawMessage
	r.cell(name, &raw)
	var held string
	if json.Unmarshal(raw, &held) == nil {
		raw = json.RawMessage(held)
	}
	if len(raw) == 0 || r.err != nil {
		return ""
	}
	// Log Analytics' own names for the claim are short or long.
	var identity struct {
		Claim struct {
			OID  string `json:"oid"`
			Long string `json:"http://schemas.microsoft.com/identity/claims/objectidentifier"`
		} `json:"claim"`
	}
	if err := json.Unmarshal(raw, &identity); err != nil {
		r.fail(badAnswerf("column %s: %v", name, err))
	}
	switch short, long := identity.Claim.OID, identity.Claim.Long; {
	case short == "":
		return long
	case long != "" && !strings.EqualFold(short, long): // nobody knows which
		return ""
	default:
		return short
	}
}

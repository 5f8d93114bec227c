package emulator

import (
	"hash/fnv"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/emulator/arm"
)

// DefaultWorkspaceID is the Log Analytics workspace that gets every vault's audit log.
const DefaultWorkspaceID = "3f0c7a52-6d1e-4b7c-9a55-0e2d1c8b4f60"

// WorkspaceResourceID is its id in Resource Manager.
const WorkspaceResourceID = "/subscriptions/" + arm.Subscription +
	"/resourceGroups/emulator/providers/Microsoft.OperationalInsights/workspaces/emulator"

// LogTable is a form in which a workspace has audit logs, by the table's name.
type LogTable string

const (
	// AzureDiagnostics is the table that all services share.
	AzureDiagnostics LogTable = "AzureDiagnostics"
	// AZKVAuditLogs is Key Vault's own table.
	AZKVAuditLogs LogTable = "AZKVAuditLogs"
)

// Logs is what reaches the workspace, and when.
type Logs struct {
	delay time.Duration

	mu     sync.Mutex
	tables []LogTable
	gaps   []interval
	late   []lateness
	most   int // rows in an answer; 0: no limit
}

type interval struct{ from, to time.Time }

func (i interval) has(t time.Time) bool { return !t.Before(i.from) && t.Before(i.to) }

type lateness struct {
	interval
	by time.Duration
}

func newLogs(opts Options) *Logs {
	l := &Logs{delay: opts.LogDelay, tables: []LogTable{AzureDiagnostics, AZKVAuditLogs}}
	if l.delay == 0 {
		l.delay = 10 * time.Minute
	}
	return l
}

// Logs returns the workspace's log, to make it misbehave.
func (e *Emulator) Logs() *Logs { return e.logs }

// SetTables says which tables the workspace has. By default, it has both.
func (l *Logs) SetTables(tables ...LogTable) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tables = tables
}

// Lose makes the records of calls in an interval never arrive.
func (l *Logs) Lose(from, to time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gaps = append(l.gaps, interval{from, to})
}

// Hold makes the records of calls in an interval arrive later by some more.
func (l *Logs) Hold(from, to time.Time, by time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late = append(l.late, lateness{interval{from, to}, by})
}

// Truncate makes answers with more rows incomplete, and say so; 0 ends it.
func (l *Logs) Truncate(rows int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = rows
}

func (l *Logs) has(t LogTable) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.tables, t)
}

// arrival is when the record of a call reaches the workspace; false: never.
func (l *Logs) arrival(number uint64, at time.Time) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.ContainsFunc(l.gaps, func(g interval) bool { return g.has(at) }) {
		return time.Time{}, false
	}
	h := fnv.New64a()
	h.Write([]byte(strconv.FormatUint(number, 10)))
	arrives := at
	if l.delay > 0 { // each record takes its own time, so that they arrive in no order
		arrives = at.Add(time.Duration(h.Sum64() % uint64(l.delay)))
	}
	for _, late := range l.late {
		if late.has(at) {
			arrives = arrives.Add(late.by)
		}
	}
	return arrives, true
}

// auditNames are the operations that a query can ask for, as the audit log names them.
var auditNames = map[string]string{
	opWrap: "KeyWrap", opUnwrap: "KeyUnwrap", opEncrypt: "KeyEncrypt", opDecrypt: "KeyDecrypt", opSign: "KeySign",
}

// audited is one record of the audit log.
type audited struct {
	RequestLog
	number uint64
	name   string
	vault  *Vault
}

// audit are the records of calls in an interval that have arrived, failed calls included.
func (e *Emulator) audit(during interval) (records []audited) {
	now := e.opts.Now()
	e.requests.each(func(n uint64, r RequestLog) {
		v, name := e.vaults[r.Host], auditNames[r.Operation]
		if v == nil || name == "" || r.Caller == "" || r.Done == 0 || !during.has(r.Time) {
			return
		}
		if at, arrives := e.logs.arrival(n, r.Time); arrives && !at.After(now) {
			records = append(records, audited{r, n, name, v})
		}
	})
	return records
}

// uri is the call's URL.
func (a audited) uri() string {
	uri := "https://" + a.Host + a.Path
	if a.Query != "" {
		uri += "?" + a.Query
	}
	return uri
}

// correlation is the client's request id, if it is a GUID: that is what Microsoft documents. Without one, it is the
// service's own.
func (a audited) correlation() string {
	if guidForm.MatchString(a.ClientRequestID) {
		return a.ClientRequestID
	}
	return identityOf("", "request "+strconv.FormatUint(a.number, 10), "")
}

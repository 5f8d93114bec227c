package consumer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/keyd-project/keyd/internal/vault"
)

// LogError is a query of a vault's audit log that failed.
type LogError struct {
	Workspace string
	Status    int    // of HTTP; 0 if there was no answer, or keyd did not understand it
	Code      string // of Azure, such as "InsufficientAccessError"
	Message   string // of Azure, in one line and truncated
	Hint      string // what to do; it may be empty

	err error
}

// Error is one line: what was asked, what happened, what to do.
func (e *LogError) Error() string {
	text := fmt.Sprintf("ask the workspace %s for the vault's audit log: ", e.Workspace) +
		outcome(e.Status, e.Code, e.Message, e.err)
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Unwrap returns the cause.
func (e *LogError) Unwrap() error { return e.err }

var (
	// errLogTooMuch: the workspace cut the result off, or the answer is too long. keyd asks for less time at once.
	errLogTooMuch = errors.New("there is more than one answer holds")
	// errNoLogTable: the workspace has no table of this form, so no vault sends its log there in this form.
	errNoLogTable = errors.New("the workspace has no such table")
)

// logFault is an error as Log Analytics writes it (OneAPI).
type logFault struct {
	Code    string     `json:"code"`
	Message string     `json:"message"`
	Inner   *logFault  `json:"innererror"`
	Details []logFault `json:"details"`
}

// walk calls fn for the fault and for all that is in it.
func (f logFault) walk(depth int, fn func(logFault)) {
	if depth > 8 {
		return
	}
	fn(f)
	if f.Inner != nil {
		f.Inner.walk(depth+1, fn)
	}
	for _, d := range f.Details {
		d.walk(depth+1, fn)
	}
}

// says is everything that the fault says, in one line.
func (f logFault) says() string {
	var said []string
	f.walk(0, func(f logFault) {
		if f.Message != "" {
			said = append(said, f.Message)
		}
	})
	return vault.OneLine(strings.Join(said, ": "))
}

// cause tells the faults apart that keyd has an answer to; nil for the others.
func (f logFault) cause() error {
	var found error
	f.walk(0, func(f logFault) {
		switch {
		case strings.Contains(f.Message, "Failed to resolve"): // a table, or a column that comes with the first row
			found = errNoLogTable
		case f.Code == "-2133196797", // 0x80DA0003, E_QUERY_RESULT_SET_TOO_LARGE
			strings.Contains(f.Message, "E_QUERY_RESULT_SET_TOO_LARGE"),
			strings.Contains(f.Message, "80DA0003"), f.Code == "ResponsePayloadTooLarge":
			found = errLogTooMuch
		}
	})
	return found
}

// refusedLog is the error of an answer that is not 200.
func refusedLog(resp *http.Response, body []byte) error {
	var wire struct {
		Error logFault `json:"error"`
	}
	if json.Unmarshal(body, &wire) != nil {
		wire.Error = logFault{}
	}
	return &LogError{
		Status: resp.StatusCode, Code: vault.OneLine(wire.Error.Code), Message: wire.Error.says(),
		err: wire.Error.cause(),
	}
}

// partialLog is the error of an answer that is 200 and says that it is incomplete.
func partialLog(f logFault) error {
	if cause := f.cause(); cause != nil {
		return cause
	}
	return &LogError{
		Status: http.StatusOK, Code: vault.OneLine(f.Code), Message: f.says(),
		Hint: "the answer is incomplete, so keyd does not use it, and asks again by itself",
	}
}

// failLog makes a *LogError of whatever kept a query from succeeding.
func failLog(workspace string, form logForm, err error) error {
	var e *LogError
	if !errors.As(err, &e) {
		e = &LogError{err: err}
	}
	e.Workspace = workspace
	if e.Hint == "" {
		e.Hint = e.hint(form)
	}
	return e
}

// hint says what an operator can do about e; "" if keyd knows no advice.
func (e *LogError) hint(form logForm) string {
	bad := new(badAnswer)
	switch {
	case errors.Is(e.err, errNoLogTable):
		return "the table " + form.table + " comes with the first log that a vault sends in this form"
	case errors.Is(e.err, errLogTooMuch):
		return "a minute of the log is too much for keyd to read: give the vault a workspace of its own"
	case e.Status == 0 && vault.Advice(e.err) != "":
		return vault.Advice(e.err)
	case errors.As(e.err, &bad):
		return "is a proxy answering in the place of Log Analytics? Check HTTPS_PROXY and NO_PROXY"
	case e.Status == http.StatusForbidden:
		return "let keyd's identity read the workspace; a new assignment takes a few minutes to work: " +
			`az role assignment create --role "Log Analytics Reader" --assignee-object-id OBJECT_ID ` +
			`--assignee-principal-type ServicePrincipal --scope "$(az monitor log-analytics workspace list ` +
			`--query "[?customerId=='` + e.Workspace + `'].id" --output tsv)" (keyd check shows the object id)`
	case e.Status == http.StatusNotFound:
		return "write the workspace's own id into evidence: workspace: in keyd's configuration; it is what this " +
			"prints: az monitor log-analytics workspace show --resource-group GROUP --workspace-name NAME " +
			"--query customerId --output tsv"
	case e.Status == http.StatusUnauthorized:
		return "Azure did not accept the token: check that the credential belongs to the tenant of the workspace " +
			"(azure.tenant_id), azure.cloud, and this machine's clock"
	case e.Status == http.StatusTooManyRequests:
		return "Azure throttles keyd's queries; keyd asks again by itself"
	case e.Status == http.StatusBadRequest:
		return "the workspace does not take keyd's query: report this to keyd's makers"
	case e.Status >= http.StatusInternalServerError:
		return "keyd asks again by itself"
	}
	return ""
}

// noVaultLog is the error of a workspace to which no vault sends its log.
func noVaultLog(workspace string) error {
	return &LogError{
		Workspace: workspace, err: errNoLogTable,
		Hint: "it has neither " + resourceLog.table + " nor " + sharedLog.table +
			", so no vault sends its log there: az monitor diagnostic-settings create --name keyd " +
			"--resource VAULT_ID --workspace WORKSPACE_RESOURCE_ID " +
			`--logs '[{"category":"AuditEvent","enabled":true}]' --export-to-resource-specific true`,
	}
}

//go:build clients

package clients

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

//go:embed operations.txt
var operationsText string

// What an operation may result in, besides the service's "STATUS CODE INNER".
const (
	succeeds = "ok"
	absent   = "absent" // the client does not have the operation
	says     = "says: " // followed by words of a refusal by the client or the sign-in instead of the vault
	notThere = "-"      // the operation does not exist in this profile
)

// operation is a line of operations.txt.
type operation struct {
	name   string
	expect []string // for each of profiles()
}

func operations(t *testing.T) (table []operation) {
	t.Helper()
	for line := range strings.Lines(operationsText) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, " | ")
		if len(fields) == 2 {
			fields = append(fields, slices.Repeat(fields[1:], len(profiles())-1)...)
		}
		if len(fields) != 1+len(profiles()) {
			t.Fatalf("operations.txt: %q", line)
		}
		table = append(table, operation{fields[0], fields[1:]})
	}
	return table
}

// departure is a deviation of one client from operations.txt.
type departure struct {
	client, operation, profile string // profile "": any
	expect                     string
	why                        string // for the table in the document
}

func departures() []departure {
	const asksNoClaims = "that version does not know claims challenges"
	const deserialises = "it cannot read a 401 without a body, and fails with a TypeError of its own"
	const hasNoName = "that version has no name for the algorithm"
	return []departure{
		{"py", "wrapKey CKM_AES_KEY_WRAP_PAD", "managedhsm", absent, hasNoName},
		{"py", "unwrapKey CKM_AES_KEY_WRAP_PAD", "managedhsm", absent, hasNoName},
		{"py", "sign HS256", "managedhsm", absent, hasNoName},
		{"py", "verify HS256", "managedhsm", absent, hasNoName},
		{"go", "page by more than 25", "", absent, "azkeys has no page size"},
		{"js", "page by more than 25", "", "400 BadParameter", "its pager reports the code, with a message of its own"},
		{"py", "call again after the tokens were revoked", "premium", "401 Unauthorized", asksNoClaims},
		{"py", "call again after the tokens were revoked", "standard", "401 Unauthorized", asksNoClaims},
		{"py", "call again after the tokens were revoked", "managedhsm", "401", asksNoClaims},
		{"js", "call with a token that is none", "managedhsm", says + "Cannot read properties of undefined",
			deserialises},
		{"js", "call with a token for another audience", "managedhsm", says + "Cannot read properties of undefined",
			deserialises},
	}
}

// expected returns an operation's expected result for one client, and the departure if
// it is one.
func (o operation) expected(client string, profile int) (string, *departure) {
	for _, d := range departures() {
		if d.client == client && d.operation == o.name && (d.profile == "" || d.profile == profiles()[profile].Name) {
			return d.expect, &d
		}
	}
	return o.expect[profile], nil
}

// is reports whether a result is the one that operations.txt expects.
func (r result) is(expect string) bool {
	if words, ok := strings.CutPrefix(expect, says); ok {
		return r.Outcome == "error" && strings.Contains(r.Error.Message, words)
	}
	return r.came() == expect
}

// came returns the result of an operation in the words of operations.txt.
func (r result) came() string {
	if r.Outcome != "error" || r.Error.Status == 0 {
		return r.Outcome
	}
	said := r.Error.service()
	return strings.Join(strings.Fields(fmt.Sprint(r.Error.Status, " ", said.code, " ", said.inner)), " ")
}

// serviceError is the service's error, as far as the SDK passes it on.
type serviceError struct{ code, inner, message string }

// service reads from the body what the SDK does not report itself.
func (e sdkReport) service() serviceError {
	said := serviceError{e.Code, e.Inner, e.Message}
	switch {
	case e.Body == "" && e.Code == "":
		return serviceError{} // nothing but the status; the message is the SDK's
	case e.Body != "":
		var wire struct {
			Error struct {
				Code, Message string
				InnerError    struct{ Code string }
			}
		}
		if err := json.Unmarshal([]byte(e.Body), &wire); err != nil {
			return serviceError{message: "not JSON: " + e.Body}
		}
		said = serviceError{wire.Error.Code, wire.Error.InnerError.Code, wire.Error.Message}
	}
	said.message = ids.ReplaceAllString(said.message, "ID")
	return said
}

// ids are new each time: versions and activity ids.
var ids = regexp.MustCompile(`[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

package arm

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// graphPath is Resource Graph's only type.
const graphPath = "Microsoft.ResourceGraph/resources"

// IsGraph reports whether a path is Resource Graph's.
func IsGraph(path string) bool { return strings.EqualFold(path, "/providers/"+graphPath) }

// graphQuery is the one query that Resource Graph answers here: there is no Kusto in the emulator.
var graphQuery = regexp.MustCompile(`^resources \| where tostring\(properties\) contains "([^"]+)" \| ` +
	`project id, type, name, location, subscriptionId, properties$`)

const maxGraphPage = 1000

type graphRequest struct {
	Subscriptions []string `json:"subscriptions"`
	Query         string   `json:"query"`
	Options       struct {
		Top       *int   `json:"$top"`
		SkipToken string `json:"$skipToken"`
	} `json:"options"`
}

type graphAnswer struct {
	TotalRecords int        `json:"totalRecords"`
	Count        int        `json:"count"`
	Data         []document `json:"data"`
	Facets       []any      `json:"facets"`
	Truncated    string     `json:"resultTruncated"` // "true" while there are more
	SkipToken    string     `json:"$skipToken,omitempty"`
}

// graph answers a query. It leaves out, and does not mention, what the caller may not read.
func (s *Service) graph(p place, r Request) (Response, error) {
	if r.Method != http.MethodPost || !p.all() {
		return Response{}, notAllowed(r.Method)
	}
	var q graphRequest
	if err := json.Unmarshal(r.Body, &q); err != nil {
		return Response{}, badGraph("InvalidRequestBody", err.Error())
	}
	m := graphQuery.FindStringSubmatch(q.Query)
	if m == nil {
		return Response{}, badGraph(
			"InvalidQuery",
			"Query is invalid. Please refer to the documentation for the Azure "+
				"Resource Graph service and fix the error before retrying.",
		)
	}
	top := maxGraphPage
	if t := q.Options.Top; t != nil {
		if *t < 1 || *t > maxGraphPage {
			return Response{}, badGraph("InvalidTop", "The value of $top must be from 1 to 1000.")
		}
		top = *t
	}
	text, _ := base64.StdEncoding.DecodeString(q.Options.SkipToken)
	from, _ := strconv.Atoi(string(text))
	found := s.indexed(r.Caller, q.Subscriptions, m[1])
	if q.Options.SkipToken != "" && (from < 1 || from > len(found)) {
		return Response{}, badGraph("InvalidSkipToken", "The skip token is not one of mine.")
	}
	to := min(len(found), from+top)
	a := graphAnswer{TotalRecords: len(found), Count: to - from, Data: found[from:to], Facets: []any{},
		Truncated: "false"}
	if to < len(found) {
		a.Truncated, a.SkipToken = "true", base64.StdEncoding.EncodeToString([]byte(strconv.Itoa(to)))
	}
	return Response{Status: http.StatusOK, Body: a, Header: GraphQuota(14)}, nil
}

// GraphQuota is the headers by which Resource Graph tells how many queries it will still answer in the next seconds.
func GraphQuota(left int) map[string]string {
	return map[string]string{
		"X-Ms-User-Quota-Remaining":    strconv.Itoa(left),
		"X-Ms-User-Quota-Resets-After": "00:00:05",
	}
}

func badGraph(code, message string) error {
	return &Error{Status: http.StatusBadRequest, Code: "BadRequest",
		Message: "Please provide below info when asking for support.",
		Details: []Detail{{Code: code, Message: message}}}
}

// indexed are the resources whose properties contain a text, except child resources, which are not in the index.
func (s *Service) indexed(caller string, subscriptions []string, text string) []document {
	found := []document{}
	for _, d := range s.everything() {
		id := d.text("id")
		subscription, _, _ := strings.Cut(strings.TrimPrefix(id, "/subscriptions/"), "/")
		properties, err := json.Marshal(d.sub("properties"))
		asked := len(subscriptions) == 0 ||
			slices.ContainsFunc(subscriptions, func(o string) bool { return strings.EqualFold(o, subscription) })
		if err != nil || !asked || !strings.Contains(strings.ToLower(string(properties)), strings.ToLower(text)) ||
			s.permit(caller, d.text("type")+"/read", id) != nil {
			continue
		}
		found = append(found, document{"id": id, "type": strings.ToLower(d.text("type")), "name": d.text("name"),
			"location": region(
				d.text("location"),
			), "subscriptionId": subscription, "properties": d.sub("properties")})
	}
	slices.SortFunc(found, func(a, b document) int { return cmp.Compare(a.text("id"), b.text("id")) })
	return found
}

// everything is all resources that are nobody's children.
func (s *Service) everything() (all []document) {
	for _, c := range s.all() {
		if c.kind.parent == nil && !strings.Contains(c.id, "#") {
			c.mu.Lock()
			all = append(all, c.resource("Succeeded"))
			c.mu.Unlock()
		}
	}
	for _, v := range s.resources() {
		all = append(all, v.shown())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.others {
		all = append(all, r.shown())
	}
	return all
}

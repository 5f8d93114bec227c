package emulator_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
)

const graphURL = "https://management.azure.com/providers/Microsoft.ResourceGraph/resources?api-version=2022-10-01"

// finds is the query that keyd sends.
func finds(host string) string {
	return `resources | where tostring(properties) contains "` + host +
		`" | project id, type, name, location, subscriptionId, properties`
}

type graphPage struct {
	TotalRecords, Count int
	Data                []struct{ ID, Type, Name, Location, SubscriptionID string }
	ResultTruncated     string
	SkipToken           string `json:"$skipToken"`
}

func (m manager) graph(body any) (*http.Response, string, graphPage) {
	m.t.Helper()
	text, err := json.Marshal(body)
	must(m.t, err)
	res, answer := do(m.t, m.Emulator, "POST", graphURL, bearer(m.token), string(text))
	var page graphPage
	must(m.t, json.Unmarshal([]byte(answer), &page))
	return res, answer, page
}

// search follows every page.
func (m manager) search(host string, top int, subscriptions ...string) (names []string, pages int) {
	m.t.Helper()
	options := map[string]any{"$top": top}
	for {
		res, text, page := m.graph(map[string]any{"query": finds(host), "subscriptions": subscriptions,
			"options": options})
		if res.StatusCode != 200 || page.Count != len(page.Data) ||
			(page.ResultTruncated == "true") != (page.SkipToken != "") {
			m.t.Fatalf("%d %s", res.StatusCode, text)
		}
		pages++
		for _, d := range page.Data {
			names = append(names, d.Name)
		}
		if page.SkipToken == "" {
			return names, pages
		}
		options["$skipToken"] = page.SkipToken
	}
}

// graphFindsNoChildren tests a fact.
func graphFindsNoChildren(t *testing.T) {
	t.Helper()
	s := newEstate(t, emulator.Options{})
	s.rotate()
	s.make("storage=st,key=KEY", "scope=st/s,key=KEY", "cosmos=db,key=KEY", "sql=sql,key=KEY", "sqldb=sql/d,key=KEY",
		"acr=acr,key=KEY", "eventhubs=ns,key=KEY", "postgres=pg,key=KEY", "ai=ai,key=KEY", "disk=des,key=KEY")
	s.Consumers().AddResource(arm.Resource{ID: group + "Microsoft.DataFactory/factories/df", Name: "df",
		Type: "Microsoft.DataFactory/factories", Location: "West Europe",
		Fields: map[string]any{"properties": map[string]any{"encryption": map[string]any{
			"vaultBaseUrl": "https://" + strings.ToUpper(protected)}}}})
	m := newManager(t, s.Emulator, rand.Text())
	names, pages := m.search(protected, 3)
	slices.Sort(names)
	want := []string{"acr", "ai", "contoso-safe", "db", "des", "df", "ns", "pg", "sql", "st"}
	if !slices.Equal(names, want) || pages != 4 {
		t.Errorf("%d pages with %v, want %v", pages, names, want)
	}
	if names, _ := m.search(protected, 1000, subscription); fmt.Sprint(names) != "[df]" {
		t.Errorf("of one subscription: %v", names)
	}
	if names, _ := m.search("elsewhere.vault.azure.net", 1000); len(names) != 0 {
		t.Errorf("of a vault that nobody uses: %v", names)
	}
	_, text, page := m.graph(map[string]any{"query": finds(protected), "subscriptions": []string{subscription}})
	if page.Data[0].Type != "microsoft.datafactory/factories" || page.Data[0].Location != "westeurope" ||
		page.Data[0].SubscriptionID != subscription {
		t.Errorf("%s", text)
	}
	if status, text := m.do("GET", page.Data[0].ID, ""); status != 200 || !strings.Contains(text, "vaultBaseUrl") {
		t.Errorf("what it found: %d %s", status, text)
	}
}

// graphIsSilentOfTheRest tests a fact.
func graphIsSilentOfTheRest(t *testing.T) {
	t.Helper()
	s := newEstate(t, emulator.Options{ResourceRoles: true})
	s.rotate()
	s.make("storage=st,key=KEY", "cosmos=db,key=KEY")
	id := rand.Text()
	m := newManager(t, s.Emulator, id)
	if names, _ := m.search(protected, 1000); len(names) != 0 {
		t.Errorf("without a role: %v", names)
	}
	must(t, s.Consumers().Assign(arm.RoleAssignment{Principal: id, Role: "Reader", Scope: s.report("st").ID}))
	if names, _ := m.search(protected, 1000); fmt.Sprint(names) != "[st]" {
		t.Errorf("with a role on one: %v", names)
	}
}

func TestResourceGraphAnswersOneQuery(t *testing.T) {
	m := newManager(t, newEstate(t, emulator.Options{}).Emulator, rand.Text())
	bad := func(body map[string]any) {
		t.Helper()
		if res, text, _ := m.graph(body); res.StatusCode != 400 || !strings.Contains(text, `"code":"Invalid`) {
			t.Errorf("%v: %d %s", body, res.StatusCode, text)
		}
	}
	for _, query := range []string{"resources", finds(protected) + " | take 1", finds(`a" or true or "b`)} {
		bad(map[string]any{"query": query})
	}
	for _, options := range []map[string]any{{"$top": 0}, {"$top": 1001}, {"$skipToken": "x"}} {
		bad(map[string]any{"query": finds(protected), "options": options})
	}
}

func TestResourceGraphTellsItsQuota(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	m := newManager(t, s.Emulator, rand.Text())
	s.Fail(emulator.Rule{Operation: "graph", Status: 429, Count: 1})
	for _, want := range []struct {
		status int
		left   string
	}{{429, "0"}, {200, "14"}} {
		res, _, _ := m.graph(map[string]any{"query": finds(protected)})
		if res.StatusCode != want.status || res.Header.Get("X-Ms-User-Quota-Remaining") != want.left ||
			res.Header.Get("X-Ms-User-Quota-Resets-After") != "00:00:05" {
			t.Errorf("%d %v, want %+v", res.StatusCode, res.Header, want)
		}
	}
}

package consumer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

const (
	graph         = "/providers/Microsoft.ResourceGraph/resources"
	subscriptions = "/subscriptions"
	permissions   = "/subscriptions/" + sub + "/providers/Microsoft.Authorization/permissions"
)

// discovering is a key in one vault whose consumers keyd also searches.
func discovering(ids ...string) key.Policy {
	p := cmk(ids...)
	p.Vaults, p.Discover = p.Vaults[:1], true
	return p
}

// row is a resource as a search finds it.
func row(id, properties string) string {
	return `{"id":"` + id + `","type":"x","properties":` + properties + `}`
}

func rows(all ...string) string {
	return fmt.Sprintf(`{"totalRecords":%d,"count":%d,"resultTruncated":"false","data":[%s],"facets":[]}`, len(all),
		len(all), strings.Join(all, ","))
}

// estate is a cloud in which a search finds these rows.
func estate(all ...string) *cloud {
	return newCloud(map[string]string{
		subscriptions: `{"value":[{"subscriptionId":"SUB","state":"Enabled"}]}`, graph: rows(all...),
		permissions: `{"value":[{"actions":["*/read"],"notActions":[]}]}`,
		cosmos:      account(cosmos, newID),
	})
}

// Properties of a type that keyd does not know may have names that differ in case.
func TestASearchTakesPropertiesAsTheyAre(t *testing.T) {
	c := estate(row(group+"Microsoft.Logic/workflows/w", `{"a":"WEU/keys/cmk","A":1}`))
	u := watcher(t, c, consumer.Config{}).Look(t.Context(), discovering())
	if len(u.Unseen) > 0 || len(u.Consumers) != 1 {
		t.Errorf("%+v", u)
	}
}

const cosmosProperties = `{"keyVaultKeyUri":"https://contoso-weu.vault.azure.net/keys/cmk"}`

func TestASearchFindsConsumersAndAsksEach(t *testing.T) {
	other := accounts(1)[0]
	c := estate(row(cosmos, cosmosProperties),
		row(other, `{"keyVaultKeyUri":"https://contoso-weu.vault.azure.net/keys/theirs"}`),
		row(group+"Microsoft.KeyVault/vaults/contoso-weu", `{"vaultUri":"https://contoso-weu.vault.azure.net/"}`),
		row(group+"Microsoft.Synapse/workspaces/syn-1", `{"encryption":{"cmk":{"key":{"keyVaultUrl":
			"https://contoso-weu.vault.azure.net/keys/CMK"}}}}`),
		row(group+"Microsoft.Web/sites/app", `{"vault":"https://contoso-weu.vault.azure.net/"}`))
	c.set(other, strings.ReplaceAll(account(other, newID), "keys/cmk", "keys/theirs"))
	var asked map[string]any
	c.hook = func(r *http.Request) *http.Response {
		if r.Method == http.MethodPost {
			_ = json.NewDecoder(r.Body).Decode(&asked)
		}
		return nil
	}
	u := watcher(t, c, consumer.Config{}).Look(t.Context(), discovering())
	wantSeen(
		t,
		u.Consumers,
		record.ConsumerSeen{
			ID:      cosmos,
			Service: "Cosmos DB account",
			Vault:   weu,
			Key:     "cmk",
			Uses:    newID,
			Follows: true,
			Since:   today,
			Callers: []string{system},
		},
		record.ConsumerSeen{ID: group + "Microsoft.Synapse/workspaces/syn-1", Service: "microsoft.synapse/workspaces",
			Err: fmt.Errorf("some")},
	)
	wantErr(t, u.Consumers[1].Err, "found, not understood")
	if len(u.Unseen) > 0 {
		t.Errorf("unseen: %q", u.Unseen)
	}
	if diff := cmp.Diff(map[string]any{
		"subscriptions": []any{sub},
		"query": `resources | where tostring(properties) contains "contoso-weu.vault.azure.net" ` +
			`| project id, type, name, location, subscriptionId, properties`,
		"options": map[string]any{"resultFormat": "objectArray", "$top": 200.0},
	}, asked); diff != "" {
		t.Errorf("the question (-want +got):\n%s", diff)
	}
	if calls := c.sent(); len(calls) != 5 { // subscriptions, permissions, search, two accounts
		t.Errorf("keyd sent %q", calls)
	}
}

func TestASearchCostsACallForEachVault(t *testing.T) {
	c := estate()
	p := cmk()
	p.Discover = true
	watcher(t, c, consumer.Config{}).Look(t.Context(), p)
	want := []string{"GET " + subscriptions, "GET " + permissions, "POST " + graph, "POST " + graph}
	if diff := cmp.Diff(want, c.sent()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// What a role takes away besides reading does not matter to a search.
func TestAContributorSearchesAll(t *testing.T) {
	c := estate()
	c.set(permissions, `{"value":[{"actions":["Microsoft.Sql/*"]},{"actions":["*"],"notActions":[
		"Microsoft.Authorization/*/Delete","Microsoft.Authorization/*/Write",
		"Microsoft.Authorization/elevateAccess/Action"]}]}`)
	if u := watcher(t, c, consumer.Config{}).Look(t.Context(), discovering()); len(u.Unseen) > 0 {
		t.Errorf("unseen: %q", u.Unseen)
	}
}

func TestASearchWithoutSubscriptionsIsSaid(t *testing.T) {
	c := estate()
	w := watcher(t, c, consumer.Config{})
	w.Use(clientOf(t, c), nil)
	u := w.Look(t.Context(), discovering())
	if len(u.Unseen) != 1 || !strings.Contains(u.Unseen[0], "azure.subscriptions") {
		t.Errorf("%q", u.Unseen)
	}
}

func TestAConsumerThatIsConfiguredAndFoundIsOne(t *testing.T) {
	c := estate(row(strings.ToLower(cosmos), cosmosProperties))
	u := watcher(t, c, consumer.Config{}).Look(t.Context(), discovering(cosmos))
	if len(u.Consumers) != 1 || !u.Consumers[0].Configured || u.Consumers[0].ID != cosmos {
		t.Errorf("%+v", u.Consumers)
	}
}

func TestASearchIsReadToItsEnd(t *testing.T) {
	c := estate()
	pages := 0
	c.hook = func(r *http.Request) *http.Response {
		if r.Method != http.MethodPost {
			return nil
		}
		pages++
		var body struct {
			Options map[string]any `json:"options"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		if body.Options["$skipToken"] == "next" {
			return answer(r, http.StatusOK, `{"totalRecords":1,"resultTruncated":"false","data":[`+
				row(cosmos, cosmosProperties)+`]}`)
		}
		return answer(r, http.StatusOK, `{"totalRecords":1,"resultTruncated":"true","$skipToken":"next","data":[]}`)
	}
	u := watcher(t, c, consumer.Config{}).Look(t.Context(), discovering())
	if pages != 2 || len(u.Consumers) != 1 || len(u.Unseen) > 0 {
		t.Errorf("%d pages, %+v", pages, u)
	}
}

func TestWhatASearchDoesNotShowIsSaid(t *testing.T) {
	found := row(cosmos, cosmosProperties)
	for name, try := range map[string]struct {
		change map[string]string
		status int
		says   string
	}{
		"a subscription that is not shown": {change: map[string]string{
			subscriptions: `{"value":[{"subscriptionId":"another"}]}`},
			says: "az role assignment create --role Reader"},
		"subscriptions that cannot be listed": {change: map[string]string{subscriptions: `{}`},
			says: "value is missing"},
		"a right to read only some types": {change: map[string]string{
			permissions: `{"value":[{"actions":["Microsoft.Storage/*/read","*/write"],"notActions":[]}]}`},
			says: "may not read everything in subscription " + sub},
		"a right to read all but some types": {change: map[string]string{
			permissions: `{"value":[{"actions":["*"],"notActions":["Microsoft.Sql/*"]}]}`},
			says: "may not read everything in subscription " + sub},
		"rights that are not shown": {change: map[string]string{permissions: `{"value":[{"actions":"*"}]}`},
			says: "list what keyd may do there"},
		"a result that was cut": {change: map[string]string{
			graph: `{"totalRecords":1,"resultTruncated":"true","data":[` + found + `]}`}, says: "the result was cut"},
		"a result with fewer rows than it says": {change: map[string]string{
			graph: `{"totalRecords":7,"resultTruncated":"false","data":[` + found + `]}`}, says: "it shows 1 of 7"},
		"a row that comes twice in the place of another": {change: map[string]string{graph: rows(found, found)},
			says: "it shows 1 of 2"},
		"rows that are there twice": {change: map[string]string{
			graph: `{"totalRecords":0,"data":[` + found + `],"data":[]}`}, says: `the field "data" twice`},
		"a result without a number": {change: map[string]string{graph: `{"data":[` + found + `]}`},
			says: "totalRecords is missing"},
		"a row without an id": {change: map[string]string{graph: rows(`{"properties":{}}`)},
			says: "not the id of a resource"},
		"an endless result": {change: map[string]string{
			graph: `{"totalRecords":9,"$skipToken":"x","data":[]}`}, says: "more than 100 pages"},
	} {
		t.Run(name, func(t *testing.T) {
			c := estate(found)
			for path, body := range try.change {
				c.set(path, body)
			}
			u := watcher(t, c, consumer.Config{}).Look(t.Context(), discovering())
			if len(u.Unseen) != 1 {
				t.Fatalf("unseen: %q", u.Unseen)
			}
			wantErr(t, fmt.Errorf("%s", u.Unseen[0]), try.says)
		})
	}
}

// A consumer that the search found and that cannot be asked counts for the keys that its properties name.
func TestAFoundConsumerThatCannotBeAskedCountsForItsKey(t *testing.T) {
	c := estate(row(cosmos, cosmosProperties))
	c.hook = func(r *http.Request) *http.Response {
		if strings.EqualFold(r.URL.Path, cosmos) {
			return answer(r, http.StatusForbidden, `{"error":{"code":"AuthorizationFailed","message":"no"}}`)
		}
		return nil
	}
	w := watcher(t, c, consumer.Config{})
	if u := w.Look(t.Context(), discovering()); len(u.Consumers) != 1 || u.Consumers[0].Err == nil {
		t.Errorf("%+v", u.Consumers)
	}
	other := discovering()
	other.Key = "other"
	if u := w.Look(t.Context(), other); len(u.Consumers) != 0 {
		t.Errorf("another key of the vault: %+v", u.Consumers)
	}
}

// A resource may come back from a backup, under the version that it used.
func TestAConsumerThatWasFoundOnceIsNotForgotten(t *testing.T) {
	registry := samples()["container registry"]
	found := row(registry.id, `{"key":"cmk"}`)
	vanish := func(c *cloud) { delete(c.answers, strings.ToLower(registry.id)) }
	move := func(c *cloud) {
		c.set(registry.id, replace(t, registry.answers[registry.id], "keys/cmk", "keys/other"))
	}
	for name, try := range map[string]struct {
		leave   func(*cloud)
		backups time.Duration
		after   time.Duration
		counts  bool
	}{
		"it vanished a month ago":               {vanish, 0, 30 * 24 * time.Hour, true},
		"it vanished long ago":                  {vanish, 0, 32 * 24 * time.Hour, false},
		"it is set to another key since a week": {move, 0, 7 * 24 * time.Hour, true},
		"it has long been set to another key":   {move, 0, 32 * 24 * time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			at, kept := &clock{today}, &ledger{}
			c := estate(found)
			c.set(registry.id, registry.answers[registry.id])
			p := discovering()
			p.Retire.Backups = try.backups
			if u := watcher(t, c, consumer.Config{Clock: at.Now, Ledgers: kept}).Look(t.Context(), p); len(
				u.Consumers,
			) != 1 {
				t.Fatalf("%+v", u)
			}
			try.leave(c)
			c.set(graph, rows())
			at.now = at.now.Add(try.after)
			w := watcher(t, c, consumer.Config{Clock: at.Now, Ledgers: kept}) // after a restart
			u := w.Look(t.Context(), p)
			if counts := len(u.Consumers) == 1 && u.Consumers[0].Err != nil; counts != try.counts {
				t.Errorf("it counts: %v; %+v", counts, u.Consumers)
			}
		})
	}
}

// Resource Manager also answers 404 where it does not know the form of a part, or where another resource is gone.
func TestOnlyAResourceThatIsGoneItselfIsForgotten(t *testing.T) {
	account := samples()["storage account"]
	scopes := strings.ToLower(storage) + "/encryptionscopes"
	for name, try := range map[string]struct {
		path, code string
		counts     bool
	}{
		"it is gone itself":                   {strings.ToLower(storage), "ResourceNotFound", false},
		"its group is gone":                   {strings.ToLower(storage), "ResourceGroupNotFound", false},
		"its form is not known":               {strings.ToLower(storage), "NoRegisteredProviderFound", true},
		"its subscription is not shown":       {strings.ToLower(storage), "SubscriptionNotFound", true},
		"its scopes cannot be found":          {scopes, "ResourceNotFound", true},
		"the form of its scopes is not known": {scopes, "InvalidResourceType", true},
	} {
		t.Run(name, func(t *testing.T) {
			at := &clock{today}
			c := estate(row(storage, `{"key":"cmk"}`))
			for path, body := range account.answers {
				c.set(path, body)
			}
			w := watcher(t, c, consumer.Config{Clock: at.Now})
			w.Look(t.Context(), discovering())
			c.set(graph, rows())
			c.hook = func(r *http.Request) *http.Response {
				if strings.ToLower(r.URL.Path) != try.path {
					return nil
				}
				return answer(r, http.StatusNotFound, `{"error":{"code":"`+try.code+`","message":"no"}}`)
			}
			for range 3 {
				at.now = at.now.Add(40 * 24 * time.Hour)
				u := w.Look(t.Context(), discovering())
				if counts := len(u.Consumers) == 1 && u.Consumers[0].Err != nil; counts != try.counts {
					t.Errorf("it counts: %v; %+v", counts, u.Consumers)
				}
			}
		})
	}
}

// As long as a search finds a resource, no look leaves it out, whatever Resource Manager says of it.
func TestWhatASearchStillFindsCounts(t *testing.T) {
	at := &clock{today}
	c := estate(row(cosmos, cosmosProperties))
	w := watcher(t, c, consumer.Config{Clock: at.Now})
	p := discovering()
	p.Retire.Backups = 24 * time.Hour
	w.Look(t.Context(), p)
	c.remove(cosmos)
	for day := range 90 {
		at.now = at.now.Add(24 * time.Hour)
		if u := w.Look(t.Context(), p); len(u.Consumers) != 1 || u.Consumers[0].Err == nil {
			t.Errorf("day %d: %+v", day, u.Consumers)
		}
	}
}

// The month begins when the resource was last seen under the key, not when a search last found it.
func TestAConsumerThatASearchMissesIsStillAsked(t *testing.T) {
	at := &clock{today}
	registry := samples()["container registry"]
	c := estate(row(registry.id, `{"key":"cmk"}`))
	c.set(registry.id, registry.answers[registry.id])
	w := watcher(t, c, consumer.Config{Clock: at.Now})
	for day := range 60 {
		if u := w.Look(t.Context(), discovering()); len(u.Consumers) != 1 || u.Consumers[0].Uses != newID {
			t.Fatalf("day %d: %+v", day, u)
		}
		c.set(graph, rows())
		at.now = at.now.Add(24 * time.Hour)
	}
	delete(c.answers, strings.ToLower(registry.id))
	if u := w.Look(t.Context(), discovering()); len(u.Consumers) != 1 || u.Consumers[0].Err == nil {
		t.Errorf("when it vanished: %+v", u)
	}
}

func TestAConsumerWithBackupsCountsAsLongAsThey(t *testing.T) {
	for _, try := range []struct {
		backups, after time.Duration
		counts         bool
	}{
		{0, 10 * 365 * 24 * time.Hour, true}, {400 * 24 * time.Hour, 400 * 24 * time.Hour, true},
		{400 * 24 * time.Hour, 402 * 24 * time.Hour, false}, {24 * time.Hour, 20 * 24 * time.Hour, true},
	} {
		at := &clock{today}
		c := estate(row(cosmos, cosmosProperties))
		w := watcher(t, c, consumer.Config{Clock: at.Now})
		p := discovering()
		p.Retire.Backups = try.backups
		w.Look(t.Context(), p)
		delete(c.answers, strings.ToLower(cosmos))
		c.set(graph, rows())
		at.now = at.now.Add(try.after)
		if u := w.Look(t.Context(), p); (len(u.Consumers) == 1) != try.counts {
			t.Errorf("backups of %s, %s later: %+v", try.backups, try.after, u.Consumers)
		}
	}
}

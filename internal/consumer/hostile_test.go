package consumer_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/record"
)

// replace replaces texts in a sample, and fails if none is there.
func replace(t *testing.T, body string, pairs ...string) string {
	t.Helper()
	return strings.NewReplacer(pairs...).Replace(body)
}

// spoiled calls each with a copy of a JSON value in which one value was replaced by a wrong one, or left out.
func spoiled(v any, each func(where string, whole any)) {
	var walk func(where string, v any, put func(any, bool))
	top := v
	walk = func(where string, v any, put func(any, bool)) {
		for _, wrong := range []any{7.0, "x", true, []any{7.0}, map[string]any{"x": 7.0}, nil} {
			if reflect.TypeOf(wrong) == reflect.TypeOf(v) && wrong != any("x") {
				continue
			}
			put(wrong, true)
			each(fmt.Sprintf("%s = %v", where, wrong), top)
		}
		put(nil, false)
		each(where+" left out", top)
		put(v, true)
		switch v := v.(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(v)) {
				walk(where+"."+name, v[name], func(x any, keep bool) {
					if v[name] = x; !keep {
						delete(v, name)
					}
				})
			}
		case []any:
			for i := range v {
				walk(fmt.Sprintf("%s[%d]", where, i), v[i], func(x any, keep bool) {
					if keep {
						v[i] = x
					}
				})
			}
		}
	}
	walk("", v, func(x any, _ bool) { top = x })
}

// weaker reports whether an answer tells no more than the true one: each consumer that is there is known as it is, or
// not known, or known with less. Another name of a key is another key. lessNeeds: it may need less.
func weaker(got, want []record.ConsumerSeen, lessNeeds bool) bool {
	for _, g := range got {
		if g.Err != nil {
			continue
		}
		known := slices.ContainsFunc(want, func(w record.ConsumerSeen) bool {
			return g.ID == w.ID && g.Vault == w.Vault && (g.Key == w.Key || g.Key == "x") &&
				(g.Uses == "" || g.Uses == w.Uses) && (lessNeeds || len(g.Needs) == len(w.Needs))
		})
		if !known {
			return false
		}
	}
	return len(got) > 0
}

// saysNothing reports whether something was left out, or is null, which to Azure is the same.
func saysNothing(where string) bool {
	return strings.HasSuffix(where, "left out") || strings.HasSuffix(where, "<nil>")
}

// However an answer is broken, keyd never takes a version as used that is not, or another key as the one that is set.
func TestABrokenAnswerNeverShowsMoreThanTheTruth(t *testing.T) {
	for name, s := range samples() {
		t.Run(name, func(t *testing.T) {
			tries := 0
			for path, body := range s.answers {
				c := newCloud(s.answers)
				w := watcher(t, c, consumer.Config{})
				spoiled(mustJSON(t, fill.Replace(body)), func(where string, whole any) {
					text, err := json.Marshal(whole)
					if err != nil {
						t.Fatal(err)
					}
					c.set(path, string(text))
					if got := w.Look(t.Context(), cmk(s.id)); !weaker(got.Consumers, s.want, saysNothing(where)) {
						t.Errorf("%s%s: keyd sees\n%+v", path, where, got.Consumers)
					}
					tries++
				})
			}
			if tries < 20 {
				t.Errorf("only %d answers were broken", tries)
			}
		})
	}
}

func TestAnAnswerThatIsNoneIsAnError(t *testing.T) {
	for name, try := range map[string]struct {
		answer func(*http.Request) *http.Response
		says   []string
	}{
		"a redirect": {func(r *http.Request) *http.Response {
			resp := answer(r, http.StatusFound, "")
			resp.Header.Set("Location", "https://evil.example/")
			return resp
		}, []string{"HTTP 302", "is a proxy answering in its place?"}},
		"a page of a proxy": {func(r *http.Request) *http.Response {
			return answer(r, http.StatusOK, "<html>Please sign in</html>")
		}, []string{"the answer makes no sense"}},
		"another resource": {func(r *http.Request) *http.Response {
			return answer(r, http.StatusOK, `{"id":"/subscriptions/other","properties":{}}`)
		}, []string{"it is about another resource"}},
		"an empty object": {func(r *http.Request) *http.Response { return answer(r, http.StatusOK, `{}`) },
			[]string{"id is missing"}},
		"an endless body": {func(r *http.Request) *http.Response {
			return answer(r, http.StatusOK, `{"x":"`+strings.Repeat("y", 5<<20)+`"}`)
		}, []string{"longer than 4 MiB"}},
		"no right to look": {func(r *http.Request) *http.Response {
			return answer(r, http.StatusForbidden,
				`{"error":{"code":"AuthorizationFailed","message":"The client\nhas no"}}`)
		}, []string{"HTTP 403 AuthorizationFailed: The client has no", "az role assignment create --role Reader",
			`--scope "` + cosmos + `"`, "(request req-1)"}},
		"no such resource": {func(r *http.Request) *http.Response {
			return answer(r, http.StatusNotFound, `{"error":{"code":"ResourceNotFound","message":"gone"}}`)
		}, []string{"HTTP 404 ResourceNotFound: gone", "take it out of consumers:"}},
		"a token that Azure does not accept": {func(r *http.Request) *http.Response {
			return answer(r, http.StatusUnauthorized, `{"error":{"code":"InvalidAuthenticationToken","message":"no"}}`)
		}, []string{"HTTP 401 InvalidAuthenticationToken", "azure.tenant_id"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(nil)
			c.hook = try.answer
			u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(cosmos))
			if len(u.Consumers) != 1 {
				t.Fatalf("%+v", u)
			}
			wantErr(t, u.Consumers[0].Err, append(try.says, "Cosmos DB account cosmos-1: look at it")...)
			if calls := c.sent(); len(calls) != 1 {
				t.Errorf("keyd asked again: %q", calls)
			}
		})
	}
}

// Nobody can say which of two fields of one name counts. encoding/json takes the last one, and compares names without
// case: the long s is an s to it.
func TestAnAnswerWithAFieldTwiceIsAnError(t *testing.T) {
	const field = `"keyVaultKeyUriVersion":"` + oldID + `",`
	for name, twice := range map[string]string{
		"alike": field, "in another case": strings.ToUpper(field[:24]) + field[24:],
		"with a long s": strings.Replace(field, "Version", "Ver\u017fion", 1),
	} {
		c := newCloud(map[string]string{cosmos: replace(t, account(cosmos, newID), `"properties":{`,
			`"properties":{`+twice)})
		u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(cosmos))
		if len(u.Consumers) != 1 || u.Consumers[0].Uses != "" {
			t.Fatalf("%s: %+v", name, u.Consumers)
		}
		wantErr(t, u.Consumers[0].Err, "twice")
	}
	c := newCloud(samples()["storage account"].answers)
	c.set(storage+"/encryptionScopes", `{"value":[{"id":"x"}],"value":[]}`)
	u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(storage))
	wantErr(t, u.Consumers[0].Err, "list its encryption scopes", "twice")
}

// A list's nextLink may name any host. keyd follows it to Resource Manager only, and sends its token nowhere else.
func TestATokenIsSentToResourceManagerOnly(t *testing.T) {
	for _, next := range []string{
		"https://evil.example/page", "http://management.azure.com/page", "https://management.azure.com.evil.example/",
		"https://user@management.azure.com/", "//evil.example/", "file:///etc/passwd",
		"https://management.azure.com:8443/",
	} {
		s := samples()["storage account"]
		c := newCloud(s.answers)
		c.set(storage+"/encryptionScopes", `{"value":[],"nextLink":"`+next+`"}`)
		u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(storage))
		if calls := c.sent(); len(calls) != 2 {
			t.Errorf("%s: keyd sent %q", next, calls)
		}
		if len(u.Consumers) != 1 {
			t.Fatalf("%s: %+v", next, u)
		}
		wantErr(t, u.Consumers[0].Err, "storage account stcmkdemo: list its encryption scopes")
	}
}

func TestAListIsReadToItsEnd(t *testing.T) {
	s := samples()["storage account"]
	c := newCloud(s.answers)
	pages := 0
	c.hook = func(r *http.Request) *http.Response {
		if !strings.HasSuffix(r.URL.Path, "/encryptionScopes") {
			return nil
		}
		pages++
		switch r.URL.Query().Get("$skip") {
		case "":
			return answer(r, http.StatusOK, fill.Replace(`{"value":[],"nextLink":"https://management.azure.com:443`+
				storage+`/encryptionScopes?api-version=2024-01-01&$skip=1"}`))
		default:
			return answer(r, http.StatusOK, fill.Replace(s.answers[storage+"/encryptionScopes"]))
		}
	}
	u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(storage))
	wantSeen(t, u.Consumers, s.want...)
	if pages != 2 {
		t.Errorf("%d pages", pages)
	}
}

func TestAnEndlessListIsAnError(t *testing.T) {
	c := newCloud(samples()["storage account"].answers)
	c.set(storage+"/encryptionScopes", `{"value":[],"nextLink":"https://management.azure.com`+storage+
		`/encryptionScopes?api-version=1&x=1"}`)
	u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(storage))
	wantErr(t, u.Consumers[0].Err, "more than 500 pages")
}

// A child that cannot be listed may use any version, so nothing is known of the whole consumer.
func TestAChildThatCannotBeListedMakesTheConsumerUnknown(t *testing.T) {
	for name, s := range samples() {
		for path := range s.answers {
			if path == s.id {
				continue
			}
			t.Run(name+" "+path[strings.LastIndexByte(path, '/')+1:], func(t *testing.T) {
				c := newCloud(s.answers)
				c.hook = func(r *http.Request) *http.Response {
					if !strings.EqualFold(r.URL.Path, fill.Replace(path)) {
						return nil
					}
					return answer(r, http.StatusForbidden, `{"error":{"code":"AuthorizationFailed","message":"no"}}`)
				}
				u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(s.id))
				if len(u.Consumers) != 1 || u.Consumers[0].Uses != "" {
					t.Fatalf("%+v", u.Consumers)
				}
				wantErr(t, u.Consumers[0].Err, "AuthorizationFailed")
			})
		}
	}
}

func TestAnIdThatIsNoneIsNotSent(t *testing.T) {
	for _, id := range []string{
		group + "Microsoft.DocumentDB/databaseAccounts/a?x=1", group + "Microsoft.DocumentDB/databaseAccounts/..",
		group + "Microsoft.DocumentDB/databaseAccounts/a%2fb", group + "Microsoft.DocumentDB/databaseAccounts/a#b",
		"/subscriptions//providers/Microsoft.DocumentDB/databaseAccounts/a",
		"https://evil.example/providers/Microsoft.DocumentDB/databaseAccounts/a",
	} {
		c := newCloud(nil)
		u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(id))
		if calls := c.sent(); len(calls) > 0 || len(u.Consumers) != 1 || u.Consumers[0].Err == nil {
			t.Errorf("%s: %q, %+v", id, calls, u.Consumers)
		}
	}
}

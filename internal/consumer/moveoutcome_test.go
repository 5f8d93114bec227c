package consumer_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
)

const refusal = `{"error":{"code":"AuthorizationFailed","message":"The client has no right to write."}}`

// flaky is a network that fails for some requests.
type flaky struct {
	next policy.Transporter
	fail func(*http.Request) error
	late bool // the request arrives first
}

func (f flaky) Do(r *http.Request) (*http.Response, error) {
	err := f.fail(r)
	if err != nil && !f.late {
		return nil, err
	}
	resp, next := f.next.Do(r)
	if err != nil {
		return nil, err
	}
	return resp, next
}

// outcome is what keyd makes of one way in which an AI account answers its change.
type outcome struct {
	write  func(*moving, *http.Request) *http.Response
	writes int
	class  key.Class
	says   string
}

func status(code int, body string) func(*moving, *http.Request) *http.Response {
	return func(_ *moving, r *http.Request) *http.Response { return answer(r, code, body) }
}

func TestTheAnswerToAChangeSaysWhetherItMayHaveHappened(t *testing.T) {
	azure := func(code string) string { return `{"error":{"code":"` + code + `","message":"no"}}` }
	for name, o := range map[string]outcome{
		"no right":       {status(403, refusal), 1, key.Refused, `--role "keyd repoint"`},
		"a bad request":  {status(400, azure("BadRequest")), 1, key.Refused, "HTTP 400 BadRequest: no"},
		"gone":           {status(404, azure("ResourceNotFound")), 1, key.Refused, "HTTP 404"},
		"changed since":  {status(412, azure("IfMatchPreconditionFailed")), 1, key.Retry, "HTTP 412"},
		"busy":           {status(409, azure("RequestConflict")), 1, key.Retry, "HTTP 409"},
		"no good token":  {status(401, azure("ExpiredAuthenticationToken")), 1, key.Retry, "HTTP 401"},
		"throttled":      {status(429, azure("TooManyRequests")), 4, key.Retry, "HTTP 429"},
		"a failure":      {status(500, azure("InternalServerError")), 1, key.Ambiguous, "HTTP 500"},
		"not available":  {status(503, azure("ServiceUnavailable")), 1, key.Ambiguous, "HTTP 503"},
		"a timeout":      {status(504, azure("GatewayTimeout")), 1, key.Ambiguous, "HTTP 504"},
		"too slow":       {status(408, azure("RequestTimeout")), 1, key.Ambiguous, "HTTP 408"},
		"a proxy's page": {status(403, "<html>Blocked</html>"), 1, key.Ambiguous, "is a proxy answering"},
		"a redirect":     {status(302, ""), 1, key.Ambiguous, "HTTP 302"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newMoving(t, movables()["AI services account"])
				v.write = func(r *http.Request) *http.Response { return o.write(v, r) }
				err := v.repoint()
				wantErr(t, err, "move AI services account ai-1 from version "+oldID+" of cmk to "+newID, o.says)
				if class := key.ClassOf(err); class != o.class || len(v.changes()) != o.writes {
					t.Errorf("%s after %d writes: %v", class, len(v.changes()), err)
				}
			})
		})
	}
}

func TestAChangeThatWasThrottledIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newMoving(t, movables()["AI services account"])
		tries := 0
		v.write = func(r *http.Request) *http.Response {
			if tries++; tries == 1 {
				resp := answer(r, 429, `{"error":{"code":"TooManyRequests","message":"slow down"}}`)
				resp.Header.Set("Retry-After", "17")
				return resp
			}
			v.use(newID)
			return answer(r, 200, `{}`)
		}
		begun := time.Now()
		if err := v.repoint(); err != nil || tries != 2 || time.Since(begun) != 17*time.Second {
			t.Errorf("%v after %d tries and %s", err, tries, time.Since(begun))
		}
	})
}

func TestAChangeWhoseAnswerIsLostIsNotSentAgain(t *testing.T) {
	reset := &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}
	for name, c := range map[string]struct {
		err   error
		late  bool
		class key.Class
		sent  int
	}{
		"before it arrived":        {reset, false, key.Ambiguous, 0},
		"after it took effect":     {reset, true, key.Ambiguous, 1},
		"the try took too long":    {context.DeadlineExceeded, true, key.Ambiguous, 1},
		"it was never sent":        {&net.OpError{Op: "dial", Err: errors.New("refused")}, false, key.Retry, 0},
		"the name was not found":   {&net.DNSError{Err: "no such host"}, false, key.Retry, 0},
		"an error of nobody knows": {errors.New("what"), true, key.Ambiguous, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newMoving(t, movables()["AI services account"])
				tries := 0
				network := flaky{v.cloud, func(r *http.Request) error {
					if r.Method == http.MethodGet {
						return nil
					}
					tries++
					return c.err
				}, c.late}
				err := clientOf(t, network).Repoint(t.Context(), consumer.Move{ID: aiOne, Vault: weu, Key: "cmk",
					From: oldID, Version: newID})
				if key.ClassOf(err) != c.class || tries != 1 || len(v.changes()) != c.sent {
					t.Errorf("%s after %d tries, %q: %v", key.ClassOf(err), tries, v.changes(), err)
				}
			})
		})
	}
}

func TestALookThatFailsSendsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		class  key.Class
	}{
		"no right":         {403, refusal, key.Refused},
		"gone":             {404, `{"error":{"code":"ResourceNotFound","message":"no"}}`, key.Refused},
		"a failure":        {500, `{"error":{"code":"InternalServerError","message":"no"}}`, key.Retry},
		"throttled":        {429, `{"error":{"code":"TooManyRequests","message":"no"}}`, key.Retry},
		"no JSON":          {200, `<html>`, key.Refused},
		"another resource": {200, `{"id":"/subscriptions/x","properties":{}}`, key.Refused},
		"a field twice":    {200, `{"id":"` + aiOne + `","ID":"x","properties":{}}`, key.Refused},
		"a field twice, alike": {200, strings.Replace(under("Succeeded"), `"properties":`,
			`"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":"NEU"}}},"properties":`, 1), key.Refused},
		"a change under way": {200, under("Accepted"), key.Retry},
		"the service's key":  {200, `{"id":"` + aiOne + `","properties":{}}`, key.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newMoving(t, movables()["AI services account"])
				v.hook = func(r *http.Request) *http.Response {
					v.log = append(v.log, r.Method)
					return answer(r, c.status, fill.Replace(c.body))
				}
				err := v.repoint()
				if err == nil || key.ClassOf(err) != c.class || len(v.changes()) != 0 {
					t.Errorf("%s, sent %q: %v", key.ClassOf(err), v.changes(), err)
				}
			})
		})
	}
}

// under is the account in a state, on its old version.
func under(state string) string {
	return strings.Replace(strings.ReplaceAll(movables()["AI services account"].answers[aiOne], "NOW", oldID),
		`"provisioningState":"Succeeded"`, `"provisioningState":"`+state+`"`, 1)
}

func TestWhatCannotBeMovedIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		move consumer.Move
		says string
	}{
		"a service that only follows": {consumer.Move{ID: cosmos, Vault: weu, Key: "cmk", From: oldID, Version: newID},
			"cannot be set to one version"},
		"no versions":  {consumer.Move{ID: aiOne, Vault: weu, Key: "cmk"}, "from one version to another"},
		"the same one": {consumer.Move{ID: aiOne, Vault: weu, Key: "cmk", From: oldID, Version: oldID}, "to another"},
		"a bad one":    {consumer.Move{ID: aiOne, Vault: weu, Key: "cmk", From: oldID, Version: "7"}, "not a version"},
		"another vault": {consumer.Move{ID: aiOne, Vault: neu, Key: "cmk", From: oldID, Version: newID},
			"is not set to version"},
		"another key": {consumer.Move{ID: aiOne, Vault: weu, Key: "cmk-2", From: oldID, Version: newID},
			"is not set to version"},
	} {
		v := newMoving(t, movables()["AI services account"])
		err := clientOf(t, v.cloud).Repoint(t.Context(), c.move)
		if key.ClassOf(err) != key.Refused || len(v.changes()) > 0 {
			t.Errorf("%s: %s, sent %q", name, key.ClassOf(err), v.changes())
		}
		wantErr(t, err, c.says)
	}
}

const operations = "https://management.azure.com/subscriptions/" + sub + "/providers/x/operations/1?api-version=1"

// begun answers a change with where to ask for its end; polls are the answers there, one after the other, the last one
// for ever. effect: the resource shows the new version.
func (v *moving) begun(header, at string, effect bool, polls ...*http.Response) *int {
	asked := new(int)
	write := v.hook
	v.write = func(r *http.Request) *http.Response {
		if effect {
			v.use(newID)
		}
		resp := answer(r, http.StatusAccepted, "")
		resp.Header.Set(header, at)
		resp.Header.Set("Retry-After", "7")
		return resp
	}
	v.hook = func(r *http.Request) *http.Response {
		if !strings.HasSuffix(r.URL.Path, "/operations/1") {
			return write(r)
		}
		*asked++
		p := polls[min(*asked, len(polls))-1]
		resp := answer(r, p.StatusCode, p.Status)
		resp.Header.Set("Retry-After", "5")
		return resp
	}
	return asked
}

// poll is an answer about an operation.
func poll(code int, body string) *http.Response {
	return &http.Response{StatusCode: code, Status: body}
}

func TestAnOperationIsFollowedToItsEnd(t *testing.T) {
	const inProgress, failed = `{"status":"InProgress"}`,
		`{"status":"Failed","error":{"code":"KeyNotFound","message":"no\nkey"}}`
	for name, c := range map[string]struct {
		header, at string
		effect     bool
		polls      []*http.Response
		asked      int
		class      key.Class
		says       string // "": no error
		took       time.Duration
	}{
		"it succeeds": {"Azure-AsyncOperation", operations, true,
			[]*http.Response{poll(200, inProgress), poll(200, `{"status":"Succeeded"}`)}, 2, 0, "", 12 * time.Second},
		"it succeeds, by Location": {"Location", operations, true,
			[]*http.Response{poll(202, ""), poll(202, ""), poll(204, "")}, 3, 0, "", 17 * time.Second},
		"Azure says that it failed": {"Azure-AsyncOperation", operations, false,
			[]*http.Response{poll(200, inProgress), poll(200, failed)}, 2, key.Refused, "KeyNotFound no key",
			12 * time.Second},
		"Azure says that it failed, and the account shows the version": {"Azure-AsyncOperation", operations, true,
			[]*http.Response{poll(200, failed)}, 1, key.Ambiguous, "KeyNotFound", 7 * time.Second},
		"the operation cannot be asked about": {"Azure-AsyncOperation", operations, false,
			[]*http.Response{poll(403, refusal)}, 1, key.Ambiguous, "HTTP 403", 7 * time.Second},
		"the operation cannot be asked about, and the account shows the version": {"Azure-AsyncOperation", operations,
			true, []*http.Response{poll(403, refusal)}, 1, 0, "", 7 * time.Second},
		"the place cannot be asked": {"Location", operations, false,
			[]*http.Response{poll(404, refusal)}, 1, key.Ambiguous, "HTTP 404", 7 * time.Second},
		"the operation has no status": {"Azure-AsyncOperation", operations, false,
			[]*http.Response{poll(200, `{}`)}, 1, key.Ambiguous, "status is missing", 7 * time.Second},
		"the operation has two statuses": {"Azure-AsyncOperation", operations, false,
			[]*http.Response{poll(200, `{"status":"Failed","Status":"Succeeded"}`)}, 1, key.Ambiguous, "twice",
			7 * time.Second},
		"the operation is no JSON": {"Azure-AsyncOperation", operations, false,
			[]*http.Response{poll(200, `<html>`)}, 1, key.Ambiguous, "makes no sense", 7 * time.Second},
		"another host": {"Azure-AsyncOperation", "https://evil.example/operations/1", false,
			[]*http.Response{poll(200, `{"status":"Succeeded"}`)}, 0, key.Ambiguous, "sends keyd on to",
			7 * time.Second},
		"no TLS": {"Azure-AsyncOperation", strings.Replace(operations, "https", "http", 1), false,
			[]*http.Response{poll(200, `{"status":"Succeeded"}`)}, 0, key.Ambiguous, "sends keyd on to",
			7 * time.Second},
		"no URL": {"Location", "::", false, []*http.Response{poll(200, "")}, 0, key.Ambiguous, "", 7 * time.Second},
		"it does not end": {"Azure-AsyncOperation", operations, false, []*http.Response{poll(200, inProgress)}, 35,
			key.Ambiguous, "", 3 * time.Minute},
		"it succeeds, and the account never shows it": {"Azure-AsyncOperation", operations, false,
			[]*http.Response{poll(200, `{"status":"Succeeded"}`)}, 1, key.Ambiguous, "", 3 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newMoving(t, movables()["AI services account"])
				asked := v.begun(c.header, c.at, c.effect, c.polls...)
				begun := time.Now()
				err := v.repoint()
				if c.says != "" {
					wantErr(t, err, c.says)
				}
				if (err != nil && key.ClassOf(err) != c.class) ||
					(err == nil) != (c.effect && c.class == 0 && c.says == "") {
					t.Errorf("%s: %v", key.ClassOf(err), err)
				}
				if took := time.Since(begun); *asked != c.asked || took != c.took || len(v.changes()) != 1 {
					t.Errorf("asked %d times in %s, %q", *asked, took, v.changes())
				}
				if i := slices.IndexFunc(v.sent(), func(s string) bool { return strings.Contains(s, "evil") }); i >= 0 {
					t.Error("keyd asked another host")
				}
			})
		})
	}
}

// Azure may say that a change failed while the resource is still being changed. Then nobody knows.
func TestAFailureIsNoneWhileTheResourceIsBeingChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newMoving(t, movables()["AI services account"])
		v.begun("Azure-AsyncOperation", operations, false, poll(200, `{"status":"Failed"}`))
		write := v.write
		v.write = func(r *http.Request) *http.Response {
			v.set(aiOne, under("Updating"))
			return write(r)
		}
		err := v.repoint()
		if key.ClassOf(err) != key.Ambiguous || len(v.changes()) != 1 {
			t.Errorf("%s: %v", key.ClassOf(err), err)
		}
	})
}

// A server that could not be told of the key still uses the version of before, whatever became of the request.
func TestAServerKeyThatCannotBePutMovesNobody(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		class  key.Class
	}{
		"refused": {403, refusal, key.Refused},
		"unclear": {500, `{"error":{"code":"InternalServerError","message":"no"}}`, key.Retry},
	} {
		for _, server := range []string{sqlTwo, sqlOne} {
			v := newMoving(t, movables()["SQL server"])
			v.write = func(r *http.Request) *http.Response {
				if strings.HasPrefix(r.URL.Path, server+"/keys/") {
					return answer(r, c.status, c.body)
				}
				return answer(r, http.StatusOK, `{}`)
			}
			err := v.repoint()
			if key.ClassOf(err) != c.class || strings.Contains(strings.Join(v.log, ""), "PUT "+sqlOne+"/encryption") {
				t.Errorf("%s: %s, sent %q: %v", name, key.ClassOf(err), v.changes(), err)
			}
			wantErr(t, err, "make the key known to it")
		}
	}
}

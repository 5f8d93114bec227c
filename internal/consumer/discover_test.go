package consumer_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
)

func TestDiscoveryFindsInEverySubscriptionAndKeepsNothing(t *testing.T) {
	c := estate(row(cosmos, cosmosProperties))
	saved := &ledger{}
	w := watcher(t, c, consumer.Config{Ledgers: saved})
	w.Use(clientOf(t, c), nil) // the configuration names no subscription
	p := cmk()
	p.Vaults = p.Vaults[:1]
	u := w.Discover(t.Context(), []key.Policy{p})["cmk"]
	if len(u.Consumers) != 1 || u.Consumers[0].ID != cosmos || u.Consumers[0].Uses != newID || len(u.Unseen) > 0 {
		t.Errorf("found %+v, unseen %q", u.Consumers, u.Unseen)
	}
	if last := w.Last("cmk"); !last.At.IsZero() || saved.saves != 0 {
		t.Errorf("keyd keeps it: %+v, %d saves", last, saved.saves)
	}
	if u := w.Look(t.Context(), p); len(u.Consumers) > 0 {
		t.Errorf("a later look has it: %+v", u.Consumers)
	}
}

func TestDiscoverySearchesAVaultOnceForAllKeys(t *testing.T) {
	c := estate(row(cosmos, cosmosProperties))
	p := discovering()
	other := p
	other.Key = "other"
	watcher(t, c, consumer.Config{}).Discover(t.Context(), []key.Policy{p, other})
	searches := 0
	for _, call := range c.sent() {
		if strings.HasPrefix(call, "POST ") {
			searches++
		}
	}
	if searches != 1 {
		t.Errorf("%d searches", searches)
	}
}

// refusing is a cloud that answers everything with one status.
func refusing(status int, body string) *cloud {
	c := newCloud(nil)
	c.hook = func(r *http.Request) *http.Response { return answer(r, status, body) }
	return c
}

func TestAnErrorHasAReason(t *testing.T) {
	const said = `{"error":{"code":"X","message":"no"}}`
	for want, c := range map[key.Reason]*cloud{
		key.Forbidden:    refusing(http.StatusForbidden, said),
		key.Unauthorized: refusing(http.StatusUnauthorized, said),
		key.BadAnswer:    refusing(http.StatusOK, `{"id":"`+cosmos+`"}`),
		key.OtherReason:  refusing(http.StatusNotFound, said),
	} {
		seen := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(cosmos)).Consumers
		if len(seen) != 1 || key.ReasonOf(seen[0].Err) != want {
			t.Errorf("want %s, got %s of %+v", want, key.ReasonOf(seen[0].Err), seen)
		}
	}
}

func TestAWayThatFailsHasAReasonOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // keyd tries again after a while
		w := watcher(t, newCloud(nil), consumer.Config{})
		w.Use(clientOf(t, broken{}), nil)
		seen := w.Look(t.Context(), cmk(cosmos)).Consumers
		if len(seen) != 1 || key.ReasonOf(seen[0].Err) != key.NoAnswer {
			t.Errorf("%+v", seen)
		}
	})
}

// broken reaches nobody.
type broken struct{}

func (broken) Do(r *http.Request) (*http.Response, error) {
	return nil, &url.Error{Op: "Get", URL: r.URL.String(), Err: errors.New("dial tcp: i/o timeout")}
}

func TestAConsumerUnderTheServicesOwnKeyIsTold(t *testing.T) {
	c := newCloud(map[string]string{cosmos: `{"id":"` + cosmos + `","properties":{}}`})
	seen := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(cosmos)).Consumers
	if len(seen) != 1 || !errors.Is(seen[0].Err, consumer.ErrOwnKey) {
		t.Errorf("%+v", seen)
	}
}

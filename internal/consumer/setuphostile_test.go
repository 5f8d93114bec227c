package consumer_test

import (
	"testing"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
)

// foundWith is what keyd finds of a storage account whose set-up is whole, when Azure gives other answers at some
// paths.
func foundWith(t *testing.T, answers map[string]string) map[string]consumer.Finding {
	t.Helper()
	s := samples()["storage account"]
	c := newCloud(s.answers)
	inspected(c)
	for path, body := range answers {
		c.set(path, body)
	}
	p := cmk(s.id)
	i := watcher(t, c, consumer.Config{}).Inspect([]key.Policy{p}, "", nil)
	found := map[string]consumer.Finding{}
	for _, f := range i.Consumer(t.Context(), p, i.Look(t.Context(), p).Consumers[0]) {
		found[f.Question] = f
	}
	return found
}

func TestABrokenAnswerIsNoGoodOne(t *testing.T) {
	const assignments = vaultID + "/keys/cmk/providers/Microsoft.Authorization/roleAssignments"
	const denials = vaultID + "/keys/cmk/providers/Microsoft.Authorization/denyAssignments"
	const vaults = "/subscriptions/" + sub + "/providers/Microsoft.KeyVault/vaults"
	for _, f := range foundWith(t, nil) {
		wantOutcome(t, f, consumer.Right)
	}
	list := func(item string) string { return `{"value":[` + item + `]}` }
	assigned := func(role, scope string) string {
		return list(`{"properties":{"roleDefinitionId":"` + role + `","scope":"` + scope + `"}}`)
	}
	const rights, unseen, wrong = consumer.AskedRights, consumer.Unseen, consumer.Wrong
	for name, c := range map[string]struct {
		path, body, question string
		want                 consumer.Outcome
	}{
		"no list":                   {assignments, `{}`, rights, unseen},
		"an assignment nowhere":     {assignments, assigned(role, ""), rights, unseen},
		"an assignment of no role":  {assignments, assigned("", "/"), rights, unseen},
		"a role that is a resource": {assignments, assigned(storage, "/"), rights, unseen},
		"a role that leads away":    {assignments, assigned("//evil.example/x", "/"), rights, unseen},
		"a list that leads away":    {assignments, `{"value":[],"nextLink":"https://evil.example/"}`, rights, unseen},
		"an assignment elsewhere":   {assignments, assigned(role, otherID), rights, wrong},
		"a role without properties": {role, `{}`, rights, unseen},
		"actions of a wrong type":   {role, `{"properties":{"permissions":[{"dataActions":"*"}]}}`, rights, unseen},
		"a role without actions":    {role, `{"properties":{"permissions":[{}]}}`, rights, wrong},
		"a denial nowhere":          {denials, list(`{"properties":{}}`), rights, unseen},
		"a denial of another's": {denials, list(`{"properties":{"scope":"/","principals":[{"id":"` + system +
			`","type":"ServicePrincipal"}],"permissions":[{"dataActions":["*"]}]}}`), rights, consumer.Right},
		"a denial of everybody": {denials, list(`{"properties":{"scope":"/","principals":[{"id":` +
			`"00000000-0000-0000-0000-000000000000","type":"SystemDefined"}],` +
			`"permissions":[{"dataActions":["*"]}]}}`), rights, consumer.Undecided},
		"a vault of another type": {vaults, list(`{"id":"` + storage + `","properties":{"vaultUri":"WEU"}}`),
			rights, unseen},
		"a vault without an id": {vaults, list(`{"properties":{"vaultUri":"WEU"}}`), rights, unseen},
		"another identity": {uami, `{"id":"` + storage + `","properties":{}}`, consumer.AskedIdentity,
			unseen},
		"an identity made anew": {uami, `{"id":"UAMI","properties":{"principalId":"` + system + `"}}`,
			consumer.AskedIdentity, wrong},
	} {
		t.Run(name, func(t *testing.T) {
			wantOutcome(t, foundWith(t, map[string]string{c.path: c.body})[c.question], c.want)
		})
	}
}

// What keyd could not read of a consumer leaves no finding about it that is good or bad.
func TestAConsumerThatKeydDoesNotSeeWholeHasOneFinding(t *testing.T) {
	found := foundWith(t, map[string]string{storage + "/encryptionScopes": `{}`})
	if len(found) != 1 {
		t.Errorf("found %+v", found)
	}
	wantOutcome(t, found[consumer.AskedSetting], consumer.Unseen, "encryption scopes")
}

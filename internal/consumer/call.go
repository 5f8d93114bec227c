package consumer

import (
	"context"
	"strings"

	"github.com/keyd-project/keyd/internal/service"
)

// operation is one kind of call.
type operation struct {
	name  string // metric label
	words string // for error texts
}

var (
	opGet           = operation{"get", "look at it"}
	opChildren      = operation{"list_children", "list what belongs to it"}
	opSearch        = operation{"search", "search by Azure Resource Graph"}
	opPermissions   = operation{"list_permissions", "list what keyd may do there"}
	opSubscriptions = operation{"list_subscriptions", "list the subscriptions that keyd may see"}
	opMove          = operation{"move", "set it to another version"}
	opServerKey     = operation{"put_server_key", "make the key known to it"}
	opPoll          = operation{"poll", "ask how far its change is"}
)

// call is one operation, on one resource or on none. It travels in the context, where the policies of the pipeline find
// it.
type call struct {
	op   operation
	id   string // of the resource; "": none
	part string // of the resource, in words: "encryption scopes"; "": the resource itself
	// child: it reads a part that has an id of its own, such as the current TDE protector.
	child bool
	sent  *sent // of a call that changes something; nil: it only looks
}

// about names the resource for people: "storage account stcmkdemo".
func (k call) about() string {
	if k.id == "" {
		return "Azure"
	}
	return nameOf(k.id)
}

// nameOf names a resource for people: "storage account stcmkdemo".
func nameOf(id string) string {
	if s, ok := service.Of(id); ok {
		return s.Name + " " + service.NameOf(id)
	}
	if words, ok := named[service.TypeOf(id)]; ok {
		return words + " " + service.NameOf(id)
	}
	if rest, ok := strings.CutPrefix(id, "/subscriptions/"); ok && !strings.Contains(rest, "/") {
		return "subscription " + rest
	}
	return id
}

// named are the words for types that are no services.
var named = map[string]string{
	identityType: "identity", "microsoft.keyvault/vaults": "vault", "microsoft.keyvault/managedhsms": "Managed HSM",
	"microsoft.keyvault/vaults/keys": "key", "microsoft.authorization/roledefinitions": "role",
}

type callKey struct{}

func withCall(ctx context.Context, k call) context.Context {
	return context.WithValue(ctx, callKey{}, k)
}

func callOf(ctx context.Context) call {
	k, _ := ctx.Value(callKey{}).(call)
	return k
}

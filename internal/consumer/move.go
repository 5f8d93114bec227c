package consumer

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/service"
)

// moveTime bounds one move. What takes longer shows later, when somebody looks.
const moveTime = 3 * time.Minute

// Move is the setting of one resource to another version of the same key, or to another key.
type Move struct {
	ID    string // of the resource
	Vault string // URL
	Key   string
	From  string // "": it follows the key by itself; then only another key is somewhere to go
	// NewVault and NewKey are where it goes; both "": the key stays the same. One that follows by itself then follows
	// the new key.
	NewVault, NewKey string
	Version          string
}

// sequence is how one kind of resource is set to another version: it is read, one part of it is written, and the rest
// stays as it was.
type sequence struct {
	query string // of the reading
	// sights are what the resource itself shows.
	sights func(id string, text []byte) ([]sight, error)
	// first does what must be done before; nil: nothing. It changes nothing of what the resource uses.
	first func(context.Context, *Client, string, keyRef) error
	// part is the path of the part that holds the key; "": the resource itself.
	part string
	// method is PATCH, or PUT for a part that is written whole.
	method string
	// change is the body to write: what must go with the key, and the key. Both are as the resource names keys: without
	// a version where it names none.
	change func(have settings, from, to keyRef) (settings, error)
}

// sequences are how each type of resource is moved. Cosmos DB can be set to no version, but to another key.
var sequences = map[string]sequence{
	"microsoft.storage/storageaccounts":                  patched(sightOf(accountSight), changeStorage),
	"microsoft.storage/storageaccounts/encryptionscopes": patched(sightOf(ownScope), changeScope),
	"microsoft.documentdb/databaseaccounts":              patched(sightOf(cosmosSight), changeCosmos),
	"microsoft.cognitiveservices/accounts":               patched(sightOf(aiSight), changeAI),
	"microsoft.compute/diskencryptionsets":               patched(sightOf(diskSight), changeDisk),
	"microsoft.containerregistry/registries":             patched(sightOf(registrySight), changeRegistry),
	"microsoft.eventhub/namespaces":                      patched(sightsOf(eventHubsSights), changeEventHubs),
	"microsoft.dbforpostgresql/flexibleservers":          patched(sightsOf(flexibleServer), changeFlexible),
	"microsoft.dbformysql/flexibleservers":               patched(sightsOf(flexibleServer), changeFlexible),
	sqlServerType:                                        protected(serverKeysFirst),
	sqlInstanceType:                                      protected(instanceKeysFirst),
	sqlServerType + "/databases": {query: "$expand=keys", sights: sightOf(databaseSight),
		method: http.MethodPatch, change: changeDatabase},
}

func patched(sights func(string, []byte) ([]sight, error),
	change func(settings, keyRef, keyRef) (settings, error)) sequence {
	return sequence{sights: sights, method: http.MethodPatch, change: change}
}

// sightsOf reads a resource by its typed fields.
func sightsOf[P any](read func(string, resource[P]) ([]sight, error)) func(string, []byte) ([]sight, error) {
	return func(id string, text []byte) ([]sight, error) {
		var r resource[P]
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, badAnswerf("%v", err)
		}
		if err := r.is(id); err != nil {
			return nil, err
		}
		return read(id, r)
	}
}

func sightOf[P any](read func(string, resource[P]) (sight, error)) func(string, []byte) ([]sight, error) {
	return sightsOf(func(id string, r resource[P]) ([]sight, error) {
		s, err := read(id, r)
		return []sight{s}, err
	})
}

// Repoint sets a resource to another version, and returns once the resource shows it. It sends the change at most once.
// Its errors have a key.Class: Retry and Refused if the service certainly did not do it, Ambiguous otherwise.
func (c *Client) Repoint(ctx context.Context, m Move) error {
	ctx, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	how, ok := sequences[service.TypeOf(m.ID)]
	if kind, _ := service.Of(m.ID); !ok || kind.Unpinned && m.NewKey == "" {
		return m.refuse("a resource of this type cannot be set to one version of a key")
	}
	from, to, err := m.refs()
	if err != nil {
		return m.refuse("%w", err)
	}
	mv := &mover{client: c, move: m, sequence: how, from: from, to: to, follows: m.From == ""}
	return mv.run(ctx)
}

// refs are the two versions of the key, or the two keys.
func (m Move) refs() (from, to keyRef, err error) {
	if m.NewKey == "" {
		m.NewVault, m.NewKey = m.Vault, m.Key
		if m.From == "" || m.From == m.Version {
			return from, to, fmt.Errorf("a move is from one version to another, not from %q to %q", m.From, m.Version)
		}
	}
	if from, err = newKeyRef(m.Vault, m.Key, m.From); err != nil {
		return from, to, err
	}
	if to, err = newKeyRef(m.NewVault, m.NewKey, ""); err == nil {
		to, err = to.at(m.Version)
	}
	return from, to, err
}

// mover is one move.
type mover struct {
	client *Client
	move   Move
	sequence
	from, to keyRef
	follows  bool // before and after the move
}

func (v *mover) run(ctx context.Context) error {
	have, err := v.look(ctx)
	switch {
	case err != nil:
		return v.move.failed(classOfLook(err), err)
	case have.uses(v.to, v.follows):
		return nil // somebody else moved it
	case have.changing():
		return v.move.failed(key.Retry, errChanging)
	case have.find(v.from, v.follows) == nil:
		return v.move.refuse("it is not set to %s: it is set to %s", v.move.left(), have)
	}
	from := have.find(v.from, v.follows).key
	to := v.to
	if from.version == "" { // it names no version
		to.version = ""
	}
	body, err := v.change(have.settings, from, to)
	if err != nil {
		return v.move.refuse("%w", err)
	}
	if v.first != nil {
		if err := v.first(ctx, v.client, v.move.ID, v.to); err != nil {
			return v.move.failed(classOfFirst(err), err)
		}
	}
	k, path := call{op: opMove, id: v.move.ID}, v.move.ID+v.part
	began, class, err := v.client.write(ctx, k, v.method, path, have.settings.text("etag"), body)
	if err != nil {
		return v.move.failed(class, err)
	}
	return v.confirm(ctx, v.client.await(ctx, k, began))
}

// confirm waits until the resource shows the version. failed is how the operation ended.
func (v *mover) confirm(ctx context.Context, failed error) error {
	for wait := newWait(); ; {
		have, err := v.look(ctx)
		switch {
		case err != nil:
			return v.move.failed(key.Ambiguous, err)
		case have.changing():
		case !isStated(failed) && have.uses(v.to, v.follows):
			return nil
		case isStated(failed) && have.uses(v.from, v.follows):
			return v.move.failed(key.Refused, failed)
		case failed != nil:
			return v.move.failed(key.Ambiguous, failed)
		}
		if err := wait.sleep(ctx, 0); err != nil {
			return v.move.failed(key.Ambiguous, fmt.Errorf("it does not show the version yet: %w", err))
		}
	}
}

// shown is what a resource shows of its keys.
type shown struct {
	settings settings // of what is written: the resource, or its part
	sights   []sight
}

func (v *mover) look(ctx context.Context) (shown, error) {
	k, id := call{op: opGet, id: v.move.ID}, v.move.ID+v.part
	at, err := v.client.urlOf(id, v.query, apiVersionOf(v.move.ID))
	if err != nil {
		return shown{}, k.fail(err)
	}
	r, err := v.client.send(ctx, k, request{method: http.MethodGet, at: at}, http.StatusOK)
	if err != nil {
		return shown{}, err
	}
	var s shown
	if s.settings, err = parseSettings(r.body); err == nil {
		s.sights, err = v.sights(id, r.body)
	}
	return s, k.check(err)
}

// uses reports whether the resource is set to a version, or follows its key, and uses the version. Of one that follows
// and does not show what it uses, the setting is all that there is to see.
func (s shown) uses(to keyRef, follows bool) bool {
	f := s.find(to, follows)
	switch {
	case f == nil || f.err != nil:
		return false
	case follows:
		return f.uses == "" || to.version == "" || f.uses == to.version
	}
	return f.uses == to.version
}

// find is the setting to a version, or that to a key which the resource follows; nil: there is none.
func (s shown) find(to keyRef, follows bool) *sight {
	for i, have := range s.sights {
		if have.follows == follows && have.key.sameKey(to) && (follows || have.key.version == to.version) {
			return &s.sights[i]
		}
	}
	return nil
}

// changing reports whether a change of the resource is under way.
func (s shown) changing() bool {
	p := s.settings.at("properties")
	for _, state := range []string{p.text("provisioningState"), p.text("state")} {
		state = strings.ToLower(state)
		if strings.HasSuffix(state, "ing") || state == "accepted" || state == "resolvingdns" {
			return true
		}
	}
	return false
}

// String names the keys, for an error.
func (s shown) String() string {
	var names []string
	for _, have := range s.sights {
		name := have.key.String()
		if have.key == (keyRef{}) {
			name = "the service's own key"
		}
		if have.follows {
			name += ", which it follows"
		}
		names = append(names, name)
	}
	return strings.Join(names, " and ")
}

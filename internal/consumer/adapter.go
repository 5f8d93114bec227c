package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
)

// sight is what one resource shows of one key that it is set to.
type sight struct {
	id      string
	service string    // for people
	key     keyRef    // that it is set to, as it is written there; the zero value: the service's own
	uses    string    // the version in use; "": not shown
	follows bool      // it moves to new versions by itself
	since   time.Time // as the service says; zero: it does not
	needs   []keyRef  // what else it says it needs
	callers []string  // object ids
	birth   birth
	err     error // why what it uses is not known
}

// adapters know what each type of resource shows. They return the resource, and those of its children that have a key
// of their own. An error means that nothing is known of any of them.
var adapters = map[string]func(context.Context, *Client, string) ([]sight, error){
	"microsoft.storage/storageaccounts":                  storageAccount,
	"microsoft.storage/storageaccounts/encryptionscopes": encryptionScope,
	"microsoft.documentdb/databaseaccounts":              cosmosAccount,
	"microsoft.cognitiveservices/accounts":               aiAccount,
	"microsoft.compute/diskencryptionsets":               diskEncryptionSet,
	"microsoft.sql/servers":                              sqlServer,
	"microsoft.sql/servers/databases":                    sqlDatabase,
	"microsoft.sql/managedinstances":                     sqlInstance,
	"microsoft.containerregistry/registries":             containerRegistry,
	"microsoft.eventhub/namespaces":                      eventHubs,
	"microsoft.dbforpostgresql/flexibleservers":          postgreSQL,
	"microsoft.dbformysql/flexibleservers":               mySQL,
}

// newSight begins what is seen of a resource.
func newSight(id string) sight {
	s, _ := service.Of(id)
	return sight{id: id, service: s.Name}
}

// set notes a setting that names the version in use itself where it names one. used is the id of the key in use, with
// its version; "": the service does not show it.
func (s *sight) set(to keyRef, used string) error {
	s.key = to
	if used == "" {
		return nil
	}
	use, err := parseKeyRef(used)
	switch {
	case err != nil:
		return err
	case use.version == "":
		return badAnswerf("the key in use, %s, is shown without a version", use)
	case !use.sameKey(to):
		return fmt.Errorf("it is set to %s and still uses %s: it is between two keys", to, use)
	}
	s.uses = use.version
	return nil
}

// trouble is what a resource itself says is wrong with it.
func trouble(id, hint, format string, args ...any) error {
	return &Error{What: nameOf(id), ID: id, Hint: hint, err: fmt.Errorf(format, args...), said: true}
}

// need notes another key that the resource says it needs.
func (s *sight) need(id string) error {
	ref, err := parseKeyRef(id)
	if err == nil {
		s.needs = append(s.needs, ref)
	}
	return err
}

// concerns reports whether what was seen has to do with a policy's key.
func (s sight) concerns(p key.Policy) bool {
	for _, n := range s.needs {
		if n.of(p) {
			return true
		}
	}
	return s.key.of(p)
}

// ofHeir reports whether the resource is set to the key that replaces a policy's key.
func (s sight) ofHeir(p key.Policy) bool { return p.Heir.Has(s.key.name, s.key.vault) }

// shown is what was seen, as it concerns a policy's key.
func (s sight) shown(p key.Policy) record.ConsumerSeen {
	seen := record.ConsumerSeen{
		ID: s.id, Service: s.service, Err: s.err, Vault: s.key.vault, Key: s.key.name, Uses: s.uses,
		Follows: s.follows, Since: s.since, Callers: s.callers, Made: s.birth.made, Own: s.birth.own,
	}
	switch {
	case s.key.of(p):
		seen.Key = p.Key // in the spelling of the configuration
	case s.key == (keyRef{}):
		seen.Key = record.OwnKey
	}
	if !s.follows {
		seen.Asked = s.key.version
	}
	for _, n := range s.needs {
		switch {
		case !n.of(p):
		case n.version != "":
			seen.Needs = append(seen.Needs, n.version)
		case !n.sameKey(s.key) && seen.Err == nil:
			seen.Err = trouble(s.id, "", "it needs %s, and does not show which version", n)
		}
	}
	return seen
}

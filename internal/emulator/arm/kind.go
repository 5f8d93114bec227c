package arm

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// kind describes how one service differs from the others.
type kind struct {
	word string // for the command line
	path string // resource provider and type
	// delay is how often it looks for a new version of its key; 0: never.
	delay time.Duration
	bits  []int // sizes of RSA keys that it takes
	// keyPerItem gives each item (a disk) a data key of its own.
	keyPerItem bool
	// moving is how long the service takes to move its data to a new version; until
	// then it needs the old one. 0: at once.
	moving time.Duration
	// inSteps accepts a key without reading it, and stops rotating at the first key that it
	// cannot use.
	inSteps bool
	// needsVersion refuses a key identifier without a version.
	needsVersion bool
	// vaultOnly refuses keys of a Managed HSM, sameRegion those of a vault in another region, and noExpiry those with
	// an expiry date.
	vaultOnly, sameRegion, noExpiry bool
	// oneVault refuses a key in another vault than the one before.
	oneVault bool
	// codes are the service's own words for a refusal; others have BadRequest.
	codes refusalCodes
	// atCreation lets a key be given only when the resource is made; keysOnly never takes it away again.
	atCreation, keysOnly bool
	// parent is the kind of the resource that this one is a child of; nil: none. One that stays cannot be deleted.
	parent *kind
	stays  bool
	// whole are the objects that a PATCH replaces, instead of merging into them.
	whole [][]string
	// inside are members of the document that are other resources, and not shown.
	inside []string
	// etagged resources have an etag, and heed If-Match.
	etagged bool
	// ownIdentity: it takes user-assigned identities only.
	ownIdentity bool
	// keeps is how long the service keeps backups; nil: it keeps none. Before its data move to another version, there
	// is one. restores: a resource can be made from another's backup.
	keeps    func(d document) time.Duration
	restores bool
	// slots are the kinds of the single keys of a resource that has several.
	slots []*kind
	// puts and patches are how a client learns that a PUT or a PATCH is done.
	puts, patches completion

	// wants parses a document's key settings.
	wants func(c *consumer, d document) (want, error)
	// wantsGeo parses the settings of the key of geo-redundant backups; nil: there is none.
	wantsGeo func(c *consumer, d document) (want, error)
	// shows writes the service's own fields into a document.
	shows func(c *consumer, d document)
	// keyPatch makes the document that sets a key for a consumer that has signed in.
	keyPatch func(c *consumer, k keyRef, follow bool) document
}

// want is the key configuration that a document requests.
type want struct {
	key     keyRef // zero: the service's own key
	follows bool
	who     identity
}

// refusalCodes are a service's error codes; "": BadRequest.
type refusalCodes struct{ kind, size, disabled, expiry string }

// kinds are the emulated services. Delays and sizes are Microsoft's, where it publishes them.
var kinds = []*kind{storage, storageScope, cosmos, diskEncryption, aiServices, sqlServer, sqlInstance, sqlDatabase,
	registry, eventHubs, postgres, mysql}

func kindOfPath(path string) *kind {
	i := slices.IndexFunc(kinds, func(k *kind) bool { return strings.EqualFold(k.path, path) })
	if i < 0 {
		return nil
	}
	return kinds[i]
}

func kindOfWord(word string) *kind {
	i := slices.IndexFunc(kinds, func(k *kind) bool { return k.word == word })
	if i < 0 {
		return nil
	}
	return kinds[i]
}

// Words are the kinds that ParseSpec takes.
func Words(separator string) string {
	var all []string
	for _, k := range kinds {
		all = append(all, k.word)
	}
	return strings.Join(all, separator)
}

// accepts returns why the service does not accept a key for a resource in a region, or nil.
func (k *kind) accepts(ref keyRef, info keyInfo, location string) error {
	switch {
	case strings.Contains(info.recoveryLevel, "Purgeable"):
		return refuse(http.StatusBadRequest, "KeyVaultPolicyError",
			"Keyvault policy recoverable is not set: the vault of %s needs soft delete and purge protection.", ref)
	case k.vaultOnly && ref.audience() == "https://managedhsm.azure.net":
		return badKey("%s is in a Managed HSM; %s takes keys of a Key Vault only.", ref, k.path)
	case k.sameRegion && info.region != "" && region(location) != region(info.region):
		return badKey("%s is in %s; %s in %s takes keys of its own region only.", ref, info.region, k.path, location)
	case info.kty != "RSA" && info.kty != "RSA-HSM":
		return k.refuse(k.codes.kind, "%s is an %s key; %s takes RSA keys only.", ref, info.kty, k.path)
	case !slices.Contains(k.bits, info.bits):
		return k.refuse(k.codes.size, "%s has %d bits; %s takes RSA keys of %v bits only.", ref, info.bits, k.path,
			k.bits)
	case k.noExpiry && !info.expires.IsZero():
		return k.refuse(k.codes.expiry, "%s has an expiry date; %s takes keys without one only.", ref, k.path)
	case !info.enabled:
		return k.refuse(k.codes.disabled, "Version %s of %s is disabled.", info.version, ref.at(""))
	}
	return nil
}

func (k *kind) refuse(code, format string, args ...any) error {
	if code == "" {
		code = "BadRequest"
	}
	return refuse(http.StatusBadRequest, code, format, args...)
}

// region is a region's name as Resource Manager compares it: West Europe is westeurope.
func region(name string) string { return strings.ToLower(strings.ReplaceAll(name, " ", "")) }

// systemAssigned is the identity of the resource itself.
func systemAssigned(c *consumer, d document) (identity, error) {
	if !strings.Contains(strings.ToLower(d.text("identity", "type")), "systemassigned") {
		return identity{}, badKey("The resource %s has no system-assigned identity: a customer-managed key needs one.",
			c.id)
	}
	return identity{resourceID: c.resourceID()}, nil
}

// userAssigned is one of the identities given to the resource.
func userAssigned(c *consumer, d document, chosen string) (identity, error) {
	for have := range d.sub("identity", "userAssignedIdentities") {
		if strings.EqualFold(have, chosen) {
			return identity{resourceID: have}, nil
		}
	}
	return identity{}, badKey("The resource %s was not given the identity %s.", c.id, chosen)
}

func chosenIdentity(c *consumer, d document, user string) (identity, error) {
	if user != "" {
		return userAssigned(c, d, user)
	}
	return systemAssigned(c, d)
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

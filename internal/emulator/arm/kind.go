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
	// puts and patches are how a client learns that a PUT or a PATCH is done.
	puts, patches completion

	// wants parses a document's key settings.
	wants func(id string, d document) (want, error)
	// shows writes the service's own fields into a document.
	shows func(c *consumer, d document)
	// keyPatch makes the document that sets a key.
	keyPatch func(k keyRef, follow bool) document
}

// want is the key configuration that a document requests.
type want struct {
	key     keyRef // zero: the service's own key
	follows bool
	who     identity
}

// kinds are the emulated services. Delays and sizes are Microsoft's.
var kinds = []*kind{storage, cosmos, diskEncryption, aiServices}

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

// accepts returns why the service does not accept a key, or nil.
func (k *kind) accepts(ref keyRef, info keyInfo) error {
	switch {
	case strings.Contains(info.recoveryLevel, "Purgeable"):
		return refuse(http.StatusBadRequest, "KeyVaultPolicyError",
			"Keyvault policy recoverable is not set: the vault of %s needs soft delete and purge protection.", ref)
	case info.kty != "RSA" && info.kty != "RSA-HSM":
		return badKey("%s is an %s key; %s takes RSA keys only.", ref, info.kty, k.path)
	case !slices.Contains(k.bits, info.bits):
		return badKey("%s has %d bits; %s takes RSA keys of %v bits only.", ref, info.bits, k.path, k.bits)
	case !info.enabled:
		return badKey("Version %s of %s is disabled.", info.version, ref.at(""))
	}
	return nil
}

// systemAssigned is the identity of the resource itself.
func systemAssigned(id string, d document) (identity, error) {
	if !strings.Contains(strings.ToLower(d.text("identity", "type")), "systemassigned") {
		return identity{}, badKey("The resource %s has no system-assigned identity: a customer-managed key needs one.",
			id)
	}
	return identity{resourceID: id}, nil
}

// userAssigned is one of the identities given to the resource.
func userAssigned(id string, d document, chosen string) (identity, error) {
	for have := range d.sub("identity", "userAssignedIdentities") {
		if strings.EqualFold(have, chosen) {
			return identity{resourceID: have}, nil
		}
	}
	return identity{}, badKey("The resource %s was not given the identity %s.", id, chosen)
}

func chosenIdentity(id string, d document, user string) (identity, error) {
	if user != "" {
		return userAssigned(id, d, user)
	}
	return systemAssigned(id, d)
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

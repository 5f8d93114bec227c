// Package service knows what each kind of Azure service does with a customer-managed key: which keys it takes, how fast
// it follows a new version, and how long it needs an old one. Its rule: it is pure, and each fact has its source.
// Package consumer asks the services themselves.
package service

import (
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Following is whether a service moves to a new version by itself.
type Following int

// The ways of following.
const (
	Always Following = iota // if it is set to the key without a version
	OptIn                   // only if a setting of the resource says so
	Never                   // somebody must repoint it
)

// Service is one kind of Azure service.
type Service struct {
	Name string // for people: "storage account"
	// Type is the type of the resource in lower case, as TypeOf returns it: "microsoft.storage/storageaccounts".
	Type       string
	APIVersion string // of Resource Manager
	// Children are the types of child resources that can have a key of their own, such as "encryptionscopes".
	Children []string

	Specs      []key.Spec // that it takes; nil: any, as far as its documents say
	KeyVault   bool       // it takes keys in a Key Vault only, not in a Managed HSM
	NoExpiry   bool       // it refuses a key with an expiry date
	OneVault   bool       // it stays in the vault of its first key
	Follows    Following
	Unpinned   bool          // it cannot be set to one version of a key
	Within     time.Duration // it follows a new version within this time, as its documents say; 0: it does not follow
	ShowsInUse bool          // Resource Manager shows the version in use, also where the resource follows

	// Safe is how long after the resource shows a later version it may still need the one before. Without Stated, the
	// documents do not say, and only the vault's log can show that it does not.
	Safe   time.Duration
	Stated bool
	// NeedsLog: the documents want the vault's log to be quiet, besides Safe.
	NeedsLog bool
	// Backups: restoring one of its backups needs the version under which the backup was made.
	Backups bool
	Source  string // where the documents say so
}

// Of returns the service that a resource id belongs to, by its type; ok is false for a type that keyd does not
// understand.
func Of(id string) (s Service, ok bool) {
	t := TypeOf(id)
	for _, s := range all {
		if s.Type == t {
			return s, true
		}
	}
	return Service{}, false
}

// All lists every service that keyd understands.
func All() []Service { return append([]Service(nil), all...) }

// TypeOf is the type of a resource by its id, in lower case, with the types of its parents: of
// /subscriptions/S/resourceGroups/G/providers/Microsoft.Sql/servers/N it is "microsoft.sql/servers". It is "" for what
// is no id of a resource.
func TypeOf(id string) string {
	_, after, found := strings.Cut(strings.ToLower(id), "/providers/")
	parts := strings.Split(after, "/")
	if !found || len(parts) < 3 || len(parts)%2 == 0 {
		return ""
	}
	t := parts[0]
	for i := 1; i < len(parts); i += 2 {
		t += "/" + parts[i]
	}
	return t
}

// NameOf is the last name in a resource id.
func NameOf(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

// Takes reports whether the service takes keys of a spec.
func (s Service) Takes(spec key.Spec) bool {
	for _, t := range s.Specs {
		if t == spec {
			return true
		}
	}
	return len(s.Specs) == 0
}

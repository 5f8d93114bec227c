// Package arm stands in for Azure Resource Manager, and for services behind it that encrypt
// under a customer-managed key, from storage accounts to MySQL servers: a file for each.
// They are called consumers.
//
// Its one rule: a consumer is a client of the vault like any other. It signs in with
// its own identity, calls the vault over HTTPS, and stores its data keys only wrapped.
// So it loses its data while the vault refuses it, and can read it again once the vault
// does not.
package arm

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config is what the consumers need from outside.
type Config struct {
	// Client reaches the vaults by their names and the managed-identity endpoint of a
	// virtual machine (IMDS) at 169.254.169.254.
	Client *http.Client
	Now    func() time.Time
	// TimeScale is how many times faster than in Azure services look for new versions
	// and finish rotations; 0 means 1.
	TimeScale float64
	TenantID  string
	// PageSize is how many resources a page of a list has; 0 means 100.
	PageSize int
	// Trust gets the client id of each identity with which a consumer signs in, so that
	// a vault's firewall treats it as a trusted Azure service.
	Trust  func(clientID string)
	Logger *slog.Logger
	// Enforce makes Resource Manager ask for roles; otherwise every caller may do everything.
	Enforce bool
	// RoleDelay is how long a role assignment takes to have effect.
	RoleDelay time.Duration
	// Vaults are the vaults' resources, and VaultRoles the role assignments that the vaults have of their own; nil:
	// none.
	Vaults     func() []Resource
	VaultRoles func() []RoleAssignment
}

// Resource is a resource that Resource Manager shows and does not change.
type Resource struct {
	ID, Name, Type, Location string
	Fields                   map[string]any // properties, and what else there is
}

// Service holds the consumers. Its methods may be called from several goroutines.
type Service struct {
	cfg       Config
	directory *directory
	users     *userIdentities

	mu         sync.Mutex
	consumers  []*consumer // in the order in which they were made
	operations map[string]*operation
	others     []Resource
	elsewhere  string // the host in URLs that Resource Manager gives; "": its own
}

// New makes a Service without consumers. It runs nothing by itself: call Poll.
func New(cfg Config) *Service {
	if cfg.TimeScale == 0 {
		cfg.TimeScale = 1
	}
	if cfg.PageSize == 0 {
		cfg.PageSize = 100
	}
	return &Service{cfg: cfg, operations: map[string]*operation{}, users: newUserIdentities(),
		directory: &directory{groups: map[string][]string{}}}
}

// scaled applies the time scale to a service's delay.
func (s *Service) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.cfg.TimeScale)
}

// all returns a copy of the list, because consumers call vaults and must be used
// without the lock.
func (s *Service) all() []*consumer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.consumers)
}

// find returns the consumer with a resource id, or nil.
func (s *Service) find(id string) *consumer {
	for _, c := range s.all() {
		if strings.EqualFold(c.id, id) {
			return c
		}
	}
	return nil
}

// named returns the first consumer with a name.
func (s *Service) named(name string) (*consumer, error) {
	for _, c := range s.all() {
		if strings.EqualFold(c.name, name) {
			return c, nil
		}
	}
	return nil, refuse(http.StatusNotFound, "ResourceNotFound", "There is no consumer named %q.", name)
}

// ensure finds a consumer or creates an empty one.
func (s *Service) ensure(k *kind, id, name string) (c *consumer, made bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.consumers {
		if strings.EqualFold(c.id, id) {
			return c, false
		}
	}
	c = &consumer{service: s, kind: k, id: id, name: name, doc: document{}, made: s.cfg.Now()}
	c.nextLook = c.made.Add(s.scaled(k.delay))
	s.consumers = append(s.consumers, c)
	return c, true
}

// remove removes a consumer with its children and slots.
func (s *Service) remove(c *consumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	inside := strings.ToLower(c.id)
	s.consumers = slices.DeleteFunc(s.consumers, func(o *consumer) bool {
		id := strings.ToLower(o.id)
		return o == c || strings.HasPrefix(id, inside+"/") || strings.HasPrefix(id, inside+"#")
	})
}

// parent returns the resource that a child belongs to, or nil.
func (c *consumer) parent() *consumer {
	if c.kind.parent == nil {
		return nil
	}
	id := c.id[:strings.LastIndex(c.id, "/")]
	return c.service.find(id[:strings.LastIndex(id, "/")])
}

// settings is a copy of a consumer's document.
func (c *consumer) settings() document {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doc.clone()
}

// Write makes a consumer encrypt and store data.
func (s *Service) Write(ctx context.Context, name string, data []byte) error {
	c, err := s.named(name)
	if err != nil {
		return err
	}
	if above := c.writesAbove(); above != nil {
		c = above
	}
	return c.write(ctx, data)
}

// Backup makes a consumer keep a copy of all its data for this long. Later rotations do
// not change the copy.
func (s *Service) Backup(name string, keep time.Duration) error {
	c, err := s.named(name)
	if err != nil {
		return err
	}
	c.backUp(keep)
	return nil
}

// Package arm stands in for Azure Resource Manager, and for four services behind it
// that encrypt under a customer-managed key: storage accounts, Cosmos DB accounts,
// disk encryption sets and AI services. They are called consumers.
//
// Its one rule: a consumer is a client of the vault like any other. It signs in with
// an identity of its own, calls the vault by HTTPS, and keeps its data keys wrapped
// only. So it loses its data when the vault refuses it, and gets it back when the
// vault does not.
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

// Config is what the consumers need of the world.
type Config struct {
	// Client reaches the vaults by their names and the managed-identity endpoint of a
	// virtual machine (IMDS) at 169.254.169.254.
	Client *http.Client
	Now    func() time.Time
	// TimeScale is how many times faster than in life services look for new versions
	// and finish rotations; 0 is 1.
	TimeScale float64
	TenantID  string
	// Trust is told the client id of each identity with which a consumer signs in: it
	// is a trusted Azure service to a vault's firewall.
	Trust  func(clientID string)
	Logger *slog.Logger
}

// Service holds the consumers. Its methods may be called from several goroutines.
type Service struct {
	cfg Config

	mu         sync.Mutex
	consumers  []*consumer // in the order in which they were made
	operations map[string]*operation
}

// New makes a Service without consumers. It runs nothing by itself: call Poll.
func New(cfg Config) *Service {
	if cfg.TimeScale == 0 {
		cfg.TimeScale = 1
	}
	return &Service{cfg: cfg, operations: map[string]*operation{}}
}

// scaled is a delay of a service as the time scale has it.
func (s *Service) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.cfg.TimeScale)
}

// all is a copy of the list: consumers are used without holding the lock, because
// they call vaults.
func (s *Service) all() []*consumer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.consumers)
}

// find gives the consumer of a resource id, or nil.
func (s *Service) find(id string) *consumer {
	for _, c := range s.all() {
		if strings.EqualFold(c.id, id) {
			return c
		}
	}
	return nil
}

// named gives the first consumer of a name.
func (s *Service) named(name string) (*consumer, error) {
	for _, c := range s.all() {
		if strings.EqualFold(c.name, name) {
			return c, nil
		}
	}
	return nil, refuse(http.StatusNotFound, "ResourceNotFound", "There is no consumer named %q.", name)
}

// ensure finds a consumer or makes one that holds nothing yet.
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

func (s *Service) remove(c *consumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumers = slices.DeleteFunc(s.consumers, func(o *consumer) bool { return o == c })
}

// Write has a consumer encrypt data and keep it.
func (s *Service) Write(ctx context.Context, name string, data []byte) error {
	c, err := s.named(name)
	if err != nil {
		return err
	}
	return c.write(ctx, data)
}

// Backup has a consumer keep a copy of all it holds for so long, as it is: what is
// rotated later is not rotated in the copy.
func (s *Service) Backup(name string, keep time.Duration) error {
	c, err := s.named(name)
	if err != nil {
		return err
	}
	c.backUp(keep)
	return nil
}

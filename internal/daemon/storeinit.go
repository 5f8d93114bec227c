package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/store/etcd"
	"github.com/keyd-project/keyd/internal/store/postgres"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// InitAs is who makes a store: a role that owns its tables, and not the daemon. The zero value: the configured user.
type InitAs struct {
	User         string
	PasswordFile string // absolute path; "": none is needed
}

// StoreMade is what InitStore did.
type StoreMade struct {
	Store    string `json:"store"`
	Instance string `json:"instance"`
	New      bool   `json:"new"`                  // there was none
	From     int    `json:"from_schema"`          // of PostgreSQL's tables; 0: there were none
	To       int    `json:"to_schema"`            // 0: the engine has no tables
	Role     string `json:"role,omitempty"`       // of the daemon, if another one owns the tables
	Grants   string `json:"grants_sql,omitempty"` // what the role still needs
}

// InitStore makes the store that a configuration names ready for its instance, or brings it to the newest schema. It
// changes nothing in a store of another instance.
func InitStore(ctx context.Context, configPath string, as InitAs) (made StoreMade, err error) {
	cfg, err := config.Load(configPath)
	if err != nil {
		return made, err
	}
	made.Store, made.Instance = storeName(cfg), cfg.Instance
	var open func() (stored.Engine, error)
	switch {
	case !cfg.Store.Shared():
		return made, &control.UsageError{
			Text: "the configuration has the state in a file of one host, which keyd run makes " +
				"by itself: write store: for several hosts first",
		}
	case cfg.Store.Postgres != nil:
		open, err = initPostgres(ctx, cfg, as, &made)
	default:
		open, err = initEtcd(ctx, cfg, as)
	}
	if err != nil {
		return made, err
	}
	e, err := open()
	if err != nil {
		return made, err
	}
	made.New, err = claim(ctx, e, cfg.Instance)
	return made, errors.Join(err, e.Close())
}

// initPostgres makes the tables. It looks first whose they are.
func initPostgres(
	ctx context.Context, cfg *config.Config, as InitAs, made *StoreMade,
) (func() (stored.Engine, error), error) {
	if err := checkStoreFiles(cfg); err != nil {
		return nil, err
	}
	o, err := postgresOptions(cfg)
	if err != nil {
		return nil, err
	}
	o.Synchronous = false // nothing is lost with whose store it is: init says it again
	scheme, rest, _ := strings.Cut(o.URL, "://")
	role, rest, _ := strings.Cut(rest, "@")
	if as.User != "" {
		if strings.ContainsAny(as.User, ":@/?") {
			return nil, &control.UsageError{Text: "--as takes a role's name, and no password: see --password-file"}
		}
		made.Role, o.URL, o.Password = role, scheme+"://"+as.User+"@"+rest, nil
	}
	if as.PasswordFile != "" {
		o.Password = func() (string, error) { return readPassword(as.PasswordFile, serviceUID(cfg)) }
	}
	open := func() (stored.Engine, error) { return postgres.Open(o) }
	if err := refuseOther(ctx, open, cfg.Instance); err != nil {
		return nil, err
	}
	if made.From, made.To, err = postgres.Init(ctx, o); err != nil {
		return nil, err
	}
	if made.Role != "" {
		made.Grants = postgres.Grants(made.Role)
	}
	return open, nil
}

func initEtcd(ctx context.Context, cfg *config.Config, as InitAs) (func() (stored.Engine, error), error) {
	if err := checkStoreFiles(cfg); err != nil {
		return nil, err
	}
	c, err := etcdConfig(*cfg.Store.Etcd)
	if err != nil {
		return nil, err
	}
	if as.User != "" {
		c.User, c.PasswordFile = as.User, as.PasswordFile
	}
	return func() (stored.Engine, error) { return etcd.Open(ctx, c) }, etcd.Init(ctx, c)
}

// refuseOther refuses a store of another instance. One that cannot be read may not have been made yet.
func refuseOther(ctx context.Context, open func() (stored.Engine, error), instance string) error {
	e, err := open()
	if err != nil {
		return err
	}
	if name, blobErr := e.Blob(ctx, instanceBlob); blobErr == nil && len(name) > 0 && string(name) != instance {
		err = checkInstance(ctx, e, instance)
	}
	return errors.Join(err, e.Close())
}

// claim writes whose store it is. isNew: nobody had it.
func claim(ctx context.Context, e stored.Engine, instance string) (isNew bool, err error) {
	name, err := e.Blob(ctx, instanceBlob)
	if err != nil || len(name) > 0 {
		return false, errors.Join(err, checkInstance(ctx, e, instance))
	}
	tip, err := e.Tip(ctx)
	if err == nil && tip.Seq > 0 {
		err = fmt.Errorf("%s has %d audit entries, and does not say of which instance: nothing was changed", e.Name(),
			tip.Seq)
	}
	if err != nil {
		return false, err
	}
	return true, e.PutBlob(ctx, stored.Blob{Name: instanceBlob, Value: []byte(instance)})
}

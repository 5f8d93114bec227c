package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// SchemaError says that the tables are not those that this keyd knows.
type SchemaError struct{ Found, Known int }

func (e *SchemaError) Error() string {
	if e.Found > e.Known {
		return fmt.Sprintf("the tables have schema %d and this keyd knows up to %d: install the newer keyd here",
			e.Found, e.Known)
	}
	return fmt.Sprintf("the tables have schema %d and this keyd needs %d: upgrade all hosts, then run keyd store init",
		e.Found, e.Known)
}

// Class is Refused.
func (e *SchemaError) Class() key.Class { return key.Refused }

// known refuses a schema that is not the newest that this keyd knows.
func known(found int) error {
	if newest := len(migrations()); found != newest {
		return &SchemaError{Found: found, Known: newest}
	}
	return nil
}

// refused are what package stored says of a change that certainly was not made.
var refused = []error{stored.ErrTip, stored.ErrRecord, stored.ErrEpoch, stored.ErrHeld, stored.ErrSealed}

func refusedBy(err error) bool {
	return slices.ContainsFunc(refused, func(r error) bool { return errors.Is(err, r) })
}

// failed is an error of the engine. Before COMMIT was sent nothing can have happened.
func (e *Engine) failed(doing string, err error, committing bool) error {
	if refusedBy(err) {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	return &stored.EngineError{
		Engine: e.name, Doing: doing, Err: explained(err), Ambiguous: committing && !certain(err),
	}
}

// idle is a transaction that the server ended because nothing came, not even COMMIT.
const idle = "25P03"

// certain reports whether an answer to COMMIT says that nothing happened. Class 40 is a rollback, but for 40003, of
// which even the server does not know; 25 is a transaction that cannot write, and 23 a constraint.
func certain(err error) bool {
	var p *pgconn.PgError
	if errors.As(err, new(*answered)) || !errors.As(err, &p) {
		return false // pgconn.SafeToRetry does not help: it calls it safe when an answer is cut off
	}
	if p.Code == idle {
		return true
	}
	class := p.Code[:min(2, len(p.Code))]
	return p.SeverityUnlocalized == "ERROR" && p.Code != "40003" && slices.Contains([]string{"40", "25", "23"}, class)
}

// answered is an error of what came after COMMIT: to that itself the server said yes.
type answered struct{ err error }

func (a *answered) Error() string {
	return fmt.Sprintf("the server committed it, perhaps without a standby: %v", a.err)
}

func (a *answered) Unwrap() error { return a.err }

// remedies say what to do about what the server answered, by its code.
var remedies = map[string]string{
	"28P01": "the password is wrong: look at store.postgres.password_file",
	"28000": "the server does not let keyd's role in: look at pg_hba.conf",
	"3D000": "create the database, then run keyd store init",
	"3F000": "run keyd store init",
	"42P01": "run keyd store init",
	"42501": "grant keyd's role the rights that keyd store init shows",
	"25006": "this server takes no writes: name all hosts in store.postgres.url, and look why the primary is read-only",
	"53100": "the server's disk is full",
	"53300": "the server has no free connection: raise max_connections",
	"55P03": "another change takes long: look at pg_stat_activity",
	"57014": "the server did not finish in time: look at its load, and at pg_stat_activity",
}

// explained adds a remedy to the server's words. It drops what pgx knows of the connection, which has the password.
func explained(err error) error {
	var c *pgconn.ConnectError
	if errors.As(err, &c) {
		err = oneLine{fmt.Errorf("connect: %w", c.Unwrap())}
	}
	var p *pgconn.PgError
	if errors.As(err, &p) && remedies[p.Code] != "" {
		return fmt.Errorf("%w: %s", err, remedies[p.Code])
	}
	return err
}

// oneLine is an error about several hosts in one line.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", "; ") }

func (e oneLine) Unwrap() error { return e.error }

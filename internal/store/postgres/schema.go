package postgres

import (
	"context"
	"embed"
	_ "embed"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var files embed.FS

//go:embed grants.sql
var grants string

// migrations are the texts that bring the tables from schema n to n+1, in order.
func migrations() (texts []string) {
	for n := 1; ; n++ {
		text, err := files.ReadFile(fmt.Sprintf("migrations/%d.sql", n))
		if err != nil {
			return texts
		}
		texts = append(texts, string(text))
	}
}

// Grants is SQL that gives the daemon's role the least rights, for the owner of the tables and a superuser.
func Grants(role string) string {
	return strings.ReplaceAll(grants, `:"role"`, pgx.Identifier{role}.Sanitize())
}

// Init makes the tables, or brings them to the newest schema, as the role in the URL, which then owns them. What was in
// them stays. It says from which schema to which. Daemons that know only the older one refuse to go on. Errors:
// *Problem, *SchemaError.
func Init(ctx context.Context, o Options) (from, to int, err error) {
	c, err := o.config()
	if err != nil {
		return 0, 0, err
	}
	connected(c)
	if err := o.beforeConnect(ctx, c.ConnConfig); err != nil {
		return 0, 0, err
	}
	name := nameOf(hostsOf(&c.ConnConfig.Config))
	conn, err := pgx.ConnectConfig(ctx, c.ConnConfig)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", name, explained(err))
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
		from, to, err = migrate(ctx, tx)
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("%s: make the tables: %w", name, explained(err))
	}
	return from, to, nil
}

// migrate runs what the tables lack. Two that run at once do not harm each other: one of them fails.
func migrate(ctx context.Context, tx pgx.Tx) (from, to int, err error) {
	texts := migrations()
	var tables int
	err = tx.QueryRow(ctx, `SELECT count(*) FROM information_schema.tables
		WHERE table_schema = 'keyd' AND table_name = 'head'`).Scan(&tables)
	if err == nil && tables > 0 {
		err = tx.QueryRow(ctx, `SELECT schema FROM keyd.head FOR UPDATE`).Scan(&from)
	}
	if err != nil {
		return 0, 0, err
	}
	if from > len(texts) {
		return 0, 0, &SchemaError{Found: from, Known: len(texts)}
	}
	for _, text := range texts[from:] {
		if _, err := tx.Exec(ctx, text); err != nil {
			return 0, 0, err
		}
	}
	_, err = tx.Exec(ctx, `UPDATE keyd.head SET schema = $1`, len(texts))
	return from, len(texts), err
}

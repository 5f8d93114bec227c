package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// oldest is the first release of PostgreSQL that keyd is tested with, as server_version_num has it.
const oldest = 150000

// Warnings says what an operator should see to now.
func (e *Engine) Warnings(ctx context.Context) (warnings []string, err error) {
	const doing = "look at the server"
	add := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	err = e.read(ctx, doing, `SELECT coalesce(current_setting('server_version_num', true), ''),
		coalesce(current_setting('fsync', true), ''), coalesce(current_setting('full_page_writes', true), ''),
		has_table_privilege('keyd.entry', 'UPDATE') OR has_table_privilege('keyd.entry', 'DELETE')`,
		func(r pgx.Rows) error {
			var version, fsync, pages string
			var owns bool
			if err := r.Scan(&version, &fsync, &pages, &owns); err != nil {
				return err
			}
			if n, err := strconv.Atoi(version); err == nil && n < oldest {
				add("%s is PostgreSQL %d: keyd is made for %d and later", e.name, n/10000, oldest/10000)
			}
			if fsync == "off" || pages == "off" {
				add("%s: fsync or full_page_writes is off, so a power failure can damage the store: switch both on",
					e.name)
			}
			if owns {
				add("%s: keyd's role may change and remove audit entries: let it use a role that has only the rights "+
					"that keyd store init shows", e.name)
			}
			return nil
		})
	if err != nil {
		return nil, err
	}
	if !e.synchronous {
		return warnings, nil
	}
	err = e.read(ctx, doing, standbys, func(r pgx.Rows) error {
		row := make([]string, 4)
		if err := r.Scan(&row[0], &row[1], &row[2], &row[3]); err != nil {
			return err
		}
		if refusal := keptIn(row).refusal(); refusal != nil {
			add("%s: keyd changes nothing: %v", e.name, refusal)
		}
		return nil
	})
	return warnings, err
}

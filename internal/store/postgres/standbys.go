package postgres

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// standbys asks how a COMMIT is kept, as text in one row. It runs in the transaction that it is about, because each
// transaction may have a setting of its own.
const standbys = `
SELECT current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
  count(CASE WHEN state = 'streaming' AND sync_state IN ('sync', 'quorum') THEN 1 END)::text,
  count(CASE WHEN sync_state IS NULL THEN 1 END)::text
FROM pg_catalog.pg_stat_replication`

// durability asks the same where no standby is needed.
const durability = `SELECT coalesce(current_setting('synchronous_commit', true), 'on'), '', '0', '0'`

// kept is how a COMMIT is kept.
type kept struct {
	commit  string // synchronous_commit
	names   string // synchronous_standby_names
	has     int    // standbys that a COMMIT waits for, and that are there
	hidden  int    // standbys of which this role may not see more
	without bool   // none is needed
}

// keptIn reads the row of standbys.
func keptIn(row []string) kept {
	has, _ := strconv.Atoi(row[2]) // it is a count, and one that cannot be read is as bad as none
	hidden, _ := strconv.Atoi(row[3])
	return kept{commit: row[0], names: row[1], has: has, hidden: hidden}
}

// SynchronousError says why a COMMIT would not be safe from the loss of one server.
type SynchronousError struct{ What, Remedy string }

func (e *SynchronousError) Error() string { return e.What + "; " + e.Remedy }

const orOff = ", or write synchronous: off in store.postgres if the storage below the server loses nothing"

// refusal is why nothing may be changed now, or nil.
func (k kept) refusal() error {
	wants := wanted(k.names)
	switch {
	case k.commit == "off", k.commit == "local" && !k.without:
		return &SynchronousError{"synchronous_commit is " + k.commit + ", so a commit can be lost",
			"run: ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf(); and look for another value of " +
				"the role (\\drds in psql)"}
	case k.without:
		return nil
	case strings.TrimSpace(k.names) == "":
		return &SynchronousError{"synchronous_standby_names is empty, so a failover can lose commits",
			"set it to the application_name of a standby" + orOff}
	case k.has < wants && k.hidden > 0:
		return &SynchronousError{"keyd's role may not see the standbys' states",
			"run as a superuser: GRANT pg_read_all_stats TO the role of keyd (keyd store init shows all rights)"}
	case k.has < wants:
		return &SynchronousError{fmt.Sprintf("%d of %d synchronous standbys are there, so a failover can lose commits",
			k.has, wants), "start the standby, and look at pg_stat_replication on the primary" + orOff}
	}
	return nil
}

var number = regexp.MustCompile(`(?i)^\s*(?:(?:first|any)\s+)?(\d+)\s*\(`)

// wanted is how many standbys a COMMIT waits for: FIRST 2 (a, b, c), ANY 1 (*), 2 (a, b), or one of a, b.
func wanted(names string) int {
	if m := number.FindStringSubmatch(names); m != nil {
		n, err := strconv.Atoi(m[1])
		if !errors.Is(err, strconv.ErrRange) {
			return n
		}
	}
	return 1
}

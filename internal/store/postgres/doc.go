// Package postgres is the engine of a store for several hosts on PostgreSQL 15 or later. Its rule: a change is one
// transaction that first locks the one row of keyd.head, so that it sees what the change before it left, and whatever
// does not answer to COMMIT is ambiguous.
//
// It is plain SQL over plain transactions: no advisory lock, no LISTEN, no prepared statement and no setting that
// outlives its transaction. So pgbouncer may be between, in transaction mode.
//
// # Standbys
//
// With Options.Synchronous a change is made only while enough standbys have every commit: the transaction asks for them
// before it writes. A standby that goes away just then leaves COMMIT without an answer. keyd never cancels that wait,
// because PostgreSQL would then show a commit that no standby has. After an ambiguous change Tip and Entries lock the
// row, too, and commit, before they read: so the transaction in doubt has ended, and a standby has whatever they
// show. If that cannot be had they fail, and so nobody acts by it; Record and Heads go on.
//
// # Deadlines
//
// A connection to one host must be there within 3 s, and a statement or a COMMIT is done within Options.Deadline
// (10 s); a transaction waits for the row half as long. A host that hangs or vanishes loses its transaction, and the
// row with it, after a quarter of it.
package postgres

// Package bolt keeps the records and the audit chain in one file, keyd.db, in the state directory of one host. Its
// rule: a record changes only by compare-and-swap, and in the same transaction as the audit entries that say why.
// What cannot be read back exactly as it was written is refused by name, never guessed at.
//
// The file is a bbolt database with these buckets:
//
//	meta    "schema"              version of the records' form, 8 bytes big endian
//	        "epoch"               the newest term in which something was written, as lead.go says
//	        "sealed"              why it takes no changes any more
//	records key name              a record
//	audit   sequence number (8)   an audit entry; the number is big endian
//	ledgers name                  a ledger; from the first SaveLedger on
//
// Package stored says what their bytes are.
package bolt

// Package bolt keeps the records and the audit chain in one file, keyd.db, in the state directory of one host. Its
// rule: a record changes only by compare-and-swap, and in the same transaction as the audit entries that say why.
// What cannot be read back exactly as it was written is refused by name, never guessed at.
//
// The file is a bbolt database with these buckets:
//
//	meta    "schema"              version of the records' form, 8 bytes big endian
//	records key name              SHA-256 (32) ‖ revision (8) ‖ record as JSON
//	audit   sequence number (8)   previous hash (32) ‖ hash (32) ‖ link as JSON
//	ledgers name                  SHA-256 (32) ‖ blob; from the first SaveLedger on
//
// The numbers are big endian. chain.go defines the hashes of entries and records.
package bolt

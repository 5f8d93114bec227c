// Package stored says how every engine keeps a record, an audit entry and a ledger as bytes, and what a change of a
// shared store is. Its rule: the same record has the same bytes on every engine, and what cannot be read back exactly
// as it was written is refused.
//
//	record  SHA-256 (32) ‖ revision (8) ‖ record as JSON
//	entry   previous hash (32) ‖ hash (32) ‖ link as JSON
//	ledger  SHA-256 (32) ‖ blob
//
// The numbers are big endian. record.go and ledger.go define the sums.
package stored

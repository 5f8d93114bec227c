// Package chain is the audit chain as data: what an entry says, which events there are, how entries are linked and
// hashed. Its rule: it is pure, and it alone knows the form. A store keeps the chain, and the audit room reads it.
//
// Each entry has a number without gaps, the hash of the entry before it, and its own hash. That covers the hash before
// it, its number, the name of its key, and the SHA-256 of its content: an export may leave the content out, and the
// chain still links and shows of which key each entry is.
package chain

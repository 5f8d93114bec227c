// Package chain is the audit chain as data: what an entry says, which events there are, and how entries are linked
// and hashed. Its rule: it is pure, and it alone knows the form. A store keeps the chain, and the audit room reads
// it.
//
// Entries are numbered without gaps. Each has the hash of the entry before it, and its own hash. An entry's hash
// covers the hash before it, its number, the name of its key, and the SHA-256 of its content. So an export may leave
// the content out: the chain still links, and still shows which key each entry is about.
package chain

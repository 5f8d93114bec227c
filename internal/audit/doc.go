// Package audit makes the audit chain usable for an auditor: it gets the chain's head
// signed, exports the chain, verifies an export without HSM or state, and compiles the
// receipt of a rotation. Its rule: everything that it reports comes from the chain, and
// it appends only checkpoints, audit keys, and once which pairs the HSM had when the
// chain began.
package audit

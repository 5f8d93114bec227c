// Package audit makes the audit chain something that an auditor can use: it has the
// chain's head signed, exports the chain, checks an export without HSM or state, and
// draws up the receipt of a rotation. Its rule: the chain is the only source of what
// it says, and it adds to the chain nothing but checkpoints and audit keys.
package audit

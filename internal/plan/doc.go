// Package plan decides what keyd does next with one key. Its rule: every decision is a pure function of one immutable
// Input: the time, the policy, the record and what was seen. Nothing here acts, looks or remembers.
//
// Rules lists all rules in their order. Next asks one after the other, and the first that answers decides.
package plan

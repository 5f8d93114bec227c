// Package leader has one host of an instance lead at a time. Its rule: a lease is for liveness only. Whatever this
// package believes, a store refuses the writes of a term that is over, and an effect has its own deadline.
package leader

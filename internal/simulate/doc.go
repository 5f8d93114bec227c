// Package simulate runs the real loop in a made-up world: a model HSM, model
// vaults, a model store, virtual time, people who help and people who meddle.
// Its rule: one seed decides everything, and nothing runs concurrently, so the
// same seed always gives the same trace.
//
// The models judge keyd while they serve it. A run ends when keyd breaks one of
// its promises, with a sentence that says which one.
package simulate

// Package simulate runs the real loop in a made-up world: a model HSM, model
// vaults, a model store, virtual time, people who help and people who meddle.
// Its rule: one seed decides everything, and nothing runs beside anything else,
// so that the same seed always gives the same trace.
//
// The models judge while they serve: what breaks one of keyd's promises ends the
// run with the sentence that says which.
package simulate

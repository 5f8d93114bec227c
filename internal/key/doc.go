// Package key holds the words that every room of keyd shares: policy, spec,
// generation, placement, record, state and error class. Its rule: pure data and
// pure functions, no I/O, no clock and no randomness of its own.
package key

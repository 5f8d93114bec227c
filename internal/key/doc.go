// Package key defines the terms that all rooms of keyd share: policy, spec, material, states, holds and error
// classes. Its rule: pure data and pure functions; no I/O, no clock, no randomness of its own.
package key

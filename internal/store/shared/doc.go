// Package shared is the store of an instance with several hosts, on an engine that its user already runs. Its rule: it
// decides what a change is, links it to the chain and finds out whether it happened; the engine only makes all of it or
// nothing of it.
package shared

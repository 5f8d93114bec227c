// Package shared is the store of an instance with several hosts, on an engine that its user already runs. Its rule: it
// decides what a change is, links it to the chain and finds out whether it happened; the engine only makes all of it or
// nothing of it.
//
// What this host knows of the chain (known.go) grows by its own changes and by following those of others. One writer at
// a time (write.go) links what waits after the end of the chain and commits it; when another host was first, it follows
// and links anew. A change whose answer was lost is found again by the hash of its entry, or made again in the very
// same bytes, of which only one can be in the chain. The last entry that this host saw is on its own disk (seen.go): a
// store without it stops every write (missing.go). Reads go on in any case.
package shared

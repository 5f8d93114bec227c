// Package health keeps proving the versions that rotations put into vaults. Its rule: it decides what to prove and
// when, and shows the results. It never changes a key, a record or a vault.
package health

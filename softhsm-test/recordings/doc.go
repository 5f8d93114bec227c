// Package recordings replays recordings of the real Key Vault and Managed HSM against the emulator, over TLS, and
// compares the answers.
//
// The recordings are the testdata of two versions of Microsoft's Go module azkeys, which the go command downloads;
// this repository contains none of them. They date from 2022 and use api-version 7.3.
//
// Its one rule: a difference is either fixed in the emulator or listed in testdata/differences.txt with its reason,
// and a listed one that no longer occurs is an error, too.
//
// It needs the build tag "recordings": `make test-recordings`.
package recordings

// Package clients tests the real keyvault-emulator with Microsoft's own SDKs for Go,
// JavaScript and Python: the same operations in every profile, with a separate vault
// for each client, and compares the results.
//
// Its one rule: the tests use the clients as anyone would, with their checks on, and direct
// them to the emulator only by their environment. The exception is Debian's Python package,
// which needs an api-version that is served (connect.py). If a client fails because the
// emulator differs from the service, the emulator is wrong.
//
// It needs node, npm, Debian's python3-azure and the build tag "clients":
// `make test-clients`. The az command line has a tag of its own, "az": `make test-az`.
package clients

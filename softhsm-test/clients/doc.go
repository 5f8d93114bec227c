// Package clients drives the real keyvault-emulator with Microsoft's own SDKs for Go,
// JavaScript and Python: the same operations in every profile, one vault of its own for
// each client, and what comes of them compared.
//
// Its one rule: the clients are used as anyone would, with their checks on, and are
// pointed at the emulator by their environment alone; but Debian's Python package has to
// be told of an api-version that is served (connect.py). Where one of them fails because the
// emulator is unlike the service, the emulator is wrong.
//
// It needs node, npm, Debian's python3-azure and the build tag "clients":
// `make test-clients`. The az command line has a tag of its own, "az": `make test-az`.
package clients

// Package systemtest shows how the installed package behaves under systemd. Its
// rule: systemd runs for real, as pid 1 of a container over a throw-away overlay of
// this machine's root, and nothing outside that container is touched. `make
// test-system` builds and runs it, as root.
package systemtest

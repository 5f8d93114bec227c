// Package alertstest tests that alerts reach a person. Its rule: real keyd, SoftHSM,
// Prometheus and Alertmanager run on loopback ports in their own directory, with the
// shipped rules and the documented configuration; only waiting times are shorter. `make
// test-alerts` builds and runs it.
package alertstest

// Package alertstest shows that alerts reach a person. Its rule: keyd, SoftHSM,
// Prometheus and Alertmanager run for real, on loopback ports and in a directory of
// their own, with the rules and the configuration as shipped and documented; only
// waiting times are shortened. `make test-alerts` builds and runs it.
package alertstest

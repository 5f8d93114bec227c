// Package web is the listener for Prometheus and for a person's eyes: metrics,
// health, readiness, runbooks and a status page with its events. Its rule: read
// only; nothing that it serves acts, and nothing in it is secret.
package web

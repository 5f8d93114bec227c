// Package web is the listener for Prometheus and people: metrics, health, readiness,
// runbooks and a status page with its events. Its rule: read only. Nothing that it
// serves changes anything, and nothing that it shows is secret.
package web

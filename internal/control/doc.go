// Package control is the daemon's unix socket: HTTP and JSON, a server and its client.
// Its rule: it authorises a peer by the identity that the kernel reports, and
// translates; it decides nothing about keys.
package control

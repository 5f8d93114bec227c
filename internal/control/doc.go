// Package control is the daemon's unix socket: HTTP and JSON, a server and its
// client. Its rule: it authorises a peer by what the kernel says of it, and
// translates; it decides nothing about keys.
package control

// Package hsm talks to the PKCS#11 token and runs the process around it. Its rule: only this package imports
// miekg/pkcs11. No request in its protocol can read a key, decrypt for the caller, wrap to a KEK that this side does
// not trust, or sign anything except a checkpoint of the audit chain.
//
// The HSM side (Run) is crash-only. When a call hangs, or the library needs a new C_Initialize, the process ends, and
// a supervisor (systemd, or Supervisor in the parent) starts it again. keyd never calls C_Finalize and never closes a
// session during a call: both crash common modules.
package hsm

// Package hsm is the PKCS#11 token and the process around it. Its rule: it is
// the only importer of miekg/pkcs11, and nothing that enters through its
// protocol can read a key, decrypt for the caller, wrap to a KEK that was not
// trusted on this side, or have anything signed but a checkpoint of the audit
// chain.
//
// The HSM side (Run) is crash-only: a call that hangs, or a library that needs
// to be initialised again, ends the process, and a supervisor (systemd, or
// Supervisor in the parent) starts it again. There is no C_Finalize and no
// closing of a session under a call: both make common modules crash.
package hsm

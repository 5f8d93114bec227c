// Package consumers tests that no consumer loses anything while keyd rotates and retires its key. Its rule: both
// processes of the real keyd, SoftHSM and consumers that really encrypt live on one clock, which runs faster and can
// skip days, and the consumers themselves judge, by reading everything that they ever wrote. `make test-consumers`
// builds and runs it.
package consumers

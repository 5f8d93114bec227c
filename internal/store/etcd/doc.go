// Package etcd keeps the store of several hosts in an etcd that its user already runs: 3.4.22 or later, 3.5.6 or later.
// Its rule: a change is one transaction that compares everything by value, never by a number alone; and what was not
// answered is called ambiguous unless it certainly did not happen.
//
// All keys are under one prefix, an absolute one that ends in "/":
//
//	format          "1": the form of what is stored; Init makes it
//	tip             the end of the chain: number (8) ‖ hash (32)
//	entry/NUMBER    an audit entry; the number has 16 hexadecimal digits
//	head/NAME       the head of a record: sum (32) ‖ revision (8)
//	record/NAME     a record, with its head
//	blob/NAME       a blob
//	epoch           the epoch in force: number (8) ‖ nonce (16); it stays when the lease is over
//	leader          who took this epoch, and when, as JSON
//	lease           the epoch ‖ etcd's lease (8) ‖ seconds asked for (8); it is gone when the lease is over
//	void/HANDLE     how often this handle voided what it had sent: see Tip
//	sealed          why the store takes no changes any more
//
// Package stored says what the bytes of entries and records are. The numbers are big endian.
//
// # The lease
//
// The lease is one of etcd's own: only etcd knows a time that all hosts share. It counts in whole seconds, has a
// shortest time of its own (2 s by default) and may live longer than asked for, after etcd itself got a new leader. It
// may also end too early, when a member with a slow disk did not see a renewal. Neither harms anything: the epoch is a
// key without a lease, and each guarded write compares it. etcd shows no clock, so that the times in a lease are those
// of the host; how long it still holds is etcd's.
//
// # Sizes
//
// etcd takes requests of 1.5 MiB and 128 operations in one transaction, by default. The largest change of package
// stored fits: its writes are nested transactions. What is larger is refused before it is sent.
package etcd

// Package priority decides who goes first where work waits for the same scarce thing: a vault's rate limit, the HSM's
// sessions, the slots of the loop. Its rule: the higher class goes first, and each class that waits gets at least
// every tenth turn, so that none starves.
package priority

import "context"

// Class is what a piece of work is for. The lower number goes first.
type Class int

// The classes, highest first.
const (
	Operator Class = iota // a person requested it and waits
	Repair                // something is broken: a vault shows what it should not
	Due                   // a scheduled rotation, or the retirement of a version
	Proof                 // a proof of something that should already work
	Look                  // a routine look
	classes  int   = iota
)

var names = [classes]string{"operator", "repair", "due", "proof", "look"}

// String is the class as metrics and logs show it.
func (c Class) String() string { return names[c] }

// All lists the classes, highest first.
func All() []Class {
	all := make([]Class, classes)
	for i := range all {
		all[i] = Class(i)
	}
	return all
}

type classKey struct{}

// With returns a context for work of this class.
func With(ctx context.Context, c Class) context.Context { return context.WithValue(ctx, classKey{}, c) }

// Of returns the class of a context's work; Look if it has none.
func Of(ctx context.Context) Class {
	if c, ok := ctx.Value(classKey{}).(Class); ok {
		return c
	}
	return Look
}

// share is how many turns a waiting class lets others have before it gets one.
const share = 10

// Picker chooses whose turn it is. The zero value is ready. Two goroutines must not use it at once.
type Picker struct {
	passed [classes]int // how many turns in a row each waiting class has let pass
}

// Next chooses among the classes that wait; ok is false if none does.
func (p *Picker) Next(waits func(Class) bool) (next Class, ok bool) {
	for _, c := range All() {
		if !waits(c) {
			p.passed[c] = 0
			continue
		}
		if !ok || p.passed[c] >= share-1 && p.passed[c] > p.passed[next] {
			next, ok = c, true
		}
		p.passed[c]++
	}
	if ok {
		p.passed[next] = 0
	}
	return next, ok
}

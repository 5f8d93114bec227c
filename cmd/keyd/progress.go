package main

import (
	"fmt"

	"github.com/keyd-project/keyd/internal/status"
)

// progress shows on a terminal how far something is, in one line on standard error that end takes away.
func (a *app) progress() (tell func(status.Progress), end func()) {
	if !canRedraw(a.err) {
		return func(status.Progress) {}, func() {}
	}
	const clear = "\r\x1b[K"
	tell = func(p status.Progress) { fmt.Fprint(a.err, clear+clean(p.Words())) }
	return tell, func() { fmt.Fprint(a.err, clear) }
}

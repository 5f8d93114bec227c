package daemon

import (
	"os"
	"runtime/debug"
)

// manyKeys is from how many keys on what keyd keeps is large, and the garbage must be a smaller part of it.
const manyKeys = 2000

// spareMemory has the garbage collector run more often. A daemon that mostly waits has processor time for that. GOGC in
// the environment counts more.
func spareMemory(keys int) {
	percent := 50
	if keys > manyKeys {
		percent = 20
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

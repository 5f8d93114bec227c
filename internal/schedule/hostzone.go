package schedule

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// localtime is the host's time zone where TZ is not set (localtime(5)).
const localtime = "/etc/localtime"

// CheckHostZone returns why the host's time zone could not be loaded. Go then silently
// uses UTC, and schedules without a zone of their own fire at other times.
func CheckHostZone() error {
	tz, set := os.LookupEnv("TZ")
	if set {
		return checkTZ(tz, time.Local.String())
	}
	return checkLocaltime(localtime, time.Local.String())
}

// fallback is the name of the zone that Go uses when it cannot load the configured one.
const fallback = "UTC"

func checkTZ(tz, loaded string) error {
	name := strings.TrimPrefix(tz, ":")
	if name == "" || name == "UTC" || name == "UTC0" || loaded != fallback {
		return nil // UTC0 is POSIX for UTC
	}
	return fmt.Errorf("the environment variable TZ names no time zone that exists: %q; "+
		"set it to a name such as TZ=Europe/Berlin (timedatectl list-timezones), or unset it to take %s", tz, localtime)
}

func checkLocaltime(path, loaded string) error {
	if _, err := os.Lstat(path); err != nil || loaded != fallback {
		return nil //nolint:nilerr // without the file the host's zone is UTC
	}
	if target, err := os.Readlink(path); err == nil && filepath.Base(target) == "UTC" {
		return nil
	}
	return fmt.Errorf("the host's time zone cannot be loaded: %s is no time zone; install the package tzdata, run "+
		"timedatectl set-timezone NAME, or set TZ to a name such as TZ=Europe/Berlin",
		path)
}

package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/schedule"
)

const scheduleRemedy = `write five fields (minute hour day month weekday), such as "0 3 1 */3 *", or @monthly or ` +
	`@every 90d`

// parseSchedule reads a standard cron expression of five fields, or a descriptor, with
// an optional CRON_TZ=ZONE or TZ=ZONE before it. parseSchedule removes the zone itself,
// because robfig/cron panics on a prefix with nothing after it.
func parseSchedule(text string) (key.Schedule, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return nil, faultf(scheduleRemedy, "the schedule is empty")
	}
	zone, hasZone, err := zoneOf(words[0])
	if err != nil {
		return nil, err
	}
	if hasZone {
		words = words[1:]
	}
	if len(words) == 0 {
		return nil, faultf(scheduleRemedy, "%q has a time zone and no schedule", text)
	}
	if words[0] == "@every" {
		if hasZone {
			return nil, faultf("remove the time zone, or write five fields", "@every does not depend on a time zone")
		}
		return parseEvery(words[1:])
	}
	calendar, err := parseFields(words, zone)
	if err != nil {
		return nil, err
	}
	if len(firings(calendar, 1)) == 0 {
		return nil, faultf("write a day that its months have; days of month go from 1 to 28 in every month",
			"%q never fires", text)
	}
	return calendar, nil
}

// zoneOf returns the zone that a schedule's first word names, or the host's zone.
func zoneOf(word string) (zone *time.Location, found bool, err error) {
	name, found := strings.CutPrefix(word, "CRON_TZ=")
	if !found {
		name, found = strings.CutPrefix(word, "TZ=")
	}
	if !found {
		return time.Local, false, nil
	}
	const remedy = "write a zone such as CRON_TZ=Europe/Berlin or CRON_TZ=UTC before the schedule"
	if name == "" {
		return nil, true, faultf(remedy, "%s names no time zone", word)
	}
	zone, err = time.LoadLocation(name)
	if err != nil {
		return nil, true, faultf(remedy, "unknown time zone %q", name)
	}
	return zone, true, nil
}

// parseEvery reads the duration of @every.
func parseEvery(words []string) (key.Schedule, error) {
	if len(words) != 1 {
		return nil, faultf("write a duration after it, such as @every 90d", "@every takes one duration")
	}
	d, err := parseDuration(words[0])
	if err != nil || d < time.Second || d%time.Second != 0 {
		return nil, faultf("write whole seconds or more, such as @every 12h or @every 90d",
			"@every %s is not a usable interval", words[0])
	}
	return schedule.Every(d), nil
}

func parseFields(words []string, zone *time.Location) (schedule.Calendar, error) {
	var none schedule.Calendar
	isDescriptor := strings.HasPrefix(words[0], "@")
	switch {
	case isDescriptor && len(words) > 1:
		return none, faultf("write the descriptor alone", "text after %s", words[0])
	case !isDescriptor && (len(words) == 6 || len(words) == 7):
		return none, faultf("remove the field for seconds: "+scheduleRemedy,
			"%d fields; seconds and years are not supported", len(words))
	case !isDescriptor && len(words) != 5:
		return none, faultf(scheduleRemedy, "%d fields instead of 5", len(words))
	}
	for _, w := range words {
		if strings.Contains(","+w+",", ",,") {
			return none, faultf("write a number between commas", "an empty entry in %q", w)
		}
	}
	calendar, err := schedule.Parse(strings.Join(words, " "), zone)
	if err != nil {
		return none, faultf(scheduleRemedy, "%v", err)
	}
	return calendar, nil
}

// firings lists the first n firings from 2024 on, over at most eight years, which have
// two leap days. It computes in UTC, so that the answer does not depend on the host or
// on clock changes.
func firings(s key.Schedule, n int) []time.Time {
	if calendar, ok := s.(schedule.Calendar); ok {
		s = calendar.In(time.UTC)
	}
	var times []time.Time
	t := time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)
	end := t.AddDate(8, 0, 0)
	for len(times) < n {
		t = s.Next(t)
		if t.IsZero() || t.After(end) {
			break
		}
		times = append(times, t)
	}
	return times
}

// checkPace refuses a schedule that the key's own floor or budget would always delay.
func checkPace(s key.Schedule, floor time.Duration, budget int) error {
	times := firings(s, max(50, budget+1))
	for i := 1; i < len(times); i++ {
		if gap := times[i].Sub(times[i-1]); gap < floor {
			return faultf(fmt.Sprintf("write a schedule that fires less often, or a floor of %s or less",
				showDuration(gap)),
				"it fires %s apart, and the floor is %s", showDuration(gap), showDuration(floor))
		}
	}
	for i := budget; i < len(times); i++ {
		if times[i].Sub(times[i-budget]) < day {
			return faultf("write a schedule that fires less often, or a larger budget",
				"it fires more than %d times in 24 hours, and the budget is %d", budget, budget)
		}
	}
	return nil
}

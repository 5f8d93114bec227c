package emulator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ParseRule reads a rule as the command line writes it: comma-separated
// NAME=VALUE with the names host, method, op, key, count, probability, status,
// code, inner, message, retry-after, drop (before or after), delay, for (how
// long from now), stale, skew-date, skew-created, and the words hold, no-retry-after,
// truncate, garbage, wrong-json, expired.
// Durations are as in "1m30s". Example: "op=import,count=1,drop=after".
func ParseRule(s string, now time.Time) (Rule, error) {
	var r Rule
	for _, part := range strings.Split(s, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if err := r.set(name, value, now); err != nil {
			return Rule{}, fmt.Errorf("rule %q: %s: %w", s, name, err)
		}
	}
	if !r.effects() {
		return Rule{},
			fmt.Errorf("rule %q has no effect: add status, drop, delay, hold, truncate, garbage, wrong-json, "+
				"expired, stale, skew-date or skew-created", s)
	}
	if r.Expired && r.Operation != opToken {
		return Rule{}, fmt.Errorf("rule %q: expired goes with op=token", s)
	}
	return r, nil
}

func (r *Rule) set(name, value string, now time.Time) (err error) {
	switch name {
	case "host":
		r.Host = value
	case "method":
		r.Method = value
	case "op":
		r.Operation, err = parseOperation(value)
	case "key":
		r.Key = value
	case "count":
		r.Count, err = strconv.Atoi(value)
	case "probability":
		r.Probability, err = strconv.ParseFloat(value, 64)
	case "status":
		r.Status, err = parseStatus(value)
	case "code":
		r.Code = value
	case "inner":
		r.Inner = value
	case "message":
		r.Message = value
	case "retry-after":
		r.RetryAfter, err = time.ParseDuration(value)
	case "no-retry-after":
		r.NoRetryAfter = true
	case "drop":
		r.Drop, err = parseDrop(value)
	case "delay":
		r.Delay, err = time.ParseDuration(value)
	case "hold":
		r.Hold = true
	case "truncate":
		r.Truncate = true
	case "garbage":
		r.Garbage = true
	case "wrong-json":
		r.WrongJSON = true
	case "expired":
		r.Expired = true
	case "stale":
		r.Stale, err = time.ParseDuration(value)
	case "for":
		var d time.Duration
		d, err = time.ParseDuration(value)
		r.Until = now.Add(d)
	case "skew-date":
		r.SkewDate, err = time.ParseDuration(value)
	case "skew-created":
		r.SkewCreated, err = time.ParseDuration(value)
	default:
		return fmt.Errorf("unknown name")
	}
	return err
}

func parseOperation(s string) (string, error) {
	known := []string{
		opConnect, opToken, opResource, opGraph, opLogs, opCreate, opImport, opGet, opVersions, opList, opUpdate,
		opDelete, opGetDeleted,
		opListDeleted, opRecover, opPurge, opRotation, opSetRotation, opRotate, opAttestation, opWrap, opUnwrap,
		opEncrypt, opDecrypt, opSign, opVerify,
	}
	if !slices.Contains(known, s) {
		return "", fmt.Errorf("%q is none of %s", s, strings.Join(known, ", "))
	}
	return s, nil
}

func parseStatus(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 400 || n > 599 {
		return 0, fmt.Errorf("%q is not a status from 400 to 599", s)
	}
	return n, nil
}

func parseDrop(s string) (DropMode, error) {
	switch s {
	case "before":
		return DropBeforeCommit, nil
	case "after":
		return DropAfterCommit, nil
	}
	return NoDrop, fmt.Errorf("%q is neither before nor after", s)
}

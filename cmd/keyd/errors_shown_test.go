package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// enough is how many letters of its own a text must have, so that it does not match everything.
const enough = 10

// passedOn has the texts with too few letters, because they pass another error on. For each, by file, it has a
// message that a script must show whole, except for advice on a line of its own.
func passedOn() map[string]string {
	const sent = "key one is not held" // sent by the rotate room, through the daemon, to the command
	const mars = `the environment variable TZ names no time zone that exists: "Mars/Olympus"; ` +
		"set it to a name such as TZ=Europe/Berlin (timedatectl list-timezones), or unset it to take /etc/localtime"
	return map[string]string{
		"accept_head.go --head: …":       `--head: "57" is not SEQ:HASH, such as 57:sha256: and 64 hex digits`,
		"accept_head.go --reason: …":     "--reason: the reason has 1 to 500 bytes of UTF-8, not 0",
		"accept_settings.go --reason: …": "--reason: the reason has 1 to 500 bytes of UTF-8, not 0",
		"attest.go …":                    "open gone.json: no such file or directory",
		"attest.go --…: …":               `--partition-root: "x" is not a fingerprint: write sha256: and 64 hex digits`,
		"attest.go --test-root: …":       "--test-root: open gone.pem: no such file or directory",
		"attest.go --test-root …: …":     "--test-root attestation.json: it has no certificate in PEM",
		"audit_receipt.go …":             "the audit has no generation 9 of sa-cmk-key: the newest is 2",
		"audit_verify.go …":              "open gone.jsonl: no such file or directory",
		"audit_verify.go …: …": "pub.pem: keyd cannot verify this file: its first line is not that of `keyd " +
			"audit export --format json`",
		"audit_verify.go --key: …":    "--key: open gone.pem: no such file or directory",
		"audit_verify.go --key …: …":  "--key ec.pem: its public key is not RSA",
		"audit_verify.go --expect: …": `--expect: "57" is not SEQ:HASH, such as 57:sha256: and 64 hex digits`,
		"backup.go backup: …":         "backup: copy.db exists already, or cannot be seen: choose another name",
		"check.go … of … failed":      "1 check of 3 failed",
		"run.go …":                    mars,
		"store.go --reason: …":        "--reason: the reason has 1 to 500 bytes of UTF-8, not 0",
		"watch.go detached; …":        "detached; the daemon goes on with new-key: see `keyd status new-key`",
		"watch.go …; …": "write /dev/stdout: no space left on device; the daemon goes on with " +
			"new-key: see `keyd status new-key`",
		"client.go …: …": "the keyd daemon cannot be reached: dial unix file/keyd.sock: connect: " +
			"not a directory",
		"client.go …":               "the disk is full",
		"errors.go …":               sent,
		"follow.go … is on hold: …": "sql-tde is on hold: a foreign version is newest",
		"backend.go …":              sent,
		"approvals.go no proposal … waits: keyd approvals lists those that do": "no proposal " + string(proposal) +
			" waits: keyd approvals lists those that do",
		"stateaudit.go …":                  "the audit has no entry of a key typo",
		"requests.go key … is held (…): …": "key one is held (paused): storage migration",
		"verify.go …: …":                   "long.jsonl: keyd cannot verify this file: bufio.Scanner: token too long",
	}
}

// notMet has the texts that no script can show, each with the reason.
func notMet() map[string]string {
	const (
		protocol = "the commands never send such a request; a test of internal/control does"
		before   = "the command finds that out by itself, and says it in its own words, unless it changes in " +
			"that moment"
		machine = "it takes a machine on which something else is wrong"
		records = "a write of the daemon's own fails; its log, status and alerts show it"
		hosts   = "it takes another host; a test of internal/daemon has two"
	)
	return map[string]string{
		"find this program, to start the HSM side: …":                                                         machine,
		"host … leads, and only the leader does this: give the command there":                                 hosts,
		"no host leads now, and only the leader does this: try again in a minute; keyd status says who leads": hosts,
		"this host acts on another configuration than the one in force, and what it shows may not be what follows: " +
			"bring the files here up to date, then: keyd reload; or give the command on another host": hosts,

		"encode the request: …": "what the commands send can always be encoded",
		"not finished: …: …": "the command says it in its own words: detached, " +
			"not finished in time",

		"a replacement has no such step":                       protocol,
		"adopt needs the token of the adoption that was shown": protocol,
		"retire needs the digest of what was shown":            protocol,
		"a reason is required: the audit records it":           before,
		"a compromise needs a reason: the audit records it":    before,
		"from must be the number of an audit entry":            protocol,
		"there is no export format …: json or csv":             before,
		"… must be an RFC 3339 time":                           protocol,
		"the request cannot be read: …":                        protocol,
		"the request has something behind its JSON value":      protocol,
		"the request is longer than … bytes: write a shorter reason, or name fewer keys at once": "it takes more " +
			"than ten thousand keys; a test of internal/control names them",
		"the control socket answers only to the host …":                    protocol,
		"the control socket does not answer web pages":                     protocol,
		"the peer of this connection is not known":                         machine,
		"there is no key …: keyd status lists the keys":                    before,
		"there is nothing to adopt for key …":                              before,
		"a proposal has an id of 32 hex digits: keyd approvals lists them": before,
		"vault … is no longer in the configuration: keyd withdraw … --reason …": "the proposal ends with its time; " +
			"nobody asks about a vault that is gone",

		"control socket …: a socket's path has at most … bytes: configure a shorter one": "the configuration is " +
			"refused before",
		"control socket …: there is something else than a socket at this path: move it away, or configure another " +
			"path": "the configuration is refused before",
		"… is in the way of the HSM socket and is not a socket: remove it or set another path": "the " +
			"configuration is refused before",
		"control socket: …": "the lock beside the socket is refused before",
		"bind: …":           machine,
		"listen: …":         machine,
		"give it to its group (the daemon's user must be a member): …": "root, who runs the tests in many " +
			"places, may give a file to every group",
		"the host's time zone cannot be loaded: … is no time zone; install the package tzdata, run timedatectl " +
			"set-timezone NAME, or set TZ to a name such as TZ=Europe/Berlin": machine,
		"make the HSM socket: …": machine,

		"write …: …; nothing was changed: look at the disk's space and health": records,
		"write …: …; whether it is on the disk is not known and is looked up before the next use: look at the " +
			"disk's health": records,
		"the state in … takes no changes any more: …. Put the store that it names into the configuration; keyd audit " +
			"--state … still reads it": "it names a host and a time; store.txtar matches it all the same",
		"run this as root: only root accepts a store that lost changes": "root runs the tests in many places",
		"… may not accept the store as it is: only root may": "root runs the tests in many places; a test of " +
			"internal/control is an operator",
		"there is nothing to accept: the store has all that this host saw, and no host has stopped the others": "it " +
			"takes an engine; a test of internal/daemon has one",
		"the state in … has schema … and this keyd knows up to …: install the newer keyd again, or put the copy " +
			"that it made before its migration in place": "it takes the state of a keyd that is not written yet; " +
			"a test of internal/store/bolt makes one",
	}
}

// shown returns every error message that the scripts compare as a whole.
func shown(t *testing.T) (all []string) {
	t.Helper()
	direct := regexp.MustCompile(`(?m)^fails \d (?:'((?:[^'\n]|'')*)'|(\S+)) `)
	compared := regexp.MustCompile(`(?m)^(?:cmp|cmpenv) (?:stderr|screen|output) (\S+)$`)
	for _, text := range scripts(t) {
		files := map[string]string{}
		for _, section := range strings.Split(text, "\n-- ")[1:] {
			name, body, _ := strings.Cut(section, " --\n")
			files[name] = body
		}
		names := []string{}
		for _, m := range direct.FindAllStringSubmatch(text, -1) {
			if m[2] == "" {
				all = append(all, strings.NewReplacer("''", "'", `\n`, "\n").Replace(m[1]))
			}
			names = append(names, m[2])
		}
		for _, m := range compared.FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
		for _, name := range names {
			if _, complaint, ok := strings.Cut("\n"+files[name], "\nkeyd: "); ok {
				all = append(all, strings.TrimSuffix(complaint, "\n"))
			}
		}
	}
	return all
}

// Every error that a user can meet is compared as a whole in a script, or excused here.
func TestEveryErrorThatAUserCanMeetIsInAScript(t *testing.T) {
	messages := shown(t)
	if len(messages) < 80 {
		t.Fatalf("only %d complaints were found in the scripts", len(messages))
	}
	passed, excused := passedOn(), notMet()
	used := map[string]bool{}
	for _, f := range findErrors(t) {
		place := f.file() + " " + f.text
		example, passes := passed[place]
		reason, excuse := excused[f.text]
		used[place], used[f.text] = true, true
		isShown := slices.ContainsFunc(messages, f.in)
		switch {
		case passes:
			if !f.in(example) ||
				!slices.ContainsFunc(
					messages,
					func(m string) bool { m, _, _ = strings.Cut(m, "\n"); return m == example },
				) {
				t.Errorf("%s: no script shows the error %q", f.where, example)
			}
		case excuse && f.letters >= enough && isShown:
			t.Errorf("%s: a script shows the error %q, and it is excused: %s", f.where, f.text, reason)
		case excuse:
		case f.letters < enough:
			t.Errorf(
				"%s: the error %q has hardly a text of its own: name a message in passedOn that a script shows",
				f.where,
				f.text,
			)
		case !isShown:
			t.Errorf("%s: no script shows the error %q", f.where, f.text)
		}
	}
	for _, names := range []map[string]string{passed, excused} {
		for name := range names {
			if !used[name] {
				t.Errorf("the code has no error %q any more", name)
			}
		}
	}
}

package web

import (
	"regexp"
	"slices"
	"strings"
)

// remedy is what to do: a text, and the commands in it, each to copy.
type remedy struct {
	Clauses  []clause // nil where the remedy is commands only
	Commands []string
}

// clause is a part of a remedy's text.
type clause struct {
	Text    string
	Command bool
}

// commandBegins finds where a command begins in a remedy. Whatever is missing here is shown as text only.
var commandBegins = regexp.MustCompile(`\b(?:` +
	`keyd (?:ack|adopt|approve|audit|backup|check|config|consumers|enable|kek|pause|plan|prove|reload|replace|resume|` +
	`rotate|status)|az [a-z]+|chronyc [a-z]+|journalctl -|systemctl [a-z]|timedatectl [a-z])`)

// forbids finds a word before a command that forbids it: what one must not do is not there to copy.
var forbids = regexp.MustCompile(`\b(?:not|never|without|instead of)(?: \w+){0,2} $`)

// proseWords go on with the sentence after a command.
var proseWords = strings.Fields(`a advises again alone and asks begins checks does for if is lifts lists on or ` +
	`resumes says show shows so that the then to tries until verifies when where which with`)

// remedyOf finds the commands in what to do. Names are those of the problem's key and vault, which may be any word.
func remedyOf(text string, names ...string) (r remedy) {
	prose := false
	add := func(c clause) {
		if c.Text != "" {
			r.Clauses = append(r.Clauses, c)
		}
		prose = prose || !c.Command && strings.Trim(c.Text, " ;,.") != ""
	}
	rest := text
	for {
		at := commandBegins.FindStringIndex(rest)
		if at == nil {
			break
		}
		end := at[0] + commandLength(rest[at[0]:], names)
		if forbids.MatchString(rest[:at[0]]) {
			add(clause{Text: rest[:end]})
		} else {
			add(clause{Text: rest[:at[0]]})
			command := rest[at[0]:end]
			add(clause{command, true})
			if !slices.Contains(r.Commands, command) {
				r.Commands = append(r.Commands, command)
			}
		}
		rest = rest[end:]
	}
	add(clause{Text: rest})
	if !prose {
		r.Clauses = nil
	}
	return r
}

// commandLength is how much of a text is the command that it begins with: up to the end of the clause, or to the word
// that goes on with the sentence. What is in quotes belongs to the command.
func commandLength(text string, names []string) int {
	length := 0
	for word := range strings.SplitAfterSeq(text, " ") {
		spaced := strings.TrimSpace(word)
		bare := strings.TrimRight(spaced, ";,:).")
		quoted := unclosed(text[:length])
		if !quoted && slices.Contains(proseWords, bare) && !slices.Contains(names, bare) {
			break
		}
		length += len(word)
		if unclosed(text[:length]) {
			continue
		}
		if bare != spaced {
			length -= len(word) - len(bare)
			break
		}
	}
	return len(strings.TrimRight(text[:length], " "))
}

// unclosed reports whether a text ends within quotes.
func unclosed(text string) bool {
	var quote rune
	for _, r := range text {
		switch {
		case quote == 0 && (r == '\'' || r == '"'):
			quote = r
		case r == quote:
			quote = 0
		}
	}
	return quote != 0
}

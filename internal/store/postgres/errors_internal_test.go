package postgres

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestWhatAnAnswerToCommitSaysForCertain(t *testing.T) {
	answer := func(severity, code string) error {
		return fmt.Errorf("wrapped: %w", &pgconn.PgError{SeverityUnlocalized: severity, Code: code})
	}
	for what, c := range map[string]struct {
		err  error
		want bool
	}{
		"a serialisation failure":             {answer("ERROR", "40001"), true},
		"a deadlock":                          {answer("ERROR", "40P01"), true},
		"a read-only server":                  {answer("ERROR", "25006"), true},
		"a constraint":                        {answer("ERROR", "23505"), true},
		"an idle transaction":                 {answer("FATAL", "25P03"), true},
		"an outcome that is unknown":          {answer("ERROR", "40003"), false},
		"a server that stops":                 {answer("FATAL", "57P01"), false},
		"a cancelled statement":               {answer("ERROR", "57014"), false},
		"an answer without a code":            {answer("ERROR", ""), false},
		"no answer":                           {errors.New("conn closed"), false},
		"what pgx says is safe to try again":  {safe{}, false},
		"a warning that comes with an answer": {errors.New("the server committed it with a warning"), false},
	} {
		if got := certain(c.err); got != c.want {
			t.Errorf("%s: certain %t, want %t", what, got, c.want)
		}
	}
}

type safe struct{}

func (safe) Error() string     { return "conn closed" }
func (safe) SafeToRetry() bool { return true }

func TestHowManyStandbysACommitWaitsFor(t *testing.T) {
	for names, want := range map[string]int{
		"*": 1, "a": 1, "a, b": 1, "2 (a, b, c)": 2, "FIRST 3 (a, b, c)": 3, "any 2 (*)": 2, " first  1 (a)": 1,
		`"2 (x"`: 1, "2": 1, "99999999999999999999 (a)": 1,
	} {
		if got := wanted(names); got != want {
			t.Errorf("%s: %d, want %d", names, got, want)
		}
	}
}

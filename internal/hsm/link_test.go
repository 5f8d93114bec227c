package hsm

import (
	"encoding/json"
	"errors"
	"net"
	"testing"
	"time"
)

// A process may answer and end at once, and be seen to have ended first.
func TestTheLastAnswerOfAProcessThatEndedIsNotLost(t *testing.T) {
	for range 100 {
		ours, file, err := socketPair()
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := net.FileConn(file)
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		l := newLink(ours)
		id, answer := l.register()
		err = (&frameWriter{conn: theirs}).write(response{ID: id, Result: json.RawMessage("{}")})
		if err := errors.Join(err, theirs.Close()); err != nil {
			t.Fatal(err)
		}
		l.drain(10 * time.Second)
		l.end(errors.New("the process ended"))
		select {
		case <-answer:
		default:
			t.Fatalf("the answer is lost: %v", l.why())
		}
	}
}

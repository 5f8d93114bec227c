package control

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// following runs Follow for keys a and b beside the test.
type following struct {
	steps []string
	err   chan error
}

func (f *following) Saw(e status.Event) { f.steps = append(f.steps, e.Key+" "+e.Step) }

func (f *following) Away(away bool) { f.steps = append(f.steps, fmt.Sprintf("away: %v", away)) }

func follow(t *testing.T, ctx context.Context, c *Client) *following {
	t.Helper()
	events, err := c.Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f := &following{err: make(chan error, 1)}
	accepted := []Accepted{{Key: "a", Request: requestID}, {Key: "b", Request: requestID}}
	go func() {
		f.err <- c.Follow(ctx, events, accepted, f)
	}()
	return f
}

func finished(k string) status.Event {
	return status.Event{Key: k, Step: "finish", Phase: status.Done, Requests: []key.ID{requestID}}
}

func TestFollowEndsWhenEveryRequestIsAnswered(t *testing.T) {
	b := newFake()
	f := follow(t, t.Context(), Dial(serve(t, b, everyone)))
	in := <-b.subscribed
	in <- status.Event{Key: "a", Step: "import", Phase: status.Done}
	in <- status.Event{Key: "other", Step: "import", Phase: status.Done}
	in <- status.Event{Key: "a", Step: "finish", Phase: status.Done} // of another request
	in <- finished("a")
	in <- finished("b")
	if err := <-f.err; err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"a import", "a finish", "a finish", "b finish"}, f.steps); diff != "" {
		t.Error(diff)
	}
}

func TestFollowReportsAHoldAndWaitsForTheRest(t *testing.T) {
	b := newFake()
	f := follow(t, t.Context(), Dial(serve(t, b, everyone)))
	in := <-b.subscribed
	in <- status.Event{Key: "a", Step: "hold", Phase: status.Done, Detail: "a foreign version"}
	in <- finished("b")
	var held *HeldError
	if err := <-f.err; !errors.As(err, &held) || held.Reason != "a foreign version" {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"a hold", "b finish"}, f.steps); diff != "" {
		t.Error(diff)
	}
}

func TestFollowCatchesUpAfterTheStreamBroke(t *testing.T) {
	b := newFake()
	f := follow(t, t.Context(), Dial(serve(t, b, everyone)))
	b.setSnapshot(status.Snapshot{Keys: []status.Key{
		{Name: "a",
			Generations: []status.Generation{{Number: 2, Requests: []key.ID{requestID}, Finished: time.Unix(1, 0)}}},
		{Name: "b", Hold: &key.Hold{Reason: "paused"}},
	}})
	close(<-b.subscribed)
	var held *HeldError
	if err := <-f.err; !errors.As(err, &held) || held.Key != "b" {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"away: true", "away: false", "a finish", "b hold"}, f.steps); diff != "" {
		t.Error(diff)
	}
}

func TestFollowOutlivesARestartOfTheDaemon(t *testing.T) {
	path := openDir(t) + "/keyd.sock"
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	b := newFake()
	stop := serveOn(t, l, b, everyone)
	f := follow(t, t.Context(), Dial(path))
	stop()
	again, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, again, b, everyone)
	for {
		select {
		case in := <-b.subscribed: // maybe still one of the server that stopped
			go func() {
				for _, k := range []string{"a", "b"} {
					select {
					case in <- finished(k):
					case <-t.Context().Done():
					}
				}
			}()
		case err := <-f.err:
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := follow(t, ctx, Dial(serve(t, newFake(), everyone)))
	cancel()
	var unfinished *UnfinishedError
	if err := <-f.err; !errors.Is(err, context.Canceled) || !errors.As(err, &unfinished) || len(unfinished.Keys) != 2 {
		t.Error(err)
	}
}

package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// How a follower continues when events are lost or the daemon is away.
const (
	// pollInterval is how often the follower reads the state besides the events,
	// because the daemon drops events for a slow reader.
	pollInterval = 2 * time.Second
	// patience is how long the daemon may be away, for example for a restart.
	patience  = time.Minute
	redialGap = 250 * time.Millisecond
)

// HeldError says that an awaited key is on hold.
type HeldError struct{ Key, Reason string }

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s is on hold: %s", e.Key, e.Reason)
}

// UnfinishedError says that Follow ended before the rotations of these keys.
type UnfinishedError struct {
	Keys []string // sorted
	Err  error
}

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("not finished: %s: %v", strings.Join(e.Keys, ", "), e.Err)
}

func (e *UnfinishedError) Unwrap() error { return e.Err }

// Viewer shows what Follow follows.
type Viewer interface {
	Saw(status.Event)
	Away(bool) // whether the daemon is away: first true, then false when it is back
}

// Follow shows the events of the keys whose rotation was accepted, until every request is answered or its key is on
// hold. It returns the joined *HeldErrors of keys on hold, and an *UnfinishedError if it ends earlier. events is a
// subscription that began before the requests. If the daemon goes away, Follow waits a minute for it.
func (c *Client) Follow(ctx context.Context, events <-chan status.Event, accepted []Accepted, v Viewer) error {
	f := &follower{waiting: map[string]key.ID{}, show: v.Saw}
	for _, a := range accepted {
		f.waiting[a.Key] = a.Request
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for len(f.waiting) > 0 {
		select {
		case <-ctx.Done():
			return f.unfinished(ctx.Err())
		case e, open := <-events:
			if open {
				f.saw(e)
				continue
			}
			v.Away(true)
			var err error
			if events, err = c.resubscribe(ctx); err != nil {
				return f.unfinished(err)
			}
			v.Away(false)
			c.look(ctx, f)
		case <-poll.C:
			c.look(ctx, f)
		}
	}
	return errors.Join(f.held...)
}

// look reads the state, because events may have been lost. The end of the events shows
// that the daemon is unreachable.
func (c *Client) look(ctx context.Context, f *follower) {
	var sel status.Selection
	for name := range f.waiting { // in random order: of many keys, each look sees some
		if len(sel.Only) < maxOnly {
			sel.Only = append(sel.Only, name)
		}
	}
	if snap, err := c.Snapshot(ctx, sel); err == nil {
		f.settle(snap)
	}
}

func (c *Client) resubscribe(ctx context.Context) (<-chan status.Event, error) {
	giveUp := time.Now().Add(patience)
	for {
		events, err := c.Subscribe(ctx)
		if err == nil || !errors.Is(err, ErrUnreachable) || time.Now().After(giveUp) {
			return events, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(redialGap):
		}
	}
}

// follower tracks which requests are still open.
type follower struct {
	waiting map[string]key.ID // by key
	held    []error
	show    func(status.Event)
}

func (f *follower) unfinished(err error) error {
	return &UnfinishedError{slices.Sorted(maps.Keys(f.waiting)), err}
}

func (f *follower) saw(e status.Event) {
	id, ours := f.waiting[e.Key]
	if !ours {
		return
	}
	f.show(e)
	switch {
	case e.Step == "finish" && e.Phase == status.Done && slices.Contains(e.Requests, id):
		delete(f.waiting, e.Key)
	case e.Step == "hold":
		reason := e.Detail
		if reason == "" {
			reason = e.Error
		}
		f.hold(e.Key, reason)
	}
}

func (f *follower) settle(snap status.Snapshot) {
	for _, k := range snap.Keys {
		id, ours := f.waiting[k.Name]
		if !ours {
			continue
		}
		if g, ok := Answering(k, id); ok {
			f.saw(status.Event{
				At: g.Finished, Key: k.Name, Generation: g.Number, Step: "finish", Phase: status.Done,
				Detail: "active everywhere", Requests: g.Requests,
			})
			continue
		}
		if k.Hold != nil {
			f.saw(status.Event{At: k.Hold.Since, Key: k.Name, Vault: k.Hold.Vault, Step: "hold", Phase: status.Wait,
				Detail: k.Hold.Reason})
		}
	}
}

func (f *follower) hold(name, reason string) {
	delete(f.waiting, name)
	f.held = append(f.held, &HeldError{Key: name, Reason: reason})
}

// Answering returns the finished generation that answers a request.
func Answering(k status.Key, id key.ID) (status.Generation, bool) {
	for _, g := range k.Generations {
		if !g.Finished.IsZero() && slices.Contains(g.Requests, id) {
			return g, true
		}
	}
	return status.Generation{}, false
}

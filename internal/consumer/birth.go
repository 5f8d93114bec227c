package consumer

import (
	"context"
	"strings"
	"sync"
	"time"
)

// birth is what tells a resource from another one that had its id before: somebody deleted that one, and made this one
// or restored it from a backup. What Azure does not show is the zero value.
type birth struct {
	made time.Time
	own  string // object id of its own identity
}

func (r resource[P]) birth() birth {
	b := birth{own: strings.ToLower(orEmpty(r.Identity.PrincipalID))}
	if r.System != nil {
		b.made, _ = time.Parse(time.RFC3339, orEmpty(r.System.Made)) // in another form it counts as not shown
	}
	return b
}

// births are those of the resources that an adapter read, by id. They travel in the context, so that no adapter has to
// pass them on.
type births struct {
	mu sync.Mutex
	of map[string]birth
}

type birthsKey struct{}

func withBirths(ctx context.Context) (context.Context, *births) {
	b := &births{of: map[string]birth{}}
	return context.WithValue(ctx, birthsKey{}, b), b
}

// noteBirth keeps when a resource was made, if anybody wants to know.
func noteBirth(ctx context.Context, id string, of birth) {
	b, wanted := ctx.Value(birthsKey{}).(*births)
	if !wanted {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of[strings.ToLower(id)] = of
}

// give gives each sight the birth of its resource.
func (b *births) give(sights []sight) []sight {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range sights {
		sights[i].birth = b.of[strings.ToLower(sights[i].id)]
	}
	return sights
}

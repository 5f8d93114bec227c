package observe

import (
	"context"
	"errors"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// usageTimeout limits one look at those who use a key: a step waits for it.
const usageTimeout = 2 * time.Minute

var (
	errNobodyLooks = errors.New("this process does not look at consumers")
	errOldLook     = errors.New("the look is older than the step that asked for it")
)

// usage looks at those who use a key now. A look that began earlier does not count: a consumer may have come back
// since.
func (o *Observer) usage(ctx context.Context, p key.Policy) record.Usage {
	began := o.now()
	if o.Consumers == nil {
		return record.Usage{At: began, Err: errNobodyLooks}
	}
	within, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	seen := o.Consumers.Look(within, p)
	if seen.At.Before(began) {
		return record.Usage{At: began, Err: errOldLook}
	}
	return seen
}

// Users is the last look at those who use a key, whoever made it.
func (o *Observer) Users(p key.Policy) record.Usage { return o.lastUsage(p) }

// lastUsage is the last look at those who use a key, whoever made it.
func (o *Observer) lastUsage(p key.Policy) record.Usage {
	if o.Consumers == nil {
		return record.Usage{}
	}
	return o.Consumers.Last(p.Key)
}

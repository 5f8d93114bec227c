package consumer

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/vault"
)

type diskProperties struct {
	ActiveKey *struct {
		KeyURL *string `json:"keyUrl"`
	} `json:"activeKey"`
	PreviousKeys []struct {
		KeyURL *string `json:"keyUrl"`
	} `json:"previousKeys"`
	Follows     *bool      `json:"rotationToLatestKeyVersionEnabled"` // absent: false
	Rotated     *time.Time `json:"lastKeyRotationTimestamp"`
	Application *string    `json:"federatedClientId"`
	Failed      *struct {
		Code    *string `json:"code"`
		Message *string `json:"message"`
	} `json:"autoKeyRotationError"`
}

// diskEncryptionSet reads a disk encryption set. Until every disk has moved, it lists the versions that they still use
// as previous keys. After a rotation that failed it does not move again before somebody changes it.
func diskEncryptionSet(ctx context.Context, c *Client, id string) ([]sight, error) {
	r, err := read[diskProperties](ctx, c, id, "")
	if err != nil {
		return nil, err
	}
	s, err := diskSight(id, r)
	if err != nil {
		return nil, call{op: opGet, id: id}.fail(err)
	}
	return []sight{s}, nil
}

func diskSight(id string, r resource[diskProperties]) (sight, error) {
	s, p := newSight(id), r.Properties
	if p.ActiveKey == nil {
		return s, missing("properties.activeKey")
	}
	to, err := parseKeyRef(orEmpty(p.ActiveKey.KeyURL))
	if err != nil {
		return s, err
	}
	s.key, s.uses, s.since = to, to.version, orZero(p.Rotated)
	s.follows = p.Follows != nil && *p.Follows
	for _, previous := range p.PreviousKeys {
		if err := s.need(orEmpty(previous.KeyURL)); err != nil {
			return s, err
		}
	}
	if s.callers = r.Identity.system(); len(s.callers) == 0 {
		s.callers = r.Identity.users()
	}
	if acrossTenants(p.Application) {
		s.callers = nil
	}
	if p.Failed != nil && (orEmpty(p.Failed.Code) != "" || orEmpty(p.Failed.Message) != "") {
		s.err = trouble(id, "mend the cause, then move it by hand: az disk-encryption-set update --ids "+word(id)+
			" --key-url URL_OF_THE_NEWEST_VERSION", "its rotation failed, and it rotates no more: %s %s",
			vault.OneLine(orEmpty(p.Failed.Code)), vault.OneLine(orEmpty(p.Failed.Message)))
	}
	return s, nil
}

package emulator

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// minimumExpiry is the shortest expiryTime of a rotation policy.
const minimumExpiry = 28 * 24 * time.Hour

func (v *Vault) rotationPolicy(name string) (any, error) {
	k, err := v.replica().key(name)
	if err != nil {
		return nil, err
	}
	return v.shownPolicy(k), nil
}

// shownPolicy returns a key's policy. In a vault, a key without one shows a notice
// before expiry.
func (v *Vault) shownPolicy(k *entry) any {
	p := k.policy
	switch {
	case v.config.Profile == ManagedHSM && p == nil:
		never := ""
		return hsmPolicy{Attributes: rotationAttributes{ExpiryTime: &never}}
	case v.config.Profile == ManagedHSM:
		return hsmPolicy{p.Attributes, "keys/" + k.name + "/rotationpolicy", p.LifetimeActions}
	case p == nil:
		return vaultPolicy{LifetimeActions: []lifetimeAction{notifyBeforeExpiry()}}
	}
	return vaultPolicy{v.id("keys", k.name, "rotationpolicy"), p.LifetimeActions, &p.Attributes}
}

func notifyBeforeExpiry() lifetimeAction {
	return lifetimeAction{Trigger: lifetimeTrigger{TimeBeforeExpiry: "P30D"}, Action: lifetimeType{Type: "Notify"}}
}

func rotateBeforeExpiry() lifetimeAction {
	return lifetimeAction{Trigger: lifetimeTrigger{TimeBeforeExpiry: "P30D"}, Action: lifetimeType{Type: "Rotate"}}
}

func (v *Vault) setRotationPolicy(name string, q rotationPolicy) (any, error) {
	if err := q.check(v.opts.Now()); err != nil {
		return nil, err
	}
	if v.config.Profile != ManagedHSM {
		q.settle()
	}
	var shown any
	err := v.change(func(s *state) error {
		k, err := s.key(name)
		if err != nil {
			return err
		}
		now := v.opts.Now().Unix()
		q.Attributes.Created, q.Attributes.Updated = now, now
		if k.policy != nil {
			q.Attributes.Created = k.policy.Attributes.Created
		}
		next := *k
		next.policy = &q
		s.put(&next)
		shown = v.shownPolicy(&next)
		return nil
	})
	return shown, err
}

// settle returns a policy as a vault stores it: with the vault's spelling of actions,
// and with a notice before expiry if there is only a rotation.
func (p *rotationPolicy) settle() {
	p.LifetimeActions = slices.Clone(p.LifetimeActions)
	for i := range p.LifetimeActions {
		p.LifetimeActions[i].Action.Type = actionNames[strings.ToLower(p.LifetimeActions[i].Action.Type)]
	}
	if len(p.LifetimeActions) == 1 && p.LifetimeActions[0].Action.Type == "Rotate" {
		p.LifetimeActions = append(p.LifetimeActions, notifyBeforeExpiry())
	}
}

var actionNames = map[string]string{"rotate": "Rotate", "notify": "Notify"}

func (p *rotationPolicy) check(now time.Time) error {
	seen := map[string]bool{}
	for _, a := range p.LifetimeActions {
		name := actionNames[strings.ToLower(a.Action.Type)]
		if name == "" || seen[name] {
			return badParameter("A rotation policy has at most one action Rotate and one Notify, not %q.",
				a.Action.Type)
		}
		seen[name] = true
		when := a.Trigger.TimeAfterCreate + a.Trigger.TimeBeforeExpiry
		if _, ok := addPeriod(now, when); !ok || (name == "Notify" && a.Trigger.TimeAfterCreate != "") {
			return badParameter("The trigger of %s is not a period before expiry, or for Rotate after creation, such "+
				"as P30D.", name)
		}
	}
	expiry := p.Attributes.ExpiryTime
	if expiry == nil || *expiry == "" {
		return nil
	}
	if at, ok := addPeriod(now, *expiry); !ok || at.Sub(now) < minimumExpiry {
		return badParameter("The expiryTime %q is not a period of at least 28 days, such as P90D.", *expiry)
	}
	return nil
}

// rotate creates a new version with the newest one's kind, size, operations and tags,
// valid for the policy's expiryTime.
func (v *Vault) rotate(name string) (any, error) {
	k, newest, err := v.current().version(name, "")
	if err != nil {
		return nil, err
	}
	switch {
	case newest.imported:
		return nil, badParameter("Key %s was imported: the service cannot rotate what it did not make.", k.name)
	case !newest.enabled:
		return nil, forbidden("KeyDisabled", "Operation rotate is not allowed on a disabled key.")
	}
	m, err := newest.shown.another()
	if err != nil {
		return nil, err
	}
	ver, err := v.newVersion(newest.kty, newest.ops, m)
	if err != nil {
		return nil, err
	}
	ver.tags, ver.exportable, ver.release = maps.Clone(newest.tags), newest.exportable, newest.release
	if k.policy != nil && k.policy.Attributes.ExpiryTime != nil && *k.policy.Attributes.ExpiryTime != "" {
		at, _ := addPeriod(v.opts.Now(), *k.policy.Attributes.ExpiryTime)
		ver.exp = unixOrNil(at)
	}
	if err := v.change(func(s *state) error { return v.add(s, k.name, ver) }); err != nil {
		return nil, err
	}
	return v.bundle(k.name, ver), nil
}

var period = regexp.MustCompile(`^P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?(?:T(?:(\d+)H)?)?$`)

// addPeriod adds an ISO 8601 duration of years, months, days and hours.
func addPeriod(t time.Time, s string) (time.Time, bool) {
	m := period.FindStringSubmatch(s)
	if m == nil || strings.Join(m[1:], "") == "" {
		return time.Time{}, false
	}
	var n [4]int
	for i, digits := range m[1:] {
		if digits == "" {
			continue
		}
		value, err := strconv.Atoi(digits)
		if err != nil || value > 10000 {
			return time.Time{}, false
		}
		n[i] = value
	}
	return t.AddDate(n[0], n[1], n[2]).Add(time.Duration(n[3]) * time.Hour), true
}

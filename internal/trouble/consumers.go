package trouble

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/status"
)

// SeenConsumers is what a look at those who use a key means for the key, by its record and by the last look at its
// vaults (nil: none yet). was is the result for the look before, which knows since when keyd does not see a consumer.
// It is nil where there is nobody to ask.
func SeenConsumers(
	p key.Policy, rec *record.Record, seen *record.Observation, u record.Usage, was *status.Consumers,
) *status.Consumers {
	asks := len(p.Consumers)+len(p.Workspaces) > 0 || p.Discover
	if p.Retained || !asks && !p.Retire.NoConsumers && u.At.IsZero() {
		return nil
	}
	if was == nil {
		was = &status.Consumers{}
	}
	s := sight{policy: p, rec: rec, seen: seen, usage: u}
	out := &status.Consumers{At: u.At, None: p.Retire.NoConsumers, Searched: p.Discover, Unseen: u.Unseen}
	if u.Err != nil {
		out.Error = u.Err.Error()
	}
	if out.Error != "" || len(out.Unseen) > 0 {
		out.PartialSince = u.At
		if !was.PartialSince.IsZero() {
			out.PartialSince = was.PartialSince
		}
	}
	unseen := map[string]time.Time{}
	for _, c := range was.List {
		unseen[strings.ToLower(c.ID)] = c.UnseenSince
	}
	for _, c := range u.Consumers {
		shown := s.consumer(c)
		if shown.Error != "" {
			shown.UnseenSince = u.At
			if since := unseen[strings.ToLower(c.ID)]; !since.IsZero() {
				shown.UnseenSince = since
			}
		}
		out.List = append(out.List, shown)
		if id := addable(c); id != "" && !slices.Contains(out.Add, id) {
			out.Add = append(out.Add, id)
		}
	}
	for _, v := range p.Vaults {
		if workspace := p.Workspaces[v.URL]; workspace != "" {
			out.Logs = append(out.Logs, s.log(v.URL, workspace))
		}
	}
	return out
}

// addable is the id by which the configuration can name a consumer that it lacks; "" if it has the consumer, or cannot
// name it. Children without a type of their own are named by their parent.
func addable(c record.ConsumerSeen) string {
	if c.Configured || errors.Is(c.Err, consumer.ErrLeft) {
		return ""
	}
	for id := c.ID; service.TypeOf(id) != ""; id = parent(id) {
		if _, understood := service.Of(id); understood {
			return id
		}
	}
	return ""
}

// parent takes the last type and name off an id.
func parent(id string) string {
	for range 2 {
		id = id[:max(0, strings.LastIndexByte(id, '/'))]
	}
	return id
}

// sight is what is known about a key when its consumers are judged.
type sight struct {
	policy key.Policy
	rec    *record.Record
	seen   *record.Observation // nil: nobody looked yet
	usage  record.Usage
}

func (s sight) consumer(c record.ConsumerSeen) status.Consumer {
	kind, understood := service.Of(c.ID)
	out := status.Consumer{
		ID: c.ID, Service: cmp.Or(c.Service, kind.Name, "resource"), Name: service.NameOf(c.ID),
		Configured: c.Configured, Understood: understood || c.Err == nil,
		Vault: c.Vault, Key: c.Key, Asked: c.Asked, Uses: c.Uses, Since: c.Since, Needs: c.Needs,
		Moves: s.mover(c), Within: status.Seconds(kind.Within),
	}
	own := errors.Is(c.Err, consumer.ErrOwnKey)
	switch {
	case errors.Is(c.Err, consumer.ErrLeft):
		out.Left = c.Err.Error()
		return out
	case c.Err != nil && !own:
		out.Error, out.Reason = c.Err.Error(), key.ReasonOf(c.Err)
		return out
	}
	if out.OtherKey = own || !s.ours(c); out.OtherKey {
		out.Replaced = s.policy.Heir.Has(c.Key, c.Vault)
		return out
	}
	if out.Uses == "" {
		out.Uses = c.Asked
	}
	out.Log = s.logUse(c)
	if out.Uses == "" {
		return out
	}
	s.version(&out)
	return out
}

// version fills in what is known of the version in use.
func (s sight) version(c *status.Consumer) {
	at := s.rec.Versions(c.Vault)[c.Uses]
	shown, listed := s.look(c.Vault).Version(c.Uses)
	if at.Found() {
		c.Generation, c.Compromised = at.Generation.Number, !at.Generation.Compromised.IsZero()
		c.Disabled, c.Expires = !slices.Contains(at.Enabled(), c.Uses), at.Expires
	}
	if listed {
		c.Disabled, c.Expires = !shown.Enabled, shown.Expires
	}
	ids, since := s.newest(c.Vault)
	if len(ids) > 0 {
		if newest := s.rec.Versions(c.Vault)[ids[0]]; newest.Found() {
			c.NewestGeneration = newest.Generation.Number
		}
	}
	if c.Newest = slices.Contains(ids, c.Uses); c.Newest || len(ids) == 0 || since.IsZero() {
		return
	}
	c.Due = since
	if c.Moves == status.MovesItself {
		c.Due = since.Add(c.Within.Duration())
	}
}

// newest lists the ids of the newest version in a vault, and since when it is that.
func (s sight) newest(url string) (ids []string, since time.Time) {
	at := s.rec.NewestIn(url)
	if shown := s.look(url).Newest; shown != "" && (!at.Found() || !slices.Contains(at.Versions(), shown)) {
		if at = s.rec.Versions(url)[shown]; !at.Found() { // others made it
			v, _ := s.look(url).Version(shown)
			return []string{shown}, v.Created
		}
	}
	if !at.Found() || at.Version == "" {
		return nil, since
	}
	since = at.ImportedAt
	if since.IsZero() { // adopted
		since = at.Created
	}
	return at.Versions(), since
}

// look is the last good look at a vault; empty if there is none.
func (s sight) look(url string) record.VaultSeen {
	if s.seen == nil || s.seen.Vaults[url].Err != nil {
		return record.VaultSeen{}
	}
	return s.seen.Vaults[url]
}

// ours reports whether a consumer is set to the key.
func (s sight) ours(c record.ConsumerSeen) bool {
	_, known := s.policy.Vault(c.Vault)
	return known && key.SameName(c.Key, s.policy.Key)
}

func (s sight) mover(c record.ConsumerSeen) status.Mover {
	id := strings.ToLower(c.ID)
	i := slices.IndexFunc(s.policy.Consumers, func(p key.Consumer) bool { // itself, or its parent
		named := strings.ToLower(p.ID)
		return named == id || strings.HasPrefix(id, named+"/")
	})
	switch {
	case c.Err != nil:
		return status.MoverUnknown
	case i >= 0 && s.policy.Consumers[i].Follow == key.FollowKeyd:
		return status.MovedByKeyd
	case c.Follows:
		return status.MovesItself
	}
	return status.MovedByHand
}

// logUse is the newest version of which the log of a consumer's vault shows a use by the consumer's identities; nil:
// it shows none.
func (s sight) logUse(c record.ConsumerSeen) *status.LogUse {
	versions := s.rec.Versions(c.Vault)
	var best *status.LogUse
	for _, version := range slices.Sorted(maps.Keys(s.usage.Logs[c.Vault].Uses)) {
		at, shared := s.lastUse(c, version)
		if at.IsZero() {
			continue
		}
		use := &status.LogUse{Version: version, At: at, Shared: shared}
		if placed := versions[version]; placed.Found() {
			use.Generation = placed.Generation.Number
		}
		if best == nil || use.Generation > best.Generation ||
			use.Generation == best.Generation && use.At.After(best.At) {
			best = use
		}
	}
	return best
}

// lastUse is when one of a consumer's identities last used a version, and whether others have that identity.
func (s sight) lastUse(c record.ConsumerSeen, version string) (last time.Time, shared bool) {
	for caller, at := range s.usage.Logs[c.Vault].Uses[version] {
		if has(c.Callers, caller) && at.After(last) {
			last, shared = at, slices.ContainsFunc(s.usage.Consumers, func(other record.ConsumerSeen) bool {
				return !strings.EqualFold(other.ID, c.ID) && has(other.Callers, caller)
			})
		}
	}
	return last, shared
}

func has(ids []string, id string) bool {
	return slices.ContainsFunc(ids, func(x string) bool { return strings.EqualFold(x, id) })
}

// log is what the audit log of a vault shows of the key.
func (s sight) log(url, workspace string) status.UsedLog {
	seen, read := s.usage.Logs[url]
	out := status.UsedLog{Vault: url, Workspace: workspace, From: seen.From, Until: seen.Until}
	switch {
	case seen.Err != nil:
		out.Error = seen.Err.Error()
	case !read:
		out.Error = "keyd has not read it yet"
	}
	versions := s.rec.Versions(url)
	for _, version := range slices.Sorted(maps.Keys(seen.Uses)) {
		placed := versions[version]
		if !placed.Found() || placed.State != key.Disabled || placed.DisabledAt.IsZero() {
			continue
		}
		for _, caller := range slices.Sorted(maps.Keys(seen.Uses[version])) {
			at := seen.Uses[version][caller]
			if at.After(placed.DisabledAt) && (out.Retired == nil || at.After(out.Retired.At)) {
				out.Retired = &status.RetiredUse{
					Version: version, Generation: placed.Generation.Number, At: at, Caller: caller,
				}
			}
		}
	}
	return out
}

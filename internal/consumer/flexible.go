package consumer

import (
	"context"
	"strings"
)

// flexibleProperties are those of a flexible server, of PostgreSQL or of MySQL.
type flexibleProperties struct {
	State          *string `json:"state"`
	DataEncryption *struct {
		Type          *string `json:"type"`
		Key           *string `json:"primaryKeyURI"`
		User          *string `json:"primaryUserAssignedIdentityId"`
		BackupKey     *string `json:"geoBackupKeyURI"`
		BackupUser    *string `json:"geoBackupUserAssignedIdentityId"`
		KeyStatus     *string `json:"primaryEncryptionKeyStatus"`
		BackupKeyWell *string `json:"geoBackupEncryptionKeyStatus"`
	} `json:"dataEncryption"` // absent: Microsoft's key
}

// flexible reads a flexible server, once for its own key and once for the key of its geo-redundant backups. It shows
// the version in use only where it names that version.
func flexible(ctx context.Context, c *Client, id string, follows bool) ([]sight, error) {
	r, err := read[flexibleProperties](ctx, c, id, "")
	if err != nil {
		return nil, err
	}
	all, err := flexibleSights(id, r, follows)
	if err != nil {
		return nil, call{op: opGet, id: id}.fail(err)
	}
	return all, nil
}

func flexibleSights(id string, r resource[flexibleProperties], follows bool) (all []sight, err error) {
	e := r.Properties.DataEncryption
	if e == nil {
		return []sight{newSight(id)}, nil
	}
	own, err := isOneOf(e.Type, "AzureKeyVault", "SystemManaged", "properties.dataEncryption.type")
	switch {
	case err != nil:
		return nil, err
	case !own:
		return []sight{newSight(id)}, nil
	}
	one := func(uri, user, status *string) error {
		s := newSight(id)
		if s.key, err = parseKeyRef(orEmpty(uri)); err != nil {
			return err
		}
		s.follows = follows && s.key.version == ""
		if strings.EqualFold(orEmpty(r.Properties.State), "Ready") {
			s.uses = s.key.version
		}
		if orEmpty(user) != "" {
			s.callers = r.Identity.user(*user)
		}
		if strings.EqualFold(orEmpty(status), "Invalid") {
			s.err = trouble(id, "", "it cannot use its key %s", s.key)
		}
		all = append(all, s)
		return nil
	}
	if err := one(e.Key, e.User, e.KeyStatus); err != nil {
		return nil, err
	}
	if orEmpty(e.BackupKey) != "" {
		if err := one(e.BackupKey, e.BackupUser, e.BackupKeyWell); err != nil {
			return nil, err
		}
		all[1].service += ", geo-redundant backups"
	}
	return all, nil
}

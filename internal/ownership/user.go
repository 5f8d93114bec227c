package ownership

import (
	"os/user"
	"strconv"
)

// UserName is the name of a user, or the uid in digits if nobody has it.
func UserName(uid uint32) string {
	if name, ok := nameOf(uid); ok {
		return name
	}
	return digits(uid)
}

// Groups lists gid and the groups that the system's database gives the user.
func Groups(uid, gid uint32) []uint32 {
	gids := []uint32{gid}
	u, err := user.LookupId(digits(uid))
	if err != nil {
		return gids
	}
	ids, err := u.GroupIds()
	if err != nil {
		return gids
	}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			gids = append(gids, uint32(n))
		}
	}
	return gids
}

func nameOf(uid uint32) (name string, ok bool) {
	u, err := user.LookupId(digits(uid))
	if err != nil {
		return "", false
	}
	return u.Username, true
}

// whose names a user in a sentence: "keyd", or "uid 999".
func whose(uid uint32) string {
	if name, ok := nameOf(uid); ok {
		return name
	}
	return "uid " + digits(uid)
}

func digits(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

package ownership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A POSIX access control list, as Linux keeps it (acl(5), linux/posix_acl_xattr.h): a version in 4 bytes, then entries
// of a tag, the permissions and an id. With a list, the group bits of the mode are only its mask.

const (
	accessACL   = "system.posix_acl_access"
	aclVersion  = 2
	aclEntry    = 8
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
	aclWrite    = 2
)

// maxACL is more than Linux stores.
const maxACL = 64 << 10

func openACL(f *os.File) ([]byte, error) {
	buf := make([]byte, maxACL)
	n, err := unix.Fgetxattr(int(f.Fd()), accessACL, buf)
	return aclRead(f.Name(), buf, n, err)
}

func pathACL(path string) ([]byte, error) {
	buf := make([]byte, maxACL)
	n, err := unix.Lgetxattr(path, accessACL, buf)
	return aclRead(path, buf, n, err)
}

// aclRead returns the list, or nothing where there is none.
func aclRead(path string, buf []byte, n int, err error) ([]byte, error) {
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the access control list of %s: %w", path, err)
	}
	return buf[:n], nil
}

// aclWriter names somebody who may write by the list, other than root and this process's user; "" for nobody.
func (r reader) aclWriter(acl []byte) string {
	if len(acl) < 4 || binary.LittleEndian.Uint32(acl) != aclVersion || (len(acl)-4)%aclEntry != 0 {
		return "somebody (keyd cannot read the list)"
	}
	mask := uint16(aclWrite) // without a mask, nothing is taken away
	for e := range entries(acl) {
		if e.tag == aclMask {
			mask = e.perm
		}
	}
	for e := range entries(acl) {
		effective := e.perm&mask&aclWrite != 0
		switch {
		case e.tag == aclUser && effective && !r.mayOwn(e.id):
			return userOf(e.id)
		case e.tag == aclGroupObj && effective:
			return "its group"
		case e.tag == aclGroup && effective:
			return fmt.Sprintf("group %d", e.id)
		case e.tag == aclOther && e.perm&aclWrite != 0:
			return "everybody"
		}
	}
	return ""
}

type entry struct {
	tag, perm uint16
	id        uint32
}

// entries lists the entries of a list of the right length.
func entries(acl []byte) func(yield func(entry) bool) {
	return func(yield func(entry) bool) {
		for b := acl[4:]; len(b) >= aclEntry; b = b[aclEntry:] {
			e := entry{
				binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:]),
			}
			if !yield(e) {
				return
			}
		}
	}
}

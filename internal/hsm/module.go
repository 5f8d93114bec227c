package hsm

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/keyd-project/keyd/internal/ownership"
	"github.com/miekg/pkcs11"
)

// module is the part of Cryptoki (PKCS#11 v2.40) that keyd calls. It has no Finalize, Logout or Unwrap.
type module interface {
	Initialize(...pkcs11.InitializeOption) error
	GetInfo() (pkcs11.Info, error)
	GetSlotList(tokenPresent bool) ([]uint, error)
	GetTokenInfo(slot uint) (pkcs11.TokenInfo, error)
	OpenSession(slot uint, flags uint) (pkcs11.SessionHandle, error)
	CloseSession(pkcs11.SessionHandle) error
	Login(s pkcs11.SessionHandle, user uint, pin string) error
	FindObjectsInit(pkcs11.SessionHandle, []*pkcs11.Attribute) error
	FindObjects(s pkcs11.SessionHandle, max int) ([]pkcs11.ObjectHandle, bool, error)
	FindObjectsFinal(pkcs11.SessionHandle) error
	GetAttributeValue(pkcs11.SessionHandle, pkcs11.ObjectHandle, []*pkcs11.Attribute) ([]*pkcs11.Attribute, error)
	SetAttributeValue(pkcs11.SessionHandle, pkcs11.ObjectHandle, []*pkcs11.Attribute) error
	CreateObject(pkcs11.SessionHandle, []*pkcs11.Attribute) (pkcs11.ObjectHandle, error)
	DestroyObject(pkcs11.SessionHandle, pkcs11.ObjectHandle) error
	GenerateKey(pkcs11.SessionHandle, []*pkcs11.Mechanism, []*pkcs11.Attribute) (pkcs11.ObjectHandle, error)
	GenerateKeyPair(
		s pkcs11.SessionHandle, m []*pkcs11.Mechanism, public, private []*pkcs11.Attribute,
	) (pkcs11.ObjectHandle, pkcs11.ObjectHandle, error)
	WrapKey(s pkcs11.SessionHandle, m []*pkcs11.Mechanism, wrapping, key pkcs11.ObjectHandle) ([]byte, error)
	DecryptInit(pkcs11.SessionHandle, []*pkcs11.Mechanism, pkcs11.ObjectHandle) error
	Decrypt(pkcs11.SessionHandle, []byte) ([]byte, error)
	SignInit(pkcs11.SessionHandle, []*pkcs11.Mechanism, pkcs11.ObjectHandle) error
	Sign(pkcs11.SessionHandle, []byte) ([]byte, error)
}

// loadModule loads the vendor's library.
func loadModule(path string) (module, error) {
	if err := ownership.CheckPath(path); err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("the PKCS#11 library is not loaded: %w", err)
	}
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, fmt.Errorf(
			"the PKCS#11 library %s cannot be loaded: check that it exists, can be read by this user, "+
				"and that `ldd` finds what it needs", path,
		)
	}
	return ctx, nil
}

// session is one session of the pool. Only one goroutine uses it at a time: two at once crash common modules.
type session struct {
	m     module
	h     pkcs11.SessionHandle
	lacks *typeSet // attributes of key pairs that the module does not report
}

const findBatch = 100 // handles for each C_FindObjects

// find returns the handles of every object that matches.
func (s session) find(template ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := s.m.FindObjectsInit(s.h, template); err != nil {
		return nil, fmt.Errorf("C_FindObjectsInit: %w", err)
	}
	var all []pkcs11.ObjectHandle
	for {
		batch, _, err := s.m.FindObjects(s.h, findBatch)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("C_FindObjects: %w", err), s.m.FindObjectsFinal(s.h))
		}
		if len(batch) == 0 {
			break
		}
		all = append(all, batch...)
	}
	if err := s.m.FindObjectsFinal(s.h); err != nil {
		return nil, fmt.Errorf("C_FindObjectsFinal: %w", err)
	}
	return all, nil
}

// attributes reads the values of types, in their order. It fails if the module does not know one of them. Callers ask
// only for public attributes.
func (s session) attributes(o pkcs11.ObjectHandle, types ...uint) ([][]byte, error) {
	template := make([]*pkcs11.Attribute, len(types))
	for i, t := range types {
		template[i] = pkcs11.NewAttribute(t, nil)
	}
	got, err := s.m.GetAttributeValue(s.h, o, template)
	if err != nil {
		return nil, fmt.Errorf("C_GetAttributeValue: %w", err)
	}
	values := make([][]byte, len(types))
	for i := range values {
		values[i] = got[i].Value
	}
	return values, nil
}

// reported reads the values of types, in their order; nil for a value that the module does not report. A module that
// lacks one type fails the whole read, so reported then reads each type on its own. It reads the types in lacks so from
// the start.
func (s session) reported(o pkcs11.ObjectHandle, types ...uint) ([][]byte, error) {
	together := slices.DeleteFunc(slices.Clone(types), s.lacks.has)
	read, err := s.attributes(o, together...)
	if lacksType(err) {
		together, read, err = nil, nil, nil
	}
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(types))
	for i, t := range types {
		if at := slices.Index(together, t); at >= 0 {
			values[i] = read[at]
		} else if values[i], err = s.optional(o, t); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// typeSet is a set of attribute types that several goroutines may use. A nil one stays empty.
type typeSet struct {
	mu    sync.Mutex
	types map[uint]bool
}

func (l *typeSet) has(typ uint) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.types[typ]
}

func (l *typeSet) none() bool {
	if l == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.types) == 0
}

// learn adds the types of which a key pair has no value.
func (l *typeSet) learn(v values) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for typ, value := range v {
		if value == nil {
			l.types[typ] = true
		}
	}
}

// optional reads one attribute; it returns nil if the module does not know the attribute.
func (s session) optional(o pkcs11.ObjectHandle, typ uint) ([]byte, error) {
	values, err := s.attributes(o, typ)
	if lacksType(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return values[0], nil
}

// drop destroys throw-away objects. They are session objects, so any that remains ends with the process.
func (s session) drop(objects ...pkcs11.ObjectHandle) {
	for _, o := range objects {
		_ = s.m.DestroyObject(s.h, o)
	}
}

package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt follows its pages without checking them: a damaged one can send it in circles or through all of memory. So
// keyd first checks the structure of the plain file: bbolt's format version 2, in the machine's byte order, each page
// once, each element within its page.
const (
	pageHeader  = 16 // id (8), flags (2), count (2), overflow (4)
	elementSize = 16 // of branch and leaf pages alike
	bucketHead  = 16 // root page (8), sequence (8)
	metaSize    = 64 // the last 8 bytes are an FNV-64a sum of those before

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf's element

	countElsewhere = 0xFFFF // a freelist's count is in its first element
)

type pages struct {
	file     io.ReaderAt
	pageSize uint64
	limit    uint64 // pages from here on do not exist
	seen     map[uint64]bool
}

type metaPage struct{ root, freelist, limit, txid uint64 }

// checkStructure walks every page that bbolt can reach in a file of so many
// bytes.
func checkStructure(file io.ReaderAt, length int64, pageSize int) error {
	m, err := newestMeta(file, int64(pageSize))
	if err != nil {
		return err
	}
	if m.limit > uint64(length)/uint64(pageSize) {
		return fmt.Errorf("the file has %d bytes and should have %d pages of %d", length, m.limit, pageSize)
	}
	p := &pages{file: file, pageSize: uint64(pageSize), limit: m.limit, seen: map[uint64]bool{0: true, 1: true}}
	if err := p.tree(m.root); err != nil {
		return err
	}
	return p.freelist(m.freelist)
}

// newestMeta is the meta page that bbolt goes by, the one with the higher transaction number. If that one is damaged,
// bbolt would use the older one, and so silently lose the last transaction. A meta page fits in one sector, so a
// crash does not leave half of one.
func newestMeta(file io.ReaderAt, pageSize int64) (metaPage, error) {
	var best metaPage
	for i := range int64(2) {
		m, err := readMeta(file, i*pageSize)
		if err != nil {
			return best, fmt.Errorf("meta page %d: %w", i, err)
		}
		if i == 0 || m.txid > best.txid {
			best = m
		}
	}
	return best, nil
}

func readMeta(file io.ReaderAt, offset int64) (metaPage, error) {
	b := make([]byte, metaSize)
	if _, err := file.ReadAt(b, offset+pageHeader); err != nil {
		return metaPage{}, fmt.Errorf("it cannot be read: %w", err)
	}
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	if sum.Sum64() != u64(b[metaSize-8:]) {
		return metaPage{}, errors.New("it does not match its checksum")
	}
	return metaPage{root: u64(b[16:]), freelist: u64(b[32:]), limit: u64(b[40:]), txid: u64(b[48:])}, nil
}

// read returns a page with its overflow, and marks its pages as used.
func (p *pages) read(id uint64) (page []byte, flags uint16, err error) {
	if id >= p.limit {
		return nil, 0, fmt.Errorf("page %d is beyond the end", id)
	}
	header := make([]byte, pageHeader)
	if _, err := p.file.ReadAt(header, int64(id*p.pageSize)); err != nil {
		return nil, 0, fmt.Errorf("read page %d: %w", id, err)
	}
	overflow := u32(header[12:])
	if u64(header) != id || overflow >= p.limit-id {
		return nil, 0, fmt.Errorf("the head of page %d is damaged", id)
	}
	for i := id; i <= id+overflow; i++ {
		if p.seen[i] {
			return nil, 0, fmt.Errorf("page %d is used twice", i)
		}
		p.seen[i] = true
	}
	page = make([]byte, (overflow+1)*p.pageSize)
	if _, err := p.file.ReadAt(page, int64(id*p.pageSize)); err != nil {
		return nil, 0, fmt.Errorf("read page %d: %w", id, err)
	}
	return page, u16(header[8:]), nil
}

func (p *pages) tree(id uint64) error {
	page, flags, err := p.read(id)
	if err != nil {
		return err
	}
	switch flags {
	case flagBranch:
		err = p.branch(page)
	case flagLeaf:
		err = p.leaf(page, p.bucket)
	default:
		err = fmt.Errorf("type %#x is not one of a tree", flags)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (p *pages) branch(page []byte) error {
	for i := range elements(page) {
		e, err := element(page, i)
		if err != nil {
			return err
		}
		if _, err := span(page, i, u32(e), u32(e[4:])); err != nil {
			return err
		}
		if err := p.tree(u64(e[8:])); err != nil {
			return err
		}
	}
	return nil
}

// leaf checks a leaf's elements, and has bucket check those that are buckets.
func (p *pages) leaf(page []byte, bucket func([]byte) error) error {
	for i := range elements(page) {
		e, err := element(page, i)
		if err != nil {
			return err
		}
		keySize := u32(e[8:])
		data, err := span(page, i, u32(e[4:]), keySize+u32(e[12:]))
		if err != nil {
			return err
		}
		switch u32(e) {
		case 0:
		case flagBucket:
			if err := bucket(data[keySize:]); err != nil {
				return err
			}
		default:
			return fmt.Errorf("element %d has an unknown type", i)
		}
	}
	return nil
}

// A bucket has a tree of its own or, if it is small, one leaf right behind its head, which holds no buckets.
func (p *pages) bucket(value []byte) error {
	if len(value) < bucketHead {
		return errors.New("a bucket is cut short")
	}
	if root := u64(value); root != 0 {
		return p.tree(root)
	}
	inline := value[bucketHead:]
	if len(inline) < pageHeader || u16(inline[8:]) != flagLeaf {
		return errors.New("a small bucket is damaged")
	}
	return p.leaf(inline, func([]byte) error { return errors.New("a bucket lies within a small one") })
}

func (p *pages) freelist(id uint64) error {
	page, flags, err := p.read(id)
	if err != nil {
		return err
	}
	if flags != flagFreelist {
		return fmt.Errorf("page %d should be the list of free pages", id)
	}
	count, ids := elements(page), page[pageHeader:]
	if count == countElsewhere {
		count, ids = u64(ids), ids[8:]
	}
	if count > uint64(len(ids))/8 {
		return errors.New("the list of free pages is cut short")
	}
	for i := range count {
		free := u64(ids[8*i:])
		if free >= p.limit || p.seen[free] {
			return fmt.Errorf("page %d cannot be free", free)
		}
		p.seen[free] = true
	}
	return nil
}

func elements(page []byte) uint64 { return uint64(u16(page[10:])) }

func element(page []byte, i uint64) ([]byte, error) {
	at := pageHeader + i*elementSize
	if at+elementSize > uint64(len(page)) {
		return nil, fmt.Errorf("element %d is outside of its page", i)
	}
	return page[at : at+elementSize], nil
}

// span is an element's data; bbolt counts pos from the element's own place.
func span(page []byte, i, pos, size uint64) ([]byte, error) {
	from := pageHeader + i*elementSize + pos
	if from+size > uint64(len(page)) {
		return nil, fmt.Errorf("the data of element %d is outside of its page", i)
	}
	return page[from : from+size], nil
}

func u16(b []byte) uint16 { return binary.NativeEndian.Uint16(b) }
func u32(b []byte) uint64 { return uint64(binary.NativeEndian.Uint32(b)) }
func u64(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }

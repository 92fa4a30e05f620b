package cidstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crc32c"
	"github.com/cidstore/cidstore/vfs"
)

// Nothing can be renamed over a file that is mounted by itself, as in a container, and a
// directory may not allow new files. In these cases a store is written in place, and carries
// two marks until it is complete. An unlocked file with a mark is a half-made store.
//
//  1. An empty file gets begunSize zeros.
//  2. The marks are written into the second sector and then into the first. Each is
//     durable before the next step. Until the first of them is, an old store is complete:
//     a torn superblock, or rubbish after it, is mended from its commit slots.
//  3. Everything except the head is written, including the commit slots, and synced.
//  4. The second mark is written over, which leaves the first.
//  5. The first sector, which holds the superblock, is written over. If this write is
//     torn, the superblock is mended from the commit slots.
//
// CRASH.md, section 6, goes through the states.
const (
	headBytes = 4096 // superblock and zeros, before the commit slots
	begunSize = 4093 // no file that is all zeros except in one sector has this size by chance
)

// A mark fills a sector.
//
//	offset  size  field
//	     0     8  magic   "CIDHALF1"
//	     8     1  maker   1: creation of an empty store, 2: restore
//	     9     1  zero
//	    10     2  length of source
//	    12   496  source  the path of the backup, as far as it fits; the rest is zero
//	   508     4  crc32c of bytes 0..507
const (
	markMagic                                              = "CIDHALF1"
	offMarkMaker, offMarkLength, offMarkSource, offMarkCRC = 8, 10, 12, 508
	markSize                                               = 512
)

var _ [markSize]byte = [offMarkCRC + 4]byte{}

// mark says who is writing a file in place: the maker, and its source.
type mark struct {
	maker  byte
	source string
}

const (
	creation    = 1
	restoration = 2
)

func (m mark) append(dst []byte) []byte {
	p := make([]byte, markSize)
	copy(p, markMagic)
	p[offMarkMaker] = m.maker
	n := copy(p[offMarkSource:offMarkCRC], m.source)
	le.PutUint16(p[offMarkLength:], uint16(n))
	le.PutUint32(p[offMarkCRC:], crc32c.Sum(p[:offMarkCRC]))
	return append(dst, p...)
}

// parseMark reads the mark in a sector. It returns false if there is none, or if it is
// damaged.
func parseMark(p []byte) (mark, bool) {
	if len(p) < markSize || string(p[:len(markMagic)]) != markMagic {
		return mark{}, false
	}
	n := int(le.Uint16(p[offMarkLength:]))
	if le.Uint32(p[offMarkCRC:]) != crc32c.Sum(p[:offMarkCRC]) || n > offMarkCRC-offMarkSource {
		return mark{}, false
	}
	return mark{p[offMarkMaker], string(p[offMarkSource : offMarkSource+n])}, true
}

// halfMade is what the marks of a file say.
type halfMade struct {
	whole [2]bool // which marks are there and undamaged
	begun bool    // neither is, but the first was about to be written into an empty file
	mark
}

func (h *halfMade) found() bool { return h.begun || h.whole[0] || h.whole[1] }

// creates reports whether the file was empty before, so that Open may make a store of it.
func (h *halfMade) creates() bool { return h.found() && (h.begun || h.maker == creation) }

// err returns an error that says what the file is and what to do, or nil if the file is
// not half made.
func (h *halfMade) err() error {
	switch {
	case !h.found():
		return nil
	case h.creates():
		return fmt.Errorf("%w: the making of an empty store in this place was interrupted; open it for writing, or restore a backup to it", errHalfCreated)
	}
	return fmt.Errorf("%w: the restore of %q to this place was interrupted; run it again, or restore another backup", ErrHalfMade, h.source)
}

// errHalfCreated says that Open can complete the file if it opens it for writing.
var errHalfCreated = fmt.Errorf("%w", ErrHalfMade)

// readMarks looks for the marks. The caller holds a lock, so that nobody writes them at
// the same time.
func readMarks(file vfs.File) (h halfMade, err error) {
	p := make([]byte, begunSize)
	n, err := file.ReadAt(p[:2*markSize], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return h, fmt.Errorf("%w: %d bytes at 0: %w", ErrIO, 2*markSize, err)
	}
	for i := range h.whole {
		if m, ok := parseMark(p[min(n, i*markSize):n]); ok {
			h.mark, h.whole[i] = m, true
		}
	}
	if h.found() || n < 2*markSize || !bytes.Equal(p[:markSize], make([]byte, markSize)) {
		return h, nil
	}
	info, err := file.Info()
	if err != nil || info.Size != begunSize {
		return h, err
	}
	if _, err := file.ReadAt(p, 0); err != nil {
		return h, fmt.Errorf("%w: %d bytes at 0: %w", ErrIO, begunSize, err)
	}
	h.begun = bytes.Equal(p[2*markSize:], make([]byte, begunSize-2*markSize))
	return h, nil
}

// lockPlace locks the file for writing it in place. Nobody may have it open, readers
// included, because their mappings would show what is written.
func lockPlace(file vfs.File, opts *Options) error {
	err := hdf5io.LockWriter(file)
	if err == nil {
		err = file.TryLock(vfs.Lock{Whole: true, Exclusive: true})
	}
	if errors.Is(err, ErrLocked) {
		return fmt.Errorf("%w: it must be written in place, so nobody else may have it open", lockedBy(file, opts))
	}
	return err
}

// createInPlace makes a store in the file at path if the file is empty, or if an
// interrupted createInPlace has left it half made.
func createInPlace(path string, opts *Options) error {
	file, err := opts.FS.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return readOnlyFileSystem(err)
	}
	defer file.Close()
	if err := lockPlace(file, opts); err != nil {
		return err
	}
	info, err := file.Info()
	if err != nil {
		return err
	}
	if info.Size > 0 {
		if h, err := readMarks(file); err != nil || !h.creates() {
			return err // another opener was faster
		}
	}
	return writeInPlace(file, mark{maker: creation}, func(p *inPlaceFile) error {
		if err := file.Truncate(headBytes); err != nil { // drops what an interrupted one has written
			return err
		}
		err := format(p, opts)
		if err != nil {
			err = errors.Join(err, file.Truncate(headBytes)) // others may need its space
		}
		return err
	})
}

// writeInPlace marks file, which lockPlace has locked, and calls fill to write a store
// into it. If that succeeds, it takes the marks away.
func writeInPlace(file vfs.File, m mark, fill func(*inPlaceFile) error) error {
	if err := setMarks(file, m); err != nil {
		return fmt.Errorf("mark the file as half made: %w", err)
	}
	p := &inPlaceFile{File: file}
	err := fill(p)
	if err == nil {
		err = p.finish()
	}
	if err != nil {
		return fmt.Errorf("the file is written in place, and is half made until that is done again: %w", err)
	}
	return nil
}

// setMarks makes both marks durable, the second one first. If an interrupted attempt has
// left a good first mark, that stays until the second is durable. If not, only marks have
// been written so far.
func setMarks(file vfs.File, m mark) error {
	info, err := file.Info()
	if err != nil {
		return err
	}
	if info.Size == 0 {
		if err := file.Truncate(begunSize); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
	}
	for _, i := range [2]int64{1, 0} {
		if err := file.WriteSync(m.append(nil), i*markSize); err != nil {
			return err
		}
	}
	return nil
}

// inPlaceFile is a file that is written in place, as its maker sees it: it is empty at
// first, and has no marks. Its head is in memory until finish. Only one goroutine may use
// it.
type inPlaceFile struct {
	vfs.File
	head [headBytes]byte
	size int64
}

// split divides a range into the bytes of the head and those after it.
func split(off, n int64) (head, rest int64) {
	head = max(0, min(n, headBytes-off))
	return head, n - head
}

func (p *inPlaceFile) ReadAt(b []byte, off int64) (int, error) {
	n := max(0, min(int64(len(b)), p.size-off))
	head, rest := split(off, n)
	if head > 0 {
		copy(b[:head], p.head[off:])
	}
	if rest > 0 {
		if got, err := p.File.ReadAt(b[head:n], off+head); err != nil {
			return int(head) + got, err
		}
	}
	if n < int64(len(b)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func (p *inPlaceFile) WriteAt(b []byte, off int64) error { return p.write(b, off, p.File.WriteAt) }

func (p *inPlaceFile) WriteSync(b []byte, off int64) error { return p.write(b, off, p.File.WriteSync) }

func (p *inPlaceFile) write(b []byte, off int64, write func([]byte, int64) error) error {
	head, rest := split(off, int64(len(b)))
	if head > 0 {
		copy(p.head[off:], b[:head])
	}
	if rest > 0 {
		if err := write(b[head:], off+head); err != nil {
			return err
		}
	}
	p.size = max(p.size, off+int64(len(b)))
	return nil
}

func (p *inPlaceFile) Allocate(off, n int64) error {
	head, rest := split(off, n)
	if rest > 0 {
		if err := p.File.Allocate(off+head, rest); err != nil {
			return err
		}
	}
	p.size = max(p.size, off+n)
	return nil
}

func (p *inPlaceFile) Truncate(size int64) error {
	if err := p.File.Truncate(max(size, headBytes)); err != nil {
		return err
	}
	if size < headBytes {
		clear(p.head[size:])
	}
	p.size = size
	return nil
}

func (p *inPlaceFile) Info() (vfs.Info, error) {
	info, err := p.File.Info()
	info.Size = p.size
	return info, err
}

func (p *inPlaceFile) Map(int64) (vfs.Mapping, error) { return nil, vfs.ErrNoMap }

// lockPlace has taken the locks, which are held at least until finish is done.

func (p *inPlaceFile) TryLock(vfs.Lock) error { return nil }

func (p *inPlaceFile) Unlock(vfs.Lock) error { return nil }

// finish writes the head, and so makes the file what its maker has written.
func (p *inPlaceFile) finish() error {
	if err := p.File.WriteAt(p.head[2*markSize:], 2*markSize); err != nil {
		return err
	}
	if err := p.Truncate(p.size); err != nil {
		return err
	}
	if err := p.File.Sync(); err != nil { // everything must be durable before a mark goes
		return err
	}
	if err := p.File.WriteSync(p.head[markSize:2*markSize], markSize); err != nil {
		return err
	}
	return p.File.WriteSync(p.head[:markSize], 0)
}

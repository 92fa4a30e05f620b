package cidstore

import (
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/cidstore/cidstore/vfs"
)

// draftPage is the unit, in bytes, in which a draft keeps what was written.
const draftPage = 4096

// draft is a file that keeps only its changes in memory. Where nothing was written it
// reads as its base. A store can be opened in it, and that changes nothing elsewhere.
// Nobody else can open it, so every lock is granted.
type draft struct {
	base io.ReaderAt

	mu    sync.RWMutex // guards the fields below
	kept  int64        // bytes of base that still count; zeros follow them
	size  int64
	pages map[int64]*[draftPage]byte // by number; they replace those of base
}

func newDraft(base io.ReaderAt, size int64) *draft {
	return &draft{base: base, kept: size, size: size, pages: make(map[int64]*[draftPage]byte)}
}

// readBase reads from the base.
func (d *draft) readBase(p []byte, off int64) error {
	n := max(0, min(int64(len(p)), d.kept-off))
	clear(p[n:])
	if n == 0 {
		return nil
	}
	if got, err := d.base.ReadAt(p[:n], off); int64(got) < n {
		return err
	}
	return nil
}

func (d *draft) ReadAt(p []byte, off int64) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, fs.ErrInvalid)
	}
	n := max(0, min(int64(len(p)), d.size-off))
	if err := d.readBase(p[:n], off); err != nil {
		return 0, err
	}
	for at := off; at < off+n; {
		number, within := at/draftPage, at%draftPage
		length := min(draftPage-within, off+n-at)
		if page := d.pages[number]; page != nil {
			copy(p[at-off:][:length], page[within:])
		}
		at += length
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func (d *draft) WriteAt(p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for done := 0; done < len(p); {
		at := off + int64(done)
		number, within := at/draftPage, at%draftPage
		page := d.pages[number]
		if page == nil {
			page = new([draftPage]byte)
			if err := d.readBase(page[:], number*draftPage); err != nil {
				return err
			}
			d.pages[number] = page
		}
		done += copy(page[within:], p[done:])
	}
	d.size = max(d.size, off+int64(len(p)))
	return nil
}

func (d *draft) WriteSync(p []byte, off int64) error { return d.WriteAt(p, off) }

func (d *draft) Allocate(off, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.size = max(d.size, off+n)
	return nil
}

func (d *draft) Truncate(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for number, page := range d.pages {
		if within := size - number*draftPage; within <= 0 {
			delete(d.pages, number)
		} else if within < draftPage {
			clear(page[within:])
		}
	}
	d.kept, d.size = min(d.kept, size), size
	return nil
}

func (d *draft) Info() (vfs.Info, error) {
	size, _, err := d.Shape()
	return vfs.Info{Size: size, Mode: newFileMode}, err
}

func (d *draft) Shape() (size int64, links uint64, err error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.size, 1, nil
}

func (d *draft) Name() string                            { return "draft" }
func (d *draft) StartWriteback(int64, int64)             {}
func (d *draft) DropCache(int64, int64)                  {}
func (d *draft) Datasync() error                         { return nil }
func (d *draft) Sync() error                             { return nil }
func (d *draft) Map(int64) (vfs.Mapping, error)          { return nil, vfs.ErrNoMap }
func (d *draft) TryLock(vfs.Lock) error                  { return nil }
func (d *draft) ProbeLock(vfs.Lock) (bool, int64, error) { return false, 0, nil }
func (d *draft) Unlock(vfs.Lock) error                   { return nil }
func (d *draft) Close() error                            { return nil }

// draftFS is a file system with a draft under every name.
type draftFS struct{ draft *draft }

func (s draftFS) OpenFile(string, int, fs.FileMode) (vfs.File, error) { return s.draft, nil }
func (s draftFS) Stat(string) (vfs.Info, error)                       { return s.draft.Info() }
func (s draftFS) SyncDir(string) error                                { return nil }

func (s draftFS) Rename(oldname, _ string) error {
	return &fs.PathError{Op: "rename", Path: oldname, Err: vfs.ErrNotSupported}
}

func (s draftFS) Remove(name string) error {
	return &fs.PathError{Op: "remove", Path: name, Err: vfs.ErrNotSupported}
}

//go:build darwin || freebsd || linux

package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// unixMapping is one reservation of address space over the file. Pages past the end
// of the file become readable as the file grows.
type unixMapping struct {
	f    *osFile
	data []byte
	// size is the file's size when it was last asked for; -1 after Close. It only
	// saves calls: if the file has shrunk since, a View within size may fault.
	size atomic.Int64
}

// reserve32 bounds a reservation if addresses have 32 bits, because the program
// needs the rest of its two or three GiB.
const reserve32 = 256 << 20

func (f *osFile) Map(reserve int64) (Mapping, error) {
	st, err := f.f.Stat()
	if err != nil {
		return nil, err
	}
	page := int64(os.Getpagesize())
	size := st.Size()
	least := (max(size, 1) + page - 1) / page * page
	reserve = max(reserve, least)
	if least > math.MaxInt || least < 0 {
		return nil, pathError("map", f.Name(), ErrNoMap)
	}
	if math.MaxInt == math.MaxInt32 {
		reserve = min(reserve, max(least, reserve32))
	}
	for {
		m, err := f.mapReserve(reserve)
		if err == nil {
			m.size.Store(min(size, reserve))
			return m, nil
		}
		if reserve <= least {
			return nil, pathError("map", f.Name(), fmt.Errorf("%w: %w", ErrNoMap, err))
		}
		reserve = max(reserve/2/page*page, least)
	}
}

// mapReserve sets reserve bytes of address space aside, if the process may take so
// many.
func (f *osFile) mapReserve(reserve int64) (*unixMapping, error) {
	if !mappings.take(reserve) {
		return nil, errAddressSpace
	}
	m := &unixMapping{f: f}
	err := f.control("map", func(fd uintptr) (err error) {
		m.data, err = unix.Mmap(int(fd), 0, int(reserve), unix.PROT_READ, unix.MAP_SHARED|mapNoReserve)
		return err
	})
	if err != nil {
		mappings.give(reserve)
	}
	return m, err
}

// errAddressSpace: the mappings of the process have taken all that they may.
var errAddressSpace = errors.New("the mapped files of this process take too much address space")

func (m *unixMapping) View(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || n > m.size.Load()-off {
		if err := m.refresh(off, n); err != nil {
			return nil, pathError("view", m.f.Name(), err)
		}
	}
	return m.data[off : off+n : off+n], nil
}

// refresh asks for the file's size again, and reports why [off, off+n) cannot be
// seen.
func (m *unixMapping) refresh(off, n int64) error {
	old := m.size.Load()
	if old < 0 {
		return fs.ErrClosed
	}
	if off < 0 || n < 0 {
		return fs.ErrInvalid
	}
	st, err := m.f.f.Stat()
	if err != nil {
		return err
	}
	if n > st.Size()-off {
		return io.ErrUnexpectedEOF
	}
	reserved := int64(len(m.data))
	if n > reserved-off {
		return ErrNoMap
	}
	m.size.CompareAndSwap(old, min(st.Size(), reserved)) // another refresh, or Close, may come first; that is as good
	return nil
}

func (m *unixMapping) Close() error {
	if m.size.Swap(-1) < 0 {
		return pathError("unmap", m.f.Name(), fs.ErrClosed)
	}
	data := m.data
	m.data = nil
	if err := unix.Munmap(data); err != nil {
		return pathError("unmap", m.f.Name(), err)
	}
	mappings.give(int64(len(data)))
	return nil
}

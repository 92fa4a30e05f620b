package hdf5io

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cidstore/cidstore/vfs"
)

const copyStep = 1 << 20 // bytes that Copy moves at a time

// LockWriter takes the writer's lock of a file that is not open as a File. The
// error is vfs.ErrLockHeld if another process writes the file. The lock ends when
// file is closed.
func LockWriter(file vfs.File) error {
	f := File{file: file}
	return f.lock()
}

// SyncForReading makes durable what this opener can see of the file. A reader
// calls it before it acts on bytes that a writer may not have synced yet.
func (f *File) SyncForReading() error {
	if err := f.file.Datasync(); err != nil {
		return fmt.Errorf("sync before reading: %w", err)
	}
	return nil
}

// Copy writes what v reaches into the empty file dst, at the same addresses, with
// payload in both slots, and syncs it. The bytes of skip, which are ranges that v
// reaches, are left zero. v must be pinned. Copy does not verify what it reads; see
// Check.
func (v *View) Copy(ctx context.Context, dst vfs.File, payload []byte, skip ...Range) error {
	m, err := v.Image(payload, skip...)
	if err != nil {
		return err
	}
	if err := m.copyTo(ctx, dst); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}

// copyTo writes the data first, then slots and superblock, which make dst a file with
// one root.
func (m *Image) copyTo(ctx context.Context, dst vfs.File) error {
	if err := dst.Allocate(0, m.Size()); err != nil {
		return err
	}
	for _, e := range m.used {
		if err := m.view.copyRange(ctx, dst, e.start, e.end()); err != nil {
			return err
		}
	}
	if err := dst.Sync(); err != nil { // before a slot names the data
		return err
	}
	for i := range 2 {
		at := slotOffset(i)
		if err := dst.WriteSync(m.head[at:at+slotSize], at); err != nil {
			return err
		}
	}
	if err := dst.WriteSync(m.head[:superblockSize], 0); err != nil {
		return err
	}
	return dst.Sync()
}

// Range is a range of bytes of the file.
type Range struct{ Offset, Size int64 }

func (v *View) copyRange(ctx context.Context, dst vfs.File, from, to uint64) error {
	buffer := make([]byte, min(copyStep, to-from))
	for at := from; at < to; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buffer[:min(uint64(len(buffer)), to-at)]
		if err := v.file.readAt(p, int64(at)); err != nil {
			return err
		}
		if err := dst.WriteAt(p, int64(at)); err != nil {
			return err
		}
		dst.StartWriteback(int64(at), int64(len(p)))
		at += uint64(len(p))
	}
	return nil
}

// HeadSize is the size in bytes of the head of a file: superblock and commit slots,
// which name everything else, with checksums.
const HeadSize = FirstExtent

// MayBeOurs reports whether a file may have been a store before it was damaged: one of its
// commit slots begins as it must, or there is nothing but a superblock before the slots,
// where other HDF5 programs put data. head is the first HeadSize bytes, or all bytes of a
// file that is shorter. A file of Options.Plain is not a store.
func MayBeOurs(head []byte) bool {
	for i := range 2 {
		slot := head[min(len(head), int(slotOffset(i))):]
		if bytes.HasPrefix(slot, []byte(slotMagic)) {
			return true
		}
		if bytes.HasPrefix(slot, []byte(plainMagic)) {
			return false
		}
	}
	n := min(len(head), len(superblockSignature))
	between := head[min(len(head), superblockSize):min(len(head), firstSlot)]
	return string(head[:n]) == superblockSignature[:n] && len(bytes.Trim(between, "\x00")) == 0
}

// Image is the file that Copy would write, read without being written: it has one
// root, and what the root does not reach is zero.
type Image struct {
	view *View
	head []byte   // superblock and slots
	used []extent // what is copied, ascending
}

// Image returns what Copy would write. It is valid as long as v is pinned.
func (v *View) Image(payload []byte, skip ...Range) (*Image, error) {
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("copy: payload of %d bytes, limit %d", len(payload), MaxPayload)
	}
	free, err := v.freeMap()
	if err != nil {
		return nil, err
	}
	unused, err := mergeExtents(free.free, free.freed)
	if err != nil {
		return nil, err
	}
	for _, r := range skip {
		if unused, err = mergeExtents(unused, []extent{{uint64(r.Offset), padded(uint64(r.Size))}}); err != nil {
			return nil, fmt.Errorf("copy: skip %d bytes at %#x: %w", r.Size, r.Offset, err)
		}
	}
	m := &Image{view: v, head: make([]byte, FirstExtent)}
	at := uint64(FirstExtent)
	for _, e := range append(unused, extent{v.slot.endOfFile, 0}) {
		m.used = appendExtent(m.used, extent{at, e.start - at})
		at = e.end()
	}
	slot := *v.slot
	slot.payload = payload
	copy(m.head, slot.superblock[:])
	for i := range 2 {
		slot.generation++
		copy(m.head[slotOffset(i):], slot.append(nil))
	}
	return m, nil
}

// Size is the size of the file in bytes.
func (m *Image) Size() int64 { return m.view.EndOfFile() }

// ReadAt follows io.ReaderAt. Safe for concurrent use.
func (m *Image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d", off)
	}
	n := int(max(0, min(int64(len(p)), m.Size()-off)))
	part := p[:n]
	clear(part)
	if off < int64(len(m.head)) {
		copy(part, m.head[off:])
	}
	end := uint64(off) + uint64(n)
	first, _ := slices.BinarySearchFunc(m.used, uint64(off), func(e extent, at uint64) int { return cmp.Compare(e.end(), at+1) })
	for _, e := range m.used[first:] {
		from, to := max(e.start, uint64(off)), min(e.end(), end)
		if from >= to {
			break
		}
		if err := m.view.file.readAt(part[from-uint64(off):to-uint64(off)], int64(from)); err != nil {
			return 0, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Identity is the UUID of a file that is not open as a File, and the commit and the
// end of file, in bytes, of its newest valid slot. It reads only the head.
func Identity(file vfs.File) (uuid [16]byte, commit Commit, end int64, err error) {
	pair, err := readSlots(file)
	if err != nil {
		return uuid, 0, 0, err
	}
	for _, err := range pair.errs {
		if errors.Is(err, ErrIO) && !errors.Is(err, io.EOF) {
			return uuid, 0, 0, err // it is not known which slot is the newest
		}
	}
	i := pair.newest()
	if i < 0 {
		return uuid, 0, 0, fmt.Errorf("%w: %w", ErrNotOurs, errors.Join(pair.errs[:]...))
	}
	return pair.slots[i].uuid, pair.slots[i].commit, int64(pair.slots[i].endOfFile), nil
}

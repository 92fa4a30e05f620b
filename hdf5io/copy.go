package hdf5io

import (
	"context"
	"fmt"

	"github.com/cidstore/cidstore/vfs"
)

// copyStep is how many bytes Copy moves at a time.
const copyStep = 1 << 20

// LockWriter takes the writer's lock of a file that is not open as a File:
// vfs.ErrLockHeld if somebody writes it. The lock ends when file is closed.
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
// payload in both slots, and syncs it. The bytes of skip, a range that v reaches,
// are left zero. v must be pinned. What is read is not verified: see Check.
func (v *View) Copy(ctx context.Context, dst vfs.File, payload []byte, skip ...Range) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("copy: payload of %d bytes, limit %d", len(payload), MaxPayload)
	}
	free, err := v.freeMap()
	if err != nil {
		return err
	}
	unused, err := mergeExtents(free.free, free.freed)
	if err != nil {
		return err
	}
	for _, r := range skip {
		if unused, err = mergeExtents(unused, []extent{{uint64(r.Offset), padded(uint64(r.Size))}}); err != nil {
			return fmt.Errorf("copy: skip %d bytes at %#x: %w", r.Size, r.Offset, err)
		}
	}
	if err := dst.Allocate(0, v.EndOfFile()); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	at := uint64(dataStart)
	for _, e := range append(unused, extent{uint64(v.EndOfFile()), 0}) {
		if err := v.copyRange(ctx, dst, at, e.start); err != nil {
			return fmt.Errorf("copy: %w", err)
		}
		at = e.end()
	}
	return v.copyRoot(dst, payload)
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

// copyRoot writes slots and superblock, which make dst a file with one root.
func (v *View) copyRoot(dst vfs.File, payload []byte) error {
	if err := dst.Sync(); err != nil { // before anything names the data
		return fmt.Errorf("copy: %w", err)
	}
	slot := *v.slot
	slot.payload = payload
	for i := range 2 {
		slot.generation++
		if err := dst.WriteSync(slot.append(nil), slotOffset(i)); err != nil {
			return fmt.Errorf("copy: %w", err)
		}
	}
	if err := dst.WriteSync(slot.superblock[:], 0); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return dst.Sync()
}

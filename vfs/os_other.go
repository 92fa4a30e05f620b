//go:build !linux

package vfs

import "errors"

// Systems other than Linux have no write that syncs only its own range, and no call that
// begins to write a range back. What they cache is left to them. Their calls that reserve
// space do not fill holes.

func writeSync(uintptr, []byte, int64) error { return errors.ErrUnsupported }

func startWriteback(uintptr, int64, int64) {}

func dropCache(uintptr, int64, int64) {}

func allocate(uintptr, int64, int64) error { return errors.ErrUnsupported }

// lockHolder returns 0: other systems do not say who holds a lock.
func lockHolder(Info, Lock, int) int { return 0 }

func yieldThread() {}

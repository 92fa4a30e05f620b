//go:build darwin || freebsd

package vfs

import "errors"

// These systems have no write that syncs only its own range, and no call that
// begins to write a range back; their calls that reserve space do not fill holes.

func writeSync(uintptr, []byte, int64) error { return errors.ErrUnsupported }

func startWriteback(uintptr, int64, int64) {}

func allocate(uintptr, int64, int64) error { return errors.ErrUnsupported }

// There are no byte range locks. POSIX locks cannot replace them: closing any
// descriptor of the file drops them, and they conflict with flock.

func lockRange(uintptr, Lock) error { return ErrNotSupported }

func unlockRange(uintptr, Lock) error { return ErrNotSupported }

func probeRange(uintptr, Lock) (bool, int64, error) { return false, 0, ErrNotSupported }

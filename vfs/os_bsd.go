//go:build darwin || freebsd

package vfs

import "errors"

// No write of these systems syncs its own range alone, none can be asked to
// begin writing one back, and the calls that reserve space do not fill holes.

func writeSync(uintptr, []byte, int64) error { return errors.ErrUnsupported }

func startWriteback(uintptr, int64, int64) {}

func allocate(uintptr, int64, int64) error { return errors.ErrUnsupported }

// Byte ranges: POSIX locks are no stand-in, since the close of any descriptor of
// the file drops them, and they conflict with flock.

func lockRange(uintptr, Lock) error { return ErrNotSupported }

func unlockRange(uintptr, Lock) error { return ErrNotSupported }

func probeRange(uintptr, Lock) (bool, int64, error) { return false, 0, ErrNotSupported }

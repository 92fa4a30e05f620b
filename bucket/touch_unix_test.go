//go:build unix

package bucket

import (
	"os"
	"runtime/debug"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTouchPastAFault: bytes that cannot be read, and may not be needed, do no harm.
func TestTouchPastAFault(t *testing.T) {
	half := os.Getpagesize()
	data, err := unix.Mmap(-1, 0, 2*half, unix.PROT_READ, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	defer func() { must(t, unix.Munmap(data)) }()
	must(t, unix.Mprotect(data[half:], unix.PROT_NONE))
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for i := range len(data) / EntrySize {
		touch(data, i)
	}
}

//go:build (darwin || freebsd || linux) && !race

package vfs

import "golang.org/x/sys/unix"

// mapMemory returns memory of the system, or nil if it gives none.
func mapMemory(n int) []byte {
	if n <= 0 {
		return nil
	}
	p, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	return p
}

// unmapMemory gives memory back, if mapMemory has returned it.
func unmapMemory(p []byte) {
	_ = unix.Munmap(p) // the error is that it is memory of the heap
}

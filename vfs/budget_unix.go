//go:build darwin || freebsd || linux

package vfs

import (
	"math"
	"sync"

	"golang.org/x/sys/unix"
)

// addressSpace bounds the address space that the mappings of this process take
// together. The rest of the program, which would end if it got no memory, always
// finds some.
type addressSpace struct {
	measure func() int64 // bytes that mappings may take, asked once
	mu      sync.Mutex   // guards the fields below
	limit   int64        // 0: not measured yet
	used    int64        // bytes
	count   int          // mappings
}

// mostMappings is how many mappings there may be: Linux allows a process 65,530
// of all kinds by default.
const mostMappings = 1 << 15

// mappings counts the mappings of all files of OS.
var mappings = addressSpace{measure: freeAddressSpace}

// take takes n bytes for one mapping, and reports whether that many were left.
func (a *addressSpace) take(n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.limit == 0 {
		a.limit = max(a.measure(), 1)
	}
	if n > a.limit-a.used || a.count >= mostMappings {
		return false
	}
	a.used += n
	a.count++
	return true
}

// give gives back what take took.
func (a *addressSpace) give(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used -= n
	a.count--
}

// freeAddressSpace measures how much of the address space mappings may take. It starts
// with half of what a process has, or of what ulimit -v allows, and halves that until
// it can be set aside in one piece.
func freeAddressSpace() int64 {
	most := uint64(1) << 46
	if math.MaxInt == math.MaxInt32 {
		most = 1 << 30 // of 2 to 4 GiB
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &limit) == nil {
		most = min(most, uint64(limit.Cur)/2)
	}
	for n := most; n > 0; n /= 2 {
		p, err := unix.Mmap(-1, 0, int(n), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|mapNoReserve)
		if err == nil {
			_ = unix.Munmap(p)
			return int64(n)
		}
	}
	return 0
}

//go:build (darwin || freebsd || linux) && !race

package vfs

import (
	"errors"
	"runtime/metrics"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMemoryIsOutsideOfTheHeap: what Alloc returns is zero, does not count as heap, and the
// system has it back after Free.
func TestMemoryIsOutsideOfTheHeap(t *testing.T) {
	const n = 64 << 20
	before := heapBytes()
	p := Alloc[[2]uint64](n / 16)
	if len(p) != n/16 || cap(p) != len(p) {
		t.Fatalf("%d elements, room for %d, want %d", len(p), cap(p), n/16)
	}
	if grown := heapBytes() - before; grown > n/2 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	for i := 0; i < len(p); i += 1000 {
		if p[i] != ([2]uint64{}) {
			t.Fatalf("element %d is %v, want zeros", i, p[i])
		}
		p[i] = [2]uint64{uint64(i), ^uint64(i)}
	}
	for i := 0; i < len(p); i += 1000 {
		if p[i] != ([2]uint64{uint64(i), ^uint64(i)}) {
			t.Fatalf("element %d is %v", i, p[i])
		}
	}
	q := Alloc[byte](n)
	bytes := q[:n:n]
	Free(p)
	Free(q)
	if err := unix.Munmap(bytes); !errors.Is(err, unix.EINVAL) {
		t.Errorf("unmapped after Free: %v, want EINVAL, as it is unmapped already", err)
	}
}

func heapBytes() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

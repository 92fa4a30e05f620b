package vfs

import "unsafe"

// Alloc returns n zero values of T, which must have no pointers, outside Go's heap. The
// collector lets the heap grow to about twice what is in use; memory outside the heap does
// not count for that, and goes back to the system at Free. Where the system gives none,
// and under the race detector, which sees only the heap, Alloc uses the heap.
func Alloc[T any](n int) []T {
	var one T
	if p := mapMemory(n * int(unsafe.Sizeof(one))); p != nil {
		return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(p))), n)
	}
	return make([]T, n)
}

// Free gives back what Alloc has returned, all of it. Nobody may use it any more. Memory
// of the heap is left to the collector; under the race detector it is written over.
func Free[T any](p []T) {
	if cap(p) > 0 {
		unmapMemory(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(p))), cap(p)*int(unsafe.Sizeof(p[:1][0]))))
	}
}

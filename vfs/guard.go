package vfs

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// FaultError: bytes of a mapping could not be read, because the file was cut short
// or the disk failed. The process goes on.
type FaultError struct {
	Address uintptr // where the read went
}

func (e *FaultError) Error() string {
	return fmt.Sprintf("memory fault at %#x: mapped file cut short or unreadable", e.Address)
}

// Guard runs read and returns its error; a memory fault in it, in this goroutine,
// becomes a *FaultError instead of the end of the process. Other panics pass
// through. It allocates nothing unless there is a fault. read must not hold a lock
// that it would not release if it panicked.
func Guard(read func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			err = faultOf(p)
		}
	}()
	return read()
}

// faultOf makes an error of a memory fault, and panics again with anything else.
// Only faults at real addresses have Addr: a nil pointer is a bug and stays a
// panic.
func faultOf(p any) error {
	fault, ok := p.(interface {
		runtime.Error
		Addr() uintptr
	})
	if !ok {
		panic(p)
	}
	return &FaultError{fault.Addr()}
}

package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// stopPatience is how long a call that is under way may go on after a signal.
const stopPatience = 100 * time.Millisecond

// unlessStopped returns what do returns, or the error of ctx if that ends first: then do
// goes on until the program ends. It is for calls that may wait for another process: for
// the other end of a pipe, or for a lock.
func unlessStopped[T any](ctx context.Context, do func() (T, error)) (T, error) {
	var of T
	var err error
	done := make(chan struct{})
	go func() {
		of, err = do()
		close(done)
	}()
	select {
	case <-done:
		return of, err
	case <-ctx.Done():
	}
	select {
	case <-done:
		return of, err
	case <-time.After(stopPatience):
		var none T
		return none, ctx.Err()
	}
}

// interruptible reads until the context is done. A read that waits at that moment goes
// on until the program ends.
type interruptible struct {
	in     io.Reader
	ctx    context.Context
	buffer []byte
	left   []byte // the part of buffer that Read has not returned yet
}

// pipeBytes is how much is read at once.
const pipeBytes = 64 << 10

func newInterruptible(ctx context.Context, in io.Reader) *interruptible {
	return &interruptible{in: in, ctx: ctx, buffer: make([]byte, pipeBytes)}
}

func (r *interruptible) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		n, err := unlessStopped(r.ctx, func() (int, error) { return r.in.Read(r.buffer) })
		if n == 0 {
			return 0, err
		}
		r.left = r.buffer[:n] // also after an error, which the next read meets again
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// Stat returns what the system says about the file that is read, so that a restore does
// not replace it.
func (r *interruptible) Stat() (fs.FileInfo, error) {
	file, ok := r.in.(*os.File)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return file.Stat()
}

// interruptibleWriter writes until the context is done. A write that waits at that moment
// goes on until the program ends, and nothing may be written after it.
type interruptibleWriter struct {
	out io.Writer
	ctx context.Context
}

func (w interruptibleWriter) Write(p []byte) (int, error) {
	return unlessStopped(w.ctx, func() (int, error) { return w.out.Write(p) })
}

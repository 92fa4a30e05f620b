package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/vfs"
	"pgregory.net/rapid"
)

// outcome is what a caller can learn from an error.
func outcome(err error) string {
	for _, known := range []error{vfs.ErrLockHeld, vfs.ErrNotSupported} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return fmt.Sprint(err != nil)
}

// twin makes a call on the system's file system and on crashfs, and returns the
// outcome of each.
func twin(t *rapid.T, pair [2]vfs.File, call func(f vfs.File) string) {
	system, memory := call(pair[0]), call(pair[1])
	if system != memory {
		t.Fatalf("the system says %q, crashfs %q", system, memory)
	}
}

// TestCrashfsIsLikeTheSystem: any calls, in any order, on three open files of one
// file give the same bytes, sizes, errors and locks.
func TestCrashfsIsLikeTheSystem(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the locks are those of Linux")
	}
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		must(t, err)
		worlds := [2]world{{vfs.OS(), dir}, {crashfs.New(crashfs.Options{FileLimit: 1 << 16}), dir}}
		var open [3][2]vfs.File
		for i := range open {
			for k, w := range worlds {
				open[i][k], err = w.fs.OpenFile(w.path("f"), vfs.ReadWrite|vfs.Create, 0o600)
				must(t, err)
				defer open[i][k].Close()
			}
		}
		for step := range rapid.IntRange(1, 40).Draw(rt, "steps") {
			pair := open[rapid.IntRange(0, len(open)-1).Draw(rt, "file")]
			off := rapid.Int64Range(0, 10000).Draw(rt, "offset")
			p := bytes.Repeat([]byte{byte(step) + 1}, rapid.IntRange(0, 5000).Draw(rt, "length"))
			lock := vfs.Lock{
				Whole:     rapid.Bool().Draw(rt, "whole"),
				Exclusive: rapid.Bool().Draw(rt, "exclusive"),
				Offset:    rapid.Int64Range(0, 8).Draw(rt, "first"),
				Length:    rapid.Int64Range(0, 8).Draw(rt, "count"),
			}
			calls := []func(f vfs.File) string{
				func(f vfs.File) string { return outcome(f.WriteAt(p, off)) },
				func(f vfs.File) string { return outcome(f.WriteSync(p, off)) },
				func(f vfs.File) string { return outcome(f.Truncate(off)) },
				func(f vfs.File) string { return outcome(f.Allocate(off, int64(len(p)))) },
				func(f vfs.File) string {
					got := make([]byte, len(p))
					n, err := f.ReadAt(got, off)
					return fmt.Sprint(n, err, string(got[:n]))
				},
				func(f vfs.File) string { return outcome(f.TryLock(lock)) },
				func(f vfs.File) string { return outcome(f.TryLock(lock)) },
				func(f vfs.File) string { return outcome(f.Unlock(lock)) },
				func(f vfs.File) string {
					held, _, err := f.ProbeLock(lock)
					return fmt.Sprint(held, outcome(err))
				},
			}
			twin(rt, pair, calls[rapid.IntRange(0, len(calls)-1).Draw(rt, "call")])
			twin(rt, pair, func(f vfs.File) string {
				info, err := f.Info()
				return fmt.Sprint(info.Size, err)
			})
		}
	})
}

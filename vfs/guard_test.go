package vfs_test

import (
	"bytes"
	"errors"
	"hash/crc32"
	"os"
	"testing"

	"github.com/cidstore/cidstore/vfs"
)

// cutMapping returns a view of a file that was then cut to nothing.
func cutMapping(t *testing.T) []byte {
	t.Helper()
	w := world{vfs.OS(), t.TempDir()}
	f := w.create(t, "f")
	must(t, f.WriteAt(bytes.Repeat([]byte{1}, 1<<16), 0))
	v, err := mapped(t, f, 1<<20).View(0, 1<<16)
	must(t, err)
	must(t, f.Truncate(0))
	return v
}

func TestGuardTurnsFaultsIntoErrors(t *testing.T) {
	v := cutMapping(t)
	sum := 0
	for name, read := range map[string]func() error{
		"one byte": func() error { sum += int(v[5000]); return nil },
		"copy":     func() error { copy(make([]byte, 1<<16), v); return nil },
		"crc32c":   func() error { sum += int(crc32.Checksum(v, crc32.MakeTable(crc32.Castagnoli))); return nil },
		"compare":  func() error { _ = bytes.Equal(v, make([]byte, len(v))); return nil },
	} {
		for range 3 {
			var fault *vfs.FaultError
			if err := vfs.Guard(read); !errors.As(err, &fault) || fault.Address < 1<<12 {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

func TestGuardPassesTheRest(t *testing.T) {
	if err := vfs.Guard(func() error { return os.ErrExist }); err != os.ErrExist {
		t.Fatalf("error became %v", err)
	}
	for name, f := range map[string]func() error{
		"panic":       func() error { panic("mine") },
		"index":       func() error { var s []int; return map[int]error{0: nil}[s[len(s)]] },
		"nil pointer": func() error { var p *vfs.Lock; _ = p.Offset; return nil },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not pass", name)
				}
			}()
			t.Errorf("%s returned %v", name, vfs.Guard(f))
		}()
	}
}

func TestGuardAllocatesNothing(t *testing.T) {
	v, sum := []byte{1}, 0
	if n := testing.AllocsPerRun(100, func() {
		_ = vfs.Guard(func() error { sum += int(v[0]); return nil })
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

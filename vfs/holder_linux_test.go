package vfs

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLockHolder: the process itself, by the lock of another descriptor.
func TestLockHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, other := create(t, path), create(t, path)
	info, err := other.Info()
	must(t, err)
	me, exclusive := os.Getpid(), Lock{Offset: 1 << 62, Length: 1, Exclusive: true}
	shared := Lock{Whole: true}
	for _, c := range []struct {
		name   string
		take   *Lock
		wanted Lock
		likely int
		want   int
	}{
		{"no lock, the file open", nil, exclusive, me, 0},
		{"shared with shared", &shared, shared, me, 0},
		{"shared with exclusive", &shared, Lock{Whole: true, Exclusive: true}, 0, me},
		{"byte, by the slot", &exclusive, exclusive, me, me},
		{"byte, by the shared lock beside it", &exclusive, exclusive, 1 << 30, me},
		{"another byte", nil, Lock{Offset: 1<<62 + 1, Length: 1, Exclusive: true}, me, 0},
		{"bytes around it", nil, Lock{Offset: 1 << 61, Length: 1<<62 + 1, Exclusive: true}, me, me},
		{"whole file, exclusive", &Lock{Whole: true, Exclusive: true}, shared, -1, me},
	} {
		if c.take != nil {
			must(t, f.TryLock(*c.take))
		}
		if got := LockHolder(info, c.wanted, c.likely); got != c.want {
			t.Errorf("%s: process %d, want %d", c.name, got, c.want)
		}
	}
	if got := LockHolder(Info{Device: info.Device + 1, Inode: info.Inode}, exclusive, me); got != 0 {
		t.Errorf("the same number on another device: process %d", got)
	}
}

func TestParseLock(t *testing.T) {
	for _, line := range []string{
		"", "1:", "1: -> FLOCK  ADVISORY  WRITE 6859 fe:00:99 0 EOF", "1: FLOCK  ADVISORY  WRITE x fe:00:99 0 EOF",
		"1: FLOCK  ADVISORY  WRITE 1 fe:00:x 0 EOF", "1: FLOCK  ADVISORY  WRITE 1 fe:00:99 x EOF",
		"1: FLOCK  ADVISORY  WRITE 1 fe:00:99 0 x", "1: LEASE  ACTIVE    READ  1 99999999999999999999 0 EOF",
	} {
		if k, ok := parseLock(line); ok {
			t.Errorf("%q is %+v", line, k)
		}
	}
	k, ok := parseLock("12: OFDLCK ADVISORY  WRITE -1 fe:00:9977877 4611686018427387904 4611686018427387904\n")
	if want := (kernelLock{"OFDLCK", true, -1, 9977877, 1 << 62, 1 << 62}); !ok || k != want {
		t.Errorf("%+v, want %+v", k, want)
	}
}

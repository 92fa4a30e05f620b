package cidstore

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// held runs a shell command that locks the file $1, says so, and waits for its input
// to end. It returns the shell's process and ends it with the test.
func held(t *testing.T, path string, command ...string) int {
	t.Helper()
	c := exec.Command(command[0], append(command[1:], path)...)
	in := mustGet(c.StdinPipe())(t)
	out := mustGet(c.StdoutPipe())(t)
	mustDo(t, c.Start())
	t.Cleanup(func() { in.Close(); _, _ = io.Copy(io.Discard, out); _ = c.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	return c.Process.Pid
}

// TestLockHolderNamed: ErrLocked names a process that lives and has the lock, and
// nobody else: neither the last writer, which has left, nor the one that took a
// lock and ended while others kept it.
func TestLockHolderNamed(t *testing.T) {
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("no flock here")
	}
	const byOFD = `
import fcntl, struct, sys
f = open(sys.argv[1], "r+b")
fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 1 << 62, 1, 0))
print("locked", flush=True)
sys.stdin.read()`
	for _, c := range []struct {
		name    string
		command []string
		known   bool
		reader  bool // is kept out too
	}{
		{"flock that waits for its child", []string{"sh", "-c", `exec flock -x "$0" sh -c 'echo locked; read line'`}, true, true},
		{"flock that has ended", []string{"sh", "-c", `exec 9<"$0"; flock -x 9; echo locked; read line`}, false, true},
		{"shared flock keeps nobody out", []string{"sh", "-c", `exec flock -s "$0" sh -c 'echo locked; read line'`}, false, false},
		{"byte lock", []string{"/usr/bin/python3", "-c", byOFD}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.h5")
			s := mustGet(Open(path, nil))(t)
			mustDo(t, s.Close())
			if _, err := exec.LookPath(c.command[0]); err != nil {
				t.Skip(err)
			}
			pid := held(t, path, c.command...)
			for _, readOnly := range []bool{false, true} {
				kept := c.reader || c.name == "byte lock" && !readOnly
				s, err := Open(path, &Options{ReadOnly: readOnly})
				if !kept {
					mustDo(t, err)
					s.Close()
					continue
				}
				if !errors.Is(err, ErrLocked) {
					t.Fatalf("error %v, want %v", err, ErrLocked)
				}
				// The shell has the descriptor, so it may be named; what has ended may not.
				if named := fmt.Sprintf("by process %d", pid); c.known && !strings.Contains(err.Error(), named) {
					t.Errorf("%v, want %q", err, named)
				} else if !c.known && !strings.Contains(err.Error(), "by another program") {
					t.Errorf("%v, want another program", err)
				}
			}
		})
	}
}

// pinByPython holds the root of a commit, as python/cidstore.py does; with the whole-file
// lock too it can be named.
const pinByPython = `
import fcntl, struct, sys
f = open(sys.argv[3], "rb")
if sys.argv[1] == "named":
    fcntl.flock(f, fcntl.LOCK_SH)
fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, (1 << 61) + int(sys.argv[2]), 1, 0))
print("locked", flush=True)
sys.stdin.read()`

// TestPinHolder: who holds an old root is named, if the system says it.
func TestPinHolder(t *testing.T) {
	for _, how := range []string{"named", "nameless"} {
		t.Run(how, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.h5")
			w := OpenStore(t, path, &Options{GCInterval: -1})
			defer w.Close()
			rounds(t, w, 2)
			commit := w.state.Load().view.Commit()
			pid := held(t, path, "/usr/bin/python3", "-c", pinByPython, how, fmt.Sprint(commit))
			if how != "named" {
				pid = 0
			}
			rounds(t, w, 3)
			r := OpenStore(t, path, &Options{ReadOnly: true})
			defer r.Close()
			for _, s := range []*Store{w, r} {
				if p := spaceOf(t, s); p.OldestPin != uint64(commit) || p.OldestPinHolder != pid {
					t.Errorf("%+v, want commit %d held by %d", p, commit, pid)
				}
			}
		})
	}
}

//go:build unix

package cidstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/oracle"
)

// The tests of this file run one writer and several readers, each a process of
// its own: this test program again, with a role in its environment.
const (
	roleVariable  = "CIDSTORE_TEST_ROLE"  // writer, reader
	storeVariable = "CIDSTORE_TEST_STORE" // path of the store; path + ".acked" counts its batches
	traitVariable = "CIDSTORE_TEST_TRAIT" // how this process differs from others of its role
)

// counter is a number in a file: eight bytes, which one pwrite replaces whole.
type counter struct{ file *os.File }

func openCounter(path string) (counter, error) {
	f, err := os.OpenFile(path+".acked", os.O_RDWR|os.O_CREATE, 0o666)
	return counter{f}, err
}

func (c counter) set(n uint64) error {
	_, err := c.file.WriteAt(binary.LittleEndian.AppendUint64(nil, n), 0)
	return err
}

func (c counter) get() (uint64, error) {
	var p [8]byte
	if _, err := c.file.ReadAt(p[:], 0); err != nil && err != io.EOF {
		return 0, err
	}
	return binary.LittleEndian.Uint64(p[:]), nil
}

// TestProcess is what a child process runs; alone it does nothing.
func TestProcess(t *testing.T) {
	role := os.Getenv(roleVariable)
	if role == "" {
		t.Skip("a part of other tests")
	}
	path := os.Getenv(storeVariable)
	ended := make(chan struct{}) // standard input is closed: the parent is done, or dead
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	acked := mustGet(openCounter(path))(t)
	if role == "writer" {
		writeUntil(t, path, acked, ended)
	} else {
		readUntil(t, path, acked, ended)
	}
}

// writeUntil writes batch after batch, with laps of a small log, splits, deletes,
// spilled sets and checkpoints, until ended is closed.
func writeUntil(t *testing.T, path string, acked counter, ended <-chan struct{}) {
	options := &cidstore.Options{WALBytes: 96 << 10, SplitThreshold: 8, MemoryBudget: 1 << 20}
	s := open(t, path, options)
	random := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	n := mustGet(acked.get())(t)
	for {
		select {
		case <-ended:
			must(t, s.Close())
			return
		default:
		}
		n++
		var b cidstore.Batch
		setGroup(&b, n)
		for range 40 { // others come and go
			k, v := cidstore.E{High: 2, Low: random.Uint64N(2000)}, cidstore.E{Low: random.Uint64N(30)}
			switch random.IntN(5) {
			case 0:
				b.Delete(k)
			case 1:
				b.DeleteValue(k, v)
			default:
				b.Insert(k, v)
			}
		}
		must(t, s.Apply(&b), acked.set(n))
		switch {
		case n%37 == 0:
			must(t, s.Checkpoint(context.Background()))
		case n%400 == 0 && os.Getenv(traitVariable) == "reopens":
			must(t, s.Close())
			s = open(t, path, options)
		}
	}
}

// readUntil refreshes and looks, again and again, until ended is closed.
func readUntil(t *testing.T, path string, acked counter, ended <-chan struct{}) {
	options := &cidstore.Options{ReadOnly: true}
	switch os.Getenv(traitVariable) {
	case "always":
		options.Verify = cidstore.VerifyAlways
	case "unmapped":
		options.NoMmap = true
	}
	before := mustGet(acked.get())(t)
	s := open(t, path, options)
	var last, heldValue uint64
	var held *cidstore.Snapshot
	for round := 0; ; round++ {
		v := mustGet(s.Snapshot())(t)
		now := groupValue(t, v)
		if now < before || now < last {
			t.Fatalf("round %d shows batch %d: batch %d was acknowledged before, batch %d seen before", round, now, before, last)
		}
		last = now
		if held != nil && groupValue(t, held) != heldValue {
			t.Fatalf("round %d: a snapshot of batch %d shows batch %d", round, heldValue, groupValue(t, held))
		}
		if round%50 == 0 { // that long, a snapshot lives over many commits
			if held != nil {
				must(t, held.Close())
			}
			held, heldValue = v, now
		} else {
			must(t, v.Close())
		}
		select {
		case <-ended:
			must(t, held.Close())
			mustBeWhole(t, s)
			must(t, s.Close())
			fmt.Printf("rounds %d, last %d\n", round, last)
			return
		default:
		}
		before = mustGet(acked.get())(t)
		must(t, s.Refresh())
	}
}

// child is a process of this test program.
type child struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	out   bytes.Buffer
}

func spawn(t *testing.T, path, role, trait string) *child {
	t.Helper()
	self := mustGet(os.Executable())(t)
	c := &child{t: t, name: role + " " + trait, cmd: exec.Command(self, "-test.run=^TestProcess$", "-test.count=1")}
	c.cmd.Env = append(os.Environ(), roleVariable+"="+role, storeVariable+"="+path, traitVariable+"="+trait)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	c.stdin = mustGet(c.cmd.StdinPipe())(t)
	must(t, c.cmd.Start())
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	return c
}

// end lets the child end, which must succeed.
func (c *child) end() {
	c.t.Helper()
	must(c.t, c.stdin.Close())
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("%s: %v\n%s", c.name, err, c.out.String())
	}
}

// kill ends the child at once.
func (c *child) kill() {
	c.t.Helper()
	must(c.t, c.cmd.Process.Kill())
	var exit *exec.ExitError
	if err := c.cmd.Wait(); !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		c.t.Errorf("%s: ended before it was killed: %v\n%s", c.name, err, c.out.String())
	}
}

func (c *child) signal(s syscall.Signal) { c.t.Helper(); must(c.t, c.cmd.Process.Signal(s)) }

// processTime is how long the processes run: seconds; CIDSTORE_PROCESS_TIME makes
// it longer.
func processTime(t *testing.T, normal time.Duration) time.Duration {
	if text := os.Getenv("CIDSTORE_PROCESS_TIME"); text != "" {
		return mustGet(time.ParseDuration(text))(t)
	}
	return normal
}

// waitUntil waits for something that other processes do.
func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	for patience := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(patience) {
			t.Fatalf("after 30 s: want that %s", what)
		}
	}
}

// sharedStore makes the store of a test with several processes, and returns the number of
// batches that its writer has acknowledged. Such a test takes seconds.
func sharedStore(t *testing.T) (path string, acknowledged func() uint64) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes seconds")
	}
	path = filepath.Join(t.TempDir(), "s.h5")
	must(t, open(t, path, &cidstore.Options{WALBytes: 96 << 10, SplitThreshold: 8}).Close())
	acked := mustGet(openCounter(path))(t)
	return path, func() uint64 { n, err := acked.get(); must(t, err); return n }
}

// TestReadersOfOtherProcesses: every Refresh shows one value on all keys, never an
// older one, and all that was acknowledged before it; snapshots stay; readers that
// stand still or are killed hold up nobody and leave nothing.
func TestReadersOfOtherProcesses(t *testing.T) {
	path, count := sharedStore(t)

	writer := spawn(t, path, "writer", "")
	readers := []*child{spawn(t, path, "reader", ""), spawn(t, path, "reader", "always")}
	stopped, killed := spawn(t, path, "reader", "unmapped"), spawn(t, path, "reader", "")
	random := rand.New(rand.NewPCG(1, 2))
	for end := time.Now().Add(processTime(t, 5*time.Second)); time.Now().Before(end); {
		time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
		stopped.signal(syscall.SIGSTOP)
		before := count()
		time.Sleep(time.Duration(50+random.IntN(300)) * time.Millisecond)
		waitUntil(t, "the writer goes on while a reader stands still", func() bool { return count() > before })
		stopped.signal(syscall.SIGCONT)
		time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
		killed.kill()
		killed = spawn(t, path, "reader", "")
	}
	for _, r := range append(readers, stopped, killed) {
		r.end()
	}
	// Nobody reads: what the killed ones had pinned is free again.
	size := func() int64 { info, err := os.Stat(path); must(t, err); return info.Size() }
	settled := size()
	before := count()
	waitUntil(t, "the writer goes on", func() bool { return count() >= before+300 })
	if now := size(); now > settled+2<<20 {
		t.Errorf("the file has grown from %d to %d bytes with nobody to read it", settled, now)
	}
	batches := count()
	writer.end()
	t.Logf("%d batches, %d of them with nobody to read; %d bytes, %d after Close", batches, batches-before, settled, size())
	if settled > 64<<20 {
		t.Errorf("the file has grown to %d bytes", settled)
	}
	s := open(t, path, nil)
	v := mustGet(s.Snapshot())(t)
	if got := groupValue(t, v); got != count() {
		t.Errorf("the store has batch %d, want %d", got, count())
	}
	must(t, v.Close())
	mustBeWhole(t, s)
}

// TestWriterKilledUnderReaders: a writer that is closed, killed and opened again
// takes nothing back from readers, and never keeps them out.
func TestWriterKilledUnderReaders(t *testing.T) {
	path, count := sharedStore(t)
	readers := []*child{spawn(t, path, "reader", ""), spawn(t, path, "reader", "unmapped")}
	random := rand.New(rand.NewPCG(3, 4))
	writer := spawn(t, path, "writer", "reopens")
	for end := time.Now().Add(processTime(t, 4*time.Second)); time.Now().Before(end); {
		time.Sleep(time.Duration(20+random.IntN(300)) * time.Millisecond)
		writer.kill()
		writer = spawn(t, path, "writer", "reopens")
	}
	before := count()
	waitUntil(t, "the last writer goes on", func() bool { return count() >= before+300 })
	for _, r := range readers {
		r.end()
	}
	writer.end()
	s := open(t, path, nil)
	mustBeWhole(t, s)
}

// TestReadersOpenALiveStore: an opening finds the store at any moment of a
// writer's commits.
func TestReadersOpenALiveStore(t *testing.T) {
	path, count := sharedStore(t)
	writer := spawn(t, path, "writer", "reopens")
	opened := 0
	for end := time.Now().Add(processTime(t, 2*time.Second)); time.Now().Before(end); opened++ {
		before := count()
		s, err := cidstore.Open(path, &cidstore.Options{ReadOnly: true})
		mustAt(t, err, "opening", opened)
		v := mustGet(s.Snapshot())(t)
		if got := groupValue(t, v); got < before {
			t.Fatalf("opening %d shows batch %d, batch %d was acknowledged before", opened, got, before)
		}
		must(t, s.Close())
	}
	writer.end()
	t.Logf("%d openings", opened)
}

// TestH5pyOpensALiveStore: the file reaches beyond the end that the superblock
// names, so a program that opens it between two commits never learns that it is
// cut short. One that is slower than two commits may find other things there by
// then: it holds no pin, and gets an error that says so.
func TestH5pyOpensALiveStore(t *testing.T) {
	path, _ := sharedStore(t)
	python := oracle.H5py(t)
	writer := spawn(t, path, "writer", "")
	const script = `
import sys, time, h5py
end, opened, overtaken, grew = time.time() + float(sys.argv[2]), 0, 0, 0
while time.time() < end:
    try:
        with h5py.File(sys.argv[1], "r") as f:
            f["/config"].attrs["commit"]
            list(f)
        opened, grew = opened + 1, 0
    except (OSError, KeyError, RuntimeError) as e:
        # HDF5 asks for the length of the file before it reads the superblock. A busy
        # system can let a growth and a commit come in between, but not each time.
        grew = grew + 1 if "truncated" in str(e) else 0
        if grew == 3:
            raise
        overtaken += 1
assert opened > 0
print(opened, overtaken)
`
	out, errout, err := oracle.Run(t, time.Minute, python, "-c", script, path, fmt.Sprint(processTime(t, 2*time.Second).Seconds()))
	if err != nil {
		t.Errorf("%v\n%s", err, errout)
	}
	writer.end()
	t.Logf("openings by h5py, and those that the writer overtook: %s", strings.TrimSpace(out))
}

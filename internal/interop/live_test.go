package interop

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/oracle"
)

// childVariable names the store that this test binary, run as a child, writes to
// until it is killed.
const childVariable = "CIDSTORE_INTEROP_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeUntilKilled changes the store at random, and prints a line on stdout for
// each batch that is acknowledged. Its log is small, so that it is in a checkpoint
// most of the time.
func writeUntilKilled(path string) error {
	s, err := cidstore.Open(path, &cidstore.Options{WALBytes: 256 << 10, SplitThreshold: 16})
	if err != nil {
		return err
	}
	for {
		if err := s.Apply(randomBatch()); err != nil {
			return err
		}
		fmt.Println("acknowledged")
	}
}

// randomBatch mostly inserts, so that sets become spilled ones, and deletes some
// values and keys.
func randomBatch() *cidstore.Batch {
	b := new(cidstore.Batch)
	for range 1 + rand.IntN(200) {
		key, value := cidstore.FromUint64(rand.Uint64N(2000)), cidstore.FromUint64(uint64(rand.ExpFloat64()*10))
		switch rand.IntN(20) {
		case 0:
			b.Delete(key)
		case 1, 2, 3, 4:
			b.DeleteValue(key, value)
		default:
			b.Insert(key, value)
		}
	}
	return b
}

// beside returns Python for a test that takes some seconds beside others.
func beside(t *testing.T) (python string) {
	t.Helper()
	t.Parallel()
	if testing.Short() {
		t.Skip("writes for some seconds")
	}
	return oracle.H5py(t)
}

// writing starts the child, which writes until it is killed, and returns its stdout.
func writing(t *testing.T, path string) (*exec.Cmd, io.Reader) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	child := exec.Command(exe)
	child.Env = append(os.Environ(), childVariable+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	return child, out
}

// killed runs the child until it has acknowledged a number of batches, and kills it.
func killed(t *testing.T, path string, batches int) {
	t.Helper()
	child, out := writing(t, path)
	lines := bufio.NewScanner(out)
	n := 0
	for n < batches && lines.Scan() {
		n++
	}
	time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	if err := child.Process.Kill(); err != nil {
		t.Error(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = child.Wait() // says that it was killed
	if n < batches {
		t.Fatalf("the child ended after %d batches", n)
	}
}

// TestPythonReadsWhatIsLeftOfAKilledWriter kills writers of the same store several
// times. They leave epochs, halves of checkpoints and torn frames.
func TestPythonReadsWhatIsLeftOfAKilledWriter(t *testing.T) {
	python := beside(t)
	rounds := 6
	if full {
		rounds = 40
	}
	path := filepath.Join(t.TempDir(), "store.h5")
	for range rounds {
		killed(t, path, 1+rand.IntN(150))
		got := parsePairs(t, run(t, python, reader(t), path))
		s, err := cidstore.Open(path, &cidstore.Options{ReadOnly: true})
		must(t, err)
		want := pairsOf(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if samePairs(t, "cidstore.py after kill -9", got, want); t.Failed() {
			return
		}
	}
}

// reopen opens a store and reads all of it, repeatedly for some seconds.
const reopen = `
import sys, time
sys.path.insert(0, sys.argv[1])
import cidstore
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    with cidstore.open(sys.argv[2]) as store:
        assert len(set(store.pairs())) == sum(1 for _ in store.pairs()) > 0
print("read")
`

// TestPythonReadsWhileAWriterWrites: a log that grows while it is read is not damage.
func TestPythonReadsWhileAWriterWrites(t *testing.T) {
	python := beside(t)
	path := filepath.Join(t.TempDir(), "store.h5")
	killed(t, path, 20)
	child, out := writing(t, path)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, out)
	}()
	defer func() {
		if err := child.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-drained
		_ = child.Wait() // says that it was killed
	}()
	if text := run(t, python, "-c", reopen, filepath.Dir(reader(t)), path, "8"); text != "read\n" {
		t.Errorf("the reader says %q", text)
	}
}

// hold opens a store, says so, and reads it when its standard input ends.
const hold = `
import sys
sys.path.insert(0, sys.argv[1])
import cidstore
with cidstore.open(sys.argv[2]) as store:
    print("open", flush=True)
    sys.stdin.read()
    for pair in store.pairs():
        print("%032x\t%032x" % pair)
`

// TestAPinnedReaderSeesItsCommitWhileAWriterGoesOn: a reader can still read what it
// opened after the writer has replaced all of it several times.
func TestAPinnedReaderSeesItsCommitWhileAWriterGoesOn(t *testing.T) {
	python := beside(t)
	path := filepath.Join(t.TempDir(), "store.h5")
	s, err := cidstore.Open(path, &cidstore.Options{WALBytes: 64 << 10, GCInterval: -1})
	must(t, err)
	defer s.Close()
	put(t, s, numbered(2000, 8))
	must(t, s.Checkpoint(t.Context()))
	put(t, s, numbered(20, 20)) // in the log
	want := pairsOf(t, s)

	child := exec.Command(python, "-c", hold, filepath.Dir(reader(t)), path)
	child.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	in, err := child.StdinPipe()
	must(t, err)
	out, err := child.StdoutPipe()
	must(t, err)
	var errors strings.Builder
	child.Stderr = &errors
	must(t, child.Start())
	stdout := bufio.NewReader(out)
	if line, err := stdout.ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("the reader says %q: %v, %s", line, err, &errors)
	}
	for round := range uint64(8) {
		var b cidstore.Batch
		for k := range uint64(2000) {
			b.Delete(cidstore.FromUint64(k))
			for v := range round * k % 9 {
				b.Insert(cidstore.FromUint64(k), cidstore.E{High: round, Low: v})
			}
			if k%50 == 49 {
				must(t, s.Apply(&b))
				b.Reset()
			}
		}
		must(t, s.Checkpoint(t.Context()))
	}
	in.Close()
	text, err := io.ReadAll(stdout)
	must(t, err)
	if err := child.Wait(); err != nil {
		t.Fatalf("the reader: %v, %s", err, &errors)
	}
	samePairs(t, "the pinned reader", parsePairs(t, string(text)), want)
}

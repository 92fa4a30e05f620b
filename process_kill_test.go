package cidstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/oracle"
	"github.com/cidstore/cidstore/wal"
)

// The tests of this file kill processes, on a file of the operating system: this
// test program runs itself with the role of a child in its environment.
const (
	childVariable = "CIDSTORE_CHILD"         // write or read
	childPath     = "CIDSTORE_CHILD_PATH"    // of the store
	childOptions  = "CIDSTORE_CHILD_OPTIONS" // a number that says which
)

// killOptions are different ones for each restart; what is fixed when the store is
// made is the same.
func killOptions(n uint64) *Options {
	r := rand.New(rand.NewPCG(n, 4))
	o := &Options{SplitThreshold: 16, WALBytes: 64 << 10 << r.IntN(4), NoMmap: r.IntN(3) == 0}
	if r.IntN(3) == 0 {
		o.MemoryBudget = 32 << 10
	}
	if r.IntN(4) == 0 {
		o.Verify = VerifyAlways
	}
	if r.IntN(4) == 0 {
		o.GCInterval = -1
	}
	if r.IntN(4) == 0 {
		o.Durability, o.FlushInterval = Async, time.Millisecond
	}
	o.startBytes = 64 << 10
	return o
}

// killBatch is batch n of the run: operations on a few thousand keys, and the number
// itself as the only value of a key of its own.
func killBatch(n uint64) (ops []wal.Op) {
	r := rand.New(rand.NewPCG(n, 5))
	ops = append(ops, del(killCounter), ins(killCounter, n))
	for range r.IntN(60) {
		k, v := r.Uint64N(3000), r.Uint64N(20)
		switch r.IntN(8) {
		case 0:
			ops = append(ops, del(k))
		case 1:
			ops = append(ops, delv(k, v))
		case 2:
			ops = append(ops, ins(r.Uint64N(3), r.Uint64N(100000)))
		default:
			ops = append(ops, ins(k, v))
		}
	}
	return ops
}

const killCounter = 1 << 40

// countedBatches is the number of the last batch that the store holds.
func countedBatches(v *Snapshot) (uint64, error) {
	values, err := v.Lookup(FromUint64(killCounter))
	switch {
	case err != nil || len(values) == 0:
		return 0, err
	case len(values) > 1:
		return 0, fmt.Errorf("%d batches are the last at once", len(values))
	}
	return values[0].Low, nil
}

// TestKillChild is the process that is killed; alone it does nothing.
func TestKillChild(t *testing.T) {
	role := os.Getenv(childVariable)
	if role == "" {
		t.Skip("a part of the other tests")
	}
	var number uint64
	mustDo(t, errOf(fmt.Sscan(os.Getenv(childOptions), &number)))
	var err error
	if o := killOptions(number); role == "write" {
		err = killedWriter(os.Getenv(childPath), o)
	} else {
		err = killedReader(os.Getenv(childPath), o)
	}
	fmt.Printf("failed: %v\n", err) // nobody is left to be killed
}

func killedWriter(path string, o *Options) error {
	s, err := Open(path, o)
	if err != nil {
		return err
	}
	v, err := s.Snapshot()
	if err != nil {
		return err
	}
	n, err := countedBatches(v)
	if err = errors.Join(err, v.Close()); err != nil {
		return err
	}
	fmt.Printf("open %d\n", n)
	for {
		n++
		fmt.Printf("begin %d\n", n)
		if err := s.Apply(&Batch{ops: killBatch(n)}); err != nil {
			return err
		}
		if o.Durability == Async {
			if n%8 != 0 {
				continue
			}
			if err := s.Sync(); err != nil {
				return err
			}
		}
		fmt.Printf("acked %d\n", n)
	}
}

func killedReader(path string, o *Options) error {
	o.ReadOnly = true
	s, err := Open(path, o)
	if err != nil {
		return err
	}
	for {
		v, err := s.Snapshot()
		if err != nil {
			return err
		}
		n, err := countedBatches(v)
		if err != nil {
			return err
		}
		first, err := printOfSnapshot(v)
		if err != nil {
			return err
		}
		fmt.Printf("acked %d\n", n)
		if again, err := printOfSnapshot(v); err != nil || again != first {
			return fmt.Errorf("a snapshot changed: %w", err)
		}
		if err := errors.Join(v.Close(), s.Refresh()); err != nil {
			return err
		}
	}
}

// child is a running process of this program.
type child struct {
	cmd    *exec.Cmd
	opened chan struct{} // closed when it says its first word
	ended  chan struct{} // closed when it has said its last
	begun  atomic.Uint64
	acked  atomic.Uint64
	failed atomic.Pointer[string]
}

func startChild(t *testing.T, role, path string, options uint64) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0], "-test.run=^TestKillChild$"), opened: make(chan struct{}), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), childVariable+"="+role, childPath+"="+path, fmt.Sprintf("%s=%d", childOptions, options))
	c.cmd.Stderr = os.Stderr
	out := mustGet(c.cmd.StdoutPipe())(t)
	mustDo(t, c.cmd.Start())
	go c.listen(out)
	return c
}

func (c *child) listen(out io.Reader) {
	defer close(c.ended)
	first := true
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		var n uint64
		switch {
		case scanned(line, "begin %d", &n):
			c.begun.Store(n)
		case scanned(line, "acked %d", &n):
			c.acked.Store(n)
		case strings.HasPrefix(line, "failed"), strings.HasPrefix(line, "panic"):
			c.failed.Store(&line)
		}
		if first {
			close(c.opened)
			first = false
		}
	}
}

func scanned(line, format string, n *uint64) bool {
	_, err := fmt.Sscanf(line, format, n)
	return err == nil
}

// kill ends the process as a power cut would, except that the page cache stays, and
// returns what it said before.
func (c *child) kill(t *testing.T) (begun, acked uint64) {
	t.Helper()
	wantErr(t, c.cmd.Process.Kill(), nil)
	<-c.ended
	_ = c.cmd.Wait() // killed
	if line := c.failed.Load(); line != nil {
		t.Fatalf("the process that was to be killed: %s", *line)
	}
	return c.begun.Load(), c.acked.Load()
}

// wait gives the process time until it has opened the store.
func (c *child) wait() {
	select {
	case <-c.opened:
	case <-c.ended:
	}
}

// killedStore is the file that survives a whole run, and what must be in it.
type killedStore struct {
	t      *testing.T
	path   string
	random *rand.Rand
	model  contents
	at     uint64 // batches in model
	least  uint64 // batches that were acknowledged
	most   uint64 // batches that were begun
}

// verify opens the store and compares. A reader leaves the recovery to the next
// writer, who may be killed in it.
func (k *killedStore) verify(cycle int) error {
	o := killOptions(k.random.Uint64())
	o.ReadOnly = cycle%4 != 0
	s, err := Open(k.path, o)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	err = k.compare(s)
	if err == nil && cycle%20 == 0 {
		_, err = s.Check(context.Background())
	}
	if err == nil && !o.ReadOnly {
		// Between the two figures the store's own checkpoint may commit; the pin of
		// a dead reader would stay.
		oldest, newest := uint64(0), uint64(1)
		for try := 0; try < 200 && oldest != newest; try++ {
			time.Sleep(time.Duration(try) * 100 * time.Microsecond)
			oldest, newest = s.Metrics().OldestPin, uint64(s.state.Load().view.Commit())
		}
		if oldest != newest {
			err = fmt.Errorf("commit %d is held by a reader that is dead, the newest is %d", oldest, newest)
		}
	}
	return errors.Join(err, s.Close())
}

func (k *killedStore) compare(s *Store) error {
	v, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer v.Close()
	n, err := countedBatches(v)
	if err != nil {
		return err
	}
	if n < k.least || n > k.most {
		return fmt.Errorf("%d batches, want %d that were acknowledged to %d that were begun", n, k.least, k.most)
	}
	for k.at < n {
		k.at++
		k.model.apply(killBatch(k.at))
	}
	k.least = n // seen: it must not go away again
	if p, err := printOfSnapshot(v); err != nil || p != k.model.print() {
		return fmt.Errorf("%d pairs after %d batches, want %d: %v", p.pairs, n, k.model.print().pairs, err)
	}
	return nil
}

// TestKill kills a writer at random moments, its recovery among them, and readers
// beside it, again and again, all on one file.
func TestKill(t *testing.T) {
	cycles := campaign(30, 300)
	seed := crashSeed(t)
	k := &killedStore{
		t: t, path: filepath.Join(t.TempDir(), "s.h5"), model: contents{},
		random: rand.New(rand.NewPCG(seed, 6)),
	}
	dumps, early := 0, 0
	for cycle := range cycles {
		stop := watchdog(fmt.Sprintf("cycle %d", cycle), 2*time.Minute)
		writer := startChild(t, "write", k.path, k.random.Uint64())
		var reader *child
		if cycle%3 == 1 {
			writer.wait() // there is a store now
			reader = startChild(t, "read", k.path, k.random.Uint64())
		}
		inRecovery := cycle%4 == 3
		if inRecovery {
			early++
		} else {
			writer.wait()
		}
		time.Sleep(time.Duration(k.random.Int64N(int64(30 * time.Millisecond))))
		begun, acked := writer.kill(t)
		k.most, k.least = max(k.most, begun), max(k.least, acked)
		if reader != nil {
			_, seen := reader.kill(t)
			k.least = max(k.least, seen)
		}
		if _, err := os.Stat(k.path); err == nil || k.least > 0 {
			mustAt(t, k.verify(cycle), "seed", seed, "cycle", cycle)
			if cycle%20 == 0 && k.dump() {
				dumps++
			}
		}
		stop()
	}
	t.Logf("%d cycles, %d of them before the store was open, %d batches, %d dumps by h5dump", cycles, early, k.at, dumps)
	if k.at < uint64(cycles) {
		t.Errorf("%d batches in %d cycles: hardly anything was written", k.at, cycles)
	}
}

// dump lets h5dump read the headers of all that the killed process left, if there
// is h5dump.
func (k *killedStore) dump() (dumped bool) {
	k.t.Run("h5dump", func(t *testing.T) {
		program := oracle.H5dump(t)
		if out, errors, err := oracle.Run(t, time.Minute, program, "-H", k.path); err != nil {
			t.Errorf("%v: %s %s", err, out, errors)
		}
		dumped = true
	})
	return dumped
}

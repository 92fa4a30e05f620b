package cidstore

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/wal"
)

// promising is a scenario on a full disk. Whenever something is promised, one commit that
// folds nothing finds room for all that is pending, wherever free space lies and whatever
// readers hold; and it places no more than was counted, or Tx.Surely panics with invariants.
type promising struct {
	*scenario
	kind  int // of keys
	next  uint64
	pins  []*Snapshot
	made  int // commits that were promised, made by force
	tight int // checkpoints while something was promised
	full  int // batches that were refused
}

// pair returns a random pair of a store that has keys of one value, of some, or of many.
func (p *promising) pair() (key, value uint64) {
	n := [...]uint64{1 << 40, 3000, 400, 40, 4}[p.kind]
	if p.kind == 0 && p.random.IntN(4) > 0 {
		p.next++
		return p.next, 0
	}
	return p.random.Uint64N(n), p.random.Uint64N(1 << 20)
}

// batch writes random operations.
func (p *promising) batch(inserts, deletes int) error {
	var ops []wal.Op
	for range inserts {
		ops = append(ops, ins(p.pair()))
	}
	for range deletes {
		if len(p.batches) == 0 {
			break
		}
		old := p.batches[p.random.IntN(len(p.batches))]
		o := old[p.random.IntN(len(old))]
		o.Code = wal.DeleteValue
		if p.random.IntN(4) == 0 {
			o = wal.Op{Code: wal.Delete, Key: o.Key}
		}
		ops = append(ops, o)
	}
	if len(ops) == 0 {
		return nil
	}
	written, err := p.tryFull(ops...)
	switch {
	case err != nil:
		return err
	case !written:
		p.full++
	case p.random.IntN(2) == 0:
		return p.surely()
	}
	return nil
}

// surely makes the commit that was promised, if one was.
func (p *promising) surely() error {
	s := p.store
	return s.exclusively(func() error {
		need := s.promised()
		if need == nil {
			return nil
		}
		p.made++
		if s.state.Load().frozen == nil {
			s.freeze()
		}
		st := s.state.Load()
		c := &checkpoint{store: s, frozen: st.frozen, through: s.frozenThrough, keep: true, sure: need, next: st.view.record.sliceHash}
		c.ops = newQueue(st.frozen, st.view.record.sliceHash)
		last, err := c.slice(math.MaxInt64)
		if err != nil || !last {
			return fmt.Errorf("one commit for %+v, which was promised: last %t, %w", *need, last, err)
		}
		return nil
	})
}

// pinned takes a snapshot, or closes those that there are.
func (p *promising) pinned() error {
	if len(p.pins) < 3 {
		v, err := p.store.Snapshot()
		p.pins = append(p.pins, v)
		return err
	}
	for _, v := range p.pins {
		if err := v.Close(); err != nil {
			return err
		}
	}
	p.pins = nil
	return nil
}

func (p *promising) step() error {
	switch n := p.random.IntN(100); {
	case n < 40:
		return p.batch(1+p.random.IntN(1+p.random.IntN(120)), 0)
	case n < 50:
		return p.batch(p.random.IntN(30), p.random.IntN(60))
	case n < 60:
		return p.batch(0, 1+p.random.IntN(100))
	case n < 75:
		return p.surely()
	case n < 85:
		promised := p.store.promised() != nil
		err := p.store.Checkpoint(p.t.Context())
		if promised {
			p.tight++
			return err
		}
		return full(err)
	case n < 92:
		return p.pinned()
	case n < 95:
		_, err := p.store.RunGCOnce(p.t.Context())
		return full(err)
	case n < 97:
		return full(p.store.Maintain(p.t.Context()))
	case n < 98:
		p.fs.SetCapacity(use(p.t, p.fs) + p.random.Int64N(200<<10))
		return nil
	}
	p.pins = nil
	p.kill()
	p.open()
	return p.store.Failed()
}

// full returns err, unless it is that of a full disk.
func full(err error) error {
	if errors.Is(err, ErrNoSpace) {
		return nil
	}
	return err
}

// TestPromise runs random programs on full disks.
func TestPromise(t *testing.T) {
	first, programs := crashSeed(t), 20
	if invariants.Sparse > 1 {
		programs = 2
	}
	if text := os.Getenv("CIDSTORE_PROMISES"); text != "" {
		var err error
		programs, err = strconv.Atoi(text)
		mustDo(t, err)
	}
	made, tight, refused := 0, 0, 0
	for seed := first; seed < first+uint64(programs); seed++ {
		p := &promising{scenario: newScenario(t, seed, mediumOptions), kind: int(seed % 5)}
		p.open()
		for range p.random.IntN(60) {
			mustDo(t, p.batch(100, 0))
		}
		p.fs.SetCapacity(use(t, p.fs) + p.random.Int64N(1<<20))
		for i := range 120 {
			if err := p.step(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, i, err)
			}
		}
		if err := p.same(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if report, err := p.store.Check(t.Context()); err != nil || len(report.Defects) > 0 {
			t.Fatalf("seed %d: %v: %+v", seed, err, report)
		}
		mustDo(t, full(p.store.Close()))
		made, tight, refused = made+p.made, tight+p.tight, refused+p.full
	}
	t.Logf("%d programs: %d promises kept by one commit, %d by checkpoints, %d batches refused", programs, made, tight, refused)
	if programs >= 20 && (made == 0 || tight == 0 || refused == 0) {
		t.Error("nothing was promised, or nothing was refused")
	}
}

// untilPromised inserts until a full disk has made a promise.
func (p *promising) untilPromised() {
	p.t.Helper()
	for range 500 {
		var ops []wal.Op
		for range 20 {
			ops = append(ops, ins(p.pair()))
		}
		written, err := p.tryFull(ops...)
		mustDo(p.t, err)
		if p.store.promised() != nil {
			return
		}
		if !written {
			mustDo(p.t, p.batch(0, 60), p.store.Checkpoint(p.t.Context()))
		}
	}
	p.t.Fatal("nothing was promised")
}

// TestPromiseIsKept: what could break a promise joins it, waits or is refused.
func TestPromiseIsKept(t *testing.T) {
	p := &promising{scenario: newScenario(t, crashSeed(t), mediumOptions), kind: 2}
	p.open()
	for range 20 {
		mustDo(t, p.batch(100, 0))
	}
	p.fs.SetCapacity(use(t, p.fs))
	s := p.store

	p.untilPromised()
	before := *s.promised()
	written, err := p.tryFull(p.batches[0][0], wal.Op{Code: wal.Delete, Key: p.batches[1][0].Key})
	mustDo(t, err)
	deleted, err := p.tryFull(wal.Op{Code: wal.Delete, Key: p.batches[2][0].Key})
	mustDo(t, err)
	if need := s.promised(); need == nil && s.pendingOps() > 1 || need != nil && *need == before || !written || !deleted {
		t.Errorf("%+v is promised after deletes, %+v before; written %t, %t", need, before, written, deleted)
	}

	p.untilPromised()
	err = s.exclusively(func() error {
		return s.change(func(m *merge) error {
			data := make([]byte, m.tx.Longest()-64<<10)
			_, err := m.tx.CreateDataset("/other", hdf5io.DatasetSpec{Type: hdf5io.Uint(1), Dims: []uint64{uint64(len(data))}, Data: data})
			return err
		})
	})
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "for what else is to be written") {
		t.Errorf("a commit of what is free, beside a promise: %v", err)
	}
	mustDo(t, p.surely())

	p.untilPromised()
	mustDo(t, s.exclusively(func() error { s.freeze(); return nil }))
	_, err = p.tryFull(ins(p.pair()))
	mustDo(t, err)
	if s.state.Load().frozen != nil {
		t.Error("an insert was admitted beside a checkpoint of promised operations")
	}
	mustDo(t, p.surely(), p.same())
	p.close()
}

// TestPromisesToManyWriters: writers, snapshots and the background on a full disk. All of them
// end, and what was acknowledged is there.
func TestPromisesToManyWriters(t *testing.T) {
	defer watchdog(t.Name(), hangLimit)()
	c := newScenario(t, crashSeed(t), func(o *Options) { mediumOptions(o); o.GCInterval = 0 })
	c.open()
	for i := range uint64(10) {
		var ops []wal.Op
		for k := range uint64(300) {
			ops = append(ops, ins(k%200, 300*i+k))
		}
		c.apply(ops...)
	}
	c.fs.SetCapacity(use(t, c.fs) + 64<<10)
	var group failures
	var mu sync.Mutex
	refused, written := 0, 0
	for w := range uint64(4) {
		group.Go(func() error {
			for i := range uint64(150) {
				var ops []wal.Op
				for j := range 10 + 40*(i%3) {
					ops = append(ops, ins(1000*(w+1)+(i*j)%(70*w+1), 1000*i+j))
				}
				if i%4 == 3 {
					ops = []wal.Op{del(1000*(w+1) + i%9), delv(1000*(w+1)+i%5, 1000*(i-1))}
				}
				err := c.store.Apply(&Batch{ops: ops})
				mu.Lock()
				if err == nil {
					written++
					c.model.apply(ops) // each writer has its own keys
				} else {
					refused++
				}
				mu.Unlock()
				if full(err) != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		for range 20 {
			v, err := c.store.Snapshot()
			if err != nil {
				return err
			}
			if err := errors.Join(full(c.store.Checkpoint(t.Context())), v.Close()); err != nil {
				return err
			}
		}
		return nil
	})
	mustDo(t, group.Wait(), c.same())
	t.Logf("%d batches written, %d refused", written, refused)
	if written == 0 || refused == 0 {
		t.Error("the disk was never full, or took nothing")
	}
	mustDo(t, full(c.store.Close()))
}

package cidstore

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/wal"
)

// TestDeletesGoOn runs random programs that fill a disk and then delete everything, by keys and
// by values, in batches of one to forty. Inserts, readers, reopenings and kills come between.
// Every delete is taken, unless a reader holds space, and after the reader has gone it is. At
// the end an insert is taken again. With seed 29 a collection has asked for large sets to be
// compacted, for which a slice has no room.
func TestDeletesGoOn(t *testing.T) {
	first, programs := crashSeed(t)+28, 2
	if invariants.Sparse > 1 {
		programs = 1
	}
	if text := os.Getenv("CIDSTORE_PROMISES"); text != "" {
		var err error
		programs, err = strconv.Atoi(text)
		mustDo(t, err)
	}
	refused, held := 0, 0
	for seed := first; seed < first+uint64(programs); seed++ {
		p := &promising{scenario: newScenario(t, seed, mediumOptions), kind: int(seed % 5)}
		p.open()
		if err := p.deletesGoOn(); err != nil {
			t.Errorf("seed %d, kind %d: %v; %d pending, %+v, step %+v", seed, p.kind, err,
				p.store.pendingOps(), p.store.file.Space(), p.store.step())
			p.store.kill()
			continue
		}
		mustDo(t, full(p.store.Close()))
		refused, held = refused+p.full, held+p.tight
	}
	t.Logf("%d programs: %d batches of inserts refused, %d of deletes while a reader held space", programs, refused, held)
}

// write writes a batch, and reports whether the disk had room for it.
func (p *promising) write(ops []wal.Op) (written bool, err error) {
	err = p.store.Apply(&Batch{ops: ops})
	if err == nil {
		p.model.apply(ops)
	}
	if failed := p.store.Failed(); failed != nil {
		return false, failed
	}
	return err == nil, full(err)
}

// deletesGoOn is one program. It counts in p.tight what was refused because of a reader.
func (p *promising) deletesGoOn() error {
	for room := p.random.IntN(60); p.full < 5; room-- {
		if room == 0 {
			p.fs.SetCapacity(use(p.t, p.fs) + p.random.Int64N(1<<20))
		}
		var ops []wal.Op
		for range 1 + p.random.IntN(120) {
			ops = append(ops, ins(p.pair()))
		}
		written, err := p.write(ops)
		if err != nil {
			return err
		}
		if !written {
			p.full++
		}
	}
	ops := p.everything()
	for size, all := 1+p.random.IntN(40), len(ops); len(ops) > 0; {
		n := min(1+p.random.IntN(size), len(ops))
		written, err := p.write(ops[:n])
		switch {
		case err == nil && written:
			ops = ops[n:]
			err = p.between()
		case err == nil && len(p.pins) == 0:
			err = errors.New("deletes are refused")
		case err == nil:
			p.tight++
			err = p.unpinned()
		}
		if err != nil {
			return fmt.Errorf("%d of %d deletes left, %d in a batch: %w", len(ops), all, n, err)
		}
	}
	if err := errors.Join(p.unpinned(), p.store.Checkpoint(p.t.Context()), p.same()); err != nil {
		return err
	}
	written, err := p.write([]wal.Op{ins(p.pair())})
	if err == nil && !written && use(p.t, p.fs) >= 1<<20 { // the gaps of less may be too short for the reserve
		err = errors.New("an insert after the deletes is refused")
	}
	return err
}

// everything is operations that delete all pairs, in order or at random.
func (p *promising) everything() (ops []wal.Op) {
	for _, k := range sorted(p.model) {
		if p.random.IntN(3) == 0 {
			ops = append(ops, wal.Op{Code: wal.Delete, Key: k})
			continue
		}
		for _, v := range sorted(p.model[k]) {
			ops = append(ops, wal.Op{Code: wal.DeleteValue, Key: k, Value: v})
		}
	}
	if p.random.IntN(2) == 0 {
		p.random.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
	}
	return ops
}

func sorted[V any](m map[E]V) []E { return slices.SortedFunc(maps.Keys(m), E.Compare) }

// unpinned closes the snapshots that there are.
func (p *promising) unpinned() error {
	for _, v := range p.pins {
		if err := v.Close(); err != nil {
			return err
		}
	}
	p.pins = nil
	return nil
}

// between does now and then what may come between deletes.
func (p *promising) between() error {
	switch n := p.random.IntN(400); {
	case n < 3:
		written, err := p.write([]wal.Op{ins(p.pair())})
		if !written {
			p.full++
		}
		return err
	case n < 5:
		return p.pinned()
	case n < 7:
		return full(p.store.Checkpoint(p.t.Context()))
	case n < 8:
		_, err := p.store.RunGCOnce(p.t.Context())
		return full(err)
	case n < 9:
		return full(p.store.Maintain(p.t.Context()))
	case n < 11:
		p.pins = nil
		p.kill()
		p.open()
	case n < 13:
		if err := errors.Join(p.unpinned(), full(p.store.Close())); err != nil {
			return err
		}
		p.open()
	}
	return p.store.Failed()
}
